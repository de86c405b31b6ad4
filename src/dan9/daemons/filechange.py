"""Changing files beneath a root: write, mkdir, delete, rename, copy.

A whole write is atomic: a temporary file in the same directory, fsync, rename over the
name, fsync of the directory; whoever reads meanwhile, and whoever looks after a power
cut, finds the old content or the new one. Every step goes through descriptors of
directories that were opened beneath the root, so that exchanging a folder for a link
meanwhile leads nowhere.

A file that has several names (hard links) is never changed in place unless the root is
`/`: another of its names may lie outside. Written whole, it gets a new file.

Source: rename(2), fsync(2); Pillai et al., All File Systems Are Not Created Equal (OSDI 2014).
"""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat as modes
import sys
from contextlib import suppress

from dan9.base.errors import (
    BadPayload,
    Exists,
    IsADirectory,
    NotADirectory,
    NotSupported,
    PermissionRefused,
    ReadOnly,
)
from dan9.daemons.beneath import PATH_ONLY
from dan9.daemons.file_refusals import refusing
from dan9.daemons.filenames import components, join
from dan9.daemons.filetree import FileTree, kind_of, must_be_regular, opened

__all__ = ["TEMPORARY", "FileChanges"]

TEMPORARY = b".d9-"
"""How the name of an unfinished file begins; one that stays behind was cut off."""

_CHUNK = 1 << 20
_MAX_LINKS = 40
_RENAME_NOREPLACE = 1
_serial = itertools.count(1)


