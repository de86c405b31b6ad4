"""Where a device's samples come from: recordings of evemu, recordings of our own, the kernel.

A source is an iterable of `Sample` and knows the `Pad` it speaks of. There are three:

- `EvemuSource` reads the text that `evemu-record` and `evemu-describe` write: `A:` lines say
  what the axes span, `E:` lines are events. Older recordings hold events alone, and the rest is
  in a file beside them (`pad.device` or `pad.desc` beside `pad.tap.events`);
- `JsonSource` reads our own recordings, one sample a line;
- `EvdevSource` reads the kernel's `struct input_event` from `/dev/input/event*`, from a pipe,
  or from a file of raw bytes. Opening a device by name asks python-evdev (extra `evdev`) what
  the axes span.

Behind the first and the last stands one `Slots`, which turns the kernel's events into samples:
protocol B (slots), protocol A (one report a finger) and pads that know one finger only.
Figures: linux/input-event-codes.h, Documentation/input/multi-touch-protocol.rst.
"""

from __future__ import annotations

import contextlib
import json
import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple, Protocol

from dan9.base.errors import Corrupt, NotFound, NotSupported, PermissionRefused
from dan9.devices.intents import Sample

__all__ = [
    "EvdevSource",
    "EvemuSource",
    "JsonSource",
    "Pad",
    "RawEvent",
    "Slots",
    "Source",
    "open_source",
]

EV_SYN, EV_KEY, EV_ABS = 0x00, 0x01, 0x03
SYN_REPORT, SYN_MT_REPORT = 0, 2
BTN_TOUCH = 0x14A
BTN_TOOL_FINGERS: Final = {0x145: 1, 0x14D: 2, 0x14E: 3, 0x14F: 4, 0x148: 5}
"""How many fingers a pad counts, also where it has fewer slots (BTN_TOOL_TRIPLETAP, say)."""
ABS_X, ABS_Y, ABS_PRESSURE = 0x00, 0x01, 0x18
MT_SLOT, MT_X, MT_Y, MT_TRACKING_ID, MT_PRESSURE = 0x2F, 0x35, 0x36, 0x39, 0x3A

LEAST_WIDTH: Final = 1_000.0
"""Units across the coarsest pad that was met (an ALPS of 1,023)."""

INPUT_EVENT: Final = struct.Struct("@llHHi")
"""The kernel's `struct input_event`: seconds, microseconds, type, code, value."""


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


class Source(Protocol):
    """Samples, and the pad that they are of."""

    pad: Pad

    def __iter__(self) -> Iterator[Sample]:
        """Give the samples in order, in millimetres."""


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
        elif code in {MT_X, MT_Y, MT_PRESSURE}:
            finger = self._finger(self._slot)
            if code == MT_X:
                finger.x = value
            elif code == MT_Y:
                finger.y = value
            else:
                finger.z = value
        elif not self._is_multi and code in {ABS_X, ABS_Y, ABS_PRESSURE}:
            finger = self._finger(0)
            if code == ABS_X:
                finger.x = value
            elif code == ABS_Y:
                finger.y = value
            else:
                finger.z = value

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


class EvemuSource:
    """A recording in evemu's text format.

    Raises:
        Corrupt: A line that begins as an event is none; the line is named.
    """

    def __init__(
        self, lines: Iterable[str], name: str = "the recording", pad: Pad | None = None
    ) -> None:
        self.pad = Pad()
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
                self.pad.name = line[2:].strip()
            elif line.startswith("A:"):
                code, span, resolution = self._axis(line)
                axes[code] = (span, resolution)
        for multi, single, at in ((MT_X, ABS_X, 0), (MT_Y, ABS_Y, 1)):
            # Many pads say their resolution for the old axes only.
            span = axes.get(multi, axes.get(single, (0.0, 0.0)))[0]
            resolution = axes.get(multi, (0.0, 0.0))[1] or axes.get(single, (0.0, 0.0))[1]
            self.pad.span = _with(self.pad.span, at, span)
            self.pad.resolution = _with(self.pad.resolution, at, resolution)
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
        axes = dict(device.capabilities().get(EV_ABS, []))
        pad = Pad(device.name)
        for multi, single, at in ((MT_X, ABS_X, 0), (MT_Y, ABS_Y, 1)):
            info = axes.get(multi) or axes.get(single)
            if info is not None:
                pad.span = _with(pad.span, at, float(info.max - info.min))
                pad.resolution = _with(pad.resolution, at, float(info.resolution))
        device.close()
        return cls(Path(path).open("rb", buffering=0), pad)

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


def _with(pair: tuple[float, float], at: int, value: float) -> tuple[float, float]:
    return (value, pair[1]) if at == 0 else (pair[0], value)
