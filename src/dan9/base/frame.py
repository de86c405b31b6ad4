"""Frames: four bytes of length, big-endian, then that many bytes of msgpack.

The one envelope of the node's socket and of whatever else carries messages between
processes. Cutting is apart from decoding, so that a frame is looked at once: the reader
gives bodies, their owner decodes them into what it expects. A small body is a copy of its few
bytes; a large one is collected once into a buffer of its exact size, however many pieces the
socket gave it in, and handed out as that buffer.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from dan9.base.errors import WireError

__all__ = ["HEADER", "MAX_FRAME_BYTES", "FrameReader", "frame", "frame_length"]

HEADER: Final = Struct(">I")
MAX_FRAME_BYTES: Final = 64 * 1024 * 1024
"""The default limit: what one message may reasonably hold in memory three times over."""

_SIZE: Final = 4
_unpack_from: Final = HEADER.unpack_from
Body = bytes | bytearray


def frame(body: bytes) -> bytes:
    """Return the body with its length in front."""
    return HEADER.pack(len(body)) + body


def frame_length(head: bytes | bytearray | memoryview, max_frame_bytes: int) -> int:
    """Return the length that four bytes announce.

    Raises:
        WireError: It is 0 or beyond the limit, which is also what garbage looks like.
    """
    length: int = HEADER.unpack(head)[0]
    if length > max_frame_bytes:
        if all(32 <= byte < 127 for byte in head):
            text = f"the peer does not speak frames: it began with {bytes(head).decode()!r}"
        else:
            text = f"a frame of {length} bytes is over the limit of {max_frame_bytes}"
        raise WireError(text, hint="each frame is 4 bytes of length, big-endian, then msgpack")
    if length == 0:
        raise WireError("a frame of 0 bytes holds no message", hint="every frame is a msgpack map")
    return length


class FrameReader:
    """Cuts a stream of bytes into frames, whatever the pieces it comes in.

    Args:
        max_frame_bytes: A longer frame raises WireError; what came before it in the same piece
            is still given, by `feed` of that piece, before the error (see `feed`).
    """

    __slots__ = ("_body", "_failed", "_filled", "_head", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int = MAX_FRAME_BYTES) -> None:
        self.max_frame_bytes = max_frame_bytes
        self._head = b""  # the first bytes of a frame whose length is not complete
        self._body: bytearray | None = None  # the frame in the making, of its full size
        self._filled = 0
        self._failed: WireError | None = None

    @property
    def is_half(self) -> bool:
        """True while a frame has begun and not ended."""
        return self._body is not None or bool(self._head)

    @property
    def failed(self) -> WireError | None:
        """The error that ended the stream, if one did."""
        return self._failed

    def whole(self, data: bytes) -> bytes | None:
        """Take a piece that is one frame, and return its body; None, and not taken, if it is not.

        A client that asks one thing after another sends nothing else.
        """
        if self._body is not None or self._head or self._failed is not None or len(data) <= _SIZE:
            return None
        length = data[0] << 24 | data[1] << 16 | data[2] << 8 | data[3]
        if length != len(data) - _SIZE or length > self.max_frame_bytes:
            return None
        return data[_SIZE:]

    def feed(self, data: bytes | bytearray | memoryview) -> list[Body]:
        """Take a piece of the stream; return the bodies of the frames that it completes.

        Raises:
            WireError: The stream is broken for good. When frames were completed before
                the bad one they are returned instead, and the error is in `failed`
                and raised by the next call.
        """
        if self._failed is not None:
            raise self._failed
        if isinstance(data, bytes):
            whole = self.whole(data)
            if whole is not None:
                return [whole]
        found: list[Body] = []
        position, end = 0, len(data)
        try:
            if self.is_half:
                position = self._resume(data, end, found)
            limit = self.max_frame_bytes
            while end - position >= _SIZE:
                start = position + _SIZE
                length = int(_unpack_from(data, position)[0])
                if not 0 < length <= limit:
                    frame_length(data[position:start], limit)  # raises, with the words
                if end - start < length:
                    self._begin(length, data[start:end])
                    return found
                position = start + length
                body = data[start:position]
                found.append(body if type(body) is bytes else bytes(body))
        except WireError as error:
            self._failed = error
            if not found:
                raise
            return found
        if position < end:
            self._head = bytes(data[position:end])
        return found

    def _begin(self, length: int, first: bytes | bytearray | memoryview) -> None:
        self._body = bytearray(length)
        self._filled = len(first)
        self._body[: self._filled] = first

    def _resume(self, data: bytes | bytearray | memoryview, end: int, found: list[Body]) -> int:
        """Go on with the frame in the making; return where the next one begins in the data."""
        position = 0
        if self._body is None:
            position = min(_SIZE - len(self._head), end)
            self._head += bytes(data[:position])
            if len(self._head) < _SIZE:
                return end
            length = frame_length(self._head, self.max_frame_bytes)
            self._head = b""
            self._begin(length, b"")
        body = self._body
        assert body is not None
        take = min(len(body) - self._filled, end - position)
        # A memoryview on both sides copies the piece once; slices would copy it twice.
        with memoryview(body) as target, memoryview(data) as source:
            target[self._filled : self._filled + take] = source[position : position + take]
        self._filled += take
        if self._filled == len(body):
            found.append(body)
            self._body = None
        return position + take
