"""What the operating system says no with, as answers that have a name.

One table from errno to refusal, so that a missing file is an answer and never a crash.
"""

from __future__ import annotations

import errno
import os
from types import TracebackType

from dan9.base.errors import (
    BadPayload,
    Conflict,
    Exists,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotEmpty,
    NotFound,
    NotSupported,
    OutsideRoot,
    PermissionRefused,
    ReadOnly,
    Refused,
)

__all__ = ["IoFailed", "TooLarge", "refusal", "refusing"]


class TooLarge(Refused):
    """More than the daemon gives in one reply."""

    code = "too-large"


class IoFailed(Refused):
    """The medium failed, or the operating system said something that has no name here."""

    code = "io-failed"


_TABLE: dict[int, tuple[type[Refused], str, str]] = {
    errno.ENOENT: (NotFound, "no such file or directory", "list its folder to see what is there"),
    errno.EEXIST: (Exists, "is already there", ""),
    errno.ENOTDIR: (NotADirectory, "a part of the path is no directory", ""),
    errno.EISDIR: (IsADirectory, "is a directory", "list shows what is in it"),
    errno.ENOTEMPTY: (NotEmpty, "the directory is not empty", "recursive=true takes all of it"),
    errno.EROFS: (ReadOnly, "the medium is mounted read-only", ""),
    errno.ENOSPC: (NoSpace, "no space is left on the disk", "free some, or raise the limit"),
    errno.EDQUOT: (NoSpace, "the disk quota is used up", "free some, or raise the quota"),
    errno.EFBIG: (NoSpace, "the file would be larger than is allowed", ""),
    errno.EMFILE: (NoSpace, "this node has too many files open", "close handles; see ulimit -n"),
    errno.ENFILE: (NoSpace, "this machine has too many files open", "see fs.file-max"),
    errno.EACCES: (PermissionRefused, "permission denied", "stat shows owner and mode"),
    errno.EPERM: (PermissionRefused, "the operating system forbids it", ""),
    errno.ELOOP: (
        OutsideRoot,
        "its links lead in a circle or, as those of /proc do, out of any root",
        "name the file itself",
    ),
    errno.EINVAL: (BadPayload, "cannot be done with this path", "nothing goes into itself"),
    errno.ENAMETOOLONG: (BadPayload, "the name is too long", "a name has at most 255 bytes"),
    errno.EXDEV: (NotSupported, "source and target are on different disks", "copy, then delete"),
    errno.ENXIO: (NotSupported, "is no regular file", ""),
    errno.EOPNOTSUPP: (NotSupported, "this file system cannot do that", ""),
    errno.EBUSY: (Conflict, "is in use", ""),
    errno.ETXTBSY: (Conflict, "is a program that runs", "write it whole (atomic=true)"),
    errno.EAGAIN: (Conflict, "nothing to be had without waiting, or exchanged meanwhile", "retry"),
}


_SHOWN = 400  # characters of a path in an error's text


def refusal(error: OSError, path: str) -> Refused:
    """Return the named refusal for what the operating system said about `path`."""
    path = path if len(path) <= _SHOWN else f"{path[:_SHOWN]}…"
    code = error.errno or errno.EIO
    known = _TABLE.get(code)
    if known is None:
        return IoFailed(f"{path!r}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")
    cls, text, hint = known
    return cls(f"{path!r}: {text}", hint=hint)


class refusing:  # noqa: N801  (reads as a statement: `with refusing(path):`)
    """Turn every OSError of the block into its refusal.

    A class rather than a generator: it is on the path of every read (0.3 against 1.2 µs).
    """

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, OSError) and not isinstance(error, Refused):
            raise refusal(error, self.path) from None
