"""Work for a store that is about to lose its power, and the judge of what is left.

Each step is done on the store under test and on the twin in memory; after each
acknowledgement the only state that an image may have is the twin's, and while a step
is under way the state before it is allowed too. The comparison is of everything: every
row of every version and every journal entry. So what is lost, torn, doubled or mixed
of two checkpoint-alls is found by one rule.
"""

from __future__ import annotations

import hashlib
import random
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dan9.base.ports import Checkpoint, Entry, Known
from dan9.daemons.ledger import Ledger
from dan9.testing.memory_store import MemoryStore

ASKED = "d9://counter/crash/asked"
MANY = [f"d9://worker/crash/w{number}" for number in range(20)]
_STATUS = {Known.PENDING: 0, Known.HANDLED: 1, Known.DEAD: 2}

Step = Callable[[Any, Callable[[Exception | None], None]], None]


def steps(count: int, seed: int) -> Iterator[Step]:
    """Yield steps: functions of (store, done)."""
    chance = random.Random(seed)
    total, sent, waiting = 0, 0, []
    for number in range(count):
        when = float(number)
        kind = chance.choices(("ask", "send", "take", "save", "all", "delete"), (4, 3, 3, 5, 2, 1))[
            0
        ]
        if kind == "take" and not waiting:
            kind = "ask"
        if kind in {"ask", "take"}:
            entry = (
                waiting.pop(0) if kind == "take" else Entry(ASKED, f"a{number}", "add", b"1", when)
            )
            total += 1
            state = Checkpoint(ASKED, "c", b"%d" % total, when)
            yield _handled(entry, state, b"reply %d" % total)
        elif kind == "send":
            sent += 1
            entry = Entry(ASKED, f"s{sent}", "add", b"p" * chance.randrange(2_000), when)
            if chance.random() < 0.1:
                yield _step("bury", entry, "poison")
            else:
                waiting.append(entry)
                yield _step("append", entry)
        elif kind == "save":
            size = chance.choice((10, 800, 3_000, 12_000))
            state = Checkpoint(chance.choice(MANY), "w", chance.randbytes(size), when)
            yield _save([state], chance.choice((3, 3, 3, 2, 5)), snapshot=False)
        elif kind == "all":
            body = b"%d " % number * 40
            yield _save([Checkpoint(a, "w", body, when) for a in MANY], 3, snapshot=True)
        else:
            yield _step("delete", chance.choice(MANY), chance.randrange(2))


def _handled(entry: Entry, state: Checkpoint, reply: bytes) -> Step:
    return lambda store, done: store.handled(entry, state, reply, done)


def _save(states: list[Checkpoint], keep: int, *, snapshot: bool) -> Step:
    return lambda store, done: store.save(states, done, keep=keep, snapshot=snapshot)


def _step(name: str, *args: Any) -> Step:
    return lambda store, done: getattr(store, name)(*args, done)


def digest(rows: object) -> str:
    """Return a short name for a whole state."""
    return hashlib.blake2b(repr(rows).encode(), digest_size=12).hexdigest()


class Twin:
    """The store that is always right."""

    def __init__(self) -> None:
        self.store = MemoryStore(post=lambda call: call())

    def do(self, step: Step) -> str:
        """Do a step and return the digest of what is then stored."""
        step(self.store, _refuse)
        return self.digest()

    def copy(self) -> Twin:
        """Return a twin that goes on from here by itself."""
        other = Twin()
        medium, mine = other.store._medium, self.store._medium
        medium.states = {address: list(rows) for address, rows in mine.states.items()}
        medium.floors, medium.journal = dict(mine.floors), dict(mine.journal)
        medium.snapshots = mine.snapshots
        return other

    def digest(self) -> str:
        """Return the digest of everything stored."""
        medium = self.store._medium
        states = sorted(
            (c.address, c.version, c.snapshot, c.when, c.schema, c.blob)
            for rows in medium.states.values()
            for c in rows
        )
        journal = sorted(
            (e.address, e.id, _STATUS[known], e.payload if known is Known.PENDING else body)
            for e, known, body in medium.journal.values()
        )
        # What a dead letter says is not compared: the ledger keeps it for people.
        return digest((states, [row if row[2] < 2 else row[:3] for row in journal]))


def digest_of(connection: Any) -> str:
    """Return the digest of what a database holds."""
    states = sorted(
        tuple(row)
        for row in connection.execute(
            "SELECT d.address,s.version,s.snapshot,s.wall,s.schema,s.blob FROM states s"
            " LEFT JOIN daemons d ON d.id=s.key&1099511627775"
        ).fetchall()
    )
    journal = sorted(
        tuple(row) if row[2] < 2 else tuple(row[:3])
        for row in connection.execute(
            "SELECT d.address,j.id,j.status,j.body FROM journal j JOIN daemons d ON d.id=j.daemon"
        ).fetchall()
    )
    return digest((states, journal))


def _refuse(error: Exception | None) -> None:
    assert error is None, error


@dataclass
class Verdict:
    """What a run of images showed."""

    images: int = 0
    lost: int = 0
    """Images that lack something acknowledged, or mix two states."""
    corrupt: int = 0
    """Images that SQLite or a checksum calls torn."""
    examples: list[str] = field(default_factory=list)

    def judge(self, path: Path, allowed: frozenset[str], name: str) -> None:
        """Open an image as a new life would, and count it."""
        self.images += 1
        try:
            connection = sqlite3.connect(path, isolation_level=None)
            try:
                ledger = Ledger(connection)
                ledger.prepare()
                faults = ledger.faults()
                found = digest_of(connection)
            finally:
                connection.close()
        except Exception as error:  # whatever a torn file makes of itself is the finding
            self._note("corrupt", f"{name}: {type(error).__name__}: {error}")
            return
        if faults:
            self._note("corrupt", f"{name}: {faults[0]}")
        elif found not in allowed:
            self._note("lost", f"{name}: not what was acknowledged")

    def _note(self, kind: str, text: str) -> None:
        setattr(self, kind, getattr(self, kind) + 1)
        if len(self.examples) < 5:
            self.examples.append(f"{kind}: {text}")

    def __str__(self) -> str:
        return f"{self.images} images, {self.lost} lost, {self.corrupt} corrupt"
