"""A pad whose touches mean something: taps, swipes, pinches, and shapes that it was taught.

Points come one at a time (`record`), from a recording (`replay`), or live (`set-source`). What
they mean is decided in two places that know nothing of daemons: intents.py, a state machine
with a table of thresholds, and strokes.py, which compares shapes. A stroke is compared only if
shapes were taught and it is no straight line: the recogniser ignores rotation, and whoever drew
a line meant its direction.

A pad reports in units of its own. `resolution` says how many of them are a millimetre; without
it `width` makes thresholds hundredths of the width, which is flagged in every reply; without
either, points are taken as millimetres.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import stat
from typing import Any, Final, TypedDict

from dan9.base.errors import BadPayload, NotFound, PermissionRefused
from dan9.base.reasons import Reason
from dan9.devices.device import Device, Recording
from dan9.devices.intents import THRESHOLDS, Contact, Intent, Sample, Tracker, interpret
from dan9.devices.recording import Recorded
from dan9.devices.slots import Pad
from dan9.devices.source import EvdevSource, JsonSource, open_source
from dan9.devices.strokes import Match, Shapes
from dan9.kernel.daemon import Config, on

__all__ = ["Candidate", "GestureDevice", "Recognized"]

MAX_CONTACTS: Final = 200
"""Contacts kept; older ones are forgotten."""

STRAIGHT: Final = 0.95
"""Share of its path that a stroke's ends are apart, from which on it is a line."""

SHAPE_LENGTH_MM: Final = 5.0
"""A shorter path is no shape, whatever it looks like."""

MAX_PAUSE_S: Final = 1.0
"""Strokes of one shape follow each other within this; handwriting pauses for half of it."""

APART_S: Final = 10.0
"""Distance in time of a replayed recording from what was there before."""


class Candidate(TypedDict):
    """One of the intents that were considered."""

    intent: str
    confidence: float


class Recognized(TypedDict):
    """Reply of `recognize`."""

    intent: str
    confidence: float
    direction: str
    fingers: int
    detail: dict[str, float]
    candidates: list[Candidate]
    unit: str


