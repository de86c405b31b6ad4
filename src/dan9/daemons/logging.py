"""The log: what every daemon says, in one place.

Entries do not travel as messages: `self.log.info(…)` checks its level, and what passes
is put into a ring buffer at once, from whichever thread it comes. Only then, and only if
somebody follows or a file is written, the daemon gets something to do. A log that is
not read costs no turn of the loop; a disk that is full or hangs stops nobody: what could
not be written is counted, said, and tried again with the next entry.

What the kernel has to tell (crashes, restarts, dead letters, slow steps) arrives as
events and becomes entries here. Python's own `logging` and `warnings` flow in.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dan9.base.duration import Time, parse_duration
from dan9.base.errors import (
    BadConfig,
    BadPayload,
    NotFound,
)
from dan9.base.events import Event, LogEntry
from dan9.base.reasons import Reason
from dan9.daemons.logfile import LogFile, LogForm, entry_form
from dan9.daemons.logflow import TOLD, Inflow, entry_of_event, forward
from dan9.daemons.logging_replies import EntryRow, LevelsSet, LogFigures, Written
from dan9.daemons.logkeep import refusal_of, save_entries, size_of, wanted_by
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.kernel import current_message
from dan9.kernel.log import LEVELS, number_of, source_matches
from dan9.kernel.subscription import Subscription

__all__ = ["Logging"]

Level = Literal["debug", "info", "warning", "error", "critical"]

_FILE_BACKLOG = 200_000
_BATCH = 5_000
_SAY_DROPS_AFTER_S = 1.0


@dataclass(slots=True)
class _Follower:
    subscription: Subscription
    least: int
    source: str | None


class Logging(Daemon, type="logging", checkpoint="on-change"):
    """Collects what daemons, the kernel and Python's logging say; shows, follows, writes it."""

    min_level: Config[Level] = "info"
    """What is wanted of a source that has no level of its own."""
    buffer_size: Config[int] = 10_000
    """Entries that `display` can look back on."""
    buffer_bytes: Config[int] = 16_000_000
    """What they may take in memory, roughly; long entries make it fewer."""
    file: Config[str] = ""
    """Where to write; empty: nowhere. Relative to the state directory, if there is one."""
    form: Config[LogForm] = "text"
    """Lines of the file: `text`, or `json`."""
    rotate: Config[dict[str, int | float | str]] = {"size": 10_000_000, "keep": 5}
    """When the file turns over: `size` in bytes, `age` as a duration, and how many to `keep`."""
    flood: Config[float | None] = 10_000.0
    """Entries a second that one source may write; None: any number."""
    take_python: Config[bool] = True
    """Take in what Python's `logging` and `warnings` say."""
    give_python: Config[bool] = False
    """Hand every entry to Python's `logging` as well."""

    level: str = ""
    """The level that was set for all; empty: `min_level`."""
    levels: dict[str, str] = {}
    """The levels that were set, by source pattern."""

    async def on_start(self) -> None:
        """Become the one who collects."""
        if self.buffer_size < 1:
            raise BadConfig(f"buffer-size={self.buffer_size}", hint="1 or more", at="buffer-size")
        if self.flood is not None and not self.flood > 0:
            raise BadConfig(f"flood={self.flood:g}", hint="more than 0, or none", at="flood")
        self._ring: deque[LogEntry] = deque()
        self._ring_sizes: deque[int] = deque()
        self._ring_bytes = 0
        self._ring_lock = threading.RLock()  # collecting garbage may warn, within it too
        self._counts = dict.fromkeys(LEVELS, 0)
        self._followers: dict[str, _Follower] = {}
        self._untold: deque[LogEntry] = deque()
        self._pending: deque[LogEntry] = deque()
        self._is_waking = False
        self._work: asyncio.Task[None] | None = None
        self._file = self._make_file()
        self._written = self._unwritten = 0
        self._trouble = ""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._is_virtual = bool(getattr(self.system.clock, "is_virtual", False))
        self._drops_due: Any = None
        hub = self.system.log_hub
        self._hub = hub
        hub.set_rate(self.flood)
        hub.set_levels(self.level or self.min_level, self.levels)
        hub.on_drop = self._dropping
        hub.sink = self._take
        self._unsubscribe: Callable[[], None] = self.system.subscribe_events(self._heard, *TOLD)
        self._inflow = Inflow(hub) if self.take_python else None
        if self._inflow is not None:
            self._inflow.open(self._least())

    async def on_stop(self, reason: Reason) -> None:
        """Write what waits, then collect no more."""
        self._hub.say_drops()
        self._hub.on_drop = None
        self._unsubscribe()
        if self._inflow is not None:
            self._inflow.close()
        if self._hub.sink == self._take:
            self._hub.sink = None
        if self._drops_due is not None:
            self._drops_due.cancel()
        self._hand_on()
        for follower in list(self._followers.values()):
            follower.subscription.close()
        if self._work is not None:
            with suppress(asyncio.CancelledError):
                await self._work
        if self._file is not None:
            await self._write_pending(self._file)
            self._file.close()

    def on_status(self) -> dict[str, object]:
        """Add the figures of `stats`."""
        return dict(self._figures())

    # -- saying -------------------------------------------------------------------------------

    @on
    def write(
        self, /, level: Level = "info", source: str = "", text: str = "", **fields: Any
    ) -> bool:
        """Write an entry; reply False if its level is not wanted or its source floods.

        `source` is the sender's address unless given; other keys become its fields.
        Errors: bad-payload.
        """
        if not source:
            message = current_message()
            source = message.sender if message is not None else self.address
        logger = self._hub.logger(source)
        before = self._hub.dropped
        if not logger.is_enabled(level):
            return False
        logger._write(level, text, (), fields)
        return self._hub.dropped == before

    # -- looking ------------------------------------------------------------------------------

    @on
    def display(
        self,
        level: Level | None = None,
        source: str | None = None,
        limit: int = 20,
        since: Time | None = None,
        contains: str | None = None,
        until: Time | None = None,
    ) -> list[EntryRow]:
        """Return the last entries that fit, oldest first.

        `level` is the least wanted; `source` a source, a daemon's name, a dotted prefix or a
        pattern with stars; `contains` is looked for in text and fields, whatever the case.
        Errors: bad-payload.
        """
        if limit < 0:
            raise BadPayload(f"limit={limit}", hint="0 or more", at="limit")
        wanted = wanted_by(level, source, since, until, contains)
        found: list[LogEntry] = []
        for entry in reversed(self._buffered()):
            if len(found) >= limit:
                break
            if wanted(entry):
                found.append(entry)
        return [entry_form(entry) for entry in reversed(found)]

    @on
    def follow(
        self, level: Level | None = None, source: str | None = None, limit: int = 256
    ) -> str:
        """Send the asker each entry that fits, as `entry`; reply the subscription's id.

        Entries that the asker is too slow for are dropped; the next one says how many.
        Errors: bad-payload.
        """
        message = current_message()
        if message is None:
            raise BadPayload("nobody asked", hint="follow is for other daemons and clients")
        if not 1 <= limit <= 100_000:
            raise BadPayload(f"limit={limit}", hint="1 to 100000", at="limit")
        subscription = Subscription(self, message.sender, "entry", limit=limit, overflow="drop")
        subscription_id = subscription.id
        subscription._on_end = lambda: self._followers.pop(subscription_id, None)  # type: ignore[assignment]
        least = number_of(level) if level is not None else 0
        self._followers[subscription_id] = _Follower(subscription, least, source)
        return subscription_id

    @on
    def unfollow(self, subscription_id: str) -> str:
        """Send no more. Errors: not-found."""
        follower = self._followers.get(subscription_id)
        if follower is None:
            raise NotFound(f"there is no subscription {subscription_id!r}", at="subscription-id")
        follower.subscription.close()
        return subscription_id

    @on
    def stats(self) -> LogFigures:
        """Return counts by level, what the buffer holds, what was dropped, and the file's state."""
        return self._figures()

    # -- keeping ------------------------------------------------------------------------------

    @on(concurrent=True, timeout_s=60.0)
    async def write_file(
        self,
        filepath: str,
        level: Level | None = None,
        source: str | None = None,
        form: LogForm = "text",
    ) -> Written:
        """Write the buffer's entries that fit to a file, in place of what it held.

        Replies path, entries, bytes. Errors: not-found is-a-directory permission read-only
        no-space bad-payload.
        """
        if not filepath or "\0" in filepath:
            raise BadPayload(f"{filepath!r} is no path", at="filepath")
        wanted = wanted_by(level, source, None, None, None)
        entries = [entry for entry in self._buffered() if wanted(entry)]
        path = Path(filepath)
        try:
            size = await self._blocking(lambda: save_entries(path, entries, form, self.clock.now()))
        except OSError as error:
            raise refusal_of(error, filepath) from error
        return {"path": str(path), "entries": len(entries), "bytes": size}

    @on
    def set_level(
        self,
        level: Literal["debug", "info", "warning", "error", "critical", "default"],
        source: str | None = None,
    ) -> LevelsSet:
        """Set the least level wanted, of one source or pattern, or of all; it holds at once.

        `default` takes back what was set. Replies min-level and levels. Errors: bad-payload.
        """
        if source is None:
            self.level = "" if level == "default" else level
        elif level == "default":
            self.levels.pop(source, None)
        else:
            self.levels[source] = level
        self._hub.set_levels(self.level or self.min_level, self.levels)
        if self._inflow is not None:
            self._inflow.set_least(self._least())
        return {"min_level": self.level or self.min_level, "levels": dict(self.levels)}

    @on
    def clear(self) -> int:
        """Empty the buffer; reply how many entries it held. Files stay."""
        with self._ring_lock:
            held = len(self._ring)
            self._ring.clear()
            self._ring_sizes.clear()
            self._ring_bytes = 0
        return held

    @on(concurrent=True)
    async def flush(self) -> int:
        """Return when what was said so far is in the file; reply the entries it could not take."""
        while self._pending or self._work is not None:
            if self._work is None:
                self._hand_on()
            else:
                await asyncio.shield(self._work)
        return self._unwritten

    def _buffered(self) -> list[LogEntry]:
        """Return the entries of the buffer, which other threads go on changing."""
        with self._ring_lock:
            return list(self._ring)

    # -- collecting: from any thread ------------------------------------------------------------

    def _take(self, entry: LogEntry) -> None:
        with self._ring_lock:
            self._counts[entry.level] += 1
            self._ring.append(entry)
            size = size_of(entry)
            self._ring_sizes.append(size)
            self._ring_bytes += size
            while len(self._ring) > self.buffer_size or (
                self._ring_bytes > self.buffer_bytes and len(self._ring) > 1
            ):
                self._ring.popleft()
                self._ring_bytes -= self._ring_sizes.popleft()
        if self.give_python:
            forward(entry)
        if self._followers:
            self._untold.append(entry)
        elif self._file is None:
            return
        if self._file is not None:
            if len(self._pending) >= _FILE_BACKLOG:
                self._unwritten += 1
            else:
                self._pending.append(entry)
        if not self._is_waking:
            self._is_waking = True
            with suppress(RuntimeError):  # the loop has ended
                if threading.get_ident() == self._thread:
                    self._loop.call_soon(self._hand_on)
                else:
                    self._loop.call_soon_threadsafe(self._hand_on)

    def _dropping(self) -> None:
        """A source is being silenced: say how many entries are missing when it is over."""
        with suppress(RuntimeError):
            if threading.get_ident() == self._thread:
                self._say_drops_later()
            else:
                self._loop.call_soon_threadsafe(self._say_drops_later)

    def _say_drops_later(self) -> None:
        if self._drops_due is None:
            at = self.system.clock.monotonic() + _SAY_DROPS_AFTER_S
            self._drops_due = self.system.call_at(at, self._say_drops)

    def _say_drops(self) -> None:
        self._drops_due = None
        self._hub.say_drops()

    def _heard(self, event: Event) -> None:
        made = entry_of_event(event)
        if made is not None:
            level, text, fields, trace = made
            logger = self._hub.logger(event.address)
            if logger.is_enabled(level):
                logger._write(level, text, (), fields, trace)

    # -- handing on: on the loop -----------------------------------------------------------------

    def _hand_on(self) -> None:
        """Give followers what waits; they do not wait for the disk, which may hang."""
        self._is_waking = False
        while self._untold:
            entry = self._untold.popleft()
            for follower in list(self._followers.values()):
                if LEVELS[entry.level] >= follower.least and (
                    follower.source is None or source_matches(follower.source, entry.source)
                ):
                    follower.subscription.offer(**entry_form(entry))
        if self._file is not None and self._pending and self._work is None:
            self._work = self._loop.create_task(self._run(self._file))

    async def _run(self, file: LogFile) -> None:
        try:
            await self._write_pending(file)
        finally:
            self._work = None

    async def _write_pending(self, file: LogFile) -> None:
        """Write what waits, batch by batch."""
        while self._pending:
            batch = [self._pending.popleft() for _ in range(min(_BATCH, len(self._pending)))]
            await self._write_batch(file, batch)

    async def _write_batch(self, file: LogFile, batch: list[LogEntry]) -> None:
        now = self.clock.now()
        try:
            await self._blocking(lambda: file.write(batch, now))
        except OSError as error:
            written = int(getattr(error, "written", 0))
            self._written += written
            self._unwritten += len(batch) - written
            trouble = refusal_of(error, str(file.path)).text
            if trouble != self._trouble:
                self._trouble = trouble
                self.log.error("the log is not being written: %s", trouble)  # noqa: TRY400
            return
        self._written += len(batch)
        if self._trouble:
            self._trouble = ""
            self.log.warning("the log is being written again", unwritten=self._unwritten)

    async def _blocking(self, call: Callable[[], int]) -> int:
        """Run a blocking call off the loop; in place where time is virtual."""
        return call() if self._is_virtual else await asyncio.to_thread(call)

    # -- the rest ---------------------------------------------------------------------------------

    def _least(self) -> int:
        """Return the number of the lowest level that anybody wants."""
        return min(map(number_of, [self.level or self.min_level, *self.levels.values()]))

    def _make_file(self) -> LogFile | None:
        if not self.file:
            return None
        path = Path(self.file).expanduser()
        if not path.is_absolute() and self.system.state_dir is not None:
            path = Path(self.system.state_dir) / path
        rotate = dict(self.rotate)
        try:
            size, age = rotate.pop("size", None), rotate.pop("age", None)
            keep = int(rotate.pop("keep", 5))
            if rotate or keep < 0 or (size is not None and int(size) < 1):
                raise ValueError
            return LogFile(
                path,
                form=self.form,
                max_bytes=None if size is None else int(size),
                max_age_s=None if age is None else parse_duration(age),
                keep=keep,
            )
        except (ValueError, TypeError) as error:
            raise BadConfig(
                f"rotate={self.rotate!r} makes no sense",
                hint='as {size = 10000000, age = "1d", keep = 5}',
                at="rotate",
            ) from error

    def _figures(self) -> LogFigures:
        figures: LogFigures = {
            "entries": sum(self._counts.values()),
            "by_level": dict(self._counts),
            "buffered": len(self._ring),
            "buffer_size": self.buffer_size,
            "buffer_bytes": self._ring_bytes,
            "dropped": self._hub.dropped,
            "followers": len(self._followers),
            "min_level": self.level or self.min_level,
            "levels": dict(self.levels),
        }
        if self._file is not None:
            figures["file"] = {
                "path": str(self._file.path),
                "bytes": self._file.size_bytes,
                "rotations": self._file.rotations,
                "written": self._written,
                "unwritten": self._unwritten,
                "trouble": self._trouble,
            }
        return figures
