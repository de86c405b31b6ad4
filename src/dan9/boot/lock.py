"""The node's own files in its state folder; first the lock: one node of a name on a machine.

The lock is the kernel's flock, so that it goes with the process, even by kill -9; the
file stays, and its content is only for people and for `dan9 down`. A socket left behind
by a killed node is recovered because whoever has the lock may replace it.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dan9.base.errors import AddressInUse
from dan9.daemons.file_refusals import refusal

__all__ = ["ELSEWHERE", "NodeLock", "open_own"]

ELSEWHERE = "name a folder to write to: state-dir in dan9.toml, or XDG_STATE_HOME"
"""The hint of whoever cannot write to the state folder."""


def open_own(path: Path, flags: int) -> int:
    """Open a file of the node's own, for nobody else; make it and its folder if need be.

    Raises:
        Refused: The file cannot be made or written: `read-only`, `permission`, `no-space` …
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(path, flags | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        named = refusal(error, str(path))
        named.hint = ELSEWHERE
        raise named from None


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
            Refused: The folder cannot be made or written; see `open_own`.
        """
        path = folder / "lock"
        descriptor = open_own(path, os.O_RDWR)
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
