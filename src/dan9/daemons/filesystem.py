"""The filesystem daemon: the files beneath one directory, as messages.

Confinement, looking and changing are done next door (`diskfiles`, which puts together
`beneath`, `filetree`, `filechange` and `filewatch`), where nothing knows of daemons. Here
is decided what runs on the loop and what in a thread, in which order, and who owns what
is open.

Small reads run on the loop: an ask for a KiB took 116 µs in all, of which the file 38,
and 387 by way of a thread; 64 KiB took 127 and 469. What changes something, walks a
tree or reads more runs in a thread, and messages do not wait for each other; only the
messages of one sender do: what he wrote before he reads, he reads.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from dan9.base.errors import BadPayload, Dan9Error, NoSpace, NotFound, NotSupported
from dan9.base.fields import Config
from dan9.daemons.diskfiles import DiskFiles, Files, Watcher
from dan9.daemons.file_refusals import refusing
from dan9.daemons.filenames import components, join
from dan9.daemons.filetree import Entry, OpenFile, Progress, Stat, as_text, measured
from dan9.daemons.filewatch import DELETED, OVERFLOWED, Changes
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import current_message
from dan9.kernel.subscription import Subscription

if TYPE_CHECKING:
    from dan9.base.reasons import Reason

__all__ = ["Filesystem"]

P = ParamSpec("P")
T = TypeVar("T")

_SMALL = 64 * 1024
"""Bytes that are read on the loop; see above for what a thread costs."""
_SETTLE_S = 0.05
"""How long changes are gathered before they are told: a file is written in several steps."""
_MOST_PENDING = 10_000
"""Changes kept for a slow watcher; beyond, they are dropped and the next one says so."""


@dataclass(slots=True)
class _Handle:
    file: OpenFile
    owner: str
    ending: object
    offset: int = 0


class _Watch:
    """One watch: what happened and was not told yet, and the task that tells it."""

    def __init__(self, subscription: Subscription, top: str) -> None:
        self.subscription = subscription
        self.top = top
        self.changes = Changes()
        self.dropped = 0
        self.waking = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def add(self, path: str, change: str) -> None:
        if len(self.changes) >= _MOST_PENDING:
            self.dropped += 1
            return
        self.changes.add(path, change)
        self.waking.set()

    async def run(self) -> None:
        """Tell the changes, gathered for a moment, as fast as they are taken."""
        sub = self.subscription
        while True:
            await self.waking.wait()
            await asyncio.sleep(_SETTLE_S)
            self.waking.clear()
            for path, change in self.changes.take():
                extra: dict[str, object] = {}
                if self.dropped:
                    extra, self.dropped = {"dropped": self.dropped}, 0
                await sub.push(watch=sub.id, path=path, change=change, **extra)
                if change == DELETED and path == self.top:
                    sub.close()
                    return


class _Turns:
    """Keeps the messages of one sender in order where one of them changes something."""

    def __init__(self) -> None:
        self._last: dict[str, asyncio.Future[None]] = {}

    def before(self, sender: str) -> asyncio.Future[None] | None:
        """Return what the sender's message has to wait for, if anything."""
        return self._last.get(sender)

    def take(self, sender: str) -> asyncio.Future[None]:
        """Let the sender's later messages wait for this one; `give` it back."""
        mine = asyncio.get_running_loop().create_future()
        self._last[sender] = mine
        return mine

    def give(self, sender: str, mine: asyncio.Future[None]) -> None:
        """Let them go on."""
        if self._last.get(sender) is mine:
            del self._last[sender]
        if not mine.done():
            mine.set_result(None)


