"""Which shape a stroke is: the Protractor recogniser, made cheap without numpy.

A stroke is resampled to 16 points at equal distances along its path, moved to its centre and
scaled to unit length; two strokes are as alike as the cosine of the angle between them, after
the one was turned against the other as it fits best. That best turn has a closed form
(Protractor), so one comparison is one inner product: with points as complex numbers its
absolute value is the similarity and its argument the turn. They are kept as two lists of
floats, of which the compiler makes plain loops; uncompiled that is a little slower than
Python's own complex numbers, compiled it is several times faster.

What we add. The angle between two strokes so turned is a metric (Fubini and Study's), so that a
triangle closes: a stroke cannot be nearer to an example than its angle to the centre of a
class less the example's. One look at the centre of each class dismisses most classes whole, and
the answer is the same as without: 144 examples of 16 classes take some 30 inner products.

Strokes drawn in several parts are compared as clouds of points ($P): 32 points, each matched
greedily to its nearest free one. That costs a thousand times more and ignores order and
direction, so it is asked only for gestures of several strokes.

Both ignore rotation or order, and so cannot tell a swipe to the left from one to the right:
directions come from the state machine in gesture.py.

Sources: Li, Protractor: a fast and accurate gesture recognizer, CHI 2010; Vatavu, Anthony,
Wobbrock, Gestures as point clouds, ICMI 2012.

This module is pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from dan9.base.errors import BadPayload

__all__ = ["Match", "Shapes", "Stroke", "resample"]

POINTS: Final = 16
"""Points of a stroke. Protractor's figure; 32 or 64 gain nothing measurable."""

CLOUD: Final = 32
"""Points of a cloud, as $P has it."""

MIN_LENGTH: Final = 1e-9
"""A path shorter than this, in its own unit, is a point and has no shape."""

Point = tuple[float, float]
Stroke = Sequence[Point]


@dataclass(frozen=True, slots=True)
class Match:
    """What a stroke was taken for.

    Attributes:
        name: The best class; empty if nothing was trained.
        confidence: Its similarity, 0 to 1: the cosine for one stroke.
        candidates: Classes with their similarity, best first, each class once.
    """

    name: str
    confidence: float
    candidates: tuple[tuple[str, float], ...] = ()


_Vector = tuple[list[float], list[float]]  # x and y of each point
_Product = tuple[float, float]  # real and imaginary part


class _Class(NamedTuple):
    """The examples of one shape around their centre."""

    name: str
    centre: _Vector
    reach: float
    """Angle of the farthest example from the centre."""
    members: list[tuple[float, _Vector]]
    """Examples by their angle from the centre, nearest first."""


_LEAST: Final = itemgetter(0)


