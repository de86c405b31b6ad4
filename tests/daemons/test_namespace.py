"""The namespace daemon: paths that mean daemons, unions, and views for subtrees."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import (
    BadAddress,
    BadPayload,
    IsADirectory,
    NotFound,
    NotSupported,
    PermissionRefused,
    Refused,
    UnknownDaemon,
)
from dan9.daemons.filesystem import Filesystem
from dan9.daemons.mountscript import read_script, write_script
from dan9.daemons.namespace import BINDINGS, Namespace
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore

NS = "d9://namespace/system/namespace"


class Echo(Daemon):
    """Says who it is and what path reached it."""

    @on
    def say(self, path: str = "") -> str:
        """Say it."""
        return f"{self.name}:{path}"

    @on
    def plain(self, word: str) -> str:
        """Say a word; takes no path."""
        return f"{self.name} {word}"

    @on
    async def through(self, path: str, type_: str = "say") -> Any:
        """Ask a path, as this daemon sees it."""
        return await self.ask(path, type_)

    @on
    async def child(self, name: str) -> str:
        """Spawn one more."""
        ref = await self.spawn(Echo, name)
        return str(ref.address) if hasattr(ref, "address") else name

    @on
    async def fork(self, mode: str) -> str:
        """Take a view of its own."""
        view: str = await self.ask(NS, "fork", mode=mode)
        return view

    @on
    async def rebind(self, path: str, target: str) -> None:
        """Bind in its own view."""
        await self.ask(NS, "bind", path=path, target=target)


def with_namespace(main: Callable[[System], Awaitable[None]], **config: Any) -> None:
    """Run with a namespace daemon and the daemons a, b and c."""

    async def body() -> None:
        async with system() as s:
            await s.spawn(Namespace, "namespace", group="system", **config)
            for name in "abc":
                await s.spawn(Echo, name, group="demo")
            await main(s)

    run(body)


def place(tmp_path: Path, name: str, **files: str) -> str:
    """Make a folder with files."""
    folder = tmp_path / name
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text)
    return str(folder)


async def bind(s: System, path: str, target: str, **more: Any) -> None:
    """Bind."""
    await s.ask(NS, "bind", path=path, target=target, **more)


def test_boot_binds_the_system_daemons() -> None:
    """Every name that boot binds is there, also while its daemon is not."""

    async def main(s: System) -> None:
        names = [entry["name"] for entry in await s.ask(NS, "list")]
        assert names == sorted(path[1:] for path in BINDINGS)
        found = await s.ask(NS, "lookup", path="/fs/etc/hostname")
        assert found["address"] == "d9://filesystem/system/filesystem"
        assert found["path"] == "/etc/hostname"
        with pytest.raises(UnknownDaemon):
            await s.ask("/fs", "read", path="/x")

    with_namespace(main)


def test_a_message_to_a_path_reaches_the_daemon_with_the_rest() -> None:
    """The bound prefix picks the daemon; what is left is its `path`."""

    async def main(s: System) -> None:
        await bind(s, "/x/a", "a")
        assert await s.ask("/x/a", "say") == "a:/"
        assert await s.ask("/x/a/deep/er", "say") == "a:/deep/er"
        assert await s.ask("/x/a/", "plain", word="hi") == "a hi"
        assert await s.ask("/x/a", "say", path="/own") == "a:/own"
        with pytest.raises(BadPayload, match="twice"):
            await s.ask("/x/a/deep", "say", path="/own")
        with pytest.raises(BadPayload, match="takes no path"):
            await s.ask("/x/a/deep", "plain", word="hi")
        assert await s.ask("/x/a/deep", "ping") == "pong"

    with_namespace(main)


def test_a_path_nobody_has() -> None:
    """An unknown name is not-found; a folder of names is no daemon."""

    async def main(s: System) -> None:
        await bind(s, "/x/a", "a")
        for path in ("/nowhere", "/x/b", "/x/../nowhere"):
            with pytest.raises(NotFound, match="no such name"):
                await s.ask(path, "say")
        with pytest.raises(IsADirectory, match="folder of names"):
            await s.ask("/x", "say")
        with pytest.raises(NotFound):
            await s.ask(NS, "list", path="/nowhere")

    with_namespace(main)


def test_the_longest_bound_prefix_wins() -> None:
    """A binding inside another daemon's tree takes its part."""

    async def main(s: System) -> None:
        await bind(s, "/x", "a")
        await bind(s, "/x/y", "b")
        assert await s.ask("/x/z", "say") == "a:/z"
        assert await s.ask("/x/y/z", "say") == "b:/z"

    with_namespace(main)


