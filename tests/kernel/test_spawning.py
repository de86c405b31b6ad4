"""`spawning`, in C and in plain Python: one contract.

On the compiled kernel both are tried, on its source the plain one alone.
"""

import abc
import asyncio
import inspect

import pytest

from dan9 import AddressInUse, BadAddress, Daemon, ScaledClock, every, on
from dan9.base.events import DaemonSpawned
from dan9.kernel import spawning as module
from dan9.testing import run, system

SPAWNINGS = {"native": module.spawning, "plain": module.plain}


class Counter(Daemon):
    """Starts by a mere allocation."""

    total: int = 0

    @on
    def add(self, by: int = 1) -> int:
        """Add and answer."""
        self.total += by
        return self.total


class Slow(Daemon):
    """Has to be started."""

    async def on_start(self) -> None:
        """Take a moment."""
        await self.sleep(1.0)

    @on
    def ready(self) -> bool:
        """Answer once started."""
        return True


class Abstract(Daemon, abc.ABC):
    """No daemon can be made of it."""

    @abc.abstractmethod
    def missing(self) -> None:
        """Be missing."""


@pytest.fixture(params=sorted(SPAWNINGS))
def spawn(request):
    """How to spawn in a system, by class, name and group."""

    def spawn(node, cls, name, group="default"):
        return SPAWNINGS[request.param](node, node.registry, cls, group, name)

    return spawn


def in_quiet(body):
    """Run a test's body in a system that nobody watches: there the short way is open."""

    async def main():
        async with system(copy=False) as made:
            assert made.registry.is_quiet
            await body(made)

    run(main)


def test_makes_a_daemon_that_answers(spawn):
    """What comes back is a ref of a running daemon, found by its address."""

    async def body(node):
        ref = await spawn(node, Counter, "c1", "demo")
        assert ref.address == "d9://counter/demo/c1"
        assert await ref.add(2) == 2
        assert await node.ref(Counter, ref.address).add(2) == 4
        assert (await node.ask(ref, "status"))["state"] == "running"

    in_quiet(body)


def test_does_nothing_before_it_is_awaited(spawn):
    """The name is free until then; whoever forgets to await is told."""

    async def body(node):
        coroutine = spawn(node, Counter, "c1")
        assert not node.addresses("d9://counter/**")
        with pytest.warns(RuntimeWarning, match="never awaited"):
            del coroutine

    in_quiet(body)


def test_is_a_coroutine_that_runs_once(spawn):
    """A task can be made of it; awaiting it twice is an error, closing it is none."""

    async def body(node):
        ref = await asyncio.create_task(spawn(node, Counter, "c1"))
        assert await ref.add(1) == 1
        coroutine = spawn(node, Counter, "c2")
        assert inspect.isawaitable(coroutine)
        await coroutine
        with pytest.raises(RuntimeError, match="already awaited"):
            await coroutine
        closed = spawn(node, Counter, "c3")
        closed.close()
        closed.close()
        with pytest.raises(RuntimeError, match="already awaited"):
            await closed
        assert len(node.addresses("d9://counter/**")) == 2

    in_quiet(body)


def test_by_hand(spawn):
    """Driven by `send`, it ends with StopIteration, whose value is the ref."""

    async def body(node):
        with pytest.raises(StopIteration) as caught:
            spawn(node, Counter, "c1").send(None)
        assert await caught.value.value.add(3) == 3
        with pytest.raises(KeyError):
            spawn(node, Counter, "c2").throw(KeyError("x"))
        assert len(node.addresses("d9://counter/**")) == 1

    in_quiet(body)


def test_a_daemon_with_a_start_of_its_own_goes_the_long_way(spawn):
    """It is waited for, and can be cancelled meanwhile: then the name is free again."""

    async def body(node):
        ref = await spawn(node, Slow, "s1")
        assert await ref.ready()
        task = asyncio.create_task(spawn(node, Slow, "s2"))
        await asyncio.sleep(0)
        assert len(node.addresses("d9://slow/**")) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    in_quiet(body)


@pytest.mark.parametrize(
    ("name", "error"),
    [("", BadAddress), ("Upper", BadAddress), ("a b", BadAddress), ("é", BadAddress),
     ("x" * 64, BadAddress), ("c1", AddressInUse)],
)  # fmt: skip
def test_bad_names_are_refused_by_name(spawn, name, error):
    """A name that is taken or no legal segment raises, and nothing is left behind."""

    async def body(node):
        await spawn(node, Counter, "c1")
        with pytest.raises(error):
            await spawn(node, Counter, name)
        assert node.addresses("d9://counter/**") == ["d9://counter/default/c1"]

    in_quiet(body)


@pytest.mark.parametrize("name", ["a-b", "a.b_c", "0", "x" * 63])
def test_legal_names_are_taken(spawn, name):
    """Also those with signs in them."""

    async def body(node):
        assert (await spawn(node, Counter, name)).name == name

    in_quiet(body)


def test_bad_groups_and_classes_are_refused(spawn):
    """What is no daemon class, no segment or no text raises as it does on the long way."""

    async def body(node):
        for cls, group, name in [
            (Counter, "Bad Group", "c1"),
            (Counter, "default", 7),
            (Counter, None, "c1"),
            (dict, "default", "c1"),
            (3, "default", "c1"),
            (Abstract, "default", "c1"),
        ]:
            with pytest.raises(Exception) as long_way:
                await node._spawn(cls, name, None, group=group)
            with pytest.raises(type(long_way.value)) as found:
                await spawn(node, cls, name, group)
            assert str(found.value) == str(long_way.value)

    in_quiet(body)


def test_one_whose_system_is_watched_by_then_goes_the_long_way(spawn):
    """What counts is whether somebody watches when it is awaited, not when it was made."""

    async def body(node):
        coroutine = spawn(node, Counter, "c1")
        seen = []
        stop = node.subscribe_events(seen.append, DaemonSpawned)
        await coroutine
        stop()
        assert [event.address for event in seen] == ["d9://counter/default/c1"]

    in_quiet(body)


def test_a_child_that_is_started_knows_its_parent_then():
    """Its place comes before its start: `on_start` and `@every` go by the clock of its parent."""

    class Child(Daemon):
        """Looks round when it starts."""

        clock_at_start: str = ""
        ticks: int = 0

        async def on_start(self) -> None:
            """Look."""
            self.clock_at_start = type(self.clock).__name__

        @every("1h")
        def tick(self) -> None:
            """Count."""
            self.ticks += 1

        @on
        def seen(self) -> list:
            """Answer what was seen."""
            return [self.clock_at_start, self.ticks]

    class Parent(Daemon):
        """Has a child."""

        @on
        async def beget(self) -> str:
            """Spawn it."""
            return (await self.spawn(Child, "child")).address

    async def body(node):
        fast = ScaledClock(node.clock, 3600.0)
        parent = await node.spawn(Parent, "parent", clock=fast)
        child = await parent.beget()
        await asyncio.sleep(10.5)
        assert await node.ask(child, "seen") == ["ScaledClock", 10]

    in_quiet(body)


def test_a_child_is_placed_under_its_parent():
    """The short way serves `self.spawn` too: the child goes when its parent goes."""

    class Parent(Daemon):
        """Has a child."""

        @on
        async def beget(self) -> str:
            """Spawn it."""
            return (await self.spawn(Counter, "child")).address

    async def body(node):
        parent = await node.spawn(Parent, "parent")
        child = await parent.beget()
        assert (await node.ask(child, "status"))["supervisor"] == "d9://parent/default/parent"
        await node.ask(parent, "stop")
        assert child not in node.addresses("d9://counter/**")

    in_quiet(body)
