"""One node of a name on a machine: a lock in its state folder.

The lock is the kernel's flock, so that it goes with the process, even by kill -9; the
file stays, and its content is only for people and for `dan9 down`. A socket left behind
by a killed node is recovered because whoever has the lock may replace it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dan9.base.errors import AddressInUse

__all__ = ["NodeLock"]


class NodeLock:
    """The lock of one node; take it with `NodeLock.take`."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path

    @classmethod
    def take(cls, folder: Path, name: str) -> NodeLock:
        """Take the lock of the node `name`, whose state lives in `folder`.

        Raises:
            AddressInUse: Another process has it.
            OSError: The folder cannot be made or written.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise AddressInUse(
                f"a node named {name} runs already",
                hint="dan9 down ends it; --name gives this one another name",
                at=f"process {holder}" if holder else str(path),
            ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode("ascii"), 0)
        return cls(descriptor, path)

    def release(self) -> None:
        """Give the lock back; twice is once."""
        if self._descriptor >= 0:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = -1