class FileChanges:
    """The files beneath a root, to be changed.

    Args:
        tree: The same files, to be looked at; its root confines every path.
        read_only: Refuse everything.
    """

    def __init__(self, tree: FileTree, *, read_only: bool = False) -> None:
        self.tree = tree
        self.root = tree.root
        self.read_only = read_only

    def write(
        self,
        path: str,
        content: bytes,
        *,
        append: bool = False,
        create_parents: bool = False,
        atomic: bool = True,
    ) -> int:
        """Write a file and return how many bytes were written.

        Args:
            path: The file; where it is a link, the file that the link leads to.
            content: All of it.
            append: Put it at the end of what is there, in one call of write(2).
            create_parents: Make the folders that are missing.
            atomic: See above; if not, the file is changed in place and not synced.
                With `append`: the file is synced before the answer.
        """
        parts = self._may_change(path)
        if create_parents:
            self._make_parents(parts, path)
        with refusing(path):
            folder, name = self._final(b"/".join(parts))
            with opened(self.root.open(folder, os.O_RDONLY | os.O_DIRECTORY)) as parent:
                old = self._look(parent, name, path)
                if append or not atomic:
                    self._in_place(parent, name, path, old, content, append, atomic)
                else:
                    self._whole(parent, name, path, old, content)
        return len(content)

    def mkdir(self, path: str, *, parents: bool = False, exist_ok: bool = False) -> str:
        """Make a directory and return its path."""
        parts = self._may_change(path, root_too=exist_ok)
        if parents:
            self._make_parents(parts, path)
        if parts:
            self._make(parts, path, exist_ok=exist_ok)
        return join(parts)

    def delete(self, path: str, *, recursive: bool = False) -> str:
        """Delete a file, a link (never what it leads to) or a directory."""
        parts = self._may_change(path)
        with refusing(path), opened(self._folder(parts[:-1])) as parent:
            info = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
            if not modes.S_ISDIR(info.st_mode):
                os.unlink(parts[-1], dir_fd=parent)
            elif recursive:
                _remove_tree(parent, parts[-1])
            else:
                os.rmdir(parts[-1], dir_fd=parent)
        return join(parts)

    def rename(self, source: str, target: str, *, replace: bool = True) -> str:
        """Move a file or directory within the root; atomic.

        Args:
            source: What to move; a link itself, not what it leads to.
            target: Its new path. A file there is replaced, an empty directory by a directory.
            replace: If not, a target that exists is refused.
        """
        old, new = self._may_change(source, "source"), self._may_change(target, "target")
        with refusing(source), opened(self._folder(old[:-1])) as here:
            info = os.stat(old[-1], dir_fd=here, follow_symlinks=False)
            with refusing(target), opened(self._folder(new[:-1])) as there:
                try:
                    if replace:
                        os.rename(old[-1], new[-1], src_dir_fd=here, dst_dir_fd=there)
                    else:
                        _rename_new(here, old[-1], there, new[-1])
                except OSError as error:
                    # A disk may also refuse a name so; what is inside by a link is inside.
                    if error.errno != errno.EINVAL or not self._is_within(new[:-1], info):
                        raise
                    inside = f"{target!r} is inside {source!r}"
                    raise BadPayload(inside, at="target") from None
        return join(new)

    def copy(
        self, source: str, target: str, *, recursive: bool = False, replace: bool = True
    ) -> str:
        """Copy a file (atomically) or, with `recursive`, a directory.

        Mode and time of change go along; links in a directory are copied as links,
        FIFOs, sockets and devices are refused.
        """
        old, new = components(source, "source"), self._may_change(target, "target")
        with refusing(source), opened(self.root.open(b"/".join(old), PATH_ONLY)) as held:
            info = os.fstat(held)
            if not modes.S_ISDIR(info.st_mode):
                with opened(self.tree.open_file(source)[0]) as fd:
                    self._copy_file(fd, new, target, replace=replace)
                return join(new)
        if not recursive:
            raise IsADirectory(f"{source!r} is a directory", hint="copy it with recursive=true")
        with refusing(target):
            if self._is_within(new, info):
                raise BadPayload(f"{target!r} is {source!r} or inside it", at="target")
        self._copy_folder(old, new, source, replace=replace)
        return join(new)

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

    def _folder(self, parts: list[bytes]) -> int:
        return self.root.open(b"/".join(parts), PATH_ONLY | os.O_DIRECTORY)

    def _final(self, path: bytes) -> tuple[bytes, bytes]:
        """Return the folder and the name a path leads to, if its end is a link."""
        for _ in range(_MAX_LINKS):
            folder, _, name = path.rpartition(b"/")
            if name in {b"", b".", b".."}:
                break  # a link to a directory, spelled so
            with opened(self.root.open(folder, PATH_ONLY | os.O_DIRECTORY)) as parent:
                try:
                    link = os.readlink(name, dir_fd=parent)
                except OSError as error:
                    if error.errno in {errno.EINVAL, errno.ENOENT}:
                        return folder, name
                    raise
            if not self.root.by_walk:
                # Magic links are for openat2 to refuse; their text means nothing.
                with suppress(FileNotFoundError):
                    os.close(self.root.open(path, PATH_ONLY))
            path = link.rstrip(b"/") if link.startswith(b"/") else folder + b"/" + link.rstrip(b"/")
        else:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), path)

    @staticmethod
    def _look(parent: int, name: bytes, path: str) -> os.stat_result | None:
        """Return what is there under the name; only a regular file may be."""
        try:
            info = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            return None
        must_be_regular(info.st_mode, path)
        return info

    def _whole(
        self, parent: int, name: bytes, path: str, old: os.stat_result | None, content: bytes
    ) -> None:
        if old is not None and not _may_write(parent, name):
            # The rename would pass; but a file that may not be written may not be replaced.
            raise PermissionRefused(f"{path!r} may not be written", hint="stat shows its mode")
        fd, temporary = _temporary(parent)
        try:
            with opened(fd):
                if old is not None:
                    _keep_owner(fd, old)
                _write_all(fd, content)
                os.fsync(fd)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        os.fsync(parent)

    def _in_place(
        self,
        parent: int,
        name: bytes,
        path: str,
        old: os.stat_result | None,
        content: bytes,
        append: bool,
        sync: bool,
    ) -> None:
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW
        flags |= os.O_APPEND if append else 0
        if old is None:
            flags |= os.O_CREAT
        with opened(os.open(name, flags, 0o666, dir_fd=parent)) as fd:
            now = os.fstat(fd)
            must_be_regular(now.st_mode, path)  # whatever it was when we looked
            if now.st_nlink > 1 and not self.root.is_whole:
                raise PermissionRefused(
                    f"{path!r} has {now.st_nlink} names; another may lie outside the root",
                    hint="write it whole (append=false, atomic=true): it becomes a file of its own",
                )
            if append:
                _append(fd, content, now.st_size)
            else:
                os.ftruncate(fd, 0)
                _write_all(fd, content)
            if append and sync:
                os.fsync(fd)

    def _make_parents(self, parts: list[bytes], path: str) -> None:
        for end in range(1, len(parts)):
            self._make(parts[:end], path, exist_ok=True)

    def _make(self, parts: list[bytes], path: str, *, exist_ok: bool) -> None:
        with refusing(path), opened(self._folder(parts[:-1])) as parent:
            try:
                os.mkdir(parts[-1], dir_fd=parent)
            except FileExistsError:
                if not exist_ok:
                    raise
                try:
                    os.close(self._folder(parts))
                except NotADirectoryError:
                    raise NotADirectory(f"{join(parts)!r} is there and no directory") from None

    def _copy_file(self, source: int, new: list[bytes], target: str, *, replace: bool) -> None:
        info = os.fstat(source)
        with refusing(target):
            folder, name = self._final(b"/".join(new))
            with opened(self.root.open(folder, os.O_RDONLY | os.O_DIRECTORY)) as parent:
                if self._look(parent, name, target) is not None and not replace:
                    raise Exists(f"{target!r} is already there", hint="replace=true overwrites it")
                fd, temporary = _temporary(parent)
                try:
                    with opened(fd):
                        _pour(source, fd)
                        os.fchmod(fd, modes.S_IMODE(info.st_mode) & 0o777)
                        os.utime(fd, ns=(info.st_atime_ns, info.st_mtime_ns))
                        os.fsync(fd)
                    if replace:
                        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
                    else:
                        _rename_new(parent, temporary, parent, name)
                except BaseException:
                    with suppress(OSError):
                        os.unlink(temporary, dir_fd=parent)
                    raise
                os.fsync(parent)

    def _is_within(self, parts: list[bytes], folder: os.stat_result) -> bool:
        """True if a path is, or will be, in a folder or the folder itself, by whatever links."""
        try:
            here = self._folder(parts)
        except (FileNotFoundError, NotADirectoryError):
            here = self._folder(parts[:-1])
        top = os.fstat(self.root.fd)
        while True:
            with opened(here):
                found = os.fstat(here)
                if os.path.samestat(found, folder):
                    return True
                if os.path.samestat(found, top):
                    return False
                # Physically upwards; it is only compared, nothing is opened there.
                here = os.open(b"..", PATH_ONLY | os.O_DIRECTORY, dir_fd=here)
                if os.path.samestat(os.fstat(here), found):  # moved out meanwhile, to /
                    os.close(here)
                    return False

    def _copy_folder(
        self, old: list[bytes], new: list[bytes], source: str, *, replace: bool
    ) -> None:
        links = 0  # the folder itself may be given by a link; below it none is followed
        todo = [(old, new)]
        while todo:
            old, new = todo.pop()
            self._make(new, join(new), exist_ok=replace)
            with refusing(source):
                fd = self.root.open(b"/".join(old), os.O_RDONLY | os.O_DIRECTORY | links)
                with opened(fd):
                    for raw in sorted(os.fsencode(name) for name in os.listdir(fd)):
                        mode = os.stat(raw, dir_fd=fd, follow_symlinks=False).st_mode
                        if modes.S_ISDIR(mode):
                            todo.append(([*old, raw], [*new, raw]))
                        else:
                            self._copy_entry(fd, mode, [*old, raw], [*new, raw], replace=replace)
            links = os.O_NOFOLLOW

    def _copy_entry(
        self, folder: int, mode: int, here: list[bytes], there: list[bytes], *, replace: bool
    ) -> None:
        if modes.S_ISLNK(mode):
            self._copy_link(folder, here[-1], there, replace=replace)
        elif modes.S_ISREG(mode):
            with opened(self.tree.open_file(join(here))[0]) as inner:
                self._copy_file(inner, there, join(there), replace=replace)
        else:
            raise NotSupported(
                f"{join(here)!r} is a {kind_of(mode)}; only files, folders and links are copied",
                hint="delete it, or copy the rest one by one",
            )

    def _copy_link(self, folder: int, name: bytes, there: list[bytes], *, replace: bool) -> None:
        link = os.readlink(name, dir_fd=folder)
        with refusing(join(there)), opened(self._folder(there[:-1])) as parent:
            try:
                os.symlink(link, there[-1], dir_fd=parent)
            except FileExistsError:
                if not replace:
                    raise
                os.unlink(there[-1], dir_fd=parent)
                os.symlink(link, there[-1], dir_fd=parent)


