"""A clock that a gear drives: daemons live on it, and their time goes as the mechanism does.

The mechanism says where it stands and how fast it goes whenever that changes; in between the
clock goes by itself, on the clock that the mechanism stands on. Paused, it stands still; when
the mechanism advances by n ticks at once, it is taken from timer to timer.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

from dan9.antikythera.scheduler import Antikythera
from dan9.antikythera.timescale import unit_s
from dan9.base.errors import BadAddress, NotRunning
from dan9.kernel.clock import ScaledClock
from dan9.kernel.timers import Timer

__all__ = ["GearClock"]


class GearClock(ScaledClock):
    """Time as a gear of a running mechanism tells it, for `spawn(..., clock=...)`.

    It begins at 0 where the mechanism stands now, and its wall time at the system's. It stands
    still while the mechanism is paused, suspended or down, and never runs backwards: what a
    crash takes back of the mechanism's ticks it does not take back here.

    Args:
        mechanism: A ref to an antikythera of this system.
        gear: The gear; its ratio is taken as it is now, its sense does not matter.
        turn: The unit of time that one turn is; None: the one it is named after.

    Raises:
        BadAddress: That is no antikythera.
        NotRunning: It does not run, so nobody knows how its gears turn.
        NotFound: It has no such gear.
        BadPayload: There is no such unit.

    Example:
        day = Gear("day", 1440)                     # a base tick is a minute
        await gears.register_gear(day)
        model = await system.spawn(House, "model", clock=GearClock(gears, "day"))
        await gears.advance(7 * 1440)               # a week for the model and its children
    """

    def __init__(self, mechanism: Antikythera, gear: str, turn: str | None = None) -> None:
        cell = mechanism._d9_cell
        if not issubclass(cell.home.behaviour.cls, Antikythera):
            raise BadAddress(f"{cell.address} has no gears", hint="a ref to an antikythera")
        instance = cell.instance
        if not isinstance(instance, Antikythera):
            raise NotRunning(f"{cell.address} is not running", hint="start it first")
        super().__init__(instance.clock, 1.0)
        self.rate = 0.0  # from the first moment, until the mechanism says how fast it goes
        self.attach(instance.system.call_at)
        turn_s = unit_s(gear if turn is None else turn)
        self.tick_s: Fraction = turn_s * abs(instance.rate(gear))
        self._origin = Fraction(0)
        self.wake: Callable[[], object] | None = None
        """Whom a new timer concerns at once: a mechanism that goes from timer to timer."""
        instance.drive(self)

    def take_up(self, tick: float | Fraction) -> None:
        """Let the mechanism stand at `tick` now, without a jump here."""
        self._origin = Fraction(self.monotonic()) - Fraction(tick) * self.tick_s

    def moment(self, tick: float | Fraction) -> float:
        """Return the time here when the mechanism stands at `tick`."""
        return float(self._origin + Fraction(tick) * self.tick_s)

    def next_tick(self) -> Fraction | None:
        """Return where the mechanism stands when the next timer is due."""
        due = self.next_at()
        return None if due is None else (Fraction(due) - self._origin) / self.tick_s

    def turn(self, tick: float | Fraction, base: float, pace: float, end: int | None) -> None:
        """Go as the mechanism does.

        Args:
            tick: Where it stood ...
            base: ... at this time of the clock underneath.
            pace: Ticks a second there; 0: it stands.
            end: The tick at which it will pause.
        """
        limit = math.inf if end is None else self.moment(end)
        self.go_on(self.moment(tick), base, float(self.tick_s) * pace, limit)

    def call_at(self, when: float, callback: Callable[[], object] | Timer) -> Timer:
        """Call or fire at a moment of this clock, whatever the mechanism does until then."""
        timer = super().call_at(when, callback)
        if self.wake is not None:
            self.wake()
        return timer

    def ring_at(self, tick: float | Fraction) -> None:
        """Stand at `tick`, and call what is due there."""
        self.ring(self.moment(tick))
