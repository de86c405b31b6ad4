"""Log entries as lines, and a file that turns itself over.

The lines are pure functions. One entry is one line, whatever it contains: control
characters are escaped, so that nobody can forge an entry by putting a line break into
a name; a traceback follows indented. JSON lines hold the same facts for programs. What
is plain already, and most is, is not looked at twice: a line takes about a microsecond.

`LogFile` appends. It turns over when the file would grow past `max_bytes` or its
first entry is older than `max_age_s`: `app.log` becomes `app.log.1`, that becomes
`app.log.2`, and the oldest goes. It notices when somebody else has moved or removed the
file (logrotate) and opens a new one. It raises what the system says, and loses nothing
that it has not said it lost: the caller decides what a full disk means.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from math import inf
from pathlib import Path
from typing import Literal

from msgspec.json import Encoder

from dan9.base.events import LogEntry
from dan9.daemons.logging_replies import EntryRow

__all__ = ["LogFile", "LogForm", "entry_form", "iso_time", "json_line", "text_line", "when_of"]

LogForm = Literal["text", "json"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[^\s\"=]+\Z")
_encode = Encoder().encode
_FIRST_TIME = re.compile(rb'(\d{4}-\d\d-\d\dT[\d:.]+)Z |\{"time":([\d.]+)')


def iso_time(when: float) -> str:
    """Return UTC seconds since 1970 as ISO-8601 with milliseconds and a Z."""
    return _iso_millisecond(int(when * 1000))  # cut off, so that nothing is dated into the future


@lru_cache(maxsize=64)
def _iso_millisecond(milliseconds: int) -> str:
    second, rest = divmod(milliseconds, 1000)
    return f"{_iso_second(second)}.{rest:03}Z"


@lru_cache(maxsize=16)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def entry_form(entry: LogEntry) -> EntryRow:
    """Return the entry as a plain map."""
    return {
        "time": entry.time,
        "level": entry.level,
        "source": entry.source,
        "text": entry.text,
        "fields": dict(entry.fields),
        "trace": entry.trace,
    }


def text_line(entry: LogEntry) -> bytes:
    """Return `TIME LEVEL source: text key=value`, and the traceback indented below."""
    text = entry.text if entry.text.isprintable() else _escaped(entry.text)
    line = f"{iso_time(entry.time)} {_head(entry.level, entry.source)}{text}"
    for key, value in entry.fields.items():
        shown = value if type(value) is int or type(value) is float else _shown(value)
        line += f" {key if key.isprintable() else _escaped(key)}={shown}"
    line += "\n"
    if entry.trace:
        line += "".join(f"    {_escaped(row)}\n" for row in entry.trace.splitlines())
    return line.encode()


@lru_cache(maxsize=1024)
def _head(level: str, source: str) -> str:
    return f"{level.upper():<8} {_escaped(source)}: "


def json_line(entry: LogEntry) -> bytes:
    """Return the entry as one JSON document and a line break; empty parts are left out."""
    return _encode(entry) + b"\n"


def when_of(first_line: bytes) -> float | None:
    """Return the time in the first line of a log file of ours, if it has one."""
    found = _FIRST_TIME.match(first_line)
    if not found:
        return None
    with suppress(ValueError):
        if found[1]:
            return datetime.fromisoformat(found[1].decode()).replace(tzinfo=UTC).timestamp()
        return float(found[2])
    return None


class LogFile:
    """An append-only file that turns over.

    Args:
        path: The file; its folder is made if it is missing.
        form: `text` or `json` lines.
        max_bytes: Turn over before the file grows past this; None: never by size.
        max_age_s: Turn over when the first entry is older than this; None: never by age.
        keep: How many old files stay.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        form: LogForm = "text",
        max_bytes: int | None = 10_000_000,
        max_age_s: float | None = None,
        keep: int = 5,
    ) -> None:
        self.path = Path(path)
        self.form: LogForm = form
        self.max_bytes = max_bytes
        self.max_age_s = max_age_s
        self.keep = keep
        self.rotations = 0
        self.size_bytes = 0
        self._line = json_line if form == "json" else text_line
        self._handle = -1
        self._identity = (0, 0)
        self._began: float | None = None
        self._torn = False

    def write(self, entries: Sequence[LogEntry], now: float) -> int:
        """Append the entries; turn over where one would not fit.

        Returns:
            The number of bytes written.

        Raises:
            OSError: As the system says it. Lines before the error are in the file; how
                many entries those are is in the error's attribute `written`.
        """
        written = total = 0
        lines: list[bytes] = []
        pending = 0
        form = self._line
        try:
            self._ready(now)
            room = self._room(now)
            for entry in entries:
                line = form(entry)
                size = len(line)
                if pending + size > room and (pending or self.size_bytes):
                    total += self._append(lines)
                    written, lines, pending = written + len(lines), [], 0
                    self._turn_over()
                    self._open()
                    room = self._room(now)
                if self._began is None:
                    self._began = entry.time
                lines.append(line)
                pending += size
            total += self._append(lines)
        except OSError as error:
            error.written = written + getattr(error, "written", 0)  # type: ignore[attr-defined]
            self.close()
            raise
        return total

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        if self._handle >= 0:
            with suppress(OSError):
                os.close(self._handle)
        self._handle = -1

    def _ready(self, now: float) -> None:
        """Have the file open that the path names now."""
        if self._handle >= 0:
            with suppress(OSError):
                status = self.path.stat()
                if (status.st_dev, status.st_ino) == self._identity:
                    return
            self.close()
        self._open()
        if self._began is not None:
            self._began = min(self._began, now)

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._handle = os.open(self.path, flags, 0o640)
        status = os.fstat(self._handle)
        self._identity = (status.st_dev, status.st_ino)
        self.size_bytes = status.st_size
        self._began = None
        self._torn = False
        if status.st_size:
            self._began = when_of(os.pread(self._handle, 64, 0))
            self._torn = os.pread(self._handle, 1, status.st_size - 1) != b"\n"

    def _room(self, now: float) -> float:
        """Return how many bytes the file may still take; none if it is too old."""
        began = self._began
        if self.max_age_s is not None and began is not None and now - began >= self.max_age_s:
            return 0
        return inf if self.max_bytes is None else self.max_bytes - self.size_bytes

    def _append(self, lines: list[bytes]) -> int:
        """Write whole lines, if need be in several steps; a torn one is ended first."""
        if not lines:
            return 0
        data = b"".join(lines)
        if self._torn:
            data = b"\n" + data
        done = 0
        try:
            while done < len(data):
                done += os.write(self._handle, data[done:] if done else data)
        except OSError as error:
            whole = data[:done]
            self._torn = bool(whole) and not whole.endswith(b"\n")
            self.size_bytes += done
            end = len(data) - sum(map(len, lines))
            count = 0
            for line in lines:
                end += len(line)
                if end > done:
                    break
                count += 1
            error.written = count  # type: ignore[attr-defined]
            raise
        self._torn = False
        self.size_bytes += done
        return done

    def _turn_over(self) -> None:
        """Move every old file one number up; the oldest is overwritten or removed."""
        self.close()
        if self.keep <= 0:
            self.path.unlink(missing_ok=True)
        else:
            for number in range(self.keep - 1, 0, -1):
                with suppress(FileNotFoundError):
                    self._old(number).replace(self._old(number + 1))
            with suppress(FileNotFoundError):
                self.path.replace(self._old(1))
        self.rotations += 1

    def _old(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


def _shown(value: object) -> str:
    """Return a field's value, quoted where it has to be."""
    if not isinstance(value, str):
        return _escaped(_encode(value).decode())
    text = _escaped(value)
    if not _PLAIN.match(text):
        text = '"' + text.replace('"', '\\"') + '"'
    return text


def _escaped(text: str) -> str:
    """Return the text with every control character as an escape."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()
