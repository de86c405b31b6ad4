"""One connection: a byte stream with a limit on each side.

Principles. A connection is an asyncio protocol, not a StreamReader: what arrives is queued as
the chunks that the transport gives and handed on uncopied. Nothing here is unbounded:

- *inward*, reading pauses when more than `limit` bytes lie unread, so that the sender's TCP
  window closes and the other end feels it; it resumes when half of that was taken. A reader
  that waits for a longer piece raises the limit for as long as it waits;
- *outward*, a send waits while the transport holds more than its high-water mark, first come
  first served, and then hands over the whole of its data at once. So a send that was given up
  has sent nothing, and one that returned was accepted whole; the buffer exceeds its mark by
  one message at most.

The end of a stream is data, not an error: after the other end's last byte, `receive` gives
empty bytes, while this end may go on sending (half-close). A connection that broke gives
what had arrived first, and then says that it broke.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Final, cast

from dan9.base.errors import BadPayload, Closed, Conflict, MailboxFull, NotSupported
from dan9.daemons.network_framing import ByteQueue, Frame

if TYPE_CHECKING:
    from dan9.base.errors import Dan9Error

__all__ = ["Stream"]

MAX_WAITING: Final = 1_024
"""Sends that may wait for one slow peer before the next is refused."""


class Stream(asyncio.Protocol):
    """One end of one connection.

    Args:
        name: The connection's id, for texts.
        limit: Bytes held unread, and bytes held unsent, before the one or the other waits.
        idle_s: Seconds without a byte in either direction after which it is closed; 0: never.
        on_lost: Called once when the connection is gone, after everything else is settled.
    """

    def __init__(
        self,
        name: str,
        *,
        limit: int,
        idle_s: float = 0.0,
        on_lost: Callable[[Stream], None] | None = None,
    ) -> None:
        self.name = name
        self.limit = limit
        self.idle_s = idle_s
        self.peer = ""
        self.local = ""
        self.kind = "tcp"
        self.opened = 0.0
        self.bytes_in = 0
        self.bytes_out = 0
        self.ended = False
        """The other end has sent its last byte."""
        self.finished = False
        """This end has sent its last byte."""
        self.error: Dan9Error | None = None
        """Why it broke; None if it was closed in order."""
        self._on_lost = on_lost
        self._queue = ByteQueue()
        self._transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writers: deque[asyncio.Future[None]] = deque()
        self._gone: asyncio.Future[None] | None = None
        self._reading_paused = False
        self._writing_paused = False
        self._granted = False
        self._needed = 0
        self._last_at = 0.0
        self._idle: asyncio.TimerHandle | None = None

    # -- what the transport calls ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin; called once by the transport."""
        loop = asyncio.get_running_loop()
        self._transport = cast("asyncio.Transport", transport)
        self._gone = loop.create_future()
        with contextlib.suppress(NotImplementedError):  # a transport without a buffer
            self._transport.set_write_buffer_limits(high=self.limit)
        if self.idle_s:
            self._last_at = loop.time()
            self._idle = loop.call_later(self.idle_s, self._check_idle)

    def data_received(self, data: bytes) -> None:
        """Take what arrived."""
        self._queue.feed(data)
        self.bytes_in += len(data)
        if self.idle_s:
            self._last_at = asyncio.get_running_loop().time()
        if self._reader is not None:
            self._wake(self._reader)
        if self._queue.size > max(self.limit, self._needed):
            self._pause_reading()

    def eof_received(self) -> bool:
        """Note the end of what the other side sends; keep our side open."""
        self.ended = True
        if self._reader is not None:
            self._wake(self._reader)
        # When both ends have finished there is nothing left to keep open. TLS knows no
        # half-close: its transport closes whatever is answered here.
        return self.kind != "tls" and not self.finished

    def connection_lost(self, exc: Exception | None) -> None:
        """Settle everything; called once, last."""
        self.ended = self.finished = True
        if exc is not None and self.error is None:
            self.error = Closed(f"{self.name} to {self.peer} broke: {_words(exc)}")
        if self._idle is not None:
            self._idle.cancel()
        if self._reader is not None:
            self._wake(self._reader)
        while self._writers:
            self._wake(self._writers.popleft())
        if self._gone is not None:
            self._wake(self._gone)
        if self._on_lost is not None:
            self._on_lost(self)

    def pause_writing(self) -> None:
        """Make the next sends wait."""
        self._writing_paused = True

    def resume_writing(self) -> None:
        """Let the first send that waits go on; it wakes the next."""
        self._writing_paused = False
        self._wake_writer()

    # -- what the daemon calls -------------------------------------------------------------

    @property
    def is_lost(self) -> bool:
        """The socket is closed."""
        return self._gone is not None and self._gone.done()

    @property
    def state(self) -> str:
        """`open`, `half-closed-in` (the other end has finished), `…-out` (we have), `closed`."""
        if self.is_lost:
            return "closed"
        if self.ended:
            return "half-closed-in"
        return "half-closed-out" if self.finished else "open"

    @property
    def unread(self) -> int:
        """Bytes that arrived and that nobody took yet."""
        return self._queue.size

    @property
    def unsent(self) -> int:
        """Bytes that were accepted and that the operating system has not taken yet."""
        return 0 if self._transport is None else self._transport.get_write_buffer_size()

    def take(self, frame: Frame) -> bytes | None:
        """Return the next piece if it is here, else None; raises as `receive` does."""
        piece = self._queue.take(frame, ended=self.ended)
        if piece is None:
            return None
        if self._reading_paused and self._queue.size <= self.limit // 2:
            self._resume_reading()
        if not piece and self.error is not None and not self._queue.size:
            raise copy(self.error)  # each caller's own, with a traceback of its own
        return piece

    async def receive(self, frame: Frame) -> bytes:
        """Return the next piece, waiting for it; empty bytes at the end of the stream.

        Cancelled while it waits, it has taken nothing.

        Raises:
            Closed: It broke, or ended within a piece.
            Conflict: Another reader waits already.
            BadPayload: The piece is longer than the frame allows.
        """
        if self._reader is not None:
            raise Conflict(
                f"another receive waits on {self.name}",
                hint="one reader a connection; give the listener deliver-to to fan out",
            )
        while (piece := self.take(frame)) is None:
            self._needed = frame.most
            if self._reading_paused:
                self._resume_reading()
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None
                self._needed = 0
        return piece

    async def decode(self, piece: bytes, encoding: str) -> str:
        """Return a piece that was just received as text.

        A character that is cut off at its end goes back and comes with the next piece.

        Raises:
            BadPayload: It is no such text, or there is no such encoding; nothing was taken.
        """
        while True:
            try:
                return piece.decode(encoding)
            except LookupError as error:
                self._queue.put_back(piece)
                raise BadPayload(f"no encoding {encoding!r}", at="payload.encoding") from error
            except UnicodeDecodeError as error:
                if error.reason != "unexpected end of data" or self.ended:
                    self._queue.put_back(piece)
                    raise BadPayload(
                        f"what came on {self.name} is not {encoding}",
                        at="payload.encoding",
                        hint="receive without encoding gives bytes",
                    ) from error
                if error.start:
                    self._queue.put_back(piece[error.start :])
                    return piece[: error.start].decode(encoding)
                piece += await self.receive(Frame(1))

    async def send(self, data: bytes, *, end: bool = False) -> int:
        """Hand `data` over whole, waiting while the peer is slow; return its length.

        Cancelled while it waits, it has sent nothing.

        Args:
            data: What to send.
            end: These are the last bytes; the other end sees the end of the stream.

        Raises:
            Closed: It broke or was closed, or `end` was said before.
            MailboxFull: More sends wait for this peer than any good comes of.
            NotSupported: `end` over TLS, which cannot close one half.
        """
        transport = self._transport
        if end and transport is not None and not transport.can_write_eof():
            raise NotSupported(
                f"{self.name} is TLS, which cannot close one half", hint="say disconnect"
            )
        self._check_open()
        if self._writing_paused or self._writers or self._granted:
            if len(self._writers) >= MAX_WAITING:
                raise MailboxFull(
                    f"{len(self._writers)} sends wait for {self.peer} on {self.name}",
                    hint="it reads too slowly; await each send before the next",
                )
            turn = asyncio.get_running_loop().create_future()
            self._writers.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn in self._writers:
                    self._writers.remove(turn)
                else:
                    self._granted = False
                    self._wake_writer()  # the turn was ours and goes to the next
                raise
            self._granted = False
            self._check_open()
        assert transport is not None
        if data:
            transport.write(data)
            self.bytes_out += len(data)
            if self.idle_s:
                self._last_at = asyncio.get_running_loop().time()
        if end:
            self.finished = True
            if self.ended:
                transport.close()  # sends what was accepted first
            else:
                transport.write_eof()
        if self._writers:
            self._wake_writer()
        return len(data)

    async def close(self, within_s: float) -> None:
        """Send what was accepted, then close; after `within_s` seconds close without.

        Returns when the socket is closed.
        """
        if self._transport is None or self._gone is None:
            return
        if self.error is None and not self.ended:
            self.error = Closed(f"{self.name} to {self.peer} was disconnected")
        self._transport.close()
        if self._gone.done():
            return
        # A peer that reads nothing would keep what is unsent, and the socket, for ever.
        try:
            async with asyncio.timeout(within_s):
                await asyncio.shield(self._gone)
        except TimeoutError:
            self._transport.abort()
            await asyncio.shield(self._gone)

    async def gone(self) -> None:
        """Return when the connection is no more."""
        if self._gone is not None:
            await asyncio.shield(self._gone)

    def abort(self, error: Dan9Error | None = None) -> None:
        """Close at once; what is unsent is lost. `error` is what a reader is told."""
        if self.error is None:
            self.error = error
        if self._transport is not None:
            self._transport.abort()

    # -- private ---------------------------------------------------------------------------

    def _check_open(self) -> None:
        if self.error is not None:
            raise copy(self.error)
        if self._transport is None or self._transport.is_closing() or self.finished:
            raise Closed(
                f"{self.name} to {self.peer} takes no more data",
                hint="it was disconnected, or a send said end",
            )

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        left = self._last_at + self.idle_s - loop.time()
        if left > 0:
            # Re-armed at most once a period, however many bytes pass.
            self._idle = loop.call_later(left, self._check_idle)
        else:
            self.abort(Closed(f"{self.name} was idle for {self.idle_s:g} s", hint="idle-timeout"))

    def _pause_reading(self) -> None:
        if not self._reading_paused and self._transport is not None and not self.ended:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        self._reading_paused = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def _wake_writer(self) -> None:
        # One at a time, and nobody overtakes the one who was woken and has not run yet.
        while self._writers and not self._writing_paused and not self._granted:
            turn = self._writers.popleft()
            if not turn.done():
                turn.set_result(None)
                self._granted = True

    @staticmethod
    def _wake(waiter: asyncio.Future[None]) -> None:
        if not waiter.done():
            waiter.set_result(None)


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("] ")[2] or str(error)
