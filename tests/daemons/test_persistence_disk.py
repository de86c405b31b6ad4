"""How the store reaches its file: refusals with names, read-only media, directories, healing."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import Corrupt, NoSpace, PermissionRefused, ReadOnly
from dan9.base.ports import Checkpoint
from dan9.daemons.sqlite_store import SqliteStore
from dan9.daemons.state_disk import Disk, DiskFailed, named

A = "d9://counter/test/a"


def sqlite_error(code: int) -> sqlite3.OperationalError:
    """Return an error as SQLite gives it."""
    error = sqlite3.OperationalError("said by SQLite")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "refusal"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), NoSpace),
        (sqlite_error(sqlite3.SQLITE_READONLY), ReadOnly),
        (sqlite_error(sqlite3.SQLITE_READONLY | 1 << 8), ReadOnly),
        (sqlite_error(sqlite3.SQLITE_CORRUPT), Corrupt),
        (sqlite_error(sqlite3.SQLITE_NOTADB), Corrupt),
        (sqlite_error(sqlite3.SQLITE_IOERR | 4 << 8), DiskFailed),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), DiskFailed),
        (OSError(errno.ENOSPC, "no space"), NoSpace),
        (OSError(errno.EDQUOT, "quota"), NoSpace),
        (OSError(errno.EROFS, "read-only"), ReadOnly),
        (OSError(errno.EACCES, "forbidden"), PermissionRefused),
        (OSError(errno.EPERM, "forbidden"), PermissionRefused),
        (OSError(errno.EIO, "i/o"), DiskFailed),
        (ZeroDivisionError("a bug"), DiskFailed),
    ],
)
def test_each_trouble_has_its_name(error: Exception, refusal: type[Exception]):
    """What the system says becomes a refusal with a text and, where one can help, a hint."""
    said = named(error, "/state/state.db")
    assert type(said) is refusal
    assert str(error) in said.text
    assert said.hint or isinstance(error, ZeroDivisionError)


def test_directories_are_synced_into_their_parents(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A database in a directory that a power cut forgets is lost: parents are synced too."""
    synced: list[Path] = []
    monkeypatch.setattr("dan9.daemons.state_disk.sync_directory", synced.append)
    SqliteStore(tmp_path / "a" / "b" / "state.db").close()
    assert synced == [tmp_path, tmp_path / "a"]


class ReadOnlyMedium(Disk):
    """A medium on which SQLite can make no shared memory: only immutable files open."""

    def _connect(self, mode: str) -> sqlite3.Connection:
        if "immutable" not in mode:
            raise sqlite_error(sqlite3.SQLITE_CANTOPEN)
        return super()._connect(mode)


def saved(path: Path) -> None:
    """Save a state, and close."""
    store = SqliteStore(path)
    store.save([Checkpoint(A, "s", b"kept", 1.0)])
    store.close()


def test_a_read_only_medium_is_read(tmp_path: Path):
    """States are restored from it; the alarm says that nothing will be saved."""
    saved(tmp_path / "state.db")
    store = SqliteStore(ReadOnlyMedium(tmp_path / "state.db"))
    loaded = store.load(A)
    assert loaded is not None
    assert loaded.blob == b"kept"
    assert store.alarm.state == "read-only"
    store.close()


def test_a_read_only_medium_with_a_log_is_refused(tmp_path: Path):
    """States that lie in a log nobody can read must not be left out in silence."""
    saved(tmp_path / "state.db")
    (tmp_path / "state.db-wal").write_bytes(b"frames")
    with pytest.raises(DiskFailed):
        SqliteStore(ReadOnlyMedium(tmp_path / "state.db"))


def test_a_read_only_medium_without_a_database_is_refused(tmp_path: Path):
    """There is nothing to read."""
    with pytest.raises(DiskFailed):
        SqliteStore(ReadOnlyMedium(tmp_path / "state.db"))


def test_healing_writes_the_whole_log_and_syncs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every byte is written again before the one sync that counts."""
    log = tmp_path / "state.db-wal"
    content = os.urandom((2 << 20) + 77)
    log.write_bytes(content)
    done: list[Any] = []
    pwrite, fsync = os.pwrite, os.fsync
    monkeypatch.setattr(
        os, "pwrite", lambda fd, data, at: (done.append((at, len(data))), pwrite(fd, data, at))[1]
    )
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("sync"), fsync(fd))[1])
    Disk(tmp_path / "state.db").heal()
    assert done == [(0, 1 << 20), (1 << 20, 1 << 20), (2 << 20, 77), "sync"]
    assert log.read_bytes() == content


def test_without_a_log_there_is_nothing_to_heal(tmp_path: Path):
    """A clean end left none."""
    Disk(tmp_path / "state.db").heal()
    assert list(tmp_path.iterdir()) == []


def test_a_clean_end_leaves_no_log(tmp_path: Path):
    """Closing copies the log into the file, so that the file alone is everything."""
    saved(tmp_path / "state.db")
    assert [path.name for path in tmp_path.iterdir()] == ["state.db"]
