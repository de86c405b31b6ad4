"""Virtual time passes inside a turn, and nobody can tell: the loop has its say before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

from dan9 import Daemon, System, on
from dan9.testing import run, run_world, system
from dan9.testing.world import World


class Sleeper(Daemon):
    """Sleeps, and notes when it woke."""

    woke: list[float] = []

    @on(timeout_s=None, cancellable=True)
    async def nap(self, seconds: float, times: int = 1) -> list[float]:
        """Sleep so many times; return when each sleep was over."""
        for _ in range(times):
            await self.sleep(seconds)
            self.woke.append(self.clock.monotonic())
        return self.woke

    @on(cancellable=True, timeout_s=None)
    async def nap_at_most(self, seconds: float, limit: float) -> bool:
        """Return whether it slept its fill."""
        try:
            async with asyncio.timeout(limit):
                await self.sleep(seconds)
        except TimeoutError:
            return False
        return True

    @on
    async def nap_by(self, how: Callable[[Any], Any]) -> object:
        """Sleep a second as somebody else has it."""
        return await how(self.sleep(1.0))


def turns_of(made: System) -> int:
    """Return how often the loop has let the system in."""
    return int(made.scheduler.turns)


def test_many_firings_take_one_turn() -> None:
    """While the loop has nothing to do, it is not asked."""

    async def main() -> None:
        async with system() as s:
            ref = await s.spawn(Sleeper, "s")
            before = turns_of(s)
            assert await ref.nap(1.0, 900) == [float(n) for n in range(1, 901)]
            assert turns_of(s) - before < 10

    run(main)


def test_the_loop_has_its_say_before_later_timers() -> None:
    """asyncio's timers and the kernel's come in the order of their times."""

    async def main() -> None:
        async with system() as s:
            ref = await s.spawn(Sleeper, "s")
            ask = asyncio.create_task(ref.nap(1.0, 5))
            seen = []
            for _ in range(3):
                await asyncio.sleep(1.25)
                seen.append((s.clock.monotonic(), len(s.cell_of("s").instance.woke)))
            assert seen == [(1.25, 1), (2.5, 2), (3.75, 3)]
            await ask

    run(main)


def test_what_a_firing_starts_on_the_loop_comes_before_the_next() -> None:
    """A callback that a handler gave to the loop runs at the time at which it was given."""

    class Starter(Daemon):
        @on(timeout_s=None)
        async def begin(self) -> list[float]:
            loop, called = asyncio.get_running_loop(), []
            for _ in range(3):
                await self.sleep(1)
                loop.call_soon(lambda: called.append(loop.time()))
            await self.sleep(1)
            return called

    async def main() -> None:
        async with system() as s:
            assert await (await s.spawn(Starter, "s")).begin() == [1.0, 2.0, 3.0]

    run(main)


def test_time_does_not_go_on_in_a_loop_that_was_stopped() -> None:
    """What stopped the loop sees the time at which it did."""

    class Stopper(Daemon):
        @on(timeout_s=None)
        async def stop_loop(self) -> None:
            await self.sleep(3)
            asyncio.get_running_loop().stop()
            await self.sleep(3)

    async def main() -> tuple[System, object]:
        made = System("t", daemons="none", socket=False, clock=loop.virtual_clock)
        await made.up()
        return made, await made.spawn(Stopper, "s")

    from dan9 import VirtualClock

    loop: Any = VirtualClock().new_event_loop()
    made, ref = loop.run_until_complete(main())
    ref.stop_loop.tell()
    loop.run_forever()
    assert loop.time() == 3.0
    loop.run_until_complete(made.down())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def test_a_timer_that_is_late_when_it_is_set_takes_no_time_back() -> None:
    """It fires at once, now."""

    class Late(Daemon):
        @on(timeout_s=None)
        async def late(self) -> list[float]:
            fired: list[float] = []
            await self.sleep(10)
            self.system.call_at(4.0, lambda: fired.append(self.clock.monotonic()))
            await self.sleep(1)
            return [*fired, self.clock.monotonic()]

    async def main() -> None:
        async with system() as s:
            assert await (await s.spawn(Late, "l")).late() == [10.0, 11.0]

    run(main)


def test_a_system_keeps_to_the_timers_of_another_on_the_same_loop() -> None:
    """Two systems of one clock see each other's time in order."""

    async def main() -> None:
        async with system(name="a") as a, system(name="b") as b:
            seen: list[tuple[str, float]] = []

            class Ticker(Daemon):
                @on(timeout_s=None)
                async def tick(self, name: str, every: float) -> None:
                    for _ in range(4):
                        await self.sleep(every)
                        seen.append((name, self.clock.monotonic()))

            asks = [(await s.spawn(Ticker, "t")).tick(s.name, n) for s, n in ((a, 1.0), (b, 0.75))]
            await asyncio.gather(*asks)
            assert [when for _, when in seen] == sorted(when for _, when in seen)
            assert len(seen) == 8

    run(main)


