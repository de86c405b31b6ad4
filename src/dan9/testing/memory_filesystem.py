"""A filesystem daemon whose files are in memory: the same messages, the same refusals.

It is the filesystem daemon with other files underneath. The contract suite of the real
one runs over it, so that what passes here passes there. No disk, no threads and no
waiting: at home in virtual time, where changes are watched exactly.

    fs = await system.spawn(MemoryFilesystem, "filesystem", group="system",
                            files={"/etc/hostname": "test"})
"""

from __future__ import annotations

import errno
import os
import stat as modes
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dan9.base.errors import (
    BadPayload,
    Exists,
    IsADirectory,
    NotADirectory,
    PermissionRefused,
    ReadOnly,
)
from dan9.base.fields import Config
from dan9.daemons.diskfiles import Files, Watcher
from dan9.daemons.file_refusals import TooLarge, refusing
from dan9.daemons.filenames import components, join, matcher, text_of
from dan9.daemons.filesystem import Filesystem
from dan9.daemons.filetree import Entry, OpenFile, Stat, kind_of, must_be_regular, too_large
from dan9.daemons.filewatch import ADDED, DELETED, MODIFIED

__all__ = ["MemoryFilesystem"]

_MAX_LINKS = 40
_FILE, _FOLDER, _LINK = modes.S_IFREG, modes.S_IFDIR, modes.S_IFLNK
Note = Callable[[str, str, str], None]


@dataclass(slots=True, eq=False)
class _Node:
    kind: int
    number: int
    mtime: float
    data: bytes = b""
    below: dict[bytes, _Node] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def mode(self) -> int:
        return self.kind | (0o755 if self.kind == _FOLDER else 0o644)


