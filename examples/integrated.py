"""An egregore on gears: a farm whose year passes at once, hour by hour.

`python examples/integrated.py`. The mechanism's gears tell the farm, a swarm of fields, what falls
on their turns; the fields live on the gear of days, so that their own timers keep pace. One of
them falls in summer and is healed; in autumn a hierarchy shares the harvest out.
"""

from __future__ import annotations

import asyncio

from dan9 import Daemon, DaemonFailed, System, every, on
from dan9.antikythera import Antikythera, Gear, GearClock
from dan9.egregore import Hierarchy, Swarm

day = Gear("day", 24, parent=Gear("hour", 60, parent=Gear("minute", 1)))
year = Gear("year", 365, parent=day)
SEASONS = ["summer", "autumn", "winter", "spring"]


class Field(Daemon, checkpoint="none"):
    """Is watered every six hours, and hears of the seasons."""

    watered: int = 0
    seasons: list[str] = []

    @every("6h")
    def water(self) -> None:
        """Water it."""
        self.watered += 1

    @on
    def season(self) -> str:
        """Hear that the next season has begun."""
        days = self.clock.monotonic() / 86_400
        self.seasons.append(SEASONS[round(days / 91) - 1])
        return self.seasons[-1]

    @on
    def seen(self) -> tuple[int, list[str], float]:
        """Return how often it was watered, its seasons, and its time in days."""
        return self.watered, self.seasons, round(self.clock.monotonic() / 86_400, 3)

    @on
    def hail(self) -> None:
        """Be destroyed."""
        raise RuntimeError("hail")


class Barn(Daemon):
    """Counts sheaves."""

    @on
    def bring_in(self, item: int) -> int:
        """Return the sheaves of one acre."""
        return 100 + item


async def main() -> None:
    """Let a year pass in two halves."""
    async with System("farm", daemons="none", socket=False) as system:
        gears = await system.spawn(Antikythera, "gears")
        await gears.register_gear(year)
        farm = await system.spawn(
            Swarm, "farm", member=Field, count=3, clock=GearClock(gears, "day")
        )
        await gears.register_event(
            "day", "season", 91, "farm", "broadcast", {"type": "season", "payload": {}}
        )

        async def report(when: str) -> None:
            replies = (await farm.broadcast("seen", gather=True))["replies"]
            print(f"{when}:")
            for number, (watered, seasons, days) in enumerate(replies.values(), 1):
                heard = ", ".join(seasons) or "none"
                print(f"   field {number}: day {days:g}, watered {watered} times, heard: {heard}")

        done = await gears.advance(182 * 24 * 60)
        print(f"half a year, {done['total_ticks']} minutes, {done['fired']} seasons")
        await report("midsummer")
        first = next(iter((await system.ask("farm", "status"))["members"]))
        try:
            await system.ask(first, "hail")
        except DaemonFailed:
            print("hail has destroyed a field; the farm heals it")
        while (await system.ask(first, "status"))["state"] != "running":
            await system.sleep(0.05)
        done = await gears.advance(183 * 24 * 60)
        print(f"the year is over at minute {done['total_ticks']}")
        await report("year's end")

        harvest = await system.spawn(Hierarchy, "harvest", member=Barn, count=4)
        sheaves = await harvest.broadcast(
            "bring-in", {"items": list(range(50))}, reduce="sum", gather=True
        )
        print("the harvest of 50 acres, each brought in once:", sheaves)


if __name__ == "__main__":
    asyncio.run(main())