@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_sockets_and_threads_are_heard_while_time_flies(seconds: float) -> None:
    """However often a daemon sleeps, real input and output are not starved."""

    async def main() -> None:
        async with system() as s:
            ref = await s.spawn(Sleeper, "s")
            ask = asyncio.create_task(ref.nap(seconds, 10**9))
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                loop = asyncio.get_running_loop()
                received = loop.sock_recv(ours, 5)
                await asyncio.to_thread(theirs.send, b"hello")
                assert await received == b"hello"
            ask.cancel()

    run(main)


def test_a_sleep_is_what_asyncio_takes() -> None:
    """Awaited, as a task, with others, under a limit, shielded, in a group."""

    async def in_group(sleep: Any) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(sleep)

    async def twice(sleep: Any) -> None:
        await sleep
        await sleep

    ways: list[Callable[[Any], Any]] = [
        asyncio.create_task,
        asyncio.gather,
        asyncio.shield,
        asyncio.ensure_future,
        in_group,
        twice,
        lambda sleep: asyncio.wait_for(sleep, 2),
        lambda sleep: asyncio.wait([asyncio.ensure_future(sleep)]),
    ]

    async def main() -> None:
        async with system(copy=False) as s:
            ref = await s.spawn(Sleeper, "s")
            for way in ways:
                before = s.clock.monotonic()
                await ref.nap_by(way)
                await way(s.sleep("1s"))
                assert s.clock.monotonic() == before + 2.0
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(s.sleep(3), 2)

    run(main)


def test_a_sleep_that_is_cut_short_leaves_no_timer() -> None:
    """By a limit, by its asker, by the end of its daemon: time need not pass for it."""

    async def main() -> None:
        async with system() as s:
            ref = await s.spawn(Sleeper, "s")
            pending = len(s.scheduler.timers)
            assert await ref.nap_at_most(5, 10)
            assert not await ref.nap_at_most(500, 10)
            assert s.clock.monotonic() == 15.0
            ask = asyncio.create_task(ref.nap_at_most(500, 1000))
            await asyncio.sleep(1)
            ask.cancel()
            await asyncio.sleep(1)
            assert (await ref.status())["state"] == "running"
            ref.nap.tell(500)
            await asyncio.sleep(1)
            await ref.stop()
            await asyncio.sleep(10)  # the deadlines of our own asks
            assert len(s.scheduler.timers) <= pending
            assert s.clock.monotonic() == 28.0

    run(main)


def test_a_world_leaps_too_and_its_seed_decides() -> None:
    """Drawn by the seed, one step at a time: the same log, and the same times."""

    async def body(world: World) -> list[float]:
        refs = [await world.system.spawn(Sleeper, f"s{n}") for n in range(5)]
        asks = [ref.nap(1.0 + n / 7, 50) for n, ref in enumerate(refs)]
        before = turns_of(world.system)
        out = [when for times in await asyncio.gather(*asks) for when in times]
        assert turns_of(world.system) - before < 40
        return out

    runs = [run_world(body, seed) for seed in (3, 3, 4)]
    logs = [made.log for _, made in runs]
    assert runs[0][0] == runs[1][0]
    assert logs[0] == logs[1] != logs[2]
