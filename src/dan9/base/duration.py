"""Lengths of time and points in time, as people write them and as the code holds them.

Inside, a duration is a float of seconds and a time a float of UTC seconds since
1970; outside, `30s` and `2026-03-01T12:00:00Z` are taken as well. Annotate a
parameter or field with `Duration` or `Time`, and what arrives is always the float.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Final

from dan9.base.errors import BadPayload

__all__ = [
    "Duration",
    "DurationMark",
    "Time",
    "TimeMark",
    "format_duration",
    "format_time",
    "parse_duration",
    "parse_time",
]

_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(us|ms|s|m|h|d)")
_WHOLE = re.compile(r"(?:(?:\d+(?:\.\d+)?|\.\d+)\s*(?:us|ms|s|m|h|d)\s*)+\Z")
_HINT = "write seconds, or text such as 250ms 30s 5m 2h 7d"
_TIME_HINT = "write UTC seconds since 1970, or text such as 2026-03-01T12:00:00Z"


class DurationMark:
    """Marks a float as a duration: `Annotated[float, DurationMark]`."""


class TimeMark:
    """Marks a float as UTC seconds since 1970: `Annotated[float, TimeMark]`."""


Duration = Annotated[float, DurationMark]
"""A parameter or field in seconds that also takes text from outside."""

Time = Annotated[float, TimeMark]
"""A parameter or field in UTC seconds since 1970 that also takes ISO-8601 text from outside."""


def parse_duration(value: object) -> float:
    """Return the seconds that a number, `250ms`, `1h30m` or `1.5` stands for.

    Raises:
        BadPayload: Neither a number nor such text, or negative, nan or infinite.
    """
    seconds: float
    if isinstance(value, str):
        text = value.strip()
        if _WHOLE.match(text):
            seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(text))
        else:
            try:
                seconds = float(text)
            except ValueError:
                raise BadPayload(f"{value!r} is no duration", hint=_HINT) from None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            raise BadPayload("a duration of that size is no duration", hint=_HINT) from None
    else:
        raise BadPayload(f"{value!r} is no duration", hint=_HINT)
    if not math.isfinite(seconds) or seconds < 0:
        raise BadPayload(f"{value!r} is no duration: it must be finite, and 0 or more", hint=_HINT)
    return seconds


def format_duration(seconds: float) -> str:
    """Write seconds for people, with at most two units: `250ms`, `1.5s`, `2h5m`, `7d`.

    What is printed for whole milliseconds below a minute, and for whole seconds
    below an hour, reads back exactly.
    """
    if seconds < 0:
        return f"-{format_duration(-seconds)}"
    if seconds == 0:
        return "0s"
    if seconds < 0.9995:
        milli = seconds * 1000
        return f"{milli:.3g}ms" if milli >= 0.9995 else f"{seconds * 1e6:.3g}us"
    if seconds < 59.9995:
        return f"{round(seconds, 3):g}s"
    left = round(seconds)
    parts = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
        elif parts:
            break  # 1d and 5s is said as 1d
        if len(parts) == 2:
            break
    return "".join(parts)


def parse_time(value: object) -> float:
    """Return the UTC seconds since 1970 that a number or ISO-8601 text stands for.

    Text without an offset is UTC.

    Raises:
        BadPayload: Neither, or nan or infinite.
    """
    if isinstance(value, str):
        from datetime import UTC, datetime  # costs 2 ms of import; only text needs it

        text = value.strip()
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            try:
                seconds = float(text)
            except ValueError:
                raise BadPayload(f"{value!r} is no time", hint=_TIME_HINT) from None
        else:
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = moment.timestamp()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            seconds = float(value)
        except OverflowError:
            raise BadPayload("a time of that size is no time", hint=_TIME_HINT) from None
    else:
        raise BadPayload(f"{value!r} is no time", hint=_TIME_HINT)
    if not math.isfinite(seconds):
        raise BadPayload(f"{value!r} is no time: it must be finite", hint=_TIME_HINT)
    return seconds


def format_time(seconds: float) -> str:
    """Write UTC seconds since 1970 as ISO-8601 in UTC, with milliseconds: `…T12:00:00.250Z`."""
    from datetime import UTC, datetime, timedelta

    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
