"""The SQLite store and its twin in memory pass one suite of contracts."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import pytest

from dan9.base.errors import Corrupt, NoSpace, NotSupported
from dan9.base.ports import Alarm, Checkpoint, Entry, Known
from dan9.daemons.ledger import ID_AGE_S, Ledger
from dan9.daemons.sqlite_store import GROUP, SqliteStore
from dan9.daemons.state_disk import Disk, DiskFailed
from dan9.testing.memory_store import MemoryStore
from tests.contracts.store_contract import *  # noqa: F403  (the contract is its tests)
from tests.contracts.store_contract import A, Answers, entry, state


class FailingDisk(Disk):
    """A disk whose commits fail while `error` is set."""

    error: Exception | None = None
    heals = 0

    def open(self) -> Any:
        return _Failing(super().open(), self)

    def heal(self) -> None:
        self.heals += 1
        super().heal()


class _Failing:
    def __init__(self, inner: Any, disk: FailingDisk) -> None:
        self.inner, self.disk = inner, disk
        self.executemany, self.close = inner.executemany, inner.close

    def execute(self, sql: str, parameters: Any = (), /) -> Any:
        if sql == "COMMIT" and self.disk.error is not None:
            raise self.disk.error
        return self.inner.execute(sql, parameters)


def sqlite_error(code: int, text: str) -> sqlite3.OperationalError:
    """Return an error as SQLite gives it."""
    error = sqlite3.OperationalError(text)
    error.sqlite_errorcode = code
    return error


IO_ERROR = sqlite_error(sqlite3.SQLITE_IOERR, "disk I/O error")


class SqliteBench:
    """The store on a real file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.alarms: list[Alarm] = []
        self.calls: SimpleQueue[Callable[[], object]] = SimpleQueue()
        self.disk = FailingDisk(path)
        self.store = self._open()

    def _open(self) -> SqliteStore:
        return SqliteStore(self.disk, post=self.calls.put, on_alarm=self.alarms.append)

    def settle(self) -> None:
        settled: list[object] = []
        self.store.save([], settled.append)
        while not settled:
            self.calls.get(timeout=10)()

    def reopen(self) -> None:
        self.store.close()
        while True:
            try:
                self.calls.get_nowait()()
            except Empty:
                break
        self.store = self._open()

    def break_disk(self) -> None:
        self.disk.error = IO_ERROR

    def mend_disk(self) -> None:
        self.disk.error = None

    def tear(self, address: str, version: int) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.execute("UPDATE states SET blob=zeroblob(3) WHERE version=?", (version,))
        connection.close()


class MemoryBench:
    """The twin."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], object]] = []
        self.alarms: list[Alarm] = []
        self.store = MemoryStore(post=self.calls.append, on_alarm=self.alarms.append)

    def settle(self) -> None:
        while self.calls:
            self.calls.pop(0)()

    def reopen(self) -> None:
        self.settle()
        medium = self.store._medium
        self.store.close()
        self.store = MemoryStore(post=self.calls.append, on_alarm=self.alarms.append)
        self.store._medium = medium

    def break_disk(self) -> None:
        self.store.error = DiskFailed("disk I/O error")

    def mend_disk(self) -> None:
        self.store.error = None

    def tear(self, address: str, version: int) -> None:
        self.store.tear(address, version)


@pytest.fixture(params=["memory", "sqlite"])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SqliteBench | MemoryBench]:
    """Return a store and its medium."""
    made = MemoryBench() if request.param == "memory" else SqliteBench(tmp_path / "state.db")
    yield made
    made.store.close()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SqliteBench]:
    """Return the store on a file alone."""
    made = SqliteBench(tmp_path / "new" / "deep" / "state.db")
    yield made
    made.store.close()


# ---- what only a file can do ------------------------------------------------


def test_directories_are_made_for_the_owner_alone(disk: SqliteBench):
    """The state directory is nobody else's business."""
    assert disk.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_lone_request_is_committed_at_once(disk: SqliteBench):
    """An idle writer waits for no company: one request, one commit."""
    before = disk.store.groups
    disk.settle()
    disk.settle()
    assert disk.store.groups == before + 2


