"""Alerts: thresholds, hold times and hysteresis."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import BadPayload
from dan9.daemons.alerts import AlertRule, AlertState


def watching(**rule: float) -> AlertState:
    """Return the state of a checked rule."""
    return AlertState(AlertRule(**rule).check())


def test_without_a_hold_time_it_fires_and_clears_at_once() -> None:
    """Beyond is strictly beyond; clear is at the line."""
    alert = watching(above=100.0)
    assert alert.observe(100.0, 0.0) is None
    assert alert.observe(101.0, 1.0) == "firing"
    assert alert.observe(120.0, 2.0) is None
    assert alert.observe(95.0, 3.0) is None
    assert alert.observe(90.0, 4.0) == "cleared"


def test_it_fires_only_when_it_has_lasted() -> None:
    """A break starts the hold time anew; time alone completes it."""
    alert = watching(above=10.0, hold_s=30.0)
    assert alert.observe(11.0, 0.0) is None
    assert alert.deadline == 30.0
    assert alert.observe(9.0, 20.0) is None
    assert alert.deadline is None
    assert alert.observe(12.0, 25.0) is None
    assert alert.pass_time(54.9) is None
    assert alert.pass_time(55.0) == "firing"
    assert alert.pass_time(99.0) is None


def test_it_is_over_only_when_that_has_lasted() -> None:
    """A relapse during the hold time keeps it firing without a word."""
    alert = watching(above=10.0, clear=5.0, hold_s=10.0)
    alert.observe(11.0, 0.0)
    assert alert.pass_time(10.0) == "firing"
    assert alert.observe(5.0, 20.0) is None
    assert alert.observe(6.0, 25.0) is None
    assert alert.phase == "firing"
    assert alert.observe(4.0, 30.0) is None
    assert alert.pass_time(40.0) == "cleared"


def test_below_is_the_mirror_image() -> None:
    """Fires under the threshold, clears a tenth above it."""
    alert = watching(below=100.0)
    assert alert.observe(99.0, 0.0) == "firing"
    assert alert.observe(105.0, 1.0) is None
    assert alert.observe(110.0, 2.0) == "cleared"


@given(st.lists(st.floats(91, 109), max_size=50))
def test_trembling_on_the_threshold_tells_once(values: list[float]) -> None:
    """Between the two lines nothing is said, however often the threshold is crossed."""
    alert = watching(above=100.0, clear=90.0)
    said = [alert.observe(value, float(at)) for at, value in enumerate(values)]
    assert [word for word in said if word] in ([], ["firing"])


@pytest.mark.parametrize(
    ("rule", "key"),
    [
        ({}, "above"),
        ({"above": 1.0, "below": 2.0}, "above"),
        ({"above": 1.0, "clear": 2.0}, "clear"),
        ({"below": 1.0, "clear": 0.5}, "clear"),
        ({"above": 1.0, "hold_s": -1.0}, "for"),
    ],
)
def test_rules_that_make_no_sense_are_refused(rule: dict[str, float], key: str) -> None:
    """With the key that is wrong."""
    with pytest.raises(BadPayload) as caught:
        AlertRule(**rule).check()
    assert caught.value.at == key


def test_a_negative_threshold_has_its_margin_on_the_right_side() -> None:
    """Above -10 clears at -11; below -10 clears at -9."""
    assert AlertRule(above=-10.0).check().clear == -11.0
    assert AlertRule(below=-10.0).check().clear == -9.0
