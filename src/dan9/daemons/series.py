"""What was measured, kept for as long as it is worth its room.

Prior art: RRDtool (coarser with age), Gorilla (deltas in chunks). What is measured is
taken as a step: a value holds until the next one, so that what does not change is not
stored at all. Three parts, all pure:

- `Recent`: every sample of the last minutes, one row a daemon and sample, in arrays.
- `Roster`: which series get a place on disk. Past the limit a daemon's values are
  summed under its type and group (`d9://worker/demo/*`), so that nothing is left out of
  the totals, however many daemons there are.
- `Tier`: the points of one step width on their way to the disk, as packed chunks
  (`pack`, `unpack`): a bitmap of the slots that have a point, then the differences of
  whole numbers, or 32-bit floats.
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping
from math import isnan, nan

__all__ = ["Point", "Recent", "Roster", "Tier", "pack", "thin", "unpack"]

Point = tuple[float, float]
"""Time (UTC seconds since 1970) and value."""

_WHOLE = 2.0**53


class _Track:
    """The rows of one daemon: time and values, flat in one array."""

    __slots__ = ("names", "rows")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.rows = array("d")


class Recent:
    """The samples of the last `span_s` seconds, by daemon.

    Args:
        span_s: How far back it reaches.
        max_values: Numbers kept in all (8 bytes each); when there are more, the oldest
            rows go early, of the daemon that has most.
    """

    def __init__(self, span_s: float = 300.0, max_values: int = 320_000) -> None:
        self.span_s = span_s
        self.max_values = max_values
        self.values = 0
        self._tracks: dict[str, _Track] = {}
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}

    def __len__(self) -> int:
        """Return how many daemons have samples."""
        return len(self._tracks)

    def add(
        self,
        address: str,
        when: float,
        metrics: Mapping[str, float],
        before: Mapping[str, float] | None = None,
    ) -> None:
        """Keep one row; rows that have become too old go.

        Only what has ever changed gets a column: most metrics of most daemons never do.
        `before` is the sample before this one; the caller has it anyway.
        """
        track = self._tracks.get(address)
        if track is None:
            track = self._tracks[address] = _Track(())
        if before is not None:
            names = track.names
            moved = [
                name
                for name, value in metrics.items()
                if before.get(name, nan) != value and name not in names
            ]
            if moved:
                self._widen(track, {name: before.get(name, nan) for name in moved})
        rows = track.rows
        width = len(track.names) + 1
        if rows and rows[-width] == when:  # sampled twice at one moment: the later one counts
            del rows[-width:]
            self.values -= width
        rows.append(when)
        for name in track.names:
            rows.append(metrics.get(name, nan))
        self.values += width
        if when - rows[0] > self.span_s * 1.25:
            self._trim(track, when - self.span_s)
        if self.values > self.max_values:
            self._relieve()

    def keep(self, address: str, constants: Mapping[str, float]) -> None:
        """Write down what never changed, for a daemon of which nobody will know it any more."""
        track = self._tracks.get(address)
        if track is not None:
            self._widen(track, {k: v for k, v in constants.items() if k not in track.names})

    def forget(self, before: float) -> None:
        """Drop what is older, of every daemon."""
        for address in list(self._tracks):
            track = self._tracks[address]
            width = len(track.names) + 1
            if track.rows[-width] < before:
                self.values -= len(track.rows)
                del self._tracks[address]
            else:
                self._trim(track, before)

    def metrics(self, address: str) -> tuple[str, ...]:
        """Return the names that have a column: those that have changed."""
        track = self._tracks.get(address)
        return track.names if track else ()

    def points(
        self, address: str, metric: str, since: float = 0.0, constant: float | None = None
    ) -> list[Point]:
        """Return the samples of one metric, oldest first.

        `constant` is the value of a metric that has no column, if there is such a metric.
        """
        track = self._tracks.get(address)
        if track is None:
            return []
        width = len(track.names) + 1
        rows = track.rows
        starts = [row for row in range(0, len(rows), width) if rows[row] >= since]
        if metric in track.names:
            at = track.names.index(metric) + 1
            return [(rows[row], rows[row + at]) for row in starts if not isnan(rows[row + at])]
        return [] if constant is None else [(rows[row], constant) for row in starts]

    def _widen(self, track: _Track, columns: Mapping[str, float]) -> None:
        """Give the track more columns, filled with the values that have held so far."""
        union = track.names + tuple(columns)
        union = self._shapes.setdefault(union, union)
        width = len(track.names) + 1
        rows = array("d")
        for row in range(0, len(track.rows), width):
            rows.extend(track.rows[row : row + width])
            rows.extend(columns.values())
        self.values += len(rows) - len(track.rows)
        track.names, track.rows = union, rows

    def _trim(self, track: _Track, before: float) -> None:
        width = len(track.names) + 1
        rows = track.rows
        end = 0
        while end < len(rows) and rows[end] < before:
            end += width
        if end:
            del rows[:end]
            self.values -= end
            if not rows:  # the caller is about to add one, or has made sure there is one
                return

    def _relieve(self) -> None:
        """Take the older half of the daemon with the most rows."""
        track = max(self._tracks.values(), key=lambda each: len(each.rows))
        width = len(track.names) + 1
        half = len(track.rows) // width // 2 * width
        del track.rows[:half]
        self.values -= half


class Roster:
    """Which series are kept for long: the first `limit`, the others summed by group.

    Args:
        limit: Series in all, sums included.
        reserve: Places kept free for sums.
    """

    def __init__(self, limit: int = 2000, reserve: int = 200) -> None:
        self.limit = limit
        self.reserve = reserve
        self.ids: dict[tuple[str, str], int] = {}
        self.summed = 0
        """How many daemons' series are in sums only."""
        self._next = 1
        self._sums: dict[tuple[str, str], float] = {}
        self._shapes: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._last: dict[str, _Track] = {}

    def load(self, ids: Mapping[tuple[str, str], int]) -> None:
        """Take up the series that are on disk already."""
        self.ids.update(ids)
        self._next = max(self.ids.values(), default=0) + 1

    def settle(self, address: str, metrics: Mapping[str, float]) -> Iterator[tuple[int, float]]:
        """Yield (series id, value) for each metric, under the daemon's name or its sum's."""
        ids = self.ids
        for metric, value in metrics.items():
            key = (address, metric)
            found = ids.get(key)
            if found is None and len(ids) < self.limit - self.reserve:
                found = self._admit(key)
            if found is not None:
                yield found, value
                continue
            total_key = (_group_of(address), metric)
            if total_key not in ids and len(ids) >= self.limit:
                total_key = ("d9://**", metric)
                if total_key not in ids and len(ids) >= self.limit + self.reserve:
                    continue  # hundreds of metric names: the node's own are in long ago
            total = ids.get(total_key) or self._admit(total_key)
            change = value - self._replace(address, metric, value)
            self._sums[total_key] = summed = self._sums.get(total_key, 0.0) + change
            yield total, summed

    def gone(self, address: str) -> None:
        """A daemon has ended: its part leaves the sums; its own series keep their past."""
        last = self._last.pop(address, None)
        if last is None:
            return
        self.summed -= len(last.names)
        for metric, value in zip(last.names, last.rows, strict=True):
            for total in (_group_of(address), "d9://**"):
                if (total, metric) in self._sums:
                    self._sums[total, metric] -= value
                    break

    def _replace(self, address: str, metric: str, value: float) -> float:
        """Remember the value that is in a sum now; return the one that was."""
        last = self._last.get(address)
        if last is None:
            last = self._last[address] = _Track(())
        if metric in last.names:
            at = last.names.index(metric)
            before = last.rows[at]
            last.rows[at] = value
            return before
        names = (*last.names, metric)
        last.names = self._shapes.setdefault(names, names)
        last.rows.append(value)
        self.summed += 1
        return 0.0

    def _admit(self, key: tuple[str, str]) -> int:
        self.ids[key] = self._next
        self._next += 1
        return self.ids[key]


