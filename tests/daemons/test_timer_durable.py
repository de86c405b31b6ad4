"""Tasks that outlive the node: nothing acknowledged is forgotten, what was missed is owed."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from dan9.base.errors import NoSpace
from dan9.daemons.timer import Timer
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System, current_message
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Ledger(Daemon, type="ledger", durable=True):
    """A durable target: keeps the id of every firing that it has handled."""

    seen: list[str] = []

    @on
    def go(self) -> None:
        message = current_message()
        assert message is not None
        self.seen.append(message.id)

    @on
    def told(self) -> list[str]:
        return list(self.seen)  # as it is now: the reply goes only after the commit


class Plain(Daemon, type="plain"):
    """A target that forgets."""

    seen: list[tuple[float, str]] = []

    @on
    def go(self) -> None:
        message = current_message()
        assert message is not None
        self.seen.append((round(self.clock.now() - VirtualClock().now(), 3), message.id))

    @on
    def told(self) -> list[tuple[float, str]]:
        return self.seen


class Disk:
    """A medium that lives through several runs of a node, and nodes that die on it."""

    def __init__(self) -> None:
        self.medium: Any = None
        self.wall = VirtualClock().now()
        self.lives = 0

    def live(
        self, main: Callable[[System, Timer], Coroutine[Any, Any, Any]], *, down_s: float = 0.0
    ) -> Any:
        """Run a node with a timer that dies when `main` returns; then stay down so long."""
        clock = VirtualClock(self.wall)

        async def node() -> Any:
            store = MemoryStore()
            if self.medium is not None:
                store._medium = self.medium
            self.lives += 1  # another seed: message ids of one life are not those of the next
            async with system(store=store, clock=clock, seed=self.lives) as sim:
                timer = await sim.spawn(Timer, "timer", group="system")
                value = await main(sim, timer)
                self.medium = copy.deepcopy(store._medium)  # what a kill would leave
                self.wall = clock.now() + down_s
                return value

        return run(node, clock=clock)


async def schedule(_sim: System, timer: Timer) -> str:
    """Schedule a task and die at the moment of the reply."""
    return await timer.schedule(5.0, "d9://plain/default/p", "go")


def test_an_acknowledged_task_survives_a_kill_at_the_moment_of_its_reply() -> None:
    """It fires at its moment in the next life, under its id."""
    disk = Disk()
    task_id = disk.live(schedule, down_s=2.0)

    async def main(sim: System, timer: Timer) -> list[tuple[float, str]]:
        target = await sim.spawn(Plain, "p")
        assert [task["task_id"] for task in await timer.list_()] == [task_id]
        await asyncio.sleep(10)
        return await target.told()

    assert disk.live(main) == [(5.0, f"{task_id}-1")]


def test_a_cancel_that_was_acknowledged_stays_cancelled() -> None:
    """The next life does not know the task."""
    disk = Disk()

    async def first(sim: System, timer: Timer) -> None:
        await timer.cancel(await schedule(sim, timer))

    disk.live(first)

    async def second(_sim: System, timer: Timer) -> list[Any]:
        return await timer.list_()

    assert disk.live(second) == []


@pytest.mark.parametrize(
    ("missed", "late", "lost"),
    [("once", [10], 9), ("all", list(range(1, 11)), 0), ("skip", [], 10)],
)
def test_what_was_missed_is_owed_as_the_task_says(missed: Any, late: list[int], lost: int) -> None:
    """Ten firings fell into the pause; they wait until their target has started."""
    disk = Disk()

    async def first(_sim: System, timer: Timer) -> str:
        return await timer.schedule_repeating(1.0, "p", "go", missed=missed)

    task_id = disk.live(first, down_s=10.5)

    async def second(sim: System, timer: Timer) -> tuple[list[tuple[float, str]], int]:
        await asyncio.sleep(0.2)
        target = await sim.spawn(Plain, "p")
        await asyncio.sleep(1)
        return await target.told(), (await timer.stats())["missed"]

    told, gone = disk.live(second)
    ids = [f"{task_id}-{n}" for n in late]
    assert told[:-1] == [(10.7, name) for name in ids]
    assert told[-1] == (11.0, f"{task_id}-11")
    assert gone == lost


def test_a_missed_firing_whose_target_never_starts_is_given_up_after_the_grace() -> None:
    """It is counted, and the task goes on."""
    disk = Disk()
    disk.live(schedule, down_s=10.0)

    async def second(_sim: System, timer: Timer) -> tuple[int, int]:
        await asyncio.sleep(59)
        before = (await timer.stats())["undeliverable"]
        await asyncio.sleep(2)
        return before, (await timer.stats())["undeliverable"]

    assert disk.live(second) == (0, 1)


def test_a_durable_target_hears_of_every_firing_exactly_once_over_kills() -> None:
    """Killed at forty odd moments, the ids in its state are 1, 2, 3 … without gap or double."""
    disk = Disk()

    async def first(sim: System, timer: Timer) -> str:
        await sim.spawn(Ledger, "l")
        return await timer.schedule_repeating(0.1, "l", "go", missed="all")

    task_id = disk.live(first)

    def life(number: int) -> list[str]:
        async def main(sim: System, _timer: Timer) -> list[str]:
            target = await sim.spawn(Ledger, "l")
            await asyncio.sleep(0.37)
            for _ in range(number):  # die somewhere between telling and saving
                await asyncio.sleep(0)
            return await target.told()

        return disk.live(main, down_s=0.05 * (number % 5))  # type: ignore[no-any-return]

    seen: list[str] = []
    for number in range(40):
        later = life(number)
        assert later[: len(seen)] == seen
        seen = later
    assert len(seen) > 150
    assert seen == [f"{task_id}-{n}" for n in range(1, len(seen) + 1)]


def test_a_durable_target_that_cannot_take_a_firing_gets_it_later() -> None:
    """Its disk is full for ten seconds: it is asked once a second, and nothing is lost."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as sim:
            timer = await sim.spawn(Timer, "timer", group="system")
            target = await sim.spawn(Ledger, "l", restart="permanent")
            task_id = await timer.schedule_repeating(5.0, "l", "go", missed="all")
            await asyncio.sleep(6)
            store.error = NoSpace("the disk is full")
            await asyncio.sleep(10)
            tries = (await timer.stats())["undeliverable"]
            assert 5 <= tries <= 11
            store.error = None
            await asyncio.sleep(120)
            seen = await target.told()
            assert seen == [f"{task_id}-{n}" for n in range(1, len(seen) + 1)]
            assert len(seen) >= 26
            assert (await sim.ask("timer", "status"))["restarts"] == 0

    run(main)


