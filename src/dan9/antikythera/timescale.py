"""Time scales: so much model time in so much real time, exactly.

`TimeScale("year", "day")` lets a year pass in a day. Factors are fractions of the units'
lengths; a year is 365 days here, as in the gears year, day, hour, minute.
A subtree of daemons lives on a scale when it is spawned with `clock=scale.clock(system.clock)`:
its `self.sleep`, `@every`, `@cron` and timers follow, and so they do when the clock's rate is set
anew. For a subtree that follows a running mechanism there is `GearClock`.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from dan9.base.errors import BadPayload
from dan9.kernel.clock import ScaledClock

if TYPE_CHECKING:
    from dan9.antikythera.train import Train
    from dan9.base.ports import Clock

__all__ = ["UNITS", "TimeScale", "convert", "unit_s"]

UNITS: dict[str, int] = {
    "second": 1,
    "minute": 60,
    "hour": 3600,
    "day": 86_400,
    "week": 7 * 86_400,
    "month": 30 * 86_400,
    "year": 365 * 86_400,
    "decade": 10 * 365 * 86_400,
    "century": 100 * 365 * 86_400,
}
"""Units and their seconds: a month has 30 days, a year 365."""


def unit_s(unit: str) -> int:
    """Return the seconds of a unit, singular or plural.

    Raises:
        BadPayload: There is no such unit.
    """
    name = "century" if unit == "centuries" else unit.removesuffix("s")
    if name not in UNITS:
        raise BadPayload(f"{unit!r} is no unit of time", hint="one of " + ", ".join(UNITS))
    return UNITS[name]


def convert(amount: Fraction | float, source: str, target: str) -> Fraction:
    """Return an amount of one unit in another, exactly: 1 year is 8760 hours."""
    return Fraction(amount) * unit_s(source) / unit_s(target)


@dataclass(frozen=True, slots=True)
class TimeScale:
    """Model time against real time.

    Attributes:
        model: The unit of model time ...
        real: ... that passes in this unit of real time.
        amount: How many of the model's units; "30 days in an hour" is ("day", "hour", 30).

    Example:
        TimeScale("year", "day").to_real(3600)        # an hour of the model: 9.863 s
        TimeScale("day", "hour").clock(system.clock)  # 24 seconds a second
    """

    model: str
    real: str
    amount: Fraction | int = 1

    def __post_init__(self) -> None:
        unit_s(self.model)
        unit_s(self.real)
        if not self.amount > 0:
            raise BadPayload(
                f"a time scale of {self.amount}", hint="above 0; to stop time, suspend the daemons"
            )

    @classmethod
    def of_gear(
        cls, train: Train, gear: str, turn: str, *, base_tick_ms: Fraction | int = 100
    ) -> TimeScale:
        """Return the scale on which one turn of a gear is one `turn` (a unit of time).

        So a subtree may be driven by a gear: a gear "day" that turns once in 144 base ticks
        of 100 ms makes a day of 14.4 s.
        """
        real_s = Fraction(base_tick_ms) / 1000 / abs(train.rate(gear))
        return cls(turn, "second", 1 / real_s)

    @property
    def factor(self) -> Fraction:
        """Model seconds per real second."""
        return Fraction(self.amount) * unit_s(self.model) / unit_s(self.real)

    def to_real(self, model_s: Fraction | float) -> Fraction:
        """Return the real seconds that so many seconds of the model take."""
        return Fraction(model_s) / self.factor

    def to_model(self, real_s: Fraction | float) -> Fraction:
        """Return the seconds of the model that pass in so many real ones."""
        return Fraction(real_s) * self.factor

    def clock(self, base: Clock) -> ScaledClock:
        """Return a clock on this scale, for `spawn(..., clock=...)`."""
        return ScaledClock(base, float(self.factor))
