"""The tables of a node's memory, and what one step means in them.

A ledger works on a connection that somebody else opened, inside a transaction that
somebody else began: it knows SQL and no threads, files or clocks. So the same text
runs under the store, and under the crash tests' recorder of writes.

One table holds states, keyed `slot << 40 | daemon`, where slot is version modulo the number
of versions kept: the new version overwrites the oldest in place, nothing needs deleting,
no second index is written, and daemons saved together lie together on few pages, which is
what a commit costs by. (Keyed the other way, a group of 128 touched three times the pages:
22 us a state instead of 11.) Every row carries a checksum over itself *and* over where it
belongs, because a row that is intact but somebody else's is as wrong as a torn one.

The journal is one table too. A message that was handled keeps its id and its reply and
drops its payload.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Final, Protocol

from dan9.base.errors import Corrupt, NotSupported
from dan9.base.ports import Checkpoint, Entry, Known, Seen, Version
from dan9.daemons.ledger_rows import conflict, is_intact, state_of, sum_of_entry, sum_of_state

__all__ = ["ID_AGE_S", "ID_COUNT", "Connection", "Ledger"]

APPLICATION_ID: Final = 0x44394C31  # "D9L1": this file is ours
FORMAT: Final = 1
ID_AGE_S: Final = 24 * 3600.0
"""How long the id of a handled message is remembered, at most."""
ID_COUNT: Final = 100_000
"""How many ids are remembered for one daemon, at least those newer than `ID_AGE_S`."""
_TIDY = 1_000  # ids are forgotten this many at a time, so that it costs next to nothing
_TIDY_S = 600.0  # and the aged ones at most this often
_CACHED = 20_000  # daemons whose place the writer holds in memory
_SNAPSHOTS = 1_000  # checkpoint-alls of which the number of daemons is remembered
_AHEAD_BYTES = 4 << 20
_SLOT = 40  # daemon ids are below 2**40, slots below 2**23
_MAX_KEEP = 1_000

_TABLES = f"""
CREATE TABLE daemons(
  id INTEGER PRIMARY KEY, address TEXT NOT NULL UNIQUE, keep INTEGER NOT NULL DEFAULT 0,
  floor INTEGER NOT NULL DEFAULT 0);
CREATE TABLE states(
  key INTEGER PRIMARY KEY, version INTEGER NOT NULL, snapshot INTEGER NOT NULL,
  wall REAL NOT NULL, schema TEXT NOT NULL, codec TEXT NOT NULL, checksum INTEGER NOT NULL,
  metrics BLOB NOT NULL, blob BLOB NOT NULL);
CREATE TABLE journal(
  seq INTEGER PRIMARY KEY, daemon INTEGER NOT NULL, id TEXT NOT NULL,
  status INTEGER NOT NULL, deliveries INTEGER NOT NULL, wall REAL NOT NULL, type TEXT NOT NULL,
  sender TEXT NOT NULL, body BLOB NOT NULL, checksum INTEGER NOT NULL);
