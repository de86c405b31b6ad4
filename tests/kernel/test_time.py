"""Time: virtual, scaled, `@every`, `@cron`, and a subtree with a clock of its own."""

import asyncio
from datetime import UTC, datetime

import pytest

from dan9 import Daemon, ScaledClock, System, VirtualClock, cron, every, on
from dan9.base.errors import BadConfig
from dan9.kernel.clock import TimeStandsStill
from dan9.testing import run, system


class Ticker(Daemon):
    """Counts its own ticks and notes when they came."""

    at: list[float] = []

    @every("10s")
    async def tick(self) -> None:
        """Note the time."""
        self.at.append(self.clock.monotonic())

    @on
    async def block(self, seconds: float) -> None:
        """Be busy."""
        await self.sleep(seconds)

    @on
    def times(self) -> list[float]:
        """Return when the ticks came."""
        return self.at


def test_a_year_passes_in_no_time_and_asyncio_follows():
    """asyncio's own sleeps and timeouts run on the virtual clock."""

    async def main():
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(365 * 86400)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.sleep(61)
        return loop.time() - before

    assert run(main) == 365 * 86400 + 60


def test_time_that_can_never_pass_is_an_error():
    """Waiting for what cannot happen is said, not waited for."""
    clock = VirtualClock()

    async def main():
        await asyncio.Event().wait()

    loop = clock.new_event_loop()
    loop._selector.patience_s = 0.0
    try:
        with pytest.raises(TimeStandsStill):
            loop.run_until_complete(main())
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()


def test_a_system_under_a_virtual_clock_needs_its_loop():
    """In a loop of real time it refuses to start."""

    async def main():
        with pytest.raises(RuntimeError, match="VirtualClock"):
            async with System("t", daemons="none", socket=False, clock=VirtualClock()):
                pass

    run(main, real=True)


def test_every_first_after_one_interval_and_without_drift():
    """The n-th tick comes at n intervals exactly."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Ticker, "t")
            await s.sleep("1000.5s")
            assert await ref.times() == [10.0 * n for n in range(1, 101)]

    run(main)


def test_every_coalesces_while_the_daemon_is_busy():
    """At most one is queued; late ones are one."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Ticker, "t")
            await ref.block.within(100)(55.0)
            await s.sleep("10s")
            assert await ref.times() == [55.0, 60.0]

    run(main)


def test_every_is_silent_while_suspended_and_gone_when_stopped():
    """A suspended daemon tells itself nothing; a restarted one begins anew."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Ticker, "t")
            await ref.suspend()
            await s.sleep("35s")
            await ref.resume()
            assert await ref.times() == []
            await s.sleep("6s")
            assert await ref.times() == [40.0]
            await ref.restart()
            await s.sleep("9s")
            assert await ref.times() == []
            await ref.stop()
            await s.sleep("1h")
            assert s.dead_letters.total == 0

    run(main)


def test_cron_tells_by_the_wall_clock():
    """@cron fires when its crontab line says."""

    class Nightly(Daemon):
        at: list[float] = []

        @cron("30 2 * * *")
        async def backup(self) -> None:
            self.at.append(self.clock.now() % 86400)

        @on
        def times(self) -> list[float]:
            return self.at

    async def main():
        async with system() as s:
            ref = await s.spawn(Nightly, "n")
            await s.sleep("3d")
            return await ref.times()

    assert run(main) == [2.5 * 3600] * 3


@pytest.mark.parametrize(
    ("day", "moments"),
    [
        ("2026-03-28", ["2026-03-28T01:30", "2026-03-29T01:00", "2026-03-30T00:30"]),
        ("2026-10-24", ["2026-10-24T00:30", "2026-10-25T00:30", "2026-10-26T01:30"]),
    ],
)
def test_cron_follows_the_changes_of_its_time_zone(day: str, moments: list[str]):
    """02:30 in Berlin: at the change where it does not exist, once where it comes twice."""

    class Nightly(Daemon):
        at: list[str] = []

        @cron("30 2 * * *", timezone="Europe/Berlin")
        def backup(self) -> None:
            self.at.append(datetime.fromtimestamp(self.clock.now(), UTC).isoformat()[:16])

        @on
        def times(self) -> list[str]:
            return self.at

    clock = VirtualClock(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())

    async def main():
        async with system(clock=clock) as s:
            ref = await s.spawn(Nightly, "n")
            await s.sleep("3d")
            return await ref.times()

    assert run(main, clock=clock) == moments


def test_a_wall_clock_that_is_set_makes_cron_neither_lose_nor_storm():
    """What is jumped over comes once, soon; what has come does not come again."""

    class Hourly(Daemon):
        at: list[str] = []

        @cron("0 * * * *")
        def strike(self) -> None:
            minutes = round(self.clock.now() % 86400 / 60)
            self.at.append(f"{minutes // 60}:{minutes % 60:02}")

        @on
        def times(self) -> list[str]:
            found, self.at = self.at, []
            return found

    async def main():
        async with system() as s:
            ref = await s.spawn(Hourly, "h")
            await s.sleep("1h1m")
            assert await ref.times() == ["1:00"]
            s.clock.shift_wall(5 * 3600)  # 6:01
            await s.sleep("2h")
            [late, *others] = await ref.times()
            assert "6:01" <= late <= "6:11"
            assert others == ["7:00", "8:00"]
            s.clock.shift_wall(-3 * 3600 - 60)  # 5:00
            await s.sleep("5h")
            assert await ref.times() == ["9:00", "10:00"]

    run(main)


def test_a_wrong_interval_or_crontab_line_is_refused_at_the_definition():
    """Zero, negative and nonsense are heard of when the class is made."""
    for wrong in (0, "0s", "soon"):
        with pytest.raises((BadConfig, ValueError)):
            every(wrong)
    with pytest.raises((BadConfig, ValueError)):
        cron("not a line")


def test_a_subtree_runs_on_its_own_clock():
    """A scaled clock drives `sleep`, `@every` and the children; deadlines keep the system's."""

    class Parent(Daemon):
        async def on_start(self) -> None:
            self._kid = await self.spawn(Ticker, "kid")

        @on
        async def nap(self) -> float:
            before = self.clock.monotonic()
            await self.sleep("60s")
            return self.clock.monotonic() - before

    async def main():
        async with system() as s:
            fast = ScaledClock(s.clock, rate=60)
            ref = await s.spawn(Parent, "p", clock=fast)
            assert await ref.nap() == pytest.approx(60.0)
            assert s.clock.monotonic() == pytest.approx(1.0)
            await s.sleep("1s")
            assert len(await s.ask("kid", "times")) == pytest.approx(11, abs=1)

    run(main)


