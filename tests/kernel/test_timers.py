"""The timer heap against a plain sorted list."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dan9.kernel.timers import NEVER, TimerHandle, TimerHeap, to_ns


def test_equal_times_keep_their_order() -> None:
    """Timers of one instant fire in the order they were scheduled."""
    heap = TimerHeap()
    for index in range(100):
        heap.schedule(5, index)
    assert heap.pop_due(5) == list(range(100))


def test_a_timer_is_not_early_by_a_nanosecond() -> None:
    """Due means at or after the instant, never before."""
    heap = TimerHeap()
    heap.schedule(10, "x")
    assert heap.pop_due(9) == []
    assert heap.pop_due(10) == ["x"]
    assert heap.pop_due(11) == []


def test_cancel_tells_whether_it_was_in_time() -> None:
    """The first cancel is true; one after firing or a second one is false."""
    heap = TimerHeap()
    first, second = heap.schedule(1, "a"), heap.schedule(2, "b")
    assert heap.cancel(first)
    assert not heap.cancel(first)
    assert heap.pop_due(2) == ["b"]
    assert not heap.cancel(second)
    assert not heap.cancel(12345)


def test_next_passes_over_cancelled_timers() -> None:
    """`next_ns` never names a timer that was cancelled."""
    heap = TimerHeap()
    handles = [heap.schedule(when, when) for when in range(10)]
    for handle in handles[:7]:
        heap.cancel(handle)
    assert heap.next_ns() == 7
    for handle in handles[7:]:
        heap.cancel(handle)
    assert heap.next_ns() == NEVER
    assert len(heap) == 0


def test_a_time_in_the_past_is_due_at_once() -> None:
    """Negative times count as zero instead of corrupting the order."""
    heap = TimerHeap()
    heap.schedule(-5, "late")
    assert heap.next_ns() == 0
    assert heap.pop_due(0) == ["late"]


def test_cancelled_timers_do_not_pile_up() -> None:
    """A million schedule-and-cancel pairs hold memory for a handful."""
    heap = TimerHeap()
    for index in range(20_000):
        heap.cancel(heap.schedule(10**15 + index, index))
    assert len(heap._fresh) + len(heap._run) + len(heap._heap) < 200


def test_handle_object_cancels() -> None:
    """`TimerHandle` is the same timer as its key."""
    heap = TimerHeap()
    handle = TimerHandle(heap, heap.schedule(3, "x"))
    assert handle.is_pending
    assert handle.cancel()
    assert not handle.is_pending
    assert not handle.cancel()


def test_clear_forgets_everything() -> None:
    """After `clear` nothing is due."""
    heap = TimerHeap()
    heap.schedule(1, "x")
    heap.clear()
    assert heap.next_ns() == NEVER
    assert heap.pop_due(10**18) == []


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
        self.model: list[tuple[int, int, int]] = []
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
        assert self.heap.cancel(entry[2])

    @rule(step=st.integers(0, 30))
    def time_passes(self, step: int) -> None:
        self.now += step
        due = sorted(entry for entry in self.model if entry[0] <= self.now)
        self.model = [entry for entry in self.model if entry[0] > self.now]
        assert self.heap.pop_due(self.now) == [entry[1] for entry in due]

    @invariant()
    def agrees(self) -> None:
        assert len(self.heap) == len(self.model)
        assert self.heap.next_ns() == (min(self.model)[0] if self.model else NEVER)


TestAgainstAList = AgainstAList.TestCase
TestAgainstAList.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
