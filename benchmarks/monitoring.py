"""Monitoring: 10,000 daemons, 5 % of them changing, sampled each second.

`python -m benchmarks.monitoring`. A sample is timed in CPU seconds, its alternative (asking
every daemon for its metrics) beside it. Goal: under 3 % of a core. What the history takes
in memory after five minutes of samples is measured too; goal: 16 MB.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable

import psutil

from benchmarks.harness import table
from dan9.daemons.monitoring import Monitoring
from dan9.daemons.sampling import Book
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System

DAEMONS = 10_000
CHANGING = 500
ROUNDS = 5


class Worker(Daemon, type="worker"):
    """Does next to nothing."""

    @on
    def work(self) -> None:
        """Count as handled."""


def cpu(call: Callable[[], object]) -> float:
    """Return the CPU seconds that a call takes."""
    begun = time.process_time()
    call()
    return time.process_time() - begun


async def sampling() -> tuple[float, float]:
    """Return CPU seconds of one sample, and of asking every daemon."""
    async with System("bench", daemons="none", socket=False) as system:
        await system.spawn(Monitoring, "monitoring", group="system", collect_interval=3600.0)
        workers = [await system.spawn(Worker, f"w{n}", group=f"g{n % 20}") for n in range(DAEMONS)]
        instance = system.cell_of("monitoring").instance
        for _ in range(12):  # the first figures of all come a thousand at a time
            instance._sample()
        samples, alls = [], []
        for number in range(ROUNDS):
            for worker in workers[number * CHANGING : (number + 1) * CHANGING]:
                worker.work.tell()
            await asyncio.sleep(0.05)
            samples.append(cpu(instance._sample))
            alls.append(
                cpu(lambda: [system.metrics_of(address) for address in system.addresses("**")])
            )
        return statistics.median(samples), statistics.median(alls)


def memory() -> float:
    """Return the megabytes of a book after five minutes of 500 changes a second."""
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    book = Book(300.0, 2000)
    for second in range(330):
        for number in range(CHANGING):
            which = (second * CHANGING + number) % DAEMONS
            book.add(
                f"d9://worker/g{which % 20}/w{which}",
                {
                    "work-count": float(second),
                    "handled": float(second),
                    "refused": 0.0,
                    "failed": 0.0,
                    "mailbox-depth": 0.0,
                    "mailbox-high": 3.0,
                    "restarts": 0.0,
                    "uptime": float(second),
                    "busy": 0.01,
                },
                1e9 + second,
            )
        book.store(1e9 + second)
        book.take_chunks()
    gc.collect()
    return float(process.memory_info().rss - before) / 1e6


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    megabytes = memory()
    sample, everything = asyncio.run(sampling())
    rows = [
        ("one sample each second, share of a core", f"{sample:.2%}", "3 %"),
        ("asking every daemon instead", f"{everything:.2%}", ""),
        ("history in memory, 10,000 daemons", f"{megabytes:.1f} MB", "16 MB"),
    ]
    print(table(("monitoring", "measured", "goal"), rows))
    return 0 if sample < 0.03 and megabytes <= 16 else 1


if __name__ == "__main__":
    raise SystemExit(main())
