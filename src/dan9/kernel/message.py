"""Messages, asks, and the verbs they carry.

A message is an envelope: who sent what to whom, when, and until when an answer is
wanted. It carries its verb (the handler's entry), so that dispatch looks nothing
up. An ask is a message that is its own reply slot: one allocation for both.

An `Ask` is awaitable by three kinds of waiter without knowing which:

- a handler stepped by the scheduler, which recognises the yielded ask and parks;
- asyncio, to which the ask is both a coroutine (`create_task`, TaskGroup) and a future
  (tasks that await it, `gather`, `wait_for`: the `_asyncio_future_blocking` protocol);
- a `Gather`, which counts many asks down.

Nothing is sent before the first `await`.

Compiled by mypyc: no exception is raised and caught inside the compiled paths, and
links are intrusive (a deque costs 50 ns and memory).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Final, final

from mypy_extensions import i32, i64, mypyc_attr

from dan9.base.errors import Dan9InternalError, MailboxFull, TimedOut

if TYPE_CHECKING:
    from dan9.base.schema import Signature
    from dan9.kernel.cell import Cell
    from dan9.kernel.hand import Hand
    from dan9.kernel.timers import Timer

__all__ = [
    "CONTROL",
    "IN_HAND",
    "ORDINARY",
    "PRIORITY",
    "Ask",
    "Gather",
    "Message",
    "Verb",
    "message_in_context",
]

# Kinds of verb. ORDINARY messages obey the mailbox's limit, PRIORITY ones pass it,
# CONTROL ones are out of band: answered even while a handler awaits.
ORDINARY: Final = 0
PRIORITY: Final = 1
CONTROL: Final = 2

# States of an ask.
NEW: Final = 0
WAITING_ROOM: Final = 1  # the receiver's mailbox is full, the asker waits to enqueue
PENDING: Final = 2
ANSWERED: Final = 3
FAILED: Final = 4
CANCELLED: Final = 5

FOREVER: Final = float("inf")

# How a message's arguments are packed in its one `args` field.
NO_ARGS: Final = 0
ONE_ARG: Final = 1
TUPLE_ARGS: Final = 2
KEYWORDS: Final = 3
MIXED: Final = 4

# The message in hand, for code that a handler started elsewhere: asyncio tasks and
# threads copy the context. Inside a step the scheduler's own attribute is used.
# What it holds is the handler's hand, whose `message` it is.
IN_HAND: ContextVar[Hand | None] = ContextVar("dan9_in_hand", default=None)


@final
class Verb:
    """One handler's entry in a behaviour table, shared by all instances of the class.

    Attributes:
        type: The message type as on the wire.
        function: The plain function, called with the instance first; None for a
            message that only an own loop will see.
        is_async: Whether calling `function` gives a coroutine.
        kind: ORDINARY, PRIORITY or CONTROL.
        concurrent: How many may be in hand at once; 1 is the rule, 0 no limit.
        is_plain: Whether nothing but a watcher stands between the mailbox and the function.
        timeout_s: Default deadline of an ask of this message; negative: the system's.
        index: Its place in the class's table, for per-type counts.
    """

    def __init__(
        self,
        type: str,
        name: str,
        function: object,
        is_async: bool,
        kind: int = ORDINARY,
        concurrent: int = 1,
        cancellable: bool = False,
        timeout_s: float = -1.0,
        index: int = 0,
    ) -> None:
        self.type = type
        self.name = name
        self.function: Callable[..., object] | None = function  # type: ignore[assignment]
        self.is_async = is_async
        self.kind: i32 = kind
        self.concurrent: i32 = concurrent
        self.is_plain = function is not None and concurrent == 1
        self.cancellable = cancellable
        self.timeout_s = timeout_s
        self.takes_timeout = False  # the payload has a key `timeout`
        self.index = index
        self.source: object = None  # the undecorated function: docs and schema
        self.own_signature: Signature | None = None

    @property
    def signature(self) -> Signature:
        """The schema of the payload and the reply, made on first use."""
        if self.own_signature is None:
            from dan9.base.schema import Signature

            self.own_signature = Signature.of(self.source, type=self.type)  # type: ignore[arg-type]
        return self.own_signature

    def __repr__(self) -> str:
        return f"<verb {self.type}>"


@final
class Rare:
    """What few messages have, so that most need not carry the room for it."""

    __slots__ = (
        "callbacks",
        "carries",
        "entry",
        "journalled",
        "own_id",
        "room_of",
        "steps",
        "timer",
        "trace",
    )

    def __init__(self) -> None:
        self.own_id: str | None = None
        self.trace: str | None = None
        self.room_of: Ask | None = None
        self.journalled = False
        self.entry: object = None
        # of asks
        self.carries: Message | None = None  # what a `send` waits to get enqueued
        self.timer: Timer | None = None
        self.steps: Generator[object, object, object] | None = None
        self.callbacks: list[tuple[Callable[[Ask], object], object]] | None = None


@mypyc_attr(acyclic=True)
class Listener:
    """Hears of an ask's end on the spot, inside the turn that ends it: it must not raise."""

    __slots__ = ()

    def ended(self, ask: Ask) -> None:
        """Hear of it, once."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=False, acyclic=True, free_list_len=1)
class Message:
    """One message on its way, queued, or in hand."""

    __slots__ = (
        "args",
        "cell",
        "next",
        "origin",
        "rare",
        "sent_at",
        "serial",
        "shape",
        "until",
        "verb",
    )

    def __init__(self, cell: Cell, verb: Verb, shape: i32, args: object) -> None:
        self.next: Message | None = None
        self.cell = cell
        self.verb = verb
        self.shape = shape
        self.args = args
        self.origin: object = None  # Cell, address text, or None for "outside"
        self.serial: i64 = 0
        self.sent_at: float = 0.0
        self.until: float = FOREVER
        self.rare: Rare | None = None

    # -- what few messages have

    def more(self) -> Rare:
        """Return the record of what few messages have, made if need be."""
        rare = self.rare
        if rare is None:
            rare = self.rare = Rare()
        return rare

    @property
    def own_id(self) -> str | None:
        """The id that the sender gave it, if it did."""
        return None if self.rare is None else self.rare.own_id

    @own_id.setter
    def own_id(self, value: str | None) -> None:
        if value is not None or self.rare is not None:
            self.more().own_id = value

    @property
    def trace(self) -> str | None:
        """The id of the trace that it belongs to, if any."""
        return None if self.rare is None else self.rare.trace

    @trace.setter
    def trace(self, value: str | None) -> None:
        if value is not None or self.rare is not None:
            self.more().trace = value

    @property
    def room_of(self) -> Ask | None:
        """The `send` that waits until this is enqueued, if one does."""
        return None if self.rare is None else self.rare.room_of

    @room_of.setter
    def room_of(self, value: Ask | None) -> None:
        if value is not None or self.rare is not None:
            self.more().room_of = value

    @property
    def journalled(self) -> bool:
        """True if the journal answers for it."""
        return self.rare is not None and self.rare.journalled

    @journalled.setter
    def journalled(self, value: bool) -> None:
        if value or self.rare is not None:
            self.more().journalled = value

    @property
    def entry(self) -> object:
        """The journal's record of one that is delivered again."""
        return None if self.rare is None else self.rare.entry

    @entry.setter
    def entry(self, value: object) -> None:
        if value is not None or self.rare is not None:
            self.more().entry = value

    # -- what a reader of messages sees --------------------------------------------

    @property
    def type(self) -> str:
        """The message type, as on the wire."""
        return self.verb.type

    @property
    def sender(self) -> str:
        """The sender's address, stamped by the node."""
        origin = self.origin
        if origin is None:
            return self.cell.home.scheduler.outside
        if isinstance(origin, str):
            return origin
        return origin.address  # type: ignore[attr-defined, no-any-return]

    @property
    def recipient(self) -> str:
        """The receiver's address."""
        return self.cell.address

    @property
    def payload(self) -> dict[str, object]:
        """The payload as a map under the handler's Python names."""
        args, kwargs = self.arguments()
        if not args:
            return dict(kwargs)
        return self.verb.signature.payload_of(args, kwargs)

    @property
    def id(self) -> str:
        """The message's id, unique in the system's run."""
        if self.own_id is not None:
            return self.own_id
        return f"{self.cell.home.scheduler.run_id}-{self.serial}"

    @property
    def timestamp(self) -> float:
        """When it was sent: UTC seconds since 1970."""
        return self.cell.home.scheduler.wall(self.sent_at)

    @property
    def deadline(self) -> float | None:
        """Until when an answer is wanted (the system's monotonic seconds), or None."""
        return None if self.until == FOREVER else self.until

    @property
    def reply_to(self) -> str | None:
        """Where the reply goes: the sender of an ask; None for a tell."""
        return self.sender if isinstance(self, Ask) else None

    def arguments(self) -> tuple[tuple[object, ...], dict[str, object]]:
        """Return positional and keyword arguments, unpacked."""
        shape = self.shape
        if shape == NO_ARGS:
            return (), {}
        if shape == ONE_ARG:
            return (self.args,), {}
        if shape == TUPLE_ARGS:
            return self.args, {}  # type: ignore[return-value]
        if shape == KEYWORDS:
            return (), self.args  # type: ignore[return-value]
        return self.args  # type: ignore[return-value]

    def reply(self, value: object = None) -> None:
        """Answer it; a reply to a tell, or a second one, is dropped and counted."""
        self.cell.home.scheduler.reply(self, value)

    def refuse(self, error: BaseException) -> None:
        """Answer it with an error."""
        self.cell.home.scheduler.reply_error(self, error)

    def __repr__(self) -> str:
        return f"<{self.verb.type} to {self.cell.address} from {self.sender}>"


