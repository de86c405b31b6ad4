"""What fingers on a pad mean: a state machine over contacts, with one table of thresholds.

A contact is one finger from touching to lifting. Contacts that overlap, or follow each other
within the time of a double tap, are one episode, and an episode has one intent:

    one finger   tap, double-tap, long-press, drag, swipe
    several      tap (of several fingers), pinch, rotate, swipe, drag

Everything is in millimetres and seconds; what a pad reports in units of its own is converted
before it comes here. Every threshold stands in `THRESHOLDS` with its unit and where it comes
from, and nowhere else.

A swipe and a drag differ by how they end: a finger that is still moving when it lifts has
swiped; one that came to rest, or had rested before it set out, has dragged. Velocity is the
slope at the end of a parabola fitted to the last 100 ms by least squares, which a single late
or early sample does not upset.

This module is pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple

__all__ = ["THRESHOLDS", "Contact", "Intent", "Sample", "Threshold", "Tracker", "interpret"]


class Threshold(NamedTuple):
    """One number that a decision rests on."""

    value: float
    unit: str
    source: str


DP_MM: Final = 25.4 / 160
"""One of Android's density-independent pixels, in millimetres."""

THRESHOLDS: Final[dict[str, Threshold]] = {
    "tap-duration": Threshold(0.180, "s", "libinput 1.17, DEFAULT_TAP_TIMEOUT_PERIOD"),
    "tap-movement": Threshold(1.3, "mm", "libinput 1.17, DEFAULT_TAP_MOVE_THRESHOLD"),
    "tap-movement-coarse": Threshold(
        8.0, "% of width", "ours: taps on ALPS pads, which know no resolution, move up to 6.5 %"
    ),
    "double-tap-interval": Threshold(0.300, "s", "Android ViewConfiguration, DOUBLE_TAP_TIMEOUT"),
    "double-tap-distance": Threshold(
        100 * DP_MM, "mm", "Android ViewConfiguration, DOUBLE_TAP_SLOP: 100 dp"
    ),
    "tap-and-drag": Threshold(0.160, "s", "libinput 1.17, DEFAULT_DRAG_TIMEOUT_PERIOD_BASE"),
    "tap-and-drag-per-finger": Threshold(
        0.020, "s", "libinput 1.17, DEFAULT_DRAG_TIMEOUT_PERIOD_PERFINGER"
    ),
    "drag-lock": Threshold(0.300, "s", "libinput 1.17, DEFAULT_DRAGLOCK_TIMEOUT_PERIOD"),
    "long-press": Threshold(0.500, "s", "iOS and older Android; newer Android has 0.4"),
    "fling-speed": Threshold(
        50 * DP_MM, "mm/s", "Android ViewConfiguration, MINIMUM_FLING_VELOCITY: 50 dp/s"
    ),
    "velocity-horizon": Threshold(0.100, "s", "Android VelocityTracker"),
    "stop-gap": Threshold(0.040, "s", "Android VelocityTracker: as long a rest is a stop"),
    "several-movement": Threshold(
        1.5, "mm", "libinput 1.17, evdev-mt-touchpad-gestures.c: min_move"
    ),
    "several-movement-per-finger": Threshold(
        0.5, "mm", "libinput 1.17, the same for each finger beyond the second"
    ),
    "lift-gap": Threshold(0.100, "s", "ours: four reports of the slowest pad measured (40 Hz)"),
    "hold-gap": Threshold(0.400, "s", "ours: a longer pause at the same place is a hold"),
}

MIN_SPAN_S: Final = 0.001
"""Reports closer together than this tell nothing of speed; no pad reports as often."""

T: Final = {name: threshold.value for name, threshold in THRESHOLDS.items()}


class Sample(NamedTuple):
    """One report of one finger.

    Attributes:
        t: Seconds, from any beginning.
        x, y: Millimetres; y grows downwards.
        z: Pressure, in the device's unit.
        pointer: Which finger.
        contact: It touches; False: it has lifted here.
        velocity: Millimetres a second, if the device knows it.
        direction: Unit vector, if the device knows it.
        fingers: How many the device counts, if it counts more than it can place; else 0.
    """

    t: float
    x: float
    y: float
    z: float = 0.0
    pointer: int = 0
    contact: bool = True
    velocity: float | None = None
    direction: tuple[float, float] | None = None
    fingers: int = 0


