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
from dan9.daemons.monitoring_replies import AggregateRow
from dan9.daemons.series import Point, Recent, Roster, Tier

__all__ = ["Book", "Figures", "aggregate"]

_NOT_SUMMED = ("-p50", "-p99")
"""A sum of percentiles means nothing."""
_HEAD = 7
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


class _Shape:
    """Which metrics a daemon has, worked out once for all that have the same.

    Attributes:
        names: What is kept: all but the uptime, and the rate.
        busy: Where the share of busy time stands among what is sampled, or -1.
        uptime: Where the uptime stands, or -1.
        summed: Where that stands which can be summed, and its name.
    """

    __slots__ = ("busy", "names", "summed", "uptime")

    def __init__(self, sampled: tuple[str, ...]) -> None:
        self.busy = sampled.index("busy") if "busy" in sampled else -1
        self.uptime = sampled.index("uptime") if "uptime" in sampled else -1
        kept = [name for name in sampled if name != "uptime"][:_MOST_METRICS]
        self.names = (*kept, "rate")
        self.summed = [
            (place, name) for place, name in enumerate(self.names) if not name.endswith(_NOT_SUMMED)
        ]

    def values(self, metrics: Mapping[str, float], rate: float, busy: float) -> list[float]:
        """Return what is kept of a sample."""
        values = list(metrics.values())
        if self.busy >= 0:
            values[self.busy] = busy
        if self.uptime >= 0:
            del values[self.uptime]
        del values[_MOST_METRICS:]
        values.append(rate)
        return values


class Figures:
    """The last sample of one daemon, flat in one array (a tenth of what a dict takes).

    Attributes:
        shape: The metrics.
        data: Time, when it was first seen, rate, busy; time, handled and busy seconds where
            the present rate begins; then the values of the metrics.
        sums: What these values are part of; None: the daemon has series of its own.
    """

    __slots__ = ("data", "shape", "sums")

    def __init__(self, shape: _Shape, when: float, handled: float, busy_s: float) -> None:
        self.shape = shape
        self.data = array("d", (when, when, 0.0, 0.0, when, handled, busy_s))
        self.sums: dict[str, float] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics by name."""
        return self.shape.names

    @property
    def values(self) -> array[float]:
        """The values in the order of the names."""
        return self.data[_HEAD:]

    @property
    def metrics(self) -> dict[str, float]:
        """The values by name."""
        return dict(zip(self.names, self.values, strict=True))

    @property
    def when(self) -> float:
        """The time of the sample."""
        return self.data[0]

    @property
    def born(self) -> float:
        """The time of the first one."""
        return self.data[1]

    @property
    def rate(self) -> float:
        """Messages handled in a second."""
        return self.data[2]

    @property
    def bytes(self) -> int:
        """What it takes in memory, close to the truth."""
        return _A_FIGURE + 8 * (_HEAD + len(self.names))

    def value(self, metric: str) -> float | None:
        """Return one value, or None."""
        if metric in self.names:
            return self.data[_HEAD + self.names.index(metric)]
        return None

    def take(self, shape: _Shape, values: list[float]) -> None:
        """Put new values in the place of the old ones, in the sums as well."""
        data, sums = self.data, self.sums
        if sums is not None:
            if shape is self.shape and len(data) > _HEAD:
                for place, name in shape.summed:
                    change = values[place] - data[_HEAD + place]
                    if change:
                        sums[name] = sums.get(name, 0.0) + change
            else:
                self.leave_sums()
                for place, name in shape.summed:
                    sums[name] = sums.get(name, 0.0) + values[place]
        self.shape = shape
        data[_HEAD:] = array("d", values)

    def leave_sums(self) -> None:
        """Take the values out of the sums."""
        if self.sums is not None and len(self.data) > _HEAD:
            for place, name in self.shape.summed:
                self.sums[name] = self.sums.get(name, 0.0) - self.data[_HEAD + place]


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
        self._shapes: dict[tuple[str, ...], _Shape] = {}
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

    def add(self, address: str, metrics: Mapping[str, float], when: float) -> None:
        """Take a sample; rate and busy are of the time since the sample before."""
        sampled = tuple(metrics)
        shape = self._shapes.get(sampled)
        if shape is None:
            shape = self._new_shape(sampled)
        handled = metrics.get("handled", 0.0)
        rate, busy = 0.0, metrics.get("busy", 0.0)
        busy_s = busy * metrics.get("uptime", 0.0)
        figures = self.figures.pop(address, None)
        is_new = figures is None
        if figures is None:
            figures = Figures(shape, when, handled, busy_s)
            if self._keeps:
                figures.sums = self.roster.place(address, shape.names)
            self._bytes += figures.bytes
        data = figures.data
        if not is_new:
            rate, busy = data[2], data[3]
            span = when - max(data[4], min(self._ticks[0], when))
            if span >= self._least_s:
                rate = max(0.0, handled - data[5]) / span
                busy = min(1.0, max(0.0, busy_s - data[6]) / span)
                data[4], data[5], data[6] = when, handled, busy_s
            if shape is not figures.shape:
                self._bytes += 8 * (len(shape.names) - len(figures.names))
        data[0], data[2], data[3] = when, rate, busy
        values = shape.values(metrics, rate, busy)
        figures.take(shape, values)
        self.figures[address] = figures
        self.recent.add(address, when, shape.names, values)
        if rate > 0:
            self._lively[address] = None
        elif address in self._lively:
            del self._lively[address]
        if self._keeps:
            self._unstored[address] = None
        while self._bytes > _FIGURES_BYTES and len(self.figures) > 1:
            self._let_go(next(iter(self.figures)))

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
            if figures.sums is not None and when - figures.born >= _SETTLED_S:
                self._settle(address, figures)
            if figures.sums is None:
                for name, value in zip(figures.names, figures.values, strict=True):
                    if (series := self.roster.series(address, name)) is not None:
                        values[series] = value
        self._unstored.clear()
        for group, sums in self.roster.sums.items():
            for name, summed in sums.items():
                value = round(summed, 6)  # what adding and taking away has left over
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
            figures.leave_sums()
            self.roster.gone(address)

    def _settle(self, address: str, figures: Figures) -> None:
        """Give a daemon that is there to stay series of its own, if one that is gone had some."""
        if self.roster.settle(address, figures.names):
            figures.leave_sums()
            figures.sums = None

    def _new_shape(self, sampled: tuple[str, ...]) -> _Shape:
        if len(self._shapes) >= _MOST_SHAPES:
            self._shapes.clear()
        shape = self._shapes[sampled] = _Shape(sampled)
        return shape

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
