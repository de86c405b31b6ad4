"""What monitoring knows of each daemon: last figures, rates, history, totals.

`Book` is fed samples (address, metrics, time) and keeps everything that can be asked for
later. It does no I/O and reads no clock. A sample is worth a row only if something
changed; a daemon that falls silent gets one last row, with a rate of zero.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from math import ceil

from dan9.daemons.historyfile import COARSE, FINE, SLOTS, ChunkRow
from dan9.daemons.series import Point, Recent, Roster, Tier

__all__ = ["Book", "Figures", "aggregate"]

_NOT_KEPT = frozenset({"uptime"})
"""Moves without anything happening."""

_HEAD = 8


class Figures:
    """The last sample of one daemon, flat in one array (a tenth of what a dict takes).

    Attributes:
        names: The metrics.
        data: Time, messages handled, queued, rate, busy; time, handled and busy seconds
            where the present rate begins; then the values of the metrics.
    """

    __slots__ = ("data", "names")

    def __init__(self, when: float, handled: float, busy_s: float, busy: float) -> None:
        self.names: tuple[str, ...] = ()
        self.data = array("d", (when, 0.0, 0.0, 0.0, busy, when, handled, busy_s))

    @property
    def metrics(self) -> dict[str, float]:
        """The values by name."""
        return dict(zip(self.names, self.data[_HEAD:], strict=True))

    @property
    def rate(self) -> float:
        """Messages handled in a second."""
        return self.data[3]

    @property
    def queued(self) -> float:
        """Messages in the mailbox."""
        return self.data[2]

    def value(self, metric: str) -> float | None:
        """Return one value, or None."""
        if metric in self.names:
            return self.data[_HEAD + self.names.index(metric)]
        return None


class Book:
    """Figures and history of every daemon of a node.

    Args:
        span_s: How far the history in memory reaches.
        max_series: Series on disk, sums by group included; 0: nothing is for the disk.
        least_s: Rates are of this long a time at least, however often somebody asks.
    """

    def __init__(self, span_s: float = 300.0, max_series: int = 2000, least_s: float = 0.5) -> None:
        self._least_s = least_s
        self.recent = Recent(span_s)
        self.roster = Roster(max_series, max_series // 10)
        self.figures: dict[str, Figures] = {}
        self.handled = 0.0
        self.rate = 0.0
        self.queued = 0.0
        self.chunks: list[ChunkRow] = []
        """Full chunks on their way to the disk."""
        self.new_series: list[tuple[int, str, str]] = []
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._known = 0
        self._keeps = max_series > 0
        self._lively: dict[str, None] = {}
        self._unstored: dict[str, None] = {}
        self._tiers = {tier: Tier(tier, SLOTS[tier], self._emit(tier)) for tier in (FINE, COARSE)}
        self._stored_at = dict.fromkeys(self._tiers, 0.0)
        self._coarse: dict[int, float] = {}

    def add(self, address: str, metrics: Mapping[str, float], when: float) -> dict[str, float]:
        """Take a sample; return what is kept of it, with rate and busy of the time since."""
        figures = self.figures.get(address)
        handled = metrics.get("handled", 0.0)
        busy_s = metrics.get("busy", 0.0) * metrics.get("uptime", 0.0)
        kept = {name: value for name, value in metrics.items() if name not in _NOT_KEPT}
        if figures is None:
            busy = metrics.get("busy", 0.0)
            figures = self.figures[address] = Figures(when, handled, busy_s, busy)
        data = figures.data
        rate, busy = data[3], data[4]
        span = when - data[5]
        if span >= self._least_s:
            rate = max(0.0, handled - data[6]) / span
            busy = min(1.0, max(0.0, busy_s - data[7]) / span)
            data[5], data[6], data[7] = when, handled, busy_s
        depth = metrics.get("mailbox-depth", 0.0)
        self.handled += max(0.0, handled - data[1])
        self.rate += rate - data[3]
        self.queued += depth - data[2]
        kept["rate"], kept["busy"] = rate, busy
        data[0], data[1], data[2], data[3], data[4] = when, handled, depth, rate, busy
        before = figures.metrics if figures.names else None
        names = tuple(kept)
        figures.names = self._shapes.setdefault(names, names)
        data[_HEAD:] = array("d", kept.values())
        self.recent.add(address, when, kept, before)
        if rate > 0:
            self._lively[address] = None
        else:
            self._lively.pop(address, None)
        if self._keeps:
            self._unstored[address] = None
        return kept

    def fallen_silent(self, changed: Sequence[str]) -> list[str]:
        """Return who had a rate and has not changed since: each wants one more sample."""
        if not self._lively:
            return []
        alive = set(changed)
        return [address for address in self._lively if address not in alive]

    def gone(self, address: str) -> None:
        """A daemon has ended: it leaves the present, and keeps its past."""
        figures = self.figures.pop(address, None)
        if figures is None:
            return
        self.recent.keep(address, figures.metrics)
        self.rate -= figures.rate
        self.queued -= figures.queued
        self._lively.pop(address, None)
        self._unstored.pop(address, None)
        self.roster.gone(address)

    def names(self, address: str) -> list[str]:
        """Return the metrics of which memory knows a past."""
        figures = self.figures.get(address)
        names = figures.names if figures is not None else ()
        return list(dict.fromkeys((*names, *self.recent.metrics(address))))

    def points(self, address: str, metric: str, since: float) -> list[Point]:
        """Return what memory knows of one metric's past."""
        figures = self.figures.get(address)
        constant = None if figures is None else figures.value(metric)
        return self.recent.points(address, metric, since, constant)

    def store(self, when: float) -> bool:
        """Put what has changed into the tiers, if their step has come; True if it had."""
        if not self._keeps or when - self._stored_at[FINE] < FINE:
            return False
        self._stored_at[FINE] = when // FINE * FINE
        values: dict[int, float] = {}
        for address in self._unstored:
            values.update(self.roster.settle(address, self.figures[address].metrics))
        self._unstored.clear()
        self._note_series()
        self._tiers[FINE].add(when, values)
        self._coarse.update(values)
        if when - self._stored_at[COARSE] >= COARSE:
            self._stored_at[COARSE] = when // COARSE * COARSE
            self._tiers[COARSE].add(when, self._coarse)
            self._coarse.clear()
        self.recent.forget(when - self.recent.span_s)
        return True

    def flush(self, when: float) -> None:
        """Turn everything that waits into chunks, complete or not."""
        if not self._keeps:
            return
        self._stored_at[FINE] = self._stored_at[COARSE] = -COARSE
        self.store(when)
        for tier in self._tiers.values():
            tier.flush()

    def take_chunks(self) -> tuple[list[tuple[int, str, str]], list[ChunkRow]]:
        """Return new series and full chunks, and forget them."""
        taken = self.new_series, self.chunks
        self.new_series, self.chunks = [], []
        return taken

    def waiting(self, address: str, metric: str, tier: int) -> list[Point]:
        """Return the points of a series that are not on disk yet."""
        series = self.roster.ids.get((address, metric))
        return [] if series is None else self._tiers[tier].points(series)

    def load_series(self, ids: Mapping[tuple[str, str], int]) -> None:
        """Take up the series that are on disk."""
        self.roster.load(ids)
        self._known = len(self.roster.ids)

    def keep_nothing(self) -> None:
        """There is no disk after all."""
        self._keeps = False

    def _note_series(self) -> None:
        """Remember series admitted since the last time (a dict keeps its order)."""
        if len(self.roster.ids) > self._known:
            fresh = list(self.roster.ids.items())[self._known :]
            self.new_series += [(found, address, metric) for (address, metric), found in fresh]
            self._known = len(self.roster.ids)

    def _emit(self, tier: int) -> Callable[[int, int, bytes], None]:
        def emit(series: int, start: int, packed: bytes) -> None:
            self.chunks.append((series, tier, start, packed))

        return emit


def aggregate(values: Sequence[float]) -> dict[str, float | int | None]:
    """Return count, sum, average, min, max, p50, p95 and p99, exactly; None of nothing."""
    count = len(values)
    if not count:
        return {"count": 0, "sum": 0.0} | dict.fromkeys(
            ("average", "min", "max", "p50", "p95", "p99")
        )
    ordered = sorted(values)
    total = float(sum(ordered))

    def share(part: float) -> float:
        return ordered[max(0, min(count - 1, ceil(part * count) - 1))]

    return {
        "count": count,
        "sum": total,
        "average": total / count,
        "min": ordered[0],
        "max": ordered[-1],
        "p50": share(0.50),
        "p95": share(0.95),
        "p99": share(0.99),
    }
