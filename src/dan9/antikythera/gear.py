"""Gears: what turns how often for one turn of what.

A ratio is exact, a `Fraction`. A gear turns once for every `ratio` turns of its parent, or
for every `ratio` base ticks if it has none; a negative ratio turns the other way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from dan9.base.errors import BadPayload

__all__ = ["Event", "Gear", "GearRecord", "ratio_of"]


def ratio_of(value: object, at: str = "payload.ratio") -> Fraction:
    """Read a ratio: a whole number, a Fraction, or text such as "19/254".

    Raises:
        BadPayload: None of these; 0; or a float, which is seldom the fraction that was meant.
    """
    if isinstance(value, bool) or not isinstance(value, int | str | Fraction):
        raise BadPayload(
            f"{value!r} is no ratio", hint='a whole number, or a fraction as text: "19/254"', at=at
        )
    try:
        ratio = Fraction(value)
    except (ValueError, ZeroDivisionError):
        raise BadPayload(
            f"{value!r} is no ratio", hint='a whole number, or a fraction as text: "19/254"', at=at
        ) from None
    if not ratio:
        raise BadPayload("a ratio of 0 would turn for ever", hint='60, or "19/254"', at=at)
    return ratio


@dataclass(frozen=True, slots=True)
class Gear:
    """A gear as one writes it down.

    Attributes:
        name: Its name, unique in a train.
        ratio: Turns of the parent, or base ticks, for one turn; any form `ratio_of` reads.
        parent: The gear that drives it, or its name; None: the base tick.

    Example:
        minute = Gear("minute", 1)
        hour = Gear("hour", 60, parent=minute)
        moon = Gear("moon", "19/254", parent="year")
    """

    name: str
    ratio: Fraction | int | str
    parent: Gear | str | None = None

    def __post_init__(self) -> None:
        if not self.name:
            raise BadPayload("a gear needs a name", at="payload.name")
        object.__setattr__(self, "ratio", ratio_of(self.ratio))

    @property
    def parent_name(self) -> str | None:
        """The parent's name."""
        return self.parent.name if isinstance(self.parent, Gear) else self.parent

    def chain(self) -> list[Gear]:
        """Return this gear and the gears above it that it knows, the highest first."""
        found = [self]
        while isinstance(found[-1].parent, Gear):
            found.append(found[-1].parent)
        return found[::-1]


@dataclass(slots=True)
class Event:
    """What happens every `interval` turns of a gear.

    Attributes:
        gear: The gear's name.
        name: Its own, unique on its gear.
        interval: Turns from one firing to the next, 1 or more.
        offset: The gear's whole turns when it was registered; firing j is at turn
            offset + j * interval.
        fired: How often it has fired.
        target, type, payload: What is told to whom, where firings are told to daemons.
    """

    gear: str
    name: str
    interval: int = 1
    offset: int = 0
    fired: int = 0
    target: str = ""
    type: str = ""
    payload: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class GearRecord:
    """A gear in a train, as it is saved.

    Attributes:
        name, ratio, parent: As in `Gear`.
        since: The base tick at which it was put in; its turns count from there.
        events: By name, in order of registration.
    """

    name: str
    ratio: Fraction
    parent: str | None = None
    since: int = 0
    events: dict[str, Event] = field(default_factory=dict)