def test_a_scaled_clock_changes_its_rate_without_a_jump():
    """What has passed stays passed."""
    base = VirtualClock()
    clock = ScaledClock(base, 10)
    base.advance_to(5)
    assert clock.monotonic() == 50
    clock.set_rate(1)
    assert clock.monotonic() == 50
    base.advance_to(6)
    assert clock.monotonic() == 51
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="above 0"):
            ScaledClock(base, wrong)
    for wrong in (-1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="0 or more"):
            clock.set_rate(wrong)
    clock.set_rate(0)
    base.advance_to(1e9)
    assert clock.monotonic() == 51


class Sleeper(Daemon):
    """Sleeps a minute of its own, again and again, and ticks and strikes beside it."""

    async def on_start(self) -> None:
        self._at: list[tuple[str, float]] = []

    def _note(self, what: str) -> None:
        self._at.append((what, round(self.system.clock.monotonic(), 6)))

    @on(concurrent=True, timeout_s=None)
    async def nap(self) -> float:
        """Sleep, and return how long that was here."""
        before = self.clock.monotonic()
        await self.sleep("60s")
        return round(self.clock.monotonic() - before, 6)

    @every("60s")
    def tick(self) -> None:
        self._note("tick")

    @cron("*/2 * * * *")
    def strike(self) -> None:
        self._note("strike")

    @on
    def noted(self) -> list[tuple[str, float]]:
        """Return what came when, on the system's clock."""
        return self._at


def test_what_was_set_before_follows_a_new_rate():
    """Sleeps, `@every` and `@cron` come sooner, later or not at all as the clock is set."""

    async def main():
        async with system() as s:
            clock = ScaledClock(s.clock, rate=1)
            ref = await s.spawn(Sleeper, "p", clock=clock)
            nap = asyncio.create_task(ref.nap())
            await s.sleep(30)
            clock.set_rate(60)  # 30 s here are left: half a second there
            await s.sleep(0.25)
            clock.set_rate(0)
            await s.sleep(1000)
            assert await ref.noted() == []
            assert not nap.done()
            clock.set_rate(60)
            await s.sleep(0.25 + 1)
            assert await nap == 60.0
            began = 1030.5
            both = [("strike", began + 1), ("tick", began + 1)]  # in the order they were set
            assert await ref.noted() == [("tick", began), *both]

    run(main)


def test_clocks_stand_on_each_other():
    """A clock on a scaled one follows both; the system's own lifts a child out of a subtree."""

    class Parent(Daemon):
        async def on_start(self) -> None:
            await self.spawn(Ticker, "inside")
            await self.spawn(Ticker, "outside", clock=self.system.clock)

    async def main():
        async with system() as s:
            outer = ScaledClock(s.clock, rate=2)
            inner = ScaledClock(outer, rate=5)
            await s.spawn(Parent, "p", clock=inner)
            await s.sleep(2)
            assert await s.ask("inside", "times") == [10.0, 20.0]
            outer.set_rate(0)
            await s.sleep(20)
            assert len(await s.ask("inside", "times")) == 2
            outer.set_rate(1)
            await s.sleep(2)
            assert await s.ask("inside", "times") == [10.0, 20.0, 30.0]
            assert await s.ask("outside", "times") == [10.0, 20.0]

    run(main)


def test_a_clock_goes_on_from_where_it_is_put_and_stops_at_its_limit():
    """Ahead it jumps, behind it waits; at the limit it stands still, and rings what is due."""
    base = VirtualClock()
    clock = ScaledClock(base, 1)
    rung = []
    for due in (5.0, 20.0, 30.0):
        clock.call_at(due, lambda due=due: rung.append(due))
    clock.call_at(7.0, rung.clear).cancel()
    clock.go_on(10.0, 0.0, 2.0, limit=20.0)
    assert (clock.monotonic(), clock.next_at()) == (10.0, 5.0)
    clock.ring(10.0)
    assert (rung, clock.next_at()) == ([5.0], 20.0)
    base.advance_to(3)
    assert clock.monotonic() == 16.0
    base.advance_to(100)
    assert clock.monotonic() == 20.0
    clock.go_on(15.0, 100.0, 1.0)
    assert clock.monotonic() == 20.0
    base.advance_to(106)
    assert clock.monotonic() == 21.0


def test_a_jump_of_the_wall_clock_moves_nothing_else():
    """now() jumps, monotonic() and what is scheduled by it do not."""
    clock = VirtualClock(start=1000.0)
    clock.shift_wall(-500)
    assert (clock.now(), clock.monotonic()) == (500.0, 0.0)
