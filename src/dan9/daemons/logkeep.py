"""Which entries are wanted, and what a file says when it will not take them."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec.json import encode

from dan9.base.errors import (
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotFound,
    PermissionRefused,
    ReadOnly,
    Refused,
)
from dan9.base.events import LogEntry
from dan9.daemons.logfile import LogFile, LogForm
from dan9.kernel.log import LEVELS, number_of, source_matches

__all__ = ["refusal_of", "save_entries", "size_of", "wanted_by"]

_ENTRY_BYTES = 400
_FIELD_BYTES = 60


def wanted_by(
    level: str | None,
    source: str | None,
    since: float | None,
    until: float | None,
    contains: str | None,
) -> Callable[[LogEntry], bool]:
    """Return what says whether an entry is wanted."""
    least = number_of(level) if level is not None else 0
    needle = contains.casefold() if contains else ""

    def wanted(entry: LogEntry) -> bool:
        return (
            LEVELS[entry.level] >= least
            and (since is None or entry.time >= since)
            and (until is None or entry.time <= until)
            and (source is None or source_matches(source, entry.source))
            and (
                not needle
                or needle in entry.text.casefold()
                or any(needle in f"{k}={v}".casefold() for k, v in entry.fields.items())
            )
        )

    return wanted


def size_of(entry: LogEntry) -> int:
    """Return what an entry takes in memory, roughly, always the same for the same entry."""
    size = _ENTRY_BYTES + len(entry.text) + len(entry.trace)
    for value in entry.fields.values():
        size += _FIELD_BYTES
        if isinstance(value, str):
            size += len(value)
        elif isinstance(value, dict | list):
            size += 4 * len(encode(value))
    return size


def save_entries(path: Path, entries: list[LogEntry], form: LogForm, now: float) -> int:
    """Write the entries to a file beside it, then put that in its place."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path.parent))
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    file = LogFile(new, form=form, max_bytes=None)
    try:
        size = file.write(entries, now)
        file.close()
        new.replace(path)
    except OSError:
        with suppress(OSError):
            new.unlink()
        raise
    return size


def refusal_of(error: OSError, path: str) -> Refused:
    """Return the named refusal for what the system said about a file."""
    kind: type[Refused] = {
        errno.ENOENT: NotFound,
        errno.EISDIR: IsADirectory,
        errno.ENOTDIR: NotADirectory,
        errno.EACCES: PermissionRefused,
        errno.EPERM: PermissionRefused,
        errno.EROFS: ReadOnly,
        errno.ENOSPC: NoSpace,
        errno.EDQUOT: NoSpace,
    }.get(error.errno or 0, Refused)
    return kind(f"{path}: {os.strerror(error.errno or errno.EIO)}", at="filepath")
