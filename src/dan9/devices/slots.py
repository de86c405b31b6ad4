"""What the kernel says of fingers on a pad, report by report, as samples.

Three ways of saying it: protocol B (slots, each with a tracking id), protocol A (one report a
finger, which has no name), and pads that know one finger only. Figures:
linux/input-event-codes.h, Documentation/input/multi-touch-protocol.rst.

This module is pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import count
from typing import Final, NamedTuple

from dan9.devices.intents import Sample

__all__ = [
    "ABS_X",
    "ABS_Y",
    "EV_ABS",
    "MT_X",
    "MT_Y",
    "Pad",
    "RawEvent",
    "Slots",
]

EV_SYN, EV_KEY, EV_ABS = 0x00, 0x01, 0x03
SYN_REPORT, SYN_MT_REPORT = 0, 2
BTN_TOUCH = 0x14A
BTN_TOOL_FINGERS: Final = {0x145: 1, 0x14D: 2, 0x14E: 3, 0x14F: 4, 0x148: 5}
"""How many fingers a pad counts, also where it has fewer slots (BTN_TOOL_TRIPLETAP, say)."""
ABS_X, ABS_Y, ABS_PRESSURE = 0x00, 0x01, 0x18
MT_SLOT, MT_X, MT_Y, MT_TRACKING_ID, MT_PRESSURE = 0x2F, 0x35, 0x36, 0x39, 0x3A
_AXES = {ABS_X: "x", ABS_Y: "y", ABS_PRESSURE: "z"}
_MULTI_AXES = {MT_X: "x", MT_Y: "y", MT_PRESSURE: "z"}


class RawEvent(NamedTuple):
    """One event of the kernel."""

    t: float
    type: int
    code: int
    value: int


@dataclass(slots=True)
class Pad:
    """What is known of a pad.

    Attributes:
        name: As the kernel names it.
        resolution: Units a millimetre, of x and y; 0 where the pad does not say.
        span: Units from edge to edge, of x and y; 0 where unknown.
    """

    name: str = ""
    resolution: tuple[float, float] = (0.0, 0.0)
    span: tuple[float, float] = (0.0, 0.0)

    @property
    def knows_millimetres(self) -> bool:
        """The pad says how large its units are."""
        return self.resolution[0] > 0

    @property
    def knows_anything(self) -> bool:
        """It says how large its units are, or at least how large itself is."""
        return self.knows_millimetres or self.span[0] > 0

    @property
    def scale(self) -> tuple[float, float]:
        """Units a millimetre, or, of a pad that does not say, units a hundredth of its width.

        A pad is some 100 mm wide, so the hundredth stands in for the millimetre; whoever
        uses it says so (`knows_millimetres`). A pad of which nothing is known is taken to
        report millimetres.
        """
        if self.knows_millimetres:
            x, y = self.resolution
            return x, y or x
        if self.span[0] > 0:
            return self.span[0] / 100, self.span[0] / 100
        return 1.0, 1.0


@dataclass(slots=True)
class _Finger:
    x: float | None = None
    y: float | None = None
    z: float = 0.0
    is_down: bool = False
    was_down: bool = False
    pointer: int = 0
    tracking: int = -1
    gone: list[int] = field(default_factory=list)
    """Pointers whose lifting was lost: another touched before it was told."""

    @property
    def place(self) -> tuple[float, float]:
        """Where it is; at the corner if that was not told."""
        return self.x or 0.0, self.y or 0.0


@dataclass(slots=True)
class Slots:
    """Turns the kernel's events into samples, report by report."""

    pad: Pad
    _fingers: dict[int, _Finger] = field(default_factory=dict)
    _slot: int = 0
    _is_multi: bool = False
    _has_ids: bool = False
    _anonymous: list[_Finger] = field(default_factory=list)
    _counted: int = 0
    _serial: int = 0

    def feed(self, event: RawEvent) -> list[Sample]:
        """Take one event; a report gives the samples of all fingers that changed."""
        kind, code, value = event.type, event.code, event.value
        if kind == EV_ABS:
            self._axis(code, value)
        elif kind == EV_KEY and code == BTN_TOUCH and not self._is_multi:
            self._press(self._finger(0), down=value != 0)
        elif kind == EV_KEY and code in BTN_TOOL_FINGERS:
            if value:
                self._counted = BTN_TOOL_FINGERS[code]
            elif self._counted == BTN_TOOL_FINGERS[code]:
                self._counted = 0
        elif kind == EV_SYN and code == SYN_MT_REPORT:
            # Protocol A: what was said so far is one finger, numbered by its place.
            finger = self._finger(0)
            if finger.x is not None:
                self._anonymous.append(_Finger(finger.x, finger.y, finger.z, is_down=True))
            finger.x = finger.y = None
            self._is_multi = True
        elif kind == EV_SYN and code == SYN_REPORT:
            # After SYN_DROPPED some are missing. What is said is true all the same, and a
            # finger whose lifting was lost is noticed when its slot is touched anew.
            return self._report(event.t)
        return []

    def _axis(self, code: int, value: int) -> None:
        if code == MT_SLOT:
            self._slot = value
            self._is_multi = True
        elif code == MT_TRACKING_ID:
            self._is_multi = self._has_ids = True
            finger = self._finger(self._slot)
            if value >= 0 and finger.is_down and finger.tracking != value:
                finger.gone.append(finger.pointer)
                finger.is_down = False
            finger.tracking = value
            self._press(finger, down=value >= 0)
        elif code in _MULTI_AXES:
            setattr(self._finger(self._slot), _MULTI_AXES[code], value)
        elif not self._is_multi and code in _AXES:
            setattr(self._finger(0), _AXES[code], value)

    def _finger(self, slot: int) -> _Finger:
        return self._fingers.setdefault(slot, _Finger())

    def _press(self, finger: _Finger, *, down: bool) -> None:
        if down and not finger.is_down:
            self._serial += 1
            finger.pointer = self._serial
        finger.is_down = down

    def _report(self, t: float) -> list[Sample]:
        if self._is_multi and not self._has_ids:
            self._number_anonymous()
        out = []
        for finger in self._fingers.values():
            if finger.x is None or finger.y is None:
                continue
            sx, sy = self.pad.scale
            x, y = finger.x / sx, finger.y / sy
            out += [Sample(t, x, y, finger.z, pointer, contact=False) for pointer in finger.gone]
            finger.gone.clear()
            if finger.is_down or finger.was_down:
                out.append(
                    Sample(t, x, y, finger.z, finger.pointer, finger.is_down, fingers=self._counted)
                )
            finger.was_down = finger.is_down
        return out

    def _number_anonymous(self) -> None:
        """Tell protocol A's fingers apart: each is the nearest of those that were there."""
        present, self._anonymous = self._anonymous, []
        there = {slot: finger for slot, finger in self._fingers.items() if finger.is_down}
        near = sorted(
            (math.dist(seen.place, finger.place), number, slot)
            for number, seen in enumerate(present)
            for slot, finger in there.items()
        )
        slots: dict[int, int] = {}
        for _, number, slot in near:
            if number not in slots and slot in there:
                slots[number] = slot
                del there[slot]
        free = (slot for slot in count(1) if slot not in slots.values() and slot not in there)
        for number, seen in enumerate(present):
            finger = self._finger(slots[number] if number in slots else next(free))
            finger.x, finger.y, finger.z = seen.x, seen.y, seen.z
            self._press(finger, down=True)
        for finger in there.values():
            finger.is_down = False
