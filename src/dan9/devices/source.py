"""Where a device's samples come from: recordings of evemu, recordings of our own, the kernel.

A source is an iterable of `Sample` and knows the `Pad` it speaks of. There are three:

- `EvemuSource` reads the text that `evemu-record` and `evemu-describe` write: `A:` lines say
  what the axes span, `E:` lines are events. Older recordings hold events alone, and the rest is
  in a file beside them (`pad.device` or `pad.desc` beside `pad.tap.events`);
- `JsonSource` reads our own recordings, one sample a line;
- `EvdevSource` reads the kernel's `struct input_event` from `/dev/input/event*`, from a pipe,
  or from a file of raw bytes. Opening a device by name asks python-evdev (extra `evdev`) what
  the axes span.

What the kernel's events mean is told by slots.py.
"""

from __future__ import annotations

import contextlib
import json
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from dan9.base.errors import Corrupt, NotFound, NotSupported, PermissionRefused
from dan9.devices.intents import Sample
from dan9.devices.slots import ABS_X, ABS_Y, EV_ABS, MT_X, MT_Y, Pad, RawEvent, Slots

__all__ = [
    "INPUT_EVENT",
    "EvdevSource",
    "EvemuSource",
    "JsonSource",
    "Source",
    "open_source",
]

LEAST_WIDTH: Final = 1_000.0
"""Units across the coarsest pad that was met (an ALPS of 1,023)."""

INPUT_EVENT: Final = struct.Struct("@llHHi")
"""The kernel's `struct input_event`: seconds, microseconds, type, code, value."""


class Source(Protocol):
    """Samples, and the pad that they are of."""

    pad: Pad

    def __iter__(self) -> Iterator[Sample]:
        """Give the samples in order, in millimetres."""


class EvemuSource:
    """A recording in evemu's text format.

    Raises:
        Corrupt: A line that begins as an event is none; the line is named.
    """

    def __init__(
        self, lines: Iterable[str], name: str = "the recording", pad: Pad | None = None
    ) -> None:
        pad_name = ""
        self._name = name
        self._lines = iter(lines)
        self._first: list[tuple[int, str]] = []
        self._number = 0
        axes: dict[int, tuple[float, float]] = {}
        for line in self._lines:
            self._number += 1
            if line.startswith("E:"):
                self._first.append((self._number, line))
                break
            if line.startswith("N:"):
                pad_name = line[2:].strip()
            elif line.startswith("A:"):
                code, span, resolution = self._axis(line)
                axes[code] = (span, resolution)
        self.pad = _pad_of(pad_name, axes)
        if pad is not None and not self.pad.knows_anything:
            self.pad = pad

    def __iter__(self) -> Iterator[Sample]:
        """Give the samples in order, in millimetres; times begin at 0."""
        slots = Slots(self.pad)
        begin: float | None = None
        for event in self._events():
            begin = event.t if begin is None else begin
            yield from slots.feed(event._replace(t=event.t - begin))

    def _events(self) -> Iterator[RawEvent]:
        for number, line in self._first:
            yield self._event(number, line)
        for line in self._lines:
            self._number += 1
            if line.startswith("E:"):
                yield self._event(self._number, line)

    def _axis(self, line: str) -> tuple[int, float, float]:
        # A: code min max fuzz flat [resolution]; code in hexadecimal.
        words = line[2:].partition("#")[0].split()
        try:
            low, high = int(words[1]), int(words[2])
            resolution = float(words[5]) if len(words) > 5 else 0.0
            return int(words[0], 16), float(high - low), resolution
        except (ValueError, IndexError):
            raise self._corrupt(self._number, line) from None

    def _event(self, number: int, line: str) -> RawEvent:
        # E: seconds.microseconds type code value; type and code in hexadecimal.
        words = line[2:].partition("#")[0].split()
        try:
            return RawEvent(float(words[0]), int(words[1], 16), int(words[2], 16), int(words[3]))
        except (ValueError, IndexError):
            raise self._corrupt(number, line) from None

    def _corrupt(self, number: int, line: str) -> Corrupt:
        return Corrupt(
            f"{self._name}, line {number}: {line.strip()[:60]!r} is no line of evemu's",
            at=f"line {number}",
            hint="E: 0.000001 0003 0035 2312, say",
        )


