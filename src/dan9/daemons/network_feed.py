"""From a connection to the daemon that hears of it: one subscription a kind of message.

A pump is the task that carries one connection's arrivals to its subscriber, in order, a piece
at a time. When the subscriber lags, the pump waits; then the stream's buffer fills, reading
pauses, and the peer is slowed. Nothing else in the node notices.

When the other end has finished, the subscriber still has what came last in hand, and may
answer it. So the pump asks it for a `ping`, which is handled behind all that was delivered
before, and closes the connection when that comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal

from dan9.base.errors import Dan9Error
from dan9.daemons.network_framing import Frame
from dan9.daemons.network_stream import Stream
from dan9.kernel.subscription import Subscription

if TYPE_CHECKING:
    from dan9.kernel.daemon import Daemon

__all__ = ["Feed", "Pump"]

UNANSWERED: Final = 64
"""Deliveries of one kind that a subscriber may have in hand or queued."""

FLUSH_S: Final = 5.0
"""Seconds that a peer which has finished has to take the last answer."""


class Feed:
    """What one subscriber is told.

    Args:
        daemon: Who tells.
        subscriber: The address of the daemon that is told.
        on_end: Called once when the subscriber is no more.
    """

    def __init__(self, daemon: Daemon, subscriber: str, on_end: Callable[[], None]) -> None:
        self.subscriber = subscriber
        self._daemon = daemon
        self._on_end = on_end
        self._ended = False
        self._deaf: set[str] = set()
        self._open: dict[str, Subscription] = {}

    async def push(self, kind: str, **payload: Any) -> None:
        """Tell, waiting while too much is unanswered."""
        if not self._ended and kind not in self._deaf:
            await self._subscription(kind, "pause").push(**payload)

    def offer(self, kind: str, **payload: Any) -> None:
        """Tell, or drop and count it while too much is unanswered."""
        if not self._ended and kind not in self._deaf:
            self._subscription(kind, "drop").offer(**payload)

    async def settled(self) -> None:
        """Return when the subscriber has handled what it was told so far."""
        if not self._ended:
            try:
                await self._daemon.ask(self.subscriber, "ping", timeout_s=None)
            except Dan9Error:
                return  # stopped, or a client that answers no ping: there is nothing to wait for

    def close(self) -> None:
        """Tell nothing more; `on_end` is not called."""
        self._ended = True
        open_, self._open = self._open, {}
        for one in open_.values():
            one.close()

    def _subscription(self, kind: str, overflow: Literal["pause", "drop"]) -> Subscription:
        found = self._open.get(kind)
        if found is None:
            found = Subscription(
                self._daemon,
                self.subscriber,
                kind,
                limit=UNANSWERED,
                overflow=overflow,
                on_end=lambda: self._subscription_ended(kind),
            )
            self._open[kind] = found
        return found

    def _subscription_ended(self, kind: str) -> None:
        if self._ended:
            return
        if self._is_there():
            self._deaf.add(kind)  # it has no handler for this kind, and is not told any more
            self._open.pop(kind, None)
            return
        self.close()
        self._on_end()

    def _is_there(self) -> bool:
        try:
            return self._daemon.system.state_of(self.subscriber) not in {"stopped", "failed"}
        except Dan9Error:
            return False


class Pump:
    """Carries one connection's arrivals to its feed.

    Args:
        stream: The connection.
        feed: Where to.
        frame: How its bytes are cut.
        half_open: At the other end's last byte, tell of it by empty data and leave closing
            to the subscriber.
        listener: The listener that accepted it; empty if we called.
    """

    def __init__(
        self, stream: Stream, feed: Feed, frame: Frame, *, half_open: bool, listener: str
    ) -> None:
        self.stream = stream
        self.listener = listener
        self.source = listener or stream.name
        self._feed = feed
        self._frame = frame
        self._half_open = half_open
        self._task: asyncio.Task[None] | None = None

    def start(self, on_end: Callable[[Stream], None]) -> None:
        """Begin; `on_end` is called once, after `closed` was told."""
        self._task = asyncio.get_running_loop().create_task(
            self._run(), name=f"dan9 network pump {self.stream.name}"
        )
        self._task.add_done_callback(lambda _: on_end(self.stream))

    async def stop(self) -> None:
        """End at once, telling nothing."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        stream, feed = self.stream, self._feed
        if self.listener:
            await feed.push(
                "accepted",
                listener_id=self.listener,
                connection_id=stream.name,
                peer=stream.peer,
            )
        reason = await self._carry()
        await stream.close(FLUSH_S)
        await feed.push("closed", connection_id=stream.name, reason=reason)

    async def _carry(self) -> str:
        """Deliver until the connection ends; return why it did."""
        stream, feed = self.stream, self._feed
        try:
            while data := await stream.receive(self._frame):
                await feed.push("data", connection_id=stream.name, data=data)
            if self._half_open:
                await feed.push("data", connection_id=stream.name, data=b"")
                await stream.gone()
            else:
                await feed.settled()
        except Dan9Error as error:
            # It broke, was disconnected, or does not keep to the framing.
            stream.abort(error)
            return error.text
        return "end" if stream.error is None else stream.error.text
