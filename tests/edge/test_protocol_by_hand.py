"""The protocol as docs/reference/protocol.md tells it, with a socket and a msgpack library alone.

Nothing of Dan9 is imported here but the fake node that listens: this is a client in another
language, written in Python.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dan9.edge.port import Limits

pytestmark = pytest.mark.real


class Raw:
    """A client made from the reference page."""

    opened: ClassVar[list[Raw]] = []

    def __init__(self, path: str, *, greet: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.opened.append(self)
        self.socket.connect(path)
        self.welcome: dict[str, Any] = {}
        if greet:
            self.say({"hello": "dan9", "version": 1})
            self.welcome = self.hear()

    def say(self, message: dict[str, Any]) -> None:
        self.write(framed(message))

    def write(self, data: bytes) -> None:
        self.socket.sendall(data)

    def hear(self) -> dict[str, Any]:
        (length,) = struct.unpack(">I", self.read(4))
        found: dict[str, Any] = msgspec.msgpack.decode(self.read(length))
        return found

    def read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            piece = self.socket.recv(length - len(data))
            if not piece:
                raise EOFError(data)
            data += piece
        return data

    def is_closed(self) -> bool:
        return self.socket.recv(1) == b""

    def call(self, **message: Any) -> dict[str, Any]:
        self.say(message)
        return self.hear()


@pytest.fixture(autouse=True)
def hang_up() -> Iterator[None]:
    """Close what a test opened."""
    yield
    while Raw.opened:
        Raw.opened.pop().socket.close()


def framed(message: dict[str, Any]) -> bytes:
    """One frame."""
    body = msgspec.msgpack.encode(message)
    return struct.pack(">I", len(body)) + body


def by_hand(run_edge: Any, script: Any, limits: Limits | None = None) -> Any:
    """Run a blocking script against the fake node; return the fake for a look at it."""
    kept: list[Any] = []

    async def main(edge: Any) -> None:
        kept.append(edge)
        await asyncio.to_thread(script, edge.path)

    run_edge(main, limits)
    return kept[0]


def test_a_conversation(run_edge: Any) -> None:
    """Hello, an ask, a tell, a send, refusals: each as the page says."""

    def script(path: str) -> None:
        raw = Raw(path)
        assert raw.welcome["hello"] == "dan9"
        assert raw.welcome["version"] == 1
        assert raw.welcome["node"] == "fake"
        assert raw.welcome["build"] == "test"
        assert raw.welcome["address"] == "d9://client/fake/1"
        assert raw.welcome["pid"] > 0
        assert raw.welcome["max-frame-bytes"] == 64 * 1024 * 1024
        ask = {"kind": "ask", "to": "x", "type": "echo", "payload": {"a-b": b"\xff"}}
        assert raw.call(id=1, **ask) == {"id": 1, "ok": {"a-b": b"\xff"}}
        assert raw.call(id=2, kind="send", to="x", type="t") == {"id": 2, "ok": None}
        assert raw.call(id=3, kind="tell", to="x", type="t") == {"id": 3, "ok": None}
        raw.say({"kind": "tell", "to": "x", "type": "unanswered"})
        raw.say({"kind": "tell", "to": "nobody", "type": "unanswered"})
        assert raw.call(id=4, kind="ping") == {"id": 4, "ok": "pong"}
        error = raw.call(id=5, kind="ask", to="nobody", type="echo")
        assert error["id"] == 5
        assert error["error"]["code"] == "unknown-daemon"
        assert (
            raw.call(id=6, to="nobody", kind="tell", type="t")["error"]["code"]
            == error["error"]["code"]
        )
        assert raw.call(id=7, kind="ask", to="x", type="crash")["error"]["trace"] == "Traceback…"
        raw.socket.close()

    edge = by_hand(run_edge, script)
    assert edge.node.heard[0] == (
        "ask", "d9://client/fake/1", "x", "echo", {"a-b": b"\xff"}, -1.0, None,
    )  # fmt: skip
    assert ("tell", "d9://client/fake/1", "x", "unanswered", {}) in edge.node.heard


def test_the_first_frame_may_be_followed_at_once(run_edge: Any) -> None:
    """A client need not wait for the welcome; answers come in order after it."""

    def script(path: str) -> None:
        raw = Raw(path, greet=False)
        frames = [{"hello": "dan9", "version": 1}]
        frames += [{"id": n, "to": "x", "type": "echo", "payload": {"n": n}} for n in range(3)]
        raw.write(b"".join(map(framed, frames)))
        assert raw.hear()["hello"] == "dan9"
        assert [raw.hear() for _ in range(3)] == [{"id": n, "ok": {"n": n}} for n in range(3)]

    by_hand(run_edge, script)


def test_a_later_client_is_answered_in_this_version(run_edge: Any) -> None:
    """The node says which version both will speak; unknown keys are passed over."""

    def script(path: str) -> None:
        raw = Raw(path, greet=False)
        raw.say({"hello": "dan9", "version": 7, "novelty": [1]})
        assert raw.hear()["version"] == 1
        assert raw.call(id=1, to="x", type="echo", novelty=True) == {"id": 1, "ok": {}}

    by_hand(run_edge, script)


@pytest.mark.parametrize(("timeout", "seen"), [(2, 2.0), (0.5, 0.5), ("none", None), (None, -1.0)])
def test_timeouts_reach_the_node(run_edge: Any, timeout: object, seen: float | None) -> None:
    """Seconds, `none` for ever, absent for the message's own."""

    def script(path: str) -> None:
        raw = Raw(path)
        raw.call(id=1, to="x", type="echo", timeout=timeout, **{"message-id": "m1"})

    edge = by_hand(run_edge, script)
    assert edge.node.heard[0][-2:] == (seen, "m1")


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"id": 1, "kind": "shout"}, "a request of kind 'shout'"),
        ({"id": 1, "to": "x", "type": "echo", "timeout": "soon"}, "a timeout of 'soon'"),
        ({"id": 1, "to": "x", "type": "echo", "timeout": -1}, "a timeout of -1"),
        ({"id": 1, "to": 7}, "no request: Expected `str`, got `int` - at `$.to`"),
        ({"id": 1, "payload": [1]}, "no request: Expected `object`, got `array`"),
        ({"id": 1, "to": "x", "type": "odd"}, "the reply cannot cross a wire"),
        ({"id": 1, "to": "x", "type": "big", "payload": {"size": 70_000_000}}, "over the limit"),
        ({"to": "x", "type": "echo"}, "an ask without an id"),
    ],
)
def test_a_wrong_request_is_answered_and_the_connection_lives(
    run_edge: Any, request_: dict[str, Any], text: str
) -> None:
    """One bad request harms nobody."""

    def script(path: str) -> None:
        raw = Raw(path)
        found = raw.call(**request_)
        assert found["id"] == request_.get("id")
        assert text in found["error"]["text"]
        assert raw.call(id=2, kind="ping")["ok"] == "pong"

    by_hand(run_edge, script)