@dataclass(slots=True)
class Contact:
    """One finger from touching to lifting."""

    pointer: int
    samples: list[Sample] = field(default_factory=list)
    lifted_at: float | None = None
    still: float = T["tap-movement"]
    """How far it may move and be in place."""

    @property
    def start(self) -> float:
        """When it touched."""
        return self.samples[0].t

    @property
    def end(self) -> float:
        """When it lifted, or was last heard of."""
        return self.samples[-1].t if self.lifted_at is None else self.lifted_at

    @property
    def duration(self) -> float:
        """Seconds of touching."""
        return self.end - self.start

    @property
    def movement(self) -> float:
        """Millimetres of its farthest point from its first."""
        first = self.samples[0]
        return max(math.hypot(s.x - first.x, s.y - first.y) for s in self.samples)

    @property
    def points(self) -> list[tuple[float, float]]:
        """Its path."""
        return [(sample.x, sample.y) for sample in self.samples]

    @property
    def is_tap(self) -> bool:
        """It was short and stayed in place."""
        return self.duration <= T["tap-duration"] and self.movement <= self.still

    def rest_before(self) -> float:
        """Seconds that it stayed in place before it set out."""
        first = self.samples[0]
        for sample in self.samples:
            if math.hypot(sample.x - first.x, sample.y - first.y) > self.still:
                return sample.t - first.t
        return self.duration

    def at(self, t: float) -> tuple[float, float]:
        """Where it was at a time, between the samples around it."""
        before = self.samples[0]
        for sample in self.samples:
            if sample.t >= t:
                span = sample.t - before.t
                share = (t - before.t) / span if span > 0 else 1.0
                share = min(1.0, max(0.0, share))
                return (
                    before.x + share * (sample.x - before.x),
                    before.y + share * (sample.y - before.y),
                )
            before = sample
        return before.x, before.y

    def velocity(self) -> tuple[float, float]:
        """Millimetres a second at its end, by axis; the device's own figure if it gave one."""
        last = self.samples[-1]
        if last.velocity is not None:
            dx, dy = last.direction or _unit(last.x - self.samples[0].x, last.y - self.samples[0].y)
            return last.velocity * dx, last.velocity * dy
        if self.end - last.t > T["stop-gap"]:
            return 0.0, 0.0
        recent = [s for s in self.samples if last.t - s.t <= T["velocity-horizon"]]
        # A stop within the window ends what moved before it.
        for number in range(len(recent) - 1, 0, -1):
            if recent[number].t - recent[number - 1].t > T["stop-gap"]:
                recent = recent[number:]
                break
        times = [s.t - last.t for s in recent]
        return _slope(times, [s.x for s in recent]), _slope(times, [s.y for s in recent])


@dataclass(frozen=True, slots=True)
class Intent:
    """What an episode meant.

    Attributes:
        name: `none tap double-tap long-press drag swipe pinch rotate`, or a trained shape.
        confidence: 0 to 1; a half at the threshold that decided it.
        direction: `left right up down`, `in out`, `clockwise counterclockwise`, or empty.
        fingers: How many.
        detail: Figures behind it: distance-mm, speed-mm-s, angle-deg, scale, duration-s.
        candidates: Other names that were considered, best first.
    """

    name: str
    confidence: float
    direction: str = ""
    fingers: int = 1
    detail: dict[str, float] = field(default_factory=dict)
    candidates: tuple[tuple[str, float], ...] = ()


class Tracker:
    """Cuts a stream of samples into contacts and episodes.

    A device that reports lifting, or pressure, is believed: a finger at rest may be silent. Of
    one that reports neither, a pause of 100 to 400 ms is a lift, and a longer one at the same
    place a hold.
    """

    def __init__(self) -> None:
        self.contacts: list[Contact] = []
        self.still = T["tap-movement"]
        """What the contacts to come may move and be in place."""
        self._touching: dict[int, Contact] = {}
        self._knows_lifts = False

    def feed(self, sample: Sample) -> None:
        """Take one report; times of one pointer do not run backwards."""
        contact = self._touching.get(sample.pointer)
        self._knows_lifts = self._knows_lifts or sample.z > 0
        fell = contact is not None and contact.samples[-1].z > 0 and sample.z <= 0
        if not sample.contact or fell:
            self._knows_lifts = True
            if contact is not None:
                contact.lifted_at = sample.t
                del self._touching[sample.pointer]
            return
        if contact is not None and self._was_lifted(contact.samples[-1], sample):
            contact.lifted_at = contact.samples[-1].t
            contact = None
        if contact is None:
            contact = Contact(sample.pointer, still=self.still)
            self._touching[sample.pointer] = contact
            self.contacts.append(contact)
        contact.samples.append(sample)

    def _was_lifted(self, last: Sample, sample: Sample) -> bool:
        if self._knows_lifts:
            return False
        pause = sample.t - last.t
        near = math.hypot(sample.x - last.x, sample.y - last.y) <= self.still
        return pause > T["lift-gap"] and not (pause > T["hold-gap"] and near)

    def episodes(self) -> list[list[Contact]]:
        """Return the contacts, those that belong together as one list."""
        out: list[list[Contact]] = []
        until = -math.inf
        for contact in sorted(self.contacts, key=lambda one: one.start):
            if out and contact.start - until <= T["double-tap-interval"]:
                out[-1].append(contact)
            else:
                out.append([contact])
            until = max(until, contact.end)
        return out


