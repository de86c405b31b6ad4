"""Frames on their way out: encoded as they are said, written together."""

from __future__ import annotations

from typing import Any, Final, final

import msgspec

from dan9.base.errors import WireError
from dan9.edge.usual import answer_head

__all__ = ["Outbox"]

LARGE: Final = 32 * 1024
"""Longer bodies are written as they are; others are cheaper copied."""

HEAD: Final = 32
"""Room for what stands before a body."""

_encode: Final[Any] = msgspec.msgpack.Encoder().encode
_answer_head: Final[Any] = answer_head  # what is final is no look-up at each use


@final
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
        # Bytes put together: msgspec's encode_into a growing bytearray took three
        # times as long for small frames.
        body: bytes = _encode(message)
        self._put(len(body).to_bytes(4, "big"), body, max_frame_bytes)

    def answer(self, number: Any, value: object, max_frame_bytes: int) -> None:
        """Append the frame of the good end of a request; raises as `add`."""
        body: bytes = _encode(value)
        self._put(_answer_head(number, len(body)), body, max_frame_bytes)

    def _put(self, head: bytes, body: bytes, max_frame_bytes: int) -> None:
        size = len(head) + len(body)
        if size - 4 > max_frame_bytes:
            raise WireError(
                f"a message of {size - 4} bytes is over the limit of {max_frame_bytes} "
                "for one frame",
                hint="send it in parts, as filesystem's open and read-chunk do",
            )
        if len(body) > LARGE:
            self._has_large = True
            self._pieces.append(head)
            self._pieces.append(body)
        else:
            self._pieces.append(head + body)
        self.size += size

    def take(self) -> list[bytes]:
        """Empty it; return what to write, in order. Large bodies are not copied."""
        pieces = self._pieces
        self._pieces = []
        self.size = 0
        if not self._has_large:
            return [b"".join(pieces)] if len(pieces) > 1 else pieces
        self._has_large = False
        out: list[bytes] = []
        small: list[bytes] = []
        for piece in pieces:
            if len(piece) > LARGE + HEAD:
                out.append(b"".join(small))
                out.append(piece)
                small = []
            else:
                small.append(piece)
        if small:
            out.append(b"".join(small))
        return out
