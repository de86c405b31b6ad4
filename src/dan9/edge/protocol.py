"""What is said on a node's socket: one Struct for each frame, told apart by its keys.

docs/reference/protocol.md says the same for those who write a client in another language; a
test holds the two together. Frames are maps with text keys, so that a key can be
added and an old peer does not notice; what an old peer must notice raises VERSION.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dan9.base.errors import Dan9Error, WireError, from_form
from dan9.base.frame import HEADER

__all__ = [
    "FOREVER",
    "PROTOCOL",
    "VERSION",
    "Answer",
    "Event",
    "Failure",
    "FromNode",
    "Hello",
    "Outbox",
    "Request",
    "Welcome",
    "decode_from_node",
    "decode_welcome",
    "keep_freed_memory",
]

PROTOCOL: Final = "dan9"
VERSION: Final = 1

FOREVER: Final = "none"
"""The `timeout` of an ask that waits as long as its connection lives."""


class Hello(msgspec.Struct, rename="kebab", omit_defaults=True):
    """The client's first frame.

    Attributes:
        hello: The protocol's name, always `dan9`.
        version: The highest version that the client speaks.
        client: What the client is, for logs; `cli 0.1.0`.
    """

    hello: str
    version: int
    client: str = ""


class Welcome(msgspec.Struct, rename="kebab"):
    """The node's answer to Hello.

    Attributes:
        hello: The protocol's name.
        version: The version that both will speak.
        node: The node's name.
        pid: Its process id.
        build: Its version of Dan9.
        address: The address under which the node stamps this client's messages.
        max_frame_bytes: Longer frames end the connection.
    """

    hello: str
    version: int
    node: str
    pid: int
    build: str
    address: str
    max_frame_bytes: int


class Request(msgspec.Struct, rename="kebab", omit_defaults=True):
    """A frame from the client after Hello.

    Attributes:
        kind: `ask`, `tell`, `send`, `cancel`, `ack` or `ping`.
        id: The client's number for it, repeated in the answer. A tell without one is
            not answered.
        to: Address, bare name, namespace path, or (tell) a pattern.
        type: The message type.
        payload: Its payload.
        timeout: Seconds that an ask or send may take; absent: the message's own
            default; `"none"`: until the connection ends.
        message_id: Names the message across retries, for durable daemons.
        event: The number of the event that an `ack` answers.
    """

    kind: str = "ask"
    id: int | None = None
    to: str = ""
    type: str = ""
    payload: dict[str, Any] = {}
    timeout: float | str | None = None
    message_id: str | None = None
    event: int = 0


class Answer(msgspec.Struct):
    """The good end of a request."""

    id: int
    ok: Any = None


class Failure(msgspec.Struct):
    """The bad end of a request; without an id, of the connection."""

    error: dict[str, Any]
    id: int | None = None


class Event(msgspec.Struct, rename={"sender": "from"}):
    """A message from a daemon to this client; to be acknowledged once handled.

    Attributes:
        event: Its number on this connection, from 1.
        sender: The daemon's address.
        type, payload: The message.
    """

    event: int
    sender: str
    type: str
    payload: dict[str, Any]


class FromNode(msgspec.Struct, rename={"sender": "from"}):
    """Any frame from the node, for clients: one decode, then a look at what is there."""

    id: int | None = None
    ok: Any = None
    error: dict[str, Any] | None = None
    event: int = 0
    sender: str = ""
    type: str = ""
    payload: dict[str, Any] = {}


LARGE: Final = 32 * 1024
"""Bodies from here on are written as they are; smaller ones are cheaper joined."""

_encode: Final = msgspec.msgpack.Encoder().encode
_header: Final = HEADER.pack
_from_node = msgspec.msgpack.Decoder(FromNode)
_welcome = msgspec.msgpack.Decoder(Welcome)


def keep_freed_memory() -> None:
    """Let this process keep a few MiB of freed memory for the next large frame.

    glibc raises its thresholds for giving memory back to the system when a mapped block is freed;
    `bytes(n)` maps one without touching it, so this costs some 10 us. Without it every
    buffer of a 1 MiB message was mapped, faulted in page by page and unmapped: 3.6 ms
    of CPU per echo in the node against 0.8 ms. Elsewhere it does nothing.
    """
    bytes(8 * 1024 * 1024)


class Outbox:
    """Frames that wait for the end of the loop turn, to leave in one write.

    Attributes:
        size: Bytes in it.
    """

    __slots__ = ("_has_large", "_pieces", "size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._has_large = False
        self.size = 0

    def add(self, message: msgspec.Struct, max_frame_bytes: int) -> None:
        """Append a message's frame.

        Raises:
            WireError: It is longer than the limit. The outbox is as it was.
            TypeError, OverflowError: Something in it is no plain data. The outbox is as it was.
        """
        # Bytes and one join: msgspec's encode_into a growing bytearray took three
        # times as long for small frames.
        body = _encode(message)
        length = len(body)
        if length > max_frame_bytes:
            raise _too_long(length, max_frame_bytes)
        pieces = self._pieces
        pieces.append(_header(length))
        pieces.append(body)
        self.size += length + 4
        if length > LARGE:
            self._has_large = True

    def take(self) -> list[bytes]:
        """Empty it; return what to write, in order. Large bodies are not copied."""
        pieces, self._pieces = self._pieces, []
        self.size = 0
        if not self._has_large:
            return [b"".join(pieces)] if pieces else []
        self._has_large = False
        out: list[bytes] = []
        small: list[bytes] = []
        for piece in pieces:
            if len(piece) > LARGE:
                out += (b"".join(small), piece)
                small.clear()
            else:
                small.append(piece)
        if small:
            out.append(b"".join(small))
        return out


def _too_long(length: int, max_frame_bytes: int) -> WireError:
    """The error of a message that no frame holds."""
    return WireError(
        f"a message of {length} bytes is over the limit of {max_frame_bytes} for one frame",
        hint="send it in parts, as filesystem's open and read-chunk do",
    )


def decode_from_node(body: bytes | bytearray) -> FromNode:
    """Decode a frame that a node sent.

    Raises:
        WireError: It is none.
    """
    try:
        return _from_node.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise WireError(
            f"the node sent a frame that cannot be read: {error}",
            hint="node and client may be of different versions: dan9 doctor tells both",
        ) from None


def decode_welcome(body: bytes | bytearray) -> Welcome | Dan9Error:
    """Decode the node's first frame: its welcome, or why there is none.

    Raises:
        WireError: It is neither.
    """
    try:
        return _welcome.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    frame = decode_from_node(body)
    if frame.error is None:
        raise WireError("what listens there is no node: its first frame is no welcome")
    return from_form(frame.error)
