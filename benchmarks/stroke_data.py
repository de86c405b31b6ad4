"""Strokes of sixteen shapes as many hands might draw them: seeded, and rough on purpose.

The shapes are the sixteen of the $1 data set, as paths of a few corners. A user has a style:
proportions, slant, how round the corners are, a warp of his own for each shape. Each sample
then varies by the hand's unsteadiness, rotation, size, place, speed (slow in corners, fast
between), sampling rate, jitter of the sensor and missing samples.

Generated strokes are no substitute for recorded ones: they show that the recogniser works and
keeps working, not how well it does for people. See facts in docs/reference/device.md.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from itertools import pairwise

Point = tuple[float, float]


def _arc(x: float, y: float, r: float, start: float, end: float, steps: int = 24) -> list[Point]:
    angles = [math.radians(start + (end - start) * n / steps) for n in range(steps + 1)]
    return [(x + r * math.cos(a), y + r * math.sin(a)) for a in angles]


def _star() -> list[Point]:
    corners = [math.radians(-234 + 144 * n) for n in range(6)]
    return [(0.5 + 0.5 * math.cos(a), 0.5 + 0.5 * math.sin(a)) for a in corners]


# y grows downwards, as on a screen.
SHAPES: dict[str, list[Point]] = {
    "triangle": [(0.5, 0), (0, 1), (1, 1), (0.5, 0)],
    "x": [(0, 0), (1, 1), (1, 0), (0, 1)],
    "rectangle": [(0, 0), (0, 0.7), (1, 0.7), (1, 0), (0, 0)],
    "circle": _arc(0.5, 0.5, 0.5, -90, -450),
    "check": [(0, 0.6), (0.3, 1), (1, 0)],
    "caret": [(0, 1), (0.5, 0), (1, 1)],
    "zig-zag": [(0, 0.6), (0.2, 0), (0.4, 0.6), (0.6, 0), (0.8, 0.6), (1, 0)],
    "arrow": [(0, 1), (1, 0), (0.65, 0.05), (1, 0), (0.95, 0.35)],
    "left-bracket": [(0.45, 0), (0, 0), (0, 1), (0.45, 1)],
    "right-bracket": [(0, 0), (0.45, 0), (0.45, 1), (0, 1)],
    "v": [(0, 0), (0.5, 1), (1, 0)],
    "delete": [(0, 0), (1, 1), (0.15, 1), (1, 0)],
    "left-brace": [
        (0.5, 0),
        (0.3, 0.05),
        (0.25, 0.4),
        (0, 0.5),
        (0.25, 0.6),
        (0.3, 0.95),
        (0.5, 1),
    ],
    "right-brace": [(0, 0), (0.2, 0.05), (0.25, 0.4), (0.5, 0.5), (0.25, 0.6), (0.2, 0.95), (0, 1)],
    "star": _star(),
    "pigtail": [(0, 0.75), (0.3, 0.75), *_arc(0.55, 0.45, 0.32, 75, -250), (0.65, 0.8), (1, 0.75)],
}


@dataclass
class User:
    """One hand and its habits."""

    rng: random.Random

    def __post_init__(self) -> None:
        r = self.rng
        self.aspect = math.exp(r.gauss(0, 0.15))
        self.slant = r.gauss(0, 0.12)
        self.roundness = r.uniform(0.02, 0.12)
        self.steadiness = r.uniform(0.02, 0.05)
        self.rate_hz = r.choice([60, 80, 120])
        self.tempo = math.exp(r.gauss(0, 0.25))
        # A corner is put down anew each time; along an arc the hand errs smoothly.
        self.habits = {
            name: [(r.gauss(0, 0.045 * loose), r.gauss(0, 0.045 * loose)) for _ in corners]
            for name, corners in SHAPES.items()
            for loose in [1.0 if len(corners) < 10 else 0.35]
        }

    def draw(self, name: str, *, missing: float = 0.1, turn_deg: float = 12.0) -> list[Point]:
        """Draw a shape once: points in some unit, anywhere, at the sensor's rate."""
        r = self.rng
        loose = self.steadiness * (1.0 if len(SHAPES[name]) < 10 else 0.35)
        corners = [
            (x + hx + r.gauss(0, loose), y + hy + r.gauss(0, loose))
            for (x, y), (hx, hy) in zip(SHAPES[name], self.habits[name], strict=True)
        ]
        dense = _rounded(corners, self.roundness)
        at = _timed(dense, self.rate_hz, self.tempo * math.exp(r.gauss(0, 0.15)))
        angle = math.radians(r.gauss(0, turn_deg))
        size = math.exp(r.gauss(4, 0.4))
        x0, y0 = r.uniform(-500, 500), r.uniform(-500, 500)
        cos, sin = math.cos(angle) * size, math.sin(angle) * size
        out = []
        for number, (x, y) in enumerate(at):
            if 0 < number < len(at) - 1 and r.random() < missing:
                continue
            u = (x + self.slant * y) * self.aspect + r.gauss(0, 0.006)
            v = y / self.aspect + r.gauss(0, 0.006)
            out.append((x0 + u * cos - v * sin, y0 + u * sin + v * cos))
        return out


def _rounded(corners: list[Point], radius: float) -> list[Point]:
    """Walk the corners in small steps and smooth over about `radius`."""
    dense: list[Point] = []
    for (x0, y0), (x1, y1) in pairwise(corners):
        steps = max(2, int(math.dist((x0, y0), (x1, y1)) / 0.01))
        dense += [(x0 + (x1 - x0) * n / steps, y0 + (y1 - y0) * n / steps) for n in range(steps)]
    dense.append(corners[-1])
    reach = max(1, int(radius / 0.02))
    out = []
    for n in range(len(dense)):
        near = min(reach, n, len(dense) - 1 - n)
        window = dense[n - near : n + near + 1]
        xs, ys = zip(*window, strict=True)
        out.append((sum(xs) / len(window), sum(ys) / len(window)))
    return out


def _timed(path: list[Point], rate_hz: float, tempo: float) -> list[Point]:
    """Sample the path at the sensor's rate; the hand slows down where the path bends."""
    out, clock, due = [path[0]], 0.0, 1 / rate_hz
    for n in range(1, len(path)):
        step = math.dist(path[n - 1], path[n])
        back, ahead = path[max(0, n - 4)], path[min(len(path) - 1, n + 4)]
        chord = math.dist(back, ahead) or 1e-9
        walked = math.dist(back, path[n]) + math.dist(path[n], ahead)
        bend = min(1.0, max(0.0, walked / chord - 1) * 4)
        clock += step / (tempo * 2.5 * (1 - 0.75 * bend))
        while clock >= due:
            out.append(path[n])
            due += 1 / rate_hz
    if out[-1] != path[-1]:
        out.append(path[-1])
    return out


def users(seed: int, count: int) -> list[User]:
    """Return `count` users; the same seed draws the same strokes."""
    return [User(random.Random(f"{seed}-{number}")) for number in range(count)]
