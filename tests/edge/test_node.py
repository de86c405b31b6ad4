"""The socket before a real system: clients are daemons among daemons."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import (
    BadPayload,
    DaemonFailed,
    TimedOut,
    UnknownDaemon,
    UnknownMessage,
)
from dan9.edge.aio import AsyncClient, connect_async
from dan9.edge.client import connect
from dan9.edge.guest import KernelReception
from dan9.edge.outbox import Outbox
from dan9.edge.port import Limits
from dan9.edge.protocol import Hello, Request
from dan9.edge.server import Server
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System, current_message
from dan9.kernel.subscription import Subscription

pytestmark = pytest.mark.real


class Counter(Daemon):
    """Counts what it is told to count."""

    total: int = 0

    async def on_start(self) -> None:
        self._never = asyncio.Event()
        self._subscriptions: list[Subscription] = []
        self._ended = asyncio.Event()

    @on
    async def add(self, by: int = 1) -> int:
        """Add to the total."""
        self.total += by
        return self.total

    @on
    def echo(self, data: bytes | str) -> bytes | str:
        """Give it back."""
        return data

    @on
    def whoami(self) -> str:
        """Say who asks."""
        message = current_message()
        assert message is not None
        return message.sender

    @on
    def crash(self) -> None:
        """Break."""
        raise RuntimeError("it broke")

    @on(concurrent=True, cancellable=True)
    async def hang(self) -> None:
        """Wait for what never comes."""
        await self._never.wait()

    @on
    def watch(self, limit: int = 2, overflow: str = "pause") -> str:
        """Subscribe the asker to `counted`."""
        message = current_message()
        assert message is not None
        found = Subscription(
            self,
            message.sender,
            "counted",
            limit=limit,
            overflow=overflow,  # type: ignore[arg-type]  # one of two words
            on_end=self._ended.set,
        )
        self._subscriptions.append(found)
        return found.id

    @on(concurrent=True)
    async def push(self, up_to: int) -> int:
        """Send so many events to each subscriber."""
        for n in range(up_to):
            for found in self._subscriptions:
                await found.push(n=n, told_by=self.address, deep={"a_b": n})
        return up_to

    @on
    def unanswered(self) -> list[int]:
        """Say how many events are out, for each subscriber."""
        return [found.unanswered for found in self._subscriptions]

    @on(concurrent=True)
    async def ended(self) -> bool:
        """Wait until a subscription ends."""
        await self._ended.wait()
        return True


COUNTER = "d9://counter/default/c1"
Main = Callable[[System, str], Awaitable[None]]


def with_node(tmp_path: Path, main: Main, limits: Limits | None = None) -> None:
    """Run a node with one counter, and something beside it."""

    async def body() -> None:
        async with System("home", daemons="none", socket=False) as system:
            path = str(tmp_path / "d" / "home.sock")
            server = Server(system, path, KernelReception(system), build="test", limits=limits)
            await server.start()
            await system.spawn(Counter, "c1")
            try:
                async with asyncio.timeout(20):
                    await main(system, path)
            finally:
                await server.stop()

    asyncio.run(body())


def test_a_client_asks_daemons(tmp_path: Path) -> None:
    """By address and by name; every refusal by its class."""

    async def main(system: System, path: str) -> None:
        async with await connect_async(path) as node:
            assert node.node == "home"
            assert await node.ask(COUNTER, "add", by=5) == 5
            assert await node.ask("c1", "add") == 6
            node.tell("c1", "add", by=4)
            await node.send("c1", "add", by=10)
            assert await node.ask("c1", "add", by=0) == 20
            data = bytes(range(256)) * 4096
            assert await node.ask("c1", "echo", data=data) == data
            for error, call in (
                (UnknownDaemon, node.ask("c2", "add")),
                (UnknownMessage, node.ask("c1", "ad")),
                (BadPayload, node.ask("c1", "add", by="x")),
                (BadPayload, node.ask("c1", "add", bye=1)),
                (TimedOut, node.ask("c1", "hang", timeout_s=0.01)),
                (UnknownDaemon, node.send("c2", "add")),
            ):
                with pytest.raises(error):
                    await call

    with_node(tmp_path, main)


def test_a_crash_reaches_the_asker(tmp_path: Path) -> None:
    """With the traceback; the daemon comes back under its old address."""

    async def main(system: System, path: str) -> None:
        async with await connect_async(path) as node:
            with pytest.raises(DaemonFailed) as caught:
                await node.ask("c1", "crash")
            assert "it broke" in caught.value.trace
            while system.state_of(COUNTER) != "running":  # noqa: ASYNC110  (backoff, in real time)
                await asyncio.sleep(0)
            assert await node.ask("c1", "add", by=1) == 1

    with_node(tmp_path, main)


def test_the_blocking_client_asks_them_too(tmp_path: Path) -> None:
    """From a thread beside the node."""

    async def main(system: System, path: str) -> None:
        def work() -> Any:
            with connect(path) as node:
                node.tell("c1", "add", by=1)
                node.flush()
                return node.ask("c1", "add", by=1), node.ask("c1", "describe")

        total, described = await asyncio.to_thread(work)
        assert total == 2
        assert any(message["type"] == "add" for message in described["messages"])

    with_node(tmp_path, main)


def test_the_node_stamps_the_sender(tmp_path: Path) -> None:
    """A client is a daemon with an address of its own, gone when it hangs up."""

    async def main(system: System, path: str) -> None:
        async with await connect_async(path) as one, await connect_async(path) as two:
            assert await one.ask("c1", "whoami") == one.address == "d9://client/home/1"
            assert await two.ask("c1", "whoami") == two.address == "d9://client/home/2"
            status = await one.ask(two.address, "status")
            assert status["state"] == "running"
            assert status["unanswered"] == 0
        await gone(system)

    with_node(tmp_path, main)


async def gone(system: System) -> None:
    """Wait until no client's daemon is left."""
    while system.addresses("d9://client/**"):  # noqa: ASYNC110  (a few turns of the loop)
        await asyncio.sleep(0)