def test_bindings_are_keyed_by_what_is_bound_not_by_its_spelling() -> None:
    """Another path to the same place meets the same binding."""

    async def main(s: System) -> None:
        await bind(s, "/one", "a")
        await bind(s, "/two", "/one/sub")
        await bind(s, "/two/deep", "b")
        assert await s.ask("/one/sub/deep/x", "say") == "b:/x"
        assert await s.ask("/one/sub/x", "say") == "a:/sub/x"

    with_namespace(main)


def test_dotdot_undoes_the_way_one_came() -> None:
    """`..` of a bound place is where the path came from, not where the place lies."""

    async def main(s: System) -> None:
        await bind(s, "/near/x", "a")
        await bind(s, "/near/b", "b")
        await bind(s, "/far", "/near/x")
        assert await s.ask("/near/x/../b/q", "say") == "b:/q"
        assert await s.ask("/far/q/../r", "say") == "a:/r"
        with pytest.raises(NotFound):
            await s.ask("/far/../b", "say")
        assert await s.ask("/../../near/b", "say") == "b:/"

    with_namespace(main)


def test_a_new_binding_masks_and_unbinding_uncovers() -> None:
    """What was below a replaced folder is hidden, and back after unbind."""

    async def main(s: System) -> None:
        await bind(s, "/x/y", "a")
        await bind(s, "/x", "b")
        assert await s.ask("/x/y", "say") == "b:/y"
        await s.ask(NS, "unbind", path="/x")
        assert await s.ask("/x/y", "say") == "a:/"
        await s.ask(NS, "unbind", path="/x/y")
        with pytest.raises(NotFound):
            await s.ask("/x", "say")
        with pytest.raises(NotFound, match="nothing is bound"):
            await s.ask(NS, "unbind", path="/x/y")

    with_namespace(main)


def test_a_union_is_searched_in_order(tmp_path: Path) -> None:
    """The first member that has the file answers; the listing shows members in order."""

    async def main(s: System) -> None:
        one = place(tmp_path, "one", both="one", only1="1")
        two = place(tmp_path, "two", both="two", only2="2")
        await s.spawn(Filesystem, "one", root=one)
        await s.spawn(Filesystem, "two", root=two)
        await bind(s, "/u", "one")
        await bind(s, "/u", "two", order="after")
        assert await s.ask("/u/both", "read") == "one"
        assert await s.ask("/u/only2", "read") == "2"
        await bind(s, "/u", "two", order="before")
        assert await s.ask("/u/both", "read") == "two"
        assert await s.ask("/u/only1", "read") == "1"
        with pytest.raises(NotFound):
            await s.ask("/u/none", "read")
        listed = await s.ask(NS, "list", path="/u")
        assert [(e["name"], e["member"]) for e in listed] == [
            ("both", 0),
            ("only2", 0),
            ("both", 1),
            ("only1", 1),
        ]
        assert [e["name"] for e in await s.ask("/u", "list")] == ["both", "only2", "both", "only1"]
        found = await s.ask(NS, "lookup", path="/u")
        assert [m["address"] for m in found["members"]] == [
            "d9://filesystem/default/two",
            "d9://filesystem/default/one",
        ]
        found = await s.ask(NS, "lookup", path="/u/only1")
        assert (found["address"], found["path"]) == ("d9://filesystem/default/one", "/only1")
        await s.ask(NS, "unbind", path="/u", target="two")
        with pytest.raises(NotFound):
            await s.ask("/u/only2", "read")
        with pytest.raises(NotFound, match="no such member"):
            await s.ask(NS, "unbind", path="/u", target="two")

    with_namespace(main)