class Tier:
    """Points of one step width, gathered into chunks of `slots` steps.

    Args:
        step_s: Seconds between points.
        slots: Points in a full chunk.
        emit: Called with (series, start of the chunk, packed) when a chunk is complete.
    """

    def __init__(self, step_s: int, slots: int, emit: Callable[[int, int, bytes], None]) -> None:
        self.step_s = step_s
        self.slots = slots
        self._emit = emit
        self._open: dict[int, array[float]] = {}
        self._blank = array("d", [nan] * slots)
        self._start = 0

    def __len__(self) -> int:
        """Return how many points wait."""
        return sum(not isnan(value) for points in self._open.values() for value in points)

    def add(self, when: float, values: Mapping[int, float]) -> None:
        """Take the values that hold at `when`, by series."""
        width = self.step_s * self.slots
        start = int(when) // width * width
        if start != self._start:
            self.flush()
            self._start = start
        slot = (int(when) - start) // self.step_s
        for series, value in values.items():
            points = self._open.get(series)
            if points is None:
                points = self._open[series] = self._blank[:]
            points[slot] = value

    def flush(self) -> None:
        """Emit what there is, complete or not."""
        waiting, self._open = self._open, {}
        for series, points in waiting.items():
            found = {slot: value for slot, value in enumerate(points) if not isnan(value)}
            self._emit(series, self._start, pack(found, self.slots))

    def points(self, series: int) -> list[Point]:
        """Return what waits of one series."""
        return [
            (float(self._start + slot * self.step_s), value)
            for slot, value in enumerate(self._open.get(series, ()))
            if not isnan(value)
        ]


