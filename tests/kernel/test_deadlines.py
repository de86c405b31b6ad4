"""Deadlines that travel, cycles refused at once, handlers that end with their asker."""

import asyncio

import pytest

from dan9 import AskCycle, Config, Daemon, DaemonFailed, TimedOut, current_message, gather, on
from dan9.testing import run, system


class Node(Daemon):
    """Passes asks on."""

    to: Config[list[str]] = []

    @on
    async def relay(self, left: int = 0) -> float:
        """Ask the next; the last one says how much time was left."""
        if not self.to:
            return current_message().deadline - self.clock.monotonic()
        return await self.ask(self.to[0], "relay")

    @on
    async def slow_relay(self) -> float:
        """Take a second, then ask with a generous deadline of one's own."""
        await self.sleep("1s")
        return await self.ask(self.to[0], "relay", timeout_s=60)

    @on
    async def fan(self) -> list[float]:
        """Ask all the others at once."""
        return await gather(*(self.ref(Node, to).relay() for to in self.to))

    @on(concurrent=True)
    async def open_relay(self) -> str:
        """Ask the next, without blocking this daemon."""
        return await self.ask(self.to[0], "answer")

    @on
    async def answer(self) -> str:
        """Ask back whoever is next."""
        if self.to:
            return await self.ask(self.to[0], "plain")
        return "end"

    @on
    def plain(self) -> str:
        """Answer at once."""
        return "plain"

    @on
    async def hang(self) -> None:
        """Take an hour."""
        await self.sleep("1h")

    @on(cancellable=True)
    async def endable(self) -> None:
        """Take an hour, unless the asker gives up."""
        try:
            await self.sleep("1h")
        finally:
            self._d9_count("ended")

    @on
    async def receive(self, timeout: float | None = 2.0) -> str:
        """Wait on the world for as long as it is told."""
        await self.sleep("1h" if timeout is None else timeout)
        return "nothing came"


def test_the_default_is_five_seconds_exactly():
    """An ask nobody answers fails after 5 s of virtual time, to the instant."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Node, "n")
            with pytest.raises(TimedOut) as late:
                await ref.hang()
            assert s.clock.monotonic() == 5.0
            assert late.value.timeout_s == 5.0
            assert (late.value.address, late.value.message) == ("d9://node/default/n", "hang")

    run(main)


@pytest.mark.parametrize("timeout_s", [0.01, 0.24, 0.25, 1.0, 3.3, 7.77])
def test_any_deadline_is_exact(timeout_s):
    """Deadlines fire at their instant, whatever bucket they lie in."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Node, "n")
            await s.sleep("0.1s")
            with pytest.raises(TimedOut):
                await ref.hang.within(timeout_s)()
            assert s.clock.monotonic() == pytest.approx(0.1 + timeout_s, abs=1e-6)

    run(main)


def test_a_deadline_travels_with_nested_asks():
    """A nested ask has what is left of the first one, not five seconds more."""

    async def main():
        async with system() as s:
            await s.spawn(Node, "c")
            await s.spawn(Node, "b", to=["c"])
            a = await s.spawn(Node, "a", to=["b"])
            assert await a.relay.within(2.0)() == pytest.approx(2.0)
            assert await a.slow_relay.within(3.0)() == pytest.approx(2.0)

    run(main)


def test_an_ask_that_expired_in_the_queue_is_not_handled():
    """It is a dead letter `expired`; the handler never sees it."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Node, "n")
            ref.receive.tell(3.0)
            with pytest.raises(TimedOut):
                await ref.plain.within(1.0)()
            await s.sleep("5s")
            assert "plain-count" not in await ref.metrics()
            assert s.dead_letters.by_reason["expired"] == 1

    run(main)


def test_a_late_reply_is_counted_and_dropped():
    """The handler goes on when its asker has given up; its reply goes nowhere."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Node, "n")
            with pytest.raises(TimedOut):
                await ref.receive.within(1.0)(2.0)
            await s.sleep("5s")
            assert s.scheduler.late == 1
            assert (await ref.metrics())["receive-count"] == 1

    run(main)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_cancellable_handler_ends_with_its_asker(how):
    """@on(cancellable=True): when the asker gives up, CancelledError ends the handler."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Node, "n")
            if how == "timeout":
                with pytest.raises(TimedOut):
                    await ref.endable.within(1.0)()
            else:
                task = asyncio.create_task(ref.endable())
                await s.sleep("1s")
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            await s.sleep("0.1s")
            assert (await ref.metrics())["ended"] == 1
            assert await ref.plain() == "plain", "the daemon goes on"

    run(main)


def test_a_payload_key_timeout_sets_the_deadline():
    """`timeout` of t gives t + 1 s; None waits for as long as the asker does."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Node, "n")
            assert await ref.receive(30.0) == "nothing came"
            assert await ref.receive(timeout=8.0) == "nothing came"
            assert await s.ask("n", "receive", timeout=None) == "nothing came"
            assert s.clock.monotonic() == pytest.approx(3638.0)

    run(main)