def interpret(contacts: Sequence[Contact]) -> Intent:
    """Return what one episode meant."""
    if not contacts:
        return Intent("none", 1.0, fingers=0)
    intent = _meaning(contacts)
    counted = max(sample.fingers for contact in contacts for sample in contact.samples)
    return intent if counted <= intent.fingers else replace(intent, fingers=counted)


def _meaning(contacts: Sequence[Contact]) -> Intent:
    fingers = _most_at_once(contacts)
    if fingers > 1:
        return _several(contacts, fingers)
    last = contacts[-1]
    begun = _drag_begun(contacts)
    if begun is not None and begun is not last:
        detail = {"duration-s": last.end - begun.start, "distance-mm": begun.movement}
        return _moved("drag", begun, 1.0, detail, to=last)
    before = contacts[-2] if len(contacts) > 1 and contacts[-2].is_tap else None
    return _one(last, before)


def _drag_begun(contacts: Sequence[Contact]) -> Contact | None:
    """Return the contact that began a drag which those after it go on with (drag lock).

    A tap, and at once a finger that moves; it may lift, and go on within the time of the lock.
    """
    begun: Contact | None = None
    for before, contact in pairwise(contacts):
        pause = contact.start - before.end
        if begun is not None and pause > T["drag-lock"]:
            begun = None
        in_time = pause <= T["tap-and-drag"] + T["tap-and-drag-per-finger"]
        if begun is None and before.is_tap and in_time and contact.movement > contact.still:
            begun = contact
    return begun


def _one(contact: Contact, before: Contact | None) -> Intent:
    detail = {"duration-s": contact.duration, "distance-mm": contact.movement}
    pause = math.inf if before is None else contact.start - before.end
    if contact.is_tap and not _is_moving(contact):
        sure = _below(contact.duration, T["tap-duration"], contact.movement, contact.still)
        if before is not None and pause <= T["double-tap-interval"]:
            (x0, y0), (x1, y1) = before.points[0], contact.points[0]
            apart = math.hypot(x1 - x0, y1 - y0)
            if apart <= T["double-tap-distance"]:
                detail["pause-s"] = pause
                return Intent("double-tap", sure, detail=detail, candidates=(("tap", sure / 2),))
        return Intent("tap", sure, detail=detail, candidates=(("long-press", 1 - sure),))
    if pause <= T["tap-and-drag"] + T["tap-and-drag-per-finger"]:
        return _moved(
            "drag", contact, 1.0, detail
        )  # tap, and at once hold: libinput's tap-and-drag
    if contact.movement <= contact.still and not _is_moving(contact):
        if contact.duration >= T["long-press"]:
            sure = 1 - 0.5 * T["long-press"] / contact.duration
            return Intent("long-press", sure, detail=detail, candidates=(("tap", 0.0),))
        # Too long for a tap, too short for a press: libinput and iOS say nothing here.
        guess = _below(contact.duration, T["long-press"], 0.0, 1.0)
        return Intent(
            "none", 0.5, detail=detail, candidates=(("tap", guess), ("long-press", 1 - guess))
        )
    speed = math.hypot(*contact.velocity())
    detail["speed-mm-s"] = speed
    share = speed / (speed + T["fling-speed"])
    if speed >= T["fling-speed"] and contact.rest_before() < T["long-press"]:
        return _moved("swipe", contact, share, detail, ("drag", 1 - share))
    return _moved("drag", contact, max(0.5, 1 - share), detail, ("swipe", min(0.5, share)))


def _is_moving(contact: Contact) -> bool:
    """Tell whether the device itself says that a finger of few samples is under way."""
    given = contact.samples[-1].velocity
    return given is not None and given >= T["fling-speed"]


def _moved(
    name: str,
    contact: Contact,
    confidence: float,
    detail: dict[str, float],
    *others: tuple[str, float],
    to: Contact | None = None,
) -> Intent:
    first, last = contact.samples[0], (to or contact).samples[-1]
    dx, dy = last.x - first.x, last.y - first.y
    if not (dx or dy) and last.direction is not None:
        dx, dy = last.direction
    detail["angle-deg"] = math.degrees(math.atan2(dy, dx))
    return Intent(name, confidence, _heading(dx, dy), detail=detail, candidates=others)


