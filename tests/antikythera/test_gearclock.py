"""Subtrees whose time a mechanism tells, in virtual time, to the exact moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dan9.antikythera import Antikythera, Gear, GearClock
from dan9.base.errors import BadAddress, BadPayload, NotFound, NotRunning
from dan9.daemons.timer import Timer
from dan9.kernel.clock import ScaledClock
from dan9.kernel.daemon import Daemon, cron, every, on
from dan9.kernel.kernel import System
from dan9.testing import run, system

DAY = Gear("day", 24, Gear("hour", 60, Gear("minute", 1)))


class House(Daemon):
    """Lives on a clock: a loop that sleeps, hours, a crontab line; a child beside it."""

    async def on_start(self) -> None:
        self._at: list[tuple[str, float, float]] = []

    async def main(self) -> None:
        """Sleep forty minutes, again and again."""
        while True:
            await self.sleep("40m")
            self.note("woke")

    def note(self, what: str) -> None:
        """Note what happens: minutes here, seconds there."""
        here = round(self.clock.monotonic() / 60, 6)
        self._at.append((what, here, round(self.system.clock.monotonic(), 6)))


class Hourly(Daemon):
    """Counts its hours and midnights."""

    async def on_start(self) -> None:
        self._at: list[tuple[str, float, float]] = []

    def _note(self, what: str) -> None:
        here = round(self.clock.monotonic() / 60, 6)
        self._at.append((what, here, round(self.system.clock.monotonic(), 6)))

    @every("1h")
    def strike(self) -> None:
        self._note("hour")

    @cron("0 0 * * *")
    def midnight(self) -> None:
        self._note("midnight")

    @on
    def heard(self, tick: int) -> None:
        """Hear of a gear's event."""
        self._note(f"tick {tick}")

    @on
    def noted(self) -> list[tuple[str, float, float]]:
        """Return what was noted: what, minutes here, seconds on the system's clock."""
        return self._at


async def model(sim: System, **config: Any) -> tuple[Antikythera, GearClock, Hourly]:
    """Return a mechanism whose ticks are minutes, a clock on it, and a daemon on that."""
    gears = await sim.spawn(Antikythera, "gears", **config)
    await gears.register_gear(DAY)
    clock = GearClock(gears, "day")
    return gears, clock, await sim.spawn(Hourly, "h", clock=clock)


def test_advancing_fires_what_is_due() -> None:
    """Sleeps, hours and midnights of the days that pass at once, each at its own time."""

    async def main() -> None:
        async with system() as sim:
            gears, clock, hourly = await model(sim)
            house = await sim.spawn(House, "house", clock=clock)
            await sim.sleep(1000)
            assert await hourly.noted() == []
            await gears.advance(2 * 1440)
            heard = await hourly.noted()
            assert [at for what, at, _ in heard if what == "hour"] == [60 * n for n in range(1, 49)]
            assert [at for what, at, _ in heard if what == "midnight"] == [1440, 2880]
            assert {there for *_, there in heard} == {1000.0}
            woke = [at for _, at, _ in house._d9_cell.instance._at]
            assert woke == [40.0 * n for n in range(1, 73)]
            assert clock.monotonic() == 2 * 86_400
            assert clock.now() - sim.clock.now() == 2 * 86_400 - 1000
            await gears.advance(59)
            assert len(await hourly.noted()) == 50
            await gears.advance(1)
            assert len(await hourly.noted()) == 51

    run(main)


def test_it_runs_pauses_and_changes_speed_live() -> None:
    """What was set before follows: an hour takes 6 s, at 60 times the speed 0.1 s, paused none."""

    async def main() -> None:
        async with system() as sim:
            gears, _, hourly = await model(sim)
            await gears.run(1.0)
            await sim.sleep(9.0)  # 90 minutes
            await gears.pause()
            await sim.sleep(500)
            await gears.run(60.0)
            await sim.sleep(0.15)  # 90 minutes more
            await gears.suspend()
            await sim.sleep(100)
            await gears.resume()
            await sim.sleep(0.1)
            await gears.run(2.0)
            await sim.sleep(3.0)
            assert await hourly.noted() == [
                ("hour", 60.0, 6.0),
                ("hour", 120.0, 509.05),
                ("hour", 180.0, 509.15),
                ("hour", 240.0, 609.25),
                ("hour", 300.0, 612.25),
            ]

    run(main)


