"""Clocks: the only place that reads time.

Real time is the special case. A `VirtualClock` drives the event loop itself: when
nothing is runnable the loop would sleep until its next timer, and the clock jumps
there instead, so that asyncio's own sleeps and timeouts follow. A `ScaledClock` runs a
subtree faster or slower than the clock it stands on.

`monotonic()` is for intervals and never jumps; `now()` is UTC seconds since 1970.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import time
from collections.abc import Callable
from typing import Any, Protocol, final

__all__ = ["ScaledClock", "SystemClock", "TimeStandsStill", "VirtualClock"]

EPOCH = 946_684_800.0
"""Where virtual time begins unless told otherwise: 2000-01-01T00:00:00Z."""


class _Clock(Protocol):
    def now(self) -> float: ...

    def monotonic(self) -> float: ...


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
        self._elapsed = 0.0
        self._wall = start
        self.jumps = 0

    def now(self) -> float:
        """Return the virtual wall time."""
        return self._wall + self._elapsed

    def monotonic(self) -> float:
        """Return the virtual seconds since the clock was made."""
        return self._elapsed

    def suspended(self) -> float:
        """Return 0: a virtual machine does not sleep."""
        return 0.0

    def shift_wall(self, seconds: float) -> None:
        """Let the wall clock jump, as when an operator or NTP sets it; monotonic goes on."""
        self._wall += seconds

    def advance_to(self, monotonic: float) -> None:
        """Jump forward; never back."""
        if monotonic > self._elapsed:
            self._elapsed = monotonic
            self.jumps += 1

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


@final
class ScaledClock:
    """A clock that runs at `rate` of the clock it stands on.

    Args:
        base: The clock underneath; the system's.
        rate: Seconds here per second there; 60 makes a minute of every second.
    """

    def __init__(self, base: _Clock, rate: float) -> None:
        if not rate > 0:
            raise ValueError("a clock's rate is above 0; to stop a daemon's time, suspend it")
        self.base = base
        self.rate = rate
        self.is_virtual: bool = getattr(base, "is_virtual", False)
        self._base0 = base.monotonic()
        self._here0 = 0.0
        self._wall0 = base.now()

    def monotonic(self) -> float:
        """Return the seconds that have passed here."""
        return self._here0 + (self.base.monotonic() - self._base0) * self.rate

    def now(self) -> float:
        """Return the wall time here."""
        return self._wall0 + self.monotonic()

    def suspended(self) -> float:
        """Return 0: suspension belongs to the clock underneath."""
        return 0.0

    def set_rate(self, rate: float) -> None:
        """Go on at another rate, without a jump."""
        if not rate > 0:
            raise ValueError("a clock's rate is above 0")
        self._here0 = self.monotonic()
        self._base0 = self.base.monotonic()
        self.rate = rate

    def to_base_s(self, seconds: float) -> float:
        """Return how long `seconds` here take on the clock underneath."""
        return seconds / self.rate


class _VirtualSelector(selectors.BaseSelector):
    """A selector that lets the clock jump instead of waiting."""

    patience_s = 20.0

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._real = selectors.DefaultSelector()
        self.loop: _VirtualLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._real.select(0)
        if ready or (timeout is not None and timeout <= 0):
            return ready
        if timeout is None:
            # Only a thread or a real socket can help: wait for it, but not for ever.
            ready = self._real.select(self.patience_s)
            if not ready:
                raise TimeStandsStill(
                    "virtual time stands still: nothing is runnable and no timer is set"
                )
            return ready
        assert self.loop is not None
        # The loop's own rounding would stop short of the timer: jump exactly there.
        scheduled = self.loop._scheduled  # type: ignore[attr-defined]
        due = scheduled[0].when() if scheduled else self._clock.monotonic() + timeout
        self._clock.advance_to(max(due, self._clock.monotonic()))
        # The loop runs what is due before now + resolution: that sum must exceed now.
        self.loop._clock_resolution = max(1e-9, 2 * math.ulp(due))
        return []

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
