"""Devices: whatever senses or acts, as a daemon with a driver."""

from dan9.devices.clockwork import ClockworkDevice
from dan9.devices.device import VirtualDevice
from dan9.devices.driver import Driver, Event
from dan9.devices.gesture import GestureDevice
from dan9.devices.sensor import Sensor
from dan9.devices.source import EvdevSource, EvemuSource, JsonSource, Source

__all__ = [
    "ClockworkDevice",
    "Driver",
    "EvdevSource",
    "EvemuSource",
    "Event",
    "GestureDevice",
    "JsonSource",
    "Sensor",
    "Source",
    "VirtualDevice",
]
