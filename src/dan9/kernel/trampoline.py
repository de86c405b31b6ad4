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
def trampoline(slot: list[object]) -> Generator[object, object, None]:
    """Carry one coroutine after another to its end.

    Sent a coroutine, it runs it, yielding whatever that awaits, and yields `ENDED` with
    the outcome in `slot`: its value first, or its error second. A list, because setting an
    attribute of a hand costs ten times as much from here.
    """
    coroutine = yield ENDED
    while True:
        try:
            slot[0] = yield from coroutine  # type: ignore[misc]
        except GeneratorExit:
            raise
        except BaseException as error:  # the supervisor boundary
            slot[1] = error
        coroutine = yield ENDED
