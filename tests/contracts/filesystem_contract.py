"""What every filesystem daemon must do, on a disk or in memory.

A module that imports these tests gives them a fixture `files`: something that runs an
async function with a fresh, empty filesystem daemon (configured as asked) and its system.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dan9.base.errors import (
    BadPayload,
    Exists,
    IsADirectory,
    NoSpace,
    NotADirectory,
    NotEmpty,
    NotFound,
    OutsideRoot,
    PermissionRefused,
    ReadOnly,
    Refused,
    UnknownMessage,
)
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System


async def until(system: System, address: str, key: str, value: object) -> None:
    """Return once the daemon's status says so; asking lets everything else go on."""
    while (await system.ask(address, "status"))[key] != value:
        pass


Body = Callable[[Any, System], Awaitable[None]]
Files = Callable[..., None]
"""`files(body, **config)`: config as of the daemon; `links={path: target}` are made first."""


class Watching(Daemon):
    """Takes `changed` messages, and says when it has seen what was waited for."""

    async def on_start(self) -> None:
        """Nothing seen yet."""
        self._seen: dict[str, str] = {}
        self._more = asyncio.Event()
        self._gate = asyncio.Event()
        self._gate.set()

    @on(concurrent=True)
    async def changed(self, watch: str, path: str, change: str, dropped: int = 0) -> None:
        """Take one."""
        await self._gate.wait()
        self._seen[path] = change
        self._more.set()

    @on(concurrent=True)
    async def watch(self, fs: str, path: str, recursive: bool = True) -> str:
        """Watch a path of a filesystem."""
        made: str = await self.ask(fs, "watch", path=path, recursive=recursive)
        return made

    @on(concurrent=True)
    async def unwatch(self, fs: str, watch: str) -> str:
        """End it."""
        ended: str = await self.ask(fs, "unwatch", payload={"watch": watch})
        return ended

    @on(concurrent=True, timeout_s=20)
    async def saw(self, path: str, change: str) -> dict[str, str]:
        """Return all that was seen once that was."""
        while self._seen.get(path) != change:
            self._more.clear()
            await self._more.wait()
        return dict(self._seen)

    @on(concurrent=True)
    async def opened(self, fs: str, path: str) -> str:
        """Open a file."""
        handle: str = await self.ask(fs, "open", path=path)
        return handle


def test_what_is_written_is_read(files: Files) -> None:
    """Text and bytes come back as they went."""

    async def body(fs: Any, _: System) -> None:
        assert await fs.write("/text", "gr\u00fc\u00df\n") == 7
        assert await fs.read("/text") == "gr\u00fc\u00df\n"
        assert await fs.read("text", encoding=None) == "gr\u00fc\u00df\n".encode()
        assert await fs.write("/bytes", b"\x00\xff") == 2
        assert await fs.read("/bytes", encoding=None) == b"\x00\xff"
        assert await fs.read("/bytes", encoding="latin-1") == "\x00\xff"
        assert await fs.write("/latin", "\xff", encoding="latin-1") == 1
        assert await fs.write("/empty", "") == 0
        assert await fs.read("/empty") == ""

    files(body)