def pack(points: Mapping[int, float], slots: int) -> bytes:
    """Return slot numbers and values as bytes: some two bytes a point for counters."""
    bitmap = sum(1 << slot for slot in points)
    values = [points[slot] for slot in sorted(points)]
    head = bitmap.to_bytes((slots + 7) // 8, "little")
    if all(float(value).is_integer() and abs(value) < _WHOLE for value in values):
        body = bytearray(b"i")
        previous = 0
        for value in values:
            _put_varint(body, int(value) - previous)
            previous = int(value)
    else:
        body = bytearray(b"f" + struct.pack(f"<{len(values)}f", *map(_single, values)))
    small = zlib.compress(body, 6) if len(body) > 40 else b""
    if small and len(small) < len(body):
        return b"z" + head + small
    return b"p" + head + bytes(body)


def unpack(blob: bytes, slots: int) -> dict[int, float]:
    """Return what `pack` was given.

    Raises:
        ValueError: These are no such bytes.
    """
    size = (slots + 7) // 8
    if len(blob) < size + 2 or blob[:1] not in {b"p", b"z"}:
        raise ValueError("not a chunk")
    bitmap = int.from_bytes(blob[1 : 1 + size], "little")
    body = blob[1 + size :]
    try:
        if blob[:1] == b"z":
            body = zlib.decompress(body)
        places = [slot for slot in range(slots) if bitmap >> slot & 1]
        if body[:1] == b"i":
            return dict(zip(places, _varints(body[1:]), strict=True))
        return dict(zip(places, struct.unpack(f"<{len(places)}f", body[1:]), strict=True))
    except (zlib.error, struct.error, IndexError) as error:
        raise ValueError("not a chunk") from error


def thin(points: list[Point], limit: int) -> list[Point]:
    """Return at most `limit` points, evenly chosen, the last one among them."""
    if limit <= 0:
        return []
    if len(points) <= limit:
        return points
    step = len(points) / limit
    return [points[len(points) - 1 - int(index * step)] for index in range(limit)][::-1]


def _group_of(address: str) -> str:
    return address.rpartition("/")[0] + "/*"


def _single(value: float) -> float:
    """Return a number that fits 32 bits; too large ones become the largest."""
    return max(-3.4e38, min(3.4e38, value))


def _put_varint(out: bytearray, value: int) -> None:
    zigzag = value << 1 if value >= 0 else (-value << 1) - 1
    while zigzag > 0x7F:
        out.append(zigzag & 0x7F | 0x80)
        zigzag >>= 7
    out.append(zigzag)


def _varints(body: bytes) -> list[float]:
    found: list[float] = []
    at = total = 0
    while at < len(body):
        shift = zigzag = 0
        while True:
            byte = body[at]
            at += 1
            zigzag |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
            shift += 7
        total += zigzag >> 1 if not zigzag & 1 else -((zigzag + 1) >> 1)
        found.append(float(total))
    return found
