"""A clockwork: nested gears that are turned by hand, a tick at a time or a trillion.

A gear turns once for every `ratio` turns of its parent, or for every `ratio` ticks if it has
none. Turns are exact fractions, so no tick is ever lost to rounding, and ticking costs what
there are gears, however many ticks. Nothing happens by itself: for gears that run and tell
others, there is the antikythera daemon.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypedDict

from dan9.base.errors import BadPayload, Exists, NotFound
from dan9.devices.device import VirtualDevice
from dan9.kernel.daemon import Config, on

__all__ = ["ClockworkDevice", "GearPosition"]


class GearPosition(TypedDict):
    """Where one gear stands, in the reply of `read`."""

    name: str
    ratio: Fraction
    parent: str | None
    turns: Fraction
    angle_deg: float


class GearState(TypedDict):
    """One gear as it is saved."""

    ratio: Fraction
    parent: str | None
    begun_at: int


class ClockworkDevice(VirtualDevice, type="clockwork"):
    """Turns nested gears, exactly."""

    kind: Config[str] = "clockwork"
    ticks: int = 0
    """Ticks since the beginning."""
    gears: dict[str, GearState] = {}
    """The gears in the order they were added."""

    @on
    def add_gear(self, name: str, ratio: Fraction, parent: str | None = None) -> int:
        """Add a gear, at rest where it stands; reply how many there are.

        Args:
            name: The gear's.
            ratio: Turns of the parent, or ticks, for one turn of this gear: a number, or a
                fraction as text (the Moon under the year: "19/254"). Negative: the other way.
            parent: The gear that drives it; none: the ticks.

        Errors: exists, not-found (the parent), bad-payload.
        """
        if not name:
            raise BadPayload("a gear needs a name", at="payload.name")
        if name in self.gears:
            raise Exists(f"the gear {name!r} is there already", hint="choose another name")
        if not ratio:
            raise BadPayload(
                "a ratio of 0 would turn for ever", at="payload.ratio", hint='60, or "19/254"'
            )
        if parent is not None and parent not in self.gears:
            raise self._missing(parent)
        gear: GearState = {"ratio": Fraction(ratio), "parent": parent, "begun_at": self.ticks}
        self.gears = {**self.gears, name: gear}
        return len(self.gears)

    @on
    def remove_gear(self, name: str) -> int:
        """Take a gear out; reply how many are left.

        Errors: not-found, bad-payload (it drives another).
        """
        if name not in self.gears:
            raise self._missing(name)
        driven = [one for one, gear in self.gears.items() if gear["parent"] == name]
        if driven:
            raise BadPayload(
                f"{name} drives {', '.join(driven)}", at="payload.name", hint="remove those first"
            )
        self.gears = {one: gear for one, gear in self.gears.items() if one != name}
        return len(self.gears)

    @on
    async def tick(self, ticks: int = 1) -> dict[str, int]:
        """Tick; reply how many turns each gear completed, forwards less backwards.

        Every tick is an event, `tick`, with the gears that completed a turn.

        Errors: bad-payload (ticks is negative).
        """
        if ticks < 0:
            raise BadPayload(f"ticks is {ticks}", at="payload.ticks", hint="0 or more")
        before = {name: self._turns(name).__floor__() for name in self.gears}
        self.ticks += ticks
        counts = {name: self._turns(name).__floor__() - before[name] for name in self.gears}
        turned = {name: count for name, count in counts.items() if count}
        await self._happen("tick", {"ticks": ticks, "turned": turned})
        return counts

    @on
    def read(self) -> list[GearPosition]:
        """Return where every gear stands."""
        out: list[GearPosition] = []
        for name, gear in self.gears.items():
            turns = self._turns(name)
            out.append(
                {
                    "name": name,
                    "ratio": gear["ratio"],
                    "parent": gear["parent"],
                    "turns": turns,
                    "angle_deg": float(turns % 1 * 360),
                }
            )
        return out

    def on_status(self) -> dict[str, object]:
        """Add the ticks and the number of gears."""
        return {**super().on_status(), "ticks": self.ticks, "gears": len(self.gears)}

    def _turns(self, name: str) -> Fraction:
        """Return a gear's turns since it was added."""
        own = self.gears[name]
        rate = Fraction(1)
        gear: GearState | None = own
        while gear is not None:
            rate /= gear["ratio"]
            parent = gear["parent"]
            gear = None if parent is None else self.gears[parent]
        return rate * (self.ticks - own["begun_at"])

    def _missing(self, name: str) -> NotFound:
        there = ", ".join(self.gears) or "none"
        return NotFound(f"no gear {name!r}", hint=f"there are: {there}")