def _may_write(parent: int, name: bytes) -> bool:
    """True if the system would let us open the file for writing."""
    return os.access(
        name,
        os.W_OK,
        dir_fd=parent,
        effective_ids=os.access in os.supports_effective_ids,
        follow_symlinks=False,
    )


def _remove_tree(parent: int, name: bytes) -> None:
    """Delete a directory with all in it, however deep, following no link.

    One descriptor at a time: down by name and O_NOFOLLOW, up by `..` to the directory that
    one came from, or not at all. Not shutil.rmtree: it calls itself for each level, and
    holds a descriptor for each.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    here = os.open(name, flags, dir_fd=parent)
    way = [(name, os.fstat(here))]
    try:
        while True:
            below = _clear_files(here)
            if below is not None:
                down = os.open(below, flags, dir_fd=here)
                os.close(here)
                here = down
                way.append((below, os.fstat(here)))
                continue
            empty, _ = way.pop()
            if not way:
                break
            up = os.open(b"..", flags, dir_fd=here)
            os.close(here)
            here = up
            if not os.path.samestat(os.fstat(here), way[-1][1]):
                raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            os.rmdir(empty, dir_fd=here)
    finally:
        os.close(here)
    os.rmdir(name, dir_fd=parent)


def _clear_files(folder: int) -> bytes | None:
    """Delete what is no directory, up to the first that is one; return its name."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                return os.fsencode(entry.name)
            os.unlink(entry.name, dir_fd=folder)
    return None