def test_a_part_is_read_by_offset_and_length(files: Files) -> None:
    """Counted in bytes; short at the end, empty beyond it."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/f", "0123456789")
        assert await fs.read("/f", offset=3, length=4) == "3456"
        assert await fs.read("/f", offset=8, length=4) == "89"
        assert await fs.read("/f", offset=8) == "89"
        assert await fs.read("/f", offset=99) == ""
        assert await fs.read("/f", length=0) == ""
        for bad in ({"offset": -1}, {"length": -1}):
            with pytest.raises(BadPayload):
                await fs.read("/f", **bad)

    files(body)


def test_writing_again_replaces_and_append_adds(files: Files) -> None:
    """In every mode of writing."""

    async def body(fs: Any, _: System) -> None:
        for atomic in (True, False):
            await fs.write("/f", "long content", atomic=atomic)
            await fs.write("/f", "short", atomic=atomic)
            assert await fs.read("/f") == "short"
            await fs.write("/f", "er", append=True, atomic=atomic)
            assert await fs.read("/f") == "shorter"
            await fs.write(f"/new-{atomic}", "x", append=True, atomic=atomic)
            assert await fs.read(f"/new-{atomic}") == "x"
        names = [e["name"] for e in await fs.list_("/")]
        assert names == ["f", "new-False", "new-True"]

    files(body)


def test_parents_are_made_when_asked_for(files: Files) -> None:
    """Otherwise a missing folder is not-found."""

    async def body(fs: Any, _: System) -> None:
        with pytest.raises(NotFound):
            await fs.write("/a/b/f", "x")
        await fs.write("/a/b/f", "x", create_parents=True)
        assert await fs.read("/a/b/f") == "x"
        with pytest.raises(NotADirectory):
            await fs.write("/a/b/f/g", "x", create_parents=True)
        with pytest.raises(NotADirectory):
            await fs.write("/a/b/f/g", "x")

    files(body)


def test_reading_what_cannot_be_read(files: Files) -> None:
    """Each reason has its name."""

    async def body(fs: Any, _: System) -> None:
        await fs.mkdir("/folder")
        await fs.write("/bytes", b"\xff")
        for path, error in (
            ("/none", NotFound),
            ("/none/deeper", NotFound),
            ("/folder", IsADirectory),
            ("/", IsADirectory),
            ("/bytes/x", NotADirectory),
            ("/../x", OutsideRoot),
            ("", BadPayload),
            ("/a\0b", BadPayload),
            ("/" + "y" * 300, BadPayload),
        ):
            with pytest.raises(error):
                await fs.read(path)
        with pytest.raises(BadPayload, match="no utf-8 text at byte 0"):
            await fs.read("/bytes")
        with pytest.raises(BadPayload, match="no text encoding"):
            await fs.read("/bytes", encoding="klingon")
        with pytest.raises(BadPayload, match="cannot write"):
            await fs.write("/x", "\u20ac", encoding="latin-1")

    files(body)


def test_more_than_one_reply_may_hold_is_read_in_chunks(files: Files) -> None:
    """The refusal points at open and read-chunk, and they give all of it."""

    async def body(fs: Any, _: System) -> None:
        content = bytes(range(256)) * 40
        await fs.write("/big", content)
        with pytest.raises(Refused, match="read-chunk") as caught:
            await fs.read("/big", encoding=None)
        assert caught.value.code == "too-large"
        with pytest.raises(Refused):
            await fs.read("/big", encoding=None, length=2000)
        handle = await fs.open_("/big")
        pieces = []
        while piece := await fs.read_chunk(handle, length=1000):
            pieces.append(piece)
        assert b"".join(pieces) == content
        assert await fs.progress(handle) == {"path": "/big", "offset": 10240, "size": 10240}
        with pytest.raises(Refused):
            await fs.read_chunk(handle, length=2000)
        assert await fs.close(handle) == 10240
        for late in (fs.read_chunk(handle), fs.close(handle), fs.progress(handle)):
            with pytest.raises(NotFound, match="no handle"):
                await late

    files(body, max_read_bytes=1024)


def test_handles_are_limited_and_end_with_their_owner(files: Files) -> None:
    """A daemon that is gone has nothing open, and nobody uses another's handle."""

    async def body(fs: Any, system: System) -> None:
        await fs.write("/f", "x")
        watching = await system.spawn(Watching, "w", restart="temporary")
        fs_address = system.addresses("filesystem/**")[0]
        theirs = await watching.opened(fs_address, "/f")
        with pytest.raises(NotFound, match="of yours"):
            await fs.read_chunk(theirs)
        mine = await fs.open_("/f", offset=1)
        assert await fs.read_chunk(mine) == b""
        with pytest.raises(NoSpace, match="2 handles"):
            await fs.open_("/f")
        await system.ask("w", "stop")
        await until(system, fs_address, "handles", 1)
        third = await fs.open_("/f")
        await fs.delete("/f")
        assert await fs.read_chunk(third) == b"x"
        with pytest.raises(BadPayload):
            await fs.open_("/f", offset=-1)

    files(body, max_handles=2)


