"""Nested gears that tell time: exact rational trains, time scales, and the daemon on them."""

from dan9.antikythera.gear import Event, Gear, GearRecord
from dan9.antikythera.gearclock import GearClock
from dan9.antikythera.scheduler import Advanced, Antikythera
from dan9.antikythera.timescale import UNITS, TimeScale, convert, unit_s
from dan9.antikythera.train import Firing, Train

__all__ = [
    "UNITS",
    "Advanced",
    "Antikythera",
    "Event",
    "Firing",
    "Gear",
    "GearClock",
    "GearRecord",
    "TimeScale",
    "Train",
    "convert",
    "unit_s",
]