class _OpenNode(OpenFile):
    """What was in the file when it was opened."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes, path: str, limit: int) -> None:
        self.path = path
        self.size = len(data)
        self._data = data
        self._fd = limit

    def read(self, offset: int, length: int | None) -> bytes:
        """Read; short only at the end."""
        if length is None and self.size - offset > self._fd:
            raise too_large(self.path, self.size - offset, self._fd)
        return self._data[offset:] if length is None else self._data[offset : offset + length]

    def hold(self) -> None:
        """Nothing can be pulled away."""

    def close(self) -> None:
        """Nothing is open."""


class MemoryFiles:
    """Files in memory, with what the daemon asks of files.

    Args:
        now: Returns the time that files are stamped with.
        read_only: Refuse every change.
        max_read_bytes: The most that one read returns.
        max_entries: The most that one listing returns.
        capacity_bytes: The size of the disk; None: endless.
    """

    confinement = "memory"

    def __init__(
        self,
        now: Callable[[], float],
        *,
        read_only: bool = False,
        max_read_bytes: int = 1 << 24,
        max_entries: int = 250_000,
        capacity_bytes: int | None = None,
    ) -> None:
        self._now = now
        self._numbers = 1
        self._root = _Node(_FOLDER, 1, now())
        self.read_only = read_only
        self._max_read_bytes = max_read_bytes
        self._max_entries = max_entries
        self._capacity = capacity_bytes
        self._watches: dict[str, tuple[list[bytes], bool, bytes | None]] = {}
        self._note: Note | None = None

    # -- looking ------------------------------------------------------------------------------

    def open(self, path: str) -> OpenFile:
        """Open a regular file."""
        parts = components(path)
        with refusing(path):
            node = self._at(parts)
        must_be_regular(node.mode, path)
        return _OpenNode(node.data, join(parts), self._max_read_bytes)

    def stat(self, path: str, *, follow: bool = True) -> Stat:
        """Describe a file."""
        parts = components(path)
        with refusing(path):
            node = self._at(parts, follow=follow)
        result = Stat(
            name=text_of(parts[-1]) if parts else "/",
            path=join(parts),
            type=kind_of(node.mode),
            size=node.size,
            mode=f"{modes.S_IMODE(node.mode):04o}",
            owner="root",
            group="root",
            uid=0,
            gid=0,
            mtime=node.mtime,
            ctime=node.mtime,
            atime=node.mtime,
            links=1,
            inode=node.number,
            device=0,
        )
        if node.kind == _LINK:
            result["target"] = text_of(node.data)
        return result

    def entries(
        self, path: str, *, recursive: bool = False, pattern: str | None = None
    ) -> list[Entry]:
        """List a directory, sorted; a folder before what is in it."""
        parts = components(path)
        wanted = matcher(pattern) if pattern is not None else None
        skip = len(parts) if pattern is not None and "/" in pattern else -1
        with refusing(path):
            top = self._at(parts)
            if top.kind != _FOLDER:
                raise NotADirectoryError(errno.ENOTDIR, "")
        out: list[Entry] = []
        for found, node in _walk(top, parts, recursive=recursive):
            name = text_of(b"/".join(found[skip:]))
            if wanted is not None and not wanted.match(name):
                continue
            entry = Entry(
                name=text_of(found[-1]),
                path=join(found),
                type=kind_of(node.mode),
                size=node.size,
                mtime=node.mtime,
            )
            out.append(entry)
            if len(out) > self._max_entries:
                raise TooLarge(
                    f"{path!r} has more than {self._max_entries} entries", hint="give a pattern"
                )
        return out

    # -- changing -----------------------------------------------------------------------------

    def write(
        self,
        path: str,
        content: bytes,
        *,
        append: bool = False,
        create_parents: bool = False,
        atomic: bool = True,
    ) -> int:
        """Write a file; in memory every write is atomic."""
        del atomic
        parts = self._may_change(path)
        if create_parents:
            self._make_parents(parts)
        with refusing(path):
            parts, folder, node = self._final(parts)
            if node is not None:
                must_be_regular(node.mode, path)
            data = (node.data if node is not None and append else b"") + content
            self._need(len(data) - (node.size if node is not None else 0))
            if node is None:
                self._put(folder, parts, self._new(_FILE, data))
            else:
                node.data, node.mtime = data, self._now()
                self._tell(parts, MODIFIED)
        return len(content)

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> str:
        """Make a directory."""
        parts = self._may_change(path, root_too=exist_ok)
        if parents:
            self._make_parents(parts)
        if parts:
            self._make(parts, path, exist_ok=exist_ok)
        return join(parts)

    def delete(self, path: str, *, recursive: bool = False) -> str:
        """Delete a file, a link or a directory."""
        parts = self._may_change(path)
        with refusing(path):
            folder, node = self._entry(parts)
            if node.below and not recursive:
                raise OSError(errno.ENOTEMPTY, "")
            for found, _ in reversed(list(_walk(node, parts, recursive=True))):
                self._tell(found, DELETED)
            del folder.below[parts[-1]]
        self._tell(parts, DELETED)
        return join(parts)

    def rename(self, source: str, target: str, *, replace: bool = True) -> str:
        """Move a file or directory."""
        old, new = self._may_change(source, "source"), self._may_change(target, "target")
        with refusing(source):
            here, node = self._entry(old)
        with refusing(target):
            there = self._folder(new[:-1])
            taken = there.below.get(new[-1])
            if taken is not None and not replace:
                raise FileExistsError(errno.EEXIST, "")
            if _is_within(there, node):
                raise BadPayload(f"{target!r} is inside {source!r}", at="target")
            if taken is node:
                return join(new)
            if taken is not None:
                _refuse_exchange(node, here, taken)
            del here.below[old[-1]]
            there.below[new[-1]] = node
        self._tell(old, DELETED)
        self._tell(new, ADDED)
        for found, _ in _walk(node, new, recursive=True):
            self._tell(found, ADDED)
        return join(new)

    def copy(
        self, source: str, target: str, *, recursive: bool = False, replace: bool = True
    ) -> str:
        """Copy a file or a directory."""
        old, new = components(source, "source"), self._may_change(target, "target")
        with refusing(source):
            node = self._at(old)
        if node.kind == _FOLDER:
            if not recursive:
                raise IsADirectory(f"{source!r} is a directory", hint="copy it with recursive=true")
            with refusing(target):
                try:
                    goal = self._folder(new)
                except (FileNotFoundError, NotADirectoryError):
                    goal = self._folder(new[:-1])
            if _is_within(goal, node):
                raise BadPayload(f"{target!r} is {source!r} or inside it", at="target")
            self._copy_folder(node, new, replace=replace)
            return join(new)
        must_be_regular(node.mode, source)
        with refusing(target):
            parts, folder, taken = self._final(new)
            if taken is not None:
                must_be_regular(taken.mode, target)
                if not replace:
                    raise Exists(f"{target!r} is already there", hint="replace=true overwrites it")
            self._need(node.size - (taken.size if taken is not None else 0))
            self._put(folder, parts, self._new(_FILE, node.data, node.mtime))
        return join(new)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link; for tests, the daemon has no message for it."""
        parts = components(path)
        self._put(self._folder(parts[:-1]), parts, self._new(_LINK, os.fsencode(target)))

    # -- watching -----------------------------------------------------------------------------

    def watcher(self, note: Note) -> Watcher:
        """Return the watcher, which sees every change at once."""
        self._note = note
        return _MemoryWatcher(self, self._watches)

    def close(self) -> None:
        """Forget the watches; the files stay with this object."""
        self._watches.clear()

    def folder_at(self, parts: list[bytes]) -> None:
        """Refuse to watch what is no directory."""
        self._folder(parts)

    def _tell(self, parts: list[bytes], change: str) -> None:
        if self._note is None:
            return
        for key, (top, recursive, only) in list(self._watches.items()):
            if parts == top:
                if change == DELETED:
                    self._note(key, join(parts), DELETED)
            elif (
                parts[: len(top)] == top
                and (recursive or len(parts) == len(top) + 1)
                and only in {None, parts[-1]}
            ):
                self._note(key, join(parts), change)

    # -- the tree -----------------------------------------------------------------------------

    def _at(self, parts: list[bytes], *, follow: bool = True) -> _Node:
        """Return the node at a path, links resolved as under chroot."""
        way = [self._root]
        todo = list(reversed(parts))
        links = 0
        while todo:
            name = todo.pop()
            if way[-1].kind != _FOLDER:
                raise NotADirectoryError(errno.ENOTDIR, "")
            if name in {b"", b"."}:
                continue
            if name == b"..":
                if len(way) > 1:
                    way.pop()
                continue
            if len(name) > 255:
                raise OSError(errno.ENAMETOOLONG, "")
            node = way[-1].below.get(name)
            if node is None:
                raise FileNotFoundError(errno.ENOENT, "")
            if node.kind == _LINK and (todo or follow):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, "")
                if node.data.startswith(b"/"):
                    del way[1:]
                todo.extend(reversed(node.data.split(b"/")))
                continue
            way.append(node)
        return way[-1]

    def _folder(self, parts: list[bytes]) -> _Node:
        node = self._at(parts)
        if node.kind != _FOLDER:
            raise NotADirectoryError(errno.ENOTDIR, "")
        return node

    def _entry(self, parts: list[bytes]) -> tuple[_Node, _Node]:
        """Return the folder and the node of an entry that is there; a link itself."""
        folder = self._folder(parts[:-1])
        return folder, self._at(parts, follow=False) if parts else folder

    def _final(self, parts: list[bytes]) -> tuple[list[bytes], _Node, _Node | None]:
        """Return path, folder and node (if any) that a path leads to, links at its end followed."""
        for _ in range(_MAX_LINKS):
            if not parts or parts[-1] in {b".", b".."}:
                raise IsADirectoryError(errno.EISDIR, "")
            folder = self._folder(parts[:-1])
            if len(parts[-1]) > 255:
                raise OSError(errno.ENAMETOOLONG, "")
            node = folder.below.get(parts[-1])
            if node is None or node.kind != _LINK:
                return parts, folder, node
            names = [name for name in node.data.split(b"/") if name and name != b"."]
            parts = names if node.data.startswith(b"/") else parts[:-1] + names
        raise OSError(errno.ELOOP, "")

    def _new(self, kind: int, data: bytes = b"", mtime: float | None = None) -> _Node:
        self._numbers += 1
        return _Node(kind, self._numbers, self._now() if mtime is None else mtime, data)

    def _put(self, folder: _Node, parts: list[bytes], node: _Node) -> None:
        change = MODIFIED if parts[-1] in folder.below else ADDED
        folder.below[parts[-1]] = node
        folder.mtime = self._now()
        self._tell(parts, change)

    def _make(self, parts: list[bytes], path: str, *, exist_ok: bool) -> None:
        with refusing(path):
            folder = self._folder(parts[:-1])
            if parts[-1] not in folder.below:
                if len(parts[-1]) > 255:
                    raise OSError(errno.ENAMETOOLONG, "")
                self._put(folder, parts, self._new(_FOLDER))
                return
            if not exist_ok:
                raise FileExistsError(errno.EEXIST, "")
            if self._at(parts).kind != _FOLDER:
                raise NotADirectory(f"{join(parts)!r} is there and no directory")

    def _make_parents(self, parts: list[bytes]) -> None:
        for end in range(1, len(parts)):
            self._make(parts[:end], join(parts), exist_ok=True)

    def _copy_folder(self, source: _Node, new: list[bytes], *, replace: bool) -> None:
        self._make(new, join(new), exist_ok=replace)
        for found, node in list(_walk(source, new, recursive=True)):
            if node.kind == _FOLDER:
                self._make(found, join(found), exist_ok=replace)
            else:
                self._need(node.size)
                self._put(
                    self._folder(found[:-1]), found, self._new(node.kind, node.data, node.mtime)
                )

    def _need(self, more: int) -> None:
        used = sum(node.size for _, node in _walk(self._root, [], recursive=True))
        if self._capacity is not None and used + more > self._capacity:
            raise OSError(errno.ENOSPC, "")

    def _may_change(self, path: str, key: str = "path", *, root_too: bool = False) -> list[bytes]:
        parts = components(path, key)
        if self.read_only:
            raise ReadOnly(
                "this filesystem daemon was configured read-only",
                hint="read_only=false in its configuration, or use another filesystem daemon",
            )
        if not parts and not root_too:
            raise PermissionRefused(f"{path!r} is the root; it stays as it is", at=key)
        return parts


