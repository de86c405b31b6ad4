"""`dan9 sim`: rehearse a system in virtual time. It needs no node."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dan9.cli.session import Session
    from dan9.cli.show import Page

__all__ = ["lines", "sim"]


def sim(_session: Session, args: argparse.Namespace) -> dict[str, Any]:
    """Run a user's system under a seed and faults; return what happened."""
    from dan9.base.duration import format_duration, parse_duration
    from dan9.testing.faults import parse_faults
    from dan9.testing.sim import simulate

    for_s = parse_duration(args.for_)
    report = simulate(
        Path(args.file), for_s=for_s, seed=args.seed, faults=parse_faults(args.faults)
    )
    return {"simulated": format_duration(for_s), **report}


def lines(_page: Page, value: object) -> Iterator[str]:
    """Print a report."""
    assert isinstance(value, dict)
    yield (
        f"{value['simulated']} under seed {value['seed']}: {value['messages']} messages, "
        f"{value['restarts']} restarts, {sum(value['dead-letters'].values())} dead letters"
    )
    for key in ("faults", "dead-letters"):
        if value[key]:
            yield f"{key}: " + ", ".join(f"{name} {count}" for name, count in value[key].items())
    if value["given-up"]:
        yield "given up: " + ", ".join(value["given-up"])
    yield ""
    width = max((len(row["address"]) for row in value["daemons"]), default=0)
    for row in value["daemons"]:
        text = f"{row['address'].ljust(width)}  {row['state']:9} {row['handled']:>9} handled"
        if row["restarts"]:
            text += f", {row['restarts']} restarts"
        if row["last-error"]:
            text += f", last: {row['last-error']}"
        yield text
