"""Log entries as lines, and a file that turns itself over.

The lines are pure functions. One entry is one line, whatever it contains: control
characters are escaped, so that nobody can forge an entry by putting a line break into
a name; a traceback follows indented. JSON lines hold the same facts for programs.

`LogFile` appends. It turns over when the file would grow past `max_bytes` or its
first entry is older than `max_age_s`: `app.log` becomes `app.log.1`, that becomes
`app.log.2`, and the oldest goes. It notices when somebody else has moved or removed the
file (logrotate) and opens a new one. It raises what the system says, and loses nothing
that it has not said it lost: the caller decides what a full disk means.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal

from msgspec import json

from dan9.base.events import LogEntry

__all__ = ["LogFile", "LogForm", "entry_form", "iso_time", "json_line", "text_line", "when_of"]

LogForm = Literal["text", "json"]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PLAIN = re.compile(r"[^\s\"=]+\Z")
_MEMORY_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_FIRST_TIME = re.compile(rb'(\d{4}-\d\d-\d\dT[\d:.]+)Z |\{"time":([\d.]+)')


def iso_time(when: float) -> str:
    """Return UTC seconds since 1970 as ISO-8601 with milliseconds and a Z."""
    milliseconds = int(when * 1000)  # cut off, so that no entry is dated into the future
    second, rest = divmod(milliseconds, 1000)
    return f"{_iso_second(second)}.{rest:03}Z"


@lru_cache(maxsize=16)
def _iso_second(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def entry_form(entry: LogEntry) -> dict[str, object]:
    """Return the entry as a plain map; fields become plain data."""
    return {
        "time": entry.time,
        "level": entry.level,
        "source": _sound(entry.source),
        "text": _sound(entry.text),
        "fields": _plain(entry.fields),
        "trace": _sound(entry.trace),
    }


def text_line(entry: LogEntry) -> str:
    """Return `TIME LEVEL source: text key=value`, and the traceback indented below."""
    source = entry.source if entry.source.isprintable() else _escaped(entry.source)
    text = entry.text if entry.text.isprintable() else _escaped(entry.text)
    parts = [f"{iso_time(entry.time)} {entry.level.upper():<8} {source}: {text}"]
    for key, value in entry.fields.items():
        shown = repr(value) if type(value) is int or type(value) is float else _shown(value)
        parts.append(f"{key if key.isprintable() else _escaped(key)}={shown}")
    line = " ".join(parts) + "\n"
    if entry.trace:
        line += "".join(f"    {_escaped(row)}\n" for row in entry.trace.splitlines())
    return line


def json_line(entry: LogEntry) -> str:
    """Return the entry as one JSON document and a line break; empty parts are left out."""
    form = entry_form(entry)
    for key in ("fields", "trace"):
        if not form[key]:
            del form[key]
    return json.encode(form).decode() + "\n"


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
        try:
            self._ready(now)
            for entry in entries:
                line = self._line(entry).encode("utf-8", "replace")
                if self._is_due(now, pending + len(line)):
                    total += self._append(lines)
                    written, lines, pending = written + len(lines), [], 0
                    self._turn_over()
                    self._open()
                if self._began is None:
                    self._began = entry.time
                lines.append(line)
                pending += len(line)
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

    def _is_due(self, now: float, more: int) -> bool:
        """True if the file should turn over before `more` bytes are added."""
        if self.size_bytes + more == 0 or (self.size_bytes == 0 and self._began is None):
            return False
        if self.max_bytes is not None and self.size_bytes + more > self.max_bytes:
            return True
        return (
            self.max_age_s is not None
            and self._began is not None
            and now - self._began >= self.max_age_s
        )

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
    plain = _plain(value)
    if not isinstance(plain, str):
        return _escaped(json.encode(plain).decode())
    text = _escaped(plain)
    if not _PLAIN.match(text):
        text = '"' + text.replace('"', '\\"') + '"'
    return text


def _escaped(text: str) -> str:
    """Return the text with every control character as an escape."""
    return _CONTROL.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _plain(value: object) -> object:
    """Return what JSON can hold; other objects as their text, without memory addresses."""
    if isinstance(value, str):
        return _sound(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {_sound(str(key)): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    try:
        return _sound(_MEMORY_ADDRESS.sub("", str(value)))
    except Exception:  # somebody else's __str__
        return f"<{type(value).__name__}>"


def _sound(text: str) -> str:
    """Return text that UTF-8 can hold: half characters (of undecodable file names) escaped."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()