def test_an_end_is_kept_and_time_stands_there() -> None:
    """`run` with ticks stops the subtree at that tick, live and as fast as it goes."""

    async def main() -> None:
        async with system() as sim:
            gears, clock, hourly = await model(sim)
            await gears.run(1.0, 60)
            await sim.sleep(100)
            assert [at for _, at, _ in await hourly.noted()] == [60.0]
            assert clock.monotonic() == 3600.0
            await gears.run("max", 119)
            await sim.sleep(0.001)
            assert [at for _, at, _ in await hourly.noted()] == [60.0, 120.0]
            assert clock.monotonic() == 3600.0 + 119 * 60
            assert (await sim.ask("gears", "status"))["mechanism"] == "paused"

    run(main)


def test_as_fast_as_it_goes_from_timer_to_timer() -> None:
    """At "max" the timers of the subtree lead on; a new one wakes a mechanism that has none."""

    class Napper(Daemon):
        @on(concurrent=True, timeout_s=None)
        async def nap(self, hours: int) -> float:
            """Sleep, and return what the time here was then."""
            await self.sleep(hours * 3600.0)
            return self.clock.monotonic() / 3600

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Antikythera, "gears")
            await gears.register_gear(DAY)
            await gears.run("max")
            napper = await sim.spawn(Napper, "n", clock=GearClock(gears, "day"))
            assert await napper.nap(1000) == 1000.0
            assert await asyncio.gather(napper.nap(3), napper.nap(1)) == [1003.0, 1001.0]
            assert sim.clock.monotonic() < 0.001
            assert (await sim.ask("gears", "status"))["total-ticks"] == 1003 * 60

    run(main)


def test_events_and_timers_fall_in_order() -> None:
    """While it advances, an event is handled at its own time, and before a timer due then."""

    async def main() -> None:
        async with system() as sim:
            gears, _, _ = await model(sim)
            await gears.register_event("minute", "e", 45, "h", "heard")
            await gears.advance(180)
            assert [what for what, *_ in await sim.ask("h", "noted")] == [
                "tick 45", "hour", "tick 90", "hour", "tick 135", "tick 180", "hour",
            ]  # fmt: skip
            assert [at for _, at, _ in await sim.ask("h", "noted")] == [
                45.0, 60.0, 90.0, 120.0, 135.0, 180.0, 180.0,
            ]  # fmt: skip

    run(main)


def test_what_falls_is_over_before_time_goes_on() -> None:
    """A timer's message that makes others ask each other is answered at the time it fell."""

    class Relay(Daemon):
        async def on_start(self) -> None:
            self._at: list[float] = []

        @every("1h")
        async def start_round(self) -> None:
            """Go round by the others."""
            self._at.append(await self.ask("r2", "pass-on"))

        @on
        async def pass_on(self) -> float:
            """Ask the next one, or answer what the time is."""
            return await self.ask("r3", "time")

        @on
        def time(self) -> float:
            """Return the time here."""
            return self.clock.monotonic()

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Antikythera, "gears")
            await gears.register_gear(DAY)
            clock = GearClock(gears, "day")
            relays = [await sim.spawn(Relay, f"r{n}", clock=clock) for n in (1, 2, 3)]
            await gears.advance(5 * 60)
            assert relays[0]._d9_cell.instance._at == [3600.0 * n for n in range(1, 6)]

    run(main)