def test_a_listing_is_sorted_and_says_what_is_there(files: Files) -> None:
    """Name, path, type, size and time; a folder before what is in it."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/b/c/deep.txt", "12345", create_parents=True)
        await fs.write("/b/a.txt", "1")
        await fs.write("/a", "22")
        entries = await fs.list_("/")
        assert [(e["name"], e["type"]) for e in entries] == [("a", "file"), ("b", "directory")]
        assert entries[0]["size"] == 2
        assert entries[0]["mtime"] > 0
        paths = [e["path"] for e in await fs.list_("/", recursive=True)]
        assert paths == ["/a", "/b", "/b/a.txt", "/b/c", "/b/c/deep.txt"]
        assert [e["path"] for e in await fs.list_("/b/c")] == ["/b/c/deep.txt"]
        with pytest.raises(NotADirectory):
            await fs.list_("/a")
        with pytest.raises(NotFound):
            await fs.list_("/none")

    files(body)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.txt", ["/a.txt", "/x/b.txt", "/x/y/c.txt"]),
        ("?.md", ["/x/d.md"]),
        ("x/*.txt", ["/x/b.txt"]),
        ("**/*.txt", ["/a.txt", "/x/b.txt", "/x/y/c.txt"]),
        ("x/**", ["/x/b.txt", "/x/d.md", "/x/y", "/x/y/c.txt"]),
        ("[ab].txt", ["/a.txt", "/x/b.txt"]),
        ("[!ab].txt", ["/x/y/c.txt"]),
        ("none", []),
    ],
)
def test_a_listing_by_pattern(files: Files, pattern: str, found: list[str]) -> None:
    """Names by default, paths where the pattern has a slash."""

    async def body(fs: Any, _: System) -> None:
        for path in ("/a.txt", "/x/b.txt", "/x/d.md", "/x/y/c.txt"):
            await fs.write(path, "", create_parents=True)
        entries = await fs.list_("/", recursive=True, pattern=pattern)
        assert [e["path"] for e in entries] == found

    files(body)


def test_patterns_that_are_none(files: Files) -> None:
    """An open bracket and an empty pattern are refused."""

    async def body(fs: Any, _: System) -> None:
        for pattern in ("[a", "", "[z-a]"):
            with pytest.raises(BadPayload, match="pattern"):
                await fs.list_("/", pattern=pattern)

    files(body)


def test_a_listing_has_a_limit(files: Files) -> None:
    """Beyond it, it is refused rather than cut."""

    async def body(fs: Any, _: System) -> None:
        for number in range(4):
            await fs.write(f"/f{number}", "")
        with pytest.raises(Refused, match="more than 3"):
            await fs.list_("/")
        assert len(await fs.list_("/", pattern="f[12]")) == 2

    files(body, max_entries=3)


def test_stat_describes(files: Files) -> None:
    """Without reading it; of a link what it leads to, or itself."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/f", "12345")
        stat = await fs.stat("/f")
        assert (stat["name"], stat["path"], stat["type"], stat["size"]) == ("f", "/f", "file", 5)
        assert stat["mode"] == "0644"
        assert stat["owner"]
        assert "target" not in stat
        assert (await fs.stat("/"))["type"] == "directory"
        assert (await fs.stat("/link"))["size"] == 5
        link = await fs.stat("/link", follow=False)
        assert (link["type"], link["target"]) == ("link", "f")
        with pytest.raises(NotFound):
            await fs.stat("/none")
        with pytest.raises(NotFound):
            await fs.stat("/dangling")
        assert (await fs.stat("/dangling", follow=False))["type"] == "link"

    files(body, links={"/link": "f", "/dangling": "nowhere"})


