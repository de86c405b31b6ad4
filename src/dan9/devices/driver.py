"""Drivers: plain objects with one method, which a device hands its events to.

A driver need not know of daemons: it is anything with `handle(event)`, sync or async, and what
it returns is the reply to whoever sent the event. From outside, where objects cannot be sent, a
driver is named as `module:Class` and made without arguments.
"""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from dan9.base.errors import BadPayload, NotFound

__all__ = ["Driver", "Event", "hand_over", "load_driver"]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened on a device.

    Attributes:
        type: What.
        data: The rest, as plain data.
        when: UTC seconds since 1970.
        device: The device's address.
    """

    type: str
    data: dict[str, Any] = field(default_factory=dict)
    when: float = 0.0
    device: str = ""


@runtime_checkable
class Driver(Protocol):
    """What handles a device's events."""

    def handle(self, event: Event) -> Any:
        """Handle one event; what it returns is the reply. It may be a coroutine."""


def load_driver(driver: object) -> Driver:
    """Return the driver that is meant: an object with `handle`, or the one a text names.

    Raises:
        NotFound: The module or the class does not exist.
        BadPayload: It is no driver.
    """
    made: object = driver
    if isinstance(driver, str):
        module_name, colon, class_name = driver.partition(":")
        if not colon or not module_name or not class_name:
            raise BadPayload(
                f"{driver!r} names no driver", at="payload.driver", hint='"module:Class"'
            )
        try:
            made = getattr(importlib.import_module(module_name), class_name)
        except (ImportError, AttributeError, ValueError) as error:
            raise NotFound(f"no driver {driver!r}: {error}", at="payload.driver") from error
        if isinstance(made, type):
            try:
                made = made()
            except TypeError as error:
                raise BadPayload(
                    f"{driver} cannot be made without arguments: {error}", at="payload.driver"
                ) from error
    if not callable(getattr(made, "handle", None)):
        raise BadPayload(
            f"{type(made).__name__} is no driver",
            at="payload.driver",
            hint="a driver has a method handle(event)",
        )
    assert isinstance(made, Driver)
    return made


async def hand_over(driver: Driver, event: Event) -> Any:
    """Give an event to a driver and return what it says."""
    reply = driver.handle(event)
    return await reply if inspect.isawaitable(reply) else reply
