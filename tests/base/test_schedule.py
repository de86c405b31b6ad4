"""When something that repeats is due, on both sides of every change of the clocks."""

from __future__ import annotations

from datetime import datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import BadPayload
from dan9.base.schedule import (
    ALL_LIMIT,
    CRON_LIMIT,
    Cron,
    Firing,
    Interval,
    Once,
    first_owed,
    owed,
)

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str, fold: int = 0, zone: ZoneInfo = BERLIN) -> float:
    """Return the instant at which the wall clock shows this."""
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).timestamp()


def shown(instants: list[float], zone: ZoneInfo = BERLIN) -> list[str]:
    """Return what the wall clock shows at these instants, with its offset."""
    return [datetime.fromtimestamp(instant, zone).strftime("%d %H:%M%z") for instant in instants]


def test_a_fixed_time_that_does_not_exist_fires_at_the_change() -> None:
    """02:30 on the day the clock goes forward fires at 03:00, and at 02:30 the next day."""
    rule = Cron("30 2 * * *", "Europe/Berlin")
    found = list(islice(rule.instants(at("2025-03-29T12:00")), 2))
    assert shown(found) == ["30 03:00+0200", "31 02:30+0200"]


def test_a_fixed_time_that_comes_twice_fires_once() -> None:
    """02:30 on the day the clock goes back fires the first time only."""
    rule = Cron("30 2 * * *", "Europe/Berlin")
    found = list(islice(rule.instants(at("2025-10-25T12:00")), 2))
    assert shown(found) == ["26 02:30+0200", "27 02:30+0100"]


def test_a_fixed_time_is_not_repeated_when_asked_within_the_repeated_hour() -> None:
    """Whoever asks at 02:10 the second time around gets tomorrow, not an instant gone by."""
    rule = Cron("30 2 * * *", "Europe/Berlin")
    second_time = at("2025-10-26T02:10", fold=1)
    assert shown([rule.after(second_time) or 0.0]) == ["27 02:30+0100"]


def test_hourly_jobs_fire_each_real_hour_on_both_days() -> None:
    """`0 * * * *` fires 23 times on the short day and 25 times on the long one."""
    rule = Cron("0 * * * *", "Europe/Berlin")
    for day, following, hours in (
        ("2025-03-30", "2025-03-31", 23),
        ("2025-10-26", "2025-10-27", 25),
    ):
        begin, end = at(f"{day}T00:00"), at(f"{following}T00:00")
        found = [t for t in islice(rule.instants(begin - 1), 30) if t < end]
        assert len(found) == hours
        assert {b - a for a, b in pairwise(found)} == {3600.0}


def test_two_times_that_fall_together_fire_once() -> None:
    """02:00 and 03:00 are the same instant on the day the clock goes forward."""
    rule = Cron("0 2,3 * * *", "Europe/Berlin")
    found = list(islice(rule.instants(at("2025-03-29T12:00")), 3))
    assert shown(found) == ["30 03:00+0200", "31 02:00+0200", "31 03:00+0200"]


def test_half_hour_changes_are_followed() -> None:
    """Lord Howe Island moves by half an hour; a quarter-hourly job keeps its quarters."""
    zone = ZoneInfo("Australia/Lord_Howe")
    rule = Cron("*/15 * * * *", "Australia/Lord_Howe")
    begin = at("2025-04-06T01:00", zone=zone)
    found = list(islice(rule.instants(begin), 12))
    assert {b - a for a, b in pairwise(found)} == {900.0}


@pytest.mark.parametrize(
    ("expression", "timezone", "key"),
    [
        ("nonsense", "UTC", "expression"),
        ("", "UTC", "expression"),
        ("61 * * * *", "UTC", "expression"),
        ("* * * *", "UTC", "expression"),
        ("0 0 30 2 *", "UTC", "expression"),
        ("0 0 * * *", "Mars/Olympus", "timezone"),
        ("0 0 * * *", "../../etc/passwd", "timezone"),
        ("0 0 * * *", "", "timezone"),
    ],
)
def test_bad_expressions_and_zones_are_refused(expression: str, timezone: str, key: str) -> None:
    """What is no cron expression or no zone is refused with the key that is wrong."""
    with pytest.raises(BadPayload) as caught:
        Cron(expression, timezone)
    assert caught.value.at == key
    assert caught.value.hint


@pytest.mark.parametrize("interval", [0.0, -1.0, 0.0001, float("nan")])
def test_an_interval_that_is_too_short_is_refused(interval: float) -> None:
    """Zero, negative and nonsensical intervals never make a storm."""
    with pytest.raises(BadPayload):
        Interval(interval, 0.0)


