"""The pending timers: what is due, and when to look again.

Prior art: asyncio and most schedulers keep a heap of (time, sequence, object) tuples;
kernels keep timing wheels. Tuples cost an allocation and a slow comparison each, a
wheel rounds to its tick and gains nothing in Python. Here a timer is one object that
carries its time, its number and its links, so that nothing is allocated for its place,
comparing is comparing machine integers, and what sleeps or repeats is itself the timer.

New timers are only appended. They are sorted in when somebody asks what is due:

- Many at once by one `sort`, into a run of which the last is the next; those that were
  cancelled before never cost a comparison.
- Few by pushing them onto a pairing heap (Fredman, Sedgewick, Sleator, Tarjan: The
  pairing heap, 1986) beside the run: pushing is one comparison, taking the first some
  log2 n.
- Those of the same instant as the one before hang on it, and cost neither. A thousand
  daemons of one `@every` that were started together are one entry, for ever.

A timer that was cancelled stays behind until it comes up, or until such are more than
half of all; then one pass removes them.

Times are integers in nanoseconds on whatever scale the caller uses (`to_ns` rounds
seconds so that 1.23 s comes back as 1.23 s). Nothing here reads a clock, and nothing
is safe across threads: the loop owns it.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final, final

from mypy_extensions import i64

from dan9.base.errors import Dan9InternalError

__all__ = ["NEVER", "Carrier", "Timer", "TimerHeap", "to_ns"]

NEVER: Final = -1
"""What `next_ns` says if nothing is pending."""

_FAR_NS: Final = 9_000_000_000_000_000_000  # 285 years: the largest that fits
_SMALL: Final = 64
_DUE: Final = attrgetter("due_ns")
_NUMBER: Final = attrgetter("number")


def to_ns(seconds: float) -> int:
    """Return seconds as whole nanoseconds, rounded to the nearest."""
    scaled = seconds * 1e9
    if scaled >= 9e18:
        return _FAR_NS
    whole = int(scaled)  # `round` alone costs as much as all of `schedule`
    if scaled - whole >= 0.5:
        whole += 1
    return whole


class Timer:
    """Something that happens once at a moment, unless it is cancelled before.

    Attributes:
        heap: Where it is pending; None if it is not.
        due_ns: When it is or was due.
    """

    __slots__ = ("child", "due_ns", "following", "heap", "number", "sibling")

    def __init__(self) -> None:
        self.heap: TimerHeap | None = None
        self.due_ns: i64 = 0
        self.number: i64 = 0  # in the order of scheduling; 0: in no heap, not even left behind
        self.following: Timer | None = None  # of the same instant
        self.child: Timer | None = None
        self.sibling: Timer | None = None

    def fire(self) -> None:
        """Do what is due."""

    def cancel(self) -> bool:
        """Take it back; False if it was fired or cancelled before."""
        heap = self.heap
        return heap is not None and heap.remove(self)

    @property
    def is_pending(self) -> bool:
        """True until it is fired or cancelled."""
        return self.heap is not None


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


def _is_before(one: Timer, other: Timer) -> bool:
    if one.due_ns != other.due_ns:
        return one.due_ns < other.due_ns
    return one.number < other.number


def _merged(one: Timer, other: Timer) -> Timer:
    """Make one of two heaps; both are roots without siblings."""
    if _is_before(other, one):
        one, other = other, one
    other.sibling = one.child
    one.child = other
    return one


def _without_root(root: Timer) -> Timer | None:
    """Make one heap of what is below a root: pair by pair, then all the pairs."""
    node = root.child
    root.child = None
    pairs: Timer | None = None
    while node is not None:
        other = node.sibling
        following: Timer | None = None
        if other is not None:
            following = other.sibling
            node.sibling = None
            other.sibling = None
            node = _merged(node, other)
        node.sibling = pairs
        pairs = node
        node = following
    if pairs is None:
        return None
    whole = pairs
    pairs = whole.sibling
    whole.sibling = None
    while pairs is not None:
        following = pairs.sibling
        pairs.sibling = None
        whole = _merged(whole, pairs)
        pairs = following
    return whole


@final
class TimerHeap:
    """Timers by the time they are due; equal times in the order they were scheduled."""

    __slots__ = ("_count", "_fresh", "_last", "_live", "_root", "_run", "_stale")

    def __init__(self) -> None:
        self._count: i64 = 0
        self._live: i64 = 0
        self._stale: i64 = 0  # cancelled and left behind
        self._fresh: list[Timer] = []
        self._run: list[Timer] = []  # sorted, latest first, so that pop() is the next
        self._root: Timer | None = None
        self._last: Timer | None = None

    def __len__(self) -> int:
        """Return how many timers are pending; cancelled ones do not count."""
        return int(self._live)

    def schedule(self, when_ns: i64, what: object) -> Timer:
        """Add a timer that has fired or is new, or a carrier of anything else.

        A time in the past is due at once.
        """
        timer = what if isinstance(what, Timer) else Carrier(what)
        if timer.number != 0:
            raise Dan9InternalError("a timer is scheduled anew when it has fired, not before")
        if when_ns < 0:  # noqa: PLR1730 - compiled, `max` is a call
            when_ns = 0
        last = self._last
        if last is not None and last.due_ns == when_ns and last.heap is self:
            last.following = timer
        else:
            self._fresh.append(timer)
        self._last = timer
        self._count += 1
        self._live += 1
        timer.number = self._count
        timer.due_ns = when_ns
        timer.heap = self
        return timer

    def remove(self, timer: Timer) -> bool:
        """Take a timer back; False if it is not pending here."""
        if timer.heap is not self:
            return False
        timer.heap = None
        self._live -= 1
        self._stale += 1
        if self._stale > self._live + _SMALL:
            self._compact()
        return True

    def next_ns(self) -> int:
        """Return when the next timer is due, or `NEVER`."""
        first = self._first()
        return NEVER if first is None else int(first.due_ns)

    def pop_due(self, now_ns: i64) -> list[Timer]:
        """Remove and return what is due at `now_ns` or before, earliest first.

        What the returned timers schedule for `now_ns` when they are fired comes
        with the next call, not with this one: a timer of zero cannot hold the loop.
        """
        due: list[Timer] = []
        while True:
            timer = self._first()
            if timer is None or timer.due_ns > now_ns:
                return due
            self._take(timer)
            while timer is not None:
                following = timer.following
                timer.following = None
                timer.number = 0
                if timer.heap is None:
                    self._stale -= 1
                else:
                    timer.heap = None
                    self._live -= 1
                    due.append(timer)
                timer = following

    def clear(self) -> None:
        """Forget every timer."""
        self._live = 0
        for timer in self._unlinked():
            timer.heap = None
            timer.number = 0

    def _first(self) -> Timer | None:
        """Return the first that is pending; those cancelled that stand before it are dropped."""
        if self._fresh:
            self._settle()
        run = self._run
        while True:
            first = self._root
            if run:
                top = run[-1]
                if first is None or _is_before(top, first):
                    first = top
            if first is None or first.heap is not None:
                return first
            self._take(first)
            following = first.following
            first.following = None
            first.number = 0
            self._stale -= 1
            if following is not None:
                self._push(following)

    def _take(self, first: Timer) -> None:
        """Take out what `_first` returned."""
        if first is self._root:
            self._root = _without_root(first)
        else:
            self._run.pop()

    def _push(self, timer: Timer) -> None:
        root = self._root
        self._root = timer if root is None else _merged(root, timer)

    def _settle(self) -> None:
        """Sort the fresh timers in: into the run if they are many, else onto the heap."""
        fresh = self._fresh
        if len(fresh) < _SMALL or len(fresh) * 8 < len(self._run):
            for timer in fresh:
                self._push(timer)
        else:
            fresh.reverse()  # `sort` leaves equals as they are: the latest first
            run: list[Timer] = []
            for timer in fresh:
                if timer.heap is None and timer.following is None:
                    timer.number = 0
                    self._stale -= 1
                else:
                    run.append(timer)
            run += self._run
            run.sort(key=_DUE, reverse=True)
            self._run = run
        self._fresh = []

    def _compact(self) -> None:
        """Drop what was cancelled; one pass, paid for by the cancels before it."""
        run = self._unlinked()
        run.sort(key=_NUMBER, reverse=True)
        run.sort(key=_DUE, reverse=True)
        self._run = run

    def _unlinked(self) -> list[Timer]:
        """Empty everything; return the pending ones, in no order."""
        entries = [*self._run, *self._fresh]
        if self._root is not None:
            entries.append(self._root)
        self._run = []
        self._fresh = []
        self._root = self._last = None
        self._stale = 0
        pending: list[Timer] = []
        while entries:
            timer = entries.pop()
            below = (timer.following, timer.child, timer.sibling)
            entries += [other for other in below if other is not None]
            timer.following = timer.child = timer.sibling = None
            if timer.heap is None:
                timer.number = 0
            else:
                pending.append(timer)
        return pending
