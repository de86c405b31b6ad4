"""Sensors: devices that are asked for a value.

A sensor has a source, which gives a raw number, and a calibration, which makes a value of it:
`raw * gain + offset`, rounded to `precision` digits. Sources are a number that stays, a file
that holds one (`file:/sys/class/thermal/thermal_zone0/temp`), another daemon's answer
(`ask:d9://… type`), or, from Python, anything that can be called.
"""

from __future__ import annotations

import asyncio
import inspect
import math
from pathlib import Path
from typing import Any, TypedDict

from dan9.base.errors import BadPayload, Corrupt, NotFound, PermissionRefused
from dan9.devices.device import VirtualDevice
from dan9.kernel.daemon import Config, on

__all__ = ["Reading", "Sensor"]


class Reading(TypedDict):
    """Reply of `read`."""

    value: float
    unit: str
    when: float


class Sensor(VirtualDevice, type="sensor"):
    """Reads a value from a source, calibrated."""

    kind: Config[str] = "sensor"
    unit: Config[str] = ""
    """The unit of the value, as text."""
    source: Config[str | float] = ""
    """The source at the start: a number, `file:PATH`, or `ask:ADDRESS TYPE`."""

    async def on_start(self) -> None:
        """Begin with the configured source."""
        await super().on_start()
        self._source: Any = None
        if self.source != "":
            self._source = _checked_source(self.source)

    @on
    async def read(self) -> Reading:
        """Return the value now, with its unit and the time.

        Every reading is an event as well: recorded, kept, and handed to the driver.

        Errors: not-found (no source, or its file), corrupt (it gives no number), permission,
        and whatever the daemon behind the source refuses.
        """
        raw = await self._raw()
        number = self._number
        value = raw * number("gain", 1.0) + number("offset", 0.0)
        digits = self.settings.get("precision")
        if isinstance(digits, int):
            value = round(value, digits)
        reading: Reading = {"value": value, "unit": self.unit, "when": self.clock.now()}
        await self._happen("reading", {**reading})
        return reading

    @on
    def set_source(self, source: Any) -> str:
        """Change where values come from; reply it as text.

        Args:
            source: A number, `file:PATH`, `ask:ADDRESS TYPE`, or from Python a callable,
                sync or async.

        Errors: bad-payload.
        """
        self._source = _checked_source(source)
        return str(source) if isinstance(source, (str, int, float)) else type(source).__name__

    def _checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        """Make numbers of what a shell writes as text."""
        checked = dict(settings)
        for key in ("gain", "offset", "precision"):
            number = _as_number(settings[key]) if key in settings else None
            if key == "precision":  # in words ("high") it is for drivers to read
                if number is not None and number == int(number):
                    checked[key] = int(number)
            elif number is not None:
                checked[key] = number
            elif key in settings:
                raise BadPayload(f"{key} is {settings[key]!r}, not a number", at=f"payload.{key}")
        return checked

    def _number(self, key: str, default: float) -> float:
        return float(self.settings.get(key, default))

    async def _raw(self) -> float:
        source = self._source
        if source is None:
            raise NotFound(f"{self.address} has no source", hint="set-source gives it one")
        if callable(source):
            value = source()
            value = await value if inspect.isawaitable(value) else value
        elif isinstance(source, str) and source.startswith("file:"):
            if self._d9_cell.home.scheduler.one_thread:  # virtual time waits for no thread
                value = _from_file(source[5:])
            else:
                value = await asyncio.to_thread(_from_file, source[5:])
        elif isinstance(source, str):
            address, _, message = source[4:].partition(" ")
            value = await self.ask(address, message.strip())
            if isinstance(value, dict):
                value = value.get("value")
        else:
            value = source
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number):
            raise Corrupt(f"the source gave {str(value)[:40]!r}, which is no number")
        return number


def _as_number(value: object) -> float | None:
    """Return a finite number, also one written as text; None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _checked_source(source: Any) -> Any:
    if callable(source):
        return source
    if isinstance(source, (int, float)) and not isinstance(source, bool):
        if math.isfinite(source):
            return float(source)
    elif isinstance(source, str):
        head, _, rest = source.partition(":")
        if head == "file" and rest:
            return source
        if head == "ask" and len(rest.split()) == 2:
            return source
        try:
            return _checked_source(float(source))
        except ValueError:
            pass
    raise BadPayload(
        f"{source!r} is no source",
        at="payload.source",
        hint="a number, file:PATH, or ask:ADDRESS TYPE",
    )


def _from_file(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", errors="replace").strip()
    except PermissionError as error:
        raise PermissionRefused(f"{path}: permission denied") from error
    except OSError as error:
        raise NotFound(f"{path}: {(error.strerror or str(error)).lower()}") from error