class GestureDevice(Device, type="gesture"):
    """Recognises gestures and trained shapes from points on a pad."""

    kind: Config[str] = "gesture"
    resolution: Config[float] = 0.0
    """Units of the pad in a millimetre; 0: unknown."""
    width: Config[float] = 0.0
    """Units from edge to edge, for a pad that does not know its resolution; 0: unknown."""
    confidence: Config[float] = 0.8
    """How alike a stroke must be to a shape to be taken for it."""
    shapes: list[dict[str, Any]] = []
    """What was taught, as it was drawn: saved and restored with the device."""

    async def on_start(self) -> None:
        """Learn what was taught before."""
        await super().on_start()
        self._tracker = Tracker()
        self._shapes = Shapes()
        self._pad = Pad(
            resolution=(self.resolution, self.resolution), span=(self.width, self.width)
        )
        self._of = self._pad  # the pad that the last samples came from
        self._last_t = 0.0
        self._replay_from = 0.0
        self._replay_origin: float | None = None
        self._live: tuple[int, EvdevSource] | None = None
        self._verdict: asyncio.TimerHandle | None = None
        for one in self.shapes:
            self._learn(one["name"], one["strokes"], one["together"])

    async def on_stop(self, reason: Reason) -> None:
        """Close the live source."""
        self._unplug()
        await super().on_stop(reason)

    def on_status(self) -> dict[str, object]:
        """Add the shapes and the unit."""
        return {
            **super().on_status(),
            "shapes": list(self._shapes.names),
            "unit": self._unit(),
            "live": self._live is not None,
        }

    @on
    async def record(
        self,
        x: float,
        y: float,
        z: float = 0.0,
        velocity: float | None = None,
        direction: list[float] | None = None,
        t: float | None = None,
        pointer: int = 0,
        contact: bool = True,
        fingers: int = 0,
    ) -> int:
        """Take one point; reply how many contacts are remembered.

        Args:
            x: In the pad's unit, to the right.
            y: In the pad's unit, downwards.
            z: Pressure. Falling to 0 lifts the finger.
            velocity: In the pad's unit a second, if it knows; else it is computed.
            direction: [dx, dy], if it knows; else it is computed.
            t: Seconds, from any beginning; now, if not given. Never backwards.
            pointer: Which finger.
            contact: False: the finger has lifted. A device that never says so lifts by
                pauses of 0.1 to 0.4 s.
            fingers: How many the pad counts, if it counts more than it can place.

        Errors: bad-payload.
        """
        when = self.clock.monotonic() if t is None else t
        if when < self._last_t:
            raise BadPayload(
                f"t is {when:g}, before the last point's {self._last_t:g}",
                at="payload.t",
                hint="points come in order; `clear` begins anew",
            )
        sx, sy = self._pad.scale
        heading = None if direction is None else _heading(direction)
        speed = None if velocity is None else velocity / sx
        self._take(
            Sample(when, x / sx, y / sy, z, pointer, contact, speed, heading, fingers), self._pad
        )
        data: dict[str, Any] = {"x": x, "y": y, "z": z, "pointer": pointer, "contact": contact}
        if t is not None:
            data["t"] = t
        if fingers:
            data["fingers"] = fingers
        if velocity is not None:
            data["velocity"] = velocity
        if direction is not None:
            data["direction"] = direction
        await self._happen("touch", data)
        return len(self._tracker.contacts)

    @on
    async def recognize(self) -> Recognized:
        """Return what the last touches meant.

        Contacts that overlap, or follow each other within 0.3 s, are one gesture. Every
        answer is an event, `intent`, too: the driver hears it, a recording keeps it.
        """
        found = self._recognized(self._last_intent())
        await self._happen("intent", {**found})
        return found

    @on
    def intents(self) -> list[Recognized]:
        """Return what all remembered touches meant, in order."""
        return [self._recognized(self._meaning(one)) for one in self._tracker.episodes()]

    @on
    def train(
        self, name: str, strokes: list[list[list[float]]], together: bool = False
    ) -> dict[str, int]:
        """Teach a shape; reply how many examples each shape has.

        Args:
            name: The shape's. It may not be an intent's.
            strokes: Each a list of points [x, y]. Each is one example, one stroke long.
            together: They are the strokes of one example of a shape of several.

        Errors: bad-payload.
        """
        if not name or name in INTENTS:
            raise BadPayload(
                f"{name!r} cannot name a shape", at="payload.name", hint="another name"
            )
        if not strokes:
            raise BadPayload("no strokes", at="payload.strokes", hint="[[[x, y], [x, y], …], …]")
        self._learn(name, strokes, together)
        self.shapes = [*self.shapes, {"name": name, "strokes": strokes, "together": together}]
        return {one: self._shapes.count(one) for one in self._shapes.names}

    @on
    def forget(self, name: str) -> int:
        """Unlearn a shape; reply how many examples it had.

        Errors: not-found.
        """
        if name not in self._shapes.names:
            raise NotFound(f"no shape {name!r}", hint=f"there are {', '.join(self._shapes.names)}")
        self.shapes = [one for one in self.shapes if one["name"] != name]
        return self._shapes.forget(name)

    @on
    def clear(self) -> int:
        """Forget all touches, not the shapes; reply how many contacts there were."""
        count = len(self._tracker.contacts)
        self._tracker = Tracker()
        self._last_t = 0.0
        return count

    @on
    def record_to(self, recording: str | None = None) -> Recording:
        """Record all touches and intents to a file; without one, end the recording.

        Errors: not-found, permission.
        """
        return self._record(recording)

    @on
    def set_source(self, source: str) -> str:
        """Take touches live from a device, `/dev/input/event3`, or a pipe of the kernel's events.

        Half a second after the fingers have lifted the driver hears the intent. Empty text
        ends it. Reply the pad's name.

        Errors: not-found, permission, bad-payload (a file), not-supported (python-evdev is not
        installed).
        """
        self._unplug()
        if not source:
            return ""
        with contextlib.suppress(OSError):
            mode = os.stat(source).st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
                raise BadPayload(
                    f"{source} is no device and no pipe",
                    at="payload.source",
                    hint="`replay` reads recordings",
                )
        pad = Pad(resolution=self._pad.resolution, span=self._pad.span)
        if source.startswith("/dev/input/"):
            probe = EvdevSource.open(source)
            pad = probe.pad
            probe.stream.close()
        try:
            fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except PermissionError as error:
            raise PermissionRefused(f"{source}: permission denied") from error
        except OSError as error:
            raise NotFound(f"{source}: {(error.strerror or '').lower()}") from error
        stream = open(fd, "rb", buffering=0, closefd=True)  # noqa: SIM115  (closed by _unplug)
        self._live = (fd, EvdevSource(stream, pad))
        self._tracker = Tracker()
        asyncio.get_running_loop().add_reader(fd, self._readable)
        return pad.name or source

    @on
    def thresholds(self) -> list[dict[str, Any]]:
        """Return the table that decisions rest on, with units and sources."""
        return [{"name": name, **one._asdict()} for name, one in THRESHOLDS.items()]

    # -- private ---------------------------------------------------------------------------

    def _take(self, sample: Sample, pad: Pad) -> None:
        self._of = pad
        self._tracker.still = THRESHOLDS[
            "tap-movement-coarse" if _is_coarse(pad) else "tap-movement"
        ].value
        self._tracker.feed(sample)
        self._last_t = sample.t
        contacts = self._tracker.contacts
        if len(contacts) > MAX_CONTACTS:
            del contacts[: len(contacts) - MAX_CONTACTS]

    def _learn(self, name: str, strokes: list[list[list[float]]], together: bool) -> None:
        paths = [[_point(point) for point in stroke] for stroke in strokes]
        if together and len(paths) > 1:
            self._shapes.train_cloud(name, paths)
            return
        made = Shapes()
        for path in paths:  # all or none: a bad example must not leave its fellows behind
            made.train(name, path)
        for path in paths:
            self._shapes.train(name, path)

    def _last_intent(self) -> Intent:
        episodes = self._tracker.episodes()
        if not episodes:
            return interpret([])
        strokes = self._last_strokes()
        if len(strokes) > 1 and self._shapes.has_clouds:
            match = self._shapes.recognize_cloud([one.points for one in strokes])
            if match.confidence >= self.confidence:
                return _as_intent(match, len(strokes))
        return self._meaning(episodes[-1])

    def _last_strokes(self) -> list[Contact]:
        """Return the last contacts that may be strokes of one shape."""
        out: list[Contact] = []
        for contact in reversed(self._tracker.contacts):
            if out and (out[-1].start - contact.end > MAX_PAUSE_S or contact.end > out[-1].start):
                break
            if len(contact.samples) < 2:
                break
            out.append(contact)
        return out[::-1]

    def _meaning(self, episode: list[Contact]) -> Intent:
        plain = interpret(episode)
        if plain.fingers != 1 or plain.name not in {"swipe", "drag", "none"}:
            return plain
        match = self._shape(episode[-1])
        if match is None:
            return plain
        if match.confidence < self.confidence:
            others = sorted([*plain.candidates, *match.candidates], key=lambda one: -one[1])
            return Intent(
                plain.name, plain.confidence, plain.direction, 1, plain.detail, tuple(others)
            )
        return _as_intent(match, 1, (plain.name, plain.confidence))

    def _shape(self, contact: Contact) -> Match | None:
        points = contact.points
        length = math.fsum(map(math.dist, points, points[1:]))
        if not self._shapes.has_strokes or length < SHAPE_LENGTH_MM:
            return None
        if math.dist(points[0], points[-1]) >= STRAIGHT * length:
            return None
        return self._shapes.recognize(points)

    def _recognized(self, intent: Intent) -> Recognized:
        own: Candidate = {"intent": intent.name, "confidence": intent.confidence}
        others: list[Candidate] = [
            {"intent": name, "confidence": confidence}
            for name, confidence in intent.candidates
            if name != intent.name
        ]
        return {
            "intent": intent.name,
            "confidence": intent.confidence,
            "direction": intent.direction,
            "fingers": intent.fingers,
            "detail": intent.detail,
            "candidates": [own, *others],
            "unit": self._unit(),
        }

    def _unit(self) -> str:
        return "percent-of-width" if _is_coarse(self._of) else "mm"

    def _events_of(self, recording: str) -> list[Recorded]:
        source = open_source(recording, self._pad)
        self._replay_from = self._last_t + APART_S if self._tracker.contacts else 0.0
        self._replay_origin = None
        if isinstance(source, JsonSource):
            return super()._events_of(recording)
        pad = source.pad
        return [Recorded(one.t, "sample", {"sample": one, "pad": pad}) for one in source]

    async def _again(self, kind: str, data: dict[str, Any], t: float) -> None:
        if kind == "intent":
            return  # it is found again from the touches
        given = data.get("t", t)
        if self._replay_origin is None:
            self._replay_origin = given
        when = max(self._last_t, self._replay_from + given - self._replay_origin)
        if kind == "sample":
            sample: Sample = data["sample"]
            pad: Pad = data["pad"]
            self._take(sample._replace(t=when), pad)
            sx, sy = pad.scale
            plain = {"x": sample.x * sx, "y": sample.y * sy, "z": sample.z}
            plain |= {"pointer": sample.pointer, "contact": sample.contact}
            if sample.fingers:
                plain["fingers"] = sample.fingers
            await self._happen("touch", plain)
        elif kind == "touch":
            await self.record(**{**data, "t": when})
        else:
            await self._happen(kind, data)

    def _readable(self) -> None:
        if self._live is None:
            return
        fd, source = self._live
        try:
            data = os.read(fd, 4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._unplug()
            self.log.warning("the live source has ended")
            return
        for sample in source.feed(data):
            if sample.t >= self._last_t:
                self._take(sample, source.pad)
        if self._verdict is not None:
            self._verdict.cancel()
        pause = THRESHOLDS["double-tap-interval"].value
        loop = asyncio.get_running_loop()
        self._verdict = loop.call_later(pause, self._judge)

    def _judge(self) -> None:
        self._verdict = None
        self.recognize.tell()

    def _unplug(self) -> None:
        if self._verdict is not None:
            self._verdict.cancel()
            self._verdict = None
        if self._live is not None:
            fd, source = self._live
            self._live = None
            with contextlib.suppress(ValueError, OSError):
                asyncio.get_running_loop().remove_reader(fd)
            source.stream.close()


INTENTS: Final = frozenset(
    {"none", "tap", "double-tap", "long-press", "drag", "swipe", "pinch", "rotate"}
)
"""Names that the state machine gives; no shape may have one."""


def _as_intent(match: Match, strokes: int, *others: tuple[str, float]) -> Intent:
    runners = sorted([*match.candidates[1:], *others], key=lambda one: -one[1])
    return Intent(
        match.name, match.confidence, detail={"strokes": strokes}, candidates=tuple(runners)
    )


def _is_coarse(pad: Pad) -> bool:
    """Tell whether only its width is known, so that millimetres are hundredths of that."""
    return pad.knows_anything and not pad.knows_millimetres


def _heading(direction: list[float]) -> tuple[float, float]:
    if len(direction) != 2 or not any(direction) or not all(map(math.isfinite, direction)):
        raise BadPayload(f"{direction} is no direction", at="payload.direction", hint="[1, 0], say")
    length = math.hypot(*direction)
    return direction[0] / length, direction[1] / length


def _point(point: list[float]) -> tuple[float, float]:
    if len(point) < 2:
        raise BadPayload(f"{point} is no point", at="payload.strokes", hint="[x, y]")
    return float(point[0]), float(point[1])
