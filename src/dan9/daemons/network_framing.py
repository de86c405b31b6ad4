"""Where one piece of a stream ends and the next begins.

TCP keeps bytes in order and keeps nothing else: what was sent in three pieces may arrive in
one or in seven. A `Frame` says how a reader wants the stream cut: as it comes, up to a
delimiter, so many bytes, or by a length that stands in front. A `ByteQueue` holds what has
arrived and cuts it.

What has arrived is kept as the chunks the socket gave. A reader that takes the stream as it
comes gets those very objects back, uncopied, which is what makes 64 KiB chunks cheap. Only a
delimited, counted or prefixed read gathers them into one buffer, and it remembers how far it
has searched, so that a line arriving byte by byte costs each byte once.

This module is pure.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final

from dan9.base.errors import BadPayload, Closed

__all__ = ["ByteQueue", "Frame"]

PREFIXES: Final = (1, 2, 4, 8)
"""Lengths, in bytes, that a length prefix may have (big-endian, unsigned)."""


@dataclass(frozen=True, slots=True)
class Frame:
    """How the next piece is cut off. At most one of the three is set; none: as it comes."""

    max_bytes: int
    delimiter: bytes = b""
    exact: int = -1
    prefix: int = 0

    @classmethod
    def of(
        cls, until: str | bytes | int | None, prefix: int | None, max_bytes: int, limit: int
    ) -> Frame:
        """Read a frame from a message's keys.

        Args:
            until: Text or bytes: up to and including them. A number: exactly so many bytes.
                None: as it comes.
            prefix: The width in bytes of a length that stands in front of each piece.
            max_bytes: The longest piece wanted; an exact count is its own bound.
            limit: The longest piece that the daemon is configured to hold.

        Raises:
            BadPayload: They contradict each other, or exceed the limit.
        """
        if until is not None and prefix is not None:
            raise BadPayload("until and prefix are given together", hint="give one of the two")
        if not 1 <= max_bytes <= limit:
            raise BadPayload(
                f"{max_bytes} is no length for a piece",
                at="payload.max-bytes",
                hint=f"1 to {limit}; the configuration key max-frame-bytes sets the upper end",
            )
        if prefix is not None:
            check_prefix(prefix)
            return cls(max_bytes, prefix=prefix)
        if until is None:
            return cls(max_bytes)
        if isinstance(until, bool):
            raise BadPayload("until is text, bytes or a count", at="payload.until")
        if isinstance(until, int):
            if not 1 <= until <= limit:
                raise BadPayload(
                    f"cannot wait for {until} bytes", at="payload.until", hint=f"1 to {limit}"
                )
            return cls(until, exact=until)
        delimiter = until.encode() if isinstance(until, str) else bytes(until)
        if not delimiter:
            raise BadPayload("an empty delimiter", at="payload.until", hint=r'until="\n", say')
        return cls(max_bytes, delimiter=delimiter)

    @property
    def most(self) -> int:
        """Bytes that may have to be held before the piece is complete or refused."""
        return self.max_bytes + len(self.delimiter) + self.prefix


def check_prefix(width: int) -> None:
    """Refuse a width that no length prefix has.

    Raises:
        BadPayload: The width is none of 1, 2, 4 and 8.
    """
    if width not in PREFIXES:
        raise BadPayload(
            f"a length prefix of {width} bytes", at="payload.prefix", hint="1, 2, 4 or 8"
        )


class ByteQueue:
    """Bytes that have arrived and that nobody has taken yet."""

    __slots__ = ("_chunks", "_gathered", "_searched", "_sought", "size")

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        # What framed reads have pulled together; always older than the chunks.
        self._gathered = bytearray()
        self._sought = b""
        self._searched = 0
        self.size = 0
        """Bytes held."""

    def feed(self, data: bytes) -> None:
        """Append what arrived; `data` is kept, not copied."""
        if data:
            self._chunks.append(data)
            self.size += len(data)

    def put_back(self, data: bytes) -> None:
        """Undo a take: `data` is what will be taken next."""
        self._gather()
        self._gathered[:0] = data
        self._searched = 0
        self.size += len(data)

    def clear(self) -> None:
        """Throw away what nobody took."""
        self._chunks.clear()
        self._gathered.clear()
        self.size = self._searched = 0

    def take(self, frame: Frame, *, ended: bool = False) -> bytes | None:
        """Cut off the next piece.

        Args:
            frame: How.
            ended: The stream has ended; nothing will follow what is here.

        Returns:
            The piece; None while it is incomplete; empty bytes when the stream has ended and
            everything was taken. A delimited piece includes its delimiter, except the last
            one of a stream that ended without it; a prefixed one comes without its prefix.

        Raises:
            BadPayload: The piece is longer than the frame allows. Nothing is taken.
            Closed: The stream ended within a counted or prefixed piece. Nothing is taken.
        """
        if frame.delimiter:
            return self._take_until(frame, ended)
        if frame.exact >= 0:
            return self._take_exactly(frame.exact, 0, ended)
        if frame.prefix:
            return self._take_prefixed(frame, ended)
        return self._take_any(frame.max_bytes) if self.size else (b"" if ended else None)

    def _take_any(self, most: int) -> bytes:
        if self._gathered:
            return self._cut(min(most, len(self._gathered)))
        chunk = self._chunks.popleft()
        if len(chunk) > most:
            # The rest goes where cutting from the front is cheap.
            self._gathered += memoryview(chunk)[most:]
            self._searched = 0
            chunk = chunk[:most]
        self.size -= len(chunk)
        return chunk

    def _take_until(self, frame: Frame, ended: bool) -> bytes | None:
        self._gather()
        delimiter = frame.delimiter
        if delimiter != self._sought:
            self._sought, self._searched = delimiter, 0
        end = self._gathered.find(delimiter, self._searched)
        # Not found: all but what may be the delimiter's beginning belongs to the piece.
        length = end if end >= 0 else self.size - len(delimiter) + 1
        if length > frame.max_bytes:
            self._searched = 0
            raise BadPayload(
                f"no {delimiter!r} within {frame.max_bytes} bytes",
                at="payload.max-bytes",
                hint="raise max-bytes, or take the bytes as they come",
            )
        if end >= 0:
            return self._cut(end + len(delimiter))
        if ended:
            return self._cut(self.size)
        # The delimiter may have begun in the last bytes here.
        self._searched = max(0, self.size - len(delimiter) + 1)
        return None

    def _take_exactly(self, count: int, skip: int, ended: bool) -> bytes | None:
        if self.size < skip + count:
            if not ended:
                return None
            if not self.size:
                return b""
            raise Closed(
                f"the stream ended after {self.size} of {skip + count} bytes",
                hint="receive without until or prefix takes what there is",
            )
        self._gather()
        if skip:
            self._cut(skip)
        return self._cut(count)

    def _take_prefixed(self, frame: Frame, ended: bool) -> bytes | None:
        width = frame.prefix
        if self.size < width:
            return self._take_exactly(width, 0, ended)
        self._gather()
        count = int.from_bytes(self._gathered[:width], "big")
        if count > frame.max_bytes:
            raise BadPayload(
                f"the next piece announces {count} bytes, more than {frame.max_bytes}",
                at="payload.max-bytes",
                hint="raise max-bytes; or the other end does not speak this framing",
            )
        return self._take_exactly(count, width, ended)

    def _gather(self) -> None:
        for chunk in self._chunks:
            self._gathered += chunk
        self._chunks.clear()

    def _cut(self, count: int) -> bytes:
        piece = bytes(memoryview(self._gathered)[:count])
        del self._gathered[:count]
        self._searched = 0
        self.size -= count
        return piece