def test_a_million_repetitions_do_not_drift() -> None:
    """Firing number 10^6 of every 0.1 s is within a microsecond of where it should be."""
    rule = Interval(0.1, 1_700_000_000.0)
    firing = Firing(1, rule.anchor)
    for _ in range(1_000_000):
        firing = rule.next(firing) or firing
    assert firing.number == 1_000_001
    assert abs(firing.when - 1_700_100_000.0) < 1e-6


@pytest.mark.parametrize(
    ("missed", "numbers", "lost"), [("once", [5], 4), ("all", [1, 2, 3, 4, 5], 0), ("skip", [], 5)]
)
def test_a_pause_owes_what_the_policy_says(missed: str, numbers: list[int], lost: int) -> None:
    """Five firings of every 10 s fell into the pause."""
    rule = Interval(10.0, 100.0)
    due, upcoming, gone = owed(rule, Firing(1, 100.0), 149.0, missed)  # type: ignore[arg-type]
    assert [firing.number for firing in due] == numbers
    assert upcoming == Firing(6, 150.0)
    assert gone == lost


def test_a_year_of_missed_seconds_is_divided_not_walked() -> None:
    """`all` makes good the latest ones within its limit and says how many are lost."""
    rule = Interval(1.0, 0.0)
    due, upcoming, gone = owed(rule, Firing(1, 0.0), 31_536_000.0, "all")
    assert len(due) == ALL_LIMIT
    assert due[-1] == Firing(31_536_001, 31_536_000.0)
    assert upcoming == Firing(31_536_002, 31_536_001.0)
    assert gone + len(due) == 31_536_001


def test_cron_stops_counting_after_a_long_pause() -> None:
    """A year of missed cron seconds costs a bounded amount of work and ends after now."""
    rule = Cron("* * * * * *", "UTC")
    _due, upcoming, gone = owed(rule, Firing(1, 0.0), 31_536_000.5, "once")
    assert upcoming is not None
    assert upcoming.when == 31_536_001.0
    assert gone == CRON_LIMIT


def test_once_is_over_after_its_instant() -> None:
    """A single instant that was missed is made good, or not, and then there is no next."""
    assert owed(Once(), Firing(1, 5.0), 9.0, "once") == ([Firing(1, 5.0)], None, 0)
    assert owed(Once(), Firing(1, 5.0), 9.0, "skip") == ([], None, 1)
    assert owed(Once(), Firing(1, 5.0), 4.0, "skip") == ([], Firing(1, 5.0), 0)
    assert Once().next(Firing(1, 5.0)) is None


@given(
    interval=st.floats(0.001, 1e6),
    anchor=st.floats(0, 4e9),
    pause=st.floats(0, 1e6),
    missed=st.sampled_from(["once", "all", "skip"]),
)
def test_every_firing_is_made_good_or_counted_once(
    interval: float, anchor: float, pause: float, missed: str
) -> None:
    """What is owed, what is lost and what comes next add up, whatever the numbers."""
    rule = Interval(interval, anchor)
    now = anchor + pause
    due, upcoming, gone = owed(rule, Firing(1, anchor), now, missed)  # type: ignore[arg-type]
    assert upcoming is not None
    assert upcoming.when > now
    assert len(due) + gone == upcoming.number - 1
    assert all(firing.when <= now for firing in due)
    assert [firing.number for firing in due] == sorted({firing.number for firing in due})


@given(st.integers(1, 50), st.integers(0, 300), st.integers(1, 40))
def test_batches_of_owed_firings_leave_none_out(first: int, due: int, limit: int) -> None:
    """Batch after batch, each firing that is due comes once, in order, and no other."""
    rule = Interval(0.5, 100.0)
    now = rule.at(first + due) - 0.25
    found: list[int] = []
    upcoming: Firing | None = Firing(first, rule.at(first))
    while upcoming is not None and upcoming.when <= now:
        batch, upcoming = first_owed(rule, upcoming, now, limit)
        assert 1 <= len(batch) <= limit
        found += [firing.number for firing in batch]
    assert found == list(range(first, first + due))


def test_what_happens_once_is_owed_once() -> None:
    """And then there is no more."""
    assert first_owed(Once(), Firing(1, 5.0), 9.0, 10) == ([Firing(1, 5.0)], None)
    assert first_owed(Once(), Firing(1, 5.0), 4.0, 10) == ([], Firing(1, 5.0))
