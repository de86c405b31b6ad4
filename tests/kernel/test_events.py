"""Who hears of what happens."""

from __future__ import annotations

from dan9.base.events import DaemonSpawned, DaemonStarted, DaemonStopped, Event
from dan9.kernel.daemon import Daemon
from dan9.testing import run, system


class Idle(Daemon, type="idle"):
    """Does nothing."""


def test_listeners_hear_the_kinds_that_they_asked_for() -> None:
    """All of them if they named none, and nothing after they unsubscribed."""

    async def main() -> None:
        async with system() as sim:
            everything: list[Event] = []
            some: list[Event] = []
            stop_all = sim.subscribe_events(everything.append)
            stop_some = sim.subscribe_events(some.append, DaemonStarted, DaemonStopped)
            await sim.spawn(Idle, "a", restart="temporary")
            await sim.ask("a", "stop")
            assert [type(event) for event in some] == [DaemonStarted, DaemonStopped]
            assert {DaemonSpawned, DaemonStarted, DaemonStopped} <= {*map(type, everything)}
            stop_all()
            assert sim.wants(DaemonStarted)
            assert not sim.wants(DaemonSpawned)
            stop_some()
            assert not sim.wants(DaemonStarted)
            heard = len(everything), len(some)
            await sim.spawn(Idle, "b")
            assert (len(everything), len(some)) == heard

    run(main)


def test_a_kind_means_its_subclasses_too() -> None:
    """`Event` is all of them."""

    async def main() -> None:
        async with system() as sim:
            heard: list[Event] = []
            sim.subscribe_events(heard.append, Event)
            await sim.spawn(Idle, "a")
            assert {type(event) for event in heard} >= {DaemonSpawned, DaemonStarted}

    run(main)