def test_new_names_in_a_union_go_to_the_member_bound_to_create(tmp_path: Path) -> None:
    """The folder itself is no place of creation unless bound so; then it is refused."""

    async def main(s: System) -> None:
        one, two = place(tmp_path, "one"), place(tmp_path, "two", old="old")
        await s.spawn(Filesystem, "one", root=one)
        await s.spawn(Filesystem, "two", root=two)
        await bind(s, "/u", "one")
        await bind(s, "/u", "two", order="after")
        with pytest.raises(PermissionRefused, match="takes new names"):
            await s.ask("/u/new", "write", content="x")
        await s.ask("/u/old", "write", content="changed")
        assert (tmp_path / "two/old").read_text() == "changed"
        await bind(s, "/u", "two", order="after", create=True)
        await s.ask("/u/new", "write", content="x")
        assert (tmp_path / "two/new").read_text() == "x"
        assert not (tmp_path / "one/new").exists()
        with pytest.raises(NotFound, match="folder"):
            await s.ask("/u/no/new", "write", content="x")
        with pytest.raises(NotSupported, match="belongs to its asker"):
            await s.ask("/u/old", "open")
        with pytest.raises(BadPayload, match="create=true with a union"):
            await bind(s, "/v", "/u", create=True)

    with_namespace(main)


def test_binding_a_union_copies_it(tmp_path: Path) -> None:
    """Later changes to the one do not reach the other."""

    async def main(s: System) -> None:
        await bind(s, "/u", "a")
        await bind(s, "/u", "b", order="after")
        await bind(s, "/v", "/u")
        await s.ask(NS, "unbind", path="/u")
        members = (await s.ask(NS, "lookup", path="/v"))["members"]
        assert [m["address"] for m in members] == ["d9://echo/demo/a", "d9://echo/demo/b"]

    with_namespace(main)


def test_circles_are_refused() -> None:
    """A binding that makes a path without end is refused, also by a detour."""

    async def main(s: System) -> None:
        await bind(s, "/x/a", "a")
        await bind(s, "/y/b", "b")
        with pytest.raises(BadPayload, match="circle"):
            await bind(s, "/x/deep", "/x")
        with pytest.raises(BadPayload, match="circle"):
            await bind(s, "/z", "/")
        await bind(s, "/x/y", "/y")
        with pytest.raises(BadPayload, match="circle"):
            await bind(s, "/y/x", "/x")
        with pytest.raises(BadPayload, match="circle"):
            await bind(s, "/x/a/again", "a")
        assert await s.ask("/x/y/b", "say") == "b:/"

    with_namespace(main)


def test_bad_targets_and_paths_are_refused_by_name() -> None:
    """What cannot be bound is said with its reason."""

    async def main(s: System) -> None:
        for target, error in (
            ("nobody", UnknownDaemon),
            ("/nowhere", NotFound),
            ("d9://Bad/x", BadAddress),
            ("tcp!host!564", NotSupported),
            ("fs@other", NotSupported),
        ):
            with pytest.raises(error):
                await bind(s, "/x", target)
        for target in ("tcp!host!564", "fs@other"):
            with pytest.raises(NotSupported):
                await s.ask(NS, "mount", path="/x", target=target)
        with pytest.raises(BadPayload, match="takes a daemon"):
            await s.ask(NS, "mount", path="/x", target="/fs")
        with pytest.raises(BadPayload, match="options"):
            await s.ask(NS, "mount", path="/x", target="a", options={"cache": True})
        for path in ("relative", "", "/a\0b"):
            with pytest.raises(Refused):
                await bind(s, path, "a")
        with pytest.raises(BadPayload):
            await bind(s, "/x", "a", order="sideways")
        with pytest.raises(NotFound, match="no view"):
            await s.ask(NS, "list", view="none")
        assert not [e for e in await s.ask(NS, "list") if e["name"] == "x"]

    with_namespace(main)


def test_mount_and_unmount() -> None:
    """Mount binds a daemon's own tree; its options are those of bind."""

    async def main(s: System) -> None:
        await s.ask(NS, "mount", path="/x", target="a")
        await s.ask(NS, "mount", path="/x", target="b", options={"order": "before", "create": True})
        found = await s.ask(NS, "lookup", path="/x")
        assert [m["create"] for m in found["members"]] == [True, False]
        await s.ask(NS, "unmount", path="/x", target="b")
        assert await s.ask("/x/p", "say") == "a:/p"
        await s.ask(NS, "unmount", path="/x")
        with pytest.raises(NotFound):
            await s.ask("/x", "say")

    with_namespace(main)


