"""How the kernel lets virtual time pass without leaving its turn.

The event loop would look for ready callbacks, ask the selector, find its next timer, jump there,
and come back to us by two callbacks: some 15 µs for a firing that takes one. All of that is a
matter of form when the loop has nothing to do before our own next timer, and that is what is
checked here. Real input and output, which virtual time does not wait for, is seen when the turn
ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    import asyncio

    from dan9.base.ports import Clock

__all__ = ["Leap"]


@final
class Leap:
    """Takes a virtual clock to a moment, if its event loop has nothing to do before."""

    __slots__ = ("clock", "loop", "ready")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self.loop: dict[str, Any] = vars(loop)  # half the cost of attributes
        self.ready: object = self.loop["_ready"]  # the one queue that it ever has
        self.clock: object = clock

    def to(self, moment: float) -> float:
        """Go to a moment of the monotonic clock, never back; return what the time is then.

        Returns:
            Below 0 if the loop comes first: nothing has happened.
        """
        loop = self.loop
        if self.ready or loop["_stopping"]:
            return -1.0
        scheduled = loop["_scheduled"]
        if scheduled and scheduled[0].when() <= moment:
            return -1.0
        now: float = self.clock.elapsed_s  # type: ignore[attr-defined]
        if moment <= now:
            return now  # a timer that was late when it was set
        self.clock.elapsed_s = moment  # type: ignore[attr-defined]
        return moment
