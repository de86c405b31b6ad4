"""Gears: 10**12 ticks, a year of minutes, and through the daemon, beside a loop over ticks.

`python -m benchmarks.gears` prints CPU times and 1 as exit status if a bound is missed.
"""

from __future__ import annotations

import asyncio
import time

from benchmarks.harness import table
from dan9 import Daemon, System, on
from dan9.antikythera import Antikythera, Gear, Train

DAY = Gear("day", 24, Gear("hour", 60, Gear("minute", 1)))
YEAR_TICKS = 365 * 24 * 60


def calendar() -> Train:
    """Return a train with hourly, daily, weekly and yearly events."""
    train = Train()
    train.add(Gear("week", 7, DAY))
    train.add(Gear("year", 365, DAY))
    for gear in ("hour", "day", "week", "year"):
        train.on(gear, "e")
    return train


def sparse() -> Train:
    """Return a train with some 1,350 firings in 10**12 ticks."""
    train = Train()
    train.add(Gear("a", 1_000_000_007))
    train.add(Gear("b", "8571428571/3"))
    train.on("a", "e")
    train.on("b", "e")
    return train


def advance(train: Train, ticks: int) -> tuple[float, int]:
    """Return the milliseconds of an advance, and how many events fired."""
    begun = time.process_time()
    fired = train.advance(ticks)
    return (time.process_time() - begun) * 1000, fired


class Sink(Daemon):
    """Takes what it is told."""

    @on
    def take(self, tick: int) -> None:
        """Take it."""


async def through_the_daemon() -> tuple[float, int]:
    """Return the milliseconds of a year told to a daemon."""
    async with System("gears", daemons="none", socket=False) as system:
        gears = await system.spawn(Antikythera, "gears")
        sink = await system.spawn(Sink, "sink")
        await gears.register_gear(Gear("week", 7, DAY))
        await gears.register_gear(Gear("year", 365, DAY))
        for gear in ("hour", "day", "week", "year"):
            await gears.register_event(gear, "e", 1, str(sink), "take")
        begun = time.process_time()
        done = await gears.advance(YEAR_TICKS)
        await sink.ping()
        return (time.process_time() - begun) * 1000, done["fired"]


def main() -> int:
    """Measure; 1 if a bound is missed."""
    far = min(advance(sparse(), 10**12) for _ in range(5))
    year = min(advance(calendar(), YEAR_TICKS) for _ in range(5))
    told = asyncio.run(through_the_daemon())
    begun = time.process_time()
    for _ in range(1_000_000):
        pass
    loop_days = (time.process_time() - begun) * 1e6 / 86_400
    rows = [
        ("10**12 ticks", far[1], f"{far[0]:.1f}", "20"),
        ("a year of minutes", year[1], f"{year[0]:.1f}", "50"),
        ("the same, told to a daemon", told[1], f"{told[0]:.1f}", ""),
    ]
    print(table(("advance", "firings", "ms", "bound"), rows))
    print(f"an empty loop over 10**12 ticks would take {loop_days:.1f} days")
    return 0 if far[0] < 20 and year[0] < 50 else 1


if __name__ == "__main__":
    raise SystemExit(main())