def test_srv_holds_every_daemon_by_name() -> None:
    """`/srv/type/group/name` is the daemon, without anything bound."""

    async def main(s: System) -> None:
        assert await s.ask("/srv/echo/demo/a/deep", "say") == "a:/deep"
        assert "echo" in [e["name"] for e in await s.ask(NS, "list", path="/srv")]
        names = [e["name"] for e in await s.ask(NS, "list", path="/srv/echo/demo")]
        assert names == ["a", "b", "c"]
        with pytest.raises(UnknownDaemon):
            await s.ask("/srv/echo/demo/zzz", "say")
        with pytest.raises(IsADirectory):
            await s.ask("/srv/echo", "say")

    with_namespace(main)


def test_a_view_of_its_own_reaches_the_children() -> None:
    """A copied view changes apart; children see through it, others do not."""

    async def main(s: System) -> None:
        await bind(s, "/x", "b")
        assert await s.ask("a", "fork", mode="copy") == "view-1"
        await s.ask("a", "rebind", path="/x", target="c")
        await s.ask("a", "child", name="kid")
        assert await s.ask("a", "through", path="/x") == "c:/"
        assert await s.ask("kid", "through", path="/x") == "c:/"
        assert await s.ask("/x", "say") == "b:/"
        assert await s.ask(NS, "view", daemon="kid") == "view-1"
        assert await s.ask(NS, "view", daemon="b") == "system"
        await bind(s, "/later", "b")
        with pytest.raises(NotFound):
            await s.ask("a", "through", path="/later")

    with_namespace(main)


def test_a_cleared_view_holds_nothing() -> None:
    """Names that a view does not hold do not resolve."""

    async def main(s: System) -> None:
        await s.ask(NS, "fork", daemon="a", mode="clear")
        with pytest.raises(NotFound):
            await s.ask("a", "through", path="/srv/echo/demo/b")
        await s.ask("a", "rebind", path="/only", target="b")
        assert await s.ask("a", "through", path="/only") == "b:/"

    with_namespace(main)


def test_a_shared_view_is_one_view() -> None:
    """What the one binds the other sees; sharing needs to say whose."""

    async def main(s: System) -> None:
        view = await s.ask(NS, "fork", daemon="a")
        assert await s.ask(NS, "fork", daemon="b", mode="share", of="a") == view
        await s.ask("b", "rebind", path="/x", target="c")
        assert await s.ask("a", "through", path="/x") == "c:/"
        with pytest.raises(BadPayload, match="needs of"):
            await s.ask(NS, "fork", daemon="c", mode="share")

    with_namespace(main)


def test_a_view_goes_with_its_daemon() -> None:
    """When the last daemon that has it is gone for good, the view is dropped."""

    async def main(s: System) -> None:
        await s.spawn(Echo, "short", restart="temporary")
        await s.ask(NS, "fork", daemon="short")
        assert (await s.ask(NS, "status"))["views"] == 2
        await s.ask("short", "stop")
        await s.sleep(1)
        assert (await s.ask(NS, "status"))["views"] == 1

    with_namespace(main)


def test_ns_prints_commands_that_rebuild_the_view() -> None:
    """Also where things were masked, unbound and bound inside daemons."""

    async def main(s: System) -> None:
        await bind(s, "/x/y", "a")
        await bind(s, "/x", "b")
        await bind(s, "/x/inside", "c")
        await bind(s, "/x", "c", order="after", create=True)
        await s.ask(NS, "unbind", path="/srv")
        lines = await s.ask(NS, "ns")
        assert "dan9 mount /fs d9://filesystem/system/filesystem" in lines
        assert "dan9 bind /x d9://echo/demo/c --after --create" in lines
        again = read_script(lines)
        assert write_script(again) == lines
        for path in ("/x", "/x/y", "/x/inside/q", "/fs/etc"):
            walk = again.walk(path)
            with pytest.raises(StopIteration):
                next(walk)
                walk.send(True)

    with_namespace(main)


def test_listing_a_daemon_that_lists_nothing() -> None:
    """It is one entry, itself."""

    async def main(s: System) -> None:
        await bind(s, "/x", "a")
        (entry,) = await s.ask(NS, "list", path="/x")
        assert (entry["name"], entry["kind"], entry["address"]) == (
            ".",
            "daemon",
            "d9://echo/demo/a",
        )

    with_namespace(main)


