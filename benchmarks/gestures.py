"""Accuracy and cost of the shape recogniser on generated strokes, class by class.

    python -m benchmarks gestures
    python -m benchmarks.gestures SEED

Sixteen classes, twelve users, ten strokes of each by each (stroke_data.py). Known users: 1, 3 and 5
examples of one's own; strangers: one example of nine other users each. Generated strokes say
that it works, not how well it does for people; for that, see docs/reference/device.md.

Goals: ≥ 97.5 % with one example, ≥ 99 % with three, ≥ 96 % for strangers, and < 100 µs a
recognition over 144 examples: CPU time, the least of nine means over all strokes, compiled;
uncompiled it is shown beside it. Ends with 1 if one is missed.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.built import in_both
from benchmarks.harness import table
from benchmarks.stroke_data import SHAPES, Point, users
from dan9.devices.strokes import Shapes

USERS, SAMPLES = 12, 10
BOUNDS = {"1 example": 0.975, "3 examples": 0.99, "stranger": 0.96}
MOST_US = 100.0

Drawn = dict[tuple[int, str], list[list[Point]]]
Scores = dict[str, list[bool]]


def known(drawn: Drawn, examples: int) -> Scores:
    """Recognise each user's strokes by examples of his own."""
    scores: Scores = {name: [] for name in SHAPES}
    for user in range(USERS):
        for first in (0, SAMPLES // 2):
            chosen = {(first + n) % SAMPLES for n in range(examples)}
            shapes = Shapes()
            for name in SHAPES:
                for n in chosen:
                    shapes.train(name, drawn[user, name][n])
            for name in SHAPES:
                for n, stroke in enumerate(drawn[user, name]):
                    if n not in chosen:
                        scores[name].append(shapes.recognize(stroke, 0).name == name)
    return scores


def stranger(drawn: Drawn) -> Scores:
    """Recognise each user's strokes by one example of nine others each."""
    scores: Scores = {name: [] for name in SHAPES}
    for user in range(USERS):
        shapes = trained(drawn, [(user + n) % USERS for n in range(1, 10)])
        for name in SHAPES:
            scores[name] += [shapes.recognize(s, 0).name == name for s in drawn[user, name]]
    return scores


def trained(drawn: Drawn, by: list[int]) -> Shapes:
    """Return shapes with one example of each class by each of these users."""
    shapes = Shapes()
    for user in by:
        for name in SHAPES:
            shapes.train(name, drawn[user, name][0])
    return shapes


def cost_us(drawn: Drawn) -> float:
    """Return microseconds of CPU a recognition over 144 examples takes."""
    shapes = trained(drawn, list(range(9)))
    strokes = [stroke for name in SHAPES for stroke in drawn[USERS - 1, name]]
    means = []
    for _ in range(9):
        begun = time.process_time()
        for stroke in strokes:
            shapes.recognize(stroke)
        means.append((time.process_time() - begun) / len(strokes))
    return min(means) * 1e6


def draw(seed: int) -> Drawn:
    """Return the strokes of every user and shape."""
    return {
        (number, name): [user.draw(name) for _ in range(SAMPLES)]
        for number, user in enumerate(users(seed, USERS))
        for name in SHAPES
    }


def main() -> int:
    """Print the table; 1 if a bound is missed."""
    if sys.argv[1:2] == ["cost"]:
        print(json.dumps(cost_us(draw(int(sys.argv[2])))))
        return 0
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    drawn = draw(seed)
    columns = {
        "1 example": known(drawn, 1),
        "3 examples": known(drawn, 3),
        "5 examples": known(drawn, 5),
        "stranger": stranger(drawn),
    }
    rows: list[list[str]] = [
        [name, *(f"{100 * sum(s[name]) / len(s[name]):.1f} %" for s in columns.values())]
        for name in SHAPES
    ]
    total = {
        column: sum(map(sum, scores.values())) / sum(map(len, scores.values()))
        for column, scores in columns.items()
    }
    rows.append(["all", *(f"{100 * share:.2f} %" for share in total.values())])
    print(table(["class", *columns], rows))
    cost = in_both("benchmarks.gestures", "cost", str(seed))
    print()
    goals = [(name, f"{100 * total[name]:.2f} %", f"{100 * bound} %", total[name] >= bound)
             for name, bound in BOUNDS.items()]  # fmt: skip
    first = next(iter(cost.values()))
    goals.append(("µs of 144 examples", f"{first:.0f}", f"{MOST_US:.0f}", first < MOST_US))
    print(
        table(
            ["goal", "measured", "bound", ""], [(*g[:3], "" if g[3] else "MISSED") for g in goals]
        )
    )
    print("µs a recognition: " + ", ".join(f"{kind} {taken:.0f}" for kind, taken in cost.items()))
    return 0 if all(goal[3] for goal in goals) else 1


if __name__ == "__main__":
    sys.exit(main())
