"""Timers: a million scheduled, half cancelled, the rest fired, against a heap of tuples.

`python -m benchmarks.timers [count]` prints both and their ratio. They take turns in one
process, and the ratio is that of CPU seconds within a round, as everywhere here.
"""

from __future__ import annotations

import heapq
import random
import statistics
import sys

from benchmarks.built import RESULTS
from benchmarks.contest import Ratio, quartiles
from benchmarks.harness import Figure, in_turn
from benchmarks.report import Row, text, write
from dan9.kernel.timers import TimerHeap

HOUR_NS = 3_600_000_000_000
STEP_NS = 100_000_000


def ours(whens: list[int]) -> None:
    """Schedule, cancel and fire with the kernel's heap."""
    item = object()
    heap = TimerHeap()
    timers = [heap.schedule(when, item) for when in whens]
    for timer in timers[::2]:
        timer.cancel()
    fired = 0
    for now in range(0, HOUR_NS + 1, STEP_NS):
        fired += len(heap.pop_due(now))
    assert fired == len(whens) // 2, fired


def tuples(whens: list[int]) -> None:
    """The same with (time, sequence, cell) tuples, cancelled by a flag."""
    heap: list[tuple[int, int, list[bool]]] = []
    cells = []
    for sequence, when in enumerate(whens):
        cell = [True]
        cells.append(cell)
        heapq.heappush(heap, (when, sequence, cell))
    for cell in cells[::2]:
        cell[0] = False
    fired = 0
    for now in range(0, HOUR_NS + 1, STEP_NS):
        while heap and heap[0][0] <= now:
            fired += heapq.heappop(heap)[2][0]
    assert fired == len(whens) // 2, fired


def rate(figure: Figure, count: int) -> Ratio:
    """Return timers per CPU second."""
    found = quartiles([count / cpu_s for cpu_s in figure.cpu_s])
    assert found is not None
    return found


def main() -> int:
    """Print timers per CPU second of both and the ratio; 1 if the goal is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    draw = random.Random(1)
    whens = [draw.randrange(HOUR_NS) for _ in range(count)]
    figures = in_turn(
        {"timer heap": lambda: ours(whens), "heap of tuples": lambda: tuples(whens)}, rounds=5
    )
    own, peer = figures["timer heap"], figures["heap of tuples"]
    ratios = [theirs / mine for mine, theirs in zip(own.cpu_s, peer.cpu_s, strict=True)]
    rows = [
        Row("timers / heap of tuples", quartiles(ratios), 2.0),
        Row(
            "timers scheduled, half cancelled, fired",
            rate(own, count),
            150_000,
            unit="/s",
            theirs=count / statistics.median(peer.cpu_s),
        ),
    ]
    print(text(rows))
    write("timers", "The kernel's timer heap", rows, [], RESULTS)
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
