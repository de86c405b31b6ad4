"""What is said on a node's socket: one Struct for each frame, told apart by its keys.

docs/reference/protocol.md says the same for those who write a client in another language; a
test holds the two together. Frames are maps with text keys, so that a key can be
added and an old peer does not notice; what an old peer must notice raises VERSION.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dan9.base.errors import Dan9Error, WireError, from_form

__all__ = [
    "FOREVER",
    "PROTOCOL",
    "VERSION",
    "Answer",
    "Event",
    "Failure",
    "FromNode",
    "Hello",
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


class Request(msgspec.Struct, rename="kebab", omit_defaults=True, gc=False):
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


class Answer(msgspec.Struct, gc=False):
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
