"""What every Python contender shares: it waits for orders, runs a workload, says what it took.

A contender is a process of its own that stays alive between rounds, so that its start is not
measured and it has warmed up. On standard input come lines of a workload's name and a count;
on standard output goes one line of JSON for each. `contender.erl` does the same for Erlang.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["Stopwatch", "expect", "on_uvloop", "resident_bytes", "serve"]

Result = dict[str, float]


class Stopwatch:
    """Wall and CPU seconds between entering and leaving; entered again, it adds up."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cpu_s += time.process_time() - self._cpu
        self.wall_s += time.perf_counter() - self._wall

    def result(self, operations: int, **more: float) -> Result:
        """Return what the harness is told."""
        return {"operations": operations, "wall_s": self.wall_s, "cpu_s": self.cpu_s, **more}


def expect(found: object, wanted: object) -> None:
    """Hold a workload to its own result: a benchmark that does not do the work is no benchmark."""
    if found != wanted:
        raise AssertionError(f"expected {wanted!r}, found {found!r}")


def resident_bytes() -> int:
    """Return how much memory this process holds, after a full collection."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def on_uvloop(
    workload: Callable[[int], Coroutine[Any, Any, Result]],
) -> Callable[[int], Result]:
    """Run an async workload on uvloop where it is installed, on asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop

    def run(count: int) -> Result:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(workload(count))

    return run


def serve(workloads: Mapping[str, Callable[[int], Result]]) -> None:
    """Obey until standard input ends.

    The garbage collector is set as a node sets it (boot/running.py), for every contender in
    Python alike.
    """
    gc.freeze()
    gc.set_threshold(5_000, 4, 2_500)
    print(json.dumps({"ready": sorted(workloads)}), flush=True)
    for line in sys.stdin:
        name, count = line.split()
        gc.collect()
        try:
            answer: Mapping[str, object] = workloads[name](int(count))
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), flush=True)
