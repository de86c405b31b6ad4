"""A disk that is really full and one that is really read-only: a small file system of its own.

Only root may mount one; without that these tests are skipped, and /dev/full, a planted
disk and errors at each call (test_disk_errors.py) stand for them.
"""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import NoSpace, ReadOnly
from dan9.base.ports import Checkpoint
from dan9.daemons.logging import Logging
from dan9.daemons.sqlite_store import SqliteStore
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system

A = "d9://counter/test/a"
pytestmark = pytest.mark.real


def mount(*arguments: str) -> None:
    """Run mount."""
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


@pytest.fixture
def medium(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = tmp_path / "medium"
    folder.mkdir()
    if os.name != "posix" or os.geteuid() != 0:
        pytest.skip("only root may mount a file system")
    try:
        mount("-t", "tmpfs", "-o", "size=1m", "dan9-test", str(folder))
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte free."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (65_536, 4_096, 1):
            with suppress(OSError):
                while True:
                    file.write(bytes(size))
    return filler


def save(store: SqliteStore, blob: bytes) -> Exception | None:
    """Save a state and return what the store said of it."""
    said: list[Exception | None] = []
    answered = threading.Event()

    def done(error: Exception | None) -> None:
        said.append(error)
        answered.set()

    store.save([Checkpoint(A, "s", blob, 1.0)], done)
    assert answered.wait(10)
    return said[0]


def loaded(store: SqliteStore) -> bytes:
    """Return the newest state."""
    found = store.load(A)
    assert found is not None
    return found.blob


def test_a_full_disk_refuses_by_name_and_keeps_what_was_acknowledged(medium: Path) -> None:
    """Every acknowledged state is there at once, after the trouble and in the next life."""
    store = SqliteStore(medium / "state.db")
    newest = bytes(100)
    assert save(store, newest) is None
    filler = fill(medium)
    refused = 0
    for number in range(60):  # what fits into pages that are there already may still succeed
        blob = os.urandom(20_000) + number.to_bytes(2, "big")
        error = save(store, blob)
        if error is None:
            newest = blob
        else:
            assert isinstance(error, NoSpace), error
            refused += 1
        assert loaded(store) == newest
    assert refused
    assert store.alarm.state == "degraded"
    filler.unlink()
    assert save(store, b"after") is None
    assert store.alarm.state == "ok"
    store.close()
    again = SqliteStore(medium / "state.db")
    assert loaded(again) == b"after"
    assert again.verify() == []
    again.close()


def test_a_full_disk_and_a_lost_node_lose_nothing(medium: Path) -> None:
    """The next life finds what was acknowledged although the disk is still full."""
    store = SqliteStore(medium / "state.db")
    newest = b"first"
    assert save(store, newest) is None
    fill(medium)
    for _ in range(40):
        blob = os.urandom(20_000)
        if save(store, blob) is None:
            newest = blob
    store.close()
    again = SqliteStore(medium / "state.db")
    assert loaded(again) == newest
    again.close()


def test_a_read_only_disk_is_read_and_says_that_nothing_is_saved(medium: Path) -> None:
    """Writes are refused as read-only under an alarm; once it is writable they succeed."""
    store = SqliteStore(medium / "state.db")
    assert save(store, b"kept") is None
    store.close()
    mount("-o", "remount,ro", str(medium))
    store = SqliteStore(medium / "state.db")
    assert store.alarm.state == "read-only"
    assert loaded(store) == b"kept"
    assert isinstance(save(store, b"lost"), ReadOnly)
    assert loaded(store) == b"kept"
    mount("-o", "remount,rw", str(medium))
    assert save(store, b"newer") is None
    assert store.alarm.state == "ok"
    assert loaded(store) == b"newer"
    store.close()


class Talker(Daemon, type="talker"):
    """Logs a lot."""

    @on
    def talk(self, times: int) -> int:
        """Log so often."""
        for number in range(times):
            self.log.info("line %d %s", number, "x" * 500)
        return times


def test_a_log_on_a_full_disk_stops_nobody(medium: Path) -> None:
    """Who logs goes on, the trouble is said, and with room again lines are written."""

    async def main() -> tuple[Any, Any, Any]:
        async with system() as sim:
            log = await sim.spawn(
                Logging, "logging", group="system", file=str(medium / "node.log"), flood=None
            )
            talker = await sim.spawn(Talker, "t")
            filler = fill(medium)
            assert await talker.talk(5_000) == 5_000
            await log.flush()
            full = await log.stats()
            assert await sim.ask("t", "ping") == "pong"
            filler.unlink()
            await talker.talk(1)
            await log.flush()
            return full, await log.stats(), await log.display(source="**/t", limit=1)

    full, after, [entry] = run(main)
    assert "space" in full["file"]["trouble"]
    assert full["file"]["unwritten"] >= 4_000
    assert after["file"]["trouble"] == ""
    assert after["file"]["written"] > full["file"]["written"]
    assert entry["text"].startswith("line 0 ")
    assert (medium / "node.log").read_text("utf-8").count("line 0 ") >= 1
