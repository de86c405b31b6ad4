"""What monitoring knows of each daemon: last figures, rates, history, totals.

`Book` is fed samples (address, metrics, time) and keeps everything that can be asked for
later. It does no I/O and reads no clock. A sample is worth a row only if something
changed; a daemon that falls silent gets one last row, with a rate of zero.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from math import ceil

from dan9.daemons.historyfile import COARSE, FINE, SLOTS, ChunkRow
from dan9.daemons.monitoring_replies import AggregateRow
from dan9.daemons.series import Point, Recent, Roster, Tier

__all__ = ["Book", "Figures", "aggregate"]

_NOT_KEPT = frozenset({"uptime"})
"""Moves without anything happening."""

_NOT_SUMMED = ("-p50", "-p99")
"""A sum of percentiles means nothing."""
_HEAD = 8
_MOST_SHAPES = 1000


_FIGURES_BYTES = 5_000_000
"""What the last samples of all daemons may take: those of some 12,000. With the samples of
the last minutes (6 MB), what waits for the disk and the roster it is 16 MB in all cases."""
_A_FIGURE = 250
"""What the last sample of one daemon takes beside its values."""
_MOST_METRICS = 200
"""Metrics of one daemon; one that makes a metric of each customer has the first so many."""
_MOST_CHUNKS = 8_000
"""Chunks that wait for a disk that does not take them."""
_SETTLED_S = 300.0
"""A daemon that has been there for so long is there to stay."""


class Figures:
    """The last sample of one daemon, flat in one array (a tenth of what a dict takes).

    Attributes:
        names: The metrics.
        data: Time, when it was first seen, queued, rate, busy; time, handled and busy seconds
            where the present rate begins; then the values of the metrics.
        sums: What these values are part of; None: the daemon has series of its own.
    """

    __slots__ = ("data", "names", "sums")

    def __init__(self, when: float, handled: float, busy_s: float, busy: float) -> None:
        self.names: tuple[str, ...] = ()
        self.data = array("d", (when, when, 0.0, 0.0, busy, when, handled, busy_s))
        self.sums: dict[str, float] | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """The values by name."""
        return dict(zip(self.names, self.data[_HEAD:], strict=True))

    @property
    def when(self) -> float:
        """The time of the sample."""
        return self.data[0]

    @property
    def rate(self) -> float:
        """Messages handled in a second."""
        return self.data[3]

    @property
    def bytes(self) -> int:
        """What it takes in memory, close to the truth."""
        return _A_FIGURE + 8 * len(self.data)

    def value(self, metric: str) -> float | None:
        """Return one value, or None."""
        if metric in self.names:
            return self.data[_HEAD + self.names.index(metric)]
        return None

    def count(self, sign: int) -> None:
        """Add the values to the sums, or take them out."""
        if self.sums is not None:
            for name, value in zip(self.names, self.data[_HEAD:], strict=True):
                if not name.endswith(_NOT_SUMMED):
                    self.sums[name] = self.sums.get(name, 0.0) + sign * value


class Book:
    """Figures and history of every daemon of a node, in a bounded room.

    Args:
        span_s: How far the history in memory reaches.
        max_series: Series on disk, sums by group included; 0: nothing is for the disk.
        least_s: Rates are of this long a time at least, however often somebody asks.
    """

    def __init__(self, span_s: float = 300.0, max_series: int = 2000, least_s: float = 0.5) -> None:
        self._least_s = least_s
        self.recent = Recent(span_s, step_s=least_s)
        self.roster = Roster(max_series, max_series // 10)
        self.figures: dict[str, Figures] = {}
        """By address; who has not changed for longest comes first, and goes first."""
        self.ended = 0.0
        """Messages that daemons which are no more have handled."""
        self.chunks: list[ChunkRow] = []
        """Full chunks on their way to the disk."""
        self._ticks = (0.0, 0.0)
        self._bytes = 0
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._keeps = max_series > 0
        self._lively: dict[str, None] = {}
        self._unstored: dict[str, None] = {}
        self._tiers = {tier: Tier(tier, SLOTS[tier], self._emit(tier)) for tier in (FINE, COARSE)}
        self._stored_at = dict.fromkeys(self._tiers, 0.0)
        self._coarse: dict[int, float] = {}
        self._sums: dict[int, float] = {}

    @property
    def rate(self) -> float:
        """Messages that the node handles in a second."""
        return sum(self.figures[address].rate for address in self._lively)

    def tick(self, when: float) -> None:
        """Say that whoever has changed is about to be sampled: all others were as they are."""
        if when - self._ticks[1] >= self._least_s:
            self._ticks = self._ticks[1], when

    def add(self, address: str, metrics: Mapping[str, float], when: float) -> dict[str, float]:
        """Take a sample; return what is kept of it, with rate and busy of the time since."""
        figures = self.figures.pop(address, None)
        handled = metrics.get("handled", 0.0)
        busy_s = metrics.get("busy", 0.0) * metrics.get("uptime", 0.0)
        kept = {name: value for name, value in metrics.items() if name not in _NOT_KEPT}
        if len(kept) > _MOST_METRICS:
            kept = dict(islice(kept.items(), _MOST_METRICS))
        is_new = figures is None
        if figures is None:
            figures = Figures(when, handled, busy_s, metrics.get("busy", 0.0))
        else:
            self._bytes -= figures.bytes
            figures.count(-1)
        data = figures.data
        rate, busy = data[3], data[4]
        span = when - max(data[5], min(self._ticks[0], when))
        if span >= self._least_s:
            rate = max(0.0, handled - data[6]) / span
            busy = min(1.0, max(0.0, busy_s - data[7]) / span)
            data[5], data[6], data[7] = when, handled, busy_s
        kept["rate"], kept["busy"] = rate, busy
        data[0], data[2], data[3], data[4] = when, handled, rate, busy
        names = tuple(kept)
        if names != figures.names:
            figures.names = self._shape(names)
        values = array("d", kept.values())
        data[_HEAD:] = values
        self.recent.add(address, when, figures.names, values)
        if rate > 0:
            self._lively[address] = None
        else:
            self._lively.pop(address, None)
        if self._keeps:
            if is_new:
                figures.sums = self.roster.place(address, figures.names)
            figures.count(+1)
            self._unstored[address] = None
        self.figures[address] = figures
        self._bytes += figures.bytes
        while self._bytes > _FIGURES_BYTES and len(self.figures) > 1:
            self._let_go(next(iter(self.figures)))
        return kept

    def fallen_silent(self, changed: Sequence[str]) -> list[str]:
        """Return who had a rate and has not changed since: each wants one more sample."""
        if not self._lively:
            return []
        alive = set(changed)
        return [address for address in self._lively if address not in alive]

    def gone(self, address: str) -> None:
        """A daemon has ended: it leaves the present, and keeps its past."""
        figures = self.figures.get(address)
        if figures is not None:
            self.ended += figures.value("handled") or 0.0
            self._let_go(address)

    def past(self, address: str) -> dict[str, list[Point]]:
        """Return what memory knows: metric → points, oldest first; the last sample at least."""
        found: dict[str, list[Point]] = {}
        for when, values in self.recent.rows(address):
            for name, value in values.items():
                found.setdefault(name, []).append((when, value))
        figures = self.figures.get(address)
        if figures is not None:
            for name, value in figures.metrics.items():
                found.setdefault(name, [(figures.when, value)])
        return found

    def store(self, when: float) -> bool:
        """Put what has changed into the tiers, if their step has come; True if it had."""
        if not self._keeps or when - self._stored_at[FINE] < FINE:
            return False
        self._stored_at[FINE] = when // FINE * FINE
        values: dict[int, float] = {}
        for address in self._unstored:
            figures = self.figures[address]
            if figures.sums is not None and when - figures.data[1] >= _SETTLED_S:
                self._settle(address, figures)
            if figures.sums is None:
                for name, value in zip(figures.names, figures.data[_HEAD:], strict=True):
                    if (series := self.roster.series(address, name)) is not None:
                        values[series] = value
        self._unstored.clear()
        for group, sums in self.roster.sums.items():
            for name, value in sums.items():
                series = self.roster.series(group, name)
                if series is not None and self._sums.get(series) != value:
                    values[series] = self._sums[series] = value
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

    def take_chunks(self) -> list[ChunkRow]:
        """Return the full chunks, and forget them."""
        taken, self.chunks = self.chunks, []
        return taken

    def waiting(self, address: str, metric: str, tier: int) -> list[Point]:
        """Return the points of a series that are not on disk yet."""
        series = self.roster.ids.get((address, metric))
        return [] if series is None else self._tiers[tier].points(series)

    def keep_nothing(self) -> None:
        """There is no disk after all."""
        self._keeps = False

    def _let_go(self, address: str) -> None:
        figures = self.figures.pop(address)
        self._bytes -= figures.bytes
        self._lively.pop(address, None)
        self._unstored.pop(address, None)
        if self._keeps:
            figures.count(-1)
            self.roster.gone(address)

    def _settle(self, address: str, figures: Figures) -> None:
        """Give a daemon that is there to stay series of its own, if one that is gone had some."""
        if self.roster.settle(address, figures.names):
            figures.count(-1)
            figures.sums = None

    def _shape(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Return the one tuple that daemons with the same metrics share."""
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        return self._shapes.setdefault(names, names)

    def _emit(self, tier: int) -> Callable[[int, int, bytes], None]:
        def emit(series: int, start: int, packed: bytes) -> None:
            if len(self.chunks) < _MOST_CHUNKS:
                self.chunks.append((series, tier, start, packed))

        return emit


def aggregate(values: Sequence[float]) -> AggregateRow:
    """Return count, sum, average, min, max, p50, p95 and p99, exactly; None of nothing."""
    count = len(values)
    ordered = sorted(values)
    total = float(sum(ordered))

    def share(part: float) -> float | None:
        return ordered[max(0, ceil(part * count) - 1)] if ordered else None

    return {
        "count": count,
        "sum": total,
        "average": total / count if count else None,
        "min": share(0.0),
        "max": share(1.0),
        "p50": share(0.50),
        "p95": share(0.95),
        "p99": share(0.99),
    }
