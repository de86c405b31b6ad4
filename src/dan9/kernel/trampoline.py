"""The generator that carries a coroutine to its end without StopIteration.

Interpreted on purpose: `yield from` under CPython's SEND passes a finished
coroutine's value without raising, while compiled code would have to catch an
exception (500 ns). Trampolines are pooled by the scheduler.

The module also has the one interpreted subclass of `Hand`: anyio keys its state by
weak reference to the current task, and mypyc's classes have no weak references.
"""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine as carries_coroutines

from dan9.kernel.hand import Hand

__all__ = ["ENDED", "CoroutineHand", "trampoline"]


class CoroutineHand(Hand):
    """A `Hand` that can be weakly referenced."""

    # Uncompiled, Hand is an ordinary class and has one already.
    __slots__ = () if hasattr(Hand, "__weakref__") else ("__weakref__",)


class _Ended:
    """What a trampoline yields when its coroutine has ended."""

    __slots__ = ()


ENDED = _Ended()


@carries_coroutines
def trampoline() -> Generator[object, Hand, None]:
    """Carry one hand's coroutine after another to its end.

    Sent a `Hand`, it runs the hand's coroutine, yielding whatever that awaits, and
    yields `ENDED` with the outcome in `hand.result_` or `hand.error`.
    """
    hand = yield ENDED
    while True:
        try:
            hand.result_ = yield from hand.coroutine  # type: ignore[misc]
        except GeneratorExit:
            raise
        except BaseException as error:
            hand.error = error
        hand = yield ENDED