def test_a_group_has_at_most_its_number(disk: SqliteBench):
    """No acknowledgement waits for more than `GROUP` requests."""
    sizes: list[int] = []
    finish = disk.store._finish
    disk.store._finish = lambda group: (sizes.append(len(group)), finish(group))
    for n in range(1_000):
        disk.store.save([state(blob=b"%d" % n)])
    disk.settle()
    assert sum(sizes) == 1_001
    assert max(sizes) <= GROUP


def test_the_loop_is_told_once_a_group(disk: SqliteBench):
    """One call crosses the threads for a whole group."""
    for n in range(1_000):
        disk.store.save([state(blob=b"%d" % n)])
    groups = disk.store.groups
    calls = 0
    answers = Answers()
    disk.store.save([], answers)
    while not answers:
        disk.calls.get(timeout=10)()
        calls += 1
    assert calls <= disk.store.groups - groups + 128  # those committed before the count


def test_saves_from_many_threads_all_arrive(disk: SqliteBench):
    """`save` may be called from any thread."""

    def work(name: str) -> None:
        for n in range(50):
            disk.store.save([state(f"d9://c/t/{name}", b"%d" % n)])

    threads = [threading.Thread(target=work, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    disk.settle()
    assert [disk.store.load(f"d9://c/t/w{n}").version for n in range(4)] == [50] * 4


def test_the_state_of_another_daemon_is_not_loaded(disk: SqliteBench):
    """A row that is intact but somebody else's is Corrupt."""
    for address in (A, "d9://other/test/b"):
        disk.store.save([state(address, address.encode())])
    disk.settle()
    with sqlite3.connect(disk.path) as connection:
        keys = [row[0] for row in connection.execute("SELECT key FROM states ORDER BY key")]
        connection.execute("DELETE FROM states WHERE key=?", (keys[0],))
        connection.execute("UPDATE states SET key=? WHERE key=?", keys)
    connection.close()
    with pytest.raises(Corrupt, match="checksum"):
        disk.store.load(A)
    assert [fault.address for fault in disk.store.verify()] == [A]


@pytest.mark.parametrize(
    "change",
    [
        "version=version+3",
        "snapshot=9",
        "wall=wall+1",
        "wall='x'",
        "schema='x'",
        "codec='json'",
        "blob='text'",
        "metrics=x'01'",
        "checksum=1",
    ],
)
def test_no_altered_column_is_loaded(disk: SqliteBench, change: str):
    """The checksum covers every column."""
    disk.store.save([state()])
    disk.settle()
    with sqlite3.connect(disk.path) as connection:
        connection.execute(f"UPDATE states SET {change}")
    connection.close()
    with pytest.raises(Corrupt) as caught:
        disk.store.load(A)
    assert caught.value.address == A
    assert "version=none" in caught.value.hint


@pytest.mark.parametrize("change", ["body=x'00'", "type='other'", "wall=5.0", "id='m9'"])
def test_no_altered_message_is_delivered(disk: SqliteBench, change: str):
    """A journal entry that is not as written is Corrupt."""
    disk.store.append(entry(1))
    disk.settle()
    with sqlite3.connect(disk.path) as connection:
        connection.execute(f"UPDATE journal SET {change}")
    connection.close()
    with pytest.raises(Corrupt):
        disk.store.pending(A)
    assert len(disk.store.verify()) == 1


def test_an_altered_reply_is_not_given(disk: SqliteBench):
    """`seen` checks what it answers."""
    disk.store.handled(entry(1), None, b"reply")
    disk.settle()
    with sqlite3.connect(disk.path) as connection:
        connection.execute("UPDATE journal SET body=x'00'")
    connection.close()
    with pytest.raises(Corrupt):
        disk.store.seen(A, "m1")


def test_another_programs_database_is_refused(tmp_path: Path):
    """A file that is not ours is left alone."""
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE theirs(x)")
    connection.close()
    with pytest.raises(Corrupt, match="another program's"):
        SqliteStore(path)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path):
    """Garbage is Corrupt and is not overwritten."""
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database, just text" * 400)
    with pytest.raises(Corrupt, match=r"state\.db"):
        SqliteStore(path)
    assert path.read_bytes().startswith(b"not a database")


def test_a_later_format_is_refused(tmp_path: Path):
    """What a later Dan9 wrote is not touched."""
    SqliteStore(tmp_path / "state.db").close()
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(NotSupported, match="format 99"):
        SqliteStore(tmp_path / "state.db")


def test_a_path_that_cannot_be_a_database(tmp_path: Path):
    """A directory in the file's place is a named refusal."""
    (tmp_path / "state.db").mkdir()
    with pytest.raises(DiskFailed):
        SqliteStore(tmp_path / "state.db")


def test_a_read_only_disk_is_read_with_an_alarm(disk: SqliteBench):
    """What is there can be loaded; what is saved is refused, and said so."""
    disk.store.save([state(blob=b"kept")])
    disk.settle()
    disk.store.close()

    class ReadOnlyDisk(Disk):
        def open(self) -> Any:
            raise sqlite_error(sqlite3.SQLITE_READONLY, "attempt to write a readonly database")

        def open_reader(self) -> Any:
            return sqlite3.connect(f"{self.path.as_uri()}?mode=ro&immutable=1", uri=True,
                                   isolation_level=None, check_same_thread=False)  # fmt: skip

    alarms: list[Alarm] = []
    store = SqliteStore(ReadOnlyDisk(disk.path), on_alarm=alarms.append)
    assert store.load(A).blob == b"kept"
    done: SimpleQueue[Exception | None] = SimpleQueue()
    store.save([state(blob=b"new")], done.put)
    refusal = done.get(timeout=10)
    store.close()
    assert refusal.code == "read-only"
    assert alarms[0].state == "read-only"


def test_a_full_disk_is_named(disk: SqliteBench):
    """ENOSPC is `no-space`; the log is not written anew for it."""
    heals = disk.disk.heals
    disk.disk.error = sqlite_error(sqlite3.SQLITE_FULL, "database or disk is full")
    answers = Answers()
    disk.store.save([state()], answers)
    disk.settle()
    disk.disk.error = None
    disk.settle()
    assert isinstance(answers[0], NoSpace)
    assert disk.disk.heals == heals


def test_after_a_failed_sync_the_log_is_written_anew(disk: SqliteBench):
    """A sync that failed once proves nothing by succeeding later."""
    heals = disk.disk.heals
    disk.break_disk()
    disk.store.save([state()])
    disk.settle()
    disk.mend_disk()
    disk.settle()
    assert disk.disk.heals == heals + 1


def test_a_backup_is_a_whole_store(disk: SqliteBench, tmp_path: Path):
    """The copy opens as a store of its own and holds everything committed."""
    disk.store.handled(entry(1), state(blob=b"x"), b"r")
    disk.settle()
    size = disk.store.backup(tmp_path / "copy.db")
    assert size == (tmp_path / "copy.db").stat().st_size
    copy = SqliteStore(tmp_path / "copy.db")
    assert copy.load(A).blob == b"x"
    assert copy.seen(A, "m1").known is Known.HANDLED
    copy.close()
    assert list(tmp_path.glob("*.partial")) == []


def test_a_backup_into_nowhere_is_refused(disk: SqliteBench, tmp_path: Path):
    """A directory that is not there is a named refusal."""
    with pytest.raises(DiskFailed):
        disk.store.backup(tmp_path / "no" / "copy.db")


def test_reading_ahead_changes_no_answer(disk: SqliteBench):
    """Restoring many reads them together; a commit between makes them be read again."""
    names = [f"d9://c/t/{n}" for n in range(600)]
    for round_number in range(4):
        disk.store.save([state(name, b"%d" % round_number) for name in names])
    disk.store.save([state("d9://c/t/many", b"x")] * 5, keep=5)
    disk.settle()
    assert {disk.store.load(name).blob for name in names[:300]} == {b"3"}
    assert disk.store._ahead
    disk.store.save([state(name, b"new") for name in names])
    disk.settle()
    assert {disk.store.load(name).blob for name in names} == {b"new"}
    assert {disk.store.load(name).version for name in reversed(names)} == {5}
    assert disk.store.load("d9://c/t/many").version == 5
    disk.tear("", 5)
    disk.settle()
    for name in names[:20]:
        with pytest.raises(Corrupt):
            disk.store.load(name)


def test_large_states_are_not_read_ahead(disk: SqliteBench):
    """A few megabytes at most wait in memory to be asked for."""
    names = [f"d9://c/t/{n}" for n in range(40)]
    disk.store.save([state(name, b"x" * 1_000_000) for name in names])
    disk.settle()
    for name in names[:20]:
        assert len(disk.store.load(name).blob) == 1_000_000
        assert len(disk.store._ahead) <= 5


def test_of_a_kind_that_is_not_stored_nothing_is_read(
    disk: SqliteBench, monkeypatch: pytest.MonkeyPatch
):
    """Until something is committed, and then it is seen at once; a kind is type and group."""
    asked = []
    load = Ledger.load
    monkeypatch.setattr(Ledger, "load", lambda *args: (asked.append(args[1]), load(*args))[1])
    disk.store.save([state("d9://c/tt/0")])
    disk.settle()
    for group in ("t", "tt"):
        assert [disk.store.load(f"d9://c/{group}/{n}") for n in range(1, 4)] == [None] * 3
    assert asked == ["d9://c/t/1", *(f"d9://c/tt/{n}" for n in range(1, 4))]
    disk.store.save([state("d9://c/t/2")])
    disk.settle()
    assert disk.store.load("d9://c/t/1") is None
    assert disk.store.load("d9://c/t/2") is not None
    assert disk.store.load("no-address") is None


# ---- ids that are forgotten -------------------------------------------------


def ledger(monkeypatch: pytest.MonkeyPatch, count: int) -> Ledger:
    """Return a ledger in memory that remembers `count` ids."""
    monkeypatch.setattr("dan9.daemons.ledger.ID_COUNT", count)
    monkeypatch.setattr("dan9.daemons.ledger._TIDY", 10)
    made = Ledger(sqlite3.connect(":memory:", isolation_level=None))
    made.prepare()
    return made


def test_the_newest_ids_are_remembered(monkeypatch: pytest.MonkeyPatch):
    """At least `ID_COUNT`, at most a few more."""
    book = ledger(monkeypatch, 50)
    for n in range(200):
        book.begin()
        book.handled(entry(n), None, b"", 3)
        book.commit()
    known = [n for n in range(200) if book.seen(A, f"m{n}").known is Known.HANDLED]
    assert known == list(range(known[0], 200))
    assert 50 <= len(known) <= 60


def test_pending_messages_are_never_forgotten(monkeypatch: pytest.MonkeyPatch):
    """Only what was settled is."""
    book = ledger(monkeypatch, 20)
    book.begin()
    book.append(Entry(A, "old", "add", b"p", 0.0))
    for n in range(100):
        book.handled(entry(n, when=10 * ID_AGE_S), None, b"", 3)
    book.commit()
    assert [e.id for e in book.pending(A)] == ["old"]


def test_ids_past_a_day_are_forgotten(monkeypatch: pytest.MonkeyPatch):
    """Age is the other bound, looked at every ten minutes."""
    book = ledger(monkeypatch, 1_000)
    for n, when in enumerate([0.0, 10.0, ID_AGE_S + 5.0, ID_AGE_S + 1_000.0]):
        book.begin()
        book.handled(entry(n, when=when), None, b"", 3)
        book.commit()
    book.begin()
    book.bury(entry(9, when=0.0), "poison")
    book.handled(entry(5, when=3 * ID_AGE_S), None, b"", 3)
    book.commit()
    assert [n for n in range(10) if book.seen(A, f"m{n}").known is not Known.NEW] == [5]


def test_more_daemons_than_are_cached(monkeypatch: pytest.MonkeyPatch):
    """The writer's cache is a cache: forgetting it changes no version."""
    monkeypatch.setattr("dan9.daemons.ledger._CACHED", 4)
    book = ledger(monkeypatch, 10)
    for n in range(40):
        book.begin()
        for k in range(10):
            book.save(Checkpoint(f"d9://c/t/{k}", "s", b"%d" % n, 1.0), 2)
        book.commit()
    assert {book.load(f"d9://c/t/{k}").version for k in range(10)} == {40}
    assert len(book.versions()) == 20
