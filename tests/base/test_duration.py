"""Durations and times: what people write, what the code holds."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.duration import format_duration, format_time, parse_duration, parse_time
from dan9.base.errors import BadPayload


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30.0),
        ("5m", 300.0),
        ("2h", 7200.0),
        ("7d", 604800.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("1.5", 1.5),
        (" 5s ", 5.0),
        (".5s", 0.5),
        (0, 0.0),
        (2, 2.0),
        (0.25, 0.25),
    ],
)
def test_durations_are_seconds_or_text(written: object, seconds: float) -> None:
    """A duration is a number of seconds or text with units."""
    assert parse_duration(written) == seconds


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "soon",
        "5 parsecs",
        "-5s",
        "5s!",
        "1e400",
        -1,
        math.nan,
        math.inf,
        "nan",
        "inf",
        True,
        None,
        [],
        10**400,
    ],
)
def test_what_is_no_duration_is_refused_with_the_forms_that_are(wrong: object) -> None:
    """Negative, endless, misspelt and foreign values are refused, and the hint shows how."""
    with pytest.raises(BadPayload) as caught:
        parse_duration(wrong)
    assert "250ms" in caught.value.hint


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.0000005, "0.5us"),
        (0.9999, "1s"),
        (1.5, "1.5s"),
        (59.99999, "1m"),
        (90, "1m30s"),
        (7200, "2h"),
        (7505, "2h5m"),
        (86405, "1d"),
        (604800, "7d"),
        (-2, "-2s"),
    ],
)
def test_durations_are_shown_with_at_most_two_units(seconds: float, shown: str) -> None:
    """What a person reads is short."""
    assert format_duration(seconds) == shown


@given(st.integers(0, 59_999).map(lambda ms: ms / 1000) | st.integers(0, 3599))
def test_what_is_shown_reads_back(seconds: float) -> None:
    """Whole milliseconds below a minute and whole seconds below an hour survive the round trip."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-9)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00", 0.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("12.5", 12.5),
        (7, 7.0),
    ],
)
def test_times_are_utc_seconds_or_iso_text(written: object, seconds: float) -> None:
    """Text without an offset is UTC."""
    assert parse_time(written) == seconds


@pytest.mark.parametrize("wrong", ["tomorrow", math.nan, None, True, "", 10**400, "1970-13-01"])
def test_what_is_no_time_is_refused(wrong: object) -> None:
    """The refusal shows both forms."""
    with pytest.raises(BadPayload, match="no time"):
        parse_time(wrong)


@given(st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000))
def test_a_time_survives_its_text(seconds: float) -> None:
    """Milliseconds survive the round trip."""
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=0.0006)