def test_links_resolve_as_under_chroot(files: Files) -> None:
    """Reading and writing follow them; `..` and absolute links stay within the root."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/a/f", "x", create_parents=True)
        for link in ("/abs", "/up", "/rel"):
            assert await fs.read(link) == "x"
        await fs.write("/rel", "changed")
        await fs.write("/abs", "!", append=True)
        assert await fs.read("/a/f") == "changed!"
        assert (await fs.stat("/rel", follow=False))["type"] == "link"
        await fs.write("/dangling", "made")
        assert await fs.read("/nowhere") == "made"
        with pytest.raises(OutsideRoot, match="circle"):
            await fs.read("/loop")
        with pytest.raises(IsADirectory):
            await fs.write("/folder", "x")
        await fs.delete("/rel")
        assert await fs.read("/a/f") == "changed!"
        assert [e["type"] for e in await fs.list_("/", pattern="abs")] == ["link"]

    links = {
        "/abs": "/a/f",
        "/up": "../../a/f",
        "/rel": "a/f",
        "/dangling": "nowhere",
        "/loop": "loop",
        "/folder": "a",
    }
    files(body, links=links)


def test_directories_are_made(files: Files) -> None:
    """With parents when asked; twice only when content with it."""

    async def body(fs: Any, _: System) -> None:
        assert await fs.mkdir("/a") == "/a"
        with pytest.raises(Exists):
            await fs.mkdir("/a")
        assert await fs.mkdir("a/", exist_ok=True) == "/a"
        with pytest.raises(NotFound):
            await fs.mkdir("/x/y")
        assert await fs.mkdir("/x/y/z", parents=True) == "/x/y/z"
        await fs.write("/f", "")
        with pytest.raises(Exists):
            await fs.mkdir("/f")
        with pytest.raises(NotADirectory):
            await fs.mkdir("/f", exist_ok=True)
        with pytest.raises(NotADirectory):
            await fs.mkdir("/f/g", parents=True)

    files(body)


def test_deleting(files: Files) -> None:
    """Files and empty folders go; full ones only when that is said."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/a/b/f", "x", create_parents=True)
        with pytest.raises(NotEmpty):
            await fs.delete("/a")
        assert await fs.delete("/a/b/f") == "/a/b/f"
        await fs.delete("/a/b")
        await fs.write("/a/b/c/f", "x", create_parents=True)
        await fs.delete("/a", recursive=True)
        assert await fs.list_("/") == []
        with pytest.raises(NotFound):
            await fs.delete("/a")
        with pytest.raises(PermissionRefused):
            await fs.delete("/", recursive=True)

    files(body)


