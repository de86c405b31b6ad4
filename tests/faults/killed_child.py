"""The program that is killed: does steps on a store and says which were acknowledged.

Usage: killed_child.py PATH SEED FIRST COUNT SYNCHRONOUS. One line a step, written when the
store says it is durable.
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from queue import SimpleQueue

from dan9.daemons.sqlite_store import SqliteStore
from dan9.daemons.state_disk import Disk
from tests.faults.crash_steps import steps


def main(path: str, seed: str, first: str, count: str) -> None:
    """Do the steps from `first` on."""
    disk = Disk(Path(path))
    disk.log_pages = 12  # so that the log is copied often
    store = SqliteStore(disk)
    os.write(1, b"ready\n")
    for number, step in enumerate(itertools.islice(steps(int(count), int(seed)), int(first), None)):
        answers: SimpleQueue[Exception | None] = SimpleQueue()
        step(store, answers.put)
        error = answers.get()
        if error is not None:
            os.write(1, f"refused {error}\n".encode())
            return
        os.write(1, b"acknowledged %d\n" % (int(first) + number + 1))
    store.close()


main(*sys.argv[1:])
