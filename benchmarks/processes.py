"""How long it takes to list 500 processes, beside psutil, and to run a command.

python -m benchmarks processes
"""

import asyncio
import statistics
import subprocess
import time
from collections.abc import Awaitable, Callable

import psutil

from dan9.daemons.process import Process
from dan9.testing import run, system

GOAL_MS = 50.0
FIELDS = ["pid", "name", "status", "ppid"]


async def measure() -> float:
    """Print the table; return the milliseconds of a list of 500."""
    async with system(copy=False) as world:
        process = await world.spawn(Process, "process", max_processes=1000)
        await asyncio.gather(*(process.spawn_("sleep 1000", stdin="") for _ in range(450)))
        there = len(await process.list_(all_=True))
        ours = await best(lambda: process.list_(all_=True))
        start = time.perf_counter()
        list(psutil.process_iter(FIELDS))
        theirs = time.perf_counter() - start
        print(f"list of {there} processes: {ours * 1e3:.1f} ms (psutil {theirs * 1e3:.0f} ms)")
        ran = await best(lambda: process.run("true"))
        theirs = await asyncio.to_thread(plainly)
        print(f"run true: {ran * 1e3:.1f} ms (subprocess.run {theirs * 1e3:.1f} ms)")
        return ours * 1e3


def plainly() -> float:
    """Return the seconds that the standard library takes for the same."""
    start = time.perf_counter()
    subprocess.run(["true"], check=True)
    return time.perf_counter() - start


async def best(call: Callable[[], Awaitable[object]]) -> float:
    """Return the median of nine calls."""
    times = []
    for _ in range(9):
        start = time.perf_counter()
        await call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> int:
    """Run it; 1 if the goal was missed."""
    found = run(measure, real=True)
    print(
        f"goal: a list of 500 within {GOAL_MS:.0f} ms: {'reached' if found < GOAL_MS else 'MISSED'}"
    )
    return 0 if found < GOAL_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
