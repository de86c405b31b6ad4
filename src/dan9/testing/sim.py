"""A user's own system, rehearsed: a month in virtual time, under a seed and faults.

What stands between the system and the machine is replaced by twins in memory: the
filesystem, the network and processes. Everything else is real: the user's daemons, the
kernel, supervisors, the timer, logging and monitoring. The same file, seed and faults
give the same report.
"""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from dan9.base.errors import BadConfig, Dan9Error, NotFound
from dan9.base.events import (
    DaemonCrashed,
    DaemonFailed,
    DaemonRestarted,
    Event,
    LogEntry,
    RestartIntensityReached,
)
from dan9.boot.assembly import start_declared
from dan9.boot.catalogue import SYSTEM
from dan9.boot.host import NodeHost
from dan9.boot.importing import load_class
from dan9.boot.loading import load_manifest
from dan9.kernel.clock import VirtualClock
from dan9.kernel.kernel import System
from dan9.kernel.supervisor import Supervisor
from dan9.testing.faults import Fault
from dan9.testing.memory_filesystem import MemoryFilesystem
from dan9.testing.memory_network import MemoryNetwork
from dan9.testing.memory_process import MemoryProcess
from dan9.testing.world import World, world

__all__ = ["simulate"]

TWINS: dict[str, Any] = {
    "filesystem": MemoryFilesystem,
    "network": MemoryNetwork,
    "process": MemoryProcess,
}
LEFT_OUT = {"persistence"}  # state lives in memory; a rehearsal leaves nothing behind
SUPERVISOR = "d9://supervisor/system/system"


class _Tally:
    """What happened, counted."""

    def __init__(self) -> None:
        self.restarts: Counter[str] = Counter()
        self.crashes: Counter[str] = Counter()
        self.last_error: dict[str, str] = {}
        self.given_up: list[str] = []
        self.levels: Counter[str] = Counter()

    def event(self, event: Event) -> None:
        if isinstance(event, DaemonRestarted):
            self.restarts[event.address] += 1
        elif isinstance(event, DaemonCrashed):
            self.crashes[event.address] += 1
            self.last_error[event.address] = event.reason
        elif isinstance(event, (DaemonFailed, RestartIntensityReached)):
            self.given_up.append(event.address)

    def entry(self, entry: LogEntry) -> None:
        self.levels[entry.level] += 1


def simulate(
    path: Path, *, for_s: float, seed: int = 0, faults: Iterable[Fault] = ()
) -> dict[str, Any]:
    """Run a system for `for_s` virtual seconds; return what happened.

    Args:
        path: A dan9.toml, or a Python file with `async def main(system)`, which may
            return (its daemons live on) or run for ever.
        for_s: How long, in virtual seconds.
        seed: Decides whatever is left to chance.
        faults: What goes wrong; they strike every daemon but the system's own.

    Raises:
        NotFound: There is no such file.
        BadConfig: It is neither, or its configuration is wrong.
        Dan9Error: The system did not start, or `main` was refused something.
    """
    if not path.is_file():
        raise NotFound(f"there is no file {path}", hint="name a dan9.toml or a Python file")
    if path.suffix == ".toml":
        begin = _declared(path)
    elif path.suffix == ".py":
        begin = _programmed(path)
    else:
        raise BadConfig(f"{path} is no .toml and no .py", hint="name a dan9.toml or a Python file")
    clock = VirtualClock()
    tally = _Tally()
    report: dict[str, Any] = {}

    async def main() -> None:
        async with world(seed, clock=clock, faults=list(faults), record=False, check=False) as made:
            system = made.system
            system.subscribe_events(tally.event)
            await _start_daemons(system)
            task = await begin(system)
            left = asyncio.create_task(asyncio.sleep(for_s))
            await asyncio.wait({left, *task}, return_when=asyncio.FIRST_EXCEPTION)
            for one in task:
                if one.done() and one.exception() is not None:
                    raise one.exception()  # type: ignore[misc]
            await left
            made.check()
            report.update(_report(made, tally, for_s))
            for one in task:
                one.cancel()
                await asyncio.gather(one, return_exceptions=True)

    clock.run(main())
    return report


async def _start_daemons(system: System) -> None:
    """Start the system daemons, with twins for what touches the machine."""
    await system.spawn(Supervisor, "system", group="system", supervisor=False)
    for name, target in SYSTEM.items():
        if name not in LEFT_OUT:
            cls = TWINS.get(name) or load_class(target)
            await system.spawn(cls, name, group="system", supervisor=SUPERVISOR)


Begin = Callable[[System], Coroutine[Any, Any, set["asyncio.Task[Any]"]]]


def _declared(path: Path) -> Begin:
    manifest = load_manifest(path)

    async def begin(system: System) -> set[asyncio.Task[Any]]:
        host = NodeHost(system, manifest)
        system.host = host
        await start_declared(host, manifest)
        return set()

    return begin


def _programmed(path: Path) -> Begin:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise BadConfig(f"{path} cannot be imported", hint="name a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        if isinstance(error, Dan9Error):
            raise
        raise BadConfig(
            f"{path} does not import: {type(error).__name__}: {error}", hint="run it with python"
        ) from error
    function = getattr(module, "main", None)
    if not asyncio.iscoroutinefunction(function):
        raise BadConfig(f"{path} has no `async def main(system)`", hint="write one that spawns")

    async def begin(system: System) -> set[asyncio.Task[Any]]:
        return {asyncio.create_task(function(system))}

    return begin


def _report(made: World, tally: _Tally, for_s: float) -> dict[str, Any]:
    """Return what happened, as plain data."""
    system = made.system
    counts = system.conservation()
    daemons = []
    for address in system.addresses():
        if address.startswith("d9://system/"):
            continue
        status = system.status_of(address)
        metrics = system.metrics_of(address)
        daemons.append(
            {
                "address": address,
                "state": status["state"],
                "handled": status["handled"],
                "restarts": tally.restarts[address],
                "crashes": tally.crashes[address],
                "mailbox-high": int(metrics.get("mailbox-high", 0)),
                "last-error": tally.last_error.get(address, ""),
            }
        )
    return {
        "simulated-s": for_s,
        "seed": made.seed,
        "steps": made.steps,
        "messages": counts["sent"],
        "handled": counts["handled"],
        "dead-letters": dict(sorted(system.dead_letters.by_reason.items())),
        "faults": dict(sorted(made.struck.items())),
        "restarts": tally.restarts.total(),
        "given-up": tally.given_up,
        "in-hand": [wait["address"] for wait in system.waits()],
        "daemons": daemons,
    }
