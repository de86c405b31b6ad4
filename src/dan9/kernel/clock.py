"""Clocks: the only place that reads time.

Real time is the special case. A `VirtualClock` drives the event loop itself: when
nothing is runnable the loop would sleep until its next timer, and the clock jumps
there instead, so that asyncio's own sleeps and timeouts follow. A `ScaledClock` runs a
subtree faster or slower than the clock it stands on, and its timers with it.

`monotonic()` is for intervals and never jumps; `now()` is UTC seconds since 1970.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Callable
from typing import Any, Protocol, final

from dan9.kernel.timers import NEVER, Timer, TimerHeap, to_ns

__all__ = ["ScaledClock", "SystemClock", "TimeStandsStill", "VirtualClock"]

EPOCH = 946_684_800.0
"""Where virtual time begins unless told otherwise: 2000-01-01T00:00:00Z."""


class _Clock(Protocol):
    def now(self) -> float: ...

    def monotonic(self) -> float: ...


_CallAt = Callable[[float, Callable[[], object]], Any]


class TimeStandsStill(RuntimeError):
    """Under virtual time nothing is runnable, no timer is set, and somebody waits."""


@final
class SystemClock:
    """The machine's clocks."""

    is_virtual = False
    rate = 1.0

    def __init__(self) -> None:
        self.now: Callable[[], float] = time.time
        self.monotonic: Callable[[], float] = time.monotonic

    def suspended(self) -> float:
        """Return the seconds that the machine has slept since boot."""
        if hasattr(time, "CLOCK_BOOTTIME"):
            return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        return 0.0


