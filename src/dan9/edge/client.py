"""A blocking client of a node: for scripts, a REPL, the command line, and any thread.

    with dan9.connect() as node:
        print(node.ask("filesystem", "read", path="/etc/hostname"))

It stands on socket and msgspec alone, because `import asyncio` costs as much as a whole
`dan9 ps` may take. There is no thread of its own either: whoever waits for an answer reads for all
who wait. A client may be used by several threads at once; none may use it across
a fork.

Payload keys may be spelled in Python's way. Replies are as on the wire: plain data, keys of
records in kebab-case.
"""

from __future__ import annotations

import math
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from struct import Struct
from types import TracebackType
from typing import Any, Final, Self

from dan9.base.errors import (
    Closed,
    Dan9Error,
    TimedOut,
    Unreachable,
    WireError,
    from_form,
)
from dan9.base.frame import MAX_FRAME_BYTES, FrameReader
from dan9.edge.calls import (
    DEFAULT,
    GRACE_S,
    PATIENCE_S,
    Caller,
    no_node,
    request_of,
    silent,
    timed_out,
    together,
)
from dan9.edge.discovery import choose_socket, reachable
from dan9.edge.outbox import Outbox
from dan9.edge.protocol import (
    PROTOCOL,
    VERSION,
    Event,
    FromNode,
    Hello,
    Request,
    decode_from_node,
    decode_welcome,
    keep_freed_memory,
)

__all__ = ["Client", "connect"]

_PIECE: Final = 256 * 1024
_TIMEVAL: Final = Struct("@ll")


def connect(name_or_path: str | None = None, *, client: str = "python") -> Client:
    """Connect to a node of this user.

    Args:
        name_or_path: The node's name or its socket; without one DAN9_SOCKET, or the one
            node that runs.
        client: What to call this client in the node's log.

    Raises:
        NoNode: There is none, or there are several and none is named.
        PermissionRefused: The socket is another user's.
        WireError: Something else listens there, or another version of Dan9.
    """
    return Client(choose_socket(name_or_path), client=client)


