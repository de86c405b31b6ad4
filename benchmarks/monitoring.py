"""Monitoring: 10,000 daemons, 5 % of them changing, sampled each second.

`python -m benchmarks monitoring`. Two minutes pass in virtual time, so that the CPU seconds
are those of the samples and nothing else; asking every daemon instead stands beside them.
Each daemon has fifteen busy seconds, then another one has. Goal: under 3 % of a core. What
figures and history take in memory after five minutes is measured as the process sees it, of
values that hardly pack; goal: 16 MB.
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
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System

DAEMONS = 10_000
CHANGING = 500
SECONDS = 120
BUSY_S = 15


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


async def sampling(clock: VirtualClock) -> tuple[float, float]:
    """Return CPU seconds a second of sampling, and of asking every daemon."""
    async with System("bench", daemons="none", socket=False, clock=clock, seed=0) as system:
        await system.spawn(Monitoring, "monitoring", group="system")
        workers = [await system.spawn(Worker, f"w{n}", group=f"g{n % 20}") for n in range(DAEMONS)]
        await asyncio.sleep(15)  # the first figures of all come a thousand at a time
        instance = system.cell_of("monitoring").instance
        sample, spent = instance._sample, []

        def timed() -> bool:
            begun = time.process_time()
            changed = bool(sample())
            spent.append(time.process_time() - begun)
            return changed

        instance._sample = timed
        for second in range(SECONDS):
            shift = second // BUSY_S * CHANGING
            for number in range(shift, shift + CHANGING):
                workers[number].work.tell()
            await asyncio.sleep(1)
        samples = len(
            (await system.ask("monitoring", "history", daemon_name=f"w{CHANGING}"))["work-count"]
        )
        assert samples == BUSY_S + 1, samples
        asked = [
            cpu(lambda: [system.metrics_of(address) for address in system.addresses("**")])
            for _ in range(5)
        ]
        return sum(spent) / SECONDS, statistics.median(asked)


def memory() -> float:
    """Return the megabytes of a book after five and a half minutes of 500 changes a second."""
    gc.collect()
    process = psutil.Process()
    before = process.memory_info().rss
    book = Book(300.0, 2000)
    for second in range(330):
        shift = second // BUSY_S * CHANGING
        for number in range(shift, shift + CHANGING):
            which = number % DAEMONS
            noise = (second * 7919 + which * 104_729) % 9973 / 9973
            book.add(
                f"d9://worker/g{which % 20}/w{which}",
                {
                    "work-count": float(second * which),
                    "handled": float(second * which),
                    "refused": 0.0,
                    "failed": 0.0,
                    "mailbox-depth": float(int(noise * 10)),
                    "mailbox-high": 30.0,
                    "restarts": 0.0,
                    "uptime": float(second),
                    "busy": noise / 10,
                    "handler-p50": 1e-5 * int(noise * 3),
                    "handler-p99": 1e-4 * int(noise * 5),
                },
                1e9 + second + noise / 100,
            )
        book.store(1e9 + second)
        book.take_chunks()
    gc.collect()
    taken = float(process.memory_info().rss - before) / 1e6
    oldest = next(iter(book.recent.rows(f"d9://worker/g1/w{CHANGING * 2 + 1}")))[0]
    assert oldest <= 1e9 + 31, "five minutes back"
    return taken


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    megabytes = memory()
    clock = VirtualClock()
    sample, everything = clock.run(sampling(clock))
    rows = [
        ("a sample each second, CPU s a second", f"{sample:.4f}", "0.03"),
        ("asking every daemon instead", f"{everything:.4f}", ""),
        ("history in memory, 10,000 daemons", f"{megabytes:.1f} MB", "16 MB"),
    ]
    print(table(("monitoring", "measured", "goal"), rows))
    return 0 if sample < 0.03 and megabytes <= 16 else 1


if __name__ == "__main__":
    raise SystemExit(main())