HELLO = framed({"hello": "dan9", "version": 1})
BAD_STREAMS = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "began with 'GET '"),
    "a frame over the limit": (struct.pack(">I", 1 << 31), "over the limit"),
    "an empty frame": (struct.pack(">I", 0), "0 bytes"),
    "no msgpack": (struct.pack(">I", 3) + b"\xc1\xc1\xc1", "the first frame is no hello"),
    "no hello": (framed({}), "the first frame is no hello"),
    "a hello of something else": (framed({"hello": "9p", "version": 2000}), "not '9p'"),
    "garbage after hello": (HELLO + struct.pack(">I", 2) + b"\xc1\xc1", "no request"),
    "a list after hello": (HELLO + struct.pack(">I", 1) + b"\x90", "no request"),
    "two asks with one id": (
        HELLO + 2 * framed({"id": 1, "to": "x", "type": "hang"}),
        "the id 1 is in use",
    ),
}


@pytest.mark.parametrize("name", BAD_STREAMS)
def test_a_broken_stream_gets_a_reason_and_its_end(run_edge: Any, name: str) -> None:
    """One error frame, then the end; the node goes on with everybody else."""
    data, text = BAD_STREAMS[name]

    def script(path: str) -> None:
        other = Raw(path)
        raw = Raw(path, greet=False)
        raw.write(data)
        frame = raw.hear()
        while "error" not in frame:
            frame = raw.hear()
        assert frame["id"] is None
        assert frame["error"]["code"] == "wire"
        assert text in frame["error"]["text"]
        assert raw.is_closed()
        assert other.call(id=1, kind="ping")["ok"] == "pong"

    edge = by_hand(run_edge, script)
    assert any(text in said for _, said in edge.said)