def _temporary(parent: int) -> tuple[int, bytes]:
    """Make a file of a new name; O_EXCL takes nobody else's, not even a link."""
    while True:
        name = TEMPORARY + b"%d-%d.tmp" % (os.getpid(), next(_serial))
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            return os.open(name, flags, 0o666, dir_fd=parent), name
        except FileExistsError:
            continue  # left by a node that was cut off, or laid as a trap: the next number


def _keep_owner(fd: int, old: os.stat_result) -> None:
    with suppress(PermissionError):  # only root may give a file away
        if (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            os.fchown(fd, old.st_uid, old.st_gid)
    os.fchmod(fd, modes.S_IMODE(old.st_mode))


def _write_all(fd: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]


def _append(fd: int, content: bytes, size: int) -> None:
    """Append in one call; what a full disk cut off is taken back."""
    written = os.write(fd, content) if content else 0
    if written == len(content):
        return
    if os.fstat(fd).st_size == size + written:  # nobody else wrote meanwhile
        os.ftruncate(fd, size)
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _pour(source: int, target: int) -> None:
    offset = 0
    while piece := os.pread(source, _CHUNK, offset):
        offset += len(piece)
        _write_all(target, piece)


def _rename_new(here: int, old: bytes, there: int, new: bytes) -> None:
    """Rename unless the new name is taken, in one step where the system can."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.renameat2(here, old, there, new, _RENAME_NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in {errno.EINVAL, errno.ENOSYS}:  # this file system cannot: below
            raise OSError(code, os.strerror(code))
    try:
        os.stat(new, dir_fd=there, follow_symlinks=False)
    except FileNotFoundError:
        os.rename(old, new, src_dir_fd=here, dst_dir_fd=there)
        return
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
