"""The past of every metric, in memory and on disk, as one.

Reading joins the tiers: each reaches back where the finer one ends. Writing happens
now and then, in a thread; what cannot be written is lost and said once, for curves are
not worth stopping anything.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from dan9.daemons.historyfile import COARSE, FINE, REACH, HistoryFile
from dan9.daemons.sampling import Book
from dan9.daemons.series import Point
from dan9.kernel.log import Logger

__all__ = ["Past"]

_FLUSH_S = 300.0


class Past:
    """The history of a node.

    Args:
        book: What is in memory.
        path: The file on disk; None: there is none.
        quota_bytes: What it may grow to.
        blocking: Runs a blocking call and gives its value.
        log: Where it is said when the disk gives trouble, or is well again.
    """

    def __init__(
        self,
        book: Book,
        path: Path | None,
        quota_bytes: int,
        blocking: Callable[[Callable[[], Any]], Awaitable[Any]],
        log: Logger,
    ) -> None:
        self.book = book
        self.path = path
        self.trouble = ""
        self._quota_bytes = quota_bytes
        self._file: HistoryFile | None = None
        self._blocking = blocking
        self._log = log
        self._work: asyncio.Task[None] | None = None
        self._flushed = 0.0

    async def open(self, now: float) -> None:
        """Open the file, if there is to be one; without it there is only memory."""
        self._flushed = now
        if self.path is None:
            return
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = await self._blocking(lambda: HistoryFile(path, self._quota_bytes))
            assert self._file is not None
            ids, next_id = await self._blocking(self._file.series)
            self.book.roster.load(ids, next_id)
        except (OSError, sqlite3.Error) as error:
            self._log.error("no history on disk: %s: %s", path, error)
            self.book.keep_nothing()
            return
        if self._file.put_aside:
            self._log.error(
                "the history could not be read and was put aside: %s", self._file.put_aside
            )

    async def close(self, now: float) -> None:
        """Write what waits and close the file."""
        if self._work is not None:
            await asyncio.wait([self._work])
        if self._file is not None:
            self.book.flush(now)
            await self._write(now)
            self._file.close()

    def store(self, now: float) -> None:
        """Let the book put its figures into the tiers; write when it is time."""
        if not self.book.store(now) or now - self._flushed < _FLUSH_S:
            return
        self._flushed = now
        if self._file is not None and self._work is None and self.book.chunks:
            self._work = asyncio.get_running_loop().create_task(self._run(now))

    async def metrics(self, address: str) -> list[str]:
        """Return the metrics of which there is a past on disk, or soon will be."""
        names = [metric for found, metric in self.book.roster.ids if found == address]
        if self._file is not None:
            file = self._file
            names += await self._blocking(lambda: file.metrics(address))
        return list(dict.fromkeys(names))

    def knows(self, address: str) -> bool:
        """True if there is a past of this daemon, though it may be no more."""
        return address in self.book.recent or any(
            address == found for found, _ in self.book.roster.ids
        )

    async def points(
        self, address: str, metric: str, found: list[Point], since: float | None, now: float
    ) -> list[Point]:
        """Return the points since a time, oldest first; `found` is what is in memory."""
        if since is None:
            return found
        found = [point for point in found if point[0] >= since]
        if self._file is None:
            return found
        for tier in (FINE, COARSE):
            begin = found[0][0] if found else now + 1
            if begin <= since:
                break
            older = await self._tier(
                self._file, address, metric, tier, max(since, now - REACH[tier])
            )
            found = [point for point in older if point[0] < begin] + found
        return found

    async def _tier(
        self, file: HistoryFile, address: str, metric: str, tier: int, since: float
    ) -> list[Point]:
        waiting = [point for point in self.book.waiting(address, metric, tier) if point[0] >= since]
        stored = await self._blocking(lambda: file.points(address, metric, tier, since))
        begin = waiting[0][0] if waiting else float("inf")
        return [point for point in stored if point[0] < begin] + waiting

    async def _run(self, now: float) -> None:
        try:
            await self._write(now)
        finally:
            self._work = None

    async def _write(self, now: float) -> None:
        file = self._file
        assert file is not None
        chunks, roster = self.book.take_chunks(), self.book.roster
        fresh, given_up = roster.fresh, roster.given_up
        roster.fresh, roster.given_up = [], []
        try:
            await self._blocking(lambda: file.write(fresh, chunks, now, given_up))
        except sqlite3.Error as error:
            if str(error) != self.trouble:
                self.trouble = str(error)
                self._log.error("the history is not being written: %s", error)
            roster.fresh, roster.given_up = fresh + roster.fresh, given_up + roster.given_up
            return
        if self.trouble:
            self.trouble = ""
            self._log.warning("the history is being written again")