def test_a_crash_of_the_mechanism_holds_time_and_takes_none_back() -> None:
    """While it is down the subtree stands still; then it goes on from where it was."""

    class Fragile(Antikythera):
        @on
        def burst(self) -> None:
            """Crash."""
            raise RuntimeError("a tooth broke")

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Fragile, "gears", speed=1.0)
            await gears.register_gear(DAY)
            clock = GearClock(gears, "day")
            hourly = await sim.spawn(Hourly, "h", clock=clock)
            await sim.sleep(7.0)  # 70 minutes
            with pytest.raises(Exception, match="tooth"):
                await gears.burst()
            assert clock.monotonic() == 4200.0
            await sim.sleep(10.0)  # restarted after 0.1 s, without its gears, at its speed
            assert clock.monotonic() == pytest.approx(4200 + 9.9 * 600, abs=20)
            assert [at for _, at, _ in await hourly.noted()] == [60.0, 120.0]
            await gears.stop()
            before = clock.monotonic()
            await sim.sleep(1000.0)
            assert clock.monotonic() == before

    run(main)


def test_children_inherit_it_and_so_does_a_timer() -> None:
    """Whoever is spawned in the subtree lives on the clock, a timer daemon and its tasks too."""

    class Parent(Daemon):
        async def on_start(self) -> None:
            await self.spawn(Hourly, "child")
            await self.spawn(Timer, "bells")

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Antikythera, "gears")
            await gears.register_gear(DAY)
            await sim.spawn(Parent, "p", clock=GearClock(gears, "day"))
            await sim.ask(
                "bells", "schedule", delay="90m", target="child", type="heard", payload={"tick": 7}
            )
            await gears.advance(120)
            assert [one[:2] for one in await sim.ask("child", "noted")] == [
                ["hour", 60.0],
                ["tick 7", 90.0],
                ["hour", 120.0],
            ]

    run(main)


def test_a_mechanism_on_a_scaled_clock_follows_that() -> None:
    """Clocks stand on each other: twice as fast underneath, and everything is."""

    async def main() -> None:
        async with system() as sim:
            under = ScaledClock(sim.clock, 2.0)
            gears = await sim.spawn(Antikythera, "gears", clock=under, speed=1.0)
            await gears.register_gear(DAY)
            hourly = await sim.spawn(Hourly, "h", clock=GearClock(gears, "day"))
            await gears.register_event("hour", "e", 1, "h", "heard")
            await sim.sleep(3.5)
            under.set_rate(0.5)
            await sim.sleep(10.1)
            assert sorted(await hourly.noted()) == [
                ("hour", 60.0, 3.0),
                ("hour", 120.0, 13.5),
                ("tick 120", 120.0, 13.5),
                ("tick 60", 60.0, 3.0),
            ]

    run(main)


@pytest.mark.real
def test_in_real_time_a_day_has_its_hours() -> None:
    """Run and paused by the machine's clock, then advanced: none of 24 hours is missed."""

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Antikythera, "gears")
            await gears.register_gear(DAY)
            for name in ("first", "second"):
                hourly = await sim.spawn(Hourly, name, clock=GearClock(gears, "day"))
                await gears.advance(1440)
                assert [what for what, *_ in await hourly.noted()].count("hour") == 24
                await gears.run(1000.0)
                await sim.sleep(0.01)
                await gears.pause()

    run(main, real=True)


def test_nobody_left_nothing_driven() -> None:
    """A clock that nobody lives on any more is let go."""

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Antikythera, "gears")
            await gears.register_gear(DAY)
            GearClock(gears, "day")
            instance = gears._d9_cell.instance
            assert len(instance._clocks) == 0
            kept = GearClock(gears, "day")
            assert list(instance._clocks) == [kept]

    run(main)


def test_refusals() -> None:
    """No gears, no such gear, no such unit, nobody running."""

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Antikythera, "gears")
            await gears.register_gear(Gear("wheel", 10))
            with pytest.raises(NotFound, match="moon"):
                GearClock(gears, "moon", "day")
            with pytest.raises(BadPayload, match="wheel"):
                GearClock(gears, "wheel")
            assert GearClock(gears, "wheel", "hour").tick_s == 360
            other = await sim.spawn(Hourly, "h")
            with pytest.raises(BadAddress, match="no gears"):
                GearClock(other, "day")  # type: ignore[arg-type]
            idle = await sim.spawn(Antikythera, "idle", start=False)
            with pytest.raises(NotRunning):
                GearClock(idle, "day")

    run(main)
