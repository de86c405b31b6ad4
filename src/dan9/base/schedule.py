"""When something that repeats is due: pure arithmetic on instants.

Two kinds of repetition, because people mean two things:

- `Interval`: every so many seconds from an anchor. The k-th instant is the anchor plus
  k intervals, computed each time from the anchor and never by adding to the last, so
  that a million repetitions drift by nothing.
- `Cron`: whenever the wall clock of a time zone shows a matching time. Where a clock
  goes forward, a time that does not exist fires at the change; where it goes back, a
  fixed time fires once and an hourly one each hour (the rules of Debian's cron, which
  cronsim implements).

`missed` decides what a task owes after a pause in which it could not fire: `once` owes
the latest, `all` owes each, `skip` owes none.

Instants are UTC seconds since 1970. Firings are numbered, for a number makes the id by
which a repeated delivery is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple, Protocol

from dan9.base.errors import BadPayload

__all__ = [
    "ALL_LIMIT",
    "Cron",
    "Firing",
    "Interval",
    "Missed",
    "Once",
    "Past",
    "Schedule",
    "first_owed",
    "owed",
]

Missed = Literal["once", "all", "skip"]
"""What a task owes after a pause: the latest firing, each of them, none."""

ALL_LIMIT = 10_000
"""Most firings that `all` makes good at one time; older ones are counted as missed.

A durable target is owed every one: see `first_owed`."""

CRON_LIMIT = 20_000
"""Most instants of a cron expression that are counted after a pause (0.3 s of work)."""

MIN_INTERVAL_S = 0.001
"""The shortest interval: a thousand messages a second."""


class Firing(NamedTuple):
    """One instant of a schedule: its number, counted from 1, and when it is."""

    number: int
    when: float


class Schedule(Protocol):
    """A rule that names instants."""

    def next(self, firing: Firing) -> Firing | None:
        """Return the firing after this one; None: there is no more."""

    def past(self, firing: Firing, now: float, limit: int) -> Past:
        """Look at what is due by `now`, from `firing` (which is) on; keep the latest `limit`."""


class Past(NamedTuple):
    """What lies behind: the latest firings (oldest first), what comes next, how many in all."""

    due: list[Firing]
    upcoming: Firing | None
    total: int


class Once:
    """A single instant."""

    def next(self, firing: Firing) -> Firing | None:
        """Return None: there is no second one."""
        return None

    def past(self, firing: Firing, now: float, limit: int) -> Past:
        """Return the one instant."""
        return Past([firing][:limit], None, 1)


class Interval:
    """Every `interval_s` seconds; `anchor` is the instant of firing number 1.

    Args:
        interval_s: Seconds between firings, at least a millisecond.
        anchor: UTC seconds of the first firing.
    """

    def __init__(self, interval_s: float, anchor: float) -> None:
        if not interval_s >= MIN_INTERVAL_S:
            raise BadPayload(
                f"an interval of {interval_s:g} s is too short",
                hint="use 1ms or more",
                at="interval",
            )
        self.interval_s = interval_s
        self.anchor = anchor

    def at(self, number: int) -> float:
        """Return when firing `number` is due."""
        return self.anchor + (number - 1) * self.interval_s

    def next(self, firing: Firing) -> Firing | None:
        """Return the firing after this one."""
        return Firing(firing.number + 1, self.at(firing.number + 1))

    def past(self, firing: Firing, now: float, limit: int) -> Past:
        """Divide: a year of missed seconds costs no more than one."""
        last = max(firing.number, int((now - self.anchor) / self.interval_s) + 1)
        while last > firing.number and self.at(last) > now:  # the division was rounded up
            last -= 1
        while self.at(last + 1) <= now:
            last += 1
        first = max(firing.number, last - limit + 1)
        due = [Firing(number, self.at(number)) for number in range(first, last + 1)]
        return Past(due, Firing(last + 1, self.at(last + 1)), last - firing.number + 1)


class Cron:
    """A cron expression on the wall clock of a time zone.

    Args:
        expression: Five fields (`minute hour day month weekday`), or six with seconds
            first; names, ranges, steps, `L` and `#` as cronsim has them.
        timezone: A name of the IANA database, such as `Europe/Berlin`.

    Raises:
        BadPayload: No such expression, or no such time zone.
    """

    def __init__(self, expression: str, timezone: str = "UTC") -> None:
        self.expression = expression
        self.timezone = timezone
        self._zone = _zone(timezone)
        self._check()

    def _check(self) -> None:
        from cronsim import CronSim, CronSimError

        try:
            next(CronSim(self.expression, datetime(2000, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise BadPayload(
                f"{self.expression!r} is no cron expression: {error}",
                hint="minute hour day month weekday, as in '*/15 8-18 * * MON-FRI'",
                at="expression",
            ) from None
        except StopIteration:
            raise BadPayload(
                f"{self.expression!r} never comes",
                hint="is there such a day in such a month?",
                at="expression",
            ) from None

    def instants(self, after: float) -> Iterator[float]:
        """Yield the instants after `after`, each once, rising."""
        from cronsim import CronSim

        start = datetime.fromtimestamp(after, UTC).astimezone(self._zone)
        for when in CronSim(self.expression, start):
            instant = when.timestamp()
            if instant > after:
                yield instant
                after = instant

    def after(self, now: float) -> float | None:
        """Return the first instant after `now`; None if none comes within 50 years."""
        return next(self.instants(now), None)

    def next(self, firing: Firing) -> Firing | None:
        """Return the firing after this one."""
        instant = self.after(firing.when)
        return None if instant is None else Firing(firing.number + 1, instant)

    def past(self, firing: Firing, now: float, limit: int) -> Past:
        """Count one instant at a time, for they cannot be computed otherwise.

        Beyond `CRON_LIMIT` it stops counting and goes on from `now`.
        """
        due = deque([firing], limit)
        number = firing.number
        upcoming: Firing | None = None
        for instant in self.instants(firing.when):
            if instant > now:
                upcoming = Firing(number + 1, instant)
                break
            if number - firing.number >= CRON_LIMIT:
                later = self.after(now)
                upcoming = None if later is None else Firing(number + 1, later)
                break
            number += 1
            due.append(Firing(number, instant))
        return Past(list(due), upcoming, number - firing.number + 1)


def owed(
    schedule: Schedule, firing: Firing, now: float, missed: Missed
) -> tuple[list[Firing], Firing | None, int]:
    """Decide what to fire after a pause, and what comes next.

    Args:
        schedule: The rule.
        firing: The next firing as it was planned; it may be long past.
        now: The present instant.
        missed: What to do about firings before the present one.

    Returns:
        The firings to make good now (oldest first), the next one to wait for (None:
        the task is over), and how many were missed for good. With `once` the number of
        the latest is used, so that every firing keeps its own number.
    """
    if firing.when > now:
        return [], firing, 0
    past = schedule.past(firing, now, {"once": 1, "all": ALL_LIMIT, "skip": 0}[missed])
    return past.due, past.upcoming, past.total - len(past.due)


def first_owed(
    schedule: Schedule, firing: Firing, now: float, limit: int
) -> tuple[list[Firing], Firing | None]:
    """Return the first `limit` firings that are due, and the one after them (None: no more).

    For whoever must not miss any: what is left over is asked for again.
    """
    found: list[Firing] = []
    upcoming: Firing | None = firing
    while upcoming is not None and upcoming.when <= now and len(found) < limit:
        found.append(upcoming)
        upcoming = schedule.next(upcoming)
    return found, upcoming


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise BadPayload(
            f"{name!r} is no time zone", hint="as UTC or Europe/Berlin", at="timezone"
        ) from None
