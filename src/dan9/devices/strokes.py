"""Which shape a stroke is: the Protractor recogniser, made cheap without numpy.

A stroke is resampled to 16 points at equal distances along its path, moved to its centre and
scaled to unit length; two strokes are as alike as the cosine of the angle between them, after
the one was turned against the other as it fits best. That best turn has a closed form
(Protractor), so one comparison is one inner product: with points as complex numbers its
absolute value is the similarity and its argument the turn.

What we add. A hand's stroke is smooth: nearly all of its length lies in the first few terms of
its cosine transform (DCT-II), which is orthonormal, so that inner products are the same before
and after. Three terms and the length of the rest bound the similarity from above, and most
templates are dismissed by that bound. The answer is the same as without; 144 templates take
some 90 µs of plain Python, where the direct sums take 250.

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

import cmath
import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import itemgetter, mul
from typing import Final

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


_Vector = tuple[complex, ...]
# The first terms of a template and the length of the others.
_Head = tuple[complex, complex, complex, float]
_BY_BOUND: Final = itemgetter(0)


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
    # The same, laid out for one loop: heads, whole vectors, and where each class lies.
    _heads: list[_Head] = field(default_factory=list)
    _flat: list[_Vector] = field(default_factory=list)
    _spans: dict[str, slice] = field(default_factory=dict)
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
        self._spans.clear()

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
        self._spans.clear()
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
        vector = self._vector(stroke)
        z0, z1, z2, rest = _head(vector)
        z0, z1, z2 = z0.conjugate(), z1.conjugate(), z2.conjugate()
        query = tuple(map(complex.conjugate, vector))
        if not self._spans:
            self._arrange()
        bounds = [
            abs(z0 * w0 + z1 * w1 + z2 * w2) + rest * left for w0, w1, w2, left in self._heads
        ]
        # The classes that may be best, by the best bound of each; one exact look at each.
        tops = [(max(bounds[span]), name, span) for name, span in self._spans.items()]
        tops.sort(key=_BY_BOUND, reverse=True)
        best: dict[str, float] = {}
        for top, name, span in tops[: runners_up + 1]:
            at = bounds.index(top, span.start)
            best[name] = self._likeness(sum(map(mul, query, self._flat[at])))
            bounds[at] = 0.0
        # Then whatever could still beat the best of them.
        least = max(best.values(), default=2.0)
        for at in [at for at, bound in enumerate(bounds) if bound > least]:
            if bounds[at] > least:
                found = self._likeness(sum(map(mul, query, self._flat[at])))
                if found > least:
                    least = found
                    best[self._name(at)] = found
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

    def _arrange(self) -> None:
        """Lay the templates out, each class in one span."""
        self._heads, self._flat = [], []
        for name, templates in self._strokes.items():
            start = len(self._flat)
            self._flat.extend(templates)
            self._heads.extend(map(_head, templates))
            self._spans[name] = slice(start, len(self._flat))

    def _name(self, at: int) -> str:
        return next(name for name, span in self._spans.items() if at < span.stop)

    def _vector(self, stroke: Stroke) -> _Vector:
        """Return the stroke as a vector of unit length, its centre at 0."""
        points = [complex(x, y) for x, y in resample(stroke, POINTS)]
        centre = sum(points) / POINTS
        points = [point - centre for point in points]
        scale: complex = 1 / math.hypot(*map(abs, points))
        first = points[0]
        if self.max_turn is None and first:
            scale *= first.conjugate() / abs(first)
        return tuple([point * scale for point in points])

    def _likeness(self, product: complex) -> float:
        if self.max_turn is None:
            return abs(product) if product.real > 0 else -abs(product)
        over = abs(cmath.phase(product)) - self.max_turn
        return abs(product) if over <= 0 else abs(product) * math.cos(over)


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
        at = bisect_left(walked, due, at)
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


# Rows of the orthonormal DCT-II: where a stroke's length lies. Row 0, the mean, is 0 for all.
_ROWS: Final = [
    [math.sqrt(2 / POINTS) * math.cos(math.pi * (n + 0.5) * k / POINTS) for n in range(POINTS)]
    for k in (1, 2, 3)
]


def _head(vector: _Vector) -> _Head:
    """Return the first terms of a vector's cosine transform, and the length of all others."""
    a, b, c = (sum(map(mul, row, vector)) for row in _ROWS)
    return a, b, c, math.sqrt(max(0.0, 1 - abs(a) ** 2 - abs(b) ** 2 - abs(c) ** 2))


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
