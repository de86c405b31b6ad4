"""What was measured, kept for as long as it is worth its room.

Prior art: RRDtool (coarser with age), Gorilla (deltas in chunks), Blosc (bytes of equal
weight side by side). What is measured is taken as a step: a value holds until the next one,
so that what does not change is not stored at all. Three parts, all pure:

- `Recent`: every sample of the last minutes, one packed block a moment. It was a list of
  rows a daemon once: that took three times the room, and nobody could say how much.
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
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from math import isnan, nan

from msgspec import msgpack

__all__ = ["Point", "Recent", "Roster", "Tier", "pack", "thin", "unpack"]

Point = tuple[float, float]
"""Time (UTC seconds since 1970) and value."""

_WHOLE = 2.0**53
_EVERYTHING = "d9://**"
_BLOCK_BYTES = 250
"""What a block takes beside its bytes: a tuple, two bytes objects, their places."""
_MOST_ROWS = 1000
"""Rows in a block: what is not packed yet takes ten times the room."""


class Recent:
    """The samples of the last `span_s` seconds.

    A block holds what was sampled within `step_s`: whoever asks more often does not
    lengthen the history, for the later row of a daemon replaces the earlier. Daemons are
    known by the hash of their address, which costs nothing to make and nothing to forget.

    Args:
        span_s: How far back it reaches.
        max_bytes: What the blocks may take in all; when they take more, the oldest go early.
        step_s: How long a block is.
    """

    def __init__(
        self, span_s: float = 300.0, max_bytes: int = 6_000_000, step_s: float = 0.5
    ) -> None:
        self.span_s = span_s
        self.max_bytes = max_bytes
        self.step_s = step_s
        self.bytes = 0
        """What the blocks take, close to the truth."""
        self._blocks: deque[tuple[float, bytes, bytes]] = deque()
        self._open: dict[int, tuple[tuple[str, ...], list[float]]] = {}
        self._began = 0.0

    def add(self, address: str, when: float, names: tuple[str, ...], values: list[float]) -> None:
        """Keep one row."""
        if self._open and (
            not 0 <= when - self._began < self.step_s or len(self._open) >= _MOST_ROWS
        ):
            self._seal()
        if not self._open:
            self._began = when
        self._open[hash(address)] = names, [when, *values]

    def forget(self, before: float) -> None:
        """Drop what is older."""
        while self._blocks and self._blocks[0][0] < before:
            self._drop_oldest()

    def __contains__(self, address: str) -> bool:
        """Return whether there is a row of this daemon."""
        key = hash(address)
        return key in self._open or any(_place(key, keys) >= 0 for _, keys, _ in self._blocks)

    def rows(self, address: str) -> Iterator[tuple[float, dict[str, float]]]:
        """Yield time and values of each sample of one daemon, oldest first."""
        key = hash(address)
        found = [
            _row(packed, at) for _, keys, packed in self._blocks if (at := _place(key, keys)) >= 0
        ]
        if key in self._open:
            found.append(self._open[key])
        for names, (when, *values) in found:
            yield when, dict(zip(names, values, strict=True))

    def _seal(self) -> None:
        """Turn the open rows into a block, and make room for it."""
        shapes: dict[tuple[str, ...], list[int]] = {}
        for key, (names, _) in self._open.items():
            shapes.setdefault(names, []).append(key)
        keys = array("q", chain.from_iterable(shapes.values())).tobytes()
        columns = array("d")
        for same in shapes.values():
            for column in zip(*(self._open[key][1] for key in same), strict=True):
                columns.extend(column)
        head = msgpack.encode([(names, len(same)) for names, same in shapes.items()])
        data = columns.tobytes()
        planes = b"".join([data[byte::8] for byte in range(8)])
        packed = zlib.compress(struct.pack("<I", len(head)) + head + planes, 1)
        last = max(row[0] for _, row in self._open.values())
        self._blocks.append((last, keys, packed))
        self.bytes += _BLOCK_BYTES + len(keys) + len(packed)
        self._open.clear()
        self.forget(last - self.span_s)
        while self.bytes > self.max_bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, keys, packed = self._blocks.popleft()
        self.bytes -= _BLOCK_BYTES + len(keys) + len(packed)


def _place(key: int, packed_keys: bytes) -> int:
    """Return the place of a key in a block, or -1."""
    try:
        return array("q", packed_keys).index(key)
    except ValueError:
        return -1


def _row(packed: bytes, at: int) -> tuple[tuple[str, ...], list[float]]:
    """Return names and values of the row that stands at this place in the block."""
    data = zlib.decompress(packed)
    (size,) = struct.unpack_from("<I", data)
    planes = data[4 + size :]
    total = len(planes) // 8
    first = 0
    for names, count in msgpack.decode(data[4 : 4 + size]):
        width = len(names) + 1
        if at < count:
            places = range(first + at, first + width * count, count)
            values = [struct.unpack("d", planes[place::total])[0] for place in places]
            return tuple(names), values
        at -= count
        first += width * count
    raise IndexError(at)


class Roster:
    """Which daemons have series of their own on disk; the others are summed by group.

    Running daemons come before those that are gone: when there is no place left, the series
    of who has been gone longest are given up. There are never more than `limit`.

    Args:
        limit: Series in all, sums included.
        reserve: Places kept free for sums.
    """

    def __init__(self, limit: int = 2000, reserve: int = 200) -> None:
        self.limit = limit
        self.reserve = reserve
        self.ids: dict[tuple[str, str], int] = {}
        self.sums: dict[str, dict[str, float]] = {}
        """The metrics of each group whose daemons have no series of their own."""
        self.summed = 0
        """How many daemons are in sums only."""
        self.fresh: list[tuple[int, str, str]] = []
        """Series since the last time that somebody emptied this list."""
        self.given_up: list[int] = []
        """Series that are no more, likewise."""
        self._next = 1
        self._promised = 0
        self._present: dict[str, None] = {}
        self._absent: dict[str, None] = {}

    def load(self, ids: Mapping[tuple[str, str], int], next_id: int) -> None:
        """Take up the series that are on disk already; nobody is there yet."""
        self.ids.update(ids)
        self._next = next_id
        self._absent.update((address, None) for address, _ in ids if not address.endswith("*"))

    def place(self, address: str, names: Sequence[str]) -> dict[str, float] | None:
        """Give a daemon a place: None if it has its own, else the sums that it is part of."""
        if self.takes(address, names):
            return None
        self.summed += 1
        return self._sums_of(address.rpartition("/")[0] + "/*", len(names))

    def takes(self, address: str, names: Sequence[str], *, is_settled: bool = False) -> bool:
        """True if a daemon has series of its own now; for one that is there to stay others go."""
        if address in self._present:
            return True
        if address not in self._absent:
            most = self.limit - self.reserve - len(names)
            while is_settled and self._absent and len(self.ids) > most:
                self._give_up(next(iter(self._absent)))
            if len(self.ids) > most:
                return False
        self._absent.pop(address, None)
        self._present[address] = None
        for name in names:
            self.series(address, name)
        return True

    def series(self, address: str, metric: str) -> int | None:
        """Return the number of a series, a new one if there is a place for it."""
        key = address, metric
        found = self.ids.get(key)
        if found is None and len(self.ids) < self.limit - (0 if "*" in address else self.reserve):
            found = self.ids[key] = self._next
            self._next += 1
            self.fresh.append((found, address, metric))
        return found

    def gone(self, address: str) -> None:
        """A daemon has ended: its series keep their past as long as nobody needs the place."""
        if address in self._present:
            del self._present[address]
            self._absent[address] = None
        else:
            self.summed -= 1

    def settle(self, address: str, names: Sequence[str]) -> bool:
        """True if a daemon that was in sums has series of its own from now on."""
        if not self.takes(address, names, is_settled=True):
            return False
        self.summed -= 1
        return True

    def _sums_of(self, group: str, size: int) -> dict[str, float]:
        """Return the sums of a group, or those of all groups that have none of their own."""
        if group not in self.sums:
            if self._promised + size > self.reserve - self.reserve // 4:
                group = _EVERYTHING
            else:
                self._promised += size
        return self.sums.setdefault(group, {})

    def _give_up(self, address: str) -> None:
        del self._absent[address]
        for key in [key for key in self.ids if key[0] == address]:
            self.given_up.append(self.ids.pop(key))


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
