"""`Bound`, `step` and `throw` in plain Python, for a kernel that is not compiled.

`native.c` says the same in C.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from dan9.kernel.bound import description, pack, seconds, send
from dan9.kernel.cell import QUEUED
from dan9.kernel.hand import ENDED
from dan9.kernel.message import ONE_ARG, ORDINARY, Ask, Message

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell
    from dan9.kernel.hand import Hand
    from dan9.kernel.message import Verb

__all__ = ["Bound", "step", "throw"]


_MISSING = object()
_THREADS: Final[dict[int, threading.Thread]] = threading._active  # type: ignore[attr-defined]


class Bound:
    """One message of one daemon, ready to be said.

    It is kept in the ref's `__dict__` from its first use, so that Python finds it there without
    calling anything: 250 ns a hop against 1,039 through `__getattr__` every time.

    Attributes:
        cell: The daemon.
        verb: The message.
        timeout_s: The deadline of its asks; negative: the verb's or the system's.
    """

    __slots__ = ("cell", "timeout_s", "verb")

    # Here `bound.ask` and `bound.tell` are written out: uncompiled, a call more is felt.

    def __init__(self, cell: Cell, verb: Verb, timeout_s: float = -1.0) -> None:
        self.cell = cell
        self.verb = verb
        self.timeout_s = timeout_s

    def __call__(self, first: object = _MISSING, /, *rest: object, **kw: object) -> Ask:
        """Ask: await the result for the reply."""
        if rest or kw or first is _MISSING:
            shape, packed = _packed(first, rest, kw)
            return Ask(self.cell, self.verb, shape, packed, self.timeout_s)
        return Ask(self.cell, self.verb, ONE_ARG, first, self.timeout_s)

    def tell(self, first: object = _MISSING, /, *rest: object, **kw: object) -> None:
        """Tell: send and go on.

        Raises:
            MailboxFull: There is no room.
        """
        cell = self.cell
        scheduler = cell.home.scheduler
        verb = self.verb
        if rest or kw or first is _MISSING:
            shape, packed = _packed(first, rest, kw)
            scheduler.tell(Message(cell, verb, shape, packed))
            return
        message = Message(cell, verb, ONE_ARG, first)
        # What nearly all tells are: one argument, said by a handler to an open mailbox. What
        # `Scheduler.stamp` and `enqueue` come to is written out, here and in native.c.
        gate = cell.gate
        current = scheduler.current
        if (
            (gate == QUEUED or gate == 0)
            and current is not None
            and (current.rare is None or current.rare.trace is None)
            and cell.depth < cell.limit
            and verb.kind == ORDINARY
            and len(_THREADS) == 1
        ):
            message.origin = current.cell
            message.sent_at = scheduler.now
            message.serial = scheduler.serial = scheduler.serial + 1
            scheduler.sent += 1
            cell.depth += 1
            tail = cell.tail
            if tail is None:
                cell.head = message
            else:
                tail.next = message
            cell.tail = message
            if gate == 0:
                cell.gate = QUEUED
                scheduler.append(cell)
        else:
            scheduler.tell(message)

    def send(self, *args: object, **kw: object) -> Ask:
        """Tell and wait for room: await the result."""
        shape, packed = pack(args, kw)
        return send(self.cell, self.verb, shape, packed, self.timeout_s)

    def within(self, timeout: float | str | None) -> Bound:
        """Return the same message with a deadline of its own: seconds, or text such as "250ms"."""
        return Bound(self.cell, self.verb, seconds(timeout))

    def __repr__(self) -> str:
        return description(self.cell, self.verb)


def _packed(first: object, rest: tuple[object, ...], kw: dict[str, object]) -> tuple[int, object]:
    return pack(rest if first is _MISSING else (first, *rest), kw)


def step(hand: Hand, value: object) -> object:
    """Go on with a hand's coroutine, in its context, up to its next wait.

    Returns:
        What it awaits; or `ENDED`. Then the hand has the value as `result_` or the exception as
        `error`. One that has a `pristine` context is marked as `kept` if its own differs from it.
    """
    try:
        return hand.context.run(hand.coroutine.send, value)  # type: ignore[attr-defined]
    except StopIteration as stop:
        hand.result_ = stop.value
    except BaseException as error:  # the supervisor boundary
        hand.error = error
    return _ended(hand)


def throw(hand: Hand, error: BaseException) -> object:
    """Raise an error in a hand's coroutine; return as `step` does."""
    try:
        return hand.context.run(hand.coroutine.throw, error)  # type: ignore[attr-defined]
    except StopIteration as stop:
        hand.result_ = stop.value
    except BaseException as raised:
        hand.error = raised
    return _ended(hand)


def _ended(hand: Hand) -> object:
    if hand.pristine is not None and hand.context != hand.pristine:
        hand.kept = True
    return ENDED
