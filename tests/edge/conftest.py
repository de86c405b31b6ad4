"""A node without a kernel: what the edge needs of one, in a dictionary."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import DaemonFailed, UnknownDaemon, UnknownMessage, to_form
from dan9.edge.port import Callback, Limits, Link
from dan9.edge.server import Server
from dan9.kernel.wires import WireReply, Wires


class Pending:
    """An ask that the fake node has not answered."""

    def __init__(self, callback: Callback) -> None:
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeWires(Wires):
    """What clients ask of the fake."""

    def __init__(self, node: FakeNode) -> None:
        self.node = node

    def hold(self) -> None:
        """Nothing is scheduled here."""

    def turn(self) -> None:
        """The fake answers at once."""

    def ask(
        self,
        sender: str,
        to: str,
        type: str,
        payload: dict[str, Any],
        reply: WireReply,
        timeout_s: float | None = -1.0,
        message_id: str | None = None,
    ) -> Any:
        node = self.node
        node.heard.append(("ask", sender, to, type, payload, timeout_s, message_id))
        node.word.set()
        if to == "nobody":
            raise UnknownDaemon("no daemon nobody", hint="dan9 ps lists them", address=to)
        if type == "echo":
            reply.answer(True, payload)
        elif type == "crash":
            reply.answer(False, to_form(DaemonFailed("it broke", trace="Traceback…")))
        elif type == "odd":
            reply.answer(True, object())
        elif type == "big":
            reply.answer(True, b"x" * payload["size"])
        elif type == "hang":
            pending = Pending(reply.answer)
            node.pending.append(pending)
            node.waiting.setdefault("hang", asyncio.Event()).set()
            return pending
        else:
            reply.answer(False, to_form(UnknownMessage(f"no message {type}", message=type)))
        return None


class FakeNode:
    """Answers as a node would, at once; keeps what it heard."""

    name = "fake"

    def __init__(self) -> None:
        self.wires = FakeWires(self)
        self.heard: list[tuple[Any, ...]] = []
        self.pending: list[Pending] = []
        self.waiting: dict[str, asyncio.Event] = {}
        self.word = asyncio.Event()

    def wire_send(
        self, sender: str, to: str, type: str, payload: Any, callback: Callback, *rest: Any
    ) -> None:
        self.heard.append(("send", sender, to, type, payload))
        callback(True, None)

    def wire_tell(
        self,
        sender: str,
        to: str,
        type: str,
        payload: dict[str, Any],
        *,
        message_id: str | None,
    ) -> None:
        if to == "nobody":
            raise UnknownDaemon("no daemon nobody", address=to)
        self.heard.append(("tell", sender, to, type, payload))

    async def has_heard(self, count: int) -> None:
        """Wait until so many messages have come."""
        while len(self.heard) < count:
            self.word = asyncio.Event()
            await self.word.wait()

    async def has_hanging(self) -> None:
        """Wait until an ask hangs."""
        await self.waiting.setdefault("hang", asyncio.Event()).wait()


class FakeVisit:
    """One client's place in the fake node."""

    def __init__(self, reception: FakeReception, number: int, link: Link) -> None:
        self.reception = reception
        self.link = link
        self.address = f"d9://client/fake/{number}"
        self.ended = asyncio.Event()

    def end(self) -> None:
        self.ended.set()


class FakeReception:
    """Remembers who came."""

    def __init__(self) -> None:
        self.visits: list[FakeVisit] = []

    async def admit(self, number: int, link: Link) -> FakeVisit:
        visit = FakeVisit(self, number, link)
        self.visits.append(visit)
        return visit


class Edge:
    """A fake node that listens."""

    def __init__(self, path: Path, limits: Limits | None) -> None:
        self.node = FakeNode()
        self.reception = FakeReception()
        self.said: list[tuple[str, str]] = []
        self.path = str(path)
        self.server = Server(
            self.node,
            self.path,
            self.reception,
            build="test",
            limits=limits,
            log=lambda level, text: self.said.append((level, text)),
        )


@asynccontextmanager
async def edge_at(path: Path, limits: Limits | None = None) -> AsyncIterator[Edge]:
    """A fake node that listens, for a while."""
    edge = Edge(path, limits)
    await edge.server.start()
    try:
        yield edge
    finally:
        await edge.server.stop()


Run = Callable[..., None]


@pytest.fixture
def run_edge(tmp_path: Path) -> Run:
    """Run `main(edge)` beside a fake node that listens in a temporary folder."""

    def run(main: Callable[[Edge], Awaitable[None]], limits: Limits | None = None) -> None:
        async def body() -> None:
            async with edge_at(tmp_path / "d" / "fake.sock", limits) as edge:
                async with asyncio.timeout(20):
                    await main(edge)

        asyncio.run(body())

    return run


@pytest.fixture(autouse=True)
def no_node_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sockets and state of these tests are in a folder of their own."""
    monkeypatch.delenv("DAN9_SOCKET", raising=False)
    os.makedirs(tmp_path / "run", mode=0o700, exist_ok=True)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
