"""Measures in pairs: ours and the peer in turn, in one run, so that the ratio means something.

Machines differ and are noisy, so a figure by itself says little. Each round runs every
contender once, in turn; a contender's figure is the median of its rounds, and the spread
(a quarter above and below) is shown beside it.
"""

from __future__ import annotations

import os
import resource
import statistics
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

__all__ = ["Figure", "in_turn", "table"]


@dataclass(frozen=True, slots=True)
class Figure:
    """What one contender needed, over all rounds."""

    name: str
    wall_s: tuple[float, ...]
    cpu_s: tuple[float, ...]

    @property
    def wall(self) -> float:
        """Median wall seconds."""
        return statistics.median(self.wall_s)

    @property
    def cpu(self) -> float:
        """Median CPU seconds, of this process and of the children it waited for."""
        return statistics.median(self.cpu_s)

    @property
    def spread(self) -> float:
        """Half the distance between the quartiles of the wall time."""
        if len(self.wall_s) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.wall_s, n=4)
        return (high - low) / 2


def _cpu() -> float:
    own, children = (
        resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def in_turn(contenders: Mapping[str, Callable[[], object]], rounds: int = 7) -> dict[str, Figure]:
    """Run every contender once a round, after one round that is not counted."""
    wall: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            cpu_before, before = _cpu(), time.perf_counter()
            run()
            if number:
                wall[name].append(time.perf_counter() - before)
                cpu[name].append(_cpu() - cpu_before)
    return {name: Figure(name, tuple(wall[name]), tuple(cpu[name])) for name in contenders}


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Set a table in plain text: the first column to the left, the others to the right."""
    lines = [[str(cell) for cell in row] for row in [heads, *rows]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = []
    for line in lines:
        first, *others = zip(line, widths, strict=True)
        text.append("  ".join([first[0].ljust(first[1]), *(c.rjust(w) for c, w in others)]))
    text.insert(1, "  ".join("-" * width for width in widths))
    return os.linesep.join(text)
