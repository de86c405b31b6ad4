"""The state of a node on disk: one SQLite file, one writer thread, group commit.

Principles:

- **Commit at once when idle; what arrives during a commit is the next group** (at most
  128 requests). No timer: waiting 2 ms for company made a lone durable ask 10-16 times
  slower in a trial, and under load the commit itself is the wait.
- **Acknowledged means committed**, with WAL and synchronous=FULL: the log was fsynced.
  NORMAL loses acknowledged commits when power fails, OFF corrupts the file; the crash
  tests show both.
- **An error is never an acknowledgement, and after one nothing is believed.** When fsync
  fails, Linux marks the pages clean although the disk has not got them; a second fsync
  says yes and means nothing ("fsyncgate", Rebello et al., USENIX ATC 2020). So after any
  error the log is written anew, byte by byte, synced, and the database opened again;
  until all that succeeds, every write is refused and an alarm stands.
- **The loop is told once a group**: one `call_soon_threadsafe`, then plain calls.

Reads go through a connection of their own and see what is committed.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, TypeVar

from dan9.base.errors import Closed, Corrupt, Dan9Error, NoSpace, ReadOnly, Refused
from dan9.base.ports import Alarm, Checkpoint, Done, Entry, Known, Seen, Version
from dan9.daemons.ledger import Ledger
from dan9.daemons.ledger_rows import check_entry, check_save, check_step
from dan9.daemons.state_disk import Disk, DiskFailed, named, sync_directory

__all__ = ["GROUP", "SqliteStore"]

GROUP: Final = 128
"""Requests in one commit, at most: an acknowledgement never waits for more than these."""

_FEW = 8  # loads without a commit between them, until reading ahead begins
_AHEAD = 256  # states that are read ahead
T = TypeVar("T")


class _Request:
    """One thing to be written; also the receipt that its caller holds."""

    __slots__ = (
        "addresses",
        "alone",
        "apply",
        "done",
        "error",
        "key",
        "life",
        "snapshot",
        "versions",
    )

    def __init__(self, apply: Callable[[Ledger, _Request], None], done: Done | None) -> None:
        self.apply = apply
        self.done = done
        self.error: Exception | None = None
        self.versions: list[int] = []
        self.snapshot = 0
        self.key: tuple[str, str] | None = None  # (address, message id) of a journal request
        self.life = -1  # which life of the daemon handed in a `handled`; -1: not fenced
        self.alone = False  # stands outside a transaction (VACUUM)


class SqliteStore:
    """Store and Journal in one file, because a durable step is one transaction.

    Args:
        path: The database file, or a Disk.
        post: Hands a callable to the loop: `loop.call_soon_threadsafe`. Default: the
            callables run in the writer thread.
        on_alarm: Called through `post` when what the store can do changes.

    Raises:
        Corrupt: The file is not a state file.
        NotSupported: It was written by a later Dan9.
        DiskFailed, NoSpace: It cannot be opened at all. On a read-only medium it opens
            for reading, with an alarm.
    """

    def __init__(
        self,
        path: Path | Disk,
        *,
        post: Callable[[Callable[[], object]], object] | None = None,
        on_alarm: Callable[[Alarm], None] | None = None,
    ) -> None:
        self.disk = path if isinstance(path, Disk) else Disk(Path(path))
        self.on_alarm = on_alarm
        self.alarm = Alarm("ok", "")
        self.groups = 0
        """Commits made."""
        self.requests = 0
        """Requests committed."""
        self._post = post or (lambda call: call())
        self._queue: SimpleQueue[_Request | None] = SimpleQueue()
        self._inflight: dict[tuple[str, str], int] = {}
        self._lives: dict[str, int] = {}
        self._fenced: dict[str, tuple[int, Exception]] = {}
        self._ahead: dict[str, Checkpoint] = {}  # read before they are asked for
        self._kinds: dict[str, bool] = {}  # whether anything is stored of a type and group
        self._ahead_of = -1  # the commit after which they were read
        self._loads = 0
        self._closed = False
        self._ledger: Ledger | None = None
        self._healthy = False
        self._suspect = True  # a log left by a crash is as doubtful as one after an error
        self._readers: Ledger | None = None
        self._reading = threading.Lock()
        self._open_first()
        self._thread = threading.Thread(target=self._run, name="dan9-store", daemon=True)
        self._thread.start()

    # ---- Store ------------------------------------------------------------

    def save(
        self,
        checkpoints: Sequence[Checkpoint],
        done: Done | None = None,
        *,
        keep: int | Sequence[int] = 3,
        snapshot: bool = False,
    ) -> _Request:
        """See `Store.save`."""
        keeps = check_save(checkpoints, keep)

        def apply(ledger: Ledger, request: _Request) -> None:
            number = ledger.snapshot(len(checkpoints)) if snapshot else 0
            request.snapshot = number
            request.versions = ledger.save_all(checkpoints, keeps, number)

        return self._submit(_Request(apply, done))

    def load(self, address: str, version: int | None = None) -> Checkpoint | None:
        """See `Store.load`.

        After some loads without a commit between them a node is being restored: then
        what was first saved together is read together, which takes a third of the time. And
        most daemons that are spawned are of a kind of which nothing is stored.
        """
        if version is not None:
            return self._read(lambda ledger: ledger.load(address, version))
        if self._ahead_of != self.groups:
            self._ahead_of, self._loads = self.groups, 0
            self._ahead.clear()
            self._kinds.clear()
        ready = self._ahead.pop(address, None)
        if ready is not None:
            return ready
        kind = address.rpartition("/")[0]
        if self._kinds.get(kind) is False:
            return None
        self._loads += 1

        def look(ledger: Ledger) -> Checkpoint | None:
            found = ledger.load(address)
            if found is None:
                if kind and kind not in self._kinds:
                    self._kinds[kind] = ledger.knows(kind)
            elif self._loads > _FEW:
                self._ahead = ledger.ahead(address, _AHEAD)
            return found

        return self._read(look)

    def versions(self, address: str | None = None) -> list[Version]:
        """See `Store.versions`."""
        read = self._read_apart if address is None else self._read
        return read(lambda ledger: ledger.versions(address))

    def delete(self, address: str, keep: int, done: Done | None = None) -> None:
        """See `Store.delete`."""
        self._submit(_Request(lambda ledger, _: ledger.delete(address, keep), done))

    def verify(self, address: str | None = None) -> list[Version]:
        """See `Store.verify`; on a connection of its own, so that readers do not wait."""

        def faults(ledger: Ledger) -> list[Version]:
            if address is None:
                return ledger.faults()
            return [v for v in ledger.versions(address, check=True) if v.fault]

        return self._read_apart(faults)

    def compact(self, done: Done | None = None) -> None:
        """Rewrite the file without its free pages. Writes wait meanwhile."""

        def apply(ledger: Ledger, _: _Request) -> None:
            ledger.connection.execute("VACUUM")
            ledger.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

        request = _Request(apply, done)
        request.alone = True
        self._submit(request)

    def backup(self, target: Path) -> int:
        """Write a compact copy of what is committed to a new file and return its size. Blocks.

        The copy appears whole or not at all.

        Raises:
            NoSpace, DiskFailed, PermissionRefused: It cannot be written.
        """
        partial = target.with_name(target.name + ".partial")
        try:
            partial.unlink(missing_ok=True)
            self._read_apart(
                lambda ledger: ledger.connection.execute("VACUUM INTO ?", (str(partial),))
            )
            with partial.open("rb+") as file:
                os.fsync(file.fileno())
            partial.replace(target)
            sync_directory(target.parent)
        except OSError as error:
            raise named(error, str(target)) from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
        return target.stat().st_size

    def close(self) -> None:
        """See `Store.close`."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        self._thread.join()

    # ---- Journal ----------------------------------------------------------

    def seen(self, address: str, message_id: str) -> Seen:
        """See `Journal.seen`."""
        if (address, message_id) in self._inflight:
            return Seen(Known.PENDING)
        return self._read(lambda ledger: ledger.seen(address, message_id))

    def append(self, entry: Entry, done: Done | None = None) -> None:
        """See `Journal.append`."""
        check_entry(entry)
        self._keyed(_Request(lambda ledger, _: ledger.append(entry), done), entry)

    def handled(
        self,
        entry: Entry,
        checkpoint: Checkpoint | None,
        reply: bytes = b"",
        done: Done | None = None,
        *,
        keep: int = 3,
    ) -> None:
        """See `Journal.handled`."""
        check_step(entry, checkpoint)
        address = entry.address

        def apply(ledger: Ledger, request: _Request) -> None:
            life, error = self._fenced.get(address, (-1, None))
            if error is not None and request.life <= life:
                raise error
            ledger.handled(entry, checkpoint, reply, keep)

        request = _Request(apply, done)
        request.life = self._lives.get(address, 0)
        self._keyed(request, entry)

    def bury(self, entry: Entry, reason: str, done: Done | None = None) -> None:
        """See `Journal.bury`."""
        self._keyed(_Request(lambda ledger, _: ledger.bury(entry, reason), done), entry)

    def redelivered(self, entry: Entry, done: Done | None = None) -> None:
        """See `Journal.redelivered`."""
        self._submit(_Request(lambda ledger, _: ledger.redelivered(entry), done))

    def pending(self, address: str) -> list[Entry]:
        """See `Journal.pending`."""
        self._lives[address] = self._lives.get(address, 0) + 1
        return self._read(lambda ledger: ledger.pending(address))

    # ---- to the writer ----------------------------------------------------

    def _keyed(self, request: _Request, entry: Entry) -> None:
        request.key = key = (entry.address, entry.id)
        self._inflight[key] = self._inflight.get(key, 0) + 1
        self._submit(request)

    def _submit(self, request: _Request) -> _Request:
        if self._closed:
            request.error = Closed("the store is closed", hint="the node is stopping")
            self._post(lambda: self._finish([request]))
        else:
            self._queue.put(request)
        return request

    def _finish(self, group: list[_Request]) -> None:
        """Tell the callers, on the loop; one that raises does not rob the others."""
        trouble: Exception | None = None
        for request in group:
            key = request.key
            if key is not None:
                left = self._inflight.get(key, 1) - 1
                if left:
                    self._inflight[key] = left
                else:
                    self._inflight.pop(key, None)
            if request.done is not None:
                try:
                    request.done(request.error)
                except Exception as error:  # a caller's bug; told to the loop below
                    trouble = trouble or error
        if trouble is not None:
            raise trouble

    # ---- the writer thread ------------------------------------------------

    def _run(self) -> None:
        held: _Request | None = None
        while True:
            request = held if held is not None else self._queue.get()
            held = None
            if request is None:
                break
            group = [request]
            if not request.alone:
                held = self._gather(group)
            self._write(group)
            if held is _END:
                break
        self._shut()

    def _gather(self, group: list[_Request]) -> _Request | None:
        """Add what waits to the group; return what must not be in it."""
        take = self._queue.get_nowait
        with suppress(Empty):
            while len(group) < GROUP:
                more = take()
                if more is None:
                    return _END
                if more.alone:
                    return more
                group.append(more)
        return None

    def _write(self, group: list[_Request]) -> None:
        try:
            self._commit(group)
        except (
            Exception
        ) as error:  # even a bug must not end the only writer; nothing is acknowledged
            self._fail(group, error)
        else:
            self.groups += 1
            self.requests += len(group)
            if self.alarm.state != "ok":
                self._raise_alarm("ok", "the disk takes writes again", self.alarm.failed)
        # The loop may be gone when the last group is committed; then nobody waits.
        with suppress(RuntimeError):
            self._post(lambda: self._finish(group))

    def _commit(self, group: list[_Request]) -> None:
        ledger = self._ledger if self._healthy else None
        if ledger is None:
            ledger = self._recover()
        if group[0].alone:
            group[0].apply(ledger, group[0])
            return
        ledger.begin()
        for request in group:
            try:
                request.apply(ledger, request)
            except Refused as refusal:  # wrote nothing: its neighbours go on
                request.error = refusal
                self._fence(request, refusal)
        ledger.commit()

    def _recover(self) -> Ledger:
        """Open the database, after an error or at first, and believe nothing until it is."""
        if self._suspect:
            self.disk.heal()
            self._suspect = False
        if self._ledger is not None:
            ledger, self._ledger = self._ledger, None
            ledger.connection.close()
        ledger = Ledger(self.disk.open())
        try:
            ledger.prepare()
        except BaseException:
            ledger.connection.close()
            raise
        self._ledger = ledger
        self._healthy = True
        # A reader that was opened while the medium was read-only took the file for
        # unchangeable: it would not see what is written from now on.
        with self._reading:
            reader, self._readers = self._readers, None
            if reader is not None:
                with suppress(sqlite3.Error, OSError):
                    reader.connection.close()
        return ledger

    def _fail(self, group: list[_Request], error: Exception) -> None:
        refusal = error if isinstance(error, Dan9Error) else named(error, str(self.disk.path))
        self._healthy = False
        # A full or read-only disk says so when it is written to; what a sync
        # failed to write is another matter (see the head of this file).
        self._suspect |= not isinstance(refusal, NoSpace | ReadOnly)
        if self._ledger is not None:
            with suppress(sqlite3.Error, OSError):
                self._ledger.connection.execute("ROLLBACK")
        for request in group:
            request.error = request.error or refusal
            self._fence(request, refusal)
        state = "read-only" if isinstance(refusal, ReadOnly) else "degraded"
        self._raise_alarm(
            state, f"nothing is being saved: {refusal}", self.alarm.failed + len(group)
        )

    def _fence(self, request: _Request, error: Dan9Error) -> None:
        if request.life >= 0 and request.key is not None:
            address = request.key[0]
            refusal = DiskFailed(
                f"an earlier step of {address} was not saved: {error.text}",
                hint="it is restored from its last saved state",
                address=address,
            )
            self._fenced[address] = (request.life, refusal)

    def _raise_alarm(self, state: str, text: str, failed: int) -> None:
        changed = state != self.alarm.state
        alarm = Alarm(state, text, failed)
        self.alarm = alarm if state != "ok" else Alarm("ok", "")
        call = self.on_alarm
        if changed and call is not None:
            with suppress(RuntimeError):
                self._post(lambda: call(alarm))

    def _shut(self) -> None:
        with suppress(sqlite3.Error, OSError):
            if self._suspect:
                self.disk.heal()
                self._suspect = False
        with self._reading:
            writer, reader = self._ledger, self._readers
            self._ledger = self._readers = None
            # Whoever closes last copies the log into the file. That may be the
            # writer only if the log is known to be on the disk.
            order = (writer, reader) if self._suspect else (reader, writer)
            for ledger in order:
                if ledger is not None:
                    with suppress(sqlite3.Error, OSError):
                        ledger.connection.close()

    # ---- reading ----------------------------------------------------------

    def _open_first(self) -> None:
        try:
            self._recover()
        except (sqlite3.Error, OSError) as error:
            refusal = named(error, str(self.disk.path))
            try:
                if isinstance(refusal, Corrupt) or not (
                    self.disk.shared and self.disk.path.exists()
                ):
                    raise refusal from error
                reader = Ledger(self.disk.open_reader())
                if reader.is_empty():
                    raise refusal from error
            except (sqlite3.Error, OSError):
                raise refusal from error
            self._readers = reader
            self._raise_alarm("read-only", f"nothing will be saved: {refusal}", 0)

    def _read(self, look: Callable[[Ledger], T]) -> T:
        if not self.disk.shared:
            return self._read_by_writer(look)
        with self._reading:
            if self._closed and self._ledger is None:
                raise Closed("the store is closed", hint="the node is stopping")
            try:
                if self._readers is None:
                    self._readers = Ledger(self.disk.open_reader())
                return look(self._readers)
            except (sqlite3.Error, OSError) as error:
                reader, self._readers = self._readers, None
                if reader is not None:
                    with suppress(sqlite3.Error):
                        reader.connection.close()
                raise named(error, str(self.disk.path)) from error

    def _read_apart(self, look: Callable[[Ledger], T]) -> T:
        """Read at length: on a connection of its own."""
        if not self.disk.shared:
            return self._read_by_writer(look)
        try:
            ledger = Ledger(self.disk.open_reader())
            try:
                return look(ledger)
            finally:
                ledger.connection.close()
        except (sqlite3.Error, OSError) as error:
            raise named(error, str(self.disk.path)) from error

    def _read_by_writer(self, look: Callable[[Ledger], T]) -> T:
        """Read where only one connection may be: between two groups, on the writer's."""
        if self._closed:
            raise Closed("the store is closed", hint="the node is stopping")
        found: list[T] = []
        looked = threading.Event()
        trouble: list[Exception] = []

        def apply(ledger: Ledger, _: _Request) -> None:
            try:
                found.append(look(ledger))
            except Refused as refusal:
                trouble.append(refusal)
            finally:
                looked.set()

        request = _Request(apply, None)
        request.alone = True
        self._queue.put(request)
        # A group that cannot even begin never looks; the request then has its error.
        while not looked.wait(0.05):
            if request.error is not None:
                raise request.error
        if trouble:
            raise trouble[0]
        if not found:
            raise DiskFailed("the database cannot be read", hint="see the log of the node")
        return found[0]


_END = _Request(lambda _ledger, _request: None, None)
"""Stands for the end of the queue where a request is expected."""
