"""Which task is due, by which of two clocks. Pure: the caller says what time it is.

A task that counts time (`once`, `repeating`) follows the monotonic clock: nobody who
sets the wall clock makes it early, late or fire twice. A task that names a time (`at`,
`cron`) follows the wall clock: when that is set, the task moves with it.

All instants are kept as wall time, for they must mean something after a restart. The
timetable remembers by how much the wall clock is ahead of the monotonic one. When that
changes it knows what happened: the machine slept (`suspended` grew by as much: time has
passed, what was missed is owed) or somebody set the clock (tasks that count time are
moved along, so that nothing changes for them).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dan9.base.schedule import Cron, Firing, Interval, Missed, Once, Schedule
from dan9.kernel.timers import NEVER, Carrier, Timer, TimerHeap, to_ns

__all__ = ["CLOCK_TOLERANCE_S", "Reading", "Task", "Timetable", "rule_of"]

Kind = Literal["once", "at", "repeating", "cron"]

CLOCK_TOLERANCE_S = 0.5
"""A wall clock that differs by less is being slewed, not set."""

_EPSILON_S = 1e-6  # wall time as a float is exact to a quarter of a microsecond


@dataclass(slots=True)
class Task:
    """One task: what to tell whom, and when next.

    Attributes:
        id: Its name, unique among all tasks of all time.
        kind: `once` and `repeating` count time, `at` and `cron` name times.
        target: An address, a bare name or a path; resolved at each firing.
        type: The message type.
        payload: What is told.
        number: The number of the next firing, from 1.
        when: When that is due, UTC seconds since 1970.
        anchor: When number 1 was due (`repeating`).
        interval: Seconds between firings (`repeating`).
        expression: When (`cron`).
        timezone: Whose wall clock (`cron`).
        jitter: Each firing is delayed by up to so many seconds.
        missed: What to do about firings that fell into a pause.
        fired: How many firings were told.
        lost: How many were not.
        created: When it was scheduled.
        trouble: Why it would not, or did not, reach its target last; empty: no reason known.
    """

    id: str
    kind: Kind
    target: str
    type: str
    payload: dict[str, Any] = field(default_factory=dict)
    number: int = 1
    when: float = 0.0
    anchor: float = 0.0
    interval: float = 0.0
    expression: str = ""
    timezone: str = "UTC"
    jitter: float = 0.0
    missed: Missed = "once"
    fired: int = 0
    lost: int = 0
    created: float = 0.0
    trouble: str = ""

    @property
    def follows_wall(self) -> bool:
        """True if it names a time rather than counts it."""
        return self.kind in {"at", "cron"}

    @property
    def firing(self) -> Firing:
        """The next firing."""
        return Firing(self.number, self.when)


def rule_of(task: Task) -> Schedule:
    """Return the rule that names the task's instants.

    Raises:
        BadPayload: The interval, expression or time zone makes no sense.
    """
    if task.kind == "repeating":
        return Interval(task.interval, task.anchor)
    if task.kind == "cron":
        return Cron(task.expression, task.timezone)
    return Once()


@dataclass(frozen=True, slots=True)
class Reading:
    """What the clocks show: wall and monotonic time, and seconds slept since boot."""

    wall: float
    monotonic: float
    suspended: float = 0.0


class Timetable:
    """Tasks by the time they are due.

    Args:
        tasks: The tasks by id; the caller's own dict, which it keeps and saves.
        now: What the clocks show.
    """

    def __init__(self, tasks: dict[str, Task], now: Reading) -> None:
        self.tasks = tasks
        self._heap = TimerHeap()
        self._timers: dict[str, Timer] = {}
        self._ahead = now.wall - now.monotonic
        self._suspended = now.suspended
        self._delays: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many tasks are armed."""
        return len(self._timers)

    def arm(self, task: Task, now: Reading, *, delay: float = 0.0) -> None:
        """Wait for the task's next firing; `delay` is this firing's share of the jitter."""
        self.disarm(task.id)
        ahead = now.wall - now.monotonic if task.follows_wall else self._ahead
        due = round(task.when - ahead + delay, 6)
        self._delays[task.id] = delay
        self._timers[task.id] = self._heap.schedule(to_ns(due), task)

    def disarm(self, task_id: str) -> None:
        """Wait no longer for this task."""
        timer = self._timers.pop(task_id, None)
        if timer is not None:
            timer.cancel()
        self._delays.pop(task_id, None)

    def next_at(self) -> float | None:
        """Return the monotonic time of the earliest firing, or None."""
        due = self._heap.next_ns()
        return None if due == NEVER else due / 1e9

    def due_at(self, task: Task, now: Reading) -> float:
        """Return the wall time at which the task's next firing will come."""
        if task.follows_wall:
            return task.when
        return task.when - self._ahead + (now.wall - now.monotonic)

    def take_due(self, now: Reading) -> list[tuple[Task, float]]:
        """Remove and return the tasks that are due, each with what the time is for it.

        One whose wall clock has gone back since it was armed is armed again instead.
        """
        found: list[tuple[Task, float]] = []
        for timer in self._heap.pop_due(to_ns(now.monotonic + _EPSILON_S)):
            item = timer.item if isinstance(timer, Carrier) else None
            assert isinstance(item, Task)
            delay = self._delays.pop(item.id, 0.0)
            del self._timers[item.id]
            present = now.wall if item.follows_wall else now.monotonic + self._ahead
            present += _EPSILON_S - delay
            if item.when > present:
                self.arm(item, now, delay=delay)
            else:
                found.append((item, present))
        return found

    def look_at_clock(self, now: Reading) -> bool:
        """Notice what has happened to the clocks; True if tasks may have been missed.

        After a sleep or a set clock every armed task is armed anew.
        """
        slept = now.suspended - self._suspended
        moved = now.wall - now.monotonic - self._ahead - slept
        is_set = abs(moved) > CLOCK_TOLERANCE_S
        has_slept = slept > CLOCK_TOLERANCE_S
        if not is_set and not has_slept:
            return False
        self._suspended = now.suspended
        self._ahead = now.wall - now.monotonic
        if not is_set:
            moved = 0.0
        for task in self.tasks.values():
            if not task.follows_wall:
                task.when += moved
                task.anchor += moved
        for task_id in list(self._timers):
            self.arm(self.tasks[task_id], now, delay=self._delays[task_id])
        return True