class Client(Caller):
    """A connection to a node. Make it with `connect`; it is a context manager."""

    def __init__(self, path: str, *, client: str = "python") -> None:
        super().__init__(path)
        self._name = client
        self._socket = _open(path)
        self._lock = threading.Condition()
        self._sending = threading.Lock()
        self._reader = FrameReader(MAX_FRAME_BYTES)
        self._number = 0
        self._waiting: dict[int, FromNode | None] = {}
        self._events: deque[FromNode] = deque()
        self._patience_s = math.inf  # how long the socket lets us wait in recv
        self._is_read = False  # some thread is in recv
        self._is_closed = False
        self._broken: Dan9Error | None = None
        try:
            self._shake_hands(client)
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; subscriptions end with it. A second call does nothing."""
        with self._lock:
            self._is_closed = True
            self._broken = Closed("this client is closed", hint="connect again")
            self._lock.notify_all()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # wakes a thread that reads
        self._socket.close()

    # ----------------------------------------------------------------- messages

    def ask(
        self,
        to: str,
        type: str,
        /,
        *,
        payload: Mapping[str, Any] | None = None,
        timeout_s: float | None = DEFAULT,
        message_id: str | None = None,
        **fields: Any,
    ) -> Any:
        """Ask a daemon and return its reply.

        Args:
            to: Address, bare name or namespace path.
            type: The message type.
            payload: Keys that clash with the arguments of this method go here.
            timeout_s: How long it may take; by default as long as the message says;
                None: as long as the connection lives.
            message_id: Names the message across retries, for durable daemons.
            fields: The payload's other keys.

        Raises:
            Refused: The daemon, or the node for it, said no; the class says what.
            TimedOut: No answer in time.
            DaemonFailed: The handler crashed.
            Unreachable: The node ended, or does not answer. Whether the message was handled is
                not known.
        """
        body = together(payload, fields)
        return self._call("ask", to, type, body, timeout_s, message_id).ok

    def send(
        self,
        to: str,
        type: str,
        /,
        *,
        payload: Mapping[str, Any] | None = None,
        timeout_s: float | None = DEFAULT,
        message_id: str | None = None,
        **fields: Any,
    ) -> None:
        """Tell a daemon, and wait until the message is in its mailbox. Raises as `ask`."""
        self._call("send", to, type, together(payload, fields), timeout_s, message_id)

    def tell(
        self,
        to: str,
        type: str,
        /,
        *,
        payload: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Tell a daemon and go on. What cannot be delivered becomes a dead letter in the node.

        `flush` waits until the node has it.
        """
        self._send(request_of("tell", to, type, together(payload, fields)))

    def flush(self) -> None:
        """Wait until the node has taken everything that was told so far."""
        number = self._take_number()
        self._send_numbered(Request("ping", number), number)
        self._wait(number, math.inf)

    # ------------------------------------------------------------------- events

    def events(self) -> Iterator[Event]:
        """Yield what daemons tell this client, as it comes; ends when the client is closed.

        An event is acknowledged when the next one is asked for: a slow reader slows
        its source or is told how much was dropped, as the source promises.

        Raises:
            Unreachable: The node ended.
        """
        while True:
            with self._lock:
                while not self._events:
                    if self._broken is not None:
                        if self._is_closed:
                            return
                        raise self._broken
                    self._read_or_wait(math.inf, watch_for_silence=False)
                found = self._events.popleft()
            yield Event(found.event, found.sender, found.type, found.payload)
            try:
                self._send(Request("ack", event=found.event))
            except Dan9Error:
                continue  # the reason is told above

    def subscribe(
        self,
        to: str,
        type: str,
        /,
        *,
        payload: Mapping[str, Any] | None = None,
        timeout_s: float | None = DEFAULT,
        **fields: Any,
    ) -> Iterator[dict[str, Any]]:
        """Ask for a subscription (`watch`, `follow`) and yield the payloads of its events.

        It has a connection of its own, so that closing the iterator ends it and its
        events meet no others.
        """
        with Client(self.path, client=self._name) as own:
            own.ask(to, type, payload=together(payload, fields), timeout_s=timeout_s)
            for event in own.events():
                yield event.payload

    # ----------------------------------------------------------------- requests

    def _call(
        self,
        kind: str,
        to: str,
        type_: str,
        payload: dict[str, Any],
        timeout_s: float | None,
        message_id: str | None,
    ) -> FromNode:
        request = request_of(kind, to, type_, payload, timeout_s, message_id)
        number = request.id = self._take_number()
        self._send_numbered(request, number)
        limit = request.timeout
        ends = time.monotonic() + limit + GRACE_S if isinstance(limit, (int, float)) else math.inf
        try:
            reply = self._wait(number, ends)
        except TimedOut:
            raise timed_out(to, type_, float(limit or 0)) from None
        if reply.error is not None:
            raise from_form(reply.error)
        return reply

    def _take_number(self) -> int:
        with self._lock:
            self._number += 1
            self._waiting[self._number] = None
            return self._number

    def _send_numbered(self, request: Request, number: int) -> None:
        try:
            self._send(request)
        except BaseException:
            with self._lock:
                self._waiting.pop(number, None)
            raise

    def _send(self, request: Request) -> None:
        frame = self._frame_of(request)
        with self._sending:
            if self._broken is not None:
                raise self._broken
            try:
                self._write(frame)
            except OSError:
                with self._lock:
                    # The node may have said why before it closed: that is the better word.
                    self._drain()
                    raise self._break(self._lost()) from None

    def _frame_of(self, message: Hello | Request) -> list[bytes]:
        """Return what to send, in order; a large body is not copied."""
        out = Outbox()
        self._put(out, message)
        return out.take()

    def _write(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            self._socket.sendall(piece)

    def _wait(self, number: int, ends: float) -> FromNode:
        """Return the reply to a request, reading for everybody while nobody else does."""
        try:
            with self._lock:
                while True:
                    reply = self._waiting.get(number)
                    if reply is not None:
                        return reply
                    if self._broken is not None:
                        raise self._broken
                    self._read_or_wait(ends, watch_for_silence=True)
        except (TimedOut, KeyboardInterrupt):
            with suppress(Dan9Error):  # then there is nothing to cancel
                self._send(Request("cancel", number))
            raise
        finally:
            with self._lock:
                self._waiting.pop(number, None)

    def _read_or_wait(self, ends: float, *, watch_for_silence: bool) -> None:
        """Let some frames come in, or another thread bring them. Called with the lock held."""
        left = ends - time.monotonic()
        if left <= 0:
            raise TimedOut
        if self._is_read:
            self._lock.wait(None if left == math.inf else left)
            return
        self._is_read = True
        try:
            self._lock.release()
            try:
                data = self._receive(left, watch_for_silence)
            finally:
                self._lock.acquire()
            if data:
                self._feed(data)
            elif data is not None:
                self._break(self._lost())
        except OSError:
            self._break(self._lost())
        finally:
            self._is_read = False
            self._lock.notify_all()

    def _receive(self, left: float, watch_for_silence: bool) -> bytes | None:
        """Return what came, nothing at the end of the stream, None when the time is over."""
        if left == math.inf and not watch_for_silence:
            return self._read(math.inf)
        data = self._read(min(left, PATIENCE_S))
        if data is not None or left <= PATIENCE_S:
            return data
        if not self._sending.acquire(blocking=False):
            return None  # a thread is in the middle of a frame: not now
        try:
            self._write(self._frame_of(Request("ping", 0)))
        finally:
            self._sending.release()
        data = self._read(min(left, PATIENCE_S))
        if data is None and left > 2 * PATIENCE_S:
            with self._lock:
                self._break(
                    Unreachable(
                        f"the node {self.node} (pid {self.pid}) does not answer",
                        hint=f"it is stopped or a handler blocks it: look at process {self.pid}",
                    )
                )
        return data

    def _read(self, seconds: float) -> bytes | None:
        """Return what came, nothing at the end of the stream, None if nothing came in time."""
        # The limit is the socket's own: to poll before each recv is one system call more.
        if seconds != self._patience_s:
            self._patience_s = seconds
            whole, parts = divmod(0 if seconds == math.inf else max(1, int(seconds * 1e6)), 10**6)
            limit = _TIMEVAL.pack(whole, parts)  # zero is no limit
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        try:
            return self._socket.recv(_PIECE)
        except BlockingIOError:
            return None

    def _feed(self, data: bytes) -> None:
        try:
            for body in self._reader.feed(data):
                self._deliver(decode_from_node(body))
            if self._reader.failed is not None:
                raise self._reader.failed
        except WireError as error:
            self._break(error)

    def _deliver(self, frame: FromNode) -> None:
        if frame.event:
            self._events.append(frame)
        elif frame.id is None:
            if frame.error is not None:
                self._break(from_form(frame.error))
        elif frame.id in self._waiting:
            self._waiting[frame.id] = frame

    def _drain(self) -> None:
        """Read what the node said before it closed."""
        try:
            self._socket.setblocking(False)
            while data := self._socket.recv(_PIECE):
                self._feed(data)
        except OSError:
            pass

    def _break(self, error: Dan9Error) -> Dan9Error:
        """Remember the first reason why no more can come; return it."""
        if self._broken is None:
            self._broken = error
        self._lock.notify_all()
        return self._broken

    def _shake_hands(self, client: str) -> None:
        """Say hello, read the welcome."""
        ends = time.monotonic() + PATIENCE_S
        try:
            with suppress(OSError):  # a node that refuses us may have closed; it said why
                self._write(self._frame_of(Hello(PROTOCOL, VERSION, client)))
            while True:
                data = self._read(ends - time.monotonic())
                if data is None:
                    raise silent(self.path)
                bodies = self._reader.feed(data)
                if bodies:
                    self._enter(decode_welcome(bodies[0]))
                    return
                if not data:
                    raise self._lost()
        except OSError:
            raise self._lost() from None


def _open(path: str) -> socket.socket:
    """Return a connected socket.

    Raises:
        NoNode: Nobody listens at the path.
        PermissionRefused: It is another user's.
    """
    keep_freed_memory()
    found = socket.socket(socket.AF_UNIX)
    try:
        with reachable(path) as short:
            found.connect(short)
    except OSError as error:
        found.close()
        raise no_node(path, error) from None
    except BaseException:
        found.close()
        raise
    return found
