"""Watching files beneath a root by Linux's inotify, without a thread and without polling.

watchfiles is what others use. It was tried and left: its loop wakes 20 times a second for
each watch, it takes a path, which could be exchanged for a link, and it follows links
below that path, so that a link to `/` in a watched folder would watch the machine. Here
every directory is opened beneath the root without following links, and inotify is told
of what was opened.

`Changes` gathers what happened for a moment and says the sum of it once: a file that
was made and written is `added`; one that came and went was never there.

Source: inotify(7).
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress

from dan9.daemons.beneath import PATH_ONLY, Root
from dan9.daemons.filechange import TEMPORARY
from dan9.daemons.filenames import join

__all__ = ["ADDED", "DELETED", "MODIFIED", "OVERFLOWED", "Changes", "Inotify", "has_inotify"]

ADDED, MODIFIED, DELETED = "added", "modified", "deleted"
OVERFLOWED = "overflowed"
"""The system could not keep up: list again what is watched."""

_HEADER = struct.Struct("iIII")  # wd, mask, cookie, length of the name
_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF = 0x400, 0x800
_OVERFLOW, _IGNORED, _ISDIR = 0x4000, 0x8000, 0x40000000
_ONLYDIR = 0x01000000
_MASK = (
    _MODIFY
    | _ATTRIB
    | _CLOSE_WRITE
    | _MOVED_FROM
    | _MOVED_TO
    | _CREATE
    | _DELETE
    | _DELETE_SELF
    | _MOVE_SELF
    | _ONLYDIR
)
_AHEAD = {
    (ADDED, MODIFIED): ADDED,
    (ADDED, DELETED): None,  # came and went
    (MODIFIED, ADDED): MODIFIED,  # replaced by a rename
    (DELETED, ADDED): MODIFIED,
    (DELETED, MODIFIED): MODIFIED,
}


class Changes:
    """What happened to each path since the last look, summed up."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def add(self, path: str, change: str) -> None:
        """Take one more event."""
        before = self._found.pop(path, None)
        after = change if before is None else _AHEAD.get((before, change), change)
        if after is not None:
            self._found[path] = after

    def take(self) -> list[tuple[str, str]]:
        """Return the sum as (path, change), in the order of the last event, and forget it."""
        found, self._found = self._found, {}
        return list(found.items())

    def __len__(self) -> int:
        return len(self._found)

    def __bool__(self) -> bool:
        return bool(self._found)


def has_inotify() -> bool:
    """True where the operating system has it."""
    return sys.platform == "linux"