def test_a_view_is_chosen_by_its_id_or_by_its_daemon() -> None:
    """Fork of another's view copies that one."""

    async def main(s: System) -> None:
        await s.ask(NS, "fork", daemon="a", mode="clear")
        await bind(s, "/only", "b", view="view-1")
        assert await s.ask(NS, "fork", daemon="b", of="a") == "view-2"
        assert await s.ask(NS, "fork", daemon="c", of="view-1") == "view-3"
        assert await s.ask("c", "through", path="/only") == "b:/"
        found = await s.ask(NS, "lookup", path="/only", view="view-2")
        assert found["address"] == "d9://echo/demo/b"
        with pytest.raises(UnknownDaemon):
            await s.ask(NS, "fork", daemon="nobody")
        with pytest.raises(UnknownDaemon):
            await s.ask(NS, "fork", daemon="a", of="nobody")

    with_namespace(main)


def test_a_script_that_is_none() -> None:
    """The line that is wrong is named."""
    for line in ("bind /x", "hello", "bind /x /nowhere", "bind /x d9://a/b/c --sideways"):
        with pytest.raises(BadPayload):
            read_script(["# a comment", line])


def test_the_namespace_outlives_its_restart() -> None:
    """After a restart paths work; what was bound by hand needs a checkpoint to come back."""

    async def main(s: System) -> None:
        await s.ask(NS, "restart")
        await s.sleep(1)
        assert await s.ask("/srv/echo/demo/a", "say") == "a:/"
        await bind(s, "/x", "a")
        await bind(s, "/x", "b", order="after")
        assert len((await s.ask(NS, "lookup", path="/x"))["members"]) == 2

    with_namespace(main)


def test_bindings_of_ones_own() -> None:
    """Configuration decides what is bound at boot, folders before what is in them."""

    async def main(s: System) -> None:
        assert await s.ask("/x/y", "say") == "b:/"
        assert await s.ask("/x/z", "say") == "a:/z"

    with_namespace(main, bindings={"/x/y": "d9://echo/demo/b", "/x": "d9://echo/demo/a"})


def test_bindings_that_are_wrong_fail_the_start() -> None:
    """A bare name cannot be known at boot; the key is named."""

    async def body() -> None:
        async with system() as s:
            with pytest.raises(Refused, match="/x"):
                await s.spawn(Namespace, "namespace", bindings={"/x": "filesystem"})

    run(body)


def test_bindings_and_views_are_state() -> None:
    """A checkpoint keeps them, and restoring one brings them back."""

    async def body() -> None:
        async with system(store=MemoryStore()) as s:
            await s.spawn(Namespace, "namespace", group="system")
            for name in "abc":
                await s.spawn(Echo, name, group="demo")
            await bind(s, "/x", "a")
            await s.ask(NS, "fork", daemon="b")
            await bind(s, "/x/own", "c", view="view-1", order="before", create=True)
            lines = await s.ask(NS, "ns", view="view-1")
            await s.ask(NS, "checkpoint")
            await s.ask(NS, "unbind", path="/x")
            await s.ask(NS, "fork", daemon="b", mode="clear")
            await s.ask(NS, "restore")
            assert await s.ask("/x", "say") == "a:/"
            assert await s.ask("b", "through", path="/x/own") == "c:/"
            assert await s.ask(NS, "ns", view="view-1") == lines
            await s.ask(NS, "checkpoint")
            await s.ask(NS, "restart")
            await s.sleep(1)
            assert await s.ask("b", "through", path="/x/own") == "c:/"

    run(body)


def test_a_changed_configuration_counts_more_than_what_was_saved() -> None:
    """Only the bindings that changed are made anew; what was unbound by hand stays unbound."""
    store = MemoryStore()

    async def first() -> None:
        async with system(store=store) as s:
            config = {"/x": "d9://echo/demo/a", "/y": "d9://echo/demo/a"}
            await s.spawn(Namespace, "namespace", group="system", bindings=config)
            await s.ask(NS, "unbind", path="/y")
            await s.ask(NS, "checkpoint")

    async def second() -> None:
        async with system(store=store) as s:
            config = {"/x": "d9://echo/demo/b", "/y": "d9://echo/demo/a", "/z": "#s"}
            await s.spawn(Namespace, "namespace", group="system", bindings=config)
            assert (await s.ask(NS, "lookup", path="/x"))["address"] == "d9://echo/demo/b"
            assert [e["name"] for e in await s.ask(NS, "list")] == ["x", "z"]

    run(first)
    run(second)
