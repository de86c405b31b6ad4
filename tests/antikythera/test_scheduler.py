"""The antikythera daemon, in virtual time, to the exact moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dan9.antikythera import Antikythera, Gear
from dan9.base.errors import BadPayload, Conflict, Exists, NotFound
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Diary(Daemon, type="diary"):
    """Notes what it is told, and when."""

    got: list[tuple[float, str, int, int]] = []
    plain: int = 0

    @on
    def note(self, event: str, tick: int, turns: int, word: str = "") -> None:
        self.got.append((round(self.clock.monotonic(), 6), event + word, tick, turns))

    @on
    def count(self) -> None:
        self.plain += 1

    @on
    def told(self) -> list[tuple[float, str, int, int]]:
        return self.got

    @on
    def counted(self) -> int:
        return self.plain


async def pair(sim: System, **config: Any) -> tuple[Antikythera, Diary]:
    """Return a mechanism with a minute and an hour, and a diary."""
    gears = await sim.spawn(Antikythera, "gears", **config)
    await gears.register_gear(Gear("hour", 60, Gear("minute", 1)))
    return gears, await sim.spawn(Diary, "diary")


def test_it_advances_at_once() -> None:
    """Every event on the way is told, with its tick, and no time passes."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim)
            await gears.register_event("hour", "struck", 1, "diary", "note", {"word": "!"})
            assert await gears.advance(125) == {"total_ticks": 125, "fired": 2}
            assert await diary.told() == [(0.0, "struck!", 60, 1), (0.0, "struck!", 120, 2)]
            status = await sim.ask("gears", "status")
            assert (status["mechanism"], status["total-ticks"]) == ("paused", 125)
            hour = status["gears"][1]
            assert hour == {
                "name": "hour",
                "ratio": "60",
                "parent": "minute",
                "ticks": 2,
                "events": ["struck"],
            }

    run(main)


def test_a_handler_is_told_what_it_takes() -> None:
    """One without parameters is told nothing; a payload's own keys win."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim)
            await gears.register_event("hour", "a", 1, "diary", "count")
            await gears.register_event("hour", "b", 1, "d9://di*/**", "note", {"tick": 7})
            await gears.advance(60)
            assert await diary.counted() == 1
            assert await diary.told() == [(0.0, "b", 7, 1)]

    run(main)


@pytest.mark.parametrize(("speed", "moments"), [(1.0, [6.0, 12.0]), (60.0, [0.1, 0.2])])
def test_it_runs_at_any_speed(speed: float, moments: list[float]) -> None:
    """An hour of 60 ticks of 100 ms takes 6 s, at 60 times the speed 100 ms: to the moment."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim)
            await gears.register_event("hour", "e", 1, "diary", "note")
            assert await gears.run(speed) == "running"
            await asyncio.sleep(moments[-1] + 0.05)
            assert [at for at, *_ in await diary.told()] == moments

    run(main)


def test_as_fast_as_it_goes() -> None:
    """At "max" a day passes in no time, and it pauses at the end it was given."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim)
            await gears.register_event("hour", "e", 1, "diary", "note")
            await gears.run("max", 1440 * 365)
            await asyncio.sleep(0.001)
            assert len(await diary.told()) == 8760
            status = await sim.ask("gears", "status")
            assert (status["mechanism"], status["total-ticks"]) == ("paused", 525_600)

    run(main)


def test_pause_run_and_resume() -> None:
    """Paused, no ticks pass, and parts of a tick are kept; `resume` and `run` go on."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim, speed=1.0)
            await gears.register_event("minute", "e", 10, "diary", "note")
            await asyncio.sleep(0.55)  # 5.5 ticks
            assert await gears.pause() == "paused"
            await asyncio.sleep(100)
            assert await diary.told() == []
            assert (await sim.ask("gears", "status"))["total-ticks"] == 5
            await gears.resume()
            await asyncio.sleep(0.45)
            assert await diary.told() == [(101.0, "e", 10, 10)]
            await gears.pause()
            await gears.run()
            await asyncio.sleep(1.0)
            assert [tick for *_, tick, _ in await diary.told()] == [10, 20]

    run(main)


def test_suspended_its_time_stands_still() -> None:
    """What every daemon answers holds the gears too; nothing is caught up afterwards."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim, speed=1.0)
            await gears.register_event("minute", "e", 10, "diary", "note")
            await asyncio.sleep(0.5)
            assert await gears.suspend() == "suspended"
            await asyncio.sleep(50)
            assert await gears.resume() == "running"
            await asyncio.sleep(0.6)
            assert await diary.told() == [(51.0, "e", 10, 10)]

    run(main)


def test_speed_changes_without_a_jump() -> None:
    """Faster from here on: what had passed stays passed."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim, speed=1.0)
            await gears.register_event("minute", "e", 10, "diary", "note")
            await asyncio.sleep(0.5)
            await sim.ask("gears", "run", speed="5")  # as a shell writes it
            await asyncio.sleep(0.15)
            assert await diary.told() == [(0.6, "e", 10, 10)]
            for bad in (0, -1, "quick", float("inf"), float("nan")):
                with pytest.raises(BadPayload):
                    await sim.ask("gears", "run", speed=bad)
            with pytest.raises(BadPayload):
                await gears.run(1.0, 0)

    run(main)


