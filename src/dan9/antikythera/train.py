"""A train of gears, exact over any number of ticks. Pure: it tells nobody and has no clock.

Prior art: discrete-event simulation (a heap of next events; SimPy), and the Antikythera
mechanism, whose ratios are fractions of tooth counts. What we chose:

- A gear makes num/den turns a base tick. Firing j of an event every k turns that was
  registered after `off` turns falls at (off + j*k) * den/num ticks after the gear was put in.
- Scaled by L, the lcm of the numerators, these instants are whole numbers, so the heap
  compares integers and nothing ever drifts. Instant and rank are packed into one integer
  (instant * M + rank), which the heap compares at once.
- Cost follows the firings, never the ticks: 10**12 ticks with a thousand firings take a
  millisecond; a loop over the ticks would take half a day.

Order: the exact instant; then the finer gear (more turns a tick); then the gear that was
registered first; then the event that was. An instant between two ticks is told with the
tick at which it is seen, ceil(instant).

What would change our mind: ratios whose lcm is astronomically large (limit `SCALE_BITS`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from math import lcm
from typing import Any, NamedTuple

from dan9.antikythera.gear import Event, Gear, GearRecord, ratio_of
from dan9.base.errors import BadPayload, Conflict, Exists, NotFound

__all__ = ["SCALE_BITS", "Firing", "Train"]

SCALE_BITS = 4096
"""How many bits the common denominator may have; 20 arbors of the real mechanism need 58."""


class Firing(NamedTuple):
    """One firing of one event.

    Attributes:
        tick: The base tick at which it is seen: ceil of the instant.
        event: The event.
        turns: The gear's whole turns at that instant, since it was put in.
        key, scale: The exact instant is key/scale.
    """

    tick: int
    event: Event
    turns: int
    key: int
    scale: int

    @property
    def instant(self) -> Fraction:
        """The exact instant, in base ticks."""
        return Fraction(self.key, self.scale)


class Train:
    """Gears, their events, and how far they have turned.

    Args:
        gears: By name, in order of registration; kept, and changed in place.
        now: The base tick at which it stands.
    """

    def __init__(self, gears: dict[str, GearRecord] | None = None, now: int = 0) -> None:
        self.gears = {} if gears is None else gears
        self.now = now
        self._rates: dict[str, Fraction] = {}
        self._scale = 1
        self._ranks = 1
        self._events: list[Event] = []
        self._steps: list[int] = []
        self._heap: list[int] = []
        self._is_current = False

    # -- building ---------------------------------------------------------------------------

    def add(self, gear: Gear) -> int:
        """Put a gear in, at rest where it stands, and those above it that are not in yet.

        Returns how many gears there are.

        Raises:
            Exists: There is one of its name, with another ratio or parent if it is one above.
            NotFound: The parent, given by name, is not there.
        """
        chain = gear.chain()
        for one in chain:
            known = self.gears.get(one.name)
            if known is not None and (
                one is gear or (known.ratio, known.parent) != (one.ratio, one.parent_name)
            ):
                raise Exists(
                    f"the gear {one.name!r} is there already",
                    hint="choose another name, or unregister it first",
                    at="payload.name",
                )
        top = chain[0].parent_name
        if top is not None:
            self._gear(top)
        for one in chain:
            if one.name not in self.gears:
                ratio = ratio_of(one.ratio)
                self.gears[one.name] = GearRecord(one.name, ratio, one.parent_name, self.now)
        self._is_current = False
        return len(self.gears)

    def remove(self, name: str) -> int:
        """Take a gear out, its events with it; return how many events these were.

        Raises:
            NotFound: There is no such gear.
            Conflict: It drives another.
        """
        record = self._gear(name)
        driven = [one.name for one in self.gears.values() if one.parent == name]
        if driven:
            raise Conflict(
                f"{name} drives {', '.join(driven)}", hint="unregister those first", at="gear-name"
            )
        del self.gears[name]
        self._rates.pop(name, None)
        self._is_current = False
        return len(record.events)

    def on(self, gear: str, name: str, interval: int = 1, **what: Any) -> Event:
        """Have an event every `interval` turns of a gear, counted from its last whole turn.

        Raises:
            NotFound: There is no such gear.
            Exists: The gear has an event of this name.
            BadPayload: The interval is no whole number from 1, or the common denominator
                would be longer than `SCALE_BITS`.
        """
        record = self._gear(gear)
        given: object = interval
        if isinstance(given, bool) or not isinstance(given, int) or interval < 1:
            raise BadPayload(
                f"interval is {interval!r}",
                hint="whole turns, 1 or more; for less, register a finer gear",
                at="payload.interval",
            )
        if not name:
            raise BadPayload("an event needs a name", at="payload.event-name")
        if name in record.events:
            raise Exists(
                f"the gear {gear} has an event {name!r}",
                hint="cancel it first, or choose another name",
                at="payload.event-name",
            )
        event = Event(gear, name, interval, self.turns(gear), 0, **what)
        record.events[name] = event
        if self._common().bit_length() > SCALE_BITS:
            del record.events[name]
            raise BadPayload(
                f"with {gear} the common denominator has more than {SCALE_BITS} bits",
                hint="use ratios with smaller or related numerators",
                at="payload.gear-name",
            )
        self._is_current = False
        return event

    def off(self, gear: str, name: str) -> Event:
        """Take an event away.

        Raises:
            NotFound: There is no such gear or event.
        """
        record = self._gear(gear)
        if name not in record.events:
            there = ", ".join(record.events) or "none"
            raise NotFound(
                f"the gear {gear} has no event {name!r}",
                hint=f"there are: {there}",
                at="event-name",
            )
        self._is_current = False
        return record.events.pop(name)

    # -- reading -----------------------------------------------------------------------------

    def rate(self, name: str) -> Fraction:
        """Return the turns a base tick, signed."""
        known = self._rates.get(name)
        if known is not None:
            return known
        # Not by recursion: a train may be deeper than Python's stack.
        path = [self._gear(name)]
        while path[-1].parent is not None and path[-1].parent not in self._rates:
            path.append(self._gear(path[-1].parent))
        top = path[-1].parent
        rate = Fraction(1) if top is None else self._rates[top]
        for record in reversed(path):
            rate /= record.ratio
            self._rates[record.name] = rate
        return rate

    def position(self, name: str, at: int | None = None) -> Fraction:
        """Return the turns since the gear was put in, signed and exact."""
        return self.rate(name) * ((self.now if at is None else at) - self._gear(name).since)

    def turns(self, name: str) -> int:
        """Return the whole turns since it was put in, whichever way it turns."""
        return int(abs(self.position(name)))

    def next_tick(self) -> int | None:
        """Return the base tick of the next firing; None if there are no events."""
        if not self._is_current:
            self._arrange()
        return -(-(self._heap[0] // self._ranks) // self._scale) if self._heap else None

    # -- turning -----------------------------------------------------------------------------

    def advance(self, ticks: int, callback: Callable[[Firing], object] | None = None) -> int:
        """Turn by `ticks`; call `callback` at every firing; return how many there were.

        The callback may add and remove gears and events.

        Raises:
            BadPayload: ticks is negative.
        """
        if ticks < 0:
            raise BadPayload(f"ticks is {ticks}", hint="0 or more", at="payload.ticks")
        count = 0
        for firing in self.firings(self.now + ticks):
            count += 1
            if callback is not None:
                callback(firing)
        return count

    def take(self, until: int, most: int) -> list[Firing]:
        """Turn to tick `until`, but no farther than `most` firings; return these."""
        return list(islice(self.firings(until), most))

    def firings(self, until: int) -> Iterator[Firing]:
        """Turn to tick `until`, from firing to firing; what is not iterated does not happen."""
        if not self._is_current:
            self._arrange()
        heap, steps, events = self._heap, self._steps, self._events
        ranks, scale = self._ranks, self._scale
        limit = (until * scale + 1) * ranks
        replace = heapq.heapreplace
        made = tuple.__new__  # half of what the named tuple's own costs
        while heap and heap[0] < limit:
            item = heap[0]
            key, rank = divmod(item, ranks)
            event = events[rank]
            replace(heap, item + steps[rank])
            event.fired += 1
            tick = -(-key // scale)
            self.now = max(self.now, tick)
            turns = event.offset + event.fired * event.interval
            yield made(Firing, (tick, event, turns, key, scale))
            if not self._is_current:
                self._arrange()
                heap, steps, events = self._heap, self._steps, self._events
                ranks, scale = self._ranks, self._scale
                limit = (until * scale + 1) * ranks
        self.now = max(self.now, until)

    # -- inside ------------------------------------------------------------------------------

    def _gear(self, name: str) -> GearRecord:
        record = self.gears.get(name)
        if record is None:
            there = ", ".join(list(self.gears)[:8]) or "none"
            raise NotFound(f"no gear {name!r}", hint=f"there are: {there}", at="gear-name")
        return record

    def _common(self) -> int:
        """Return the lcm of the numerators of the rates of gears with events."""
        common = 1
        for record in self.gears.values():
            if record.events:
                common = lcm(common, self.rate(record.name).numerator)
        return common

    def _arrange(self) -> None:
        """Make the heap anew: after the gears or events have changed, at the next turn."""
        scale = self._scale = self._common()
        records = [record for record in self.gears.values() if record.events]
        records.sort(key=lambda record: abs(self.rate(record.name)), reverse=True)  # stable
        self._events = [event for record in records for event in record.events.values()]
        ranks = self._ranks = max(1, len(self._events))
        heap: list[int] = []
        self._steps = []
        for record in records:
            rate = abs(self.rate(record.name))
            turn = rate.denominator * (scale // rate.numerator)  # one turn, in 1/scale ticks
            for event in record.events.values():
                upcoming = event.offset + (event.fired + 1) * event.interval
                key = record.since * scale + upcoming * turn
                heap.append(key * ranks + len(heap))
                self._steps.append(event.interval * turn * ranks)
        heapq.heapify(heap)
        self._heap = heap
        self._is_current = True
