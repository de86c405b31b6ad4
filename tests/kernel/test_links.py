"""Links and monitors, and the subscriptions built on ends."""

import pytest

from dan9 import Config, Daemon, Down, Subscription, on
from dan9.testing import Probe, run, system


class Watcher(Daemon):
    """Watches others and notes their ends."""

    seen: list[list[str]] = []

    @on
    def watch(self, address: str) -> int:
        """Monitor another."""
        return self.system.monitor(address)

    @on
    def unwatch(self, number: int) -> bool:
        """Take it back."""
        return self.system.demonitor(number)

    @on
    def tie(self, address: str) -> None:
        """Link to another."""
        self.system.link(address)

    @on
    def fall(self) -> None:
        """Crash."""
        raise RuntimeError("fell")

    @on
    def ends(self) -> list[list[str]]:
        """Return the ends seen."""
        return self.seen

    async def on_down(self, down: Down) -> None:
        """Note an end."""
        self.seen.append([down.address, down.reason.kind])


def test_a_monitor_hears_the_end_once_with_its_reason():
    """crashed, normal, and noproc for one that was not there."""

    async def main():
        async with system() as s:
            w = await s.spawn(Watcher, "w")
            for name in ("a", "b"):
                await s.spawn(Watcher, name)
                await w.watch(name)
            await w.watch("d9://watcher/default/nobody")
            s.tell("a", "fall")
            await s.ask("b", "stop")
            await s.sleep("1s")
            s.tell("a", "fall")
            await s.sleep("1s")
            assert sorted(await w.ends()) == [
                ["d9://watcher/default/a", "crashed"],
                ["d9://watcher/default/b", "normal"],
                ["d9://watcher/default/nobody", "noproc"],
            ]

    run(main)


def test_a_monitor_can_be_taken_back():
    """After demonitor nothing is heard; twice is False."""

    async def main():
        async with system() as s:
            w = await s.spawn(Watcher, "w")
            await s.spawn(Watcher, "a")
            number = await w.watch("a")
            assert await w.unwatch(number)
            assert not await w.unwatch(number)
            s.tell("a", "fall")
            await s.sleep("1s")
            assert await w.ends() == []

    run(main)


def test_a_link_carries_a_bad_end_both_ways_and_a_good_one_not():
    """What is linked to a crash crashes; a normal stop leaves the other alone."""

    async def main():
        async with system() as s:
            a, b = await s.spawn(Watcher, "a"), await s.spawn(Watcher, "b")
            await a.tie("b")
            b.fall.tell()
            await s.sleep("1s")
            assert s.status_of("a")["restarts"] == 1
            assert "linked to d9://watcher/default/b" in s.status_of("a")["last-error"]
            await a.tie("b")
            await b.stop()
            await s.sleep("1s")
            assert s.status_of("a")["restarts"] == 1

    run(main)


class Source(Daemon):
    """Sends numbers to whoever subscribes."""

    overflow: Config[str] = "pause"
    sent: int = 0
    ended: int = 0

    async def on_start(self) -> None:
        """Nobody has subscribed."""
        self._subs: dict[str, Subscription] = {}

    @on(concurrent=True, timeout_s=None)
    async def subscribe(self, to: str, count: int, limit: int = 4) -> None:
        """Send `count` numbers."""
        sub = Subscription(
            self, to, "number", limit=limit, overflow=self.overflow, on_end=self._end
        )
        self._subs[sub.id] = sub
        for n in range(count):
            if sub.is_closed:
                return
            await sub.push(n=n)
            self.sent += 1

    def _end(self) -> None:
        self.ended += 1

    @on
    def told(self) -> list[int]:
        """Return how many were sent and how many subscriptions have ended."""
        return [self.sent, self.ended]


class Taker(Daemon):
    """Takes a second over each number."""

    seen: list[int] = []
    dropped: int = 0

    @on
    async def number(self, n: int, dropped: int = 0) -> None:
        """Take one."""
        self.seen.append(n)
        self.dropped += dropped
        await self.sleep("1s")

    @on
    def taken(self) -> list[int]:
        """Return what was taken."""
        return self.seen


def test_a_pausing_source_waits_for_its_subscriber():
    """At most `limit` events are unanswered; none is lost."""

    async def main():
        async with system() as s:
            source, taker = await s.spawn(Source, "s"), await s.spawn(Taker, "t")
            source.subscribe.tell(taker.address, 20)
            await s.sleep("0.5s")
            assert await source.told() == [4, 0]
            await s.sleep("30s")
            assert await taker.taken() == list(range(20))

    run(main)


def test_a_dropping_source_never_waits_and_says_how_many_it_dropped():
    """The next event carries `dropped`."""

    async def main():
        async with system() as s:
            source = await s.spawn(Source, "s", overflow="drop")
            probe = await s.spawn(Probe, "p")
            taker = await s.spawn(Taker, "t")
            await source.subscribe(taker.address, 20)
            await s.sleep("30s")
            assert await taker.taken() == [0, 1, 2, 3]
            await source.subscribe(probe.address, 3)
            assert [p["n"] for _, p in await Probe.of(probe).wait_for(3)] == [0, 1, 2]

    run(main)


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_subscription_ends_with_its_subscriber(how):
    """The source is told once and does not hang."""

    async def main():
        async with system() as s:
            source = await s.spawn(Source, "s")
            taker = await s.spawn(Taker, "t")
            source.subscribe.tell(taker.address, 50)
            await s.sleep("2.5s")
            if how == "stop":
                await taker.stop()
            else:
                await s.kill("t")
            await s.sleep("1s")
            assert (await source.told())[1] == 1
            assert (await source.status())["failed"] == 0 or how

    run(main)
