"""A disk that remembers every write and sync, and shows what a power cut could leave.

The idea is ALICE's (Pillai et al., OSDI 2014) and SQLite's own test6.c: between two syncs of
a file the medium may hold any of the writes, in any order, cut at any sector. `images`
rebuilds such states for every moment of a run; each is then opened with the ordinary
SQLite and compared with what was acknowledged by that moment.

A failed sync is modelled as Linux does it ("fsyncgate"): what was to be written stays in
the cache, is clean, and never reaches the medium unless it is written again.
"""

from __future__ import annotations

import itertools
import random
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from dan9.daemons.state_disk import Disk

SECTOR = 512
_numbers = itertools.count()

Event = tuple[Any, ...]
"""("write", name, offset, bytes) · ("truncate", name, size) · ("sync", name) · ("badsync", name)
· ("delete", name) · ("allow", digests): what an image may be from here on."""


class RecordedFile:
    """One file of the disk, as the database sees it: the cache, always up to date."""

    def __init__(self, disk: CrashingDisk, name: str) -> None:
        self.disk = disk
        self.name = name
        self.data = disk.files.setdefault(name, bytearray())

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802  (SQLite's names)
        return bytes(self.data[offset : offset + amount])

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802
        self.disk.meet("write", self.name)
        piece = bytes(data)
        if len(self.data) < offset:
            self.data.extend(bytes(offset - len(self.data)))
        self.data[offset : offset + len(piece)] = piece
        self.disk.log.append(("write", self.name, offset, piece))

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self.disk.meet("truncate", self.name)
        del self.data[size:]
        self.disk.log.append(("truncate", self.name, size))

    def xSync(self, flags: int) -> None:  # noqa: N802
        try:
            self.disk.meet("sync", self.name)
        except BaseException:
            self.disk.log.append(("badsync", self.name))
            raise
        self.disk.log.append(("sync", self.name))

    def xFileSize(self) -> int:  # noqa: N802
        return len(self.data)

    def xLock(self, level: int) -> None:  # noqa: N802
        pass

    xUnlock = xLock  # noqa: N815

    def xCheckReservedLock(self) -> bool:  # noqa: N802
        return False

    def xFileControl(self, op: int, pointer: int) -> bool:  # noqa: N802
        return False

    def xSectorSize(self) -> int:  # noqa: N802
        return SECTOR

    def xDeviceCharacteristics(self) -> int:  # noqa: N802
        return apsw.SQLITE_IOCAP_POWERSAFE_OVERWRITE  # as the unix VFS says

    def xClose(self) -> None:  # noqa: N802
        pass


class _Vfs(apsw.VFS):
    def __init__(self, disk: CrashingDisk) -> None:
        self.disk = disk
        self.name = f"crashing-{next(_numbers)}"
        super().__init__(self.name, base="")

    def xOpen(self, name: Any, flags: list[int]) -> RecordedFile:  # noqa: N802
        flags[1] = flags[0]
        text = name if isinstance(name, str) else name.filename()
        return RecordedFile(self.disk, Path(text).name)

    def xDelete(self, filename: str, sync_dir: bool) -> None:  # noqa: N802
        name = Path(filename).name
        self.disk.meet("delete", name)
        self.disk.files.pop(name, None)
        self.disk.log.append(("delete", name))

    def xAccess(self, pathname: str, flags: int) -> bool:  # noqa: N802
        return Path(pathname).name in self.disk.files

    def xFullPathname(self, name: str) -> str:  # noqa: N802
        return name


class _Connection:
    """apsw in the clothes of sqlite3: the same methods, the same errors."""

    def __init__(self, inner: apsw.Connection) -> None:
        self.inner = inner

    def execute(self, sql: str, parameters: Sequence[Any] = (), /) -> Any:
        return self._call(lambda: self.inner.execute(sql, tuple(parameters)))

    def executemany(self, sql: str, rows: Any, /) -> Any:
        return self._call(lambda: self.inner.executemany(sql, rows))

    def close(self) -> None:
        self._call(lambda: self.inner.close(True))

    def _call(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except apsw.Error as error:
            said = sqlite3.OperationalError(str(error))
            said.sqlite_errorcode = getattr(error, "extendedresult", getattr(error, "result", 0))
            raise said from error


class CrashingDisk(Disk):
    """A disk in memory, for one connection at a time.

    Args:
        synchronous: FULL, or what the proof of the harness asks for.
        fault: Called before each write, truncate, sync and delete with the operation and
            the file's name; raises what the disk is to answer.
    """

    shared = False
    log_pages = 12  # so that logs are copied often

    def __init__(
        self, *, synchronous: str = "FULL", fault: Callable[[str, str], None] | None = None
    ) -> None:
        super().__init__(Path("state.db"), synchronous=synchronous)
        self.fault = fault
        self.files: dict[str, bytearray] = {}
        self.log: list[Event] = []
        self.operations = 0
        self.heals = True
        self._vfs = _Vfs(self)

    def meet(self, operation: str, name: str) -> None:
        """Count an operation and give the fault its chance."""
        self.operations += 1
        if self.fault is not None:
            self.fault(operation, name)

    def open(self) -> Any:
        """See `Disk.open`."""
        connection: Any = None
        try:
            connection = _Connection(apsw.Connection("state.db", vfs=self._vfs.name))
            connection.execute("PRAGMA locking_mode=EXCLUSIVE").fetchall()
            self.configure(connection)
        except apsw.Error as error:
            said = sqlite3.OperationalError(str(error))
            said.sqlite_errorcode = getattr(error, "extendedresult", 0)
            raise said from error
        except sqlite3.Error:
            if connection is not None:
                connection.close()
            raise
        return connection

    def heal(self) -> None:
        """See `Disk.heal`."""
        name = "state.db-wal"
        if not self.heals or name not in self.files:
            return
        file = RecordedFile(self, name)
        try:
            for offset in range(0, len(file.data), 4096):
                file.xWrite(file.data[offset : offset + 4096], offset)
            file.xSync(0)
        except apsw.Error as error:
            raise OSError(5, "Input/output error") from error

    def allow(self, digests: frozenset[str]) -> None:
        """Note what an image may be, from this moment on."""
        self.log.append(("allow", digests))


@dataclass
class _OnDisk:
    durable: bytearray = field(default_factory=bytearray)
    exists: bool = False
    pending: list[Event] = field(default_factory=list)

    def settle(self) -> None:
        for event in self.pending:
            _apply(self.durable, event)
        self.pending.clear()
        self.exists = True

    def image(self, mode: str, chance: random.Random) -> bytes | None:
        """Return what the medium may hold of this file; None: it is not there."""
        if mode == "none":
            return bytes(self.durable) if self.exists else None
        if mode == "all":
            return self._after(self.pending)
        if mode == "prefix":
            cut = chance.randint(0, len(self.pending))
            events = self.pending[:cut]
            if cut < len(self.pending) and self.pending[cut][0] == "write":
                _, name, offset, data = self.pending[cut]
                events.append(("write", name, offset, data[: chance.randrange(len(data) + 1)]))
            return self._after(events)
        share = chance.choice((0.2, 0.5, 0.9))
        return self._after([e for e in _sectors(self.pending) if chance.random() < share])

    def _after(self, events: list[Event]) -> bytes | None:
        if any(event[0] == "delete" for event in events[-1:]):
            return None
        data = bytearray(self.durable)
        for event in events:
            _apply(data, event)
        return bytes(data) if self.exists or events else None


def _sync_directory(files: dict[str, _OnDisk]) -> None:
    """The first sync of a new journal or log syncs the directory too (UNIXFILE_DIRSYNC)."""
    for file in files.values():
        while any(event[0] == "delete" for event in file.pending):
            if file.pending.pop(0)[0] == "delete":
                file.durable.clear()
                file.exists = False


def _apply(data: bytearray, event: Event) -> None:
    if event[0] == "write":
        _, _, offset, piece = event
        if len(data) < offset:
            data.extend(bytes(offset - len(data)))
        data[offset : offset + len(piece)] = piece
    elif event[0] == "truncate":
        size = event[2]
        del data[size:]
    else:
        data.clear()


def _sectors(events: list[Event]) -> Iterator[Event]:
    """Cut writes at sector boundaries: each reaches the medium, or not, by itself."""
    for event in events:
        if event[0] != "write":
            yield event
            continue
        _, name, offset, data = event
        start = 0
        while start < len(data):
            length = min(SECTOR - (offset + start) % SECTOR, len(data) - start)
            yield ("write", name, offset + start, data[start : start + length])
            start += length


def images(
    log: list[Event], chance: random.Random, *, every: int = 1
) -> Iterator[tuple[int, str, frozenset[str], dict[str, bytes]]]:
    """Yield (moment, mode, what is allowed, files) for each state a power cut could leave.

    Args:
        log: What the disk recorded.
        chance: Draws the lots of the random states.
        every: Look at every n-th moment only.
    """
    files: dict[str, _OnDisk] = {}
    allowed: frozenset[str] = frozenset()
    for moment, event in enumerate(log):
        if event[0] == "allow":
            allowed = event[1]
        else:
            file = files.setdefault(event[1], _OnDisk())
            if event[0] == "sync":
                if not file.exists and event[1] != "state.db":
                    _sync_directory(files)
                file.settle()
            elif event[0] == "badsync":
                # Clean in the cache, absent from the medium.
                file.pending.clear()
            else:
                file.pending.append(event)
        if moment % every or not allowed:
            continue
        seen: set[int] = set()
        for mode in ("none", "all", "prefix", "sectors", "sectors", "mixed"):
            image = {}
            for name, file in files.items():
                how = chance.choice(("none", "all", "sectors")) if mode == "mixed" else mode
                content = file.image(how, chance)
                if content is not None:
                    image[name] = content
            key = hash(tuple(sorted(image.items())))
            if key not in seen:
                seen.add(key)
                yield moment, mode, allowed, image


def unpack(image: dict[str, bytes], directory: Path) -> Path:
    """Write an image to real files and return the database's path."""
    for old in directory.glob("state.db*"):
        old.unlink()
    for name, content in image.items():
        (directory / name).write_bytes(content)
    return directory / "state.db"
