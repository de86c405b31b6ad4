"""Subscriptions: a daemon's events to whoever asked for them, never faster than they are taken.

Every event is an ask, so that "unanswered" has a meaning. At most `limit` are out at
once; then the source waits (`pause`: files, sockets, pipes) or what comes is dropped
and counted, and the next event says so (`drop`: logs, watches). A subscription ends with its
subscriber.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from dan9.base.errors import Closed, Dan9Error
from dan9.kernel.parking import Parking

if TYPE_CHECKING:
    from dan9.kernel.daemon import Daemon
    from dan9.kernel.message import Ask

__all__ = ["Subscription"]


class Subscription:
    """One subscriber's stream of events.

    Args:
        daemon: The source.
        subscriber: The address that gets the events.
        type: Their message type.
        limit: How many may be unanswered at once.
        overflow: What happens then.
        on_end: Called once when the subscription ends, for whatever reason.

    Attributes:
        id: Text that names it, unique in the system's run.
        dropped: Events dropped in all.
        is_closed: True once it has ended.
    """

    def __init__(
        self,
        daemon: Daemon,
        subscriber: str,
        type: str,
        *,
        limit: int = 64,
        overflow: Literal["pause", "drop"] = "pause",
        on_end: Callable[[], None] | None = None,
    ) -> None:
        system = daemon.system
        self.daemon = daemon
        self.subscriber = subscriber
        self.type = type
        self.limit = limit
        self.overflow = overflow
        self.dropped = 0
        self.is_closed = False
        self._on_end = on_end
        self._out = 0
        self._unsaid = 0
        self._room: list[Parking] = []
        self._scheduler = daemon._d9_cell.home.scheduler
        self._system = system
        self.id = f"{type}-{system.next_number()}"
        self._watch = system.on_end_of(subscriber, self.close, owner=daemon._d9_cell)

    def offer(self, **payload: object) -> bool:
        """Send one event if there is room; otherwise count it as dropped and return False."""
        if self.is_closed:
            return False
        if self._out >= self.limit:
            self.dropped += 1
            self._unsaid += 1
            return False
        if self._unsaid:
            payload["dropped"] = self._unsaid
            self._unsaid = 0
        self._deliver(payload)
        return True

    async def push(self, **payload: object) -> None:
        """Send one event, waiting for room if the subscription pauses its source.

        Raises:
            Closed: The subscription has ended.
        """
        if self.overflow == "drop":
            self.offer(**payload)
            return
        while self._out >= self.limit and not self.is_closed:
            parking = Parking(self._scheduler)
            self._room.append(parking)
            await parking
        if self.is_closed:
            raise Closed(
                f"the subscription {self.id} of {self.subscriber} has ended",
                address=self.subscriber,
            )
        self._deliver(payload)

    def close(self) -> None:
        """End it; a second call does nothing."""
        if self.is_closed:
            return
        self.is_closed = True
        self._system.forget_end_of(self._watch)
        for parking in self._room:
            parking.release()
        self._room.clear()
        if self._on_end is not None:
            self._on_end()

    @property
    def unanswered(self) -> int:
        """How many events are out."""
        return self._out

    def _deliver(self, payload: dict[str, object]) -> None:
        self._out += 1
        ask = self._system.start_ask(
            self.subscriber,
            self.type,
            payload,
            sender=self.daemon._d9_cell,
        )
        if ask is None:
            self._out -= 1
            self.close()
            return
        ask.add_done_callback(self._answered)

    def _answered(self, ask: Ask) -> None:
        self._out -= 1
        error = ask.exception()
        gone = isinstance(error, Dan9Error) and error.code in ("unknown-daemon", "not-running")
        if gone or isinstance(error, asyncio.CancelledError):
            self.close()
        while self._room and self._out < self.limit:
            self._room.pop(0).release()
