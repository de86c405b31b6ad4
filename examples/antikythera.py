"""Years in seconds: gears for minute, hour, day, week and year, and what falls on their turns.

A base tick is a minute of the model. The year first passes at once, then live: an hour of the
model in a tenth of a second, a day as fast as it goes; last, daemons live on a gear's time, and
on a time scale.
"""

from __future__ import annotations

import asyncio

from dan9 import Daemon, System, every, on
from dan9.antikythera import Antikythera, Gear, GearClock, TimeScale, convert

minute = Gear("minute", 1)
hour = Gear("hour", 60, parent=minute)
day = Gear("day", 24, parent=hour)
week = Gear("week", 7, parent=day)
year = Gear("year", 365, parent=day)
great_year = Gear("great-year", 26_000, parent=year)


class Almanac(Daemon):
    """Writes down what the gears bring."""

    counts: dict[str, int] = {}
    last: dict[str, int] = {}

    async def on_start(self) -> None:
        """Have a bell for whoever waits."""
        self._wanted: dict[tuple[str, int], asyncio.Event] = {}

    @on
    def note(self, event: str, tick: int) -> None:
        """Note an event and its tick."""
        self.counts[event] = self.counts.get(event, 0) + 1
        self.last[event] = tick
        bell = self._wanted.get((event, self.counts[event]))
        if bell is not None:
            bell.set()

    @on
    def read(self) -> dict[str, int]:
        """Return how often each event came."""
        return self.counts

    @on
    def latest(self) -> dict[str, int]:
        """Return the tick at which each event came last."""
        return self.last

    @on(concurrent=True, timeout_s=30.0)
    async def wait_for(self, event: str, count: int) -> int:
        """Answer when an event has come so often."""
        if self.counts.get(event, 0) < count:
            await self._wanted.setdefault((event, count), asyncio.Event()).wait()
        return self.last[event]


class Lighthouse(Daemon):
    """Flashes every six hours of its own time."""

    async def on_start(self) -> None:
        """Not yet flashed."""
        self._flashes = 0
        self._enough = asyncio.Event()

    @every("6h")
    def flash(self) -> None:
        """Flash."""
        self._flashes += 1
        if self._flashes == 4:
            self._enough.set()

    @on
    def flashes(self) -> int:
        """Return how often it flashed."""
        return self._flashes

    @on(concurrent=True)
    async def a_day(self) -> int:
        """Answer after four flashes."""
        await self._enough.wait()
        return self._flashes


async def main() -> None:
    """Register gears and events, and turn."""
    async with System("gears", daemons="none", socket=False) as system:
        gears = await system.spawn(Antikythera, "gears", base_tick_ms=100)
        almanac = await system.spawn(Almanac, "almanac")
        for gear in (week, year):
            await gears.register_gear(gear)
        print("gears:", ", ".join(g["name"] for g in (await gears.status())["gears"]))
        for gear, event in (("hour", "hourly"), ("day", "daily"), ("week", "weekly")):
            await gears.register_event(gear, event, 1, "almanac", "note")
        await gears.register_event("year", "annual", 1, "almanac", "note")

        done = await gears.advance(365 * 24 * 60)
        print(f"a year of minutes: {done['fired']} events at {done['total_ticks']} ticks")
        print("  ", await almanac.read())

        for gear, event in (("hour", "hourly"), ("day", "daily"), ("week", "weekly")):
            await gears.cancel_event(gear, event)
        await gears.cancel_event("year", "annual")
        await gears.register_gear(great_year)
        await gears.register_event("great-year", "great", 1, "almanac", "note")
        done = await gears.advance(10**12 - done["total_ticks"])
        print(
            f"to tick {done['total_ticks']}: {done['fired']} great years, the last at tick",
            (await almanac.latest())["great"],
        )

        await gears.register_event("hour", "chime", 1, "almanac", "note")
        await gears.run(600)  # ten minutes of the model in 1/6 s
        tick = await almanac.wait_for("chime", 2)
        await gears.pause()
        print("live, 600 times as fast, it chimed twice, at whole hours:", tick % 60 == 0)
        await gears.run("max", 24 * 60)
        await almanac.wait_for("chime", 25)
        print("as fast as it goes: a day, 24 chimes more")

        clock = GearClock(gears, "day")  # the gears stand: so does the time of who lives on them
        tower = await system.spawn(Lighthouse, "tower", clock=clock)
        await gears.advance(7 * 24 * 60)
        print(f"a week at once, for a tower on the gear of days: {await tower.flashes()} flashes,")
        print(f"   and its clock shows {clock.monotonic() / 86_400:g} days")

        scale = TimeScale("day", "second", 2)
        lighthouse = await system.spawn(Lighthouse, "light", clock=scale.clock(system.clock))
        print(f"two days a second: an hour of the model takes {scale.to_real(3600)} s;")
        print(f"   the lighthouse flashed {await lighthouse.a_day()} times in its day")
        print(f"   a year is {convert(1, 'year', 'hours')} hours")


if __name__ == "__main__":
    asyncio.run(main())
