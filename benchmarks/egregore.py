"""Broadcast to 100,000 members: deliveries a second, told and handled.

`python -m benchmarks.egregore [MEMBERS]`; with the compiled kernel 300,000 a second are wanted.
"""

from __future__ import annotations

import asyncio
import sys
import time

from dan9 import Daemon, System, on
from dan9.egregore import Swarm


class Member(Daemon):
    """Counts what it hears."""

    heard: int = 0

    @on
    def hear(self, word: str) -> None:
        """Hear it."""
        self.heard += 1


async def measure(count: int) -> tuple[float, int]:
    """Return deliveries a second (CPU time), and how many were handled."""
    async with System("crowd", daemons="none", socket=False) as system:
        swarm = await system.spawn(Swarm, "swarm", member=Member, count=count)
        cells = list(system.registry.cells("d9://member/**"))
        best = 0.0
        for _ in range(3):
            begun = time.process_time()
            told = await swarm.broadcast("hear", {"word": "hello"})
            await asyncio.sleep(0)
            while any(cell.head is not None for cell in cells[-1:]):  # noqa: ASYNC110
                await asyncio.sleep(0)
            best = max(best, told / (time.process_time() - begun))
        return best, sum(cell.handled for cell in cells)


def main() -> int:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rate, handled = asyncio.run(measure(count))
    assert handled == 3 * count, (handled, count)
    print(f"{count} members: {rate:,.0f} deliveries/s")
    return 0 if rate >= 300_000 else 1


if __name__ == "__main__":
    raise SystemExit(main())