@dataclass(slots=True)
class Shapes:
    """Trained shapes, and what a stroke resembles most.

    Args:
        max_turn: How far a stroke may be turned against a template, in radians. None:
            strokes are first turned so that they begin in the same direction from their
            centre, then by up to a quarter turn (Protractor's rule): any rotation fits.
            A number keeps orientation: a turn beyond it costs similarity.
    """

    max_turn: float | None = None
    _strokes: dict[str, list[_Vector]] = field(default_factory=dict)
    _classes: list[_Class] = field(default_factory=list)  # the same, made when they are wanted
    _clouds: list[tuple[str, tuple[Point, ...]]] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(map(len, self._strokes.values())) + len(self._clouds)

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order of training."""
        return tuple(dict.fromkeys([*self._strokes, *(name for name, _ in self._clouds)]))

    @property
    def has_strokes(self) -> bool:
        """Shapes of one stroke were taught."""
        return bool(self._strokes)

    @property
    def has_clouds(self) -> bool:
        """Shapes of several strokes were taught."""
        return bool(self._clouds)

    def count(self, name: str) -> int:
        """Return how many examples a class has."""
        clouds = sum(one == name for one, _ in self._clouds)
        return len(self._strokes.get(name, ())) + clouds

    def train(self, name: str, stroke: Stroke) -> None:
        """Add one example of a shape drawn in one stroke.

        Raises:
            BadPayload: It is a point, or has coordinates that are no numbers.
        """
        self._strokes.setdefault(name, []).append(self._vector(stroke))
        self._classes.clear()

    def train_cloud(self, name: str, strokes: Sequence[Stroke]) -> None:
        """Add one example of a shape drawn in several strokes.

        Raises:
            BadPayload: As for `train`.
        """
        self._clouds.append((name, _cloud(strokes)))

    def forget(self, name: str) -> int:
        """Drop a class; return how many examples it had."""
        before = len(self)
        self._strokes.pop(name, None)
        self._classes.clear()
        self._clouds = [one for one in self._clouds if one[0] != name]
        return before - len(self)

    def recognize(self, stroke: Stroke, runners_up: int = 3) -> Match:
        """Return the class whose example is most like the stroke.

        Args:
            stroke: Points in order.
            runners_up: How many classes beside the best are wanted.

        Raises:
            BadPayload: As for `train`.
        """
        query = self._vector(stroke)
        if not self._classes:
            self._classes = [_around_centre(*entry) for entry in self._strokes.items()]
        # Each class by the least angle that an example of it can have.
        ranked = []
        for one in self._classes:
            angle = _angle(_product(query, one.centre))
            ranked.append((angle - one.reach, angle, one))
        ranked.sort(key=_LEAST)
        best: dict[str, float] = {}
        nearest = math.inf
        for least, angle, one in ranked:
            if least >= nearest and len(best) > runners_up:
                break
            found = -1.0
            for away, example in one.members:
                # One look at each class that is wanted, at others only if they may be best.
                if found < 0.0 or abs(angle - away) < nearest:
                    likeness = self._likeness(_product(query, example))
                    if likeness > found:
                        found = likeness
                        nearest = min(nearest, math.acos(min(1.0, found)))
            best[one.name] = found
        return _match(best, runners_up)

    def recognize_cloud(self, strokes: Sequence[Stroke], runners_up: int = 3) -> Match:
        """Return the class of several strokes that is most like these.

        Raises:
            BadPayload: As for `train`.
        """
        cloud = _cloud(strokes)
        far = math.inf
        nearest: dict[str, float] = {}
        for name, template in self._clouds:
            limit = nearest.get(name, far)
            distance = _cloud_distance(cloud, template, limit)
            if distance < limit:
                nearest[name] = distance
        # $P's distance is a weighted sum; 0 is the same cloud, 2 and more are strangers.
        return _match({name: max(0.0, 1 - d / 2) for name, d in nearest.items()}, runners_up)

    def _vector(self, stroke: Stroke) -> _Vector:
        """Return the stroke as a vector of unit length, its centre at 0."""
        points = resample(stroke, POINTS)
        xs, ys = [x for x, _ in points], [y for _, y in points]
        x0, y0 = sum(xs) / POINTS, sum(ys) / POINTS
        xs, ys = [x - x0 for x in xs], [y - y0 for y in ys]
        scale = 1 / math.hypot(*xs, *ys)
        cos, sin = scale, 0.0
        out = math.hypot(xs[0], ys[0])
        if self.max_turn is None and out > 0:
            cos, sin = scale * xs[0] / out, scale * ys[0] / out
        return (
            [x * cos + y * sin for x, y in zip(xs, ys, strict=True)],
            [y * cos - x * sin for x, y in zip(xs, ys, strict=True)],
        )

    def _likeness(self, product: _Product) -> float:
        along, across = product
        size = math.sqrt(along * along + across * across)
        if self.max_turn is None:
            return size if along > 0 else -size
        over = abs(math.atan2(across, along)) - self.max_turn
        return size if over <= 0 else size * math.cos(over)


def resample(stroke: Stroke, count: int) -> list[Point]:
    """Return `count` points at equal distances along the stroke.

    Raises:
        BadPayload: The stroke has no length, or a coordinate is no finite number.
    """
    walked = list(accumulate(map(math.dist, stroke, stroke[1:]), initial=0.0))
    total = walked[-1]
    if not MIN_LENGTH < total < math.inf:
        raise BadPayload(
            "a stroke needs at least two different points with finite coordinates",
            at="payload.strokes",
            hint="[[x, y], [x, y], …]",
        )
    step = total / (count - 1)
    out: list[Point] = [(stroke[0][0], stroke[0][1])]
    at = 1
    for number in range(1, count - 1):
        due = step * number
        while walked[at] < due:
            at += 1
        (x0, y0), (x1, y1) = stroke[at - 1], stroke[at]
        share = (due - walked[at - 1]) / (walked[at] - walked[at - 1])
        out.append((x0 + share * (x1 - x0), y0 + share * (y1 - y0)))
    out.append((stroke[-1][0], stroke[-1][1]))
    return out


def _match(best: dict[str, float], runners_up: int) -> Match:
    ranked = sorted(best.items(), key=lambda entry: (-entry[1], entry[0]))[: runners_up + 1]
    if not ranked:
        return Match("", 0.0)
    name, likeness = ranked[0]
    return Match(name, min(1.0, max(0.0, likeness)), tuple(ranked))


def _product(a: _Vector, b: _Vector) -> _Product:
    """Return the inner product of two strokes as complex vectors, real and imaginary part."""
    along = across = 0.0
    for ax, ay, bx, by in zip(a[0], a[1], b[0], b[1]):  # noqa: B905  (slower, and all are equal)
        along += ax * bx + ay * by
        across += ax * by - ay * bx
    return along, across


def _angle(product: _Product) -> float:
    """Return the angle between two unit vectors, turned as they fit best."""
    along, across = product
    return math.acos(min(1.0, math.sqrt(along * along + across * across)))


def _around_centre(name: str, examples: list[_Vector]) -> _Class:
    """Put the examples of a class around their mean, each turned to fit the first best."""
    sum_x, sum_y = [0.0] * POINTS, [0.0] * POINTS
    for example in examples:
        along, across = _product(examples[0], example)
        size = math.hypot(along, across)
        cos, sin = (along / size, across / size) if size > 0 else (1.0, 0.0)
        for number, (x, y) in enumerate(zip(*example, strict=True)):
            sum_x[number] += x * cos + y * sin
            sum_y[number] += y * cos - x * sin
    size = math.hypot(*sum_x, *sum_y)
    centre = [x / size for x in sum_x], [y / size for y in sum_y]
    members = [(_angle(_product(centre, example)), example) for example in examples]
    members.sort(key=_LEAST)
    return _Class(name, centre, members[-1][0], members)


def _cloud(strokes: Sequence[Stroke]) -> tuple[Point, ...]:
    """Return the strokes as one cloud, its centre at 0 and its larger side 1."""
    lengths = [
        math.fsum(map(math.dist, stroke, stroke[1:])) if len(stroke) > 1 else 0.0
        for stroke in strokes
    ]
    total = math.fsum(lengths)
    if not total > MIN_LENGTH or not math.isfinite(total):
        raise BadPayload("strokes without any length", at="payload.strokes")
    points: list[Point] = []
    left = CLOUD
    for number, (stroke, length) in enumerate(zip(strokes, lengths, strict=True)):
        others = len(strokes) - number - 1
        share = left if not others else max(1, min(left - others, round(CLOUD * length / total)))
        left -= share
        if share == 1 or length <= MIN_LENGTH:
            points.extend([(stroke[0][0], stroke[0][1])] * share)
        else:
            points.extend(resample(stroke, share))
    xs, ys = [x for x, _ in points], [y for _, y in points]
    size = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
    x0, y0 = math.fsum(xs) / CLOUD, math.fsum(ys) / CLOUD
    return tuple(((x - x0) / size, (y - y0) / size) for x, y in points)


def _cloud_distance(a: Sequence[Point], b: Sequence[Point], limit: float) -> float:
    """Return the least greedy matching of two clouds, or `limit` if none is below it."""
    # Starting points √n apart, as $P has them (ε = 0.5).
    step = int(len(a) ** 0.5)
    for start in range(0, len(a), step):
        limit = min(limit, _greedy(a, b, start, limit), _greedy(b, a, start, limit))
    return limit


def _greedy(a: Sequence[Point], b: Sequence[Point], start: int, limit: float) -> float:
    free = list(b)
    total = 0.0
    count = len(a)
    for number in range(count):
        ax, ay = a[(start + number) % count]
        distances = [(ax - bx) * (ax - bx) + (ay - by) * (ay - by) for bx, by in free]
        least = min(distances)
        del free[distances.index(least)]
        # Early matches had the choice and are worth more.
        total += (1 - number / count) * math.sqrt(least)
        if total >= limit:
            return limit
    return total