class Inotify:
    """The watched directories of one filesystem daemon.

    One descriptor serves all watches: the machine gives a user 128 by default.

    Args:
        root: What confines every path.

    Raises:
        OSError: The user has too many already (EMFILE).
    """

    def __init__(self, root: Root) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._root = root
        self.fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._watches: dict[str, _Watch] = {}
        # The same directory has one number, however many watches and paths want it.
        self._numbers: dict[int, dict[str, list[bytes]]] = {}

    def add(self, key: str, parts: list[bytes], *, recursive: bool, only: bytes | None) -> int:
        """Watch a directory and return how many directories that took.

        Args:
            key: Names the watch.
            parts: The directory's path; links in it are followed, below it none.
            recursive: With all that is below it, now or later.
            only: Report this name alone (a file is watched by its folder, because
                writers replace files).

        Raises:
            OSError: ENOSPC if the user has too many watched directories.
        """
        watch = _Watch(key, recursive, only)
        self._watches[key] = watch
        fd = self._root.open(b"/".join(parts), PATH_ONLY | os.O_DIRECTORY)
        try:
            self._watch(watch, parts, fd)
            if recursive:
                for below in self._folders(parts):
                    self._watch_folder(watch, below)
        except BaseException:
            self.remove(key)
            raise
        finally:
            os.close(fd)
        return sum(key in users for users in self._numbers.values())

    def remove(self, key: str) -> None:
        """End a watch."""
        self._watches.pop(key, None)
        for number, users in list(self._numbers.items()):
            if users.pop(key, None) is not None and not users:
                self._libc.inotify_rm_watch(self.fd, number)
                del self._numbers[number]

    def close(self) -> None:
        """End all of it."""
        os.close(self.fd)
        self._watches.clear()
        self._numbers.clear()

    def read(self, report: Callable[[str, str, str], None]) -> None:
        """Report all that is waiting as (watch, path, change); never blocks."""
        while True:
            try:
                data = os.read(self.fd, 65_536)
            except BlockingIOError:
                return
            at = 0
            while at < len(data):
                number, mask, _, length = _HEADER.unpack_from(data, at)
                at += _HEADER.size
                name = data[at : at + length].rstrip(b"\0")
                at += length
                self._event(number, mask, name, report)

    def _event(
        self, number: int, mask: int, name: bytes, report: Callable[[str, str, str], None]
    ) -> None:
        if mask & _OVERFLOW:
            for key in self._watches:
                report(key, "/", OVERFLOWED)
            return
        if mask & _IGNORED:  # the directory is gone, or was let go by us
            self._numbers.pop(number, None)
            return
        for key, folder in list(self._numbers.get(number, {}).items()):
            watch = self._watches[key]
            if mask & (_DELETE_SELF | _MOVE_SELF):
                if folder == watch.top:
                    report(key, join(folder), DELETED)
                continue
            if not name or name.startswith(TEMPORARY) or watch.only not in {None, name}:
                continue
            change = _change(mask)
            if change is None:
                continue
            parts = [*folder, name]
            report(key, join(parts), change)
            if mask & _ISDIR and watch.recursive:
                if change == ADDED:
                    self._arrived(watch, parts, report)
                elif change == DELETED:
                    self._left(watch, parts)

    def _arrived(
        self, watch: _Watch, parts: list[bytes], report: Callable[[str, str, str], None]
    ) -> None:
        """Watch a new directory, and report what was put into it before we did."""
        # A link in the meantime, gone again, no more watches: then its own event says so.
        with suppress(OSError):
            self._watch_folder(watch, parts)
            for below in self._folders(parts):
                self._watch_folder(watch, below)
            for found in self._entries(parts):
                report(watch.key, join(found), ADDED)

    def _left(self, watch: _Watch, parts: list[bytes]) -> None:
        """Let go what was below a directory that went: it may live on elsewhere."""
        for number, users in list(self._numbers.items()):
            folder = users.get(watch.key)
            if folder is not None and folder[: len(parts)] == parts:
                del users[watch.key]
                if not users:
                    self._libc.inotify_rm_watch(self.fd, number)
                    del self._numbers[number]

    def _watch_folder(self, watch: _Watch, parts: list[bytes]) -> None:
        flags = PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        try:
            fd = self._root.open(b"/".join(parts), flags)
        except OSError as error:
            if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EACCES}:
                return  # gone, or exchanged for a link, or not ours to see
            raise
        try:
            self._watch(watch, parts, fd)
        finally:
            os.close(fd)

    def _watch(self, watch: _Watch, parts: list[bytes], fd: int) -> None:
        if not watch.top_is_set:
            watch.top, watch.top_is_set = parts, True
        number = self._libc.inotify_add_watch(self.fd, b"/proc/self/fd/%d" % fd, _MASK)
        if number < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._numbers.setdefault(number, {})[watch.key] = parts

    def _folders(self, parts: list[bytes]) -> Iterator[list[bytes]]:
        """Walk the directories below, without following links."""
        return (found for found, is_folder in self._below(parts) if is_folder)

    def _entries(self, parts: list[bytes]) -> Iterator[list[bytes]]:
        return (found for found, _ in self._below(parts))

    def _below(self, parts: list[bytes]) -> Iterator[tuple[list[bytes], bool]]:
        todo = [parts]
        first = True
        while todo:
            here = todo.pop()
            flags = os.O_RDONLY | os.O_DIRECTORY | (0 if first else os.O_NOFOLLOW)
            first = False
            try:
                fd = self._root.open(b"/".join(here), flags)
            except OSError:
                continue
            try:
                with os.scandir(fd) as entries:
                    found = [
                        ([*here, os.fsencode(each.name)], each.is_dir(follow_symlinks=False))
                        for each in entries
                    ]
            finally:
                os.close(fd)
            todo.extend(path for path, is_folder in found if is_folder)
            yield from found


class _Watch:
    __slots__ = ("key", "only", "recursive", "top", "top_is_set")

    def __init__(self, key: str, recursive: bool, only: bytes | None) -> None:
        self.key = key
        self.recursive = recursive
        self.only = only
        self.top: list[bytes] = []
        self.top_is_set = False


def _change(mask: int) -> str | None:
    if mask & (_CREATE | _MOVED_TO):
        return ADDED
    if mask & (_DELETE | _MOVED_FROM):
        return DELETED
    if mask & (_MODIFY | _CLOSE_WRITE | _ATTRIB):
        return MODIFIED
    return None
