"""Looking at files beneath a root: stat, read, list. It changes nothing.

Everything here blocks; the daemon decides what is quick enough for the loop. What is
looked at is held (O_PATH) before it is opened, so that a FIFO or a device is refused
without waking it, and is then opened through the held descriptor, so that it is the
same file.
"""

from __future__ import annotations

import functools
import grp
import os
import pwd
import re
import stat as modes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NotRequired, TypedDict

from dan9.base.errors import BadPayload, IsADirectory, NotSupported
from dan9.daemons.beneath import PATH_ONLY, Root
from dan9.daemons.file_refusals import TooLarge, refusal, refusing
from dan9.daemons.filenames import components, join, matcher, text_of

__all__ = [
    "READ",
    "Entry",
    "FileTree",
    "OpenFile",
    "Progress",
    "Stat",
    "as_text",
    "kind_of",
    "measured",
    "must_be_regular",
    "opened",
    "too_large",
]

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""Flags for reading: never wait for a writer, never become a terminal's owner."""

_KINDS = {
    modes.S_IFREG: "file",
    modes.S_IFDIR: "directory",
    modes.S_IFLNK: "link",
    modes.S_IFIFO: "fifo",
    modes.S_IFSOCK: "socket",
    modes.S_IFCHR: "character-device",
    modes.S_IFBLK: "block-device",
}


class Entry(TypedDict):
    """One line of a listing."""

    name: str
    path: str
    type: str
    size: int
    mtime: float
    error: NotRequired[str]
    """Why a directory of a recursive list could not be looked into."""


class Stat(TypedDict):
    """What is known of a file without reading it."""

    name: str
    path: str
    type: str
    size: int
    mode: str
    """Permission bits, octal, as chmod takes them: `0644`."""
    owner: str
    group: str
    uid: int
    gid: int
    mtime: float
    ctime: float
    atime: float
    links: int
    inode: int
    device: int
    target: NotRequired[str]
    """Where a link points (with follow=false)."""


class Progress(TypedDict):
    """How far an open file has been read, in bytes."""

    path: str
    offset: int
    size: int


def kind_of(mode: int) -> str:
    """Return the word for a file's type."""
    return _KINDS.get(modes.S_IFMT(mode), "other")


def as_text(data: bytes, encoding: str, path: str) -> str:
    """Decode what was read.

    Raises:
        BadPayload: It is no text of that encoding, or there is no such encoding.
    """
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise BadPayload(
            f"{path!r} is no {encoding} text at byte {error.start}",
            hint="read it with encoding=null for bytes, or name its encoding",
            at="encoding",
        ) from None
    except LookupError:
        raise BadPayload(
            f"{encoding!r} is no text encoding", hint="as utf-8, latin-1", at="encoding"
        ) from None


class OpenFile:
    """A regular file that is open for reading; closed when all who hold it let it go."""

    __slots__ = ("_fd", "_held", "_tree", "path", "size")

    def __init__(self, tree: FileTree, fd: int, path: str, size: int) -> None:
        self.path = path
        self.size = size
        self._tree = tree
        self._fd = fd
        self._held = 1

    def read(self, offset: int, length: int | None) -> bytes:
        """Read; short only at the end of the file."""
        return self._tree.read(self.path, self._fd, offset, length)

    def hold(self) -> None:
        """Keep it open until one more `close`."""
        self._held += 1

    def close(self) -> None:
        """Let it go."""
        self._held -= 1
        if not self._held:
            os.close(self._fd)


def measured(limit: int, path: str, size: int, offset: int, length: int | None) -> int:
    """Return how many bytes a read asks for.

    Raises:
        BadPayload: A negative offset or length.
        TooLarge: More than the limit, which one reply may hold.
    """
    if offset < 0 or (length is not None and length < 0):
        at = "offset" if offset < 0 else "length"
        raise BadPayload(f"{at} is negative", hint="count from the start of the file", at=at)
    wanted = max(size - offset, 0) if length is None else length
    if wanted > limit:
        raise too_large(path, wanted, limit)
    return wanted


def too_large(path: str, wanted: int, limit: int) -> TooLarge:
    """Return the refusal that says how to read it nevertheless."""
    return TooLarge(
        f"{path!r}: {wanted} bytes or more, one read gives at most {limit}",
        hint="open it and read-chunk it, or read a part with offset and length",
    )


