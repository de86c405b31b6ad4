"""How the store reaches its file, and what a disk's refusals are called.

Apart from the store, because the crash tests put a recorder of writes in its place, and
because everything that distrusts the medium stands here: directories synced into their
parents, a log written anew after an error, a file that can only be read.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

from dan9.base.errors import Corrupt, Dan9Error, NoSpace, PermissionRefused, ReadOnly, Refused
from dan9.daemons.ledger import Connection

__all__ = ["Disk", "DiskFailed", "named", "sync_directory"]


class DiskFailed(Refused):
    """The disk, or the database on it, refused a write. Nothing of it was acknowledged."""

    code = "disk-failed"


class Disk:
    """How the store reaches its file. The crash tests put a recorder in its place.

    Args:
        path: The database; its directories are made.
        synchronous: FULL. Anything less loses acknowledged states; the proof of the
            crash tests asks for it.
    """

    shared = True
    """Whether a second connection may read while the first one writes."""
    log_pages = 4_000
    """Pages of 4 KiB in the log before they are copied into the file: some 16 MB."""

    def __init__(self, path: Path, *, synchronous: str = "FULL") -> None:
        self.path = path
        self.synchronous = synchronous

    def open(self) -> Connection:
        """Return a connection for writing."""
        _make_directories(self.path.parent)
        connection = self._connect("rwc")
        self.configure(connection)
        return connection

    def configure(self, connection: Connection) -> None:
        """Set how the database is written; what it means stands in the docs on durability."""
        for pragma in (
            "journal_mode=WAL",
            f"synchronous={self.synchronous}",
            f"wal_autocheckpoint={self.log_pages}",
            "journal_size_limit=33554432",
            "temp_store=MEMORY",
            "cache_size=-8000",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()

    def open_reader(self) -> Connection:
        """Return a connection for reading; the file may lie on a read-only medium."""
        try:
            connection = self._connect("ro")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            # A database in WAL mode needs its shared-memory file, which a read-only
            # directory cannot hold. Without a log there is nothing to share.
            log = self.path.with_name(self.path.name + "-wal")
            if not self.path.exists() or (log.exists() and log.stat().st_size):
                raise
            connection = self._connect("ro&immutable=1")
        connection.execute("PRAGMA cache_size=-8000")
        return connection

    def heal(self) -> None:
        """Write the log anew, byte by byte, and sync it, so that a sync means something again.

        The log is not locked by its own descriptor, so opening it here drops no lock.
        """
        log = self.path.with_name(self.path.name + "-wal")
        if not log.exists():
            return
        descriptor = os.open(log, os.O_RDWR | os.O_CLOEXEC)
        try:
            offset = 0
            while piece := os.pread(descriptor, 1 << 20, offset):
                os.pwrite(descriptor, piece, offset)
                offset += len(piece)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _connect(self, mode: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"{self.path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=5.0,
            isolation_level=None,
            check_same_thread=False,
        )


def named(error: BaseException, path: str) -> Dan9Error:
    """Return the refusal that says what the database or the system said."""
    text = f"{path}: {error}"
    if isinstance(error, sqlite3.Error):
        primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if primary == sqlite3.SQLITE_FULL:
            return NoSpace(text, hint="free some space; saving goes on by itself")
        # Where it cannot make its log, SQLite says no more than that it cannot open the file.
        is_unwritable = primary == sqlite3.SQLITE_CANTOPEN and _is_read_only(Path(path).parent)
        if primary == sqlite3.SQLITE_READONLY or is_unwritable:
            return ReadOnly(text, hint="make the state directory writable and start again")
        if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return Corrupt(text, hint="restore a backup, or move the file away to start afresh")
        return DiskFailed(text, hint="look at the disk: dmesg, smartctl")
    number = error.errno if isinstance(error, OSError) else None
    if number in {errno.ENOSPC, errno.EDQUOT}:
        return NoSpace(text, hint="free some space; saving goes on by itself")
    if number == errno.EROFS:
        return ReadOnly(text, hint="make the state directory writable and start again")
    if number in {errno.EACCES, errno.EPERM}:
        return PermissionRefused(text, hint="the node's user must own the state directory")
    if number is not None:
        return DiskFailed(text, hint="look at the disk: dmesg, smartctl")
    return DiskFailed(f"a fault of the store itself: {type(error).__name__}: {error}")


def _is_read_only(directory: Path) -> bool:
    """True if the file system of a directory is mounted for reading only."""
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def _make_directories(directory: Path) -> None:
    """Make the directory and its parents, each synced into the one above it."""
    missing = []
    while not directory.exists():
        missing.append(directory)
        directory = directory.parent
    for made in reversed(missing):
        made.mkdir(mode=0o700, exist_ok=True)
        sync_directory(made.parent)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive the loss of power."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
