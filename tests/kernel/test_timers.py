"""The timer heap against a plain sorted list."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dan9.kernel.timers import NEVER, Carrier, Timer, TimerHeap, to_ns


def due(heap: TimerHeap, now_ns: int) -> list[object]:
    """Return what is due."""
    return [timer.item for timer in heap.pop_due(now_ns) if isinstance(timer, Carrier)]


def test_equal_times_keep_their_order() -> None:
    """Timers of one instant fire in the order they were scheduled."""
    heap = TimerHeap()
    for index in range(100):
        heap.schedule(5, index)
    assert due(heap, 5) == list(range(100))


def test_a_timer_is_not_early_by_a_nanosecond() -> None:
    """Due means at or after the instant, never before."""
    heap = TimerHeap()
    heap.schedule(10, "x")
    assert due(heap, 9) == []
    assert due(heap, 10) == ["x"]
    assert due(heap, 11) == []


def test_cancel_tells_whether_it_was_in_time() -> None:
    """The first cancel is true; one after firing or a second one is false."""
    heap = TimerHeap()
    first, second = heap.schedule(1, "a"), heap.schedule(2, "b")
    assert first.cancel()
    assert not first.cancel()
    assert due(heap, 2) == ["b"]
    assert not second.cancel()


def test_next_passes_over_cancelled_timers() -> None:
    """`next_ns` never names a timer that was cancelled."""
    heap = TimerHeap()
    handles = [heap.schedule(when, when) for when in range(10)]
    for handle in handles[:7]:
        handle.cancel()
    assert heap.next_ns() == 7
    for handle in handles[7:]:
        handle.cancel()
    assert heap.next_ns() == NEVER
    assert len(heap) == 0


def test_a_time_in_the_past_is_due_at_once() -> None:
    """Negative times count as zero instead of corrupting the order."""
    heap = TimerHeap()
    heap.schedule(-5, "late")
    assert heap.next_ns() == 0
    assert due(heap, 0) == ["late"]


def test_cancelled_timers_do_not_pile_up() -> None:
    """A million schedule-and-cancel pairs hold memory for a handful."""
    heap = TimerHeap()
    for index in range(20_000):
        heap.schedule(10**15 + index, index).cancel()
    assert len(heap._fresh) + len(heap._run) < 200
    assert heap._stale < 200


def test_a_timer_knows_whether_it_is_pending() -> None:
    """From being scheduled until it is fired or cancelled."""
    heap = TimerHeap()
    cancelled, fired = heap.schedule(3, "x"), heap.schedule(3, "y")
    assert cancelled.is_pending
    assert cancelled.cancel()
    assert not cancelled.is_pending
    assert fired.is_pending
    assert due(heap, 3) == ["y"]
    assert not fired.is_pending


def test_a_timer_may_be_scheduled_again_when_it_fires() -> None:
    """It is one object however often it repeats, and keeps its place among equals."""
    heap = TimerHeap()
    first, second = heap.schedule(1, "a"), heap.schedule(1, "b")
    for now in range(1, 4):
        assert heap.pop_due(now) == [first, second]
        assert heap.schedule(now + 1, second) is second
        assert heap.schedule(now + 1, first) is first
        first, second = second, first
    assert first.cancel()
    assert heap.pop_due(9) == [second]


def test_equal_times_are_cancelled_in_any_order() -> None:
    """First, last and in between: the others stay, in order."""
    for out in itertools.permutations(range(4)):
        heap = TimerHeap()
        timers = [heap.schedule(5, index) for index in range(4)]
        left = list(range(4))
        for index in out:
            assert timers[index].cancel()
            left.remove(index)
            timers.append(heap.schedule(5, len(timers)))
            left.append(len(timers) - 1)
        assert len(heap) == len(left)
        assert due(heap, 5) == left


def test_clear_forgets_everything() -> None:
    """After `clear` nothing is due."""
    heap = TimerHeap()
    timers = [heap.schedule(1, "x"), heap.schedule(1, "y")]
    heap.clear()
    assert len(heap) == 0
    assert not any(timer.cancel() for timer in timers)
    assert heap.next_ns() == NEVER
    assert due(heap, 10**18) == []


@given(st.decimals(min_value=0, max_value=10**6, places=6))
def test_seconds_survive_the_way_through_nanoseconds(seconds: object) -> None:
    """Decimal seconds come back as the same float."""
    value = float(seconds)  # type: ignore[arg-type]  # a Decimal
    assert to_ns(value) / 1_000_000_000 == value


class AgainstAList(RuleBasedStateMachine):
    """Whatever is scheduled, cancelled and fired, the heap agrees with a sorted list."""

    def __init__(self) -> None:
        super().__init__()
        self.heap = TimerHeap()
        self.model: list[tuple[int, int, Timer]] = []
        self.count = 0
        self.now = 0

    @rule(whens=st.lists(st.integers(0, 50), min_size=1, max_size=40))
    def schedule(self, whens: list[int]) -> None:
        for when in whens:
            self.count += 1
            handle = self.heap.schedule(self.now + when, self.count)
            self.model.append((self.now + when, self.count, handle))

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        entry = data.draw(st.sampled_from(self.model))
        self.model.remove(entry)
        assert entry[2].cancel()

    @rule(step=st.integers(0, 30))
    def time_passes(self, step: int) -> None:
        self.now += step
        expected = [entry for entry in sorted(self.model, key=_order) if entry[0] <= self.now]
        self.model = [entry for entry in self.model if entry[0] > self.now]
        assert due(self.heap, self.now) == [entry[1] for entry in expected]

    @invariant()
    def agrees(self) -> None:
        assert len(self.heap) == len(self.model)
        assert self.heap.next_ns() == (min(self.model, key=_order)[0] if self.model else NEVER)


def _order(entry: tuple[int, int, Timer]) -> tuple[int, int]:
    return entry[:2]


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
