"""The antikythera daemon: tells daemons what falls on the turns of nested gears.

The mechanism (`train.py`) is exact arithmetic; here it gets a clock and tells firings.
Live, one alarm of the kernel is set, for the next firing; nothing polls, whatever the speed.

The mechanism runs or is paused apart from the daemon: `run` and `pause` concern the gears.
What every daemon answers keeps its meaning and concerns the gears too: `suspend` also holds
them still (ticks do not pass for it), and `resume` also lets a paused mechanism go on, at the
speed it had. Messages to it are answered while it is paused, and wait while it is suspended.
"""

from __future__ import annotations

import asyncio
import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal, TypedDict
from weakref import WeakKeyDictionary

from dan9.antikythera.gear import Event, Gear, GearRecord
from dan9.antikythera.telling import Telling
from dan9.antikythera.train import Firing, Train
from dan9.base.errors import BadPayload, MailboxFull
from dan9.base.reasons import Reason
from dan9.kernel.daemon import Config, Daemon, on

if TYPE_CHECKING:
    from dan9.antikythera.gearclock import GearClock

__all__ = ["Advanced", "Antikythera"]

_BATCH = 256  # firings told before other messages to the mechanism get their turn
_FAR = 10**18  # ticks that "max" looks ahead
_FAR_S = 1e9  # alarms are set no farther ahead; a look that finds nothing due sets the next
_RETRY_S = 0.1
_ROUNDS = 100  # turns that others get to act on what fell, before a subtree's time goes on
_CLOSE = 1e-6  # of a tick: instants as floats are not better than this

Speed = float | Literal["max"]


class Advanced(TypedDict):
    """What `advance` replies: where the mechanism stands, and how many events fired."""

    total_ticks: int
    fired: int


