"""Power is lost at every moment of a run; nothing acknowledged is missing afterwards."""

from __future__ import annotations

import random
from pathlib import Path
from queue import SimpleQueue

import pytest

from dan9.daemons.sqlite_store import SqliteStore
from tests.faults.crash_steps import steps
from tests.faults.crash_work import Twin, Verdict
from tests.faults.crashing_disk import CrashingDisk, images, unpack


def record(disk: CrashingDisk, count: int, seed: int) -> None:
    """Do `count` steps on the disk, each acknowledged before the next begins."""
    twin = Twin()
    before = twin.digest()
    store = SqliteStore(disk)
    for step in steps(count, seed):
        answers: SimpleQueue[Exception | None] = SimpleQueue()
        after = twin.do(step)
        disk.allow(frozenset({before, after}))

        def done(
            error: Exception | None,
            after: str = after,
            answers: SimpleQueue[Exception | None] = answers,
        ) -> None:
            if error is None:
                disk.allow(frozenset({after}))
            answers.put(error)

        step(store, done)
        assert answers.get(timeout=20) is None
        before = after
    store.close()


def examine(
    directory: Path, *, synchronous: str = "FULL", count: int = 40, seed: int = 1, every: int = 1
) -> Verdict:
    """Record a run, rebuild what power cuts could leave, and judge each."""
    disk = CrashingDisk(synchronous=synchronous)
    record(disk, count, seed)
    verdict = Verdict()
    for moment, mode, allowed, image in images(disk.log, random.Random(seed), every=every):
        verdict.judge(unpack(image, directory), allowed, f"moment {moment}, {mode}")
    return verdict


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_and_nothing_torn_is_loaded(tmp_path: Path):
    """Every image of a run with synchronous=FULL holds exactly what was acknowledged."""
    verdict = examine(tmp_path, count=40, every=4)
    assert verdict.images > 200
    assert (verdict.lost, verdict.corrupt) == (0, 0), verdict.examples


@pytest.mark.slow
@pytest.mark.parametrize(("synchronous", "found"), [("NORMAL", "lost"), ("OFF", "corrupt")])
def test_the_harness_finds_losses_where_there_are_some(
    tmp_path: Path, synchronous: str, found: str
):
    """NORMAL loses acknowledged commits and OFF corrupts: a harness that is blind fails here."""
    verdict = examine(tmp_path, synchronous=synchronous, count=30, every=8)
    assert getattr(verdict, found) > 0
