"""The run loop: who is next, one step at a time, and nothing lost on the way.

Prior art: the BEAM's run queue of processes with a reduction budget; trio's batch of
runnable tasks; ergo's intrusive mailboxes. What we chose:

- A run queue of cells that have messages and of hands (coroutines) to be resumed. A
  cell is in it at most once; it handles up to `BATCH` messages and goes to the end, fewer
  where handlers are slow.
- A *turn* runs until the queue is empty or `TURN_S` have passed, then asyncio gets its
  chance: timers, sockets, other tasks. So no number of messages starves I/O.
  The clock is read once in `BATCH` messages.
- Nothing polls: an idle scheduler has no callback pending but its next timer.
- With a `shuffle` (test worlds) the next runnable is drawn by the seed and handles one
  message, so that interleavings are explored and replayed.

Conservation, at every step: sent = handled + in hand + queued + dead. Every path that
takes a message in must end in one of the four; `tests/stateful` holds us to it.

The hot paths are here and in `message.py`; both are compiled. What happens seldom
(starting, stopping, supervision) is in `lifecycle.py` and reached through `Ports`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, final

from mypy_extensions import i64, mypyc_attr

from dan9.base.errors import Dan9Error, NotRunning, Refused, UnknownMessage
from dan9.base.histogram import Histogram
from dan9.kernel import mailbox
from dan9.kernel.cell import (
    BLOCKED,
    BUSY,
    CLOSED,
    CROWDED,
    DROP_NEWEST,
    DROP_OLDEST,
    ENTRY,
    GUARDED,
    HELD,
    NOT_RUNNABLE,
    OBSERVED,
    OWN_LOOP,
    QUEUED,
    REFUSE,
    WATCHED,
    Cell,
    Runnable,
)
from dan9.kernel.cycles import closes_cycle, cycle_error
from dan9.kernel.deadlines import Deadlines
from dan9.kernel.hand import ENDED, Hand
from dan9.kernel.leap import Leap
from dan9.kernel.message import (
    ANSWERED,
    CANCELLED,
    CONTROL,
    FAILED,
    FOREVER,
    KEYWORDS,
    NO_ARGS,
    ONE_ARG,
    ORDINARY,
    PENDING,
    PRIORITY,
    TUPLE_ARGS,
    WAITING_ROOM,
    Ask,
    Gather,
    Message,
    Rare,
    Verb,
    cancelled_error,
    mailbox_full,
    message_in_context,
)
from dan9.kernel.native import CoroutineHand, step, throw
from dan9.kernel.parking import Parking
from dan9.kernel.timers import NEVER, Timer, TimerHeap, to_ns

if TYPE_CHECKING:
    import random

    from dan9.base.ports import Clock

__all__ = ["DEFAULT_TIMEOUT_S", "Ports", "Scheduler"]

BATCH: Final = 32
TURN_S: Final = 0.001
LEAPS: Final = 1_000
DEFAULT_TIMEOUT_S: Final = 5.0
SAMPLED: Final = 63  # one handling in 64 is timed

# What became of a message that was to be queued.
ENQUEUED: Final = 0
NO_ROOM: Final = 1
DEAD: Final = 2

_STEP: Final[Callable[[Hand, object], object]] = step
_THROW: Final[Callable[[Hand, BaseException], object]] = throw
_IDENTITY: Final[Callable[[], int]] = get_ident  # a constant is not looked up
_THREADS: Final[dict[int, threading.Thread]] = threading._active  # type: ignore[attr-defined]
"""Python's own table of threads: while it has one entry, no tell can come from another."""

_HAS_TABLE: Final = sys.version_info < (3, 14)
_CURRENT_TASKS: Final[dict[Any, Any]] = getattr(asyncio.tasks, "_current_tasks", {})
"""asyncio's table of current tasks; writing it costs 65 ns, `_enter_task` 330."""


@final
class _Deferred:
    pass


DEFERRED: Final = _Deferred()
"""What `Ports.handled` returns when the reply comes later, after a commit."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Ports:
    """What the scheduler asks of the kernel around it, on its slow paths."""

    def control(self, message: Message) -> None:
        """Answer a control message, out of band."""

    def crashed(self, cell: Cell, message: Message | None, error: BaseException) -> None:
        """End a daemon whose handler, hook or loop raised."""

    def dead(self, message: Message, reason: str) -> None:
        """Record a dead letter."""

    def redirect(self, message: Message) -> Cell | None:
        """Return the cell that now has the address of a freed one."""

    def answers_for(self, message: Message) -> bool:
        """True if the supervisor answers this for a cell of which no incarnation runs."""
        return False

    def allowed(self, cell: Cell, message: Message) -> Dan9Error | None:
        """Return why this sender may not say this, or None."""

    def incoming(self, cell: Cell, message: Message) -> bool:
        """See a message to a watched cell; False: it was taken (dropped, held back)."""
        return True

    def handling(self, cell: Cell, message: Message) -> bool:
        """See a watched cell about to handle; False: it was disturbed (crashed, put off)."""
        return True

    def handled(self, cell: Cell, message: Message, value: object) -> object:
        """See a watched cell's reply; return what the asker gets."""
        return value

    def refused(self, cell: Cell, message: Message, error: Dan9Error) -> bool:
        """Count a refusal; True if the answer comes later (a durable daemon's)."""
        return False

    def timeout_of(self, ask: Ask) -> float:
        """Return how long an ask whose payload has a key `timeout` may take."""
        return -1.0

    def journalled(self, message: Message) -> bool:
        """True if the journal will answer the `send` that carries this message."""
        return False

    def bad_call(self, cell: Cell, message: Message, error: TypeError) -> Dan9Error | None:
        """Return the refusal if the arguments did not bind, None if the handler raised."""

    def high_water(self, cell: Cell) -> None:
        """See a mailbox fill up."""

    def low_water(self, cell: Cell) -> None:
        """See a mailbox that was full half empty again."""

    def settled(self, cell: Cell) -> None:
        """See a cell that was stopping come to rest: nothing in hand, nothing queued."""

    def stepped(self) -> None:
        """See the end of one step (test worlds)."""

    def woken(self) -> None:
        """See a turn begin after rest."""