CREATE UNIQUE INDEX journal_id ON journal(daemon, id);
CREATE INDEX journal_status ON journal(daemon, status);
CREATE TABLE snapshots(id INTEGER PRIMARY KEY, daemons INTEGER NOT NULL);
PRAGMA application_id={APPLICATION_ID};
PRAGMA user_version={FORMAT};
"""
_STATE = "key,version,snapshot,wall,schema,codec,checksum,metrics,blob"
_ROW = "(?,?,?,?,?,?,?,?,?)"
_OVER = " ON CONFLICT(key) DO UPDATE SET " + ",".join(
    f"{name}=excluded.{name}" for name in _STATE.split(",")[1:]
)
_SAVE = f"INSERT INTO states({_STATE}) VALUES{_ROW}{_OVER}"
# Many rows in one statement: sqlite3 gives the interpreter's lock away at each, and beside a
# busy loop has to wait for it each time.
_MANY = 32
_SAVE_MANY = f"INSERT INTO states({_STATE}) VALUES{','.join([_ROW] * _MANY)}{_OVER}"
# The versions in the first three slots come along: nearly all daemons keep at most three, and
# this is twice as fast as asking for a list of keys.
_FAST = 3
_SLOTS = [f"(SELECT version FROM states WHERE key=id+{n << _SLOT})" for n in range(_FAST)]  # noqa: S608  (numbers)
_WHERE = f"id,keep,floor,{','.join(_SLOTS)}"
_PLACE = f"SELECT {_WHERE} FROM daemons WHERE address=?"  # noqa: S608  (constants)
_PLACES = (
    f"SELECT json_group_array(json_array(address,{_WHERE})) FROM daemons"  # noqa: S608  (constants)
    f" WHERE address IN ({','.join('?' * _MANY)})"
)
_ENTER_MANY = f"INSERT INTO daemons(address,keep) VALUES{','.join(['(?,?)'] * _MANY)}"
# The newest state of such a daemon in one statement: the key is made of the newest version. It
# gives id and keep for any daemon that is known, so that one that is not costs no second look.
_VERSIONS = ",".join(f"ifnull({slot},0)" for slot in _SLOTS)
_LATEST = f"states ON key=((max({_VERSIONS}) % keep << {_SLOT}) | id)"
_NEWEST = f"SELECT keep,{_STATE} FROM daemons LEFT JOIN {_LATEST} WHERE address=?"  # noqa: S608  (constants)
_NEXT = (
    f"SELECT d.address,{_STATE} FROM daemons d JOIN {_LATEST}"  # noqa: S608  (constants)
    " WHERE d.id>(SELECT id FROM daemons WHERE address=?)"
    f" AND d.keep BETWEEN 1 AND {_FAST} ORDER BY d.id LIMIT ?"
)

_PENDING, _HANDLED, _DEAD = 0, 1, 2
_KNOWN = (Known.PENDING, Known.HANDLED, Known.DEAD)


class Cursor(Protocol):
    """What both sqlite3 and apsw give back."""

    def fetchone(self) -> Any:
        """Return the next row, or None."""

    def fetchall(self) -> list[Any]:
        """Return all rows."""

    def __iter__(self) -> Iterator[Any]: ...


class Connection(Protocol):
    """What the ledger needs of a database, in autocommit mode."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Cursor:
        """Run one statement."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> object:
        """Run one statement for each row."""

    def close(self) -> None:
        """Close; a second call does nothing."""


class _Place:
    """Where a daemon's states lie, as the writer knows it."""

    __slots__ = ("daemon", "keep", "latest", "remembered", "tidied_at")

    def __init__(self, daemon: int, keep: int, latest: int) -> None:
        self.daemon = daemon
        self.keep = keep
        self.latest = latest
        self.remembered = -1  # handled ids in the journal; -1: not counted yet
        self.tidied_at = math.inf