class Filesystem(Daemon, type="filesystem"):
    """Gives the files beneath its root, and nothing outside it.

    Paths are absolute within the root, and links resolve as under chroot.
    """

    root: Config[str] = "/"
    read_only: Config[bool] = False
    max_read_bytes: Config[int] = 16 * 1024 * 1024
    max_entries: Config[int] = 250_000
    max_handles: Config[int] = 256
    by_walk: Config[bool] = False

    async def on_start(self) -> None:
        """Open the root; the daemon keeps to it even if it is renamed."""
        self._handles: dict[str, _Handle] = {}
        self._watches: dict[str, _Watch] = {}
        self._watcher: Watcher | None = None
        self._turns = _Turns()
        self._files = self._open_files()

    def _open_files(self) -> Files:
        """Open what the daemon gives; its twin in memory gives something else."""
        return DiskFiles(
            self.root,
            read_only=self.read_only,
            max_read_bytes=self.max_read_bytes,
            max_entries=self.max_entries,
            by_walk=self.by_walk,
        )

    async def on_stop(self, reason: Reason) -> None:
        """Close what is open and end the watches."""
        for key in list(self._handles):
            self._drop_handle(key)
        for watch in list(self._watches.values()):
            watch.subscription.close()
        if self._watcher is not None:
            self._watcher.close()
        self._files.close()

    def on_status(self) -> dict[str, object]:
        """Say how paths are confined and what is open."""
        return {
            "confinement": self._files.confinement,
            "handles": len(self._handles),
            "watches": len(self._watches),
        }

    @on(concurrent=True)
    async def read(
        self, path: str, offset: int = 0, length: int | None = None, encoding: str | None = "utf-8"
    ) -> str | bytes:
        """Return what is in a file.

        Args:
            path: The file.
            offset: Byte to begin at.
            length: How many bytes; all to the end if not given.
            encoding: How bytes become text; null gives bytes.

        Errors: not-found, is-a-directory, not-a-directory, outside-root, permission, too-large,
        not-supported (a FIFO, socket or device), bad-payload (no text of that encoding).
        """
        await self._after_changes()
        file = self._files.open(path)
        try:
            wanted = measured(self.max_read_bytes, path, file.size, offset, length)
            data = await self._read(file, offset, length, wanted)
        finally:
            file.close()
        self._d9_count("bytes-read", len(data))
        return data if encoding is None else as_text(data, encoding, path)

    @on(concurrent=True)
    async def write(
        self,
        path: str,
        content: str | bytes,
        append: bool = False,
        create_parents: bool = False,
        atomic: bool = True,
        encoding: str = "utf-8",
    ) -> int:
        """Write a file and return how many bytes were written.

        Written whole, readers see the old content or the new one, also after a power cut.

        Args:
            path: The file; where it is a link, what the link leads to.
            content: Text, or bytes.
            append: Put it after what is there.
            create_parents: Make the folders that are missing.
            atomic: By a temporary file, synced and renamed; if not, in place and not synced.
            encoding: How text becomes bytes.

        Errors: not-found, is-a-directory, not-a-directory, outside-root, permission, read-only,
        no-space, not-supported (a FIFO, socket or device), bad-payload.
        """
        data = content if isinstance(content, bytes) else _encoded(content, encoding)
        written = await self._change(
            self._files.write,
            path,
            data,
            append=append,
            create_parents=create_parents,
            atomic=atomic,
        )
        self._d9_count("bytes-written", written)
        return written

    @on(concurrent=True)
    async def list_(
        self, path: str, recursive: bool = False, pattern: str | None = None
    ) -> list[Entry]:
        """List a directory, sorted; links are listed and not followed.

        Args:
            path: The directory.
            recursive: With all that is below it.
            pattern: Shell pattern of the names wanted; of paths below `path` if it has a
                slash. `**` stands for any folders.

        Errors: not-found, not-a-directory, outside-root, permission, too-large, bad-payload.
        """
        await self._after_changes()
        return await self._off_loop(self._files.entries, path, recursive=recursive, pattern=pattern)

    @on(concurrent=True)
    async def stat(self, path: str, follow: bool = True) -> Stat:
        """Describe a file without reading it.

        Args:
            path: The file.
            follow: Describe what a link leads to; if not, the link.

        Errors: not-found, not-a-directory, outside-root, permission.
        """
        await self._after_changes()
        return self._files.stat(path, follow=follow)

    @on(concurrent=True)
    async def mkdir(self, path: str, parents: bool = False, exist_ok: bool = False) -> str:
        """Make a directory and return its path.

        Args:
            path: The directory.
            parents: Make the folders above that are missing.
            exist_ok: Be content if it is there already.

        Errors: exists, not-found, not-a-directory, outside-root, permission, read-only, no-space.
        """
        return await self._change(self._files.mkdir, path, parents=parents, exist_ok=exist_ok)

    @on(concurrent=True)
    async def delete(self, path: str, recursive: bool = False) -> str:
        """Delete a file, a link (not what it leads to) or a directory; return its path.

        Args:
            path: What is to go.
            recursive: With all that is in it.

        Errors: not-found, not-empty, not-a-directory, outside-root, permission, read-only.
        """
        return await self._change(self._files.delete, path, recursive=recursive)

    @on(concurrent=True)
    async def rename(self, source: str, target: str, replace: bool = True) -> str:
        """Move a file or directory within the root, in one step; return its new path.

        Args:
            source: What to move.
            target: Its new path.
            replace: A file that is there is replaced; if not, it is refused.

        Errors: not-found, exists, not-empty, is-a-directory, not-a-directory, outside-root,
        bad-payload (into itself), permission, read-only, not-supported (to another disk).
        """
        return await self._change(self._files.rename, source, target, replace=replace)

    @on(concurrent=True)
    async def copy(
        self, source: str, target: str, recursive: bool = False, replace: bool = True
    ) -> str:
        """Copy a file, whole or not at all, or a directory; return the copy's path.

        Args:
            source: What to copy.
            target: The copy's path.
            recursive: A directory with all that is in it.
            replace: Files that are there are replaced; if not, they are refused.

        Errors: not-found, exists, is-a-directory, outside-root, permission, read-only, no-space.
        """
        return await self._change(
            self._files.copy, source, target, recursive=recursive, replace=replace
        )

    @on(concurrent=True)
    async def open_(self, path: str, offset: int = 0) -> str:
        """Open a file to be read in chunks, however large; return a handle.

        The handle is the asker's and ends with him.

        Errors: as `read`; no-space (too many handles open).
        """
        await self._after_changes()
        if offset < 0:
            raise BadPayload("offset is negative", at="offset")
        if len(self._handles) >= self.max_handles:
            raise NoSpace(
                f"{self.max_handles} handles are open, the most there may be",
                hint="close some, or raise max_handles",
            )
        owner = _sender()
        file = self._files.open(path)
        key = f"handle-{self.system.next_number()}"
        ending = None
        if owner != self.system.outside:  # code around the system ends with it
            ending = self.system.on_end_of(
                owner, functools.partial(self._drop_handle, key), owner=self._d9_cell
            )
        self._handles[key] = _Handle(file, owner, ending, offset)
        return key

    @on(concurrent=True)
    async def read_chunk(self, handle: str, length: int = 65_536) -> bytes:
        """Return the next bytes of an open file; none at its end.

        Errors: not-found (no such handle of yours), too-large, bad-payload.
        """
        held = self._handle(handle)
        wanted = measured(self.max_read_bytes, held.file.path, 0, 0, length)
        start, held.offset = held.offset, held.offset + wanted
        held.file.hold()  # a close meanwhile does not pull it from under the read
        try:
            data = await self._read(held.file, start, wanted, wanted)
        finally:
            held.file.close()
        if len(data) < wanted:
            held.offset = start + len(data)
        self._d9_count("bytes-read", len(data))
        return data

    @on
    def progress(self, handle: str) -> Progress:
        """Return how far an open file has been read.

        Errors: not-found (no such handle of yours).
        """
        held = self._handle(handle)
        return Progress(path=held.file.path, offset=held.offset, size=held.file.size)

    @on
    def close(self, handle: str) -> int:
        """Close a handle and return how far the file was read.

        Errors: not-found (no such handle of yours).
        """
        offset = self._handle(handle).offset
        self._drop_handle(handle)
        return offset

    @on(concurrent=True)
    async def watch(self, path: str, recursive: bool = True) -> str:
        """Tell the asker of changes, as `changed` messages; return the watch's id.

        `changed` has watch, path, change (`added`, `modified`, `deleted`; `overflowed`: list
        again) and, if some were dropped before it, dropped. A directory is watched with all
        below it; links are not followed. The watch ends with its asker, and with its path.

        Errors: not-found, outside-root, permission, no-space (the machine's limit of watches),
        not-supported.
        """
        if _sender() == self.system.outside:
            raise NotSupported(
                "changes are told to the asker, and code outside has no mailbox",
                hint="watch from a daemon, or from a client",
            )
        await self._after_changes()
        found = self._files.stat(path)
        parts = components(path)
        only = None if found["type"] == "directory" else parts[-1]
        top = join(parts)
        with refusing(path):
            watcher = self._watching()
        key = ""
        subscription = Subscription(
            self, _sender(), "changed", on_end=lambda: self._drop_watch(key)
        )
        key = subscription.id
        watch = _Watch(subscription, top)
        self._watches[key] = watch
        folder = parts if only is None else parts[:-1]
        try:
            with refusing(path):
                watcher.add(key, folder, recursive=recursive and only is None, only=only)
        except NoSpace:
            subscription.close()
            raise NoSpace(
                f"{path!r}: the machine's limit of watched directories is reached",
                hint="raise sysctl fs.inotify.max_user_watches, or watch less",
            ) from None
        except BaseException:
            subscription.close()
            raise
        watch.task = asyncio.get_running_loop().create_task(self._tell_changes(watch))
        return key

    @on
    def unwatch(self, watch: str) -> str:
        """End a watch; return its id.

        Errors: not-found (no such watch of yours).
        """
        found = self._watches.get(watch)
        if found is None or found.subscription.subscriber != _sender():
            raise NotFound(f"no watch {watch!r} of yours", hint="watch returns the id")
        found.subscription.close()
        return watch

    # -- order and threads --------------------------------------------------------------------

    async def _after_changes(self) -> None:
        """Wait for what the sender changed before."""
        before = self._turns.before(_sender())
        if before is not None:
            await asyncio.shield(before)

    async def _change(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do a change off the loop, after the sender's earlier ones."""
        sender = _sender()
        before = self._turns.before(sender)
        mine = self._turns.take(sender)
        try:
            if before is not None:
                await asyncio.shield(before)
            return await self._off_loop(work, *args, **kwargs)
        finally:
            self._turns.give(sender, mine)

    async def _read(self, file: OpenFile, offset: int, length: int | None, wanted: int) -> bytes:
        if wanted <= _SMALL:
            return file.read(offset, length)
        return await self._off_loop(file.read, offset, length)

    async def _off_loop(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._d9_cell.home.scheduler.one_thread:  # virtual time: threads have no place in it
            return work(*args, **kwargs)
        return await asyncio.to_thread(work, *args, **kwargs)

    # -- handles and watches ------------------------------------------------------------------

    def _handle(self, key: str) -> _Handle:
        held = self._handles.get(key)
        if held is None or held.owner != _sender():
            raise NotFound(f"no handle {key!r} of yours is open", hint="open returns the handle")
        return held

    def _drop_handle(self, key: str) -> None:
        held = self._handles.pop(key, None)
        if held is not None:
            self.system.forget_end_of(held.ending)
            held.file.close()

    def _watching(self) -> Watcher:
        if self._watcher is None:
            self._watcher = self._files.watcher(self._note)
        return self._watcher

    def _note(self, key: str, path: str, change: str) -> None:
        watch = self._watches.get(key)
        if watch is not None:
            watch.add(watch.top if change == OVERFLOWED else path, change)

    async def _tell_changes(self, watch: _Watch) -> None:
        try:
            await watch.run()
        except Dan9Error:
            pass  # the subscriber ended while it was told
        finally:
            watch.subscription.close()

    def _drop_watch(self, key: str) -> None:
        watch = self._watches.pop(key, None)
        if watch is None:
            return
        if self._watcher is not None:
            self._watcher.remove(key)
        if watch.task is not None:
            watch.task.cancel()


def _sender() -> str:
    message = current_message()
    return message.sender if message is not None else ""


def _encoded(content: str, encoding: str) -> bytes:
    try:
        return content.encode(encoding)
    except UnicodeEncodeError as error:
        raise BadPayload(
            f"content has a character that {encoding} cannot write, at {error.start}",
            hint="use utf-8",
            at="content",
        ) from None
    except LookupError:
        raise BadPayload(f"{encoding!r} is no text encoding", at="encoding") from None
