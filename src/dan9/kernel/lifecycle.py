"""How a daemon begins and how it ends.

Starting makes the instance (configuration as declared, state as saved), runs
`on_start`, and only then lets it handle messages: ready is later than up. Every end goes
through one door, `_close`: children first, then what is in hand, then `on_stop`,
then whoever watched is told and the supervisor decides.

Defined once: *stopped* means that it handles nothing more, that `on_stop` has
returned or was killed, and that its askers have all heard something.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import inspect
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dan9.base.errors import DaemonFailed, Dan9Error, NotRunning
from dan9.base.events import (
    DaemonCrashed,
    DaemonRestarted,
    DaemonStarted,
    DaemonStopped,
)
from dan9.base.reasons import KILLED, NORMAL, Reason
from dan9.kernel import mailbox
from dan9.kernel.cell import (
    BUSY,
    CLOSED,
    CREATED,
    FAILED,
    HELD,
    KEPT,
    OWN_LOOP,
    RUNNING,
    STARTING,
    STOPPED,
    STOPPING,
    SUSPENDED,
    Cell,
)
from dan9.kernel.inbox import let_go
from dan9.kernel.links import Down, drop_link, drop_monitor
from dan9.kernel.message import ONE_ARG, PRIORITY, Ask, Message, Verb
from dan9.kernel.parking import Parking

if TYPE_CHECKING:
    from dan9.kernel.daemon import Daemon
    from dan9.kernel.hand import Hand
    from dan9.kernel.kernel import System

__all__ = ["Lifecycle", "Stopping", "describe_error"]

CANCEL_GRACE_S = 1.0
"""How long a cancelled coroutine may tidy up before it is abandoned."""


async def _tell_down(daemon: Daemon, down: Down) -> None:
    outcome: Any = daemon.on_down(down)
    if inspect.isawaitable(outcome):
        await outcome


DOWN = Verb("down", "on_down", _tell_down, True, PRIORITY)


@dataclass(slots=True)
class Stopping:
    """An end in progress."""

    reason: Reason
    drain: bool
    at_rest: Parking | None = None
    waiting: list[Parking] = field(default_factory=list)


def describe_error(error: BaseException) -> str:
    """Return an exception in one line."""
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _by_serial(message: Message) -> int:
    return message.serial


class Lifecycle:
    """Starts and ends the daemons of one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.scheduler = system.scheduler

    # -- beginning -----------------------------------------------------------------------

    def begin(self, cell: Cell) -> Parking | None:
        """Start an incarnation; None if it is ready at once, else released when it is.

        The parking fails with the error if starting failed.
        """
        if cell.cold is not None:
            cell.cold.stopping = None
        cell.state = STARTING
        cell.gate = (cell.gate & KEPT) | HELD
        try:
            cell.instance = self.make(cell)
            self.system.state.revive(cell)
        except Exception as error:
            parking = Parking(self.scheduler)
            self._start_failed(cell, error, parking)
            return parking
        if cell.home.behaviour.plain_start:
            self._ready(cell)
            return None
        parking = Parking(self.scheduler)
        self.scheduler.start_hand(
            cell,
            self._run_on_start(cell),
            lambda _, error: self._started(cell, error, parking),
        )
        return parking

    def make(self, cell: Cell) -> object:
        """Make an instance: fields with their defaults, then what `spawn` was given."""
        behaviour = cell.home.behaviour
        cls = behaviour.cls
        instance: Any = object.__new__(cls)
        instance._d9_cell = cell
        if behaviour.has_mutable:
            for name, value in behaviour.fields.fresh().items():  # type: ignore[attr-defined]
                setattr(instance, name, value)
        cold = cell.cold
        if cold is not None and cold.config:
            for name, value in cold.config.items():
                setattr(instance, name, copy.deepcopy(value))
        if behaviour.has_init:
            instance.__init__()
        return instance

    async def _run_on_start(self, cell: Cell) -> None:
        instance: Any = cell.instance
        outcome = instance.on_start()
        if inspect.isawaitable(outcome):
            await outcome

    def _started(self, cell: Cell, error: BaseException | None, parking: Parking) -> None:
        if cell.state != STARTING:  # stopped meanwhile
            parking.fail(
                NotRunning(f"{cell.address} was stopped while it started", address=cell.address)
            )
        elif error is not None:
            self._start_failed(cell, error, parking)
        else:
            self._ready(cell)
            parking.release()

    def _start_failed(self, cell: Cell, error: BaseException, parking: Parking) -> None:
        text = describe_error(error)
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, Dan9Error):
            heard: BaseException = error
            text = str(error)
        else:
            heard = DaemonFailed(
                f"{cell.address} did not start: {text}",
                hint="the trace says where",
                address=cell.address,
                trace=trace,
            )
        self.fail(cell, Reason("failed-to-start", text, trace))
        stopping: Stopping | None = cell.chill().stopping  # type: ignore[assignment]
        if stopping is None or cell.state != STOPPING:
            parking.fail(heard)
            return
        # Who started it hears of it when the end is complete: the name is free again, or
        # the state is what it will stay.
        ended = Parking(self.scheduler)
        stopping.waiting.append(ended)

        async def tell() -> None:
            await ended
            parking.fail(heard)

        self.system.run(tell())

    def _ready(self, cell: Cell) -> None:
        behaviour = cell.home.behaviour
        now = self.scheduler.time()
        cell.started_at = now
        cell.state = RUNNING
        cell.gate &= ~HELD
        system = self.system
        if behaviour.has_main:
            cell.gate |= OWN_LOOP
            instance: Any = cell.instance
            self.scheduler.start_hand(
                cell, instance.main(), lambda _, error: self._main_ended(cell, error)
            )
        if behaviour.every or behaviour.crons:
            system.schedule_own(cell)
        cold = cell.cold
        if cold is not None:
            streak = cold.streak
            if streak is not None:
                streak.came_up(now)  # type: ignore[attr-defined]
            if cold.durable:
                system.state.redeliver(cell)
        if system.wants_events:
            if cold is not None and cold.restarts:
                system.emit(
                    DaemonRestarted(
                        system.clock.now(), cell.address, cold.restarts, 0.0, cold.last_error
                    )
                )
            elif system.wants(DaemonStarted):
                system.emit(DaemonStarted(system.clock.now(), cell.address, 0.0))
        self.scheduler.make_runnable(cell)

    def _main_ended(self, cell: Cell, error: BaseException | None) -> None:
        let_go(cell)
        if cell.state == STOPPING:
            self.settled(cell)
        elif error is None:
            self.finish(cell, NORMAL)
        else:
            self.crashed(cell, None, error)

    # -- ending --------------------------------------------------------------------------

    def crashed(self, cell: Cell, message: Message | None, error: BaseException) -> None:
        """End a daemon whose handler, hook or loop raised; its asker hears the trace."""
        trace = "".join(traceback.format_exception(error))
        text = describe_error(error)
        cold = cell.chill()
        cold.failed += 1
        cold.last_error = text
        if message is not None:
            self._tell_asker(cell, message, text, trace)
        system = self.system
        if system.wants_events:
            what = message.verb.type if message is not None else ""
            system.emit(DaemonCrashed(system.clock.now(), cell.address, text, trace, what))
        elif not isinstance(message, Ask):  # nobody else would hear of it
            system.logger_of(cell).error("crashed: %s", text, trace=trace)
        self.fail(cell, Reason("crashed", text, trace))

    def _tell_asker(self, cell: Cell, message: Message, text: str, trace: str) -> None:
        self.scheduler.reply_error(
            message,
            DaemonFailed(
                f"{cell.address} crashed on {message.verb.type!r}: {text}",
                hint="its supervisor decides; the trace says where",
                address=cell.address,
                message=message.verb.type,
                trace=trace,
            ),
        )

    def fail(self, cell: Cell, reason: Reason) -> None:
        """End an incarnation at once, for a bad reason; the mailbox stays."""
        if cell.state in (STOPPED, FAILED, CREATED):
            return
        cold = cell.chill()
        if cold.stopping is not None:  # it was ending anyway
            self.settled(cell)
            return
        if not cold.last_error:
            cold.last_error = reason.text
        cold.stopping = Stopping(reason, drain=False)
        self._shut(cell, keep_queue=True)
        self.system.run(self._close(cell, killing=True))

    def finish(self, cell: Cell, reason: Reason) -> None:
        """End an incarnation that ends itself; a bad reason kills what is in hand."""
        cold = cell.chill()
        if cold.stopping is None:
            if reason.is_normal:
                cold.stopping = Stopping(reason, drain=False)
                self._shut(cell, keep_queue=True)
                self.system.run(self._close(cell, killing=False))
            else:
                self.fail(cell, reason)

    async def stop(
        self,
        cell: Cell,
        reason: Reason = NORMAL,
        *,
        drain: bool = False,
        keep_queue: bool = False,
    ) -> None:
        """End an incarnation in good order; returns when it has stopped."""
        is_between = cell.state == STARTING and cell.gate & CLOSED  # two incarnations
        if is_between or cell.state in (STOPPED, FAILED, CREATED):
            self.system.supervision.forget_restart(cell)
            self._bury_queue(cell, "stopped")
            cell.state = STOPPED
            cell.chill().commanded = False
            return
        cold = cell.chill()
        stopping: Stopping | None = cold.stopping  # type: ignore[assignment]
        if stopping is None:
            stopping = cold.stopping = Stopping(reason, drain)
            was_starting = cell.state == STARTING
            self._shut(cell, keep_queue=drain or keep_queue)
            if was_starting:
                self._cancel_hands(cell)
            self.system.run(self._close(cell, killing=False))
        parking = Parking(self.scheduler)
        stopping.waiting.append(parking)
        await parking

    def _shut(self, cell: Cell, *, keep_queue: bool) -> None:
        """Let no more messages in; those in the queue wait, are drained, or are dead."""
        cold = cell.chill()
        stopping: Stopping = cold.stopping  # type: ignore[assignment]
        cell.state = STOPPING
        cell.gate |= CLOSED
        if not stopping.drain:
            cell.gate |= HELD
        else:
            cell.gate &= ~HELD
            self.scheduler.make_runnable(cell)
        if not keep_queue:
            self._bury_queue(cell, "stopped")
        for timer in cold.timers or ():
            timer.cancel()
        cold.timers = None
        waiter: Any = cold.inbox_waiter
        if waiter is not None:
            cold.inbox_waiter = None
            waiter.release()

    async def _close(self, cell: Cell, *, killing: bool) -> None:
        cold = cell.chill()
        stopping: Stopping = cold.stopping  # type: ignore[assignment]
        limit_s = self.system.supervision.shutdown_of(cell)
        clock = self.scheduler.monotonic
        deadline = clock() + limit_s
        await self.system.supervision.stop_children(cell, drain=stopping.drain)
        if killing:
            self._cancel_hands(cell)
        elif not stopping.drain or cell.head is None:
            self._cancel_waits(cell)
        if not await self._rest(cell, CANCEL_GRACE_S if killing else max(0.0, deadline - clock())):
            if not killing:
                stopping.reason = Reason("killed", f"did not stop within {limit_s:g} s")
                self._cancel_hands(cell)
                await self._rest(cell, CANCEL_GRACE_S)
            self._abandon(cell)
        left_s = max(0.1, deadline - clock())
        await self._run_on_stop(cell, stopping.reason, left_s)
        if stopping.reason.is_normal:
            await self.system.state.save_at_end(cell, left_s)
        self.ended(cell, stopping.reason)

    async def _run_on_stop(self, cell: Cell, reason: Reason, limit_s: float) -> None:
        instance: Any = cell.instance
        if instance is None or not cell.home.behaviour.has_on_stop:
            return
        outcome: list[BaseException | None] = []
        parking = Parking(self.scheduler)

        def done(_: object, error: BaseException | None) -> None:
            outcome.append(error)
            parking.release(True)

        async def run() -> None:
            result = instance.on_stop(reason)
            if inspect.isawaitable(result):
                await result

        hand = self.scheduler.start_hand(cell, run(), done)
        if not await self._within(parking, limit_s):
            hand.cancel()
            self.system.warn(cell, f"on_stop did not return within {limit_s:g} s: cancelled")
            await self._within(parking, CANCEL_GRACE_S)
            self._abandon(cell)
        elif outcome and outcome[0] is not None:
            self.system.warn(cell, f"on_stop raised {describe_error(outcome[0])}")

    async def _rest(self, cell: Cell, limit_s: float) -> bool:
        """Wait until nothing is in hand; False if that took too long."""
        if self._is_at_rest(cell):
            return True
        stopping: Stopping = cell.chill().stopping  # type: ignore[assignment]
        stopping.at_rest = Parking(self.scheduler)
        return await self._within(stopping.at_rest, limit_s)

    async def _within(self, parking: Parking, limit_s: float) -> bool:
        """Wait for a parking; False if it was not released in time."""
        if parking.is_done:
            return True
        timer = self.scheduler.call_at(
            self.scheduler.time() + limit_s,
            lambda: parking.release(False),
        )
        outcome = await parking
        timer.cancel()
        return outcome is not False

    def _is_at_rest(self, cell: Cell) -> bool:
        cold = cell.chill()
        stopping: Stopping | None = cold.stopping  # type: ignore[assignment]
        if cell.gate & BUSY or cell.hand is not None or cold.hands:
            return False
        return stopping is None or not stopping.drain or (cell.head is None and not cold.set_aside)

    def settled(self, cell: Cell) -> None:
        """Hear from the scheduler that a stopping cell may have come to rest."""
        cold = cell.cold
        if cold is None or cold.stopping is None:
            return
        stopping: Stopping = cold.stopping  # type: ignore[assignment]
        if stopping.at_rest is None:
            return
        if self._is_at_rest(cell):
            stopping.at_rest.release(True)
        elif stopping.drain and cell.head is None:
            self._cancel_waits(cell)

    def _cancel_waits(self, cell: Cell) -> None:
        """Cancel what waits on the world and might for ever: a receive, an accept, a follow."""
        for hand in self._hands(cell):
            verb = hand.message.verb if hand.message is not None else None
            if verb is not None and verb.cancellable and not hand.cancelling():
                hand.cancel()

    def _hands(self, cell: Cell) -> list[Hand]:
        hands = list(cell.chill().hands or ())
        if cell.hand is not None:
            hands.append(cell.hand)
        return hands

    def _cancel_hands(self, cell: Cell) -> None:
        for hand in self._hands(cell):
            hand.cancel()

    def _abandon(self, cell: Cell) -> None:
        """Let go of coroutines that do not end: their replies will be dropped."""
        for hand in self._hands(cell):
            self.system.warn(cell, f"{hand.get_name()} did not end: abandoned")
            hand.ended = True
            with contextlib.suppress(Exception):
                hand.coroutine.close()  # type: ignore[attr-defined]
            if hand.message is not None:
                self.scheduler.count_handled(cell, hand.message.verb)
                self._tell_asker(cell, hand.message, "killed", "")
        cell.hand = None
        cell.gate &= ~BUSY
        cell.chill().hands = None

    def _bury_queue(self, cell: Cell, reason: str) -> None:
        """Make dead letters of all that is queued."""
        scheduler = self.scheduler
        cold = cell.cold
        if cold is not None:
            for waiting in (cold.backlog or {}).values():
                for message in waiting:
                    cold.set_aside -= 1
                    self._bury(message, reason)
            cold.backlog = None
            for message in cold.room or ():
                error = self.not_running(cell, message)
                if message.room_of is not None:
                    scheduler.reply_error(message.room_of, error)
                scheduler.reply_error(message, error)
            cold.room = None
        for message in mailbox.clear(cell):
            self._bury(message, reason)

    def _requeue(self, cell: Cell) -> None:
        """Put what waited for a concurrent handler back to the head: its turn had come before."""
        cold = cell.chill()
        if not cold.set_aside:
            return
        waiting = [message for row in (cold.backlog or {}).values() for message in row]
        waiting.sort(key=_by_serial, reverse=True)
        for message in waiting:
            mailbox.put_back(cell, message)
        cold.set_aside = 0
        cold.backlog = None

    def _bury(self, message: Message, reason: str) -> None:
        if isinstance(message, Ask) and message.done():
            reason = "expired"
        self.scheduler.bury(message, reason)  # its asker hears of it

    def not_running(self, cell: Cell, message: Message) -> NotRunning:
        """Return the refusal of a daemon of which no incarnation runs."""
        why = cell.cold.last_error if cell.cold is not None else ""
        return NotRunning(
            f"{cell.address} is not running" + (f": {why}" if why else ""),
            hint=f"`dan9 status {cell.name}` says why, `dan9 start {cell.name}` starts it",
            address=cell.address,
            message=message.verb.type,
        )

    # -- having ended --------------------------------------------------------------------

    def ended(self, cell: Cell, reason: Reason) -> None:
        """Record the end; tell who watched; let the supervisor decide."""
        cold = cell.chill()
        stopping: Stopping | None = cold.stopping  # type: ignore[assignment]
        cell.instance = None
        cell.state = STOPPED
        cell.gate = (cell.gate & KEPT) | CLOSED | HELD
        cold.running = None
        cold.taken = None
        self._requeue(cell)
        self.system.state.abandon(cell)
        system = self.system
        if system.wants_events and reason.kind != "crashed":
            system.emit(DaemonStopped(system.clock.now(), cell.address, str(reason)))
        if stopping is not None and stopping.drain:
            self._bury_queue(cell, "stopped")
        self._tell_watchers(cell, reason)
        system.supervision.exited(cell, reason)
        for parking in stopping.waiting if stopping is not None else ():
            parking.release()

    def _tell_watchers(self, cell: Cell, reason: Reason) -> None:
        cold = cell.chill()
        system = self.system
        for number, watcher in list((cold.monitors or {}).items()):
            drop_monitor(watcher, number)
            if not watcher.gate & CLOSED:  # else it ends too: nobody would hear of it
                self.send_down(watcher, Down(cell.address, reason, number))
        for number in list(cold.watching or ()):
            drop_monitor(cell, number)
        callbacks: list[Callable[[object], None]] = cold.on_end or []
        cold.on_end = None
        for callback in callbacks:
            callback(reason)
        for other in list(cold.links or ()):
            drop_link(cell, other)
            if not reason.is_normal:
                text = f"linked to {cell.address}, which ended: {reason}"
                if system.wants_events and reason.kind == "crashed" and not self._is_ending(other):
                    now = system.clock.now()
                    system.emit(DaemonCrashed(now, other.address, text, reason.trace, ""))
                self.fail(other, Reason(reason.kind, text, reason.trace))

    def _is_ending(self, cell: Cell) -> bool:
        return cell.state in (STOPPED, FAILED, CREATED) or cell.chill().stopping is not None

    def send_down(self, watcher: Cell, down: Down) -> None:
        """Queue a `Down` past the mailbox's limit."""
        message = Message(watcher, DOWN, ONE_ARG, down)
        message.origin = down.address
        self.scheduler.stamp(message)
        self.scheduler.enqueue(message)

    # -- by command ----------------------------------------------------------------------

    def suspend(self, cell: Cell) -> None:
        """Let it handle no more messages; what is in hand is finished."""
        if cell.state == RUNNING:
            cell.state = SUSPENDED
            cell.gate |= HELD

    def resume(self, cell: Cell) -> None:
        """Let it handle messages again."""
        if cell.state == SUSPENDED:
            cell.state = RUNNING
            cell.gate &= ~HELD
            self.scheduler.make_runnable(cell)

    async def kill(self, cell: Cell) -> None:
        """End it now: what is in hand is cancelled."""
        if cell.state in (STOPPED, FAILED, CREATED):
            return
        cold = cell.chill()
        if cold.stopping is None:
            self.fail(cell, KILLED)
        else:
            self._cancel_hands(cell)
        stopping: Stopping = cold.stopping  # type: ignore[assignment]
        parking = Parking(self.scheduler)
        stopping.waiting.append(parking)
        with contextlib.suppress(asyncio.CancelledError):
            await parking
