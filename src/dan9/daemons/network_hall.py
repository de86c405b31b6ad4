"""What stands behind a listener: how many may come in, who waits for whom.

`Seats` is the one count of connections that a network daemon has, whoever opened them. A
listener takes no connection before a seat is free, so a crowd waits in the kernel's backlog
and not in our memory. `Arrivals` are connections and datagrams that came in and that nobody
fetched yet; it is bounded as well, by the seats for connections and by a count for datagrams,
which are dropped oldest first, as every router on their way would have done.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from dan9.base.errors import Closed, Dan9Error, NoSpace
from dan9.daemons.network_framing import Frame
from dan9.daemons.network_policy import Policy, Rule
from dan9.daemons.network_stream import Stream
from dan9.daemons.network_wires import Door

__all__ = ["Answers", "Arrivals", "Listener", "Seats"]

MAX_PARCELS: Final = 1_024
"""Datagrams kept for a listener that nobody fetches from."""

T = TypeVar("T")


class Seats:
    """How many connections are open, and who waits until one fewer is."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take(self) -> None:
        """Take a seat.

        Raises:
            NoSpace: All are taken.
        """
        if self.taken >= self.limit:
            raise NoSpace(
                f"{self.taken} connections are open, and {self.limit} are allowed",
                hint="disconnect some, or raise max-connections in the configuration",
            )
        self.taken += 1

    def leave(self) -> None:
        """Give a seat back and wake one who waits."""
        self.taken -= 1
        self._wake_next()

    async def free(self) -> None:
        """Return when a seat is free; it is not taken yet."""
        while self.taken >= self.limit:
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_next()
                raise

    def _wake_next(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Arrivals(Generic[T]):
    """A queue that is fetched from one at a time, in order of asking."""

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque()
        self._limit = limit
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._closed: Dan9Error | None = None
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Append; the oldest goes where there are too many."""
        if len(self._items) >= self._limit:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._wake_next()

    async def get(self) -> T:
        """Return the oldest, waiting for one. Cancelled while it waits, it took nothing.

        Raises:
            Closed: The listener was closed.
        """
        while not self._items:
            if self._closed is not None:
                raise self._closed
            waiter = asyncio.get_running_loop().create_future()
            self._waiting.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake_next()
                raise
        return self._items.popleft()

    def close(self, error: Dan9Error) -> list[T]:
        """Refuse whoever waits and return what nobody fetched."""
        self._closed = error
        left = list(self._items)
        self._items.clear()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
        self._waiting.clear()
        return left

    def _wake_next(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return


class Listener:
    """One listener: the `Hall` of a TCP, TLS or Unix door, the `Parcels` of a UDP one.

    Args:
        name: Its id.
        kind: `tcp`, `tls`, `unix` or `udp`.
        seats: The daemon's.
        policy: The daemon's; its deny rules hold for callers too.
        allow_from: Rules that callers must fit, if there are any.
        make: Makes the stream of the next connection.
        on_stream: Called with each connection that is established.
        on_parcel: Called with each datagram: data and peer.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        *,
        seats: Seats,
        policy: Policy,
        allow_from: Sequence[Rule],
        make: Callable[[], Stream],
        on_stream: Callable[[Listener, Stream], None],
        on_parcel: Callable[[Listener, bytes, str], None],
    ) -> None:
        self.name = name
        self.kind = kind
        self.door: Door | None = None
        self.deliver_to = ""
        self.frame = Frame(65_536)
        self.half_open = False
        self.accepted = 0
        self.turned_away_count = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.streams: Arrivals[Stream] = Arrivals(seats.limit)
        self.parcels: Arrivals[tuple[bytes, str]] = Arrivals(MAX_PARCELS)
        self._seats = seats
        self._policy = policy
        self._allow_from = tuple(allow_from)
        self._make = make
        self._on_stream = on_stream
        self._on_parcel = on_parcel

    @property
    def local(self) -> str:
        """Where it listens."""
        return "" if self.door is None else self.door.local

    async def room(self) -> None:
        """Return when there is a seat."""
        await self._seats.free()

    def admits(self, address: str) -> bool:
        """Tell whether the peer may come in; Unix peers passed the file's permissions."""
        port = self.door.port if self.door is not None else 0
        welcome = not address or self._policy.check_peer(address, port, self._allow_from)
        self.turned_away_count += not welcome
        return welcome

    def stream(self) -> Stream:
        """Take a seat for the next connection and return its stream."""
        self._seats.take()
        return self._make()

    def entered(self, stream: Stream) -> None:
        """Hand on a connection that is established."""
        self.accepted += 1
        self._on_stream(self, stream)

    def turned_away(self, stream: Stream, error: Dan9Error) -> None:
        """Give the seat of a failed handshake back."""
        stream.error = error
        self.turned_away_count += 1
        self._seats.leave()

    def arrived(self, data: bytes, peer: str) -> None:
        """Take a datagram, if its sender may speak here."""
        host = peer.rpartition(":")[0].strip("[]")
        if not self.admits(host):
            return
        self.accepted += 1
        self.bytes_in += len(data)
        self._on_parcel(self, data, peer)

    async def close(self) -> list[Stream]:
        """Stop listening; return the connections that nobody fetched."""
        if self.door is not None:
            await self.door.close()
        closed = Closed(f"the listener {self.name} was closed")
        self.parcels.close(closed)
        return self.streams.close(closed)


class Answers:
    """The `Parcels` of one outgoing datagram: only what was spoken to is listened to."""

    def __init__(self, peer: str) -> None:
        self._peer = peer
        self._queue: Arrivals[bytes] = Arrivals(1)

    def arrived(self, data: bytes, peer: str) -> None:
        """Take an answer; others may send to the port as well, and are not heard."""
        if peer == self._peer:
            self._queue.put(data)

    async def get(self) -> bytes:
        """Return the answer."""
        return await self._queue.get()