@final
@mypyc_attr(acyclic=True, free_list_len=1)
class Ask(Message):
    """A message that awaits one reply.

    `await ask` sends it and gives the reply. It is a coroutine to every checker and to
    asyncio: `asyncio.create_task(ref.add(2))` and `gather` work and send. What sends is the
    first `await` or callback, so `asyncio.ensure_future(ref.add(2))`, which takes it for a
    future that runs, returns it unsent: it starts no work in the background; `create_task` does.

    Raises (from `await`):
        TimedOut: No reply before the deadline.
        DaemonFailed: The handler crashed.
        Refused: The daemon said no, by name.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "bucket",
        "earlier",
        "later",
        "listener",
        "parent",
        "result_",
        "state",
        "timeout_s",
        "waiter",
    )

    def __init__(self, cell: Cell, verb: Verb, shape: i32, args: object, timeout_s: float) -> None:
        # Inlined `Message`: uncompiled, `super()` costs as much as all these together.
        self.next = None
        self.cell = cell
        self.verb = verb
        self.shape = shape
        self.args = args
        self.origin = None
        self.serial = 0
        self.sent_at = 0.0
        self.until = FOREVER
        self.rare = None
        # A slot, so that `asyncio.isfuture` says the same compiled and uncompiled.
        self._asyncio_future_blocking = False
        self.state: i32 = NEW
        self.timeout_s = timeout_s
        self.result_: object = None
        self.parent: Message | None = None  # the message in whose handler this was asked
        self.waiter: Hand | None = None
        self.listener: Listener | None = None
        self.later: Ask | None = None  # links of the deadline bucket
        self.earlier: Ask | None = None
        self.bucket: object = None

    @property
    def carries(self) -> Message | None:
        """What a `send` waits to get enqueued."""
        return None if self.rare is None else self.rare.carries

    @carries.setter
    def carries(self, value: Message | None) -> None:
        self.more().carries = value

    # -- the coroutine's face ---------------------------------------------------------

    def __await__(self) -> Generator[object, object, object]:
        if self.state == NEW:
            if self.rare is None:
                self.cell.home.scheduler.submit(self)
            else:
                self.begin()
        while self.state == PENDING or self.state == WAITING_ROOM:
            self._asyncio_future_blocking = True
            yield self
        if self.state == ANSWERED:
            return self.result_
        raise self.failure()

    def begin(self) -> None:
        """Send it."""
        if self.carries is None:
            self.cell.home.scheduler.submit(self)
        else:
            self.cell.home.scheduler.submit_carried(self)

    def send(self, value: object) -> object:
        """Step it, as a coroutine is stepped."""
        rare = self.more()
        if rare.steps is None:
            rare.steps = self.__await__()
        return rare.steps.send(value)

    def throw(self, kind: object, value: object = None, trace: object = None) -> object:
        """Raise inside it, as into a coroutine."""
        rare = self.more()
        if rare.steps is None:
            rare.steps = self.__await__()
        error = value if value is not None else kind
        if isinstance(error, type):
            error = error()
        return rare.steps.throw(error)  # type: ignore[call-overload]

    def close(self) -> None:
        """Give up waiting."""
        rare = self.rare
        if rare is not None and rare.steps is not None:
            rare.steps.close()
        self.cancel()

    # -- the future's face, for asyncio's tasks -----------------------------------------

    def get_loop(self) -> object:
        """Return the event loop of the system that it was sent in."""
        return self.cell.home.scheduler.loop

    def add_done_callback(
        self, callback: Callable[[Ask], object], *, context: object = None
    ) -> None:
        """Call `callback(self)` soon after the reply; an ask that was not sent is sent now."""
        if context is None:
            context = copy_context()
        if self.state == NEW:
            self.begin()
        if self.done():
            self.cell.home.scheduler.call_soon(callback, self, context)
            return
        rare = self.more()
        if rare.callbacks is None:
            rare.callbacks = [(callback, context)]
        else:
            rare.callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Ask], object]) -> int:
        """Forget a callback; return how many were removed."""
        rare = self.more()
        before = rare.callbacks or []
        rare.callbacks = [entry for entry in before if entry[0] != callback]
        return len(before) - len(rare.callbacks)

    def done(self) -> bool:
        """True once answered, failed or cancelled."""
        return self.state >= ANSWERED

    def cancelled(self) -> bool:
        """True if the asker gave up."""
        return self.state == CANCELLED

    def result(self) -> object:
        """Return the reply or raise the error."""
        if self.state == ANSWERED:
            return self.result_
        raise self.failure()

    def exception(self) -> BaseException | None:
        """Return the error, or None if it was answered."""
        return None if self.state == ANSWERED else self.failure()

    def cancel(self, msg: object = None) -> bool:
        """Stop waiting; a handler that is `cancellable` is cancelled too."""
        if self.state >= ANSWERED:
            return False
        if self.state == NEW:
            self.state = CANCELLED
            return True
        self.cell.home.scheduler.give_up(self, msg)
        return True

    def _make_cancelled_error(self) -> BaseException:
        """Return what `asyncio.gather` raises when this was cancelled."""
        return asyncio.CancelledError()

    def failure(self) -> BaseException:
        """Return the error to raise in the asker."""
        if self.state == CANCELLED:
            return cancelled_error(self.result_)
        if isinstance(self.result_, BaseException):
            return self.result_
        return Dan9InternalError(f"{self!r} has no reply yet")

    def timed_out(self) -> TimedOut:
        """Return the error of a deadline that passed."""
        no_room = self.state == WAITING_ROOM or self.carries is not None
        where = "had no room for" if no_room else "has not answered"
        return TimedOut(
            f"{self.cell.address} {where} {self.verb.type!r} within {self.timeout_s:g} s",
            hint="is it busy or suspended? `dan9 explain` says; .within(seconds) waits longer",
            address=self.cell.address,
            message=self.verb.type,
            timeout_s=self.timeout_s,
        )

    def is_heard(self) -> bool:
        """True while somebody listens for its end. A call, so that mypyc looks again."""
        return self.listener is not None


@final
class Gather(Listener):
    """Many asks at once, waited for together: one wake-up for all.

    `await gather(asks)` sends them all, then waits; the results come in the order given.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "asks",
        "callbacks",
        "missing",
        "return_errors",
        "steps",
        "waiter",
    )

    def __init__(self, asks: list[Ask], return_errors: bool) -> None:
        self.asks = asks
        # A slot, so that `asyncio.isfuture` says the same compiled and uncompiled.
        self._asyncio_future_blocking = False
        self.return_errors = return_errors
        self.missing: int = 0
        self.waiter: Hand | None = None
        self.callbacks: list[tuple[Callable[[Gather], object], object]] | None = None
        self.steps: Generator[object, object, object] | None = None

    def __await__(self) -> Generator[object, object, list[object]]:
        self.begin()
        while self.missing > 0:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def begin(self) -> None:
        """Send them all."""
        for ask in self.asks:
            if ask.state == NEW:
                ask.listener = self
                self.missing += 1
                ask.begin()
                if ask.state >= ANSWERED and ask.is_heard():
                    ask.listener = None  # refused at once; `settle` has not counted it
                    self.missing -= 1

    def ended(self, ask: Ask) -> None:
        """Count one down."""
        self.missing -= 1
        if self.missing == 0:
            ask.cell.home.scheduler.gathered(self)

    def done(self) -> bool:
        """True once every reply is there."""
        return all(ask.state >= ANSWERED for ask in self.asks)

    def cancelled(self) -> bool:
        """True if any of them was cancelled."""
        return any(ask.state == CANCELLED for ask in self.asks)

    def exception(self) -> BaseException | None:
        """Return the first error that `result` would raise, or None."""
        for ask in self.asks:
            if ask.state != ANSWERED and not (self.return_errors and ask.state == FAILED):
                return ask.failure()
        return None

    def _make_cancelled_error(self) -> BaseException:
        """Return what `asyncio.gather` raises when this was cancelled."""
        return asyncio.CancelledError()

    def result(self) -> list[object]:
        """Return the replies in order, or raise the first error."""
        out: list[object] = []
        for ask in self.asks:
            if ask.state == ANSWERED:
                out.append(ask.result_)
            elif self.return_errors and ask.state == FAILED:
                out.append(ask.failure())
            else:
                raise ask.failure()
        return out

    def send(self, value: object) -> object:
        """Step it, as a coroutine is stepped."""
        if self.steps is None:
            self.steps = self.__await__()
        return self.steps.send(value)

    def throw(self, kind: object, value: object = None, trace: object = None) -> object:
        """Raise inside it, as into a coroutine."""
        if self.steps is None:
            self.steps = self.__await__()
        error = value if value is not None else kind
        if isinstance(error, type):
            error = error()
        return self.steps.throw(error)  # type: ignore[call-overload]

    def close(self) -> None:
        """Give up waiting."""
        if self.steps is not None:
            self.steps.close()

    def get_loop(self) -> object:
        """Return the event loop of the asks."""
        return self.asks[0].get_loop()

    def add_done_callback(
        self, callback: Callable[[Gather], object], *, context: object = None
    ) -> None:
        """Call `callback(self)` soon after the last reply; what was not sent is sent now."""
        if context is None:
            context = copy_context()
        self.begin()
        if self.done():
            self.asks[0].cell.home.scheduler.call_soon(callback, self, context)
            return
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Gather], object]) -> int:
        """Forget a callback; return how many were removed."""
        before = self.callbacks or []
        self.callbacks = [entry for entry in before if entry[0] != callback]
        return len(before) - len(self.callbacks)

    def cancel(self, msg: object = None) -> bool:
        """Cancel every ask that is still out."""
        some = False
        for ask in self.asks:
            some = ask.cancel(msg) or some
        return some


def message_in_context() -> Message | None:
    """Return the message in hand as the context knows it."""
    hand = IN_HAND.get()
    return None if hand is None else hand.message


def cancelled_error(msg: object) -> asyncio.CancelledError:
    """Return the error of a cancellation; anyio knows its own by their message."""
    return asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)


def mailbox_full(message: Message) -> MailboxFull:
    """Return the error of a mailbox that had no room for this message."""
    cell = message.cell
    return MailboxFull(
        f"the mailbox of {cell.address} is full ({cell.depth} messages)",
        hint="await .send() to wait for room, or raise its mailbox limit",
        address=cell.address,
        message=message.verb.type,
    )
