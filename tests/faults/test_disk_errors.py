"""Every write and every sync fails once, or for a while; then the power goes too."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue

import apsw
import pytest

from dan9.base.errors import Dan9Error
from dan9.base.ports import Alarm
from dan9.daemons.sqlite_store import SqliteStore
from tests.faults.crash_steps import ASKED, steps
from tests.faults.crash_work import Twin, Verdict, digest_of
from tests.faults.crashing_disk import CrashingDisk, images, unpack

SEED = 5
STEPS = 14


class Fault:
    """Fails `length` operations from the `first` on.

    Args:
        first: The number of the first operation that fails.
        length: How many fail.
        kind: `EIO`, or `ENOSPC` (which a sync answers with EIO, as SQLite sees it).
    """

    def __init__(self, first: int, length: int, kind: str) -> None:
        self.first, self.length, self.kind = first, length, kind
        self.count = 0
        self.hits = 0

    def __call__(self, operation: str, _: str) -> None:
        self.count += 1
        if self.first <= self.count < self.first + self.length:
            self.hits += 1
            if self.kind == "ENOSPC" and operation == "write":
                raise apsw.FullError("database or disk is full")
            raise apsw.IOError("disk I/O error")


def opened(disk: CrashingDisk, alarms: list[Alarm]) -> SqliteStore:
    """Open the store; as long as the disk refuses, the refusal has a name."""
    while True:
        try:
            return SqliteStore(disk, on_alarm=alarms.append)
        except Dan9Error:
            assert disk.fault is not None
            assert disk.fault.hits


def endure(disk: CrashingDisk, count: int) -> tuple[int, list[Alarm]]:
    """Do `count` steps; return how many were refused, and the alarms."""
    alarms: list[Alarm] = []
    twin = Twin()
    before = twin.digest()
    refused = 0
    # What was refused may be there after a power cut all the same: its frames
    # lie in the log, and only the next commit writes over them.
    doubtful: set[str] = set()
    store = opened(disk, alarms)
    for step in steps(count, SEED):
        ahead = twin.copy()
        after = ahead.do(step)
        disk.allow(frozenset({before, after} | doubtful))
        answers: SimpleQueue[Exception | None] = SimpleQueue()

        def done(
            error: Exception | None,
            after: str = after,
            answers: SimpleQueue[Exception | None] = answers,
        ) -> None:
            if error is None:
                disk.allow(frozenset({after}))
            answers.put(error)

        step(store, done)
        if answers.get(timeout=20) is None:
            twin, before = ahead, after
            doubtful.clear()
            continue
        refused += 1
        doubtful |= {before, after}
        found = read(store)
        assert found in {before, after}, "a refused step left half of itself"
        if found == after:
            twin, before = ahead, after
    store.close()
    return refused, alarms


def read(store: SqliteStore) -> str:
    """Read everything, as soon as the disk lets us; the daemon concerned is restored."""
    while True:
        try:
            store.pending(ASKED)
            return store._read(lambda ledger: digest_of(ledger.connection))
        except Dan9Error:
            continue


def operations() -> int:
    """Return how many operations a run without faults takes."""
    disk = CrashingDisk()
    endure(disk, STEPS)
    return disk.operations


def hardship(
    first: int, length: int, kind: str, directory: Path, every: int, *, heals: bool = True
) -> tuple[int, Verdict]:
    """Fail, go on, lose the power at any moment, and judge."""
    disk = CrashingDisk(fault=Fault(first, length, kind))
    disk.heals = heals
    refused, alarms = endure(disk, STEPS)
    if refused:
        assert alarms[0].state == "degraded"
        assert alarms[-1].state == "ok"
    verdict = Verdict()
    for moment, mode, allowed, image in images(disk.log, random.Random(first), every=every):
        verdict.judge(unpack(image, directory), allowed, f"{kind} at {first}, {moment}, {mode}")
    return refused, verdict


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["EIO", "ENOSPC"])
def test_each_write_and_sync_may_fail(tmp_path: Path, kind: str):
    """Whatever fails, and wherever the power goes then, what was acknowledged is there."""
    total = operations()
    refused, images_seen = 0, 0
    for first in range(1 if kind == "EIO" else 3, total, 7):
        more, verdict = hardship(first, 1 + first % 3, kind, tmp_path, 40)
        assert (verdict.lost, verdict.corrupt) == (0, 0), verdict.examples
        refused += more
        images_seen += verdict.images
    assert refused > 5
    assert images_seen > 200


def failing_syncs(directory: Path, every: int) -> Iterator[Verdict]:
    """Fail each sync of the log and the operation after it, and believe the next sync."""
    calls: list[tuple[str, str]] = []
    endure(CrashingDisk(fault=lambda operation, name: calls.append((operation, name))), STEPS)
    for number, call in enumerate(calls, 1):
        if call == ("sync", "state.db-wal"):
            yield hardship(number, 2, "EIO", directory, every, heals=False)[1]


def test_the_harness_sees_what_writing_the_log_anew_is_for(tmp_path: Path):
    """Believing a sync that succeeds after one that failed loses acknowledged states."""
    assert any(verdict.lost for verdict in failing_syncs(tmp_path, 23))
