"""A node's process from its first line to its last: configuration, event loop, signals, end.

SIGTERM and the first SIGINT end the node in good order; a second SIGINT ends the process
where it stands, which is safe because nothing was acknowledged that is not on disk.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dan9.boot.host import NodeHost
from dan9.boot.loading import load_manifest
from dan9.boot.lock import ELSEWHERE, open_own
from dan9.edge.discovery import private_directory, state_dir
from dan9.kernel.kernel import System

__all__ = ["run_node"]

_INTERRUPTED = 130


def run_node(
    *,
    name: str | None,
    config: Path | None,
    on_ready: Callable[[dict[str, Any]], None],
    log_output: bool = False,
) -> int:
    """Run a node until it is told to end; return the process's exit status.

    Args:
        name: Its name, over the configuration's.
        config: The configuration, if there is one.
        on_ready: Called once with the node's facts when every daemon is ready.
        log_output: Send what the process prints to `node.log` in the state folder.

    Raises:
        Dan9Error: It could not start; nothing of it is left running.
    """
    manifest = load_manifest(config)
    chosen = name or manifest.name or "default"
    if log_output:
        _print_to(Path(manifest.state_dir or state_dir(chosen)) / "node.log")
    system = System(chosen, daemons="all", config=manifest, socket=True, seed=manifest.seed)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_serve(system, on_ready))


async def _serve(system: System, on_ready: Callable[[dict[str, Any]], None]) -> int:
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if ending.is_set():
            os._exit(_INTERRUPTED)
        ending.set()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    async with system:
        host = system.host
        assert isinstance(host, NodeHost)
        host.ending = ending
        on_ready({**host.facts(), "daemons": len(system.addresses())})
        _calm_collector()
        await ending.wait()
        await host.close_socket()
        if not host.drains:
            await host.stop_all()
    return 0


def _calm_collector() -> None:
    """Let the garbage collector look at what comes and goes, not at what stays.

    A node's daemons are long-lived: with a million of them one full collection takes 216 ms
    and finds nothing. What boot made is frozen. The two young generations fit into the cache,
    where looking at an object costs a third of what it costs in memory, and a pause is 5 ms at
    most; all is looked at every fifty million objects (decision 12).
    This is for a node's own process; a system inside another program leaves it alone.
    """
    gc.freeze()
    gc.set_threshold(5_000, 4, 2_500)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return uvloop's maker of loops where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _print_to(path: Path) -> None:
    """Append to a file whatever the process prints from here on."""
    private_directory(str(path.parent), hint=ELSEWHERE)
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = open_own(path, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