class Antikythera(Daemon, type="antikythera", checkpoint="on-change"):
    """Runs nested gears, exactly, at any speed, and tells daemons the events on their turns."""

    base_tick_ms: Config[float] = 100.0
    """How long a base tick is at speed 1."""
    speed: Config[float | str | None] = None
    """The speed at which it runs from the start; None: paused until `run`."""

    total_ticks: int = 0
    gears: dict[str, GearRecord] = {}
    pace: Speed = 0.0
    """The speed it runs at; 0: paused."""
    last_pace: Speed = 1.0
    end: int | None = None
    """The tick at which it pauses by itself."""
    fired: int = 0
    undelivered: int = 0

    async def on_start(self) -> None:
        """Take up the gears where they stood, and run if it ran."""
        if not 0 < self.base_tick_ms < float("inf"):
            raise BadPayload(
                f"base-tick-ms is {self.base_tick_ms}", hint="above 0", at="base-tick-ms"
            )
        self._train = Train(self.gears, self.total_ticks)
        self._telling = Telling(self, self._lost)
        self._alarm: Any = None
        self._is_looking = False
        self._is_held = False
        self._is_turning = False
        self._from_tick: float | Fraction = self.total_ticks
        self._from_s = self._now_s()
        if self.speed is not None and self.pace == 0:
            self.pace = _checked(self.speed)
        # Clocks outlive the incarnation, as the daemons do whose clocks they are.
        cold = self._d9_cell.chill()
        cold.drives = cold.drives or WeakKeyDictionary()
        self._clocks: WeakKeyDictionary[GearClock, None] = cold.drives
        for clock in self._clocks:
            clock.take_up(self.total_ticks)
        self._set_alarm()

    async def on_stop(self, reason: Reason) -> None:
        """Set no more alarms; the ticks that have passed are kept."""
        if self._alarm is not None:
            self._alarm.cancel()
        for clock in self._clocks:
            clock.set_rate(0)

    def on_status(self) -> dict[str, object]:
        """Add what the mechanism does and how far each gear has turned."""
        now = self._tick_now()
        train = self._train
        return {
            "mechanism": "running" if self.pace else "paused",
            "speed": self.pace,
            "total-ticks": now,
            "next-tick": train.next_tick(),
            "fired": self.fired,
            "undelivered": self.undelivered,
            "gears": [
                {
                    "name": gear.name,
                    "ratio": str(gear.ratio),
                    "parent": gear.parent,
                    "ticks": int(abs(train.position(gear.name, now))),
                    "events": list(gear.events),
                }
                for gear in self.gears.values()
            ],
        }

    # -- gears and events ---------------------------------------------------------------------

    @on
    def register_gear(
        self,
        name: str | Gear,
        ratio: Fraction | None = None,
        parent: str | None = None,
    ) -> int:
        """Put a gear in; reply how many there are.

        It turns once for every `ratio` turns of `parent`, or base ticks: a whole number or a
        fraction as text ("19/254"); negative: the other way. In Python a `Gear` may be given
        instead; those above it are put in with it. Errors: exists not-found bad-payload.
        """
        if isinstance(name, Gear):
            if ratio is not None or parent is not None:
                raise BadPayload("a Gear has its ratio and parent", at="payload.ratio")
            gear = name
        elif ratio is None:
            raise BadPayload(
                f"the gear {name!r} needs a ratio", hint='60, or "19/254"', at="payload.ratio"
            )
        else:
            gear = Gear(name, ratio, parent)
        self._catch_up()
        count = self._train.add(gear)
        self._set_alarm()
        return count

    @on
    def unregister_gear(self, gear_name: str) -> int:
        """Take a gear out, its events with it; reply how many events these were.

        Errors: not-found, conflict (it drives another).
        """
        self._catch_up()
        count = self._train.remove(gear_name)
        self._set_alarm()
        return count

    @on
    def register_event(
        self,
        gear_name: str,
        event_name: str,
        interval: int,
        target: str,
        type: str,
        payload: dict[str, Any] | None = None,
    ) -> int | None:
        """Tell `target` a message every `interval` whole turns of a gear, from now on.

        Beside the payload the target is told, as far as its handler takes these keys: `tick`
        (the base tick), `turns` (the gear's), `gear` and `event`. Replies the next tick at
        which any event fires. Errors: not-found exists bad-payload.
        """
        if not target or not type:
            at = "type" if target else "target"
            raise BadPayload(f"{at} is empty", hint="whom to tell what?", at=f"payload.{at}")
        self._catch_up()
        self._train.on(
            gear_name, event_name, interval, target=target, type=type, payload=payload or {}
        )
        self._set_alarm()
        return self._train.next_tick()

    @on
    def cancel_event(self, gear_name: str, event_name: str) -> int:
        """Tell an event no more; reply how often it fired. Errors: not-found."""
        event = self._train.off(gear_name, event_name)
        self._set_alarm()
        return event.fired

    # -- turning ------------------------------------------------------------------------------

    @on(timeout_s=None)
    async def advance(self, ticks: int) -> Advanced:
        """Turn by `ticks` at once, and tell every event that falls on the way, in order.

        Costs what the events cost that fire; a target whose mailbox is full is waited for.
        Errors: bad-payload (ticks is negative).
        """
        if ticks < 0:
            raise BadPayload(f"ticks is {ticks}", hint="0 or more", at="payload.ticks")
        self._catch_up()
        before = self.fired
        until = Fraction(self._from_tick) + ticks  # parts of a tick are kept
        while await self._turn(until, drives=True) >= _BATCH:
            pass
        self._stand_at(until)
        self._set_alarm()
        return {"total_ticks": self._train.now, "fired": self.fired - before}

    @on
    def run(self, speed: float | str | None = None, ticks: int | None = None) -> str:
        """Run live; reply "running".

        `speed` 1 is a base tick every `base-tick-ms`, 60 sixty times that, "max" as fast as
        the events can be told; left out: as before. With `ticks` it pauses after so many.
        Errors: bad-payload.
        """
        pace = self.last_pace if speed is None else _checked(speed)
        if ticks is not None and ticks < 1:
            raise BadPayload(f"ticks is {ticks}", hint="1 or more", at="payload.ticks")
        self._catch_up()
        self.pace = self.last_pace = pace
        self.end = None if ticks is None else self._train.now + ticks
        self._set_alarm()
        return "running"

    @on
    def pause(self) -> str:
        """Hold the gears where they are, until `run` or `resume`; reply "paused"."""
        self._catch_up()
        self.pace = 0.0
        self._set_alarm()
        return "paused"

    @on(timeout_s=None)
    async def look(self) -> int:
        """Tell what is due; reply how many events that were. The mechanism tells itself so."""
        self._is_looking = False
        if not self.pace or self._is_held:
            return 0
        count = await self._turn(self._due(), drives=self.pace == "max")
        if self._train.now == self.end:
            self.pace, self.end = 0.0, None
            self._stand_at(self._train.now)
        if self.pace == "max":
            self._from_tick = max(self._from_tick, self._train.now)
        self._sync()
        self._set_alarm()
        return count

    # -- clocks of subtrees ---------------------------------------------------------------------

    def rate(self, gear: str) -> Fraction:
        """Return the turns that a gear makes a tick, signed."""
        return self._train.rate(gear)

    def drive(self, clock: GearClock) -> None:
        """Drive a clock from now on; it is let go when nobody lives on it any more."""
        self._catch_up()
        clock.take_up(self._place())
        self._clocks[clock] = None
        self._set_alarm()

    # -- turning --------------------------------------------------------------------------------

    async def _turn(self, until: int | Fraction | None, *, drives: bool) -> int:
        """Turn and tell what falls, at most `_BATCH` or a little more; reply how much.

        Args:
            until: The tick, or part of one; None: as far as there is something to fall.
            drives: Clocks are taken along; False: they go by themselves.
        """
        self._telling.forget()
        if drives and self._clocks:
            return await self._turn_with(list(self._clocks), until)
        if until is None:
            upcoming = self._train.next_tick()
            until = self._train.now if upcoming is None else upcoming + _FAR
        count = await self._tell(self._train.take(_whole(until), _BATCH))
        if count == _BATCH:
            await asyncio.sleep(0)  # everybody else first
        return count

    async def _turn_with(self, clocks: list[GearClock], until: int | Fraction | None) -> int:
        """Turn from instant to instant; what one sets off is over before time goes on."""
        train = self._train
        far = math.inf if until is None else until + Fraction(_CLOSE)
        count = 0
        self._is_turning = True
        try:
            while count < _BATCH:
                rings = [tick for clock in clocks if (tick := clock.next_tick()) is not None]
                ring = max(min(rings), self._from_tick) if rings else math.inf
                upcoming = train.next_tick()
                event = math.inf if upcoming is None else upcoming
                if min(ring, event) > far or min(ring, event) == math.inf:
                    if until is not None:
                        train.advance(_whole(until) - train.now)
                        self._stand_at(until)
                    break
                if event <= ring + _CLOSE:
                    assert upcoming is not None
                    self._stand_at(upcoming)
                    count += await self._tell(train.take(upcoming, _BATCH))
                else:
                    assert isinstance(ring, Fraction | int | float)
                    train.advance(max(0, _whole(ring) - train.now))
                    self._stand_at(ring)
                    for clock in clocks:
                        clock.ring_at(ring)
                    count += 1
                await self._settle()
        finally:
            self._is_turning = False
        return count

    async def _settle(self) -> None:
        """Let everybody act on what has fallen, until nobody has anything to do."""
        scheduler = self.system.scheduler
        idle = 0
        for _ in range(_ROUNDS):
            await asyncio.sleep(0)
            idle = idle + 1 if scheduler.run_first is None and not scheduler.control else 0
            if idle == 2:  # once more for what came by way of the event loop
                break
        self._telling.forget()

    async def _tell(self, firings: list[Firing]) -> int:
        """Tell firings to their targets; return how many they are."""
        tell = self._telling.tell
        for firing in firings:
            for message in tell(firing):
                await self._telling.wait_for_room(firing.event, message)
        self.fired += len(firings)
        return len(firings)

    def _lost(self, event: Event, target: str, reason: str) -> None:
        self.undelivered += 1
        self.log.warning(
            "%s of %s: %s was not told %s: %s", event.name, event.gear, target, event.type, reason
        )

    # -- the clock ------------------------------------------------------------------------------

    def _now_s(self) -> float:
        return self.clock.monotonic()

    def _tick_s(self) -> float:
        """Return how long a tick lasts now, on the clock of the mechanism."""
        assert isinstance(self.pace, float)
        return self.base_tick_ms / 1000 / self.pace

    def _place(self) -> float | Fraction:
        """Return where the mechanism stands, in ticks and parts of one."""
        if not self.pace or self.pace == "max" or self._is_held or self._is_turning:
            return self._from_tick
        return self._from_tick + (self._now_s() - self._from_s) / self._tick_s()

    def _tick_now(self) -> int:
        """Return the last whole tick, but none beyond an event that has not been told."""
        tick = int(self._place() + _CLOSE)
        if self.end is not None:
            tick = min(tick, self.end)
        upcoming = self._train.next_tick()
        if upcoming is not None:
            tick = min(tick, upcoming - 1)
        return max(tick, self._train.now)

    def _due(self) -> int | None:
        """Return the tick up to which events are due; None: all there are."""
        if self.pace == "max":
            return self.end
        tick = int(self._place() + _CLOSE)
        return max(self._train.now, tick if self.end is None else min(tick, self.end))

    def _catch_up(self) -> None:
        """Let the ticks that have passed be passed, so that what is told now counts from now."""
        if self._is_turning:
            return
        place = self._place()
        tick = self._tick_now()
        self._train.advance(tick - self._train.now)
        self._from_tick = place if tick <= place < tick + 1 else tick
        self._from_s = self._now_s()
        self._sync()

    def _stand_at(self, tick: float | Fraction) -> None:
        """Be at a tick now; the clocks of subtrees with it."""
        self._from_tick, self._from_s = tick, self._now_s()
        self._drive()
        self._sync()

    def _sync(self) -> None:
        self.total_ticks = self._train.now

    def _drive(self) -> None:
        """Have the clocks of subtrees go as the gears do."""
        goes = bool(self.pace) and not self._is_held and not self._is_turning
        pace = 1 / self._tick_s() if goes and self.pace != "max" else 0.0
        for clock in self._clocks:
            clock.turn(self._from_tick, self._from_s, pace, self.end)
            clock.wake = self._look_soon if goes and self.pace == "max" else None

    def _set_alarm(self) -> None:
        """Have the kernel call at the next firing."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self._drive()
        if not self.pace or self._is_held or self._is_looking or self._is_turning:
            return
        upcoming = self._train.next_tick()
        if self.end is not None:
            upcoming = self.end if upcoming is None else min(upcoming, self.end)
        if self.pace == "max":
            if upcoming is not None or any(clock.next_at() is not None for clock in self._clocks):
                self._look_soon()
            return
        if upcoming is None:
            return
        wait = min((upcoming - self._from_tick) * self._tick_s(), _FAR_S)
        self._alarm = self.system.call_on(self._d9_cell, self._from_s + wait, self._look_soon)

    def _look_soon(self) -> None:
        """Tell oneself to look; once is enough."""
        if self._is_looking:
            return
        try:
            self.look.tell()
            self._is_looking = True
        except MailboxFull:
            at = self.system.clock.monotonic() + _RETRY_S
            self._alarm = self.system.call_at(at, self._look_soon)

    # -- what every daemon answers concerns the gears too ----------------------------------------

    def _d9_suspended(self) -> None:
        self._catch_up()
        self._is_held = True
        self._set_alarm()

    def _d9_resumed(self) -> None:
        if self._is_held:
            self._is_held = False
            self._from_s = self._now_s()
        if not self.pace:
            self._catch_up()
            self.pace = self.last_pace
        self._set_alarm()


def _whole(tick: float | Fraction) -> int:
    """Return the last whole tick."""
    return math.floor(tick + Fraction(_CLOSE))


def _checked(speed: float | str) -> Speed:
    """Return a speed that can be run at; a number may be text, as a shell writes it."""
    if speed == "max":
        return "max"
    try:
        number = float(speed)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise BadPayload(
            f"speed is {speed!r}", hint='above 0, or "max"; `pause` holds it', at="payload.speed"
        )
    return number
