"""What timer, logging and monitoring reply is described, key by key, as a wire has it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dan9.daemons.logging import Logging
from dan9.daemons.monitoring import Monitoring
from dan9.daemons.timer import Timer
from dan9.kernel.daemon import Daemon
from dan9.testing import run, system


def keys_of(schema: Any) -> Iterator[str]:
    """Yield the keys of every record in a JSON Schema."""
    if isinstance(schema, dict):
        yield from schema.get("properties", {})
        for inner in schema.values():
            yield from keys_of(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from keys_of(inner)


@pytest.mark.parametrize(
    ("kind", "message", "keys"),
    [
        (Timer, "list", {"task-id", "next", "interval", "expression"}),
        (Timer, "stats", {"active", "scheduled", "fired", "cancelled", "missed", "late-p99"}),
        (Logging, "display", {"time", "level", "source", "text", "fields", "trace"}),
        (Logging, "set-level", {"min-level", "levels"}),
        (Logging, "stats", {"by-level", "dropped", "file", "unwritten"}),
        (Logging, "write-file", {"path", "entries", "bytes"}),
        (Monitoring, "snapshot", {"time", "node", "dead-letters", "daemons", "omitted"}),
        (Monitoring, "aggregate", {"count", "sum", "average", "min", "max", "p50", "p95", "p99"}),
        (Monitoring, "alerts", {"alert-id", "above", "below", "for", "states"}),
        (Monitoring, "serve", {"host", "port", "url"}),
    ],
)
def test_replies_are_described_in_kebab_case(
    kind: type[Daemon], message: str, keys: set[str]
) -> None:
    """No key has an underscore, and those of the catalogue are there."""

    async def main() -> None:
        async with system() as sim:
            await sim.spawn(kind, "d")
            described = await sim.ask("d", "describe")
            [found] = [each for each in described["messages"] if each["type"] == message]
            shown = set(keys_of(found["reply"]))
            assert keys <= shown
            assert not [key for key in shown if "_" in key]

    run(main)
