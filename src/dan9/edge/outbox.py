"""Frames on their way out: encoded as they are said, written together."""

from __future__ import annotations

from typing import Any, Final, final

import msgspec

from dan9.base.errors import WireError

__all__ = ["Outbox"]

LARGE: Final = 32 * 1024
"""Longer bodies are written as they are; others are cheaper copied."""

_encode: Final[Any] = msgspec.msgpack.Encoder().encode


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
        length = len(body)
        if length > max_frame_bytes:
            raise WireError(
                f"a message of {length} bytes is over the limit of {max_frame_bytes} for one frame",
                hint="send it in parts, as filesystem's open and read-chunk do",
            )
        header = length.to_bytes(4, "big")
        if length > LARGE:
            self._has_large = True
            self._pieces.append(header)
            self._pieces.append(body)
        else:
            self._pieces.append(header + body)
        self.size += length + 4

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
            if len(piece) > LARGE + 4:
                out.append(b"".join(small))
                out.append(piece)
                small = []
            else:
                small.append(piece)
        if small:
            out.append(b"".join(small))
        return out
