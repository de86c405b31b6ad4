"""One client's connection: frames in, requests to the node, answers and events out.

An asyncio Protocol and not streams, because a task and two buffers per connection cost more
than the work. Whatever a loop turn produces leaves in one write at its end. No client can
harm the node: frames are cut before they are decoded, a broken stream gets one error
frame and is closed, and every kind of slowness has a limit (see `Limits`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast, final

import msgspec
from msgspec.structs import astuple
from mypy_extensions import mypyc_attr

from dan9.base.errors import BadPayload, Closed, Dan9Error, WireError, to_form
from dan9.base.frame import FrameReader
from dan9.edge.outbox import Outbox
from dan9.edge.port import Limits, NodePort, Visit
from dan9.edge.protocol import (
    FOREVER,
    PROTOCOL,
    VERSION,
    Answer,
    Event,
    Failure,
    Hello,
    Request,
    Welcome,
)
from dan9.edge.usual import read_ask
from dan9.kernel.wires import WireReply, Wires

if TYPE_CHECKING:
    from dan9.edge.server import Server

__all__ = ["Connection"]

_hello: Final[Any] = msgspec.msgpack.Decoder(Hello).decode
_request: Final[Any] = msgspec.msgpack.Decoder(Request).decode
_anything: Final[Any] = msgspec.msgpack.Decoder().decode
# What is final is no look-up in a dict at each use.
_read_ask: Final[Any] = read_ask
_fields: Final[Any] = astuple
_READ_ERRORS: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
_WRITE_ERRORS: Final = (TypeError, ValueError, OverflowError, RecursionError, WireError)
_LINGER_S: Final = 1.0  # how long a refused peer has to read why


@final
@mypyc_attr(acyclic=True, free_list_len=1)
class Pending(WireReply):
    """A request that is not answered: the callback of the node's answer.

    Attributes:
        number: The client's number for it.
        handle: What `cancel()` may be called on.
        is_open: The client waits for the answer.
    """

    def __init__(self, connection: Connection, number: Any) -> None:
        super().__init__()
        self.connection = connection
        self.number = number
        self.handle: Any = None
        self.is_open = True

    def answer(self, ok: bool, value: Any) -> None:
        """Send the answer, unless nobody waits for it."""
        if self.is_open:
            self.is_open = False
            self.connection.answer(self.number, ok, value)

    def give_up(self) -> None:
        """Cancel it: nobody will hear the answer."""
        self.is_open = False
        if self.handle is not None:
            self.handle.cancel()


@final
class Connection:
    """The node's side of one connection. It is also the `Link` of the client's daemon.

    An asyncio Protocol by its methods only: a compiled class has no interpreted base.
    """

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self._port: NodePort = server.port
        self._wires: Wires = server.port.wires
        self._limits: Limits = server.limits
        self._max_frame_bytes = server.limits.max_frame_bytes
        self._in_flight = server.limits.in_flight
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(self._limits.max_frame_bytes)
        self._transport: asyncio.Transport | None = None
        self._write: Any = None  # the transport's: to look it up for each frame takes time
        self._visit: Visit | None = None
        self._admission: asyncio.Task[None] | None = None
        self._early: list[bytes | bytearray] = []
        self._address = ""
        self._open: dict[Any, Pending] = {}  # by the client's numbers
        self._out = Outbox()
        self._is_flushing = False
        self._is_full = False  # the client does not read
        self._is_read = True
        self._is_ending = False
        self._events = 0
        self._unanswered: dict[int, Callable[[], None]] = {}
        self._room: list[asyncio.Future[None]] = []
        self._received = 0
        self._watch: asyncio.TimerHandle | None = None
        self._watched = (0, 0)

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection, if it is this user's."""
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class
        self._transport = transport
        self._write = transport.write
        transport.set_write_buffer_limits(high=self._limits.pause_bytes)
        refusal = self._server.meet(self, transport)
        if refusal is not None:
            self._fail(refusal)
            return
        self._watch = self._loop.call_later(self._limits.hello_s, self._hello_late)

    def data_received(self, data: bytes) -> None:
        """Cut what came into frames and take each."""
        if self._is_over():
            return
        self._received += 1
        # The node works on it now, and what it answers at once leaves at once: each turn of
        # the loop costs a system call, and whoever asks one thing after another waits for it.
        was_flushing, self._is_flushing = self._is_flushing, True
        is_admitted = self._visit is not None
        if is_admitted:
            self._wires.hold()
        try:
            one = self._reader.whole(data)
            if one is not None:
                self._take(one)
            else:
                for body in self._reader.feed(data):
                    self._take(body)
                    if self._is_ending:
                        return
        except WireError as error:
            self._fail(error)
            return
        finally:
            if is_admitted:
                self._wires.turn()
            self._is_flushing = was_flushing
        if self._out.size and not was_flushing:
            self._flush()
        if self._reader.failed is not None:
            self._fail(self._reader.failed)
        elif self._reader.is_half and self._watch is None:
            self._watch_progress()
        if len(self._open) >= self._in_flight:
            self._regulate()

    def eof_received(self) -> bool:
        """The client is gone, or as good as: what it has open is given up.

        A Unix socket does not tell a half-closed peer from a killed one, and an ask without a
        deadline must end with its asker.
        """
        if self._reader.is_half:
            self._fail(WireError("the connection ended inside a frame"))
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Give up what the client asked for, and end its daemon."""
        del exc  # whichever end it was, nobody is there to be told
        self._is_ending = True
        self._transport = None
        self._write = None
        if self._watch is not None:
            self._watch.cancel()
        self._give_up()
        for future in self._room:
            if not future.done():
                future.set_exception(self._gone())
        self._room.clear()
        self._unanswered.clear()
        if self._visit is not None:
            self._visit.end()
        self._server.part(self)

    def pause_writing(self) -> None:
        """The client does not read: read no more from it."""
        self._is_full = True
        self._regulate()
        if self._watch is None:
            self._watch_progress()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._is_full = False
        self._regulate()
        for future in self._room:
            if not future.done():
                future.set_result(None)
        self._room.clear()

    # ---------------------------------------------------------------- frames in

    def _take(self, body: bytes | bytearray) -> None:
        if self._visit is None:
            if self._admission is not None:
                self._early.append(body)
            elif not self._is_ending:
                self._greet(body)
            return
        usual: tuple[Any, ...] | None = _read_ask(body)
        if usual is not None and self._ask(usual[0], usual[1], usual[2], usual[3], None):
            return
        try:
            request: Request = _request(body)
        except _READ_ERRORS as error:
            self._misshapen(body, error)
            return
        # One call for all fields: eight look-ups of attributes took 4 % of an ask.
        fields: tuple[Any, ...] = _fields(request)
        kind: str = fields[0]
        if kind == "ask":
            number = fields[1]
            is_usual = number is not None and fields[5] is None
            if not is_usual or not self._ask(number, fields[2], fields[3], fields[4], fields[6]):
                self._begin(request)
        elif kind == "tell":
            self._tell(request)
        elif kind == "ack":
            answer = self._unanswered.pop(request.event, None)
            if answer is not None:
                answer()
        elif kind == "send":
            self._begin(request)
        elif kind == "cancel":
            self._cancel(request)
        elif kind == "ping":
            self._say(Answer(request.id or 0, "pong"))
        else:
            self._refuse(
                request.id,
                BadPayload(
                    f"a request of kind {kind!r}",
                    hint="kinds are ask, tell, send, cancel, ack and ping",
                    at="kind",
                ),
            )

    def _ask(self, number: Any, to: Any, type_: Any, payload: Any, message_id: str | None) -> bool:
        """Ask without the detours of `_begin`, the hot path; False if the number is in use."""
        pending = Pending(self, number)
        if self._open.setdefault(number, pending) is not pending:
            return False
        try:
            pending.handle = self._wires.ask(
                self._address, to, type_, payload, pending, -1.0, message_id
            )
        except Exception as error:  # see _begin
            pending.answer(False, to_form(error))
        return True

    def _greet(self, body: bytes | bytearray) -> None:
        try:
            hello = _hello(body)
        except _READ_ERRORS as error:
            self._fail(
                WireError(
                    f"the first frame is no hello: {error}",
                    hint=f'begin with {{"hello": "{PROTOCOL}", "version": {VERSION}}}',
                )
            )
            return
        if hello.hello != PROTOCOL or hello.version < 1:
            self._fail(
                WireError(
                    f"this node speaks {PROTOCOL} version {VERSION}, "
                    f"not {hello.hello!r} version {hello.version}",
                    hint="use a client of the node's own build",
                )
            )
            return
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        self._admission = self._loop.create_task(self._admit())
        self._regulate()  # what the client says before it is admitted can wait in its socket

    async def _admit(self) -> None:
        try:
            visit = await self._server.reception.admit(self._number, self)
        except Dan9Error as error:
            self._fail(error)
            return
        if self._transport is None:  # gone meanwhile
            visit.end()
            return
        self._visit = visit
        self._address = visit.address
        limit = self._limits.max_frame_bytes
        server = self._server
        self._say(
            Welcome(
                PROTOCOL, VERSION, self._port.name, server.pid, server.build, visit.address, limit
            )
        )
        early, self._early = self._early, []
        for body in early:
            self._take(body)
        self._regulate()

    def _begin(self, request: Request) -> None:
        """Ask or send."""
        number = request.id
        if number is None:
            self._refuse(None, BadPayload(f"an {request.kind} without an id", at="id"))
            return
        if number in self._open:
            self._fail(WireError(f"the id {number} is in use", hint="number requests upwards"))
            return
        timeout: float | str | None = request.timeout
        if timeout is None:
            timeout = -1.0  # the message's own
        elif timeout == FOREVER:
            timeout = None
        elif isinstance(timeout, str) or not timeout >= 0:
            self._refuse(
                number,
                BadPayload(
                    f"a timeout of {timeout!r}",
                    hint='give seconds, 0 or more, or "none"',
                    at="timeout",
                ),
            )
            return
        self._open[number] = pending = Pending(self, number)
        sender, to, type_, payload = self._address, request.to, request.type, request.payload
        name = request.message_id
        try:
            if request.kind == "ask":
                pending.handle = self._wires.ask(sender, to, type_, payload, pending, timeout, name)
            else:
                pending.handle = self._port.wire_send(
                    sender, to, type_, payload, pending.answer, timeout, name
                )
        except Exception as error:  # a fault of the node's is an answer too, not the end of all
            pending.answer(False, to_form(error))

    def _tell(self, request: Request) -> None:
        number = request.id
        try:
            self._port.wire_tell(
                self._address,
                request.to,
                request.type,
                request.payload,
                message_id=request.message_id,
            )
        except Exception as error:  # see _begin
            if number is not None:
                form: Any = to_form(error)["error"]
                self._say(Failure(form, number))
            return
        if number is not None:
            self._say(Answer(number))

    def _cancel(self, request: Request) -> None:
        pending = self._open.pop(request.id, None)
        if pending is not None:
            pending.give_up()
            self._regulate()

    def _misshapen(self, body: bytes | bytearray, error: Exception) -> None:
        """A frame that is no request: told by its id if it has one, else the end."""
        try:
            number = _anything(body).get("id")
        except (*_READ_ERRORS, AttributeError):
            number = None
        refusal = WireError(
            f"a frame that is no request: {error}", hint="docs: reference, protocol"
        )
        if type(number) is int and number not in self._open:
            self._refuse(number, refusal)
        else:
            self._fail(refusal)

    # --------------------------------------------------------------- frames out

    def answer(self, number: Any, ok: bool, value: Any) -> None:
        """Answer a request; the node's side of `Pending`."""
        del self._open[number]
        if ok:
            try:
                self._out.answer(number, value, self._max_frame_bytes)
            except _WRITE_ERRORS:
                self._say(Answer(number, value))  # which says why not
            if not self._is_flushing:
                if self._open:  # more answers may follow in this turn of the loop
                    self._is_flushing = True
                    self._loop.call_soon(self._flush)
                else:
                    self._flush()
        else:
            self._say(Failure(value.get("error", value), number))
        if not self._is_read:
            self._regulate()

    def _refuse(self, number: int | None, error: Dan9Error) -> None:
        form: Any = to_form(error)["error"]
        self._say(Failure(form, number))

    def _say(self, message: msgspec.Struct) -> None:
        """Queue a frame for the end of this loop turn."""
        try:
            self._out.add(message, self._limits.max_frame_bytes)
        except _WRITE_ERRORS as error:
            if isinstance(message, Event):  # nobody asked: drop it, and let the source go on
                self._unanswered.pop(message.event, lambda: None)()
                self._server.log("warning", f"an event to {self._address} was dropped: {error}")
                return
            number = getattr(message, "id", None)
            refusal = (
                error
                if isinstance(error, WireError)
                else BadPayload(f"the reply cannot cross a wire: {error}")
            )
            form: Any = to_form(refusal)["error"]
            self._out.add(Failure(form, number), self._limits.max_frame_bytes)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        transport = self._transport
        pieces = self._out.take()
        if transport is None or self._is_ending:
            return  # too late: the last word has been said
        for piece in pieces:
            self._write(piece)
        if self._is_full and transport.get_write_buffer_size() > self._limits.unsent_bytes:
            self._cut(f"did not read: {transport.get_write_buffer_size()} bytes were waiting")

    # ------------------------------------------------------------------- events

    def deliver(
        self,
        sender: str,
        type: str,
        payload: Any,
        answer: Callable[[], None],
    ) -> None:
        """Forward an event of the node to the client."""
        if self._transport is None or self._is_ending:
            return
        self._events += 1
        self._unanswered[self._events] = answer
        self._say(Event(self._events, sender, type, payload))

    async def room(self) -> None:
        """Wait until the client takes more.

        Raises:
            Closed: It is gone.
        """
        if self._transport is None:
            raise self._gone()
        if self._is_full:
            future: asyncio.Future[None] = self._loop.create_future()
            self._room.append(future)
            await future

    def _gone(self) -> Closed:
        return Closed(f"the client {self._address} is gone", address=self._address)

    # -------------------------------------------------------- slowness and ends

    def _regulate(self) -> None:
        """Read from the client, or stop reading, as its debts say."""
        met = self._admission is None or self._visit is not None
        wanted = met and not self._is_full and len(self._open) < self._in_flight
        if wanted == self._is_read or self._transport is None or self._transport.is_closing():
            return
        self._is_read = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _hello_late(self) -> None:
        self._watch = None
        self._fail(WireError(f"no hello within {self._limits.hello_s:g} s"))

    def _watch_progress(self) -> None:
        """Look again in `stall_s`: half a frame must have grown, unread bytes shrunk."""
        assert self._transport is not None
        self._watched = (self._received, self._transport.get_write_buffer_size())
        self._watch = self._loop.call_later(self._limits.stall_s, self._look)

    def _look(self) -> None:
        self._watch = None
        if self._transport is None:
            return
        received, unsent = self._watched
        if self._is_full and self._transport.get_write_buffer_size() >= unsent:
            self._cut(f"read nothing for {self._limits.stall_s:g} s")
        elif self._reader.is_half and self._is_read and self._received == received:
            self._fail(WireError(f"half a frame, and nothing more for {self._limits.stall_s:g} s"))
        elif self._is_full or self._reader.is_half:
            self._watch_progress()

    def _fail(self, error: Dan9Error) -> None:
        """Say what is wrong and close; the peer has a moment to read it."""
        if self._is_ending or self._transport is None:
            return
        self._refuse(None, error)
        self._flush()
        self._is_ending = True
        self._give_up()
        self._server.log("warning", f"client {self._address or self._number}: {error}")
        transport = self._transport
        if transport is not None:
            # Not close(): a peer in the middle of a write would meet the broken pipe
            # before it reads why. What it still says is passed over.
            transport.write_eof()
            self._loop.call_later(_LINGER_S, transport.abort)

    def _give_up(self) -> None:
        """Cancel what is open: nobody will hear the answers."""
        waiting, self._open = list(self._open.values()), {}
        for pending in waiting:
            pending.give_up()

    def _cut(self, why: str) -> None:
        """End a connection whose peer does not read: it would not read a farewell either."""
        self._is_ending = True
        self._server.log("warning", f"client {self._address or self._number} {why}; cut off")
        if self._transport is not None:
            self._transport.abort()

    def bid_farewell(self, node: str) -> None:
        """The node stops: say so after what is due already, and close."""
        if self._transport is None:
            return
        if self._is_ending:
            self._transport.close()  # it has been told why already
            return
        for number in self._open:
            self._refuse(number, Closed(f"the node {node} stopped before it answered"))
        self._refuse(None, Closed(f"the node {node} is stopping"))
        self._flush()
        self._is_ending = True
        self._give_up()
        if self._transport is not None:
            self._transport.close()
            self._loop.call_later(_LINGER_S, self._transport.abort)

    def _is_over(self) -> bool:
        return self._is_ending
