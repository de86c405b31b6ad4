"""How anybody says something for the log: `self.log.info("total is %d", total)`.

Prior art: Python's logging (levels, lazy formatting) and structlog (fields beside the
text). What is chosen here:

- A line that nobody wants costs two comparisons. Each `Logger` keeps its threshold and
  the generation of the levels that gave it; changing a level anywhere is one increment.
- A flood is stopped where it begins, per source, by a bucket of allowances; what was
  dropped is counted and said, in the log, as soon as there is room or the flood ends.
- Who collects the entries is not known here: `LogHub.sink` is a callable. Without one
  the entry goes to the standard `logging`, as a library should.

Nothing here waits or touches a file; all of it may be called from any thread.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol

from dan9.base.errors import BadPayload
from dan9.base.events import LogEntry
from dan9.base.loggable import kept_fields, kept_text

__all__ = [
    "LEVELS",
    "LogHub",
    "Logger",
    "log_critical",
    "log_debug",
    "log_error",
    "log_info",
    "log_warning",
    "number_of",
    "source_matches",
]

LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""Every level by its name; the numbers are those of the standard `logging`."""

DEFAULT_RATE = 10_000.0
"""Entries a second that one source may write, unless the hub is told otherwise."""

_NO_LIMIT = float("inf")
_CACHED_LOGGERS = 4096


class _Clock(Protocol):
    def now(self) -> float: ...
    def monotonic(self) -> float: ...


def number_of(level: str) -> int:
    """Return the number of a level's name.

    Raises:
        BadPayload: There is no such level.
    """
    number = LEVELS.get(level)
    if number is None:
        raise BadPayload(
            f"{level!r} is no level", hint="debug, info, warning, error or critical", at="level"
        )
    return number


def source_matches(pattern: str, source: str) -> bool:
    """True if the pattern names this source.

    A pattern is a whole source; or the name of a daemon (`worker-1` for
    `d9://worker/demo/worker-1`); or a dotted prefix (`httpx` for `httpx._client`); or has
    stars: `*` stands for anything but a slash, `**` for anything at all.
    """
    if pattern == source:
        return True
    if "*" in pattern:
        return _glob(pattern).match(source) is not None
    return source.startswith(pattern + ".") or (
        "/" not in pattern and source.startswith("d9://") and source.endswith("/" + pattern)
    )


@lru_cache(maxsize=512)
def _glob(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    body = "".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts)
    lead = "(?:d9://)?" if "/" in pattern else "(?:d9://.*/)?"
    return re.compile(lead + body + r"\Z", re.DOTALL)