@pytest.mark.parametrize("length", [1, 2, 3, 10])
def test_a_cycle_of_asks_is_refused_at_once_with_its_chain(length):
    """a → b → … → a fails without waiting; the chain names everyone in it."""

    async def main():
        async with system() as s:
            names = [f"n{i}" for i in range(length)]
            for i, name in enumerate(names):
                await s.spawn(Node, name, to=[names[(i + 1) % length]])
            with pytest.raises(AskCycle) as cycle:
                await s.ask("n0", "relay")
            assert s.clock.monotonic() == 0.0
            assert len(cycle.value.chain) == length + 1
            assert cycle.value.chain[0] == cycle.value.chain[-1]

    run(main)


def test_a_cycle_through_a_gather_is_found():
    """Asks that are waited for together are edges of the graph as well."""

    async def main():
        async with system() as s:
            await s.spawn(Node, "leaf")
            await s.spawn(Node, "back", to=["root"])
            root = await s.spawn(Node, "root", to=["leaf", "back"])
            with pytest.raises(AskCycle):
                await root.fan()
            assert s.clock.monotonic() == 0.0

    run(main)


def test_a_daemon_that_does_not_block_breaks_no_cycle():
    """a (concurrent) → b → a is no deadlock, and is let through."""

    async def main():
        async with system() as s:
            a = await s.spawn(Node, "a", to=["b"])
            await s.spawn(Node, "b", to=["a"])
            assert await a.open_relay() == "plain"

    run(main)


def test_two_that_wait_for_each_other_from_outside_are_a_cycle():
    """It is who waits on whom that counts, not who called first."""

    class Peer(Daemon):
        to: Config[str]

        @on
        async def go(self) -> str:
            await self.sleep("1s")
            return await self.ask(self.to, "plain")

        @on
        def plain(self) -> str:
            return "plain"

    async def main():
        async with system() as s:
            a = await s.spawn(Peer, "a", to="b")
            b = await s.spawn(Peer, "b", to="a")
            first, second = await asyncio.gather(a.go(), b.go(), return_exceptions=True)
            kinds = {type(first), type(second)}
            assert AskCycle in kinds
            assert s.clock.monotonic() == 1.0

    run(main)


def test_explain_says_who_waits_on_whom_since_when():
    """`explain` shows what is in hand, on whom it waits, and who waits for it."""

    async def main():
        async with system() as s:
            await s.spawn(Node, "c")

            class Asker(Daemon):
                @on
                async def go(self) -> None:
                    await self.ask("c", "hang", timeout_s=60)

            a = await s.spawn(Asker, "a")
            a.go.tell()
            await s.sleep("2s")
            told = s.explain("a")
            assert told["in-hand"][0]["on"] == "'hang' of d9://node/default/c"
            assert told["in-hand"][0]["since-s"] == 2.0
            assert s.explain("c")["waited-for-by"][0]["address"] == "d9://asker/default/a"

    run(main)


def test_a_crash_in_a_nested_ask_reaches_the_first_asker():
    """DaemonFailed of the inner daemon crashes the outer handler unless it is caught."""

    class Bad(Daemon):
        @on
        def relay(self, left: int = 0) -> None:
            raise RuntimeError("inner")

    async def main():
        async with system() as s:
            await s.spawn(Bad, "bad")
            a = await s.spawn(Node, "a", to=["bad"])
            with pytest.raises(DaemonFailed, match="inner"):
                await a.relay()

    run(main)