class Ledger:
    """Checkpoints and journal entries in a database.

    Writes must stand inside `begin` … `commit`, and states reach the database at `commit`.
    A method that refuses (Conflict) has written nothing, so that its neighbours in the
    same transaction may go on. After an error a ledger is thrown away.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._execute = connection.execute
        self._places: dict[str, _Place] = {}
        self._rows: list[tuple[object, ...]] = []

    def prepare(self) -> None:
        """Check that the database is ours, and make the tables in an empty one.

        Raises:
            Corrupt: The file is some other program's.
            NotSupported: It was written by a later Dan9.
        """
        if not self.is_empty():
            return
        self.begin()
        for statement in _TABLES.split(";"):
            if statement.strip():
                self._execute(statement)
        self.commit()

    def is_empty(self) -> bool:
        """True if nothing was ever written here; raises as `prepare`."""
        application = int(self._execute("PRAGMA application_id").fetchall()[0][0])
        version = int(self._execute("PRAGMA user_version").fetchall()[0][0])
        names = [row[0] for row in self._execute("SELECT name FROM sqlite_master").fetchall()]
        if application == 0 and version == 0 and not names:
            return True
        if application != APPLICATION_ID:
            raise Corrupt(
                f"the state file is another program's (application id {application:#x},"
                f" first table {names[0] if names else 'none'})",
                hint="name another state directory, or move the file away",
            )
        if version > FORMAT:
            raise NotSupported(
                f"the state file has format {version}, this Dan9 knows {FORMAT}",
                hint="run the newer Dan9 that wrote it",
            )
        return False

    def begin(self) -> None:
        """Begin a transaction that will write."""
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Commit; when this returns, the medium has it (synchronous=FULL)."""
        self._flush()
        self._execute("COMMIT")

    # ---- states -----------------------------------------------------------

    def save(self, checkpoint: Checkpoint, keep: int, snapshot: int = 0) -> int:
        """Add one checkpoint, forget those beyond `keep`, and return its version."""
        keep = _bounded(keep)
        place = self._place(checkpoint.address, keep)
        if keep != place.keep:
            self._rearrange(place, keep)
        place.latest = version = place.latest + 1
        number = snapshot or checkpoint.snapshot
        self._rows.append(
            (
                version % place.keep << _SLOT | place.daemon,
                version,
                number,
                checkpoint.when,
                checkpoint.schema,
                checkpoint.codec,
                sum_of_state(checkpoint, version, number),
                checkpoint.metrics,
                checkpoint.blob,
            )
        )
        return version

    def save_all(
        self, checkpoints: Sequence[Checkpoint], keeps: Sequence[int], snapshot: int = 0
    ) -> list[int]:
        """Add many checkpoints, in few statements, and return their versions."""
        versions = []
        for start in range(0, len(checkpoints), _MANY):
            part = checkpoints[start : start + _MANY]
            kept = keeps[start : start + _MANY]
            if len(part) == _MANY:
                self._find([checkpoint.address for checkpoint in part], kept)
            for checkpoint, keep in zip(part, kept, strict=True):
                versions.append(self.save(checkpoint, keep, snapshot))
        return versions

    def snapshot(self, daemons: int) -> int:
        """Return the number of a new checkpoint-all."""
        row = self._execute(
            "INSERT INTO snapshots(daemons) VALUES(?) RETURNING id", (daemons,)
        ).fetchall()[0]
        self._execute("DELETE FROM snapshots WHERE id<=?", (row[0] - _SNAPSHOTS,))
        return int(row[0])

    def load(self, address: str, version: int | None = None) -> Checkpoint | None:
        """Return one checkpoint; see `Store.load`."""
        row = self._execute(_NEWEST, (address,)).fetchone()
        if row is None or not row[0]:
            return None
        found = row[1:]
        if version is not None or row[0] > _FAST:
            place = self._execute(_PLACE, (address,)).fetchone()
            wanted = self._newest(place) if version is None else version
            key = wanted % place[1] << _SLOT | place[0]
            found = self._execute(f"SELECT {_STATE} FROM states WHERE key=?", (key,)).fetchone()  # noqa: S608  (constants)
            if found is not None and found[1] != wanted:
                found = None
        if found is None or found[0] is None:
            return None
        checkpoint, fault = state_of(address, found)
        if fault or checkpoint is None:
            intact = [v.version for v in self.versions(address, check=True) if not v.fault]
            numbers = ", ".join(map(str, reversed(intact)))
            raise Corrupt(
                f"version {found[1]} of {address} is not what was saved: {fault}",
                hint=f"intact: version {numbers}; restore version={intact[-1]}"
                if intact
                else "no version is intact; restore version=none starts afresh",
                address=address,
                at=f"version {found[1]}",
            )
        return checkpoint

    def knows(self, kind: str) -> bool:
        """True if anything was ever stored of a type and group, as in `d9://type/group`."""
        sql = "SELECT 1 FROM daemons WHERE address>? AND address<? LIMIT 1"
        return self._execute(sql, (kind + "/", kind + "0")).fetchone() is not None

    def ahead(self, address: str, count: int) -> dict[str, Checkpoint]:
        """Return the newest states of the daemons first saved after this one, the intact ones.

        `count` at most, and no more once they are 4 MB: large ones gain nothing by it.
        """
        found = {}
        room = _AHEAD_BYTES
        for owner, *row in self._execute(_NEXT, (address, count)):
            checkpoint, fault = state_of(owner, row)
            if checkpoint is not None and not fault:
                found[owner] = checkpoint
                room -= len(checkpoint.blob)
                if room < 0:
                    break
        return found

    def versions(self, address: str | None = None, *, check: bool = False) -> list[Version]:
        """Return what is stored, oldest first; with `check`, each row is read and summed."""
        columns = _STATE if check else "key,version,snapshot,wall,schema,length(blob)"
        sql = f"SELECT {columns} FROM states"  # noqa: S608  (constants)
        if address is None:
            names: dict[int, str] = dict(self._execute("SELECT id,address FROM daemons").fetchall())
            rows = self._execute(sql)
        else:
            row = self._execute(
                "SELECT id,keep FROM daemons WHERE address=?", (address,)
            ).fetchone()
            if row is None:
                return []
            names = {row[0]: address}
            rows = self._execute(f"{sql} WHERE key IN ({_marks(row[1])})", _keys(*row))
        found = []
        for row in rows:
            owner = names.get(row[0] & (1 << _SLOT) - 1, "")
            fault = state_of(owner, row)[1] if check else ""
            found.append(
                Version(
                    owner or f"#{row[0]}",
                    row[1],
                    row[4],
                    row[3],
                    len(row[8]) if check else row[5],
                    row[2],
                    fault if owner else "it belongs to no known daemon",
                )
            )
        found.sort(key=lambda version: (version.address, version.version))
        return found

    def delete(self, address: str, keep: int) -> None:
        """Forget all but the newest `keep` versions of an address."""
        place = self._place(address)
        self._flush()
        rows = self._execute(
            f"SELECT key FROM states WHERE key IN ({_marks(place.keep)})"  # noqa: S608  (constants)
            " AND version<=?",
            (*_keys(place.daemon, place.keep), place.latest - keep),
        ).fetchall()
        for (key,) in rows:
            self._execute("DELETE FROM states WHERE key=?", (key,))
        # A version that was once acknowledged is never given to another state.
        self._execute("UPDATE daemons SET floor=? WHERE id=?", (place.latest, place.daemon))

    # ---- journal ----------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """Insert a message that is to be handled.

        Raises:
            Conflict: The id is known already.
        """
        daemon = self._place(entry.address).daemon
        known = self._execute(
            "SELECT status FROM journal WHERE daemon=? AND id=?", (daemon, entry.id)
        ).fetchone()
        if known is not None:
            raise conflict(entry, _KNOWN[known[0]])
        self._insert(daemon, entry, _PENDING, entry.payload)

    def handled(self, entry: Entry, checkpoint: Checkpoint | None, reply: bytes, keep: int) -> None:
        """Write id, reply and new state.

        Raises:
            Conflict: The id was handled, or given up, before.
        """
        place = self._settle(entry, _HANDLED, reply)
        if checkpoint is not None:
            self.save(checkpoint, keep)
        self._tidy(place, entry.when)

    def bury(self, entry: Entry, reason: str) -> None:
        """Mark a message as given up; its payload is dropped, the reason kept."""
        self._settle(entry, _DEAD, reason.encode())

    def redelivered(self, entry: Entry) -> None:
        """Count one more delivery of a pending message."""
        self._execute(
            "UPDATE journal SET deliveries=deliveries+1 WHERE daemon=? AND id=? AND status=0",
            (self._place(entry.address).daemon, entry.id),
        )

    def seen(self, address: str, message_id: str) -> Seen:
        """Return what is known of an id."""
        row = self._execute(
            "SELECT status,type,sender,wall,body,checksum FROM journal"
            " WHERE daemon=(SELECT id FROM daemons WHERE address=?) AND id=?",
            (address, message_id),
        ).fetchone()
        if row is None:
            return Seen(Known.NEW)
        status, type_, sender, wall, body, checksum = row
        if not is_intact(address, (message_id, status, type_, sender, wall, body), checksum):
            raise Corrupt(
                f"the journal's entry {message_id} of {address} is not what was written",
                hint="`verify` lists every such row",
                address=address,
            )
        return Seen(_KNOWN[status], body if status == _HANDLED else b"")

    def pending(self, address: str) -> list[Entry]:
        """Return the messages that are accepted and not settled, oldest first."""
        found = []
        for row in self._execute(
            "SELECT id,type,sender,wall,body,checksum,deliveries FROM journal"
            " WHERE daemon=(SELECT id FROM daemons WHERE address=?) AND status=0 ORDER BY seq",
            (address,),
        ).fetchall():
            id_, type_, sender, wall, body, checksum, deliveries = row
            if not is_intact(address, (id_, _PENDING, type_, sender, wall, body), checksum):
                raise Corrupt(
                    f"the journal's entry {id_} of {address} is not what was written",
                    hint="`verify` lists every such row",
                    address=address,
                    message=str(type_),
                )
            found.append(Entry(address, id_, type_, body, wall, sender, deliveries))
        return found

    def faults(self) -> list[Version]:
        """Return every row of states and journal, and every page, that is not as written."""
        found = [version for version in self.versions(check=True) if version.fault]
        rows = self._execute(
            "SELECT d.address,j.id,j.status,j.type,j.sender,j.wall,j.body,j.checksum"
            " FROM journal j LEFT JOIN daemons d ON d.id=j.daemon ORDER BY j.seq"
        )
        for address, id_, status, type_, sender, wall, body, checksum in rows:
            if not is_intact(address, (id_, status, type_, sender, wall, body), checksum):
                found.append(
                    Version(address or "?", 0, "journal", 0.0, 0, 0, f"entry {id_}: checksum")
                )
        for (text,) in self._execute("PRAGMA integrity_check"):
            if text != "ok":
                found.append(Version("", 0, "file", 0.0, 0, 0, str(text)))
        return found

    # ---- within -----------------------------------------------------------

    def _place(self, address: str, keep: int = 0) -> _Place:
        """Return where an address keeps its things; its number is given at its first write."""
        place = self._places.get(address)
        if place is not None:
            return place
        row = self._execute(_PLACE, (address,)).fetchone()
        if row is None:
            row = self._execute(
                "INSERT INTO daemons(address,keep) VALUES(?,?) RETURNING id", (address, keep)
            ).fetchall()[0]
            place = _Place(row[0], keep, 0)
        else:
            place = _Place(row[0], row[1], max(self._newest(row), row[2]))
        self._make_room()
        self._places[address] = place
        return place

    def _find(self, addresses: Sequence[str], keeps: Sequence[int]) -> None:
        """Learn at once where `_MANY` addresses keep their things."""
        places = self._places
        if all(address in places for address in addresses):
            return
        self._make_room()
        found = self._execute(_PLACES, addresses).fetchall()[0][0]
        known = {row[0]: row[1:] for row in json.loads(found)}
        if not known and len(set(addresses)) == _MANY:
            rows = zip(addresses, (_bounded(keep) for keep in keeps), strict=True)
            self._execute(_ENTER_MANY, [*chain.from_iterable(rows)])
            found = self._execute(_PLACES, addresses).fetchall()[0][0]
            known = {row[0]: row[1:] for row in json.loads(found)}
        for address, row in known.items():
            if address not in places:
                places[address] = _Place(row[0], row[1], max(self._newest(row), row[2]))

    def _make_room(self) -> None:
        """Forget all places if they are too many; what is to be written is written first."""
        if len(self._places) >= _CACHED:
            self._flush()
            self._places.clear()

    def _newest(self, place: Sequence[Any]) -> int:
        """Return the newest stored version of a row of `_PLACE`; 0 if there is none."""
        daemon, keep, _, *versions = place
        if keep > _FAST:
            sql = f"SELECT version FROM states WHERE key IN ({_marks(keep)})"  # noqa: S608  (constants)
            versions = [row[0] for row in self._execute(sql, _keys(daemon, keep))]
        return max((version for version in versions if version is not None), default=0)

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        rest = len(rows) % _MANY
        for start in range(0, len(rows) - rest, _MANY):
            self._execute(_SAVE_MANY, [*chain.from_iterable(rows[start : start + _MANY])])
        if rest:
            self.connection.executemany(_SAVE, rows[-rest:])

    def _rearrange(self, place: _Place, keep: int) -> None:
        """Give the stored versions the slots they have when `keep` are kept."""
        self._flush()
        rows = self._execute(
            f"SELECT {_STATE} FROM states WHERE key IN ({_marks(place.keep)})",  # noqa: S608  (constants)
            _keys(place.daemon, place.keep),
        ).fetchall()
        for row in rows:
            self._execute("DELETE FROM states WHERE key=?", (row[0],))
        rows.sort(key=lambda row: int(row[1]))
        self._rows.extend((row[1] % keep << _SLOT | place.daemon, *row[1:]) for row in rows[-keep:])
        self._execute("UPDATE daemons SET keep=? WHERE id=?", (keep, place.daemon))
        place.keep = keep

    def _insert(self, daemon: int, entry: Entry, status: int, body: bytes) -> None:
        self._execute(
            "INSERT INTO journal(daemon,id,status,deliveries,wall,type,sender,body,checksum)"
            " VALUES(?,?,?,?,?,?,?,?,?)",
            (
                daemon,
                entry.id,
                status,
                entry.deliveries,
                entry.when,
                entry.type,
                entry.sender,
                body,
                sum_of_entry(
                    entry.address, entry.id, status, entry.type, entry.sender, entry.when, body
                ),
            ),
        )

    def _settle(self, entry: Entry, status: int, body: bytes) -> _Place:
        place = self._place(entry.address)
        row = self._execute(
            "SELECT seq,status,type,sender,wall FROM journal WHERE daemon=? AND id=?",
            (place.daemon, entry.id),
        ).fetchone()
        if row is None:
            self._insert(place.daemon, entry, status, body)
        elif row[1] != _PENDING:
            raise conflict(entry, _KNOWN[row[1]])
        else:
            self._execute(
                "UPDATE journal SET status=?,body=?,checksum=? WHERE seq=?",
                (
                    status,
                    body,
                    sum_of_entry(entry.address, entry.id, status, row[2], row[3], row[4], body),
                    row[0],
                ),
            )
        return place

    def _tidy(self, place: _Place, now: float) -> None:
        """Forget ids beyond `ID_COUNT`, and those past `ID_AGE_S`, some at a time."""
        daemon = place.daemon
        if place.remembered < 0:
            sql = "SELECT count(*) FROM journal WHERE daemon=? AND status=1"
            place.remembered = self._execute(sql, (daemon,)).fetchone()[0] - 1
            place.tidied_at = now
        place.remembered += 1
        excess = place.remembered - ID_COUNT
        if excess < _TIDY and now - place.tidied_at < _TIDY_S:
            return
        horizon = 0
        if excess > 0:
            sql = (
                "SELECT seq FROM journal WHERE daemon=? AND status=1 ORDER BY seq LIMIT 1 OFFSET ?"
            )
            horizon = self._execute(sql, (daemon, excess - 1)).fetchone()[0]
        for status in (_HANDLED, _DEAD):
            # The oldest are tried, not all searched: ids are accepted in order of time.
            self._execute(
                "DELETE FROM journal WHERE seq IN (SELECT seq FROM journal WHERE daemon=?"
                " AND status=? ORDER BY seq LIMIT ?) AND (wall<? OR seq<=?)",
                (daemon, status, max(excess, 10 * _TIDY), now - ID_AGE_S, horizon),
            )
        place.remembered = -1


def _bounded(keep: int) -> int:
    """Return how many versions can be kept of those that one would keep."""
    return min(max(keep, 1), _MAX_KEEP)


def _keys(daemon: int, keep: int) -> list[int]:
    """Return the keys that the versions of a daemon may have."""
    return [slot << _SLOT | daemon for slot in range(keep)]


def _marks(count: int) -> str:
    """Return that many places for parameters: the same text, and so one prepared statement."""
    return ",".join("?" * count)
