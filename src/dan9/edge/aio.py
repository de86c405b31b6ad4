"""The asyncio twin of `client`: the same calls, awaited, and any number of them in flight.

    async with await dan9.connect_async() as node:
        print(await node.ask("filesystem", "read", path="/etc/hostname"))

What one loop turn asks leaves in one write, so that a thousand asks gathered cost a few system
calls.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Coroutine, Generator, Mapping
from types import TracebackType
from typing import Any, Self, cast

from dan9.base.errors import (
    Closed,
    Dan9Error,
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
    Welcome,
    decode_from_node,
    decode_welcome,
    keep_freed_memory,
)

__all__ = ["AsyncClient", "connect_async"]


async def connect_async(
    name_or_path: str | None = None, *, client: str = "python-asyncio"
) -> AsyncClient:
    """Connect to a node of this user. Arguments and errors are those of `connect`."""
    keep_freed_memory()
    path = choose_socket(name_or_path)
    loop = asyncio.get_running_loop()
    try:
        with reachable(path) as short:
            _, found = await loop.create_unix_connection(lambda: AsyncClient(path), short)
    except OSError as error:
        raise no_node(path, error) from None
    await found.shake_hands(client)
    return found


class AsyncClient(Caller, asyncio.Protocol):
    """A connection to a node, for one event loop. Make it with `connect_async`."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader(MAX_FRAME_BYTES)
        self._transport: asyncio.Transport | None = None
        self._welcome: asyncio.Future[Welcome | Dan9Error] = self._loop.create_future()
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._out = Outbox()
        self._is_flushing = False
        self._events: asyncio.Queue[Event | None] = asyncio.Queue()
        self._broken: Dan9Error | None = None
        self._is_closed = False
        self._ended: asyncio.Future[None] = self._loop.create_future()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def shake_hands(self, client: str) -> None:
        """Say hello and wait for the welcome; `connect_async` has done it."""
        self._say(Hello(PROTOCOL, VERSION, client))
        try:
            async with asyncio.timeout(PATIENCE_S):
                self._enter(await self._welcome)
        except BaseException as error:
            await self.close()
            if isinstance(error, TimeoutError):
                raise silent(self.path) from None
            raise

    async def close(self) -> None:
        """Close the connection; subscriptions end with it. A second call does nothing."""
        self._is_closed = True
        self._break(Closed("this client is closed", hint="connect again"))
        if self._transport is not None:
            self._transport.close()
            await asyncio.shield(self._ended)

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
    ) -> Coroutine[Any, Any, Any]:
        """Ask a daemon and return its reply; see `Client.ask`. Cancelling it cancels the ask."""
        return self._call("ask", to, type, together(payload, fields), timeout_s, message_id)

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
    ) -> Coroutine[Any, Any, None]:
        """Tell a daemon, and wait until the message is in its mailbox."""
        return self._call("send", to, type, together(payload, fields), timeout_s, message_id)

    def tell(
        self,
        to: str,
        type: str,
        /,
        *,
        payload: Mapping[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Tell a daemon and go on; `flush` waits until the node has it."""
        self._say(request_of("tell", to, type, together(payload, fields)))

    async def flush(self) -> None:
        """Wait until the node has taken everything that was told so far."""
        await self._wait(Request("ping"), None)

    async def events(self) -> AsyncIterator[Event]:
        """Yield what daemons tell this client; see `Client.events`."""
        while True:
            event = await self._events.get()
            if event is None:
                self._events.put_nowait(None)  # for every other reader, and the next call
                if self._is_closed:
                    return
                raise self._broken or self._lost()
            yield event
            if self._broken is None:
                self._say(Request("ack", event=event.event))

    async def subscribe(
        self,
        to: str,
        type: str,
        /,
        *,
        payload: Mapping[str, Any] | None = None,
        timeout_s: float | None = DEFAULT,
        **fields: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """Ask for a subscription and yield its events' payloads, on a connection of its own."""
        body = together(payload, fields)
        async with await connect_async(self.path) as own:
            await own.ask(to, type, payload=body, timeout_s=timeout_s)
            async for event in own.events():
                yield event.payload

    # ----------------------------------------------------------------- requests

    async def _call(
        self,
        kind: str,
        to: str,
        type_: str,
        payload: dict[str, Any],
        timeout_s: float | None,
        message_id: str | None,
    ) -> Any:
        request = request_of(kind, to, type_, payload, timeout_s, message_id)
        limit = request.timeout
        if not isinstance(limit, (int, float)):
            return await self._wait(request, None)
        try:
            return await self._wait(request, limit + GRACE_S)
        except _Late:
            raise timed_out(to, type_, limit) from None

    def _wait(self, request: Request, timeout_s: float | None) -> Awaitable[Any]:
        """Send a request; return what gives its answer."""
        self._number = number = request.id = self._number + 1
        self._say(request)
        future: asyncio.Future[Any] = self._loop.create_future()
        self._waiting[number] = future
        if timeout_s is not None:
            late = self._loop.call_later(timeout_s, _set_late, future)
            future.add_done_callback(lambda _: late.cancel())
        return _Answer(self, number, future)

    def _cancel(self, number: int) -> None:
        if self._broken is None:
            self._say(Request("cancel", number))

    def _say(self, message: Hello | Request) -> None:
        if self._broken is not None:
            raise self._broken
        self._put(self._out, message)
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        if self._transport is not None:
            for piece in self._out.take():
                self._transport.write(piece)

    # ------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one but by class

    def data_received(self, data: bytes) -> None:
        """Take the frames that came."""
        try:
            for body in self._reader.feed(data):
                self._take(body)
            if self._reader.failed is not None:
                raise self._reader.failed
        except WireError as error:
            self._break(error)
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell all who wait."""
        del exc  # whichever end it was
        self._break(self._lost())
        self._transport = None
        if not self._ended.done():
            self._ended.set_result(None)

    def _take(self, body: bytes | bytearray) -> None:
        if not self._welcome.done():
            self._welcome.set_result(decode_welcome(body))
            return
        frame: FromNode = decode_from_node(body)
        if frame.event:
            self._events.put_nowait(Event(frame.event, frame.sender, frame.type, frame.payload))
        elif frame.id is None:
            if frame.error is not None:
                self._break(from_form(frame.error))
        else:
            future = self._waiting.get(frame.id)
            if future is None or future.done():
                return
            if frame.error is None:
                future.set_result(frame.ok)
            else:
                future.set_exception(from_form(frame.error))

    def _break(self, error: Dan9Error) -> None:
        if self._broken is not None:
            return
        self._broken = error
        if not self._welcome.done():
            self._welcome.set_result(error)
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self._events.put_nowait(None)


class _Answer:
    """Awaits one answer, and gives it up if the awaiter is cancelled. Cheaper than a coroutine."""

    __slots__ = ("client", "future", "number")

    def __init__(self, client: AsyncClient, number: int, future: asyncio.Future[Any]) -> None:
        self.client = client
        self.number = number
        self.future = future

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            return (yield from self.future)
        except (asyncio.CancelledError, _Late):
            self.client._cancel(self.number)
            raise
        finally:
            self.client._waiting.pop(self.number, None)


class _Late(Exception):
    """The node did not even say that the time was over."""


def _set_late(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(_Late())