class _MemoryWatcher:
    def __init__(
        self, files: MemoryFiles, watches: dict[str, tuple[list[bytes], bool, bytes | None]]
    ) -> None:
        self._files = files
        self._watches = watches

    def add(self, key: str, parts: list[bytes], *, recursive: bool, only: bytes | None) -> int:
        """Watch a directory."""
        self._files.folder_at(parts)
        self._watches[key] = (parts, recursive, only)
        return 1

    def remove(self, key: str) -> None:
        """End a watch."""
        self._watches.pop(key, None)

    def close(self) -> None:
        """End all."""
        self._watches.clear()


class MemoryFilesystem(Filesystem, type="filesystem"):
    """Gives files that are in memory; otherwise the filesystem daemon."""

    files: Config[dict[str, str]] = {}
    links: Config[dict[str, str]] = {}
    capacity_bytes: Config[int | None] = None

    def _open_files(self) -> Files:
        made = MemoryFiles(
            self.clock.now,
            max_read_bytes=self.max_read_bytes,
            max_entries=self.max_entries,
            capacity_bytes=self.capacity_bytes,
        )
        for path, text in self.files.items():
            made.write(path, text.encode(), create_parents=True)
        for path, target in self.links.items():
            made.link(path, target)
        made.read_only = self.read_only
        return made


def _refuse_exchange(node: _Node, here: _Node, taken: _Node) -> None:
    """Refuse what rename(2) refuses to put in another's place, in the order of Linux."""
    if _is_within(here, taken):  # before the kinds are compared: what holds the source is full
        raise OSError(errno.ENOTEMPTY, "")
    if taken.kind == _FOLDER and node.kind != _FOLDER:
        raise IsADirectoryError(errno.EISDIR, "")
    if taken.kind != _FOLDER and node.kind == _FOLDER:
        raise NotADirectoryError(errno.ENOTDIR, "")
    if taken.below:
        raise OSError(errno.ENOTEMPTY, "")


def _is_within(node: _Node, folder: _Node) -> bool:
    return node is folder or any(node is other for _, other in _walk(folder, [], recursive=True))


def _walk(
    node: _Node, parts: list[bytes], *, recursive: bool
) -> Iterator[tuple[list[bytes], _Node]]:
    todo = [(parts, node)]
    while todo:
        path, here = todo.pop()
        if here is not node:
            yield path, here
        if recursive or here is node:
            below = sorted(here.below.items(), key=lambda item: text_of(item[0]), reverse=True)
            todo.extend(([*path, name], each) for name, each in below)
