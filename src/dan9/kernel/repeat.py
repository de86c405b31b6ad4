"""What a daemon tells itself by the clock: `@every` and `@cron`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dan9.base.errors import MailboxFull
from dan9.kernel import mailbox
from dan9.kernel.cell import RUNNING, Cell
from dan9.kernel.message import NO_ARGS, Message, Verb
from dan9.kernel.timers import Timer

if TYPE_CHECKING:
    from dan9.kernel.kernel import System

__all__ = ["CronRepeater", "Repeater"]


class Repeater(Timer):
    """Tells a daemon one of its own messages every so often, at most one at a time.

    The n-th is due at start + n·interval, so that it never drifts; those that came due
    while one was queued or the daemon suspended coalesce. Time is the daemon's own: its
    subtree's clock, or the system's.
    """

    def __init__(self, system: System, cell: Cell, verb: Verb, seconds: float) -> None:
        super().__init__()
        self.system = system
        self.cell = cell
        self.verb = verb
        self.seconds = seconds
        self.clock = system.clock_of(cell)
        self.start = self.clock.monotonic()
        self.count = 0
        self.queued: Message | None = None

    def next_at(self) -> float:
        """Return when the next one is due."""
        now = self.clock.monotonic()
        self.count = max(self.count + 1, int((now - self.start) / self.seconds + 1e-9) + 1)
        return self.start + self.count * self.seconds

    def begin(self) -> None:
        """Set the timer, until the daemon ends."""
        cold = self.cell.chill()
        if cold.timers is None:
            cold.timers = []
        cold.timers.append(self)
        self.plan()

    def plan(self) -> None:
        """Set the timer of the next one."""
        self.system.call_on(self.cell, self.next_at(), self)

    def fire(self) -> None:
        """Tell it, unless the last one is still queued."""
        self.plan()
        if self.cell.state != RUNNING or self._is_queued():
            return
        message = Message(self.cell, self.verb, NO_ARGS, None)
        message.origin = self.cell
        self.queued = message
        try:
            self.system.scheduler.tell(message)
        except MailboxFull:
            self.queued = None

    def _is_queued(self) -> bool:
        return any(waiting is self.queued for waiting in mailbox.queued(self.cell))


_LONGEST_WAIT_S = 600.0
"""A wall clock may be set, and a machine may sleep, while nobody looks."""
_TOLERANCE_S = 0.01


class CronRepeater(Repeater):
    """The same by a crontab line, on the wall time of the daemon's clock.

    A time that the wall clock jumps over comes once, ten minutes later at most; one that it
    jumps back behind is waited for again, and what has come does not come twice.
    """

    def __init__(
        self, system: System, cell: Cell, verb: Verb, expression: str, timezone: str
    ) -> None:
        from dan9.base.schedule import Cron

        super().__init__(system, cell, verb, 60.0)
        self.cron = Cron(expression, timezone)
        self.due = self._after(self.clock.now())

    def next_at(self) -> float:
        """Return when to look at the wall clock next: when it is due, or sooner."""
        wait = min(self.due - self.clock.now(), _LONGEST_WAIT_S)
        return self.clock.monotonic() + max(0.0, wait)

    def fire(self) -> None:
        """Tell it if it is due by the wall clock; else wait on."""
        now = self.clock.now()
        if now < self.due - _TOLERANCE_S:
            self.plan()
            return
        self.due = self._after(max(now, self.due))
        super().fire()

    def _after(self, now: float) -> float:
        following = self.cron.after(now)
        return following if following is not None else float("inf")