@final
class VirtualClock:
    """Time that passes only when nothing else can happen.

    Args:
        start: The wall time at which it begins, UTC seconds since 1970.
    """

    is_virtual = True
    rate = 1.0

    def __init__(self, start: float = EPOCH) -> None:
        self.elapsed_s = 0.0
        self._wall = start

    def now(self) -> float:
        """Return the virtual wall time."""
        return self._wall + self.elapsed_s

    def monotonic(self) -> float:
        """Return the virtual seconds since the clock was made."""
        return self.elapsed_s

    def suspended(self) -> float:
        """Return 0: a virtual machine does not sleep."""
        return 0.0

    def shift_wall(self, seconds: float) -> None:
        """Let the wall clock jump, as when an operator or NTP sets it; monotonic goes on."""
        self._wall += seconds

    def advance_to(self, monotonic: float) -> None:
        """Jump forward; never back."""
        self.elapsed_s = max(self.elapsed_s, monotonic)

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return an event loop whose time this clock is."""
        return _VirtualLoop(self)

    def run(self, main: Any) -> Any:
        """Run a coroutine to its end in virtual time; return its value.

        Raises:
            TimeStandsStill: It waits for what can never happen.
        """
        with asyncio.Runner(loop_factory=self.new_event_loop) as runner:
            return runner.run(main)


class ScaledClock:
    """A clock that runs at `rate` of the clock it stands on, and has timers of its own.

    A timer is kept on this clock's own scale; when the rate changes it moves with it.

    Args:
        base: The clock underneath; the system's, or another scaled one.
        rate: Seconds here per second there; 60 makes a minute of every second.
    """

    def __init__(self, base: _Clock, rate: float) -> None:
        if not 0 < rate < math.inf:
            raise ValueError("a clock's rate is above 0; `set_rate(0)` lets it stand still")
        self.base = base
        self.rate = rate
        self.is_virtual: bool = getattr(base, "is_virtual", False)
        self._base0 = base.monotonic()
        self._here0 = 0.0
        self._limit = math.inf
        self._reached = 0.0  # what was shown or rung is not taken back
        self._wall0 = base.now()
        self._timers = TimerHeap()
        self._alarm: Any = None
        self._armed_ns = NEVER
        self._call_base: _CallAt | None = getattr(base, "call_at", None)

    def attach(self, call_at: _CallAt) -> None:
        """Name what calls back at a moment of the system's clock; the system does."""
        if isinstance(self.base, ScaledClock):
            self.base.attach(call_at)
        elif self._call_base is None:
            self._call_base = call_at
            self._arm()

    def monotonic(self) -> float:
        """Return the seconds that have passed here."""
        return self._at(self.base.monotonic())

    def _at(self, base: float) -> float:
        here = self._here0 + (base - self._base0) * self.rate
        return max(self._reached, min(here, self._limit))

    def now(self) -> float:
        """Return the wall time here."""
        return self._wall0 + self.monotonic()

    def suspended(self) -> float:
        """Return 0: suspension belongs to the clock underneath."""
        return 0.0

    def set_rate(self, rate: float) -> None:
        """Go on at another rate, without a jump; at 0 it stands still."""
        self.go_on(self.monotonic(), self.base.monotonic(), rate)

    def go_on(self, here: float, base: float, rate: float, limit: float = math.inf) -> None:
        """Go on from `here`, which was at `base` underneath, at a rate, and stop at `limit`.

        What it showed until then is not taken back: the clock waits until that is reached.
        """
        if not 0 <= rate < math.inf:
            raise ValueError("a clock's rate is 0 or more")
        self._reached = self._at(base)
        self._here0, self._base0, self.rate, self._limit = here, base, rate, limit
        self._arm()

    def call_at(self, when: float, callback: Callable[[], object] | Timer) -> Timer:
        """Call or fire something at a moment of this clock, whatever its rate until then."""
        due = to_ns(when)
        timer = self._timers.schedule(due, callback)
        if self._armed_ns == NEVER or due < self._armed_ns:
            self._arm()
        return timer

    def next_at(self) -> float | None:
        """Return when the next timer is due; None if there is none."""
        due = self._timers.next_ns()
        return None if due == NEVER else due / 1e9

    def ring(self, when: float) -> None:
        """Call what is due at a moment, which has come if it had not."""
        self._reached = max(self._reached, when)
        # As seconds the moment is rounded; after a year that is more than a nanosecond.
        for timer in self._timers.pop_due(to_ns(when + 2 * math.ulp(when)) + 500):
            timer.fire()
        self._arm()

    def _arm(self) -> None:
        """Have the clock underneath call at the next timer, if it ever comes."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm, self._armed_ns = None, NEVER
        when = self.next_at()
        if when is None or self._call_base is None:
            return
        if when <= self.monotonic():
            at = self.base.monotonic()
        elif self.rate and when <= self._limit:
            at = self._base0 + (when - self._here0) / self.rate
        else:
            return
        self._armed_ns = to_ns(when)
        self._alarm = self._call_base(at, lambda: self.ring(when))


class _VirtualSelector(selectors.BaseSelector):
    """A selector that lets the clock jump instead of waiting."""

    patience_s = 20.0

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()
        self.loop: _VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        loop = self.loop
        assert loop is not None
        ready = self._real.select(0)
        if timeout is None and not ready:
            # Only a thread or a real socket can help: wait for it, but not for ever.
            ready = self._real.select(self.patience_s)
            if not ready:
                raise TimeStandsStill(
                    "virtual time stands still: nothing is runnable and no timer is set"
                )
        elif timeout is not None and timeout > 0 and not ready:
            # The loop's own rounding would stop short of the timer: jump exactly there.
            self._clock.advance_to(loop._scheduled[0].when())  # type: ignore[attr-defined]
        # The loop runs what is due before now + resolution: that sum must exceed now.
        loop._clock_resolution = max(1e-9, 2 * math.ulp(self._clock.monotonic()))
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._real.modify(fileobj, events, data)

    def get_map(self) -> Any:
        return self._real.get_map()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._real.get_key(fileobj)

    def close(self) -> None:
        self._real.close()


class _VirtualLoop(asyncio.SelectorEventLoop):
    """An asyncio loop whose `time()` is a VirtualClock's."""

    def __init__(self, clock: VirtualClock) -> None:
        selector = _VirtualSelector(clock)
        self.virtual_clock = clock
        super().__init__(selector)
        selector.loop = self
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.virtual_clock.monotonic()