def test_a_half_frame_is_waited_for_and_then_ended(run_edge: Any) -> None:
    """A peer that stops in the middle of a frame holds nothing for ever."""

    def script(path: str) -> None:
        raw = Raw(path)
        raw.write(b"\0\0\0\x10half")
        assert "half a frame" in raw.hear()["error"]["text"]
        assert raw.is_closed()

    by_hand(run_edge, script, Limits(stall_s=0.05))


def test_a_peer_that_says_nothing_is_ended(run_edge: Any) -> None:
    """Without a hello there is no connection."""

    def script(path: str) -> None:
        raw = Raw(path, greet=False)
        assert "no hello within" in raw.hear()["error"]["text"]
        assert raw.is_closed()

    by_hand(run_edge, script, Limits(hello_s=0.05))


def test_a_connection_that_ends_inside_a_frame_is_told(run_edge: Any) -> None:
    """A client that shuts its side down too early hears why nothing happened."""

    def script(path: str) -> None:
        raw = Raw(path)
        raw.write(b"\0\0")
        raw.socket.shutdown(socket.SHUT_WR)
        assert "inside a frame" in raw.hear()["error"]["text"]

    by_hand(run_edge, script)


def test_a_client_that_reads_nothing_is_cut_off(run_edge: Any) -> None:
    """What waits for it is bounded; the node and its other clients go on."""

    def script(path: str) -> None:
        raw = Raw(path)
        other = Raw(path)
        with suppress(OSError):  # cut off while it was still asking
            for n in range(200):
                raw.say({"id": n, "to": "x", "type": "big", "payload": {"size": 100_000}})
        assert other.call(id=1, kind="ping")["ok"] == "pong"
        with pytest.raises((EOFError, ConnectionError)):
            while True:
                raw.hear()

    edge = by_hand(
        run_edge, script, Limits(pause_bytes=200_000, unsent_bytes=1_000_000, stall_s=0.1)
    )
    assert any("cut off" in text for _, text in edge.said)


def test_too_many_requests_wait_in_the_socket(run_edge: Any) -> None:
    """A client has so many in work and no more; answering some lets others in."""

    async def main(edge: Any) -> None:
        raw = await asyncio.to_thread(Raw, edge.path)

        def flood() -> None:
            for n in range(1000):
                raw.say({"id": n, "to": "x", "type": "hang", "payload": {"x": "y" * 1000}})

        flooding = asyncio.create_task(asyncio.to_thread(flood))
        answered = 0
        while answered < 1000:
            await edge.node.has_hanging()
            edge.node.waiting.clear()
            assert len(edge.node.pending) - answered < 500
            for pending in edge.node.pending[answered:]:
                pending.callback(True, None)
                answered += 1
        await flooding
        replies = await asyncio.to_thread(lambda: [raw.hear()["id"] for _ in range(1000)])
        assert replies == list(range(1000))
        raw.socket.close()

    run_edge(main, Limits(in_flight=10))


