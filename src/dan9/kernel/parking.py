"""Waiting inside a handler: for something that happens once, or for a moment.

A `Parking` is what hooks, inboxes and the life cycle wait on: one object that is awaitable,
asyncio future and coroutine at once, as an `Ask` is. A `Sleep` is a parking that releases
itself: the entry of the timer heap is the very object that is awaited, so that a sleep costs
one allocation and no callback.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, final

from dan9.base.duration import parse_duration
from dan9.kernel.message import FOREVER, cancelled_error
from dan9.kernel.timers import Timer

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell
    from dan9.kernel.hand import Hand
    from dan9.kernel.scheduler import Scheduler

__all__ = ["Parking", "Sleep", "sleep_of"]


class Parking(Timer):
    """A one-shot event that handlers and asyncio tasks alike can await.

    `await parking` gives `value` once `release(value)` was called, or raises.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "callbacks",
        "error",
        "is_done",
        "scheduler",
        "steps",
        "value",
        "waiter",
    )

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()
        self.scheduler = scheduler
        # A slot, so that `asyncio.isfuture` says the same compiled and uncompiled.
        self._asyncio_future_blocking: bool | None = False
        self.is_done = False
        self.value: object = None
        self.error: BaseException | None = None
        self.waiter: Hand | None = None
        self.callbacks: list[tuple[Callable[[Parking], object], object]] | None = None
        self.steps: Generator[object, object, object] | None = None

    def __await__(self) -> Generator[object, object, object]:
        self.begin()
        while not self.is_done:
            self._asyncio_future_blocking = True
            yield self
        return self.result()

    def begin(self) -> None:
        """Somebody waits."""

    def fire(self) -> None:
        """Let the waiter go on: the time has come."""
        if not self.is_done:
            self.finish()

    def release(self, value: object = None) -> None:
        """Let the waiter go on with `value`; a second call does nothing."""
        if not self.is_done:
            self.value = value
            self.finish()

    def fail(self, error: BaseException) -> None:
        """Let the waiter go on with an error."""
        if not self.is_done:
            self.error = error
            self.finish()

    def finish(self) -> None:
        """Wake whoever waits."""
        self.is_done = True
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            self.scheduler.resume(waiter)
        if self.callbacks is not None:
            for callback, context in self.callbacks:
                self.scheduler.call_soon(callback, self, context)
            self.callbacks = None

    def cancel(self, msg: object = None) -> bool:
        """Stop waiting."""
        if self.is_done:
            return False
        self.fail(cancelled_error(msg))
        return True

    def done(self) -> bool:
        """True once released."""
        return self.is_done

    def cancelled(self) -> bool:
        """True if the wait was cancelled."""
        return isinstance(self.error, asyncio.CancelledError)

    def exception(self) -> BaseException | None:
        """Return the error, if any."""
        return self.error

    def _make_cancelled_error(self) -> BaseException:
        """Return what `asyncio.gather` raises when this was cancelled."""
        return asyncio.CancelledError()

    def result(self) -> object:
        """Return the value or raise the error."""
        if self.error is not None:
            raise self.error
        return self.value

    def get_loop(self) -> object:
        """Return the event loop of the system."""
        return self.scheduler.loop

    def add_done_callback(
        self, callback: Callable[[Parking], object], *, context: object = None
    ) -> None:
        """Call `callback(self)` soon after the release."""
        self.begin()
        if self.is_done:
            self.scheduler.call_soon(callback, self, context)
            return
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[Parking], object]) -> int:
        """Forget a callback; return how many were removed."""
        before = self.callbacks or []
        self.callbacks = [entry for entry in before if entry[0] != callback]
        return len(before) - len(self.callbacks)

    def send(self, value: object) -> object:
        """Step it, as a coroutine is stepped."""
        return self.stepping().send(value)

    def throw(self, kind: object, value: object = None, trace: object = None) -> object:
        """Raise inside it, as into a coroutine."""
        error = value if value is not None else kind
        if isinstance(error, type):
            error = error()
        return self.stepping().throw(error)  # type: ignore[call-overload]

    def stepping(self) -> Generator[object, object, object]:
        """Return the steps of the coroutine that it is to asyncio."""
        if self.steps is None:
            self.steps = Parking.__await__(self)
        return self.steps

    def close(self) -> None:
        """Give up waiting."""
        if self.steps is not None:
            self.steps.close()


@final
class Sleep(Parking):
    """A parking that is released so many seconds after somebody began to wait for it.

    Args:
        scheduler: Whose daemon waits.
        seconds: How long.
        clock: Of which clock; None: the system's.
    """

    __slots__ = ("clock", "seconds")

    def __init__(self, scheduler: Scheduler, seconds: float, clock: object = None) -> None:
        super().__init__(scheduler)
        self._asyncio_future_blocking = None  # a coroutine and no future, until it is awaited
        self.seconds = seconds
        self.clock = clock

    def __await__(self) -> Generator[object, object, object]:
        if self.is_done:
            return Parking.__await__(self)
        self.begin()
        self._asyncio_future_blocking = True
        # It is yielded once, to whoever drives the coroutine, who comes back when it is over or
        # throws the error in. A tuple's iterator ends without an exception; a generator that is
        # compiled raises StopIteration, which costs more than all the rest of a sleep.
        return iter((self,))  # type: ignore[return-value]

    def begin(self) -> None:
        """Set the timer, the first time."""
        if self.heap is not None or self.is_done:
            return
        clock = self.clock
        if clock is None:
            scheduler = self.scheduler
            scheduler.call_at(scheduler.time() + self.seconds, self)
        else:
            clock.call_at(clock.monotonic() + self.seconds, self)  # type: ignore[attr-defined]

    def cancel(self, msg: object = None) -> bool:
        """Stop waiting and take the timer back."""
        if self.is_done:
            return False
        heap = self.heap
        if heap is not None:
            heap.remove(self)
        error = cancelled_error(msg)
        if self.waiter is not None:
            self.waiter.to_throw = error
        self.fail(error)
        return True


def sleep_of(cell: Cell, duration: object) -> Sleep:
    """Return a sleep on the clock of a daemon's subtree; seconds, or text such as "30s"."""
    if isinstance(duration, float) and 0.0 <= duration < FOREVER:
        seconds = duration
    else:
        seconds = parse_duration(duration)
    cold = cell.cold
    return Sleep(cell.home.scheduler, seconds, None if cold is None else cold.clock)