class FileTree:
    """The files beneath a root, to be looked at.

    Args:
        root: What confines every path.
        max_read_bytes: The most that one `read` returns.
        max_entries: The most that one listing returns.
    """

    def __init__(self, root: Root, *, max_read_bytes: int, max_entries: int) -> None:
        self.root = root
        self.max_read_bytes = max_read_bytes
        self.max_entries = max_entries

    def stat(self, path: str, *, follow: bool = True) -> Stat:
        """Describe a file; a link itself if not `follow`."""
        parts = components(path)
        name = b"/".join(parts)
        with refusing(path):
            fd = self.root.open(name, PATH_ONLY | (0 if follow else os.O_NOFOLLOW))
            try:
                found = os.fstat(fd)
                target = None
                if modes.S_ISLNK(found.st_mode):
                    target = text_of(os.readlink(b"", dir_fd=fd))
            finally:
                os.close(fd)
        result = Stat(
            name=text_of(parts[-1]) if parts else "/",
            path=join(parts),
            type=kind_of(found.st_mode),
            size=found.st_size,
            mode=f"{modes.S_IMODE(found.st_mode):04o}",
            owner=_owner(found.st_uid),
            group=_group(found.st_gid),
            uid=found.st_uid,
            gid=found.st_gid,
            mtime=found.st_mtime,
            ctime=found.st_ctime,
            atime=found.st_atime,
            links=found.st_nlink,
            inode=found.st_ino,
            device=found.st_dev,
        )
        if target is not None:
            result["target"] = target
        return result

    def open(self, path: str) -> OpenFile:
        """Open a regular file to be read; refusals as `open_file`."""
        fd, found = self.open_file(path)
        return OpenFile(self, fd, join(components(path)), found.st_size)

    def open_file(self, path: str) -> tuple[int, os.stat_result]:
        """Open a regular file for reading; the caller closes the descriptor.

        Raises:
            IsADirectory: Lists are for `list`.
            NotSupported: A FIFO, socket or device; it is not even opened.
        """
        name = b"/".join(components(path))
        with refusing(path):
            held = self.root.open(name, PATH_ONLY)
            try:
                found = os.fstat(held)
                must_be_regular(found.st_mode, path)
                return self.root.reopen(held, name, READ), found
            finally:
                os.close(held)

    def read(self, path: str, fd: int, offset: int, length: int | None) -> bytes:
        """Read from an open file; short only at its end.

        A file of /proc says that its size is 0: without `length` all is read, to the
        end, up to the limit.
        """
        limit = self.max_read_bytes + 1 if length is None else length
        # The buffer grows from 8 KiB: one of 1 MiB costs more than reading a small file.
        ask = 8192 if length is None else 1 << 20
        pieces: list[bytes] = []
        with refusing(path):
            while limit > 0:
                piece = os.pread(fd, min(limit, ask), offset)
                if not piece:
                    break
                pieces.append(piece)
                offset += len(piece)
                limit -= len(piece)
                ask = min(ask * 4, 1 << 20)
        if length is None and limit == 0:
            raise too_large(path, offset, self.max_read_bytes)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def entries(
        self, path: str, *, recursive: bool = False, pattern: str | None = None
    ) -> list[Entry]:
        """List a directory, sorted by name; a folder before what is in it.

        Links are listed as links and never followed below `path`.
        """
        parts = components(path)
        prefix = join(parts).rstrip("/")
        wanted = matcher(pattern) if pattern is not None else None
        skip = len(prefix) + 1 if pattern is not None and "/" in pattern else None
        with refusing(path):
            fd = self.root.open(b"/".join(parts), os.O_RDONLY | os.O_DIRECTORY)
        out: list[Entry] = []
        todo = self._scan(fd, parts, wanted, skip, recursive)
        while todo:
            entry, below = todo.pop()
            if entry is not None:
                out.append(entry)
                if len(out) > self.max_entries:
                    raise self._too_many(path)
            if below is not None:
                try:
                    name = b"/".join(below)
                    inner = self.root.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                except OSError as error:
                    if entry is not None:
                        entry["error"] = refusal(error, entry["path"]).code
                else:
                    todo.extend(self._scan(inner, below, wanted, skip, recursive))
        return out

    def _scan(
        self,
        fd: int,
        folder: list[bytes],
        wanted: re.Pattern[str] | None,
        skip: int | None,
        recursive: bool,
    ) -> list[tuple[Entry | None, list[bytes] | None]]:
        """Return a directory's entries, last first (a stack), and close it.

        Each is the entry, None if it is not wanted, and the folder to look into, if any.
        What is not wanted costs no stat: the pattern is asked first.
        """
        found: list[tuple[str, Entry | None, list[bytes] | None]] = []
        prefix = join(folder).rstrip("/")
        try:
            with refusing(prefix or "/"), os.scandir(fd) as entries:
                for each in entries:
                    raw = os.fsencode(each.name)
                    name = text_of(raw)
                    path = f"{prefix}/{name}"
                    below = None
                    if recursive and each.is_dir(follow_symlinks=False):
                        below = [*folder, raw]
                    if wanted is not None and not wanted.match(
                        name if skip is None else path[skip:]
                    ):
                        if below is not None:
                            found.append((name, None, below))
                        continue
                    try:
                        info = each.stat(follow_symlinks=False)
                    except FileNotFoundError:
                        continue  # went while we looked: then it is not there
                    entry = Entry(
                        name=name,
                        path=path,
                        type=kind_of(info.st_mode),
                        size=info.st_size,
                        mtime=info.st_mtime,
                    )
                    found.append((name, entry, below))
                    if len(found) > self.max_entries:
                        raise self._too_many(prefix or "/")
        finally:
            os.close(fd)
        found.sort(key=_by_name, reverse=True)
        return [(entry, below) for _, entry, below in found]

    def _too_many(self, path: str) -> TooLarge:
        return TooLarge(
            f"{path!r} has more than {self.max_entries} entries",
            hint="give a pattern, list it folder by folder, or raise max_entries",
        )


def must_be_regular(mode: int, path: str) -> None:
    """Refuse whatever could block or do something when it is opened."""
    if modes.S_ISREG(mode):
        return
    if modes.S_ISDIR(mode):
        raise IsADirectory(f"{path!r} is a directory", hint="list shows what is in it")
    raise NotSupported(
        f"{path!r} is a {kind_of(mode)}, no regular file",
        hint="only files that cannot block are read and written; use a device or network daemon",
    )


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close the descriptor at the end of the block."""
    try:
        yield fd
    finally:
        os.close(fd)


def _by_name(item: tuple[str, Entry | None, list[bytes] | None]) -> str:
    return item[0]


# Users and groups change seldom; a lookup reads a file (or asks a directory server).
@functools.lru_cache(maxsize=512)
def _owner(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


@functools.lru_cache(maxsize=512)
def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