def _several(contacts: Sequence[Contact], fingers: int) -> Intent:
    if all(contact.is_tap for contact in contacts):
        sure = min(_below(c.duration, T["tap-duration"], c.movement, c.still) for c in contacts)
        return Intent("tap", sure, fingers=fingers)
    a, b = sorted(contacts, key=lambda one: -one.duration)[:2]
    start, end = max(a.start, b.start), min(a.end, b.end)
    (ax0, ay0), (bx0, by0) = a.at(start), b.at(start)
    (ax1, ay1), (bx1, by1) = a.at(end), b.at(end)
    apart0, apart1 = math.hypot(bx0 - ax0, by0 - ay0), math.hypot(bx1 - ax1, by1 - ay1)
    turned = _turned(a, b, start, end)
    dx, dy = (ax1 + bx1 - ax0 - bx0) / 2, (ay1 + by1 - ay0 - by0) / 2
    # What each finger did, in millimetres: apart or together, around, along.
    moves = {
        "pinch": abs(apart1 - apart0) / 2,
        "rotate": abs(turned) * (apart0 + apart1) / 4,
        "swipe": math.hypot(dx, dy),
    }
    ranked = sorted(moves.items(), key=lambda move: -move[1])
    name, most = ranked[0]
    least = T["several-movement"] + T["several-movement-per-finger"] * (fingers - 2)
    detail = {
        "scale": apart1 / apart0 if apart0 else 1.0,
        "angle-deg": math.degrees(turned),
        "distance-mm": moves["swipe"],
        "duration-s": max(a.end, b.end) - min(a.start, b.start),
    }
    if most < least:
        return Intent("none", 1 - most / (2 * least), fingers=fingers, detail=detail)
    total = sum(moves.values())
    others = tuple((other, move / total) for other, move in ranked[1:])
    sure = most / total
    if name == "pinch":
        direction = "out" if apart1 > apart0 else "in"
    elif name == "rotate":
        # y grows downwards, so a growing angle turns as a clock's hands do.
        direction = "clockwise" if turned > 0 else "counterclockwise"
    else:
        direction = _heading(dx, dy)
        detail["angle-deg"] = math.degrees(math.atan2(dy, dx))
        speed = math.hypot(*a.velocity())
        detail["speed-mm-s"] = speed
        name = "swipe" if speed >= T["fling-speed"] else "drag"
    return Intent(name, sure, direction, fingers, detail, others)


def _most_at_once(contacts: Sequence[Contact]) -> int:
    marks = sorted(
        [(contact.start, 1) for contact in contacts] + [(contact.end, -1) for contact in contacts]
    )
    most = now = 0
    for _, step in marks:
        now += step
        most = max(most, now)
    return max(1, most)


def _turned(a: Contact, b: Contact, start: float, end: float) -> float:
    """Return by how many radians the line from one finger to the other turned, whole turns too."""
    times = sorted({s.t for c in (a, b) for s in c.samples if start <= s.t <= end} | {start, end})
    angle, turned = None, 0.0
    for t in times:
        (ax, ay), (bx, by) = a.at(t), b.at(t)
        if ax == bx and ay == by:
            continue
        new = math.atan2(by - ay, bx - ax)
        if angle is not None:
            turned += math.remainder(new - angle, math.tau)
        angle = new
    return turned


def _below(a: float, a_limit: float, b: float, b_limit: float) -> float:
    """Return how far below their limits both are: 1 far, a half at a limit, 0 beyond twice."""
    return max(0.0, 1 - 0.5 * max(a / a_limit, b / b_limit))


def _heading(dx: float, dy: float) -> str:
    if not (dx or dy):
        return ""
    if abs(dx) >= abs(dy):
        return "right" if dx > 0 else "left"
    return "down" if dy > 0 else "up"


def _unit(dx: float, dy: float) -> tuple[float, float]:
    length = math.hypot(dx, dy)
    return (dx / length, dy / length) if length else (0.0, 0.0)


def _slope(times: Sequence[float], values: Sequence[float]) -> float:
    """Return the slope at time 0 of the parabola through the values; of a line if few."""
    count = len(times)
    span = times[-1] - times[0] if count else 0.0
    if count < 2 or span < MIN_SPAN_S:
        return 0.0
    if count == 2:
        return (values[1] - values[0]) / span
    s0, s1 = float(count), math.fsum(times)
    s2, s3, s4 = (math.fsum(t**k for t in times) for k in (2, 3, 4))
    v0 = math.fsum(values)
    v1 = math.fsum(t * v for t, v in zip(times, values, strict=True))
    v2 = math.fsum(t * t * v for t, v in zip(times, values, strict=True))
    # Cramer's rule for the middle coefficient of a + b·t + c·t².
    whole = s0 * (s2 * s4 - s3 * s3) - s1 * (s1 * s4 - s2 * s3) + s2 * (s1 * s3 - s2 * s2)
    if abs(whole) < 1e-12 * s0 * s2 * s4:
        line = s0 * s2 - s1 * s1
        return (s0 * v1 - s1 * v0) / line if line else 0.0
    part = s0 * (v1 * s4 - v2 * s3) - v0 * (s1 * s4 - s2 * s3) + s2 * (s1 * v2 - s2 * v1)
    return part / whole
