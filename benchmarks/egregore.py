"""A swarm of 100,000: to spawn, to tell and to stop.

`python -m benchmarks egregore`, or `python -m benchmarks.egregore [MEMBERS]`. A delivery is a
message told and handled; with the compiled kernel 300,000 a second are wanted. All by CPU time,
the broadcast the median of five.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time

from benchmarks.harness import table
from dan9 import Daemon, System, on
from dan9.egregore import Swarm

GOAL = 300_000
ROUNDS = 5


class Member(Daemon):
    """Counts what it hears."""

    heard: int = 0

    @on
    def hear(self, word: str) -> None:
        """Hear it."""
        self.heard += 1


async def measure(count: int) -> tuple[float, float, float]:
    """Return members spawned, deliveries, and members stopped, a second.

    Raises:
        AssertionError: A member has not handled every broadcast.
    """
    async with System("crowd", daemons="none", socket=False) as system:
        begun = time.process_time()
        swarm = await system.spawn(Swarm, "swarm", member=Member, count=count)
        spawned = count / (time.process_time() - begun)
        cells = list(system.registry.cells("d9://member/**"))
        rates = []
        for _ in range(ROUNDS):
            begun = time.process_time()
            told = await swarm.broadcast("hear", {"word": "hello"})
            while any(cell.head is not None for cell in cells[-1:]):  # noqa: ASYNC110
                await asyncio.sleep(0)
            rates.append(told / (time.process_time() - begun))
        handled = sum(cell.handled for cell in cells)
        assert handled == ROUNDS * count, (handled, count)
        begun = time.process_time()
        await system.ask("swarm", "stop", timeout_s=None)
        stopped = count / (time.process_time() - begun)
        assert system.addresses("d9://member/**") == []
        return spawned, statistics.median(rates), stopped


def main() -> int:
    """Measure and print; 1 if the goal is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    spawned, told, stopped = asyncio.run(measure(count))
    rows = [
        ("members spawned a second", f"{spawned:,.0f}", ""),
        ("deliveries a second", f"{told:,.0f}", f">= {GOAL:,}"),
        ("members stopped a second", f"{stopped:,.0f}", ""),
    ]
    print(table((f"a swarm of {count:,}", "measured", "wanted"), rows))
    return 0 if told >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
