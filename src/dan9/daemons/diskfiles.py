"""The files a filesystem daemon gives, and the files of this machine as such.

The daemon knows `Files`; what is underneath, a directory or memory, it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from dan9.base.errors import NotSupported
from dan9.daemons.beneath import Root
from dan9.daemons.file_refusals import refusing
from dan9.daemons.filechange import FileChanges
from dan9.daemons.filetree import Entry, FileTree, OpenFile, Stat
from dan9.daemons.filewatch import Inotify, has_inotify

__all__ = ["DiskFiles", "Files", "Watcher"]


class Watcher(Protocol):
    """Who sees what happens to files."""

    def add(self, key: str, parts: list[bytes], *, recursive: bool, only: bytes | None) -> int:
        """Watch a directory."""

    def remove(self, key: str) -> None:
        """End a watch."""

    def close(self) -> None:
        """End all."""


class Files(Protocol):
    """What the daemon asks of files, on a disk or in memory."""

    confinement: str

    def open(self, path: str) -> OpenFile:
        """Open a regular file."""

    def stat(self, path: str, *, follow: bool = True) -> Stat:
        """Describe a file."""

    def entries(
        self, path: str, *, recursive: bool = False, pattern: str | None = None
    ) -> list[Entry]:
        """List a directory."""

    def write(
        self,
        path: str,
        content: bytes,
        *,
        append: bool = False,
        create_parents: bool = False,
        atomic: bool = True,
    ) -> int:
        """Write a file."""

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> str:
        """Make a directory."""

    def delete(self, path: str, *, recursive: bool = False) -> str:
        """Delete."""

    def rename(self, source: str, target: str, *, replace: bool = True) -> str:
        """Move."""

    def copy(
        self, source: str, target: str, *, recursive: bool = False, replace: bool = True
    ) -> str:
        """Copy."""

    def watcher(self, note: Callable[[str, str, str], None]) -> Watcher:
        """Return who calls `note(watch, path, change)`."""

    def close(self) -> None:
        """Let all go."""


class DiskFiles:
    """The files beneath a directory of this machine."""

    def __init__(
        self, root: str, *, read_only: bool, max_read_bytes: int, max_entries: int, by_walk: bool
    ) -> None:
        with refusing(root):
            self._root = Root(root, by_walk=by_walk)
        self.confinement = "walk" if self._root.by_walk else "openat2"
        tree = FileTree(self._root, max_read_bytes=max_read_bytes, max_entries=max_entries)
        changes = FileChanges(tree, read_only=read_only)
        self.open, self.stat, self.entries = tree.open, tree.stat, tree.entries
        self.write, self.mkdir, self.delete = changes.write, changes.mkdir, changes.delete
        self.rename, self.copy = changes.rename, changes.copy
        self.close = self._root.close

    def watcher(self, note: Callable[[str, str, str], None]) -> Watcher:
        """Return inotify's eyes, read by the loop when there is something to see."""
        if not has_inotify():
            raise NotSupported("watching needs inotify", hint="list from time to time instead")
        return _LoopInotify(self._root, note)


class _LoopInotify(Inotify):
    def __init__(self, root: Root, note: Callable[[str, str, str], None]) -> None:
        super().__init__(root)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self.fd, self.read, note)

    def close(self) -> None:
        self._loop.remove_reader(self.fd)
        super().close()