class LogHub:
    """Where the entries of one system meet: levels, limits, and who collects.

    Args:
        clock: The system's clock, for the times of entries and the rate limit.
    """

    def __init__(self, clock: _Clock) -> None:
        self.clock = clock
        self.generation = 1
        """Grows whenever a level or the sink changes; loggers compare it."""
        self.dropped = 0
        """Entries that the rate limit has kept out, in all."""
        self.on_drop: Callable[[], None] | None = None
        """Called at the first drop after a quiet time, from whichever thread it is."""
        # Collecting garbage may warn, and a warning is an entry, said with the lock in hand.
        self.lock = threading.RLock()
        self.rate = DEFAULT_RATE
        self.burst = DEFAULT_RATE
        self._sink: Callable[[LogEntry], None] | None = None
        self._min_level = LEVELS["info"]
        self._levels: dict[str, int] = {}
        self._loggers: dict[str, Logger] = {}
        self._silenced: dict[Logger, None] = {}

    @property
    def sink(self) -> Callable[[LogEntry], None] | None:
        """Who gets every entry that passes; None: the standard `logging`."""
        return self._sink

    @sink.setter
    def sink(self, sink: Callable[[LogEntry], None] | None) -> None:
        self._sink = sink
        self.generation += 1

    def set_levels(self, min_level: str, levels: Mapping[str, str] | None = None) -> None:
        """Set what is wanted: of everything, and of the sources that a pattern names."""
        numbers = {pattern: number_of(level) for pattern, level in (levels or {}).items()}
        self._min_level = number_of(min_level)
        self._levels = numbers
        self.generation += 1

    def set_rate(self, rate: float | None) -> None:
        """Let each source write `rate` entries a second (and as many at once); None: any."""
        self.rate = _NO_LIMIT if rate is None else float(rate)
        self.burst = max(1.0, self.rate)
        self.generation += 1

    def threshold(self, source: str) -> int:
        """Return the least level wanted of this source: the most specific pattern's."""
        if self._sink is None:
            return 0  # the standard logging filters by its own levels
        best = ""
        threshold = self._min_level
        for pattern, number in self._levels.items():
            if len(pattern) >= len(best) and source_matches(pattern, source):
                best, threshold = pattern, number
        return threshold

    def logger(self, source: str) -> Logger:
        """Return the logger of a source; the same one for the same source."""
        found = self._loggers.get(source)
        if found is None:
            if len(self._loggers) >= _CACHED_LOGGERS:
                self._loggers.clear()
            found = self._loggers[source] = Logger(source, self)
        return found

    def deliver(self, entry: LogEntry) -> None:
        """Hand an entry on, without looking at levels."""
        sink = self._sink
        if sink is not None:
            sink(entry)
            return
        logging.getLogger("dan9").log(
            LEVELS.get(entry.level, 20),
            "%s: %s%s",
            entry.source,
            entry.text,
            f"\n{entry.trace}" if entry.trace else "",
            extra={"dan9_entry": entry},
        )

    def say_drops(self) -> None:
        """Write down what has been dropped and not yet been said."""
        with self.lock:
            silenced = list(self._silenced)
            self._silenced.clear()
        for logger in silenced:
            logger.say_drops()

    def note_drop(self, logger: Logger) -> None:
        """Remember that this logger owes a word about drops. Called with the lock held."""
        self.dropped += 1
        if logger not in self._silenced:
            self._silenced[logger] = None
            on_drop = self.on_drop  # another thread may take it away
            if on_drop is not None:
                on_drop()


class Logger:
    """What a daemon has as `self.log`: one method a level.

    `text` is filled with `args` as by `%`, only if it is wanted; keywords become the
    entry's fields. No call waits, and none raises because of what it was given.
    """

    __slots__ = ("_allowance", "_dropped", "_generation", "_hub", "_stamp", "_threshold", "source")

    def __init__(self, source: str, hub: LogHub) -> None:
        self.source = kept_text(source)
        self._hub = hub
        self._generation = 0
        self._threshold = 0
        self._allowance = -1.0
        self._stamp = 0.0
        self._dropped = 0

    def debug(self, text: str, /, *args: object, **fields: object) -> None:
        """Say what only helps to find a fault."""
        if self._generation != self._hub.generation:
            self._refresh()
        if self._threshold <= 10:
            self._write("debug", text, args, fields)

    def info(self, text: str, /, *args: object, **fields: object) -> None:
        """Say what is as it should be."""
        if self._generation != self._hub.generation:
            self._refresh()
        if self._threshold <= 20:
            self._write("info", text, args, fields)

    def warning(self, text: str, /, *args: object, **fields: object) -> None:
        """Say what somebody should look at some day."""
        if self._generation != self._hub.generation:
            self._refresh()
        if self._threshold <= 30:
            self._write("warning", text, args, fields)

    def error(self, text: str, /, *args: object, **fields: object) -> None:
        """Say what went wrong."""
        if self._generation != self._hub.generation:
            self._refresh()
        if self._threshold <= 40:
            self._write("error", text, args, fields)

    def critical(self, text: str, /, *args: object, **fields: object) -> None:
        """Say what threatens everything else."""
        if self._generation != self._hub.generation:
            self._refresh()
        if self._threshold <= 50:
            self._write("critical", text, args, fields)

    def exception(self, text: str, /, *args: object, **fields: object) -> None:
        """Say what went wrong, with the traceback of the exception in hand."""
        if self.is_enabled("error"):
            self._write("error", text, args, fields, traceback.format_exc())

    def log(self, level: str, text: str, /, *args: object, **fields: object) -> None:
        """Say something at a level known only at run time."""
        if self.is_enabled(level):
            self._write(level, text, args, fields)

    def is_enabled(self, level: str) -> bool:
        """True if an entry of this level would be written; for texts that cost to make."""
        if self._generation != self._hub.generation:
            self._refresh()
        return self._threshold <= number_of(level)

    def say_drops(self) -> None:
        """Write how many entries were dropped since the last time, if any were."""
        with self._hub.lock:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            text = f"{dropped} entries were dropped: more than {self._hub.rate:g} a second"
            entry = LogEntry(
                self._hub.clock.now(), "warning", self.source, text, {"dropped": dropped}
            )
            self._hub.deliver(entry)

    def _refresh(self) -> None:
        hub = self._hub
        self._generation = hub.generation
        self._threshold = hub.threshold(self.source)

    def _write(
        self,
        level: str,
        text: str,
        args: tuple[object, ...],
        fields: dict[str, object],
        trace: str = "",
    ) -> None:
        hub = self._hub
        if hub.rate != _NO_LIMIT and not self._may_write(hub):
            return
        if self._dropped:
            self.say_drops()
        if args:
            text = _filled(text, args)
        if "exc_info" in fields:  # as Python's logging has it
            trace = _trace_of(fields.pop("exc_info")) or trace
        hub.deliver(
            LogEntry(
                hub.clock.now(),
                level,
                self.source,
                kept_text(text),
                kept_fields(fields) if fields else fields,
                kept_text(trace) if trace else "",
            )
        )

    def _may_write(self, hub: LogHub) -> bool:
        """Take one allowance from the bucket; it fills by `rate` a second up to `burst`."""
        now = hub.clock.monotonic()
        with hub.lock:
            allowance = self._allowance
            if allowance < 0.0:
                allowance = hub.burst
            else:
                allowance = min(hub.burst, allowance + (now - self._stamp) * hub.rate)
            self._stamp = now
            if allowance < 1.0:
                self._allowance = allowance
                self._dropped += 1
                hub.note_drop(self)
                return False
            self._allowance = allowance - 1.0
            return True


