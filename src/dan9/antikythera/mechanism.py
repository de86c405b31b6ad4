"""The Antikythera mechanism by its tooth counts: what each dial turns in a year, exactly.

Sources: T. Freeth et al., "Decoding the ancient Greek astronomical calculator known as the
Antikythera Mechanism", Nature 444 (2006) 587-591, and "Calendars with Olympiad display and
eclipse prediction on the Antikythera Mechanism", Nature 454 (2008) 614-617; the pin-and-slot's
measures as in Freeth et al., Scientific Reports 11 (2021) 5821. Several wheels do not survive
and are reconstructed by these authors (a1, n1 to n3, o1, p1, p2, q1 among them). b1 is 223 or
224 teeth; it cancels out of every dial.

Rates are turns a year as seen from the front, clockwise positive. Meshing wheels turn against
each other; those on the carrier e3 do so relative to it (R. Willis, Principles of Mechanism).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Final

__all__ = [
    "ANOMALISTIC",
    "ARBORS",
    "DIALS",
    "MESHES",
    "PIN_OFFSET_MM",
    "PIN_RADIUS_MM",
    "TEETH",
    "TROPICAL_YEAR_D",
    "pin_and_slot",
    "rates",
]

TEETH: Final[dict[str, int]] = {
    "a1": 48, "b1": 223, "b2": 64, "b3": 32, "c1": 38, "c2": 48, "d1": 24, "d2": 127,
    "e1": 32, "e2": 32, "e3": 223, "e4": 188, "e5": 50, "e6": 50, "k1": 50, "k2": 50,
    "l1": 38, "l2": 53, "m1": 96, "m2": 15, "m3": 27, "n1": 53, "n2": 57, "n3": 15, "o1": 60,
    "p1": 60, "p2": 12, "q1": 60, "f1": 53, "f2": 30, "g1": 54, "g2": 20, "h1": 60, "h2": 15,
    "i1": 60,
}  # fmt: skip
"""Teeth of each wheel."""

ARBORS: Final[dict[str, tuple[str, ...]]] = {
    "crank": ("a1",),
    "year": ("b1", "b2"),
    "c": ("c1", "c2"),
    "d": ("d1", "d2"),
    "e": ("e2", "e5"),
    "carrier": ("e3", "e4"),
    "k": ("k1",),
    "k'": ("k2",),
    "e'": ("e6", "e1"),
    "moon": ("b3",),
    "l": ("l1", "l2"),
    "m": ("m1", "m2", "m3"),
    "metonic": ("n1", "n2", "n3"),
    "olympiad": ("o1",),
    "p": ("p1", "p2"),
    "callippic": ("q1",),
    "f": ("f1", "f2"),
    "saros": ("g1", "g2"),
    "h": ("h1", "h2"),
    "exeligmos": ("i1",),
}
"""Which wheels sit on one arbor and turn together."""

MESHES: Final[tuple[tuple[str, str, str], ...]] = (
    ("b2", "c1", ""), ("c2", "d1", ""), ("d2", "e2", ""),  # towards the Moon
    ("b2", "l1", ""), ("l2", "m1", ""), ("m2", "n1", ""), ("m3", "e3", ""),
    ("e5", "k1", "carrier"), ("k2", "e6", "carrier"), ("e1", "b3", ""),
    ("n2", "o1", ""), ("n3", "p1", ""), ("p2", "q1", ""),  # the calendar
    ("e4", "f1", ""), ("f2", "g1", ""), ("g2", "h1", ""), ("h2", "i1", ""),  # eclipses
)  # fmt: skip
"""Wheel, the wheel it drives, and the arbor that carries them, if any."""

DIALS: Final[dict[str, Fraction]] = {
    "moon": Fraction(254, 19),
    "metonic": Fraction(-5, 19),
    "olympiad": Fraction(1, 4),
    "callippic": Fraction(-1, 76),
    "saros": Fraction(-940, 4237),
    "exeligmos": Fraction(-235, 12711),
}
"""What the dials must turn in a year; `rates` finds it from the teeth."""

ANOMALISTIC: Final = Fraction(56165, 4237)
"""Turns a year of the Moon as seen from the carrier, which follows its apse."""

PIN_OFFSET_MM: Final = 1.1
"""How far the arbor of k2 stands off that of k1."""
PIN_RADIUS_MM: Final = 9.6
"""How far the pin on k1 is from its arbor."""
TROPICAL_YEAR_D: Final = 365.2421897


def rates() -> dict[str, Fraction]:
    """Return the turns a year of every arbor, from the teeth alone."""
    arbor_of = {wheel: arbor for arbor, wheels in ARBORS.items() for wheel in wheels}
    # A crown wheel drives the year's: the only mesh across, so it keeps its sense.
    found = {"year": Fraction(1), "crank": Fraction(TEETH["b1"], TEETH["a1"])}
    waiting = list(MESHES)
    while waiting:
        later = []
        for driver, driven, carrier in waiting:
            one, other = arbor_of[driver], arbor_of[driven]
            if one in found and (not carrier or carrier in found):
                base = found[carrier] if carrier else Fraction(0)
                ratio = Fraction(TEETH[driver], TEETH[driven])
                found[other] = base - ratio * (found[one] - base)
                if other == "k":
                    found["k'"] = found["k"]  # by pin and slot: equal in the mean
            else:
                later.append((driver, driven, carrier))
        assert len(later) < len(waiting), f"nothing drives {later}"
        waiting = later
    return found


def pin_and_slot(angle: float) -> float:
    """Return where k2 stands, in radians, when k1 has turned by `angle`.

    A pin on k1 slides in a slot of k2, whose arbor is a little aside: so k2 runs ahead and
    falls back by up to asin(1.1/9.6), 6.58 degrees, once a turn: the Moon's inequality.
    """
    turns = round(angle / math.tau)
    rest = angle - turns * math.tau
    seen = math.atan2(
        PIN_RADIUS_MM * math.sin(rest), PIN_RADIUS_MM * math.cos(rest) - PIN_OFFSET_MM
    )
    return seen + turns * math.tau