def test_cancel_and_hangup_give_up_what_was_asked(run_edge: Any) -> None:
    """The node does not work on for nobody."""

    async def main(edge: Any) -> None:
        raw = await asyncio.to_thread(Raw, edge.path)
        raw.say({"id": 1, "to": "x", "type": "hang"})
        raw.say({"id": 2, "to": "x", "type": "hang"})
        raw.say({"kind": "cancel", "id": 1})
        raw.say({"kind": "cancel", "id": 99})
        assert (await asyncio.to_thread(raw.call, id=3, kind="ping"))["id"] == 3
        assert [pending.is_cancelled for pending in edge.node.pending] == [True, False]
        edge.node.pending[0].callback(True, "late")
        raw.socket.close()
        await edge.reception.visits[0].ended.wait()
        assert [pending.is_cancelled for pending in edge.node.pending] == [True, True]
        edge.node.pending[1].callback(True, "later still")
        assert edge.server.clients == 0

    run_edge(main)


def test_events_are_numbered_and_acknowledged(run_edge: Any) -> None:
    """The source hears of it when the client has taken one."""

    async def main(edge: Any) -> None:
        raw = await asyncio.to_thread(Raw, edge.path)
        taken = asyncio.Queue[str]()
        link = edge.reception.visits[0].link
        await link.room()
        link.deliver("d9://a/b/c", "changed", {"path": "/x"}, lambda: taken.put_nowait("first"))
        link.deliver("d9://a/b/c", "changed", {"path": "/y"}, lambda: taken.put_nowait("second"))
        link.deliver("d9://a/b/c", "odd", {"x": object()}, lambda: taken.put_nowait("odd"))
        assert taken.get_nowait() == "odd"  # it has no form: dropped, and the source goes on
        first, second = await asyncio.to_thread(lambda: [raw.hear(), raw.hear()])
        assert first == {
            "event": 1,
            "from": "d9://a/b/c",
            "type": "changed",
            "payload": {"path": "/x"},
        }
        raw.say({"kind": "ack", "event": second["event"]})
        raw.say({"kind": "ack", "event": second["event"]})
        raw.say({"kind": "ack", "event": 1})
        assert [await taken.get(), await taken.get()] == ["second", "first"]
        raw.socket.close()

    run_edge(main)


def test_a_stopping_node_answers_what_is_open_and_says_farewell(run_edge: Any) -> None:
    """Nobody is left waiting."""

    async def main(edge: Any) -> None:
        raw = await asyncio.to_thread(Raw, edge.path)
        raw.say({"id": 1, "to": "x", "type": "hang"})
        await edge.node.has_hanging()
        stopping = asyncio.create_task(edge.server.stop())
        frames = await asyncio.to_thread(lambda: [raw.hear(), raw.hear(), raw.is_closed()])
        await stopping
        assert frames[0]["id"] == 1
        assert frames[0]["error"]["code"] == "closed"
        assert "stopping" in frames[1]["error"]["text"]
        assert frames[2] is True

    run_edge(main)


FRAMES = st.dictionaries(
    st.sampled_from(["id", "kind", "to", "type", "payload", "timeout", "event", "message-id", "x"]),
    st.none()
    | st.integers(-(2**63), 2**64 - 1)
    | st.sampled_from(["ask", "tell", "send", "cancel", "ack", "ping", "echo", "none"])
    | st.floats()
    | st.text(max_size=3)
    | st.dictionaries(st.text(max_size=3), st.none() | st.binary(max_size=9), max_size=2),
    max_size=6,
).map(framed)


def test_no_stream_of_bytes_harms_the_node(run_edge: Any) -> None:
    """Whatever one client says, it gets answers or an end, and the others are served."""

    def script(path: str) -> None:
        other = Raw(path)

        @given(st.booleans(), st.lists(FRAMES | st.binary(max_size=20), max_size=6))
        @settings(max_examples=60)
        def attack(greeted: bool, pieces: list[bytes]) -> None:
            raw = Raw(path, greet=greeted)
            with suppress(OSError):
                raw.write(b"".join(pieces))
                raw.socket.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                while raw.socket.recv(65536):
                    pass
            raw.socket.close()
            assert other.call(id=1, kind="ping") == {"id": 1, "ok": "pong"}

        attack()

    by_hand(run_edge, script)
