"""The heap of pending timers: what is due, and when to look again.

Prior art: asyncio and most schedulers keep a heap of (time, sequence, object) tuples;
kernels keep timing wheels. Tuples cost an allocation and a slow comparison each, a
wheel rounds to its tick and gains nothing in Python. Here the heap holds whole
nanoseconds, each once, and a dict says which timer is the first then; those of the same
instant follow it, linked in the order they were scheduled. Instants are shared more often
than not (a thousand daemons of one `@every` that were started together).

A timer is an object of its own that knows when it is due, so that taking it back needs
no search, and what sleeps or repeats is itself the timer (`Timer.fire`).

Two more things make it fast (1 M timers, half cancelled, then fired in steps of 100 ms,
`python -m benchmarks.timers`):

- New times are only appended. They are sorted in when somebody asks what is due:
  many at once by one `sort` (timers that were cancelled before never cost a
  comparison), few by pushing them onto a small heap beside the sorted run.
- Times of which all timers were cancelled stay behind until they come up, or until they
  are more than half of all; then one pass removes them.

Times are integers in nanoseconds on whatever scale the caller uses (`to_ns` rounds
seconds so that 1.23 s comes back as 1.23 s). Nothing here reads a clock, and nothing
is safe across threads: the loop owns it.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Final, final

__all__ = ["NEVER", "Carrier", "Timer", "TimerHeap", "to_ns"]

NEVER: Final = -1
"""What `next_ns` says of an empty heap."""

_SMALL: Final = 64
_pop: Final = heappop
_push: Final = heappush


def to_ns(seconds: float) -> int:
    """Return seconds as whole nanoseconds, rounded to the nearest."""
    scaled = seconds * 1e9
    whole = int(scaled)  # `round` alone costs as much as all of `schedule`
    if scaled - whole >= 0.5:
        whole += 1
    return whole


class Timer:
    """Something that happens once at a moment, unless it is cancelled before.

    Attributes:
        due_ns: When; `NEVER` if it is not pending.
        heap: The heap that it was in last.
    """

    __slots__ = ("due_ns", "following", "heap", "preceding")

    def __init__(self) -> None:
        self.due_ns: int = NEVER
        self.heap: TimerHeap | None = None
        self.following: Timer | None = None  # of the same instant
        self.preceding: Timer | None = None  # of the first one: the last

    def fire(self) -> None:
        """Do what is due."""

    def cancel(self) -> bool:
        """Take it back; False if it was fired or cancelled before."""
        heap = self.heap
        return heap is not None and heap.remove(self)

    @property
    def is_pending(self) -> bool:
        """True until it is fired or cancelled."""
        return self.due_ns != NEVER

    def unlink(self) -> Timer | None:
        """Be pending no longer; return what followed."""
        following = self.following
        self.due_ns = NEVER
        self.following = None
        self.preceding = None
        return following


@final
class Carrier(Timer):
    """A timer for what is none itself: mostly a function, to be called."""

    __slots__ = ("item",)

    def __init__(self, item: object) -> None:
        super().__init__()
        self.item = item

    def fire(self) -> None:
        """Call it."""
        self.item()  # type: ignore[operator]


class TimerHeap:
    """Timers by the time they are due; equal times in the order they were scheduled."""

    __slots__ = ("_firsts", "_fresh", "_heap", "_live", "_run")

    def __init__(self) -> None:
        self._live = 0
        self._firsts: dict[int, Timer] = {}  # the first timer of each time
        self._fresh: list[int] = []
        self._run: list[int] = []  # sorted, latest first, so that pop() is the next
        self._heap: list[int] = []

    def __len__(self) -> int:
        """Return how many timers are pending; cancelled ones do not count."""
        return self._live

    def schedule(self, when_ns: int, what: object) -> Timer:
        """Add a timer that is not pending yet, or a carrier of anything else.

        A time in the past is due at once.
        """
        timer = what if isinstance(what, Timer) else Carrier(what)
        if when_ns < 0:  # noqa: PLR1730 - compiled, `max` is a call
            when_ns = 0
        timer.due_ns = when_ns
        timer.heap = self
        self._live += 1
        first = self._firsts.get(when_ns)
        if first is None:
            self._firsts[when_ns] = timer
            self._fresh.append(when_ns)
            return timer
        last = first.preceding
        if last is None:
            last = first
        last.following = timer
        timer.preceding = last
        first.preceding = timer
        return timer

    def remove(self, timer: Timer) -> bool:
        """Take a timer back; False if it was fired or cancelled before."""
        when_ns = timer.due_ns
        if when_ns == NEVER:
            return False
        first = self._firsts[when_ns]
        preceding = timer.preceding
        following = timer.unlink()
        self._live -= 1
        if timer is not first:
            assert preceding is not None
            preceding.following = following
            heir = first if following is None else following
            heir.preceding = None if preceding is first and heir is first else preceding
        elif following is not None:
            self._firsts[when_ns] = following
            following.preceding = None if preceding is following else preceding
        else:
            del self._firsts[when_ns]
            times = len(self._run) + len(self._heap) + len(self._fresh)
            if times > 2 * len(self._firsts) + _SMALL:
                self._compact()
        return True

    def next_ns(self) -> int:
        """Return when the next timer is due, or `NEVER`."""
        if self._fresh:
            self._settle()
        firsts, run, heap = self._firsts, self._run, self._heap
        while run and run[-1] not in firsts:
            run.pop()
        while heap and heap[0] not in firsts:
            _pop(heap)
        if run and not (heap and heap[0] < run[-1]):
            return run[-1]
        if heap:
            return heap[0]
        return NEVER

    def pop_due(self, now_ns: int) -> list[Timer]:
        """Remove and return what is due at `now_ns` or before, earliest first.

        What the returned timers schedule for `now_ns` when they are fired comes
        with the next call, not with this one: a timer of zero cannot hold the loop.
        """
        if self._fresh:
            self._settle()
        firsts, run, heap = self._firsts, self._run, self._heap
        due: list[Timer] = []
        while True:
            if run and run[-1] <= now_ns and not (heap and heap[0] < run[-1]):
                when = run.pop()
            elif heap and heap[0] <= now_ns:
                when = _pop(heap)
            else:
                self._live -= len(due)
                return due
            timer = firsts.get(when)
            if timer is None:
                continue
            del firsts[when]
            while timer is not None:
                due.append(timer)
                timer = timer.unlink()

    def clear(self) -> None:
        """Forget every timer."""
        for first in self._firsts.values():
            timer: Timer | None = first
            while timer is not None:
                timer = timer.unlink()
        self._live = 0
        self._firsts.clear()
        self._compact()

    def _settle(self) -> None:
        """Sort the fresh times in: into the run if they are many, else onto the heap."""
        firsts, fresh = self._firsts, self._fresh
        if len(fresh) * 8 < len(self._run):
            heap = self._heap
            for when in fresh:
                if when in firsts:
                    _push(heap, when)
        else:
            run = [when for when in self._run if when in firsts]
            run += [when for when in fresh if when in firsts]
            run.sort(reverse=True)
            self._run = run
        self._fresh = []

    def _compact(self) -> None:
        """Drop the times that nothing is due at; one pass, paid for by the cancels before."""
        run = list(self._firsts)
        run.sort(reverse=True)
        self._run = run
        self._heap = []
        self._fresh = []