def test_renaming(files: Files) -> None:
    """Files and folders move; what is there is replaced unless told not to."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/one", "1")
        await fs.write("/two", "2")
        assert await fs.rename("/one", "/three") == "/three"
        with pytest.raises(Exists):
            await fs.rename("/two", "/three", replace=False)
        await fs.rename("/two", "/three")
        assert await fs.read("/three") == "2"
        await fs.rename("/three", "/three")
        await fs.write("/d/f", "x", create_parents=True)
        await fs.mkdir("/e")
        await fs.rename("/d", "/e")
        assert await fs.read("/e/f") == "x"
        with pytest.raises(BadPayload, match="inside"):
            await fs.rename("/e", "/e/deeper")
        with pytest.raises(IsADirectory):
            await fs.rename("/three", "/e")
        with pytest.raises(NotADirectory):
            await fs.rename("/e", "/three")
        await fs.mkdir("/g")
        with pytest.raises(NotEmpty):
            await fs.rename("/g", "/e")
        for source, target in (("/none", "/x"), ("/three", "/none/x")):
            with pytest.raises(NotFound):
                await fs.rename(source, target)
        with pytest.raises(OutsideRoot):
            await fs.rename("/three", "/../x")

    files(body)


SOURCES = ("file", "empty", "full", "none")
_IN_FULL = ("/top/mid/full/x", "/top/mid/full/in")
_THERE = ("/file", "/empty", "/full", "/top", "/top/mid", *_IN_FULL)
_INSIDE = (NotADirectory, BadPayload, BadPayload, NotFound)
RENAMES: dict[str, tuple[type[Refused] | None, ...]] = {
    # goal: what moving a file, an empty, a full directory, and nothing, from /top/mid is refused as
    "/new": (None, None, None, NotFound),
    "/file": (None, NotADirectory, NotADirectory, NotFound),
    "/empty": (IsADirectory, None, None, NotFound),
    "/full": (IsADirectory, NotEmpty, NotEmpty, NotFound),
    "/top/mid": (NotEmpty, NotEmpty, NotEmpty, NotFound),
    "/top": (NotEmpty, NotEmpty, NotEmpty, NotFound),
    "/top/mid/{}": (None, None, None, NotFound),
    "/top/mid/{}/new": _INSIDE,
    "/top/mid/{}/x": _INSIDE,
    "/top/mid/{}/in": _INSIDE,
    "/top/mid/{}/in/new": (NotADirectory, NotFound, BadPayload, NotFound),
}


@pytest.mark.parametrize("replace", [True, False])
@pytest.mark.parametrize("way", ["/top", "/way"])
@pytest.mark.parametrize("goal", RENAMES)
def test_renaming_is_refused_as_by_the_kernel(
    files: Files, goal: str, way: str, replace: bool
) -> None:
    """Each kind onto each kind, above, below and itself, also by a link: rename(2) of Linux.

    What is above the source is not empty, whatever the source is; who is told not to
    replace hears that the goal exists before anything else about it.
    """

    async def body(fs: Any, _: System) -> None:
        async def held() -> list[str]:
            return [e["path"] for e in await fs.list_("/", recursive=True)]

        for kind, refused in zip(SOURCES, RENAMES[goal], strict=True):
            source, target = f"/top/mid/{kind}", goal.format(kind)
            for entry in await fs.list_("/", pattern="[!w]*"):
                await fs.delete(entry["path"], recursive=True)
            for path in ("/file", "/full/y", "/top/mid/file", *_IN_FULL[:1]):
                await fs.write(path, path, create_parents=True)
            for path in ("/empty", "/top/mid/empty", *_IN_FULL[1:]):
                await fs.mkdir(path)
            before = await held()
            if not replace and kind != "none" and target in (source, *_THERE):
                refused = Exists  # noqa: PLW2901  (the table is of replace=true)
            spelled = target.replace("/top/", f"{way}/")
            if refused is not None:
                with pytest.raises(refused):
                    await fs.rename(source, spelled, replace=replace)
                assert await held() == before
                continue
            moved = [path for path in before if path == source or path.startswith(f"{source}/")]
            assert await fs.rename(source, spelled, replace=replace) == spelled
            after = {*before} - {*moved} | {target + path[len(source) :] for path in moved}
            assert {*await held()} == after
            if kind == "file":
                assert await fs.read(target) == source

    files(body, links={"/way": "top"})


def test_a_link_may_go_where_it_leads(files: Files) -> None:
    """It is not the folder, so that what is below its name is not inside it."""

    async def body(fs: Any, _: System) -> None:
        await fs.mkdir("/d")
        await fs.rename("/link", "/link/moved")
        assert [e["path"] for e in await fs.list_("/", recursive=True)] == ["/d", "/d/moved"]

    files(body, links={"/link": "d"})


def test_copying(files: Files) -> None:
    """A file with its time, a folder with all in it, links as links."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/d/f", "x", create_parents=True)
        assert await fs.copy("/d/f", "/g") == "/g"
        assert await fs.read("/g") == "x"
        assert abs((await fs.stat("/g"))["mtime"] - (await fs.stat("/d/f"))["mtime"]) < 0.001
        with pytest.raises(Exists):
            await fs.copy("/d/f", "/g", replace=False)
        with pytest.raises(IsADirectory):
            await fs.copy("/d", "/e")
        with pytest.raises(IsADirectory):
            await fs.copy("/g", "/d")
        await fs.copy("/d", "/e", recursive=True)
        assert await fs.read("/e/f") == "x"
        with pytest.raises(Exists):
            await fs.copy("/d", "/e", recursive=True, replace=False)
        with pytest.raises(BadPayload, match="inside"):
            await fs.copy("/d", "/d/d", recursive=True)
        with pytest.raises(NotFound):
            await fs.copy("/none", "/x")
        await fs.copy("/link", "/followed")
        assert (await fs.stat("/followed", follow=False))["type"] == "file"

    files(body, links={"/link": "d/f"})


def test_read_only_refuses_every_change(files: Files) -> None:
    """And lets everything be looked at."""

    async def body(fs: Any, _: System) -> None:
        for change in (
            fs.write("/x", "x"),
            fs.mkdir("/x"),
            fs.delete("/x"),
            fs.rename("/x", "/y"),
            fs.copy("/x", "/y"),
        ):
            with pytest.raises(ReadOnly, match="read-only"):
                await change
        assert await fs.list_("/") == []

    files(body, read_only=True)


