"""A clockwork: nested gears that are turned by hand, a tick at a time or a trillion.

A gear turns once for every `ratio` turns of its parent, or for every `ratio` ticks if it has
none. Turns are exact fractions, so no tick is ever lost to rounding, and ticking costs what
there are gears, however many ticks. The arithmetic is the antikythera's; what the device adds
is a driver that hears the ticks. For gears that run by themselves and tell others, there is the
antikythera daemon.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TypedDict

from dan9.antikythera.gear import Gear, GearRecord
from dan9.antikythera.train import Train
from dan9.base.errors import BadPayload
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


class ClockworkDevice(VirtualDevice, type="clockwork"):
    """Turns nested gears, exactly."""

    kind: Config[str] = "clockwork"
    ticks: int = 0
    """Ticks since the beginning."""
    gears: dict[str, GearRecord] = {}
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
        return self._train().add(Gear(name, ratio, parent))

    @on
    def remove_gear(self, name: str) -> int:
        """Take a gear out; reply how many are left.

        Errors: not-found, conflict (it drives another).
        """
        self._train().remove(name)
        return len(self.gears)

    @on
    async def tick(self, ticks: int = 1) -> dict[str, int]:
        """Tick; reply how many turns each gear completed, whichever way it turns.

        Every call is an event, `tick`, with the gears that completed a turn.

        Errors: bad-payload (ticks is negative).
        """
        if ticks < 0:
            raise BadPayload(f"ticks is {ticks}", at="payload.ticks", hint="0 or more")
        train = self._train()
        before = {name: train.turns(name) for name in self.gears}
        train.advance(ticks)
        self.ticks = train.now
        counts = {name: train.turns(name) - before[name] for name in self.gears}
        turned = {name: count for name, count in counts.items() if count}
        await self._happen("tick", {"ticks": ticks, "turned": turned})
        return counts

    @on
    def read(self) -> list[GearPosition]:
        """Return where every gear stands."""
        train = self._train()
        out: list[GearPosition] = []
        for name, gear in self.gears.items():
            turns = train.position(name)
            out.append(
                {
                    "name": name,
                    "ratio": gear.ratio,
                    "parent": gear.parent,
                    "turns": turns,
                    "angle_deg": float(turns % 1 * 360),
                }
            )
        return out

    def on_status(self) -> dict[str, object]:
        """Add the ticks and the number of gears."""
        return {**super().on_status(), "ticks": self.ticks, "gears": len(self.gears)}

    def _train(self) -> Train:
        # Made anew for each message: a restored state is another dictionary.
        return Train(self.gears, self.ticks)
