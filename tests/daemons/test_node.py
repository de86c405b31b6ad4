"""The node's daemon: lists and trees of what there is, refusals of what only a host can do."""

from __future__ import annotations

import asyncio

import pytest

from dan9.base.errors import BadAddress, NotFound, NotSupported, UnknownDaemon
from dan9.base.events import DeadLetter
from dan9.daemons.node import Branch, Check, NodeDaemon, Row, nest
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system


def row(name: str, supervisor: str = "") -> Row:
    """A row of which only the place in the tree counts."""
    return Row(name, name, "t", "running", 0, 0, 0, 0, 0, 0.0, supervisor)


def test_nest_keeps_the_order_and_finds_the_roots() -> None:
    """A daemon whose supervisor is not in the list, or is itself, is a root."""
    rows = [row("a"), row("b", "a"), row("c", "gone"), row("d", "b"), row("e", "a"), row("f", "f")]
    assert nest(rows) == [
        Branch(
            "a",
            "running",
            0,
            [Branch("b", "running", 0, [Branch("d", "running")]), Branch("e", "running")],
        ),
        Branch("c", "running"),
        Branch("f", "running"),
    ]


class Echo(Daemon):
    """Says what it hears."""

    @on
    def say(self, word: str) -> str:
        """Say it."""
        return word


class Odd(Daemon):
    """Has a status of its own making."""

    def on_status(self) -> dict[str, object]:
        """Fail, as a user's code may."""
        raise RuntimeError("no status today")


class Watcher(Daemon):
    """Keeps what it is shown."""

    seen: list[dict[str, object]] = []

    @on
    async def look(self, pattern: str) -> str:
        """Begin to watch."""
        found: str = await self.ask("d9://system/system/node", "watch", pattern=pattern)
        return found

    @on
    def event(self, event: dict[str, object]) -> None:
        """Keep one."""
        self.seen.append(event)

    @on
    def shown(self) -> list[dict[str, object]]:
        """Return them."""
        return self.seen


def test_ps_and_tree_show_every_daemon() -> None:
    """With state and counts; by pattern."""

    async def main() -> None:
        async with system(seed=0) as world:
            node = await world.spawn(NodeDaemon, "node", group="system")
            echo = await world.spawn(Echo, "e1")
            await world.spawn(Odd, "o1")
            await echo.say("hello")
            (found,) = await node.ps("d9://echo/**")
            assert (found.address, found.state, found.handled) == (
                "d9://echo/default/e1",
                "running",
                1,
            )
            assert found.supervisor == "d9://supervisor/system/user"
            trees = {one.address: one for one in await node.tree()}
            children = trees["d9://supervisor/system/user"].children
            assert "d9://echo/default/e1" in [child.address for child in children]
            with pytest.raises(BadAddress):
                await node.ps("D9!")

    run(main)


def test_dead_letters_are_shown_by_address_and_number() -> None:
    """The latest last."""

    async def main() -> None:
        async with system(seed=0) as world:
            node = await world.spawn(NodeDaemon, "node", group="system")
            echo = await world.spawn(Echo, "e1")
            await world.ask("e1", "stop")
            for word in ("one", "two"):
                echo.say.tell(word)
            await node.ping()
            letters = await node.dead(address="d9://echo/**")
            assert [letter.type for letter in letters] == ["say", "say"]
            assert {letter.reason for letter in letters} <= {"not-running", "stopped"}
            assert len(await node.dead(limit=1)) == 1
            assert await node.dead(limit=0) == []
            assert await node.dead(address="d9://nobody/**") == []

    run(main)


def test_explain_says_who_waits_on_whom() -> None:
    """And refuses a name that nobody has."""

    async def main() -> None:
        async with system(seed=0) as world:
            node = await world.spawn(NodeDaemon, "node", group="system")
            await world.spawn(Echo, "e1")
            facts = await node.explain("e1")
            assert (facts["address"], facts["state"]) == ("d9://echo/default/e1", "running")
            assert facts["in-hand"] == []
            assert await node.resolve("e1") == "d9://echo/default/e1"
            with pytest.raises(UnknownDaemon):
                await node.explain("e2")

    run(main)


def test_watch_shows_messages_and_not_itself() -> None:
    """To whoever asked, until unwatch."""

    async def main() -> None:
        async with system(seed=0) as world:
            node = await world.spawn(NodeDaemon, "node", group="system")
            echo = await world.spawn(Echo, "e1")
            watcher = await world.spawn(Watcher, "w1")
            watch = await watcher.look("**")
            await echo.say("hello")
            shown = [one for one in await watcher.shown() if one["event"] == "message"]
            assert [(one["recipient"], one["type"]) for one in shown] == [
                ("d9://echo/default/e1", "say")
            ]
            assert shown[0]["payload"] == {"word": "hello"}
            await node.unwatch(watch)
            await echo.say("unseen")
            assert len([one for one in await watcher.shown() if one["event"] == "message"]) == 1
            with pytest.raises(NotFound):
                await node.unwatch(watch)

    run(main)


def test_a_system_without_a_host_refuses_what_needs_one() -> None:
    """It belongs to the program that it runs in."""

    async def main() -> None:
        async with system(seed=0) as world:
            node = await world.spawn(NodeDaemon, "node", group="system")
            with pytest.raises(NotSupported):
                await node.shutdown()
            with pytest.raises(NotSupported):
                await world.ask(node.address, "spawn", target="a:B", name="x")
            with pytest.raises(NotSupported):
                await node.reload()
            with pytest.raises(NotSupported):
                await node.fields("a:B")
            assert {check.check for check in await node.doctor()} == {"daemons", "dead letters"}

    run(main)


def test_the_doctor_fails_for_poison_alone() -> None:
    """What nobody took is how things go; what was promised and given up is not."""

    async def main() -> None:
        async with system(seed=0) as world:
            node = await world.spawn(NodeDaemon, "node", group="system")

            async def found() -> Check:
                (row,) = [row for row in await node.doctor() if row.check == "dead letters"]
                return row

            assert await found() == Check("dead letters", True, "none", (await found()).hint)
            world.dead_letters.add(DeadLetter(0.0, "d9://a/b/c", reason="stopped"))
            world.dead_letters.add(DeadLetter(0.0, "d9://a/b/c", reason="expired"))
            row = await found()
            assert row.ok
            assert row.text == "messages that reached nobody: 1 expired, 1 stopped"
            world.dead_letters.add(DeadLetter(0.0, "d9://a/b/c", reason="poison"))
            assert not (await found()).ok

    run(main)


class SlowHost:
    """Starts a daemon only when the test says."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def spawn_target(self, *_: object) -> str:
        """Wait, then pretend that one was started."""
        await self.go.wait()
        return "d9://system/system/node"


def test_a_slow_start_does_not_hold_up_the_rest() -> None:
    """`ps` answers while somebody's on_start takes its time."""

    async def main() -> None:
        async with system(seed=0) as world:
            node = await world.spawn(NodeDaemon, "node", group="system")
            host = world.host = SlowHost()
            starting = asyncio.ensure_future(
                world.ask(node.address, "spawn", target="a:B", name="x")
            )
            assert await node.ps("d9://system/system/node")
            assert not starting.done()
            host.go.set()
            assert (await starting)["address"] == "d9://system/system/node"

    run(main)