@final
class Scheduler:
    """One thread's worth of daemons: their messages, steps, deadlines and timers.

    Args:
        clock: Reads the time.
        ports: The kernel around it.
        run_id: What message ids of this run begin with.
    """

    __slots__ = (
        "batch",
        "budget",
        "clock",
        "control",
        "current",
        "current_cell",
        "current_hand",
        "dead",
        "deadlines",
        "default_timeout_s",
        "duplicated",
        "entered",
        "foreign",
        "foreign_wanted",
        "handled",
        "in_turn",
        "is_watched",
        "late",
        "leap",
        "leaps",
        "loop",
        "monotonic",
        "nobody",
        "now",
        "one_thread",
        "outside",
        "ports",
        "run_first",
        "run_id",
        "run_last",
        "sent",
        "serial",
        "shuffle",
        "spare",
        "steps",
        "thread",
        "timer_armed",
        "timer_armed_for",
        "timers",
        "turns",
        "wanted",
    )

    def __init__(self, clock: Clock, ports: Ports, run_id: str, outside: str) -> None:
        self.clock = clock
        self.monotonic: Callable[[], float] = clock.monotonic
        self.ports = ports
        self.run_id = run_id
        self.outside = outside
        self.loop: asyncio.AbstractEventLoop | None = None
        self.thread: int = 0
        self.shuffle: random.Random | None = None
        self.one_thread = False
        # the run queue
        self.run_first: Runnable | None = None
        self.run_last: Runnable | None = None
        self.control: deque[Message] = deque()
        self.in_turn = False
        self.wanted = False
        self.turns: i64 = 0
        self.steps: i64 = 0
        self.is_watched = True
        # what is in hand
        self.current: Message | None = None
        self.current_cell: Cell | None = None
        self.current_hand: Hand | None = None
        self.now: float = 0.0
        self.batch: i64 = BATCH
        self.budget: i64 = 0
        self.spare: Hand | None = None
        self.entered: Hand | None = None  # asyncio's current task, during a turn
        self.nobody: Cell = None  # type: ignore[assignment]  # whose the spare hand is meanwhile
        # what came from other threads
        self.foreign: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()
        self.foreign_wanted = False
        # time
        self.timers = TimerHeap()
        self.timer_armed: object = None
        self.timer_armed_for: int = NEVER
        self.leap: Leap | None = None  # under a virtual clock
        self.leaps: int = 0
        self.deadlines = Deadlines(self)
        self.default_timeout_s: float = DEFAULT_TIMEOUT_S
        # totals
        self.serial: i64 = 0
        self.sent: i64 = 0
        self.handled: i64 = 0
        self.dead: i64 = 0
        self.late: i64 = 0
        self.duplicated: i64 = 0

    # -- time ----------------------------------------------------------------------------

    def wall(self, monotonic: float) -> float:
        """Return the wall time of a moment of the monotonic clock."""
        return self.clock.now() - (self.clock.monotonic() - monotonic)

    def time(self) -> float:
        """Return the monotonic time, read at most once a batch within a turn."""
        if not self.in_turn:
            self.now = self.monotonic()
        return self.now

    def call_at(self, when: float, callback: Callable[[], object] | Timer) -> Timer:
        """Call or fire something at a moment of the monotonic clock."""
        when_ns = to_ns(when)
        timer = self.timers.schedule(when_ns, callback)
        if self.leap is None or not self.in_turn:
            self.arm(when_ns)
        return timer

    def arm(self, when_ns: int) -> None:
        """Make sure that the loop looks at the timers at `when_ns`."""
        armed = self.timer_armed_for
        if armed != NEVER and armed <= when_ns:
            return
        loop = self.loop
        if loop is None:
            return
        if self.timer_armed is not None:
            self.timer_armed.cancel()  # type: ignore[attr-defined]
        self.timer_armed_for = when_ns
        self.timer_armed = loop.call_at(when_ns / 1e9, self.timers_due)

    def timers_due(self) -> None:
        """Fire what is due; called by the event loop."""
        self.timer_armed = None
        self.timer_armed_for = NEVER
        now = self.now = self.monotonic()
        self.fire_due(to_ns(now))
        if self.leap is None or not self.wanted:  # a turn that leaps arms at its end
            self.arm_next()

    def fire_due(self, now_ns: int) -> None:
        """Fire what is due."""
        # The loop may wake us up to its resolution early: what is due by then is due.
        for timer in self.timers.pop_due(now_ns + 500):
            timer.fire()

    def arm_next(self) -> None:
        """Make sure that the loop looks at the timers when the next is due."""
        following = self.timers.next_ns()
        if following != NEVER:
            self.arm(following)

    def leap_ahead(self, leap: Leap) -> bool:
        """Let virtual time pass inside a turn, nothing being runnable; False if it may not.

        What the loop has to do comes first, and it gets its chance every `LEAPS` leaps.
        """
        following = self.timers.next_ns()
        if following == NEVER or self.leaps <= 0:
            return False
        now = leap.to(following / 1e9)
        if now < 0.0:
            return False
        self.leaps -= 1
        self.now = now
        self.fire_due(following)
        return True

    def call_soon(self, callback: Callable[..., object], argument: object, context: object) -> None:
        """Call `callback(argument)` from the event loop."""
        loop = self.loop
        if loop is not None and not loop.is_closed():
            loop.call_soon(callback, argument, context=context)  # type: ignore[arg-type]

    # -- sending -------------------------------------------------------------------------

    def stamp(self, message: Message) -> None:
        """Say who sent it and when; the sender cannot."""
        cell = self.current_cell
        if cell is not None:
            message.origin = cell
        elif message.origin is None:
            outer = message_in_context()
            if outer is not None:
                message.origin = outer.cell
                if message.trace is None:
                    message.trace = outer.trace
        if not self.in_turn:
            self.now = self.monotonic()
        self.serial += 1
        message.serial = self.serial
        message.sent_at = self.now
        current = self.current
        if current is not None and current.trace is not None:
            message.trace = current.trace

    def tell(self, message: Message) -> None:
        """Send without waiting.

        Raises:
            MailboxFull: The receiver's mailbox is full and its policy does not drop.
        """
        if len(_THREADS) > 1 and _IDENTITY() != self.thread:
            self.from_thread(self.tell_inside, (message,))
            return
        self.stamp(message)
        if self.enqueue(message) == NO_ROOM:
            self.sent -= 1
            raise mailbox_full(message)

    def tell_inside(self, message: Message) -> None:
        """Tell on the loop for another thread: there is nobody to raise to."""
        self.stamp(message)
        if self.enqueue(message) == NO_ROOM:
            self.turn_away(message, "mailbox-full")

    def from_thread(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        """Run `function(*arguments)` on the loop's thread, in order of the calls."""
        if self.one_thread:
            raise RuntimeError("under virtual time only the loop's own thread may send")
        self.foreign.append((function, arguments))
        if not self.foreign_wanted:
            self.foreign_wanted = True
            loop = self.loop
            if loop is not None and not loop.is_closed():
                loop.call_soon_threadsafe(self.drain_foreign)

    def drain_foreign(self) -> None:
        """Do what other threads asked for."""
        self.foreign_wanted = False
        for _ in range(len(self.foreign)):
            function, arguments = self.foreign.popleft()
            function(*arguments)

    def submit(self, ask: Ask) -> None:
        """Send an ask from wherever it is awaited."""
        if len(_THREADS) > 1 and _IDENTITY() != self.thread:
            raise RuntimeError(
                "an ask was awaited in another thread than its system's; use tell, "
                "or dan9.connect() for a client that blocks"
            )
        self.submit_inside(ask)

    def submit_inside(self, ask: Ask) -> None:
        """Send an ask on the loop: stamp it, give it a deadline, refuse a cycle, queue it."""
        parent = self.current
        if parent is None or (parent.rare is not None and parent.rare.trace is not None):
            if parent is None and ask.origin is None:  # a wire's is nobody's child
                parent = message_in_context()
            self.stamp(ask)
        else:
            # Inlined `stamp`: this is the hot path.
            ask.origin = parent.cell
            ask.sent_at = self.now
            self.serial += 1
            ask.serial = self.serial
        verb = ask.verb
        timeout_s = ask.timeout_s
        if timeout_s < 0.0:
            timeout_s = verb.timeout_s
            if verb.takes_timeout:
                timeout_s = self.ports.timeout_of(ask)
            if timeout_s < 0.0:
                timeout_s = self.default_timeout_s
            ask.timeout_s = timeout_s
        until = self.now + timeout_s
        if parent is not None:
            if parent.until < until:
                until = parent.until
                ask.timeout_s = until - self.now
            ask.parent = parent
            asker = parent.cell
            holder = asker.hand
            if (
                holder is not None
                and holder.message is parent
                and (ask.cell.hand is not None or ask.cell is asker)  # who is idle closes none
                and closes_cycle(ask, asker)
            ):
                ask.state = FAILED
                ask.result_ = cycle_error(ask, asker)
                return
        ask.until = until
        ask.state = PENDING
        outcome = self.enqueue(ask)
        if outcome == NO_ROOM:
            if ask.cell.policy == REFUSE:
                self.sent -= 1
                ask.state = FAILED
                ask.result_ = mailbox_full(ask)
                return
            ask.state = WAITING_ROOM
            self.wait_for_room(ask)
        if ask.state < ANSWERED and until != FOREVER:
            self.deadlines.watch(ask)

    def submit_carried(self, ticket: Ask) -> None:
        """Send a tell that waits for room; the ticket is answered once it is queued."""
        message = ticket.carries
        assert message is not None
        self.stamp(message)
        parent = self.current
        if parent is None:
            parent = message_in_context()
        timeout_s = ticket.timeout_s
        if timeout_s < 0.0:
            timeout_s = ticket.timeout_s = self.default_timeout_s
        ticket.until = self.now + timeout_s
        if parent is not None and parent.until < ticket.until:
            ticket.until = parent.until
            ticket.timeout_s = ticket.until - self.now
        ticket.state = PENDING
        message.room_of = ticket
        outcome = self.enqueue(message)
        if outcome == NO_ROOM:
            if ticket.cell.policy == REFUSE:
                self.sent -= 1
                ticket.state = FAILED
                ticket.result_ = mailbox_full(message)
                return
            self.wait_for_room(message)
            if ticket.until != FOREVER:
                self.deadlines.watch(ticket)
        elif ticket.state == PENDING and not self.ports.journalled(message):
            ticket.state = ANSWERED

    def wait_for_room(self, message: Message) -> None:
        """Put a message in the line before a full mailbox; it counts when it gets in."""
        self.sent -= 1
        cold = message.cell.chill()
        if cold.room is None:
            cold.room = [message]
        else:
            cold.room.append(message)

    # -- the mailbox ---------------------------------------------------------------------

    def enqueue(self, message: Message) -> int:
        """Queue a message; say what became of it."""
        cell = message.cell
        gate = cell.gate
        self.sent += 1
        if gate & ENTRY or message.verb.kind != ORDINARY:
            return self.enqueue_slowly(message)
        if cell.depth >= cell.limit or gate & CROWDED:
            return self.put(message)
        tail = cell.tail
        if tail is None:
            cell.head = message
        else:
            tail.next = message
        cell.tail = message
        cell.depth += 1
        if not gate & NOT_RUNNABLE:
            cell.gate = gate | QUEUED
            last = self.run_last
            if last is None:
                self.run_first = cell
                if not self.in_turn and not self.wanted:
                    self.want_turn()
            else:
                last.run_next = cell
            self.run_last = cell
        elif gate & OWN_LOOP:
            self.wake_inbox(cell)
        return ENQUEUED

    def enqueue_slowly(self, message: Message) -> int:
        """Queue a message that is not ordinary, or to a cell that is not plainly open."""
        cell = message.cell
        verb = message.verb
        if cell.gate & GUARDED and verb.type != "down":
            error = self.ports.allowed(cell, message)
            if error is not None:
                self.turn_away(message, "not-allowed")
                waits = message.room_of
                self.reply_error(message if waits is None else waits, error)
                return DEAD
        if verb.kind == CONTROL:
            self.control.append(message)
            self.want_turn()
            return ENQUEUED
        if cell.gate & CLOSED:
            other = self.ports.redirect(message)
            if other is None or other is cell:
                if verb.kind == PRIORITY and self.ports.answers_for(message):
                    self.control.append(message)
                    self.want_turn()
                    return ENQUEUED
                self.turn_away(message, "not-running")
                return DEAD
            message.cell = other
            self.sent -= 1
            return self.enqueue(message)
        if cell.gate & WATCHED:
            cold = cell.chill()
            cold.received += 1
            if not self.ports.incoming(cell, message):
                return ENQUEUED
        return self.put(message)

    def put(self, message: Message) -> int:
        """Queue it at the end, or do what the policy says."""
        cell = message.cell
        cold = cell.cold
        if message.verb.kind == ORDINARY and (
            cell.depth >= cell.limit or (cold is not None and cold.room is not None)
        ):
            outcome = self.overflow(message)
            if outcome == NO_ROOM and cell.gate & WATCHED:
                cell.chill().received -= 1
            return outcome
        self.link(cell, message)
        return ENQUEUED

    def link(self, cell: Cell, message: Message) -> None:
        """Append to the mailbox and make the cell runnable."""
        mailbox.append(cell, message)
        self.make_runnable(cell)

    def overflow(self, message: Message) -> int:
        """Do what the policy of a full mailbox says."""
        cell = message.cell
        self.ports.high_water(cell)
        policy = cell.policy
        if policy == DROP_NEWEST:
            self.bury(message, "dropped-newest")
            return DEAD
        if policy == DROP_OLDEST:
            oldest = mailbox.pop_ordinary(cell)
            if oldest is not None:
                self.bury(oldest, "dropped-oldest")
            self.link(cell, message)
            return ENQUEUED
        return NO_ROOM

    def take(self, cell: Cell) -> Message | None:
        """Take the oldest message that is still wanted."""
        while True:
            message = mailbox.pop(cell)
            if message is None:
                return None
            if cell.gate & CROWDED:
                self.relieve(cell)
            if isinstance(message, Ask) and (message.state != PENDING or message.until <= self.now):
                self.expire_queued(message)
                continue
            return message

    def relieve(self, cell: Cell) -> None:
        """A message was taken from a mailbox that was full: let in who waits for room."""
        cold = cell.cold
        if cold is not None and cold.room is not None:
            self.let_in(cell)
        elif cell.depth * 2 <= cell.limit:
            cell.gate &= ~CROWDED
            self.ports.low_water(cell)

    def expire_queued(self, ask: Ask) -> None:
        """Drop an ask that nobody waits for any more, unhandled."""
        self.bury(ask, "expired")
        if ask.state == PENDING:
            self.settle(ask, FAILED, ask.timed_out())

    def let_in(self, cell: Cell) -> None:
        """Give the room that was made to those who wait before the mailbox."""
        cold = cell.cold
        assert cold is not None
        while cold.room is not None and cell.depth < cell.limit:
            message = cold.room.pop(0)
            if not cold.room:
                cold.room = None
            waiting = message.room_of
            if isinstance(message, Ask):
                if message.state != WAITING_ROOM:
                    continue
                message.state = PENDING
            elif waiting is not None and waiting.state != PENDING and not message.journalled:
                continue
            self.sent += 1
            if cell.gate & WATCHED:
                cold.received += 1
            self.link(cell, message)
            if waiting is not None and waiting.state < ANSWERED and not message.journalled:
                self.settle(waiting, ANSWERED, None)

    def bury(self, message: Message, reason: str) -> None:
        """Make a dead letter of a message that was sent; its asker hears of it."""
        self.dead += 1
        cold = message.cell.cold
        if cold is not None:
            cold.dead += 1
        self.ports.dead(message, reason)

    def turn_away(self, message: Message, reason: str) -> None:
        """Bury a message that its daemon did not take in: it counts as received, and dead."""
        if message.cell.gate & WATCHED:
            message.cell.chill().received += 1
        self.bury(message, reason)

    # -- the run queue -------------------------------------------------------------------

    def want_turn(self) -> None:
        """Ask the event loop for a turn."""
        if self.in_turn or self.wanted:
            return
        loop = self.loop
        if loop is not None:
            self.wanted = True
            loop.call_soon(self.turn)

    def append(self, runnable: Runnable) -> None:
        """Put at the end of the run queue."""
        last = self.run_last
        if last is None:
            self.run_first = runnable
        else:
            last.run_next = runnable
        self.run_last = runnable
        if not self.in_turn and not self.wanted:
            self.want_turn()

    def make_runnable(self, cell: Cell) -> None:
        """Queue the cell if it has messages and may handle them."""
        gate = cell.gate
        if gate & OWN_LOOP:
            self.wake_inbox(cell)
        elif not gate & NOT_RUNNABLE and cell.head is not None:
            cell.gate = gate | QUEUED
            self.append(cell)

    def resume(self, hand: Hand) -> None:
        """Queue a hand whose wait is over."""
        if hand.queued or hand.ended:
            return
        hand.queued = True
        self.append(hand)

    def turn(self) -> None:
        """Have a turn; called by the event loop."""
        self.wanted = False
        if not self.in_turn:
            self.begin_turn()
            self.run_turn()

    def begin_turn(self) -> None:
        """Read the clock; `run_turn` must follow, and what is sent before belongs to the turn."""
        self.in_turn = True
        self.turns += 1
        self.now = self.monotonic()

    def run_turn(self) -> None:
        """Run what is runnable for up to `TURN_S`, then let the event loop in."""
        loop = self.loop
        now = self.now
        until = now + TURN_S
        leap = self.leap
        if leap is not None:
            self.leaps = LEAPS
            until = FOREVER  # of virtual time none passes while something is runnable
        try:
            if not self.is_watched:
                self.ports.woken()
            if self.shuffle is not None:
                self.turn_shuffled()
                return
            self.budget = self.batch
            while True:
                if self.control:
                    self.ports.control(self.control.popleft())
                    continue
                runnable = self.run_first
                if runnable is None:
                    if leap is not None and self.leap_ahead(leap):
                        continue
                    break
                following = runnable.run_next
                self.run_first = following
                if following is None:
                    self.run_last = None
                else:
                    runnable.run_next = None
                # Inlined `run`: this is the hot path.
                if isinstance(runnable, Cell):
                    try:
                        self.run_cell(runnable)
                    except BaseException:
                        self.cut_short(runnable)
                        raise
                elif isinstance(runnable, Hand):
                    runnable.queued = False
                    self.budget -= 1
                    self.step(runnable)
                if self.budget <= 0:
                    since = now
                    now = self.now = self.monotonic()
                    self.fit_batch(now - since)
                    if now >= until:
                        break
                    self.budget = self.batch
        finally:
            self.in_turn = False
            self.current = None
            self.current_cell = None
            self.current_hand = None
            if _HAS_TABLE and self.entered is not None:
                self.entered = None
                _CURRENT_TASKS.pop(loop, None)
            if leap is not None:
                self.arm_next()
            if self.run_first is not None or self.control:
                self.want_turn()

    def fit_batch(self, took_s: float) -> None:
        """Look at the clock more often where handlers are slow: a batch is a part of a turn."""
        if took_s > TURN_S / 4:
            if self.batch > 1:
                self.batch //= 2
        elif self.batch < BATCH:
            self.batch *= 2

    def turn_shuffled(self) -> None:
        """Run with the order drawn by the seed, one message a step."""
        shuffle = self.shuffle
        assert shuffle is not None
        waiting: list[Runnable] = []
        try:
            for _ in range(256):
                runnable = self.run_first
                while runnable is not None:
                    waiting.append(runnable)
                    following = runnable.run_next
                    runnable.run_next = None
                    runnable = following
                self.run_first = self.run_last = None
                if self.control:
                    self.ports.control(self.control.popleft())
                elif waiting:
                    index = int(shuffle.random() * len(waiting))
                    chosen = waiting[index]
                    waiting[index] = waiting[-1]
                    waiting.pop()
                    self.budget = 1
                    self.run(chosen)
                elif self.leap is not None and self.leap_ahead(self.leap):
                    continue
                else:
                    break
                self.ports.stepped()
        finally:
            for runnable in waiting:
                self.append(runnable)

    def run(self, runnable: Runnable) -> None:
        """Let a cell handle messages, or a hand make a step."""
        if isinstance(runnable, Cell):
            try:
                self.run_cell(runnable)
            except BaseException:
                self.cut_short(runnable)
                raise
        elif isinstance(runnable, Hand):
            runnable.queued = False
            self.budget -= 1
            self.step(runnable)

    def cut_short(self, cell: Cell) -> None:
        """Let a cell go on after what an asker's callback or a hook raised while it was run."""
        cell.gate &= ~QUEUED
        self.make_runnable(cell)

    def run_cell(self, cell: Cell) -> None:
        """Let one daemon handle its messages, while the budget lasts.

        This is the hot path: `take`, `finish` and the plainest way through are inlined, and what
        is in hand is only cleared where other code than a handler may look at it. The cell stays
        `QUEUED` until it is done, so that what its handlers tell it does not queue it twice.
        """
        budget = self.budget
        while budget > 0:
            gate = cell.gate
            if gate & BLOCKED:
                break
            message = cell.head
            if message is None:
                break
            budget -= 1
            following = message.next
            cell.head = following
            if following is None:
                cell.tail = None
            else:
                message.next = None
            cell.depth -= 1
            if gate & OBSERVED:
                self.current = None
                self.current_cell = None
                if gate & CROWDED:
                    self.relieve(cell)
            if isinstance(message, Ask) and (message.state != PENDING or message.until <= self.now):
                self.current = None
                self.current_cell = None
                self.expire_queued(message)
                continue
            verb = message.verb
            if (gate & WATCHED or not verb.is_plain) and not self.may_begin(cell, message):
                continue
            function = verb.function
            assert function is not None
            self.current = message
            self.current_cell = cell
            began = 0.0
            if self.handled & SAMPLED == 0 and cell.handled > SAMPLED:
                began = self.monotonic()
            shape = message.shape
            try:
                if shape == ONE_ARG:
                    value = function(cell.instance, message.args)
                elif shape == NO_ARGS:
                    value = function(cell.instance)
                elif shape == TUPLE_ARGS:
                    value = function(cell.instance, *message.args)  # type: ignore[misc]
                elif shape == KEYWORDS:
                    value = function(cell.instance, **message.args)  # type: ignore[arg-type]
                else:
                    args, kwargs = message.arguments()
                    value = function(cell.instance, *args, **kwargs)
            except BaseException as error:
                self.current = None
                self.current_cell = None
                if verb.concurrent != 1:
                    self.free_slot(cell, verb)
                self.raised(cell, message, error)
                continue
            if verb.is_async:
                self.begin(cell, message, value, began)
                continue
            if verb.concurrent != 1:
                self.free_slot(cell, verb)
            if began != 0.0:
                self.sample(cell, self.monotonic() - began)
            if gate & WATCHED:
                self.current = None
                self.current_cell = None
                self.finish(cell, message, value)
                continue
            self.handled += 1
            cell.handled += 1
            if cell.run_verb is not verb:
                self.begin_run(cell, verb)
            if isinstance(message, Ask):
                if message.state == PENDING:
                    self.settle(message, ANSWERED, value)
                else:
                    self.late += 1
        self.current = None
        self.current_cell = None
        self.budget = budget
        gate = cell.gate & ~QUEUED
        if gate & BLOCKED:
            cell.gate = gate
        elif cell.head is not None:
            cell.gate = gate | QUEUED
            self.append(cell)
        else:
            cell.gate = gate
            if gate != 0 and cell.cold is not None:
                self.ports.settled(cell)

    # -- handling ------------------------------------------------------------------------

    def may_begin(self, cell: Cell, message: Message) -> bool:
        """Take a slot, show the message to who watches; False if it is not to be handled now."""
        verb = message.verb
        if verb.concurrent != 1 and not self.has_slot(cell, message):
            return False
        if cell.gate & WATCHED and not self.ports.handling(cell, message):
            if verb.concurrent != 1:
                self.free_slot(cell, verb)
            return False
        if verb.function is None:
            self.reply_error(message, self.unknown(cell, verb.type))
            self.count_handled(cell, verb)
            return False
        return True

    def sample(self, cell: Cell, took_s: float) -> None:
        """Keep the time of one handling in `SAMPLED + 1`."""
        cold = cell.chill()
        times = cold.samples
        if times is None:
            times = cold.samples = Histogram()
        times.add(took_s)
        cold.busy_s += took_s * (SAMPLED + 1)

    def finish(self, cell: Cell, message: Message, value: object) -> None:
        """Count a handled message and send its reply."""
        self.handled += 1
        cell.handled += 1
        verb = message.verb
        if cell.run_verb is not verb:
            self.begin_run(cell, verb)
        if cell.gate & WATCHED:
            value = self.ports.handled(cell, message, value)
            if value is DEFERRED:
                return
        if isinstance(message, Ask):
            if message.state == PENDING:
                self.settle(message, ANSWERED, value)
            else:
                self.late += 1

    def count_handled(self, cell: Cell, verb: Verb) -> None:
        """Count a handled message."""
        self.handled += 1
        cell.handled += 1
        if cell.run_verb is not verb:
            self.begin_run(cell, verb)

    def begin_run(self, cell: Cell, verb: Verb) -> None:
        """Count a message of another type than the one handled before."""
        before = cell.run_verb
        length = cell.handled - 1 - cell.run_from
        if before is not None and length > 0:
            counts = cell.counts
            if counts is None:
                counts = cell.counts = [0] * (len(cell.home.behaviour.order) + 1)
            counts[before.index] += int(length)
        cell.run_verb = verb
        cell.run_from = cell.handled - 1

    def raised(self, cell: Cell, message: Message, error: BaseException) -> None:
        """A handler raised: a refusal is an answer, anything else a crash."""
        if isinstance(error, Refused):
            self.refuse(cell, message, error)
            return
        if isinstance(error, TypeError):
            refusal = self.ports.bad_call(cell, message, error)
            if refusal is not None:
                self.refuse(cell, message, refusal)
                return
        self.count_handled(cell, message.verb)
        self.ports.crashed(cell, message, error)

    def refuse(self, cell: Cell, message: Message, error: Dan9Error) -> None:
        """Answer with a named refusal; the daemon goes on."""
        self.count_handled(cell, message.verb)
        if self.ports.refused(cell, message, error):
            return
        if isinstance(message, Ask):
            self.reply_error(message, error)

    def unknown(self, cell: Cell, type_: str) -> UnknownMessage:
        """Return the refusal of a message type that the daemon does not have."""
        return UnknownMessage(
            f"{cell.address} knows no message {type_!r}",
            hint=f"`dan9 describe {cell.name}` lists what it knows",
            address=cell.address,
            message=type_,
        )

    # -- coroutines ----------------------------------------------------------------------

    def begin(self, cell: Cell, message: Message, coroutine: object, began: float) -> None:
        """Take an async handler in hand and make its first step.

        Most handlers end at their first step. So the hand and its context are a spare that
        serves one message after another; it is given away to the first handler
        that has to wait, or that started a task, or changed a context variable.
        """
        spare = self.spare
        hand = self.new_spare() if spare is None else spare
        hand.cell = cell
        hand.message = message
        hand.coroutine = coroutine
        verb = message.verb
        is_blocking = verb.concurrent == 1
        hand.blocking = is_blocking
        if is_blocking:
            cell.gate |= BUSY
            cell.hand = hand
        else:
            self.remember(cell, hand)
        self.current_hand = hand
        if _HAS_TABLE:
            if self.entered is not hand:
                self.entered = hand
                _CURRENT_TASKS[self.loop] = hand
            yielded = _STEP(hand, None)
        else:
            yielded = self.step_entered(hand)
        self.current_hand = None
        if yielded is not ENDED or hand.kept:
            # Something of it is known outside: it is this handler's for good.
            self.current = None
            self.current_cell = None
            self.spare = None
            hand.pristine = None
            hand.began = began
            self.wait(hand, yielded)
            return
        hand.message = None
        if is_blocking:
            cell.hand = None
            cell.gate &= ~BUSY
        else:
            self.forget_hand(cell, hand)
            self.free_slot(cell, verb)
        if began != 0.0:
            self.sample(cell, self.monotonic() - began)
        error = hand.error
        if error is not None or cell.gate & WATCHED:
            self.current = None
            self.current_cell = None
        if error is not None:
            hand.error = None
            self.conclude(cell, message, error)
            return
        value = hand.result_
        hand.result_ = None
        self.finish(cell, message, value)

    def new_spare(self) -> Hand:
        """Make a hand that is ready for any handler."""
        hand = self.spare = CoroutineHand(self.nobody, None, None, None)
        hand.pristine = hand.context.copy()
        return hand

    def forget_hand(self, cell: Cell, hand: Hand) -> None:
        """Drop a hand that has ended from its daemon's list."""
        cold = cell.cold
        if cold is not None and cold.hands is not None:
            if hand in cold.hands:
                cold.hands.remove(hand)
            if not cold.hands:
                cold.hands = None

    def conclude(self, cell: Cell, message: Message, error: BaseException) -> None:
        """A handler ended by an exception."""
        if isinstance(error, asyncio.CancelledError):
            self.cancelled(cell, message)
        else:
            self.raised(cell, message, error)

    def start_hand(
        self,
        cell: Cell,
        coroutine: object,
        done_with: Callable[[object, BaseException | None], None],
    ) -> Hand:
        """Run a hook or an own loop of a daemon; `done_with(value, error)` hears the end."""
        hand = CoroutineHand(cell, None, coroutine, done_with)
        self.remember(cell, hand)
        self.resume(hand)
        return hand

    def remember(self, cell: Cell, hand: Hand) -> None:
        """Keep a hand that does not block its daemon, so that stopping finds it."""
        cold = cell.chill()
        if cold.hands is None:
            cold.hands = [hand]
        else:
            cold.hands.append(hand)

    def step(self, hand: Hand) -> None:
        """Run a coroutine up to its next wait."""
        if hand.ended:
            return
        cell = hand.cell
        loop = self.loop
        self.steps += 1
        self.current = hand.message
        self.current_cell = cell
        self.current_hand = hand
        hand.waits = None
        if _HAS_TABLE and self.entered is not hand:
            self.entered = hand
            _CURRENT_TASKS[loop] = hand
        if hand._must_cancel or hand.to_throw is not None:
            yielded = self.throw_in(hand)
        elif _HAS_TABLE:
            yielded = _STEP(hand, None)
        else:
            yielded = self.step_entered(hand)
        self.current = None
        self.current_cell = None
        self.current_hand = None
        self.wait(hand, yielded)

    def step_entered(self, hand: Hand) -> object:
        """Step where asyncio keeps its current task to itself (Python 3.14 and later)."""
        loop = self.loop
        asyncio.tasks._enter_task(loop, hand)  # type: ignore[arg-type]
        try:
            return _STEP(hand, None)
        finally:
            asyncio.tasks._leave_task(loop, hand)  # type: ignore[arg-type]

    def wait(self, hand: Hand, yielded: object) -> None:
        """Park a hand on what its coroutine awaits, or end it."""
        if isinstance(yielded, Ask):
            yielded._asyncio_future_blocking = False
            hand.waits = yielded
            if yielded.state >= ANSWERED:
                self.resume(hand)
            else:
                yielded.waiter = hand
            self.cancel_if_asked(hand)
        elif yielded is ENDED:
            self.end_hand(hand)
        elif isinstance(yielded, Gather):
            yielded._asyncio_future_blocking = False
            hand.waits = yielded
            if yielded.missing <= 0:
                self.resume(hand)
            else:
                yielded.waiter = hand
            self.cancel_if_asked(hand)
        elif isinstance(yielded, Parking):
            yielded._asyncio_future_blocking = False
            hand.waits = yielded
            if yielded.is_done:
                self.resume(hand)
            else:
                yielded.waiter = hand
            self.cancel_if_asked(hand)
        elif yielded is None:
            # asyncio.sleep(0): everyone else first, the event loop included.
            self.call_soon(self.resume, hand, None)
        else:
            self.wait_for_future(hand, yielded)

    def throw_in(self, hand: Hand) -> object:
        """Raise in a coroutine at its next step; one that has not begun never does."""
        error = hand.to_throw
        hand.to_throw = None
        if error is None:
            hand._must_cancel = False
            error = cancelled_error(hand._cancel_message)
        return _THROW(hand, error)

    def cancel_if_asked(self, hand: Hand) -> None:
        """Deliver a cancellation that was asked for while the coroutine ran."""
        if hand._must_cancel and hand.waits is not None:
            hand._must_cancel = False
            if not hand.waits.cancel(hand._cancel_message):  # type: ignore[attr-defined]
                hand._must_cancel = True

    def wait_for_future(self, hand: Hand, future: object) -> None:
        """Park the hand on an asyncio future."""
        if getattr(future, "_asyncio_future_blocking", None) is True:
            future._asyncio_future_blocking = False  # type: ignore[attr-defined]
            hand._fut_waiter = future
            future.add_done_callback(hand.wakeup, context=hand.context)  # type: ignore[attr-defined]
            if hand._must_cancel and future.cancel(msg=hand._cancel_message):  # type: ignore[attr-defined]
                hand._must_cancel = False
            return
        hand.to_throw = RuntimeError(
            f"{hand.get_name()} awaited a {type(future).__name__}, "
            "which is of another library than asyncio"
        )
        self.resume(hand)

    def end_hand(self, hand: Hand) -> None:
        """A coroutine has ended: reply, free the daemon, tell who waited."""
        if hand.ended:
            return
        hand.ended = True
        cell = hand.cell
        if hand.callbacks is not None:
            for callback, context in hand.callbacks:
                self.call_soon(callback, hand, context)
            hand.callbacks = None
        self.forget_hand(cell, hand)
        error = hand.error
        message = hand.message
        if hand.blocking:
            hand.blocking = False
            if cell.hand is hand:
                cell.hand = None
                cell.gate &= ~BUSY
        if hand.done_with is not None:
            hand.done_with(hand.result_, error)
        elif message is not None:
            verb = message.verb
            if verb.concurrent != 1:
                self.free_slot(cell, verb)
            if hand.began != 0.0:
                self.sample(cell, self.monotonic() - hand.began)
            if error is None:
                self.finish(cell, message, hand.result_)
            else:
                self.conclude(cell, message, error)
        if cell.head is not None:
            self.make_runnable(cell)
            if cell.gate & CLOSED:  # stopping, and keeping its queue
                self.ports.settled(cell)
        elif cell.gate != 0:
            self.ports.settled(cell)

    def cancelled(self, cell: Cell, message: Message) -> None:
        """A handler ended by cancellation: given up by its asker, or killed."""
        self.count_handled(cell, message.verb)
        if isinstance(message, Ask):
            self.reply_error(
                message,
                NotRunning(
                    f"{cell.address} gave up {message.verb.type!r}: it was cancelled",
                    address=cell.address,
                    message=message.verb.type,
                ),
            )

    def has_slot(self, cell: Cell, message: Message) -> bool:
        """Take a slot for a concurrent handler, or set the message aside until one is free."""
        verb = message.verb
        cold = cell.chill()
        if cold.running is None:
            cold.running = {}
        running = cold.running.get(verb.type, 0)
        if verb.concurrent > 0 and running >= verb.concurrent:
            if cold.backlog is None:
                cold.backlog = {}
            cold.backlog.setdefault(verb.type, []).append(message)
            cold.set_aside += 1
            return False
        cold.running[verb.type] = running + 1
        return True

    def free_slot(self, cell: Cell, verb: Verb) -> None:
        """Give a slot back and begin with what was set aside."""
        cold = cell.chill()
        if cold.running is None:
            return
        cold.running[verb.type] = cold.running.get(verb.type, 1) - 1
        backlog = cold.backlog
        waiting = backlog.get(verb.type) if backlog is not None else None
        if waiting:
            mailbox.put_back(cell, waiting.pop(0))
            cold.set_aside -= 1
            self.make_runnable(cell)

    # -- replies -------------------------------------------------------------------------

    def reply(self, message: Message, value: object) -> None:
        """Answer a message; safe from any thread."""
        if len(_THREADS) > 1 and _IDENTITY() != self.thread:
            self.from_thread(self.reply, (message, value))
            return
        if isinstance(message, Ask):
            if message.state == PENDING:
                if message.cell.gate & WATCHED:
                    value = self.ports.handled(message.cell, message, value)
                self.settle(message, ANSWERED, value)
            else:
                self.late += 1

    def reply_error(self, message: Message, error: BaseException) -> None:
        """Answer a message with an error; safe from any thread."""
        if len(_THREADS) > 1 and _IDENTITY() != self.thread:
            self.from_thread(self.reply_error, (message, error))
            return
        if isinstance(message, Ask):
            if message.state == PENDING or message.state == WAITING_ROOM:
                self.settle(message, FAILED, error)
            else:
                self.late += 1

    def settle(self, ask: Ask, state: int, value: object) -> None:
        """Fill the reply slot and wake who waits for it."""
        ask.state = state
        ask.result_ = value
        ask.parent = None
        if ask.bucket is not None:
            self.deadlines.forget(ask)
        waiter = ask.waiter
        if waiter is not None:
            ask.waiter = None
            # Inlined `resume`: this is the hot path.
            if not waiter.queued and not waiter.ended:
                waiter.queued = True
                self.append(waiter)
        listener = ask.listener
        if listener is not None:
            ask.listener = None
            listener.ended(ask)
        rare = ask.rare
        if rare is not None:
            self.call_back(ask, rare)

    def call_back(self, ask: Ask, rare: Rare) -> None:
        """Call who waits for an ask as for a future."""
        callbacks = rare.callbacks
        if callbacks is not None:
            rare.callbacks = None
            for callback, context in callbacks:
                self.call_soon(callback, ask, context)

    def gathered(self, gather: Gather) -> None:
        """All replies are there."""
        waiter = gather.waiter
        if waiter is not None:
            gather.waiter = None
            self.resume(waiter)
        if gather.callbacks is not None:
            for callback, context in gather.callbacks:
                self.call_soon(callback, gather, context)
            gather.callbacks = None

    def give_up(self, ask: Ask, msg: object) -> None:
        """The asker does not wait any longer."""
        waited_for_room = ask.state == WAITING_ROOM
        self.settle(ask, CANCELLED, msg)
        if not waited_for_room:
            self.cancel_handler(ask)

    def cancel_handler(self, ask: Ask) -> None:
        """Cancel the handler of an ask that was given up, if it is cancellable."""
        cold = ask.cell.cold
        if not ask.verb.cancellable:
            return
        holder = ask.cell.hand
        if holder is not None and holder.message is ask:
            holder.cancel()
        elif cold is not None and cold.hands is not None:
            for hand in cold.hands:
                if hand.message is ask:
                    hand.cancel()
                    return

    def expire(self, ask: Ask) -> None:
        """The deadline passed: the asker hears it now, the handler may go on."""
        if ask.state >= ANSWERED:
            return
        ask.more().timer = None
        waited_for_room = ask.state == WAITING_ROOM
        self.settle(ask, FAILED, ask.timed_out())
        if not waited_for_room:
            self.cancel_handler(ask)

    # -- own loops -----------------------------------------------------------------------

    def wake_inbox(self, cell: Cell) -> None:
        """Let a daemon's own loop see that a message came."""
        cold = cell.cold
        if cold is not None and cold.inbox_waiter is not None and not cell.gate & HELD:
            waiter = cold.inbox_waiter
            cold.inbox_waiter = None
            waiter.release()  # type: ignore[attr-defined]