def test_each_senders_messages_keep_their_order(files: Files) -> None:
    """What one wrote before he reads, he reads, however slow writing is."""

    async def body(fs: Any, _: System) -> None:
        for number in range(20):
            fs.write.tell("/f", f"{number} " * 100)
            fs.write.tell("/log", f"{number},", append=True)
        assert await fs.read("/f") == "19 " * 100
        assert await fs.read("/log") == "".join(f"{n}," for n in range(20))

    files(body)


def test_names_that_are_no_text(files: Files) -> None:
    """They are listed as text that finds them again."""

    async def body(fs: Any, _: System) -> None:
        await fs.write("/\uef80\n\uefff", "x")
        (entry,) = await fs.list_("/")
        assert entry["name"] == "\uef80\n\uefff"
        assert await fs.read(entry["path"]) == "x"

    files(body)


def test_wrong_messages(files: Files) -> None:
    """An unknown message, a missing key, a wrong type: refused by name."""

    async def body(_: Any, system: System) -> None:
        fs = system.addresses("filesystem/**")[0]
        with pytest.raises(UnknownMessage, match="reed"):
            await system.ask(fs, "reed", path="/")
        for payload in ({}, {"path": 5}, {"path": "/", "offset": "x"}, {"path": "/", "what": 1}):
            with pytest.raises(BadPayload):
                await system.ask(fs, "read", payload=payload)

    files(body)


def test_changes_are_told_to_who_watches(files: Files) -> None:
    """Added, modified, deleted; below only if recursive; until unwatched."""

    async def body(fs: Any, system: System) -> None:
        await fs.mkdir("/w")
        address = system.addresses("filesystem/**")[0]
        deep = await system.spawn(Watching, "deep")
        flat = await system.spawn(Watching, "flat")
        watch = await deep.watch(address, "/w")
        await flat.watch(address, "/w", recursive=False)
        await fs.write("/w/f", "x")
        assert await deep.saw("/w/f", "added") == {"/w/f": "added"}
        await fs.write("/w/f", "y", append=True)
        await deep.saw("/w/f", "modified")
        await fs.write("/w/a/b/g", "x", create_parents=True)
        await deep.saw("/w/a/b/g", "added")
        await fs.delete("/w/f")
        await deep.saw("/w/f", "deleted")
        assert "/w/a/b/g" not in await flat.saw("/w/f", "deleted")
        assert await deep.unwatch(address, watch) == watch
        await fs.write("/w/late", "x")
        assert "/w/late" not in await deep.saw("/w/f", "deleted")
        await flat.saw("/w/late", "added")
        with pytest.raises(NotFound, match="no watch"):
            await deep.unwatch(address, watch)
        with pytest.raises(NotFound):
            await deep.watch(address, "/none")
        assert (await system.ask(address, "status"))["watches"] == 1

    files(body)


def test_one_file_is_watched(files: Files) -> None:
    """Also when it is replaced; nothing else in its folder is told."""

    async def body(fs: Any, system: System) -> None:
        await fs.write("/f", "x")
        address = system.addresses("filesystem/**")[0]
        watching = await system.spawn(Watching, "one")
        await watching.watch(address, "/f")
        await fs.write("/other", "x")
        await fs.write("/f", "z", append=True)
        assert await watching.saw("/f", "modified") == {"/f": "modified"}

    files(body)


def test_a_watch_ends_with_its_path_and_with_its_watcher(files: Files) -> None:
    """Nothing is left of it."""

    async def body(fs: Any, system: System) -> None:
        await fs.mkdir("/w")
        address = system.addresses("filesystem/**")[0]
        watching = await system.spawn(Watching, "one", restart="temporary")
        await watching.watch(address, "/w")
        await fs.delete("/w")
        await watching.saw("/w", "deleted")
        await until(system, address, "watches", 0)
        await watching.watch(address, "/")
        await system.ask("one", "stop")
        await until(system, address, "watches", 0)

    files(body)
