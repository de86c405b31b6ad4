"""The blocking client, and its asyncio twin: the same calls, the same errors."""

from __future__ import annotations

import asyncio
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from dan9.base.errors import (
    BadPayload,
    Closed,
    DaemonFailed,
    NoNode,
    TimedOut,
    UnknownDaemon,
    UnknownMessage,
    Unreachable,
    WireError,
)
from dan9.base.frame import frame
from dan9.edge import aio, client
from dan9.edge.aio import connect_async
from dan9.edge.client import Client, connect

pytestmark = pytest.mark.real


class Both:
    """One face for both clients: calls are awaited, in a thread where they block."""

    def __init__(self, is_async: bool, path: str) -> None:
        self.is_async = is_async
        self.path = path
        self.client: Any = None

    async def __aenter__(self) -> Self:
        if self.is_async:
            self.client = await connect_async(self.path)
        else:
            self.client = await asyncio.to_thread(connect, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.do("close")

    async def do(self, call: str, *args: Any, **options: Any) -> Any:
        method = getattr(self.client, call)
        if not self.is_async:
            return await asyncio.to_thread(method, *args, **options)
        found = method(*args, **options)
        return await found if asyncio.iscoroutine(found) else found

    async def take(self, events: Any, count: int) -> list[Any]:
        if not self.is_async:
            return await asyncio.to_thread(lambda: [next(events) for _ in range(count)])
        return [await anext(events) for _ in range(count)]


@pytest.fixture(params=[False, True], ids=["blocking", "asyncio"])
def with_client(
    request: pytest.FixtureRequest, run_edge: Any
) -> Callable[[Callable[[Any, Both], Awaitable[None]]], None]:
    """Run `main(edge, client)` with each of the two."""

    def run(main: Callable[[Any, Both], Awaitable[None]]) -> None:
        async def body(edge: Any) -> None:
            async with Both(request.param, edge.path) as both:
                await main(edge, both)

        run_edge(body)

    return run


def test_the_welcome_tells_who_answers(with_client: Any) -> None:
    """Name, process, version, and the address that the node stamps."""

    async def main(edge: Any, both: Both) -> None:
        found = both.client
        assert (found.node, found.build) == ("fake", "test")
        assert found.address == "d9://client/fake/1"
        assert found.pid == edge.server.pid

    with_client(main)


def test_ask_tell_send_and_flush(with_client: Any) -> None:
    """What is told is told in order; flush waits for it."""

    async def main(edge: Any, both: Both) -> None:
        assert await both.do("ask", "x", "echo", a=1, payload={"type": "t", "timeout_s": 2}) == {
            "type": "t",
            "timeout_s": 2,
            "a": 1,
        }
        await both.do("tell", "x", "note", n=1)
        await both.do("tell", "x", "note", payload={"n": 2})
        await both.do("flush")
        assert [heard[4] for heard in edge.node.heard if heard[0] == "tell"] == [{"n": 1}, {"n": 2}]
        await both.do("send", "x", "note", n=3, timeout_s=2)
        assert edge.node.heard[-1][0] == "send"

    with_client(main)


def test_values_go_out_as_wire_data(with_client: Any) -> None:
    """Fractions are text, bytes are bytes, integers have no bounds."""

    async def main(edge: Any, both: Both) -> None:
        found = await both.do("ask", "x", "echo", f=Fraction(1, 3), b=b"\xff", i=2**80, t=(1, 2))
        assert found == {"f": "1/3", "b": b"\xff", "i": str(2**80), "t": [1, 2]}
        for wrong in (math.nan, object(), {1: 2}):
            with pytest.raises(BadPayload):
                await both.do("ask", "x", "echo", wrong=wrong)
        assert await both.do("ask", "x", "echo") == {}

    with_client(main)


def test_errors_come_back_as_their_classes(with_client: Any) -> None:
    """With text, hint and traceback."""

    async def main(edge: Any, both: Both) -> None:
        with pytest.raises(UnknownDaemon, match="no daemon nobody") as unknown:
            await both.do("ask", "nobody", "echo")
        assert unknown.value.hint == "dan9 ps lists them"
        with pytest.raises(UnknownMessage):
            await both.do("ask", "x", "what")
        with pytest.raises(DaemonFailed) as failed:
            await both.do("ask", "x", "crash")
        assert failed.value.trace == "Traceback…"

    with_client(main)


def test_deadlines_are_told_to_the_node_and_held_by_the_client(
    with_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By default the message's own; None is none; a node that says nothing is not waited for."""
    for module in (client, aio):
        monkeypatch.setattr(module, "GRACE_S", 0.02)

    async def main(edge: Any, both: Both) -> None:
        await both.do("ask", "x", "echo")
        await both.do("ask", "x", "echo", timeout_s=3)
        await both.do("ask", "x", "echo", timeout_s=None)
        await both.do("ask", "x", "echo", message_id="m1")
        assert [heard[5] for heard in edge.node.heard] == [-1.0, 3, None, -1.0]
        assert edge.node.heard[-1][6] == "m1"
        with pytest.raises(TimedOut, match=r"x did not answer hang within 0\.01 s") as caught:
            await both.do("ask", "x", "hang", timeout_s=0.01)
        assert caught.value.timeout_s == 0.01
        await both.do("flush")
        assert edge.node.pending[0].is_cancelled

    with_client(main)


def test_a_large_payload_goes_both_ways(with_client: Any) -> None:
    """A mebibyte and more, in one frame."""

    async def main(edge: Any, both: Both) -> None:
        data = bytes(range(256)) * 20_000
        assert (await both.do("ask", "x", "echo", data=data))["data"] == data
        with pytest.raises(WireError, match="over the limit"):
            await both.do("ask", "x", "echo", data=bytes(65 * 1024 * 1024))
        assert await both.do("ask", "x", "echo") == {}

    with_client(main)


def test_events_are_acknowledged_when_the_next_is_wanted(with_client: Any) -> None:
    """The source knows how far its reader is."""

    async def main(edge: Any, both: Both) -> None:
        taken = asyncio.Queue[int]()
        link = edge.reception.visits[0].link
        for n in range(3):
            link.deliver("d9://a/b/c", "changed", {"n": n}, lambda n=n: taken.put_nowait(n))
        events = both.client.events()
        first, second = await both.take(events, 2)
        assert (first.sender, first.type, first.payload) == ("d9://a/b/c", "changed", {"n": 0})
        assert second.payload == {"n": 1}
        assert await taken.get() == 0
        assert taken.empty()
        await both.take(events, 1)
        assert await taken.get() == 1

    with_client(main)


def test_a_subscription_has_a_connection_of_its_own(with_client: Any) -> None:
    """Its end is the iterator's end."""

    async def main(edge: Any, both: Both) -> None:
        events = both.client.subscribe("x", "echo", payload={"path": "/"})
        taking = asyncio.create_task(both.take(events, 1))
        await edge.node.has_heard(1)
        visit = edge.reception.visits[1]
        assert edge.node.heard[0][1] == visit.address
        visit.link.deliver("x", "changed", {"n": 1}, lambda: None)
        assert await taking == [{"n": 1}]
        if both.is_async:
            await events.aclose()
        else:
            await asyncio.to_thread(events.close)
        await visit.ended.wait()

    with_client(main)


def test_a_node_that_stops_says_so_to_all(with_client: Any) -> None:
    """Open asks, and every later call, get an error that says what happened."""

    async def main(edge: Any, both: Both) -> None:
        asking = asyncio.create_task(both.do("ask", "x", "hang"))
        await edge.node.has_hanging()
        await edge.server.stop()
        with pytest.raises(Closed, match="stopped before it answered"):
            await asking
        with pytest.raises((Closed, Unreachable)) as caught:
            await both.do("ask", "x", "echo")
        assert "fake" in caught.value.text

    with_client(main)


def test_a_node_that_dies_in_the_middle_is_told(with_client: Any) -> None:
    """Whether the message was handled is not known, and the error says that."""

    async def main(edge: Any, both: Both) -> None:
        asking = asyncio.create_task(both.do("ask", "x", "hang"))
        await edge.node.has_hanging()
        for connection in list(edge.server._connections):
            connection._transport.abort()
        with pytest.raises(Unreachable, match="the node fake ended the connection") as caught:
            await asking
        assert "not known" in caught.value.hint
        with pytest.raises(Unreachable):
            await both.do("ask", "x", "echo")

    with_client(main)


def test_a_closed_client_says_so(with_client: Any) -> None:
    """Closing twice is one closing; iterating over events just ends."""

    async def main(edge: Any, both: Both) -> None:
        await both.do("close")
        await both.do("close")
        with pytest.raises(Closed, match="this client is closed"):
            await both.do("ask", "x", "echo")
        if both.is_async:
            assert [event async for event in both.client.events()] == []
        else:
            assert list(both.client.events()) == []

    with_client(main)


# ------------------------------------------------------------------ what listens


def answering(path: str, reply: bytes) -> threading.Thread:
    """Something that listens, says its piece to one peer, and goes."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen()

    def serve() -> None:
        with listener:
            peer, _ = listener.accept()
            with peer:
                peer.recv(1000)
                peer.sendall(reply)

    thread = threading.Thread(target=serve)
    thread.start()
    return thread


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        (b"", Unreachable, "ended the connection"),
        (b"HTTP/1.1 400 Bad Request", WireError, "began with 'HTTP'"),
        (frame(msgspec.msgpack.encode({})), WireError, "no welcome"),
        (frame(b"\xc1"), WireError, "cannot be read"),
        (
            frame(msgspec.msgpack.encode({"error": {"code": "not-allowed", "text": "go away"}})),
            Exception,
            "go away",
        ),
        (
            frame(
                msgspec.msgpack.encode(
                    {"hello": "dan9", "version": 9, "node": "n", "pid": 1, "build": "9",
                     "address": "d9://client/n/1", "max-frame-bytes": 9}
                )
            ),
            WireError,
            "version 9, this client dan9 version 1",
        ),
    ],
)  # fmt: skip
def test_what_is_no_node_of_ours_is_told(
    tmp_path: Path, reply: bytes, error: type[Exception], text: str, is_async: bool
) -> None:
    """Another program, another version, a refusal: each by name."""
    path = str(tmp_path / "x.sock")
    thread = answering(path, reply)
    with pytest.raises(error, match=text):
        if is_async:
            asyncio.run(connect_async(path))  # type: ignore[arg-type]  # it is a coroutine
        else:
            connect(path)
    thread.join()


@pytest.mark.parametrize("is_async", [False, True])
def test_nobody_there_is_no_node(tmp_path: Path, is_async: bool) -> None:
    """Neither a missing socket nor a stale one."""
    stale = str(tmp_path / "stale.sock")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(stale)
    for path in (stale, str(tmp_path / "none.sock")):
        with pytest.raises(NoNode, match="no node listens at") as caught:
            if is_async:
                asyncio.run(connect_async(path))  # type: ignore[arg-type]  # it is a coroutine
            else:
                connect(path)
        assert "dan9 up" in caught.value.hint


def test_a_node_that_does_not_answer_is_told(
    run_edge: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A stopped or blocked process is not waited for without end."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.02)
    path = str(tmp_path / "deaf.sock")
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(path)
        deaf.listen()
        with pytest.raises(Unreachable, match="does not answer"):
            connect(path)

    async def main(edge: Any) -> None:
        found = await asyncio.to_thread(connect, edge.path)
        asking = asyncio.create_task(asyncio.to_thread(found.ask, "x", "hang", timeout_s=None))
        await edge.node.has_hanging()
        for connection in list(edge.server._connections):
            connection._transport.pause_reading()
        with pytest.raises(Unreachable, match=r"the node fake \(pid \d+\) does not answer"):
            await asking
        found.close()

    run_edge(main)


def test_a_slow_answer_is_waited_for_while_the_node_lives(
    run_edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is asked about, and the word that it lives is enough."""
    monkeypatch.setattr(client, "PATIENCE_S", 0.01)
    pings = 0

    async def main(edge: Any) -> None:
        found = await asyncio.to_thread(connect, edge.path)
        asking = asyncio.create_task(asyncio.to_thread(found.ask, "x", "hang", timeout_s=None))
        await edge.node.has_hanging()
        alive = asyncio.Event()
        loop = asyncio.get_running_loop()
        write = found._write

        def counting(pieces: list[bytes]) -> None:
            nonlocal pings
            pings += 1
            write(pieces)
            if pings == 5:
                loop.call_soon_threadsafe(alive.set)

        found._write = counting  # type: ignore[method-assign]
        await alive.wait()
        edge.node.pending[0].callback(True, "at last")
        assert await asking == "at last"
        found.close()

    run_edge(main)


# ----------------------------------------------------------------------- threads


def test_threads_share_a_client(run_edge: Any) -> None:
    """Each gets its own answers, whoever reads them."""

    async def main(edge: Any) -> None:
        def work() -> int:
            with Client(edge.path) as found, ThreadPoolExecutor(8) as pool:
                asked = [pool.submit(found.ask, "x", "echo", n=n) for n in range(400)]
                return sum(future.result()["n"] == n for n, future in enumerate(asked))

        assert await asyncio.to_thread(work) == 400

    run_edge(main)


def test_closing_wakes_those_who_wait(run_edge: Any) -> None:
    """From another thread as well."""

    async def main(edge: Any) -> None:
        found = await asyncio.to_thread(connect, edge.path)
        asking = [asyncio.create_task(asyncio.to_thread(found.ask, "x", "hang")) for _ in range(2)]
        await edge.node.has_heard(2)
        found.close()
        for each in asking:
            with pytest.raises(Closed):
                await each

    run_edge(main)


def test_asyncio_asks_are_pipelined_and_cancelled(run_edge: Any) -> None:
    """A thousand in flight; a cancelled one is given up in the node."""

    async def main(edge: Any) -> None:
        async with await connect_async(edge.path) as found:
            replies = await asyncio.gather(*(found.ask("x", "echo", n=n) for n in range(1000)))
            assert [reply["n"] for reply in replies] == list(range(1000))
            asking = asyncio.create_task(found.ask("x", "hang"))
            await edge.node.has_hanging()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            await found.flush()
            assert edge.node.pending[0].is_cancelled

    run_edge(main)


def test_the_client_imports_neither_kernel_nor_asyncio() -> None:
    """The command line's start-up bound rests on this."""
    code = (
        "import sys, dan9.edge.client; "
        "print([m for m in sys.modules if m.split('.')[0] in ('asyncio', 'httpx', 'psutil')"
        " or m.startswith('dan9.kernel')])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert found.stdout.strip() == "[]"