def _filled(text: str, args: tuple[object, ...]) -> str:
    """Fill the arguments in; what cannot be shown costs its place, never the caller."""
    try:
        if len(args) == 1 and isinstance(args[0], Mapping):
            return text % args[0]  # `%(name)s`, as Python's logging has it
        return text % args
    except Exception:  # arguments run code of their own
        try:
            return f"{text} {args!r}"
        except Exception:
            return f"{text} (its arguments cannot be shown)"


def _trace_of(exc_info: object) -> str:
    """Return the traceback of an exception, or of the one in hand if it is just true."""
    if isinstance(exc_info, BaseException):
        return "".join(traceback.format_exception(exc_info))
    return traceback.format_exc() if exc_info and sys.exc_info()[0] is not None else ""


def _nowhere() -> LogHub | None:
    return None


find_hub: Callable[[], LogHub | None] = _nowhere
"""Says whose log a module-level call means: the running handler's system's, else that of
the process's only system, else None. The kernel sets it."""


def log_debug(source: str, text: str, /, *args: object, **fields: object) -> None:
    """Say what only helps to find a fault, as `source`."""
    _say("debug", source, text, args, fields)


def log_info(source: str, text: str, /, *args: object, **fields: object) -> None:
    """Say what is as it should be, as `source`."""
    _say("info", source, text, args, fields)


def log_warning(source: str, text: str, /, *args: object, **fields: object) -> None:
    """Say what somebody should look at some day, as `source`."""
    _say("warning", source, text, args, fields)


def log_error(source: str, text: str, /, *args: object, **fields: object) -> None:
    """Say what went wrong, as `source`."""
    _say("error", source, text, args, fields)


def log_critical(source: str, text: str, /, *args: object, **fields: object) -> None:
    """Say what threatens everything else, as `source`."""
    _say("critical", source, text, args, fields)


def _say(
    level: str, source: str, text: str, args: tuple[object, ...], fields: dict[str, object]
) -> None:
    hub = find_hub()
    if hub is not None:
        hub.logger(source).log(level, text, *args, **fields)
    else:
        logging.getLogger("dan9").log(LEVELS[level], f"{source}: {text}", *args)