def test_a_tell_to_a_pattern_keeps_its_sender(tmp_path: Path) -> None:
    """Everyone it fits hears who says it; who does not know the message is left out."""

    class Ear(Daemon):
        heard: list[str] = []

        @on
        def word(self) -> None:
            message = current_message()
            assert message is not None
            self.heard.append(message.sender)

        @on
        def said(self) -> list[str]:
            return self.heard

    async def main(system: System, path: str) -> None:
        for name in ("left", "right"):
            await system.spawn(Ear, name)
        async with await connect_async(path) as node:
            node.tell("d9://**", "word")
            assert await node.ask("left", "said") == [node.address]
            assert await node.ask("right", "said") == [node.address]

    with_node(tmp_path, main)


def test_a_flood_does_not_keep_others_waiting(tmp_path: Path) -> None:
    """A daemon that never runs out of messages, 50 us each, and one that is asked from outside.

    The scheduler's time stands still but for the flood's, so the bound holds on any machine.
    """
    now = 1000.0

    class Flooded(Daemon):
        handled: int = 0
        is_over: bool = False

        @on
        def work(self) -> None:
            nonlocal now
            now += 50e-6
            self.handled += 1
            if not self.is_over:
                self.work.tell()

        @on
        def end(self) -> int:
            self.is_over = True
            return self.handled

    async def main(system: System, path: str) -> None:
        flooded = await system.spawn(Flooded, "flooded")
        async with await connect_async(path) as node:
            await node.ask("c1", "add")
            system.scheduler.monotonic = lambda: now
            for _ in range(1000):
                flooded.work.tell()
            waits = []
            for _ in range(50):
                asked = now
                await node.ask("c1", "add")
                waits.append(now - asked)
            assert await flooded.end() > 1000
        assert max(waits) < 0.02  # some turns of 1.6 ms: for the client too, whose loop it is

    with_node(tmp_path, main)


