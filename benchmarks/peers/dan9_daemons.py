"""Ours: daemons as a user writes them, interpreted classes on whatever kernel is imported."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from benchmarks.peers.worker import Result, Stopwatch, expect, on_uvloop, resident_bytes, serve
from dan9 import Daemon, System, VirtualClock, gather, on

BURST = 5_000
"""How many tells go out before the receiver is asked to answer: half of a mailbox."""

FAN = 1_000


class Hop(Daemon):
    """One place in a ring: passes the token on until it is used up."""

    @on
    def link(self, following: Any, finish: Callable[[], None]) -> None:
        """Learn who is next."""
        self._hop = following.hop
        self._hop_async = following.hop_async
        self._finish = finish

    @on
    def hop(self, left: int) -> None:
        """Pass it on."""
        if left:
            self._hop.tell(left - 1)
        else:
            self._finish()

    @on
    async def hop_async(self, left: int) -> None:
        """Pass it on from a coroutine."""
        if left:
            self._hop_async.tell(left - 1)
        else:
            self._finish()


class Counter(Daemon):
    """Counts what it is told; the daemon with one int field that memory is measured with."""

    total: int = 0

    @on
    def add(self, by: int) -> int:
        """Add and answer the total."""
        self.total += by
        return self.total

    @on
    async def add_async(self, by: int) -> int:
        """The same in a coroutine."""
        self.total += by
        return self.total


class Asker(Daemon):
    """The other side: a daemon that asks and tells."""

    @on(timeout_s=None)
    async def ask_many(self, counter: Any, count: int, verb: str) -> int:
        """Ask one after another; return the last answer."""
        ask = getattr(counter, verb)
        answer = 0
        for _ in range(count):
            answer = await ask(1)
        return answer

    @on(timeout_s=None)
    async def tell_many(self, counter: Any, count: int) -> int:
        """Flood one receiver, never more than half of its mailbox; return its total."""
        tell = counter.add.tell
        answer = 0
        for _ in range(count // BURST):
            for _ in range(BURST):
                tell(1)
            answer = await counter.add(0)
        return answer

    @on(timeout_s=None)
    async def fan_out(self, counters: list[Any], rounds: int) -> int:
        """Ask all of them at once, so many times; return the sum of the last answers."""
        asks = [counter.add for counter in counters]
        answers: list[int] = []
        for _ in range(rounds):
            answers = await gather([ask(1) for ask in asks])
        return sum(answers)


class Sleeper(Daemon):
    """A process with a timer of its own."""

    fired: int = 0

    @on(timeout_s=None)
    async def run(self, delay_s: float, times: int) -> int:
        """Sleep so many times."""
        for _ in range(times):
            await self.sleep(delay_s)
            self.fired += 1
        return self.fired


def make_system(**options: Any) -> System:
    """A bare kernel: system daemons would only add to what is not measured."""
    return System("bench", daemons="none", socket=False, seed=0, **options)


def ring(size: int, verb: str) -> Callable[[int], Result]:
    """A token goes round so many daemons."""

    async def run(hops: int) -> Result:
        stopwatch, finished = Stopwatch(), asyncio.Event()
        async with make_system() as system:
            refs = [await system.spawn(Hop, f"hop-{number}") for number in range(size)]
            for ref, following in itertools.pairwise([*refs, refs[0]]):
                await ref.link(following, finished.set)
            with stopwatch:
                getattr(refs[0], verb).tell(hops)
                await finished.wait()
            # Each hop is one message, and linking was one each.
            expect(system.conservation()["handled"], hops + 1 + size)
        return stopwatch.result(hops)

    return on_uvloop(run)


def ask(verb: str) -> Callable[[int], Result]:
    """One daemon asks another, one ask after another."""

    async def run(count: int) -> Result:
        stopwatch = Stopwatch()
        async with make_system() as system:
            counter = await system.spawn(Counter, "counter")
            asker = await system.spawn(Asker, "asker")
            with stopwatch:
                total = await asker.ask_many(counter, count, verb)
            expect(total, count)
        return stopwatch.result(count)

    return on_uvloop(run)


async def tell(count: int) -> Result:
    """One daemon floods another."""
    stopwatch = Stopwatch()
    async with make_system() as system:
        counter = await system.spawn(Counter, "counter")
        asker = await system.spawn(Asker, "asker")
        with stopwatch:
            total = await asker.tell_many(counter, count)
        expect(total, count)
    return stopwatch.result(count)


async def fan_out(count: int) -> Result:
    """One daemon asks a thousand at once."""
    stopwatch = Stopwatch()
    async with make_system() as system:
        counters = [await system.spawn(Counter, f"counter-{number}") for number in range(FAN)]
        asker = await system.spawn(Asker, "asker")
        with stopwatch:
            total = await asker.fan_out(counters, count // FAN)
        expect(total, count)
    return stopwatch.result(count)


async def spawn(count: int) -> Result:
    """Many daemons; then one ask to each, a thousand at once, and all the answers."""
    spawning, visiting = Stopwatch(), Stopwatch()
    async with make_system() as system:
        before = resident_bytes()
        with spawning:
            refs = [await system.spawn(Counter, f"c{number}") for number in range(count)]
        each = (resident_bytes() - before) / count
        answered = 0
        with visiting:
            for start in range(0, count, FAN):
                answered += sum(await gather([ref.add(1) for ref in refs[start : start + FAN]]))
        expect(answered, count)
        held = resident_bytes()
    return spawning.result(
        count,
        bytes_each=each,
        visit_cpu_s=visiting.cpu_s,
        visit_wall_s=visiting.wall_s,
        resident_mb=held / 1e6,
    )


async def spawn_thousand(count: int) -> Result:
    """A thousand daemons at a time, each thousand in a system of its own."""
    spawning = Stopwatch()
    for _ in range(count // 1_000):
        async with make_system() as system:
            with spawning:
                for number in range(1_000):
                    await system.spawn(Counter, f"c{number}")
            expect(len(system.addresses("d9://counter/**")), 1_000)
    return spawning.result(count // 1_000 * 1_000)


async def memory(count: int) -> Result:
    """What is left of a daemon that handled one message: instance, address, registry entry."""
    stopwatch = Stopwatch()
    async with make_system() as system:
        warm = await system.spawn(Counter, "warm", group="other")
        await warm.add(1)
        before, handled = resident_bytes(), system.conservation()["handled"]
        with stopwatch:
            for number in range(count):
                ref = await system.spawn(Counter, f"c{number}")
                ref.add.tell(1)
                if number % FAN == 0:
                    await warm.add(1)  # the mailboxes are empty again
            del ref
            await warm.add(1)
        each = (resident_bytes() - before) / count
        expect(system.conservation()["handled"] - handled, count + -(-count // FAN) + 1)
    return stopwatch.result(count, bytes_each=each)


def virtual(processes: int) -> Callable[[int], Result]:
    """So many daemons sleep and wake in virtual time."""

    def run(count: int) -> Result:
        stopwatch = Stopwatch()
        times = count // processes

        async def main() -> None:
            loop: Any = asyncio.get_running_loop()
            async with make_system(clock=loop.virtual_clock) as system:
                sleepers = [
                    await system.spawn(Sleeper, f"s{number}") for number in range(processes)
                ]
                asks = [
                    sleeper.run(0.5 + number % 997 / 997, times)
                    for number, sleeper in enumerate(sleepers)
                ]
                with stopwatch:
                    expect(sum(await gather(asks)), processes * times)

        VirtualClock().run(main())
        return stopwatch.result(processes * times)

    return run


if __name__ == "__main__":
    serve(
        {
            "ring-100-sync": ring(100, "hop"),
            "ring-100-async": ring(100, "hop_async"),
            "ring-10000-sync": ring(10_000, "hop"),
            "ring-10000-async": ring(10_000, "hop_async"),
            "ask-sync": ask("add"),
            "ask-async": ask("add_async"),
            "tell": on_uvloop(tell),
            "fan-out": on_uvloop(fan_out),
            "spawn": on_uvloop(spawn),
            "spawn-1000": on_uvloop(spawn_thousand),
            "memory": on_uvloop(memory),
            "virtual-1000": virtual(1_000),
            "virtual-100000": virtual(100_000),
        }
    )
