"""The timetable under clocks that jump, sleep and slew."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dan9.base.schedule import Interval
from dan9.daemons.timetable import Reading, Task, Timetable, rule_of

NOW = Reading(1_700_000_000.0, 50.0)


def counting(when: float, **more: object) -> Task:
    """Return a task that counts time, due `when` seconds from NOW."""
    return Task("c", "repeating", "x", "go", when=NOW.wall + when, anchor=NOW.wall + when, **more)  # type: ignore[arg-type]


def naming(when: float) -> Task:
    """Return a task that names a time, `when` seconds from NOW."""
    return Task("n", "at", "x", "go", when=NOW.wall + when)


def table(*tasks: Task) -> Timetable:
    """Return a timetable with these armed."""
    made = Timetable({task.id: task for task in tasks}, NOW)
    for task in tasks:
        made.arm(task, NOW)
    return made


def later(seconds: float, *, set_by: float = 0.0, slept: float = 0.0) -> Reading:
    """Return the clocks after so long awake, with the wall clock set and a sleep."""
    return Reading(NOW.wall + seconds + set_by + slept, NOW.monotonic + seconds, slept)


def ids(found: list[tuple[Task, float]]) -> list[str]:
    """Return who is due."""
    return [task.id for task, _ in found]


def test_both_kinds_come_at_their_time() -> None:
    """Neither early nor late, and only once."""
    made = table(counting(10), naming(20))
    assert made.next_at() == 60.0
    assert ids(made.take_due(later(9.99))) == []
    assert ids(made.take_due(later(10))) == ["c"]
    assert made.next_at() == 70.0
    assert ids(made.take_due(later(20))) == ["n"]
    assert made.next_at() is None


def test_a_clock_set_forward_moves_only_who_names_a_time() -> None:
    """An hour forward: the named time is past, counted time goes on as before."""
    made = table(counting(10), naming(20))
    now = later(1, set_by=3600)
    assert made.look_at_clock(now)
    assert ids(made.take_due(now)) == ["n"]
    assert made.next_at() == 60.0
    assert made.tasks["c"].when == NOW.wall + 3610
    assert ids(made.take_due(later(10, set_by=3600))) == ["c"]


def test_a_clock_set_back_delays_only_who_names_a_time() -> None:
    """An hour back: the named time is an hour further off; nothing fires twice."""
    made = table(counting(10), naming(20))
    now = later(1, set_by=-3600)
    assert made.look_at_clock(now)
    assert ids(made.take_due(later(10, set_by=-3600))) == ["c"]
    assert ids(made.take_due(later(20, set_by=-3600))) == []
    assert made.next_at() == 50.0 + 3620
    assert ids(made.take_due(later(3620, set_by=-3600))) == ["n"]


def test_a_clock_set_back_unnoticed_fires_nothing_early() -> None:
    """Even when nobody has looked, a named time is not reported before it is shown."""
    made = table(naming(20))
    assert ids(made.take_due(later(20, set_by=-100))) == []
    assert made.next_at() == 50.0 + 120


def test_a_sleep_lets_time_pass_for_both() -> None:
    """After eight hours asleep everything that fell into them is due, once."""
    made = table(counting(10), naming(20))
    now = later(1, slept=8 * 3600.0)
    assert made.look_at_clock(now)
    found = made.take_due(now)
    assert sorted(ids(found)) == ["c", "n"]
    assert all(abs(present - now.wall) < 1e-3 for _, present in found)
    assert made.tasks["c"].when == NOW.wall + 10


def test_slewing_changes_nothing() -> None:
    """A wall clock that is being corrected by milliseconds is not a clock that was set."""
    made = table(counting(10))
    assert not made.look_at_clock(later(5, set_by=0.3))
    assert made.next_at() == 60.0


def test_the_jitter_of_a_firing_delays_it_and_no_other() -> None:
    """The instant itself stays where it was."""
    task = counting(10)
    made = table(task)
    made.arm(task, NOW, delay=2.0)
    assert made.next_at() == 62.0
    [(found, present)] = made.take_due(later(12))
    assert found.when <= present < found.when + 1e-3


def test_disarming_is_final() -> None:
    """A disarmed task does not come; disarming twice is nothing."""
    made = table(counting(10))
    made.disarm("c")
    made.disarm("c")
    assert made.next_at() is None
    assert len(made) == 0


def test_due_at_is_shown_on_the_present_wall_clock() -> None:
    """After a set clock, a counted time is shown where it will really be."""
    made = table(counting(10), naming(20))
    now = later(1, set_by=0.4)
    assert abs(made.due_at(made.tasks["c"], now) - (NOW.wall + 10.4)) < 1e-6
    assert made.due_at(made.tasks["n"], now) == NOW.wall + 20


@given(
    st.lists(
        st.tuples(
            st.floats(0, 100), st.sampled_from([-5000.0, -3.0, 0.0, 3.0, 5000.0]), st.booleans()
        ),
        max_size=20,
    )
)
def test_counted_time_is_never_lost_nor_doubled_by_set_clocks(
    steps: list[tuple[float, float, bool]],
) -> None:
    """Whatever the wall clock does, a repetition fires once an interval of time awake."""
    task = counting(7, interval=7.0)
    made = table(task)
    awake, moved, fired = 0.0, 0.0, 0
    for passes, jump, looks in steps:
        awake += passes
        moved += jump
        now = later(awake, set_by=moved)
        if looks:
            made.look_at_clock(now)
        while found := made.take_due(now):
            for due, _present in found:
                fired += 1
                assert isinstance(rule_of(due), Interval)
                upcoming = rule_of(due).next(due.firing)
                assert upcoming is not None
                due.number, due.when = upcoming
                made.arm(due, now)
    assert fired in {int((awake - 1e-3) // 7), int((awake + 1e-3) // 7)}
    assert replace(task).number == fired + 1
