"""A pool of 10**12 cycles of which 100,000 are active: to wake, to keep, to step, to sync.

`python -m benchmarks pool` prints each figure beside what is wanted of it (CPU time, the median
of five) and checks what the pool says it did. A wake is a message to the pool that gives a
cycle a state; the bytes are those of a cycle that has one field.
"""

from __future__ import annotations

import asyncio
import statistics
import time
import tracemalloc
from collections.abc import Awaitable, Callable

from benchmarks.harness import table
from dan9 import Daemon, System, gather, on
from dan9.daemons.pool import Pool

MOST = 10**12
ACTIVE = 100_000
PORTION = 5_000  # messages on their way at once: the mailbox holds ten thousand
ROUNDS = 5


class Meter(Daemon):
    """Counts down by one a step."""

    value: int = 0

    @on
    def add(self, by: int) -> None:
        """Add to it."""
        self.value += by

    def step(self, n: int) -> None:
        """Take any number of steps at once."""
        self.value = max(0, self.value - n)


async def cpu_s(work: Callable[[], Awaitable[object]]) -> float:
    """Return the CPU seconds that something takes."""
    begun = time.process_time()
    await work()
    return time.process_time() - begun


async def wake(pool: Pool, by: int) -> None:
    """Wake cycles all over the population, by message."""
    stride = MOST // ACTIVE
    payload = {"by": by}
    for first in range(0, ACTIVE, PORTION):
        for number in range(first, first + PORTION):
            pool.tell_cycle.tell(number * stride, "add", payload)
        await pool.step(0)  # answered when they are all handled


async def sync(pool: Pool) -> None:
    """Grow from ten to all, and back, a thousand times, so that the clock can see it."""
    replies = await gather(*(pool.sync_cycles(MOST if n % 2 else 10) for n in range(2_000)))
    assert replies[-1] == {"previous": 10, "now": MOST}


async def measure() -> dict[str, tuple[float, float]]:
    """Return figures and goals by name."""
    woken, stepped, synced = [], [], []
    async with System("pool", daemons="none", socket=False) as system:
        pool: Pool = await system.spawn(Pool, "meters", cycle=Meter)
        for _ in range(ROUNDS):
            synced.append(await cpu_s(lambda: sync(pool)) / 2_000)
            await pool.sync_cycles(MOST)
            woken.append(await cpu_s(lambda: wake(pool, 3)))
            assert await pool.total("value") == 3 * ACTIVE
            stepped.append(await cpu_s(lambda: pool.step(1)))
            assert await pool.total("value") == 2 * ACTIVE
            assert await pool.step(2) == {"active": 0, "woken": 0}
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        await wake(pool, 3)
        each = (tracemalloc.get_traced_memory()[0] - before) / ACTIVE
        tracemalloc.stop()
    return {
        "wakes a second": (ACTIVE / statistics.median(woken), 50_000),
        "bytes an active cycle": (each, 300),
        "step of 100,000 active, ms": (statistics.median(stepped) * 1e3, 100),
        "sync to 10**12, us": (statistics.median(synced) * 1e6, 50),
    }


def main() -> int:
    """Measure and print; 1 if a goal is missed."""
    figures = asyncio.run(measure())
    rows = []
    missed = 0
    for name, (value, goal) in figures.items():
        more = name.startswith("wakes")
        missed += value < goal if more else value > goal
        rows.append((name, f"{value:,.1f}", f"{'>=' if more else '<='} {goal:,}"))
    print(table(("a pool of 10**12 cycles", "measured", "wanted"), rows))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
