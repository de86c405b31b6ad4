"""Timers: a million scheduled, half cancelled, the rest fired, against a heap of tuples.

`python -m benchmarks.timers [count]` prints both and their ratio; both run in the same
process, one after the other, so that the ratio means something on a noisy machine.
"""

from __future__ import annotations

import heapq
import random
import sys
import time

from dan9.kernel.timers import TimerHeap

HOUR_NS = 3_600_000_000_000
STEP_NS = 100_000_000


def ours(whens: list[int]) -> tuple[float, int]:
    """Schedule, cancel and fire with the kernel's heap."""
    item = object()
    begun = time.perf_counter()
    heap = TimerHeap()
    handles = [heap.schedule(when, item) for when in whens]
    for handle in handles[::2]:
        heap.cancel(handle)
    fired = 0
    now = 0
    while now <= HOUR_NS:
        fired += len(heap.pop_due(now))
        now += STEP_NS
    return time.perf_counter() - begun, fired


def tuples(whens: list[int]) -> tuple[float, int]:
    """The same with (time, sequence, cell) tuples, cancelled by a flag."""
    begun = time.perf_counter()
    heap: list[tuple[int, int, list[bool]]] = []
    cells = []
    for sequence, when in enumerate(whens):
        cell = [True]
        cells.append(cell)
        heapq.heappush(heap, (when, sequence, cell))
    for cell in cells[::2]:
        cell[0] = False
    fired = 0
    now = 0
    while now <= HOUR_NS:
        while heap and heap[0][0] <= now:
            fired += heapq.heappop(heap)[2][0]
        now += STEP_NS
    return time.perf_counter() - begun, fired


def main() -> int:
    """Print timers per second of both and the ratio; 1 if the goal is missed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    draw = random.Random(1)
    whens = [draw.randrange(HOUR_NS) for _ in range(count)]
    own, fired = ours(whens)
    peer, fired_by_peer = tuples(whens)
    assert fired == fired_by_peer == count // 2, (fired, fired_by_peer)
    print(f"timer heap      {count / own:>12,.0f} timers/s")
    print(f"heap of tuples  {count / peer:>12,.0f} timers/s")
    print(f"ratio           {peer / own:>12.1f}")
    return 0 if count / own >= 150_000 and peer / own >= 2 else 1


if __name__ == "__main__":
    raise SystemExit(main())
