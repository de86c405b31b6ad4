"""Work for a store that is about to lose its power, and the judge of what is left.

Each step is done on the store under test and on the twin in memory; after each
acknowledgement the only state that an image may have is the twin's, and while a step
is under way the state before it is allowed too. The comparison is of everything: every
row of every version and every journal entry. So what is lost, torn, doubled or mixed
of two checkpoint-alls is found by one rule.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dan9.base.ports import Known
from dan9.daemons.ledger import Ledger
from dan9.testing.memory_store import MemoryStore
from tests.faults.crash_steps import Step

_STATUS = {Known.PENDING: 0, Known.HANDLED: 1, Known.DEAD: 2}


def digest(rows: object) -> str:
    """Return a short name for a whole state."""
    return hashlib.blake2b(repr(rows).encode(), digest_size=12).hexdigest()


def short(content: bytes) -> tuple[int, int]:
    """Return what stands for a long content; runs compare it thousands of times."""
    return len(content), zlib.crc32(content)


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
            (c.address, c.version, c.snapshot, c.when, c.schema, short(c.blob))
            for rows in medium.states.values()
            for c in rows
        )
        journal = sorted(
            (e.address, e.id, _STATUS[known], short(e.payload if known is Known.PENDING else body))
            for e, known, body in medium.journal.values()
        )
        # What a dead letter says is not compared: the ledger keeps it for people.
        return digest((states, [row if row[2] < 2 else row[:3] for row in journal]))


def digest_of(connection: Any) -> str:
    """Return the digest of what a database holds."""
    states = sorted(
        (*row[:5], short(row[5]))
        for row in connection.execute(
            "SELECT d.address,s.version,s.snapshot,s.wall,s.schema,s.blob FROM states s"
            " LEFT JOIN daemons d ON d.id=s.key&1099511627775"
        ).fetchall()
    )
    journal = sorted(
        (*row[:3], short(row[3])) if row[2] < 2 else tuple(row[:3])
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
