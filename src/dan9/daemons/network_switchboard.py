"""The connections and listeners of one network daemon, and what becomes of them.

A connection is entered when it is established, told of when it is lost, and kept a while
after that if somebody may still want the bytes that it brought. One that delivers has a pump;
the pumps of a listener share its feed, which lives until the last of them has told the end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from dan9.base.errors import Closed, NotFound
from dan9.daemons.network_feed import Feed, Pump
from dan9.daemons.network_framing import Frame
from dan9.daemons.network_hall import Listener, Seats
from dan9.daemons.network_replies import ConnectionRow, ListenerRow
from dan9.daemons.network_stream import Stream

__all__ = ["Switchboard"]

MAX_REMAINS: Final = 1_024
"""Closed connections whose unread bytes are kept for a late reader."""


class Switchboard:
    """Who is connected to whom.

    Args:
        seats: How many connections there may be.
        limit: Bytes that each holds in either direction.
        now: Reads the clock, in UTC seconds since 1970.
        count: Adds to a metric of the daemon.
    """

    def __init__(
        self,
        seats: Seats,
        *,
        limit: int,
        now: Callable[[], float],
        count: Callable[[str, int], None],
    ) -> None:
        self.seats = seats
        self.streams: dict[str, Stream] = {}
        self.listeners: dict[str, Listener] = {}
        self._limit = limit
        self._now = now
        self._count = count
        self._listener_of: dict[str, str] = {}
        self._remains: dict[str, Stream] = {}
        self._pumps: dict[str, Pump] = {}
        self._feeds: dict[str, Feed] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._serial = 0

    def name(self, letter: str) -> str:
        """Return the next id: `c1`, `l2`."""
        self._serial += 1
        return f"{letter}{self._serial}"

    # -- connections -----------------------------------------------------------------------

    def stream(self, idle_s: float) -> Stream:
        """Make the stream of a connection to come; a seat was taken for it."""
        return Stream(self.name("c"), limit=self._limit, idle_s=idle_s, on_lost=self._on_lost)

    def enter(self, stream: Stream, listener: str = "") -> None:
        """Note that it is established."""
        stream.opened = self._now()
        self.streams[stream.name] = stream
        if listener:
            self._listener_of[stream.name] = listener
        self._count("connections-accepted" if listener else "connections-made", 1)
        if stream.is_lost:  # between the handshake and here
            self._on_lost(stream)

    def find(self, name: str, *, remains: bool = False) -> Stream:
        """Return a connection.

        Args:
            name: Its id.
            remains: One that is closed and has bytes left will do.

        Raises:
            NotFound: There is none.
        """
        stream = self.streams.get(name)
        if stream is None and remains:
            stream = self._remains.get(name)
        if stream is None:
            raise NotFound(
                f"no connection {name!r}: it was closed, or never was",
                hint="`list` shows those there are",
                at="payload.connection-id",
            )
        return stream

    def forget(self, stream: Stream) -> None:
        """Drop what was left of a closed connection: it was read to its end."""
        self._remains.pop(stream.name, None)

    def deliver(self, stream: Stream, subscriber: Feed, frame: Frame, half_open: bool) -> None:
        """Tell `subscriber` what comes in, from now on."""
        self._feeds[stream.name] = subscriber
        self._pump(stream, subscriber, frame, half_open, "")

    def _pump(
        self, stream: Stream, feed: Feed, frame: Frame, half_open: bool, listener: str
    ) -> None:
        pump = Pump(stream, feed, frame, half_open=half_open, listener=listener)
        self._pumps[stream.name] = pump
        pump.start(self._pump_ended)

    def _on_lost(self, stream: Stream) -> None:
        if self.streams.pop(stream.name, None) is None:
            return  # it was never entered, and whoever opened it gives the seat back
        self.seats.leave()
        self._listener_of.pop(stream.name, None)
        self._count("bytes-in", stream.bytes_in)
        self._count("bytes-out", stream.bytes_out)
        if stream.name not in self._pumps:
            self._remains[stream.name] = stream
            if len(self._remains) > MAX_REMAINS:
                del self._remains[next(iter(self._remains))]

    def _pump_ended(self, stream: Stream) -> None:
        pump = self._pumps.pop(stream.name, None)
        if pump is not None:
            self._release(pump.listener or stream.name)

    # -- listeners -------------------------------------------------------------------------

    def open(self, listener: Listener, feed: Feed | None) -> None:
        """Enter a listener whose door is open."""
        self.listeners[listener.name] = listener
        if feed is not None:
            self._feeds[listener.name] = feed

    def listener(self, name: str) -> Listener:
        """Return a listener.

        Raises:
            NotFound: There is none.
        """
        listener = self.listeners.get(name)
        if listener is None:
            raise NotFound(
                f"no listener {name!r}",
                hint="`list` shows those there are",
                at="payload.listener-id",
            )
        return listener

    async def close(self, listener: Listener) -> None:
        """Close a listener; what it accepted and somebody has taken lives on."""
        self.listeners.pop(listener.name, None)
        for stream in await listener.close():
            stream.abort()
        self._release(listener.name)

    def arrived(self, listener: Listener, stream: Stream) -> None:
        """Enter a connection that a listener accepted."""
        self.enter(stream, listener.name)
        feed = self._feeds.get(listener.name)
        if feed is None:
            listener.streams.put(stream)
        else:
            self._pump(stream, feed, listener.frame, listener.half_open, listener.name)

    def parcel(self, listener: Listener, data: bytes, peer: str) -> None:
        """Hand a datagram on; a slow subscriber loses some, as any slow reader of UDP does."""
        feed = self._feeds.get(listener.name)
        if feed is None:
            listener.parcels.put((data, peer))
        else:
            feed.offer("datagram", listener_id=listener.name, peer=peer, data=data)

    def subscriber_ended(self, name: str) -> None:
        """Close what delivered to a daemon that is no more."""
        self._feeds.pop(name, None)
        listener = self.listeners.get(name)
        if listener is not None:
            task = asyncio.get_running_loop().create_task(self.close(listener))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        gone = Closed("the daemon that it delivered to has ended")
        for stream in list(self.streams.values()):
            if stream.name == name or self._listener_of.get(stream.name) == name:
                stream.abort(gone)

    def _release(self, source: str) -> None:
        """Close a feed that nothing delivers through any more."""
        if source in self.listeners or any(p.source == source for p in self._pumps.values()):
            return
        feed = self._feeds.pop(source, None)
        if feed is not None:
            feed.close()

    # -- all of them -----------------------------------------------------------------------

    async def shut(self, within_s: float) -> None:
        """Close everything; returns when every socket is closed."""
        await asyncio.gather(*(self.close(one) for one in list(self.listeners.values())))
        work: list[Coroutine[Any, Any, None]] = [p.stop() for p in self._pumps.values()]
        work += [stream.close(within_s) for stream in self.streams.values()]
        await asyncio.gather(*work, *self._tasks, return_exceptions=True)
        for feed in self._feeds.values():
            feed.close()
        # A transport tells of its loss one turn before its socket is closed.
        await asyncio.sleep(0)

    def connection_rows(self) -> list[ConnectionRow]:
        """Return every connection as `list` shows it."""
        return [
            {
                "connection_id": one.name,
                "kind": one.kind,
                "peer": one.peer,
                "local": one.local,
                "listener_id": self._listener_of.get(one.name, ""),
                "state": one.state,
                "bytes_in": one.bytes_in,
                "bytes_out": one.bytes_out,
                "unread": one.unread,
                "unsent": one.unsent,
                "opened": one.opened,
            }
            for one in self.streams.values()
        ]

    def listener_rows(self) -> list[ListenerRow]:
        """Return every listener as `list` shows it."""
        return [
            {
                "listener_id": one.name,
                "kind": one.kind,
                "local": one.local,
                "port": 0 if one.door is None else one.door.port,
                "deliver_to": one.deliver_to,
                "accepted": one.accepted,
                "turned_away": one.turned_away_count,
                "waiting": len(one.streams) + len(one.parcels),
                "bytes_in": one.bytes_in,
                "bytes_out": one.bytes_out,
            }
            for one in self.listeners.values()
        ]
