"""Thirty days of a hundred daemons with one-minute timers, in virtual time.

4.3 million firings, the event log off, one counted handler call each.
`python -m benchmarks.simulated_month [DAYS]`
"""

from __future__ import annotations

import sys
import time

from dan9 import Daemon, every
from dan9.kernel.clock import VirtualClock
from dan9.testing import system

__all__ = ["simulate"]

DAEMONS = 100


class Minute(Daemon):
    """Counts the minutes."""

    fired: int = 0

    @every("1m")
    def tick(self) -> None:
        """Count one."""
        self.fired += 1


def simulate(days: float = 30.0, daemons: int = DAEMONS) -> tuple[int, float]:
    """Return how often the timers fired, and the seconds it took."""

    async def main() -> int:
        async with system(copy=False) as made:
            refs = [await made.spawn(Minute, f"m{number}") for number in range(daemons)]
            await made.sleep(days * 86_400 + 1)
            return sum(made.cell_of(ref).instance.fired for ref in refs)

    began = time.perf_counter()
    fired = VirtualClock().run(main())
    return fired, time.perf_counter() - began


if __name__ == "__main__":
    days = float(sys.argv[1]) if len(sys.argv) > 1 else 30.0
    fired, took = simulate(days)
    print(
        f"{days:g} days, {DAEMONS} daemons: {fired} firings in {took:.1f} s, {fired / took:.0f}/s"
    )
