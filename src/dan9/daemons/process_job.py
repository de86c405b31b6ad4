"""One request to keep something running: what to start, who hears of it, whether again.

A job outlives its processes. Each start is a `Child` with a pid of its own; the pid
that the asker was told goes on naming the job.
"""

from __future__ import annotations

from dan9.base.errors import Closed
from dan9.daemons.process_child import Child
from dan9.daemons.process_link import Order
from dan9.daemons.process_rules import Ended, Readiness
from dan9.kernel.log import Logger
from dan9.kernel.restart import Backoff, Streak
from dan9.kernel.subscription import Subscription

__all__ = ["Job"]

BACKOFF = Backoff(give_up_after=0)


class Job:
    """What `spawn` was asked for.

    Args:
        order: What to start.
        stdin: All it reads; None: a pipe that stays open.
        restart: `temporary`, `transient` or `permanent`.
        ready: What to wait for.
        ready_within: How long, in seconds.
    """

    def __init__(
        self,
        order: Order,
        *,
        stdin: bytes | None,
        restart: str,
        ready: Readiness | None,
        ready_within: float,
    ) -> None:
        self.order = order
        self.stdin = stdin
        self.restart = restart
        self.ready = ready
        self.ready_within = ready_within
        self.lines: Subscription | None = None
        self.ends: Subscription | None = None
        self.logger: Logger | None = None
        self.child: Child | None = None
        self.first = 0  # the pid that the asker was told
        self.closed = False
        self.stopped = False
        self.between = False
        self._streak = Streak()

    # telling

    def begin(self, child: Child) -> None:
        """Take on a fresh process, before it can have said anything."""
        self.child = child
        self.first = self.first or child.pid
        self.between = False
        if self.logger is not None:
            child.on_line(self._log)
        if self.lines is not None and not self.lines.is_closed:
            child.listen()

    def _log(self, stream: str, line: str) -> None:
        assert self.logger is not None
        self.logger.info("%s", line, stream=stream)

    async def deliver(self, child: Child) -> Ended:
        """Send every line and the end to the subscriber; return the end."""
        try:
            while self.lines is not None and (line := await child.next_line()) is not None:
                extra = {"dropped": child.take_dropped()} if child.dropped else {}
                await self.lines.push(pid=child.pid, stream=line[0], line=line[1], **extra)
        except Closed:
            child.deaf()
        ended = await child.ending()
        if self.ends is not None and not self.ends.is_closed:
            self.ends.offer(pid=child.pid, code=ended.code, signal=ended.signal)
        return ended

    def spare(self, address: str) -> None:
        """Do not tell this subscriber of the end."""
        if self.ends is not None and self.ends.subscriber == address:
            self.ends.close()

    def deafen(self) -> None:
        """The subscriber has ended: the process goes on unheard."""
        if self.child is not None:
            self.child.deaf()

    # again

    def up(self, now: float) -> None:
        """It is ready: from here on its health counts."""
        self._streak.came_up(now)

    def next_start(self, ended: Ended, now: float, draw: float) -> float | None:
        """Return the pause before the next start; None when there is none."""
        again = self.restart == "permanent" or (self.restart == "transient" and not ended.well)
        if self.stopped or not again:
            return None
        self._streak.ended(now, BACKOFF)
        self.between = True
        return BACKOFF.pause(self._streak.count, draw)

    def stop(self) -> None:
        """Do not start it again."""
        self.stopped = True

    def close(self) -> None:
        """It is over: nobody hears of it any more."""
        self.closed = True
        for subscription in (self.lines, self.ends):
            if subscription is not None:
                subscription.close()