def test_a_task_that_cannot_be_saved_is_refused_and_does_not_fire() -> None:
    """A full disk is said to the asker; there is no task that would be forgotten."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as sim:
            timer = await sim.spawn(Timer, "timer", group="system")
            target = await sim.spawn(Plain, "p")
            store.error = NoSpace("the disk is full")
            with pytest.raises(NoSpace):
                await timer.schedule(1.0, "p", "go")
            store.error = None
            await asyncio.sleep(3)
            assert await timer.list_() == []
            assert await target.told() == []

    run(main)


def test_a_thousand_schedules_at_once_share_their_commits() -> None:
    """The replies wait for a handful of commits, not for one each."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store, copy=False) as sim:
            timer = await sim.spawn(Timer, "timer", group="system")
            before = store.requests
            await asyncio.gather(*(timer.schedule(60.0, "p", "go") for _ in range(1000)))
            assert store.requests - before < 50
            assert len(await timer.list_()) == 1000

    run(main)


def test_ids_are_not_used_again_by_a_node_that_forgot() -> None:
    """Two nodes without a store give different ids, so that firings are never confused."""

    async def main(seed: int) -> str:
        async with system(seed=seed) as sim:
            timer = await sim.spawn(Timer, "timer", group="system")
            return await timer.schedule(1.0, "p", "go")

    assert run(lambda: main(1)) != run(lambda: main(2))


def test_a_durable_target_is_owed_more_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long pause loses none: what others would miss comes too, oldest first."""
    monkeypatch.setattr("dan9.base.schedule.ALL_LIMIT", 20)
    monkeypatch.setattr("dan9.daemons.timer._BATCH", 7)
    disk = Disk()

    async def first(sim: System, timer: Timer) -> str:
        await sim.spawn(Ledger, "l")
        return await timer.schedule_repeating(1.0, "l", "go", missed="all")

    task_id = disk.live(first, down_s=100.5)

    async def second(sim: System, timer: Timer) -> tuple[list[str], int]:
        ledger = await sim.spawn(Ledger, "l")
        await asyncio.sleep(10)
        return await ledger.told(), (await timer.stats())["missed"]

    seen, missed = disk.live(second)
    assert seen == [f"{task_id}-{number}" for number in range(1, 111)]
    assert missed == 0