def test_a_hangup_cancels_what_was_asked(tmp_path: Path) -> None:
    """Even what has no deadline."""

    async def main(system: System, path: str) -> None:
        node = await connect_async(path)
        asking = asyncio.create_task(node.ask("c1", "hang", timeout_s=None))
        await node.flush()
        await node.close()
        with pytest.raises(Exception, match="closed"):
            await asking
        await gone(system)

    with_node(tmp_path, main)


async def taken(events: Any, count: int) -> list[int]:
    """The numbers of so many events."""
    return [(await anext(events)).payload["n"] for _ in range(count)]


def test_a_source_pauses_until_the_client_acknowledges(tmp_path: Path) -> None:
    """At most `limit` events are out, across the socket."""

    async def main(system: System, path: str) -> None:
        async with await connect_async(path) as node, await connect_async(path) as other:
            await node.ask("c1", "watch", limit=2)
            pushing = asyncio.create_task(other.ask("c1", "push", up_to=5, timeout_s=None))
            events = node.events()
            first = await anext(events)
            assert first.sender == COUNTER
            assert first.type == "counted"
            assert first.payload == {"n": 0, "told-by": COUNTER, "deep": {"a_b": 0}}
            assert await other.ask("c1", "unanswered") == [2]
            assert not pushing.done()
            assert await taken(events, 4) == [1, 2, 3, 4]
            assert await pushing == 5

    with_node(tmp_path, main)


def test_a_dropping_source_says_how_much(tmp_path: Path) -> None:
    """Logs and watches do not wait for a slow reader."""

    async def main(system: System, path: str) -> None:
        async with await connect_async(path) as node, await connect_async(path) as other:
            await node.ask("c1", "watch", limit=2, overflow="drop")
            await other.ask("c1", "push", up_to=5)
            events = node.events()
            assert await taken(events, 2) == [0, 1]
            node._say(Request("ack", event=2))
            await node.flush()
            await other.ask("c1", "push", up_to=1)
            assert (await anext(events)).payload["dropped"] == 3

    with_node(tmp_path, main)


def test_a_subscription_ends_with_its_connection(tmp_path: Path) -> None:
    """The source hears of it, and nobody answers for the dead."""

    async def main(system: System, path: str) -> None:
        node: AsyncClient = await connect_async(path)
        async with await connect_async(path) as other:
            await node.ask("c1", "watch", limit=2)
            pushing = asyncio.create_task(other.ask("c1", "push", up_to=5, timeout_s=None))
            await anext(node.events())
            await node.close()
            assert await other.ask("c1", "ended", timeout_s=None) is True
            with pytest.raises(Exception, match="has ended"):
                await pushing

    with_node(tmp_path, main)


def test_a_ref_crosses_the_wire_as_its_address(tmp_path: Path) -> None:
    """In a reply; and a parameter that takes a daemon takes an address."""

    class Friend(Daemon):
        @on
        async def friend(self, other: Counter) -> Counter:
            return self.ref(Counter, str(getattr(other, "address", other)))

    async def main(system: System, path: str) -> None:
        await system.spawn(Friend, "f1")
        async with await connect_async(path) as node:
            assert await node.ask("f1", "friend", other=COUNTER) == COUNTER

    with_node(tmp_path, main)


def test_clients_that_hang_up_while_they_are_let_in_leave_nothing(tmp_path: Path) -> None:
    """No daemon stays behind for a connection that is gone."""

    async def main(system: System, path: str) -> None:
        hello = bytearray()
        for message in (Hello("dan9", 1), Request("ask", 1, "c1", "hang", timeout="none")):
            out = Outbox()
            out.add(message, 1000)
            hello += b"".join(out.take())
        for turns in range(12):
            _, writer = await asyncio.open_unix_connection(path)
            writer.write(hello)
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.close()
        await gone(system)
        assert system.conservation()["in-hand"] == 0

    with_node(tmp_path, main)
