"""Between Python's `logging` and ours, in both directions; and from events to entries.

Coming in: a handler on the root logger hands every record to the hub; the level of
the root logger is lowered to what is wanted, unless the program has put handlers of its
own there. `warnings` are captured. Going out: an entry becomes a record of the logger
`dan9.<source>`. A record that has come from us is never taken in again.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any, ClassVar

from dan9.base.events import (
    DaemonCrashed,
    DaemonFailed,
    DaemonRestarted,
    DaemonStarted,
    DaemonStopped,
    DeadLetter,
    Event,
    LogEntry,
    MailboxHigh,
    MailboxNormal,
    RestartIntensityReached,
    SaveFailed,
    SlowStep,
)
from dan9.kernel.log import LEVELS, LogHub

__all__ = ["TOLD", "Inflow", "entry_of_event", "forward"]

_OURS = "dan9_entry"


class Inflow(logging.Handler):
    """Takes in what Python's logging and warnings say, while it is open.

    Several systems may live in one process: the first to open remembers how Python's
    logging was, the last to close puts it back, in whichever order they do.

    Args:
        hub: Whose log they flow into.
    """

    _opened: ClassVar[dict[Inflow, int]] = {}
    _level_before: ClassVar[int | None] = None
    _had_warnings: ClassVar[bool] = False

    def __init__(self, hub: LogHub) -> None:
        super().__init__()
        self._hub = hub

    def open(self, least: int) -> None:
        """Begin; `least` is the number of the lowest level wanted."""
        root = logging.getLogger()
        if not Inflow._opened:
            Inflow._level_before = root.level if not root.handlers else None
            # captureWarnings replaces this function; if somebody has done so, leave it to him.
            Inflow._had_warnings = warnings.showwarning.__module__ == "logging"
            if not Inflow._had_warnings:
                logging.captureWarnings(True)
        root.addHandler(self)
        self.set_least(least)

    def set_least(self, least: int) -> None:
        """Let through what has become wanted."""
        Inflow._opened[self] = least
        self._let_through()

    def close(self) -> None:
        """End; when nobody is left, Python's logging is as it was."""
        if Inflow._opened.pop(self, None) is not None:
            root = logging.getLogger()
            root.removeHandler(self)
            if Inflow._opened:
                self._let_through()
            else:
                if Inflow._level_before is not None:
                    root.setLevel(Inflow._level_before)
                if not Inflow._had_warnings:
                    logging.captureWarnings(False)
        super().close()

    @staticmethod
    def _let_through() -> None:
        before = Inflow._level_before
        if before is not None:
            wanted = min(Inflow._opened.values())
            logging.getLogger().setLevel(min(wanted, before or wanted))

    def emit(self, record: logging.LogRecord) -> None:
        """Hand one record to the hub."""
        if hasattr(record, _OURS):
            return
        level = level_of(record.levelno)
        logger = self._hub.logger(record.name)
        if not logger.is_enabled(level):
            return
        try:
            text = record.getMessage()
        except Exception:  # the arguments of somebody else's call
            text = f"{record.msg!r} {record.args!r}"
        trace = ""
        if record.name == "py.warnings":  # `FILE:LINE: Class: text`, then the line of code
            text, _, trace = text.strip().partition("\n")
        if record.exc_info:
            trace = logging.Formatter().formatException(record.exc_info)
        logger._write(level, text, (), {}, trace)


def level_of(number: int) -> str:
    """Return the name of our level for a number of Python's."""
    for name in ("critical", "error", "warning", "info"):
        if number >= LEVELS[name]:
            return name
    return "debug"


def forward(entry: LogEntry) -> None:
    """Hand an entry to Python's logging, as `dan9.<source>`."""
    name = "dan9." + entry.source.removeprefix("d9://").replace("/", ".")
    trace = f"\n{entry.trace}" if entry.trace else ""
    logging.getLogger(name).log(
        LEVELS[entry.level], "%s%s", entry.text, trace, extra={_OURS: entry}
    )


TOLD = (
    *(DaemonStarted, DaemonStopped, DaemonCrashed, DaemonRestarted, DaemonFailed),
    *(RestartIntensityReached, DeadLetter, MailboxHigh, MailboxNormal, SlowStep, SaveFailed),
)
"""The events that become entries."""


def entry_of_event(event: Event) -> tuple[str, str, dict[str, Any], str] | None:
    """Return level, text, fields and traceback for what the kernel has to tell, or None."""
    match event:
        case DaemonStarted():
            return "debug", "started", {"took_s": event.took_s}, ""
        case DaemonStopped():
            return "debug", f"stopped: {event.reason}", {}, ""
        case DaemonCrashed():
            text = f"crashed: {event.reason}"
            return "error", text, {"message": event.message} if event.message else {}, event.trace
        case DaemonRestarted():
            counts = {"restarts": event.restarts, "after_s": event.after_s}
            return "warning", "restarted", counts, ""
        case DaemonFailed():
            text = f"given up after {event.restarts} restarts: {event.reason}"
            return "critical", text, {"restarts": event.restarts}, ""
        case RestartIntensityReached():
            text = f"gave up: {event.restarts} restarts within {event.period_s:g} s"
            return "critical", text, {}, ""
        case DeadLetter():
            facts = {"type": event.type, "from": event.sender, "reason": event.reason}
            level = "debug" if event.reason in {"stopped", "expired"} else "warning"
            return level, f"dead letter {event.type}: {event.reason}", facts, ""
        case MailboxHigh():
            return (
                "warning",
                f"mailbox at {event.depth} of {event.limit}",
                {"depth": event.depth},
                "",
            )
        case MailboxNormal():
            return "info", f"mailbox back at {event.depth}", {"depth": event.depth}, ""
        case SlowStep():
            text = f"{event.message or 'a step'} held the node for {event.took_s * 1000:.0f} ms"
            return "warning", text, {"message": event.message, "took_s": event.took_s}, event.stack
        case SaveFailed():
            return "error", f"its state was not saved: {event.reason}", {}, ""
        case _:
            return None
