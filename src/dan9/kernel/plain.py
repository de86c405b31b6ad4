"""`Bound` and `Carrier` in plain Python, for a kernel that is not compiled.

`native.c` says the same in C.
"""

from __future__ import annotations

import threading
from functools import partial
from types import coroutine as carries_coroutines
from typing import TYPE_CHECKING, Final

from dan9.kernel.bound import description, pack, seconds, send
from dan9.kernel.cell import QUEUED
from dan9.kernel.hand import ENDED
from dan9.kernel.message import ONE_ARG, ORDINARY, Ask, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

    from dan9.kernel.cell import Cell
    from dan9.kernel.hand import Hand
    from dan9.kernel.message import Verb

__all__ = ["Bound", "Carrier"]


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
        # What nearly all tells are: one argument, said by a handler to an open mailbox. This is
        # the short way of `Scheduler.tell`, here and in native.c.
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


class Carrier:
    """Carries a hand's coroutines to their ends, one after another, in the hand's context.

    Attributes:
        step: Called with a coroutine, runs it up to its first wait and returns what it awaits;
            called with a value, goes on. When the coroutine has ended it returns `ENDED`: the
            hand has the value as `result_` or the exception as `error`, and is marked as
            `kept` if a context variable was changed.
    """

    __slots__ = ("_run", "_trampoline", "step")

    def __init__(self, hand: Hand) -> None:
        self._run = hand.context.run
        self._trampoline = trampoline = _trampoline(hand, hand.context.copy())
        trampoline.send(None)
        self.step: Callable[[object], object] = partial(  # type: ignore[call-arg]
            self._run, trampoline.send
        )

    def throw(self, error: BaseException) -> object:
        """Raise an error in the coroutine; return as `step` does."""
        return self._run(self._trampoline.throw, error)


@carries_coroutines
def _trampoline(hand: Hand, pristine: Context) -> Generator[object, object, None]:
    # A generator that never ends: under `yield from` CPython passes the value of a coroutine
    # that has ended without raising StopIteration.
    coroutine = yield ENDED
    while True:
        try:
            hand.result_ = yield from coroutine  # type: ignore[misc]
        except GeneratorExit:
            raise
        except BaseException as error:  # the supervisor boundary
            hand.error = error
        if hand.context != pristine:
            hand.kept = True
        coroutine = yield ENDED
