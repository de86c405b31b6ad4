"""History on disk: packed chunks in a SQLite file of their own.

It is not the store of states: what is lost here after a power cut is a few minutes of
curves, so it commits without waiting for the medium (synchronous=NORMAL: the file stays
whole). It never grows past its quota, its log included: the oldest chunks go, of both tiers
alike, while there is a sixteenth of the quota left for what is being written. A file
that is torn or foreign is put aside under another name, and a new one begun.

All calls block; the daemon makes them in a thread.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path

from dan9.daemons.series import Point, pack, unpack

__all__ = ["COARSE", "FINE", "ChunkRow", "HistoryFile"]

FINE = 10
"""Seconds between the points of the finer tier."""
COARSE = 60
"""Seconds between the points of the coarser tier."""
SLOTS = {FINE: 30, COARSE: 60}
"""Points in a chunk, by tier: five minutes, and an hour."""
REACH = {FINE: 24 * 3600, COARSE: 30 * 24 * 3600}
"""How far back a tier reaches, seconds."""

ChunkRow = tuple[int, int, int, bytes]
"""Series, tier, start, packed points."""

# The first line must be the first: a file that has a page keeps its way of vacuuming.
_SCHEMA = """
PRAGMA auto_vacuum=INCREMENTAL;
PRAGMA journal_mode=WAL;
PRAGMA synchronous=NORMAL;
CREATE TABLE IF NOT EXISTS series(
    id INTEGER PRIMARY KEY, address TEXT NOT NULL, metric TEXT NOT NULL, UNIQUE(address, metric));
CREATE TABLE IF NOT EXISTS chunk(
    series INTEGER, tier INTEGER, start INTEGER, points BLOB NOT NULL,
    PRIMARY KEY(tier, start, series)) WITHOUT ROWID;
"""


class HistoryFile:
    """The file; opened at once.

    Args:
        path: Where it lies; its folder exists.
        quota_bytes: It does not grow past this, with all that lies beside it.
    """

    def __init__(self, path: Path, quota_bytes: int = 256_000_000) -> None:
        self.path = path
        self.quota_bytes = quota_bytes
        self.put_aside = ""
        """Where a file that could not be read has been put, if there was one."""
        try:
            self._base = self._open()
        except sqlite3.DatabaseError:
            aside = path.with_name(path.name + ".corrupt")
            path.replace(aside)
            for suffix in ("-wal", "-shm"):
                with contextlib.suppress(FileNotFoundError):
                    path.with_name(path.name + suffix).unlink()
            self.put_aside = str(aside)
            self._base = self._open()

    def series(self) -> tuple[dict[tuple[str, str], int], int]:
        """Return the series there are, (address, metric) → id, and the next id.

        An id is never used again: chunks of a series that was given up may still lie there.
        """
        rows = self._base.execute("SELECT address, metric, id FROM series")
        ids = {(address, metric): found for address, metric, found in rows}
        (used,) = self._base.execute("PRAGMA user_version").fetchone()
        return ids, max(used, *ids.values(), 0) + 1 if ids else used + 1

    def write(
        self,
        series: Sequence[tuple[int, str, str]],
        chunks: Iterable[ChunkRow],
        now: float,
        given_up: Iterable[int] = (),
    ) -> None:
        """Add series (id, address, metric) and chunks; forget what is too old or too much.

        A chunk that is there already (half of it, before a restart) is merged. The chunks of
        series that are given up are left to age: nobody finds them any more.
        """
        with self._base:
            self._base.executemany("INSERT OR IGNORE INTO series VALUES (?, ?, ?)", series)
            self._base.executemany(
                "DELETE FROM series WHERE id = ?", ((each,) for each in given_up)
            )
            if series:
                self._base.execute(f"PRAGMA user_version = {max(found for found, *_ in series)}")
            for found, tier, start, packed in chunks:
                merged = self._merged(found, tier, start, packed)
                self._base.execute(
                    "INSERT OR REPLACE INTO chunk VALUES (?, ?, ?, ?)", (found, tier, start, merged)
                )
            for tier, reach in REACH.items():
                self._base.execute(
                    "DELETE FROM chunk WHERE tier = ? AND start < ?", (tier, int(now - reach))
                )
        self._keep_quota(now)
        self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def points(self, address: str, metric: str, tier: int, since: float) -> list[Point]:
        """Return the points of one series in one tier, oldest first."""
        row = self._base.execute(
            "SELECT id FROM series WHERE address = ? AND metric = ?", (address, metric)
        ).fetchone()
        span = self._base.execute(
            "SELECT min(start), max(start) FROM chunk WHERE tier = ?", (tier,)
        ).fetchone()
        if row is None or span[0] is None:
            return []
        slots = SLOTS[tier]
        width = slots * tier
        found: list[Point] = []
        # The key begins with the time, so that what is old goes in one sweep; the starts
        # of chunks are known, so that a series is read by as many look-ups.
        first = max(span[0], int(since) // width * width)
        for start in range(first, span[1] + 1, width):
            packed = self._base.execute(
                "SELECT points FROM chunk WHERE tier = ? AND start = ? AND series = ?",
                (tier, start, row[0]),
            ).fetchone()
            if packed is None:
                continue
            with contextlib.suppress(ValueError):  # a torn chunk costs its minutes only
                for slot, value in sorted(unpack(packed[0], slots).items()):
                    when = float(start + slot * tier)
                    if when >= since:
                        found.append((when, value))
        return found

    def metrics(self, address: str) -> list[str]:
        """Return the metrics of one address that have a series."""
        rows = self._base.execute(
            "SELECT metric FROM series WHERE address = ? ORDER BY metric", (address,)
        )
        return [metric for (metric,) in rows]

    @property
    def size_bytes(self) -> int:
        """The bytes in use in the file, free pages left out."""
        (pages,) = self._base.execute("PRAGMA page_count").fetchone()
        (free,) = self._base.execute("PRAGMA freelist_count").fetchone()
        (size,) = self._base.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size)

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _open(self) -> sqlite3.Connection:
        base = sqlite3.connect(self.path, check_same_thread=False, timeout=5.0)
        try:
            base.executescript(_SCHEMA)
            base.execute("SELECT 1 FROM chunk LIMIT 1").fetchone()
        except sqlite3.DatabaseError:
            base.close()
            raise
        return base

    def _merged(self, series: int, tier: int, start: int, packed: bytes) -> bytes:
        row = self._base.execute(
            "SELECT points FROM chunk WHERE series = ? AND tier = ? AND start = ?",
            (series, tier, start),
        ).fetchone()
        if row is None:
            return packed
        slots = SLOTS[tier]
        try:
            return pack({**unpack(row[0], slots), **unpack(packed, slots)}, slots)
        except ValueError:
            return packed

    def _keep_quota(self, now: float) -> None:
        """Delete the oldest hours until there is room, of the tier that keeps more of its reach."""
        while self.size_bytes > self.quota_bytes - self.quota_bytes // 16:
            oldest = [
                ((now - start) / REACH[tier], tier, start)
                for tier in (FINE, COARSE)
                for (start,) in self._base.execute(
                    "SELECT min(start) FROM chunk WHERE tier = ?", (tier,)
                )
                if start is not None
            ]
            if not oldest:
                return
            _, tier, start = max(oldest)
            with self._base:
                self._base.execute(
                    "DELETE FROM chunk WHERE tier = ? AND start <= ?", (tier, start + 3600)
                )
            # A page is a step, and `execute` takes one step of what has no rows.
            self._base.executescript("PRAGMA incremental_vacuum")
