"""Gears: 10**12 ticks, a year of minutes, and through the daemon, beside a loop over ticks.

    python -m benchmarks gears

CPU milliseconds, the least of nine runs; ours compiled and uncompiled. The numbers of firings
are checked against their closed forms. Ends with 1 if a bound is missed or a number is wrong.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

from benchmarks.built import in_both
from benchmarks.harness import table
from dan9 import Daemon, System, every, on
from dan9.antikythera import Antikythera, Gear, GearClock, Train

DAY = Gear("day", 24, Gear("hour", 60, Gear("minute", 1)))
FAR, YEAR = 10**12, 365 * 24 * 60
CALENDAR = ("hour", "day", "week", "year")
A, B = 1_000_000_007, 8_571_428_571
ROUNDS = 9

ROWS = {
    "far": ("10**12 ticks", FAR // A + FAR * 3 // B, 20.0),
    "year": ("a year of minutes", 8760 + 365 + 52 + 1, 50.0),
    "told": ("the same, told to a daemon", 8760 + 365 + 52 + 1, 50.0),
    "driven": ("a year for a daemon with @every 1h", 8760, None),
}
"""What is measured, how many firings it has, and its bound in milliseconds."""


def calendar() -> Train:
    """Return a train with hourly, daily, weekly and yearly events."""
    train = Train()
    train.add(Gear("week", 7, DAY))
    train.add(Gear("year", 365, DAY))
    for gear in CALENDAR:
        train.on(gear, "e")
    return train


def sparse() -> Train:
    """Return a train with some 1,350 firings in 10**12 ticks."""
    train = Train()
    train.add(Gear("a", A))
    train.add(Gear("b", f"{B}/3"))
    train.on("a", "e")
    train.on("b", "e")
    return train


def advance(train: Train, ticks: int) -> tuple[float, int]:
    """Return the milliseconds of an advance, and how many events fired."""
    begun = time.process_time()
    fired = train.advance(ticks)
    return (time.process_time() - begun) * 1000, fired


class Sink(Daemon):
    """Counts what it is told."""

    count: int = 0

    @on
    def take(self, tick: int) -> None:
        """Take it."""
        self.count += 1

    @on
    def taken(self) -> int:
        """Return how many, and begin anew."""
        count, self.count = self.count, 0
        return count


class Hourly(Sink):
    """Counts its own hours."""

    @every("1h")
    def strike(self) -> None:
        """Count."""
        self.count += 1


async def through_the_daemon() -> tuple[float, int]:
    """Return the milliseconds of a year told to a daemon, and how much that heard."""
    async with System("gears", daemons="none", socket=False) as system:
        gears = await system.spawn(Antikythera, "gears")
        sink = await system.spawn(Sink, "sink")
        await gears.register_gear(Gear("week", 7, DAY))
        await gears.register_gear(Gear("year", 365, DAY))
        for gear in CALENDAR:
            await gears.register_event(gear, "e", 1, str(sink), "take")
        return await _year(gears, sink)


async def for_a_subtree() -> tuple[float, int]:
    """Return the milliseconds of a year for a daemon whose time a gear tells."""
    async with System("gears", daemons="none", socket=False) as system:
        gears = await system.spawn(Antikythera, "gears")
        await gears.register_gear(DAY)
        hourly = await system.spawn(Hourly, "hourly", clock=GearClock(gears, "day"))
        return await _year(gears, hourly)


async def _year(gears: Antikythera, sink: Sink) -> tuple[float, int]:
    begun = time.process_time()
    await gears.advance(YEAR)
    heard = await sink.taken()
    return (time.process_time() - begun) * 1000, heard


def figures() -> dict[str, tuple[float, int]]:
    """Measure; the least time of each, and its firings."""
    return {
        "far": min(advance(sparse(), FAR) for _ in range(ROUNDS)),
        "year": min(advance(calendar(), YEAR) for _ in range(ROUNDS)),
        "told": min(asyncio.run(through_the_daemon()) for _ in range(ROUNDS)),
        "driven": min(asyncio.run(for_a_subtree()) for _ in range(2)),
    }


def main() -> int:
    """Measure compiled and uncompiled; 1 if a bound is missed."""
    if sys.argv[1:] == ["figures"]:
        print(json.dumps(figures()))
        return 0
    found = in_both("benchmarks.gears", "figures")
    begun = time.process_time()
    for _ in range(1_000_000):
        pass
    loop_h = (time.process_time() - begun) * 1e6 / 3600
    rows, missed = [], []
    for key, (name, firings, bound) in ROWS.items():
        taken = {kind: by[key][0] for kind, by in found.items()}
        right = all(by[key][1] == firings for by in found.values())
        if not right or (bound is not None and next(iter(taken.values())) >= bound):
            missed.append(name)
        cells = [f"{taken[kind]:.1f}" if kind in taken else "-" for kind in KINDS]
        rows.append([name, firings if right else "WRONG", *cells, "" if bound is None else bound])
    print(table(["advance", "firings", *(f"ms {kind}" for kind in KINDS), "goal, ms"], rows))
    print(f"an empty loop over 10**12 ticks would take {loop_h:.0f} hours")
    print(f"goals: {'missed by ' + ', '.join(missed) if missed else 'met'}")
    return 1 if missed else 0


KINDS = ("compiled", "uncompiled")


if __name__ == "__main__":
    raise SystemExit(main())
