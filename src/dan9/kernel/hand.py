"""A coroutine in hand: the asyncio task that a handler is, without being one.

An async handler is stepped by the scheduler through `native.step`: a coroutine that ends would
raise StopIteration into compiled code, which costs 500 ns.

`Hand` has the methods and attributes that asyncio, anyio and aiohttp look for on a
task, so that `asyncio.timeout`, `TaskGroup` and `gather` work inside a handler.
It becomes an asyncio matter only when the coroutine awaits an asyncio future.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Final

from mypy_extensions import mypyc_attr

from dan9.kernel.cell import Runnable
from dan9.kernel.message import IN_HAND

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell
    from dan9.kernel.message import Message

__all__ = ["ENDED", "Hand"]


class _Ended:
    __slots__ = ()


ENDED: Final = _Ended()
"""What a step gives when the coroutine has ended."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Hand(Runnable):
    """A handler (or a hook, or a daemon's own loop) that is a coroutine in progress.

    Attributes:
        cell: The daemon at work.
        message: The message in hand; None for hooks and own loops.
        done_with: Called with (value, error) when a hook ends; None for handlers.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_cancel_message",
        "_fut_waiter",
        "_must_cancel",
        "_num_cancels_requested",
        "began",
        "blocking",
        "callbacks",
        "cell",
        "context",
        "coroutine",
        "done_with",
        "ended",
        "error",
        "kept",
        "message",
        "pristine",
        "queued",
        "result_",
        "to_throw",
        "waits",
    )

    def __init__(
        self,
        cell: Cell,
        message: Message | None,
        coroutine: object,
        done_with: Callable[[object, BaseException | None], None] | None,
    ) -> None:
        self.run_next = None
        # A slot, so that `asyncio.isfuture` says the same compiled and uncompiled.
        self._asyncio_future_blocking = False
        self.cell = cell
        self.message = message
        self.coroutine = coroutine
        self.done_with = done_with
        context = copy_context()
        context.run(IN_HAND.set, self)
        self.context: Context = context
        # Known outside: a task was started in it, somebody waits for it, its context was changed.
        self.kept = False
        # Of one that serves many handlers: the context as it was, to see whether one changed it.
        self.pristine: Context | None = None
        self.blocking = False
        self.queued = False
        self.ended = False
        self.waits: object = None
        self._fut_waiter: object = None
        self._must_cancel = False
        self.to_throw: BaseException | None = None  # raised in the coroutine at its next step
        self._cancel_message: object = None
        self._num_cancels_requested: int = 0
        self.callbacks: list[tuple[Callable[[object], object], object]] | None = None
        self.result_: object = None
        self.error: BaseException | None = None
        self.began: float = 0.0  # when, if this handling is timed

    # -- what asyncio asks of a task ------------------------------------------------------

    def cancel(self, msg: object = None) -> bool:
        """Ask the coroutine to end by CancelledError, as `asyncio.Task.cancel` does."""
        if self.ended:
            return False
        self._num_cancels_requested += 1
        self.interrupt(msg)
        return True

    def interrupt(self, msg: object = None) -> None:
        """Cancel what is awaited, or remember to cancel at the next step."""
        self.kept = True
        waits = self.waits
        if waits is not None:
            if waits.cancel(msg):  # type: ignore[attr-defined]
                return
        elif self._fut_waiter is not None and self._fut_waiter.cancel(msg):  # type: ignore[attr-defined]
            return
        self._must_cancel = True
        self._cancel_message = msg

    def cancelling(self) -> int:
        """Return how many cancellations are pending."""
        return self._num_cancels_requested

    def uncancel(self) -> int:
        """Take one cancellation back; return how many remain."""
        if self._num_cancels_requested > 0:
            self._num_cancels_requested -= 1
            if self._num_cancels_requested == 0:
                self._must_cancel = False
        return self._num_cancels_requested

    def done(self) -> bool:
        """True once the coroutine has ended."""
        return self.ended

    def cancelled(self) -> bool:
        """True if it ended by cancellation."""
        return self.ended and isinstance(self.error, asyncio.CancelledError)

    def result(self) -> object:
        """Return the coroutine's value or raise its error."""
        if not self.ended:
            raise asyncio.InvalidStateError("the handler is still at work")
        if self.error is not None:
            raise self.error
        return self.result_

    def exception(self) -> BaseException | None:
        """Return the coroutine's error, if any."""
        return self.error

    def get_loop(self) -> object:
        """Return the event loop of the system."""
        return self.cell.home.scheduler.loop

    def get_coro(self) -> object:
        """Return the coroutine."""
        return self.coroutine

    def get_context(self) -> Context:
        """Return the context that the coroutine runs in."""
        return self.context

    def get_name(self) -> str:
        """Return the daemon's address and the message type."""
        what = self.message.verb.type if self.message is not None else "hook"
        return f"{self.cell.address} {what}"

    def set_name(self, value: object) -> None:
        """Keep the name: it is the daemon's."""

    def get_stack(self, *, limit: object = None) -> list[object]:
        """Return nothing: `dan9 explain` shows where a handler waits."""
        return []

    def add_done_callback(
        self, callback: Callable[[object], object], *, context: object = None
    ) -> None:
        """Call `callback(self)` soon after the coroutine has ended."""
        if self.ended:
            self.cell.home.scheduler.call_soon(callback, self, context)
            return
        self.kept = True
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append((callback, context))

    def remove_done_callback(self, callback: Callable[[object], object]) -> int:
        """Forget a callback; return how many were removed."""
        before = self.callbacks or []
        self.callbacks = [entry for entry in before if entry[0] != callback]
        return len(before) - len(self.callbacks)

    def wakeup(self, future: object) -> None:
        """Resume the coroutine: the asyncio future it awaits is done."""
        self._fut_waiter = None
        self.cell.home.scheduler.resume(self)