class JsonSource:
    """A recording of our own: a line of JSON about the pad, then one a sample.

    Raises:
        Corrupt: A line is no sample; the line is named.
    """

    def __init__(self, lines: Iterable[str], name: str = "the recording") -> None:
        self.pad = Pad()
        self._name = name
        self._lines = list(lines)

    def __iter__(self) -> Iterator[Sample]:
        """Give the samples in order."""
        for number, line in enumerate(self._lines, 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                if "recording" in entry:
                    continue
                data = entry["data"]
                x, y = float(data["x"]), float(data["y"])
                direction = data.get("direction")
                yield Sample(
                    float(entry["t"]),
                    x,
                    y,
                    float(data.get("z", 0.0)),
                    int(data.get("pointer", 0)),
                    bool(data.get("contact", True)),
                    data.get("velocity"),
                    None if direction is None else (float(direction[0]), float(direction[1])),
                    int(data.get("fingers", 0)),
                )
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                raise Corrupt(
                    f"{self._name}, line {number}: {line.strip()[:60]!r} is no sample",
                    at=f"line {number}",
                    hint='{"t": 0.01, "type": "touch", "data": {"x": 1, "y": 2}}, say',
                ) from None


class EvdevSource:
    """The kernel's events, from a device, a pipe or a file.

    Iterating blocks; whoever has a loop waits for the stream to be readable, reads what there
    is, and gives it to `feed`.
    """

    def __init__(self, stream: BinaryIO, pad: Pad | None = None) -> None:
        self.pad = pad or Pad()
        self.stream = stream
        self._slots = Slots(self.pad)
        self._rest = b""

    def feed(self, data: bytes) -> list[Sample]:
        """Take bytes as they were read, cut anywhere; return the samples that they complete."""
        data = self._rest + data
        whole = len(data) - len(data) % INPUT_EVENT.size
        self._rest = data[whole:]
        out: list[Sample] = []
        for seconds, micros, kind, code, value in INPUT_EVENT.iter_unpack(data[:whole]):
            out += self._slots.feed(RawEvent(seconds + micros / 1e6, kind, code, value))
        return out

    @classmethod
    def open(cls, path: str) -> EvdevSource:
        """Open a device.

        Raises:
            NotSupported: python-evdev is not installed.
            NotFound: There is no such device, or it is none.
            PermissionRefused: It may not be read.
        """
        try:
            import evdev  # type: ignore[import-not-found,unused-ignore]  # an extra
        except ImportError:
            raise NotSupported(
                "live devices need python-evdev", hint='pip install "dan9[evdev]"'
            ) from None
        try:
            device = evdev.InputDevice(path)
        except PermissionError:
            raise PermissionRefused(
                f"{path}: permission denied", hint="is the node's user in the group input?"
            ) from None
        except OSError as error:
            raise NotFound(
                f"{path}: {(error.strerror or str(error)).lower()}",
                hint="`ls /dev/input/by-id` lists them",
            ) from None
        axes = {
            code: (float(info.max - info.min), float(info.resolution))
            for code, info in device.capabilities().get(EV_ABS, [])
        }
        device.close()
        return cls(Path(path).open("rb", buffering=0), _pad_of(device.name, axes))

    def __iter__(self) -> Iterator[Sample]:
        """Give the samples as they come."""
        while data := self.stream.read(INPUT_EVENT.size * 64):
            yield from self.feed(data)


def open_source(path: str, pad: Pad | None = None) -> EvemuSource | JsonSource:
    """Open a recording by what it holds.

    Args:
        path: The file.
        pad: What is known of the pad, for a recording that says nothing of it.

    Raises:
        NotFound: There is no such file; devices and pipes are none.
        PermissionRefused: It may not be read.
        Corrupt: It is no recording.
    """
    lines = _read(path).splitlines()
    if any(line.startswith("E:") for line in lines):
        known = _described(path)
        if not known.knows_anything and pad is not None and pad.knows_anything:
            known = pad
        if not known.knows_anything:
            known = Pad(span=(_reach(lines), 0.0))
        return EvemuSource(lines, path, known)
    if any(line.startswith("{") for line in lines):
        return JsonSource(lines, path)
    raise Corrupt(f"{path} is no recording", hint="evemu's text or JSON lines of our own")


def _read(path: str) -> str:
    place = Path(path)
    if place.exists() and not place.is_file():  # reading on would wait for ever
        raise NotFound(f"{path} is no file", hint="`set-source` takes touches live")
    try:
        return place.read_text("utf-8", errors="replace")
    except PermissionError:
        raise PermissionRefused(f"{path}: permission denied") from None
    except OSError as error:
        raise NotFound(
            f"{path}: {(error.strerror or str(error)).lower()}", hint="is the path right?"
        ) from None


def _described(path: str) -> Pad:
    """Return what the description beside a recording says: the one whose name begins its name."""
    place = Path(path)
    beside = [one for one in _beside(place) if one.suffix in {".device", ".desc"}]
    fitting = [one for one in beside if place.name.startswith(one.stem)]
    if not fitting:
        return Pad()
    best = max(fitting, key=lambda one: (len(one.stem), one.suffix))
    return EvemuSource(_read(str(best)).splitlines(), str(best)).pad


def _beside(place: Path) -> list[Path]:
    try:
        return sorted(place.parent.iterdir())
    except OSError:  # a folder may be entered and not be listed
        return []


def _reach(lines: Iterable[str]) -> float:
    """Guess how wide a pad is of which nothing is known: as far as it was touched, at least."""
    farthest = LEAST_WIDTH
    for line in lines:
        words = line.split()
        if (
            len(words) > 4
            and words[0] == "E:"
            and words[2] == "0003"
            and words[3] in {"0000", "0035"}
        ):
            with contextlib.suppress(ValueError):
                farthest = max(farthest, abs(float(words[4])))
    return farthest


def _pad_of(name: str, axes: dict[int, tuple[float, float]]) -> Pad:
    """Return a pad, of the span and the resolution of its axes by their codes."""
    unknown = (0.0, 0.0)
    old = [axes.get(code, unknown) for code in (ABS_X, ABS_Y)]
    new = [axes.get(code, single) for code, single in zip((MT_X, MT_Y), old, strict=True)]
    return Pad(
        name,
        span=(new[0][0], new[1][0]),
        # Many pads say their resolution for the old axes only.
        resolution=(new[0][1] or old[0][1], new[1][1] or old[1][1]),
    )