def test_an_idle_mechanism_sets_no_alarm() -> None:
    """Running without events it wakes nobody: a century passes without a single message."""

    async def main() -> None:
        async with system() as sim:
            gears, _ = await pair(sim, speed=1000.0)
            handled = (await sim.ask("gears", "status"))["handled"]
            await asyncio.sleep(3e8)
            status = await sim.ask("gears", "status")
            assert status["handled"] == handled
            assert status["total-ticks"] == 3 * 10**12
            assert gears.address

    run(main)


def test_events_come_and_go_while_it_runs() -> None:
    """An event counts from the last whole turn; cancelled, it is silent."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim, speed=1.0)
            await asyncio.sleep(6.25)  # tick 62
            assert await gears.register_event("hour", "e", 1, "diary", "note") == 120
            await asyncio.sleep(6)
            assert await gears.cancel_event("hour", "e") == 1
            await asyncio.sleep(60)
            assert await diary.told() == [(12.0, "e", 120, 2)]

    run(main)


def test_a_full_mailbox_is_waited_for() -> None:
    """More firings than the target has room for: none is lost."""

    async def main() -> None:
        async with system() as sim:
            gears = await sim.spawn(Antikythera, "gears")
            diary = await sim.spawn(Diary, "diary", mailbox=3)
            await gears.register_gear("minute", 1)
            await gears.register_event("minute", "e", 1, "diary", "note")
            await gears.advance(1000)
            assert len(await diary.told()) == 1000

    run(main)


def test_parts_of_a_tick_are_kept_by_an_advance() -> None:
    """Half a tick before it is half a tick after it."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim, speed=1.0)
            await gears.register_event("hour", "e", 1, "diary", "note")
            await asyncio.sleep(0.55)
            await gears.pause()
            assert (await gears.advance(54))["total_ticks"] == 59
            await gears.run()
            await asyncio.sleep(0.1)
            assert await diary.told() == [(0.6, "e", 60, 1)]

    run(main)


def test_who_is_not_there_is_counted() -> None:
    """A target that nobody is, or that knows no such message, stops nothing."""

    async def main() -> None:
        async with system() as sim:
            gears, diary = await pair(sim)
            await gears.register_event("minute", "a", 1, "d9://no/such/daemon", "note")
            await gears.register_event("minute", "b", 1, "diary", "nothing")
            await gears.register_event("minute", "c", 1, "diary", "count")
            await gears.advance(2)
            assert await diary.counted() == 2
            assert (await sim.ask("gears", "status"))["undelivered"] == 4

    run(main)


def test_it_survives_a_restart() -> None:
    """Gears, events and ticks are its state: after a restart it goes on where it stood."""

    async def main() -> None:
        async with system(store=MemoryStore()) as sim:
            gears, diary = await pair(sim)
            await gears.register_gear("moon", "19/254", "hour")  # type: ignore[arg-type]
            await gears.register_event("hour", "e", 1, "diary", "note")
            await gears.run(1.0)
            await asyncio.sleep(5.0)
            await gears.pause()
            await gears.checkpoint()
            await gears.restart()
            status = await sim.ask("gears", "status")
            assert (status["total-ticks"], status["mechanism"]) == (50, "paused")
            await gears.advance(10)
            assert await diary.told() == [(5.0, "e", 60, 1)]

    run(main)


def test_beyond_64_bits() -> None:
    """10**25 ticks are advanced and shown exactly."""

    async def main() -> None:
        async with system() as sim:
            gears, _ = await pair(sim)
            await gears.register_event("hour", "e", 10**23, "diary", "count")
            assert (await gears.advance(10**25))["total_ticks"] == 10**25

    run(main)


def test_refusals() -> None:
    """Each with a hint, by name as over a wire."""

    async def main() -> None:
        async with system() as sim:
            gears, _ = await pair(sim)
            for payload in ({"name": "g"}, {"name": "g", "ratio": 0}, {"name": "", "ratio": 1}):
                with pytest.raises(BadPayload):
                    await sim.ask("gears", "register-gear", payload=payload)
            with pytest.raises(BadPayload):
                await gears.register_gear(Gear("x", 1), 5)  # type: ignore[arg-type]
            with pytest.raises(NotFound):
                await sim.ask("gears", "register-gear", name="g", ratio=1, parent="x")
            with pytest.raises(Exists):
                await sim.ask("gears", "register-gear", name="hour", ratio=1)
            with pytest.raises(Conflict):
                await gears.unregister_gear("minute")
            with pytest.raises(NotFound):
                await gears.cancel_event("hour", "x")
            with pytest.raises(BadPayload):
                await gears.register_event("hour", "e", 0, "diary", "note")
            for target, message in (("", "note"), ("diary", "")):
                with pytest.raises(BadPayload):
                    await gears.register_event("hour", "e", 1, target, message)
            with pytest.raises(BadPayload):
                await gears.advance(-1)
            with pytest.raises(BadPayload):
                await sim.spawn(Antikythera, "bad", base_tick_ms=0)

    run(main)
