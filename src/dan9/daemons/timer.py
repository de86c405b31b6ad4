"""The timer: tells a daemon something later, again and again, or at a time of day.

A firing is a message to the target whose id is made of the task's id and the number of
the firing. A firing that is delivered again after a crash is therefore known as a
duplicate by a durable target. To a durable target a firing counts as told once its
journal has it; only then the task moves on. To others it is told once, as every message.

What is acknowledged is saved: the reply to `schedule` comes after the commit, where the
system has a store. After a pause (node down, machine asleep) each task owes what its
`missed` says, and firings whose target has not started yet wait for it.

Nothing polls. One timer of the kernel is set, for the earliest task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dan9.base.address import SCHEME, Address
from dan9.base.duration import Duration, Time
from dan9.base.errors import (
    BadPayload,
    Conflict,
    Dan9Error,
    MailboxFull,
    NoSpace,
    NotFound,
    NotRunning,
    Refused,
)
from dan9.base.events import DaemonStarted, Event
from dan9.base.histogram import Histogram
from dan9.base.reasons import Reason
from dan9.base.schedule import Firing, Missed, first_owed, owed
from dan9.daemons.clockwatch import ClockWatch
from dan9.daemons.timer_replies import TaskRow, TimerFigures
from dan9.daemons.timetable import Reading, Task, Timetable, rule_of
from dan9.kernel.daemon import Config, Daemon, on

__all__ = ["Timer"]

_FAR_S = 100 * 366 * 86400.0
_RETRY_S = 0.1
_RETRY_DURABLE_S = 1.0
_UNWATCHED_LOOK_S = 60.0
_PROGRESS_S = 0.1
_BATCH = 500
"""Owed firings of one task that are worked out at one time."""


class Timer(Daemon, type="timer", checkpoint="on-change"):
    """Tells daemons something later, repeatedly, or at a time of day; survives restarts."""

    max_tasks: Config[int] = 100_000
    """How many tasks there may be."""
    grace: Config[Duration] = 60.0
    """How long after a start missed firings wait for targets that have not started."""

    tasks: dict[str, Task] = {}
    count: int = 0
    """Tasks ever scheduled; part of the next one's id."""
    fired: int = 0
    cancelled: int = 0
    missed: int = 0
    undeliverable: int = 0

    async def on_start(self) -> None:
        """Take up the tasks that were saved; what was missed is owed now."""
        self._lateness = Histogram()
        self._commits = asyncio.Lock()
        self._changes = self._saved = 0
        self._alarm: Any = None
        self._is_looking = False
        self._delivering: set[str] = set()
        self._retries: dict[str, Any] = {}
        self._progress_saved = self.clock.monotonic()
        self._waiting: dict[str, None] = {}
        self._paused_until = self._now().monotonic
        self._table = Timetable(self.tasks, self._now())
        self._watch = ClockWatch(self._look_soon)
        self._is_virtual = bool(getattr(self.system.clock, "is_virtual", False))
        for task in list(self.tasks.values()):
            self._arm(task)
        self._grace_ends: Any = None
        self._unsubscribe: Callable[[], None] | None = None
        if self.tasks:
            self._unsubscribe = self.system.subscribe_events(self._heard, DaemonStarted)
            end = self.system.clock.monotonic() + self.grace
            self._grace_ends = self.system.call_at(end, self._end_grace)
        self._set_alarm()

    async def on_stop(self, reason: Reason) -> None:
        """Set no more alarms."""
        for handle in (self._alarm, self._grace_ends, *self._retries.values()):
            if handle is not None:
                handle.cancel()
        if self._unsubscribe is not None:
            self._unsubscribe()
        self._watch.close()

    def on_status(self, task_id: str | None = None) -> dict[str, object]:
        """Add the tasks' figures, or those of one task."""
        if task_id is not None:
            return dict(self._shown(self._task(task_id)))
        return dict(self._figures())

    # -- scheduling ---------------------------------------------------------------------------

    @on(concurrent=True)
    async def schedule(
        self,
        delay: Duration,
        target: str,
        type: str,
        payload: dict[str, Any] | None = None,
        missed: Missed = "once",
    ) -> str:
        """Tell `target` a message once, after `delay`; reply its task-id.

        Errors: bad-payload bad-address no-space.
        """
        now = self._now()
        task = self._new("once", target, type, payload, missed, now)
        task.when = now.wall + _span(delay, "delay")
        return await self._add(task)

    @on(concurrent=True)
    async def schedule_repeating(
        self,
        interval: Duration,
        target: str,
        type: str,
        payload: dict[str, Any] | None = None,
        jitter: Duration = 0.0,
        first: Duration | None = None,
        missed: Missed = "once",
    ) -> str:
        """Tell `target` a message every `interval`; reply its task-id.

        The first comes after `first` (default: one interval). Each is delayed by a random
        time up to `jitter`; that moves none of the others. Errors: bad-payload
        bad-address no-space.
        """
        now = self._now()
        task = self._new("repeating", target, type, payload, missed, now)
        task.interval = _span(interval, "interval")
        task.anchor = task.when = now.wall + _span(interval if first is None else first, "first")
        if jitter > task.interval:
            raise BadPayload(
                f"a jitter of {jitter:g} s exceeds the interval", hint="use less", at="jitter"
            )
        task.jitter = jitter
        return await self._add(task)

    @on(concurrent=True)
    async def schedule_cron(
        self,
        expression: str,
        target: str,
        type: str,
        payload: dict[str, Any] | None = None,
        timezone: str = "UTC",
        jitter: Duration = 0.0,
        missed: Missed = "once",
    ) -> str:
        """Tell `target` a message whenever a cron expression matches; reply its task-id.

        `expression` is `minute hour day month weekday` (or six fields, seconds first) on the
        wall clock of `timezone`. Errors: bad-payload bad-address no-space.
        """
        now = self._now()
        task = self._new("cron", target, type, payload, missed, now)
        task.expression, task.timezone, task.jitter = expression, timezone, _span(jitter, "jitter")
        first = rule_of(task).next(Firing(0, now.wall))
        if first is None:
            raise BadPayload(f"{expression!r} never comes again", at="expression")
        task.number, task.when = first
        return await self._add(task)

    @on(concurrent=True)
    async def schedule_at(
        self,
        when: Time,
        target: str,
        type: str,
        payload: dict[str, Any] | None = None,
        missed: Missed = "once",
    ) -> str:
        """Tell `target` a message once, at a wall time; reply its task-id.

        `when` is UTC seconds since 1970 or ISO-8601 text. A time that has passed means at
        once. Errors: bad-payload bad-address no-space.
        """
        now = self._now()
        task = self._new("at", target, type, payload, missed, now)
        task.when = max(when, now.wall)
        _span(task.when - now.wall, "when")
        return await self._add(task)

    @on(concurrent=True)
    async def cancel(self, task_id: str) -> str:
        """Fire a task no more; reply its task-id. Errors: not-found."""
        self._task(task_id)
        self._drop(task_id)
        self.cancelled += 1
        self._set_alarm()
        await self._commit()
        return task_id

    @on
    def fire(self, task_id: str) -> str:
        """Tell a task's message now, beside its schedule; reply the message's id.

        Errors: not-found, and whatever telling the target answers.
        """
        task = self._task(task_id)
        self.count += 1
        message_id = f"{task.id}-extra-{self.count}"
        self.tell(task.target, task.type, payload=dict(task.payload), message_id=message_id)
        self.fired += 1
        return message_id

    # -- looking ------------------------------------------------------------------------------

    @on
    def list_(self, target: str | None = None) -> list[TaskRow]:
        """Return the tasks, the next to fire first; of one target if so asked."""
        self._look_at_clock()
        tasks = [task for task in self.tasks.values() if target in {None, task.target}]
        now = self._now()
        tasks.sort(key=lambda task: (self._table.due_at(task, now), task.id))
        return [self._shown(task) for task in tasks]

    @on
    def stats(self) -> TimerFigures:
        """Return active, scheduled, fired, cancelled, missed, and how late firings were."""
        self._look_at_clock()
        return self._figures()

    # -- firing -------------------------------------------------------------------------------

    @on
    def look(self) -> int:
        """Fire what is due; reply how many tasks were. The timer tells itself so."""
        self._is_looking = False
        self._look_at_clock()
        due = self._table.take_due(self._now())
        for task, present in due:
            self._due(task, present)
        self._set_alarm()
        return len(due)

    @on(concurrent=True)
    async def deliver(self, task_id: str) -> None:
        """Fire a task whose target is durable: it moves on when the target's journal has it."""
        task = self.tasks.get(task_id)
        wait = 0.0
        try:
            while task is not None and task.when <= (present := self._present(task)):
                if task.missed == "all":  # every one, oldest first: none may be lost
                    firings, upcoming = first_owed(rule_of(task), task.firing, present, _BATCH)
                    lost = 0
                else:
                    firings, upcoming, lost = self._owed(task, present)
                for firing in firings:
                    await self._send(task, firing)
                    task.number, task.when = rule_of(task).next(firing) or firing
                    self._count_fired(task, firing, present)
                    await self._save_progress()
                is_over = self._move_on(task, upcoming, lost)
                if is_over:
                    return
        except Dan9Error as error:
            wait = _RETRY_DURABLE_S  # a firing that was not taken is owed still
            if task is not None:
                self._undelivered(task, error)
        finally:
            self._delivering.discard(task_id)
            if task_id in self.tasks:
                at = self.system.clock.monotonic() + wait
                self._retries[task_id] = self.system.call_at(at, lambda: self._again(task_id))

    async def _save_progress(self) -> None:
        """Save how far the tasks are, ten times a second at most: less is owed after a crash."""
        now = self.clock.monotonic()
        if now - self._progress_saved >= _PROGRESS_S:
            self._progress_saved = now
            await self._commit()

    async def _send(self, task: Task, firing: Firing) -> None:
        """Return when the target's journal has the firing."""
        if not self._stands(task.target):
            raise NotRunning(f"{task.target} is not running", hint="the firing is owed still")
        try:
            await self.send(
                task.target,
                task.type,
                payload=dict(task.payload),
                message_id=_message_id(task, firing),
                timeout_s=30.0,
            )
        except Conflict:
            # The journal knows this id: the firing is queued there since before a crash, or
            # was given up as poison and is a dead letter. Sending it again changes neither.
            self.log.info("%s knows %s already", task.target, _message_id(task, firing))

    def _again(self, task_id: str) -> None:
        """Wait for a task's next firing, after a durable target has answered."""
        self._retries.pop(task_id, None)
        task = self.tasks.get(task_id)
        if task is not None:
            self._arm(task)
            self._set_alarm()

    # -- the rest is not told from outside -------------------------------------------------------

    def _now(self) -> Reading:
        clock = self.clock
        slept = getattr(clock, "suspended", None)
        return Reading(clock.now(), clock.monotonic(), slept() if slept is not None else 0.0)

    def _present(self, task: Task) -> float:
        """Return what the time is for this task, on the scale of its instants."""
        now = self._now()
        return task.when + now.wall - self._table.due_at(task, now) + 1e-6

    def _task(self, task_id: str) -> Task:
        task = self.tasks.get(task_id)
        if task is None:
            raise NotFound(
                f"there is no task {task_id!r}", hint="`dan9 timers` lists them", at="task-id"
            )
        return task

    def _new(
        self,
        kind: Any,
        target: str,
        message: str,
        payload: dict[str, Any] | None,
        missed: Missed,
        now: Reading,
    ) -> Task:
        """Make a task; its id is unique beyond this run, for firings are known by it."""
        if len(self.tasks) >= self.max_tasks:
            raise NoSpace(
                f"there are {len(self.tasks)} tasks already", hint="raise max-tasks, or cancel some"
            )
        if target.startswith(SCHEME):
            Address.parse(target)
        if not target or not message:
            at = "type" if target else "target"
            raise BadPayload(f"{at} is empty", hint="whom to tell what?", at=at)
        self.count += 1
        task_id = f"t{self.count}-{self.system.random.getrandbits(32):08x}"
        return Task(task_id, kind, target, message, payload or {}, missed=missed, created=now.wall)

    async def _add(self, task: Task) -> str:
        """Take the task up; reply when it is saved. If it cannot be saved, there is none."""
        rule_of(task)
        self._foresee(task)
        self.tasks[task.id] = task
        self._arm(task)
        self._set_alarm()
        try:
            await self._commit()
        except Refused:
            self._drop(task.id)
            raise
        return task.id

    def _foresee(self, task: Task) -> None:
        """Say at once what is known to go wrong; a target may still come, or become another."""
        try:
            self.system.message_parts(task.target, task.type, task.payload)
        except Refused as error:
            task.trouble = f"{error.text} ({error.hint})" if error.hint else error.text
            self.log.warning(
                "task %s would not reach %s %s now: %s",
                task.id, task.target, task.type, task.trouble,
            )  # fmt: skip

    def _arm(self, task: Task) -> None:
        delay = self.system.random.random() * task.jitter if task.jitter else 0.0
        self._table.arm(task, self._now(), delay=delay)

    def _drop(self, task_id: str) -> None:
        self.tasks.pop(task_id, None)
        self._waiting.pop(task_id, None)
        self._table.disarm(task_id)

    def _set_alarm(self) -> None:
        """Have the kernel call when the earliest task is due."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        due = self._table.next_at()
        if due is None:
            return
        wait = max(0.0, due - self.clock.monotonic())
        if not self._is_virtual and not self._watch.start(asyncio.get_running_loop()):
            wait = min(wait, _UNWATCHED_LOOK_S)
        at = due if self._is_virtual else self.clock.monotonic() + wait
        self._alarm = self.system.call_on(self._d9_cell, at, self._look_soon)

    def _look_soon(self) -> None:
        """Tell oneself to look; once is enough."""
        if self._is_looking:
            return
        try:
            self.look.tell()
            self._is_looking = True
        except MailboxFull:
            at = self.system.clock.monotonic() + _RETRY_S
            self._alarm = self.system.call_at(at, self._look_soon)

    def _look_at_clock(self) -> None:
        now = self._now()
        if self._table.look_at_clock(now):
            self._paused_until = now.monotonic
            self.log.info("the wall clock has jumped; tasks are armed anew", wall=now.wall)
            self._set_alarm()

    def _due(self, task: Task, present: float) -> None:
        if self._has_to_wait(task):
            self._waiting[task.id] = None
        elif self._is_durable(task.target):
            if task.id not in self._delivering:
                self._delivering.add(task.id)
                self.deliver.tell(task.id)
        else:
            firings, upcoming, lost = self._owed(task, present)
            for firing in firings:
                try:
                    self.tell(
                        task.target,
                        task.type,
                        payload=dict(task.payload),
                        message_id=_message_id(task, firing),
                    )
                    self._count_fired(task, firing, present)
                except Dan9Error as error:
                    self._undelivered(task, error)
            if not self._move_on(task, upcoming, lost):
                self._arm(task)

    def _owed(self, task: Task, present: float) -> tuple[list[Firing], Firing | None, int]:
        """Decide what to tell. Being a little late is no pause: then nothing is skipped."""
        missed = task.missed
        armed_before_pause = task.when < self._wall_of(self._paused_until, task)
        if missed == "skip" and not armed_before_pause:
            missed = "once"
        return owed(rule_of(task), task.firing, present, missed)

    def _wall_of(self, monotonic: float, task: Task) -> float:
        return self._present(task) - (self.clock.monotonic() - monotonic)

    def _move_on(self, task: Task, upcoming: Firing | None, lost: int) -> bool:
        """Go on to the next firing; True if there is none."""
        task.lost += lost
        self.missed += lost
        if upcoming is None:
            self._drop(task.id)
            return True
        task.number, task.when = upcoming
        return False

    def _count_fired(self, task: Task, firing: Firing, present: float) -> None:
        task.fired += 1
        task.trouble = ""
        self.fired += 1
        self._lateness.add(max(0.0, present - firing.when - 1e-6))

    def _undelivered(self, task: Task, error: Dan9Error) -> None:
        self.undeliverable += 1
        task.trouble = error.text
        self.log.warning(
            "task %s could not tell %s %s: %s", task.id, task.target, task.type, error.text
        )

    # -- targets ------------------------------------------------------------------------------

    def _is_durable(self, target: str) -> bool:
        """True if it acknowledges what it is sent, whether it runs just now or not."""
        try:
            return bool(self.system.is_durable(self._resolved(target)))
        except Refused:
            return False

    def _resolved(self, target: str) -> str:
        return str(self.system.resolve(target))

    def _stands(self, target: str) -> bool:
        """True if the target is there to be told."""
        try:
            return self.system.state_of(self._resolved(target)) in {"running", "suspended"}
        except Refused:
            return False

    def _has_to_wait(self, task: Task) -> bool:
        """True if, shortly after a start, the target has not started yet."""
        return self._grace_ends is not None and not self._stands(task.target)

    def _heard(self, event: Event) -> None:
        """Something has started: it may be whom a firing waits for."""
        if self._waiting:
            self._wake_waiting()

    def _end_grace(self) -> None:
        self._grace_ends = None
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for task_id in waiting:
            self._table.arm(self.tasks[task_id], self._now())
        if waiting:
            self._look_soon()

    # -- saving, showing ------------------------------------------------------------------------

    async def _commit(self) -> None:
        """Return when the tasks as they are now are on the medium; many callers share one."""
        if getattr(self.system, "store", None) is None:
            return
        self._changes += 1
        mine = self._changes
        async with self._commits:
            if self._saved >= mine:
                return
            upto = self._changes
            await self.checkpoint()
            self._saved = upto

    def _shown(self, task: Task) -> TaskRow:
        shown: TaskRow = {
            "task_id": task.id,
            "kind": task.kind,
            "target": task.target,
            "type": task.type,
            "payload": task.payload,
            "next": self._table.due_at(task, self._now()),
            "number": task.number,
            "fired": task.fired,
            "lost": task.lost,
            "missed": task.missed,
            "created": task.created,
        }
        if task.kind == "repeating":
            shown["interval"] = task.interval
        if task.kind == "cron":
            shown["expression"], shown["timezone"] = task.expression, task.timezone
        if task.jitter:
            shown["jitter"] = task.jitter
        if task.trouble:
            shown["state"], shown["trouble"] = "failing", task.trouble
        return shown

    def _figures(self) -> TimerFigures:
        now = self._now()
        upcoming = [self._table.due_at(task, now) for task in self.tasks.values()]
        return {
            "active": len(self.tasks),
            "scheduled": self.count,
            "fired": self.fired,
            "cancelled": self.cancelled,
            "missed": self.missed,
            "undeliverable": self.undeliverable,
            "next": min(upcoming, default=None),
            "late_p50": self._lateness.percentile(0.5),
            "late_p99": self._lateness.percentile(0.99),
        }


def _message_id(task: Task, firing: Firing) -> str:
    return f"{task.id}-{firing.number}"


def _span(seconds: float, at: str) -> float:
    """Return a length of time that a calendar can hold."""
    if not 0 <= seconds <= _FAR_S:
        raise BadPayload(
            f"{seconds:g} s is not within 100 years from now", hint="as 30s, 2h, 7d", at=at
        )
    return seconds
