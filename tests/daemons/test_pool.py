"""Pools: cycles that are numbers until spoken to, and jobs a limited number at once."""

from __future__ import annotations

import asyncio
import time  # noqa: TID251 (bounds are part of the promise)
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dan9.base.errors import (
    AddressInUse,
    BadConfig,
    BadPayload,
    Corrupt,
    NotFound,
    NotRunning,
    Refused,
    UnknownDaemon,
    UnknownMessage,
)
from dan9.daemons.pool import Pool
from dan9.daemons.population import Population
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Meter(Daemon):
    """Counts down by one a step."""

    value: int = 0

    @on
    def add(self, by: int = 1) -> int:
        self.value += by
        return self.value

    @on
    async def slowly(self, by: int) -> str:
        await self.sleep(1)
        self.value += by
        return self.address

    @on
    def refuse(self) -> None:
        raise Refused("no")

    @on
    def crash(self) -> None:
        raise RuntimeError("on purpose")

    def step(self, n: int) -> None:
        self.value = max(0, self.value - n)


class Ramp(Daemon):
    """By default cycle i is worth i; steps one at a time."""

    value: int = 0
    left: int = 0

    @on
    def set_to(self, value: int) -> None:
        self.value, self.left = value, 2

    @on
    def tick(self) -> None:
        self.left = max(0, self.left - 1)
        self.value = 0 if self.left == 0 else self.value

    @staticmethod
    def default_total(first: int, last: int) -> int:
        return (last - first) * (first + last - 1) // 2


def test_a_population_of_a_trillion() -> None:
    """10**12 addresses; the last of them answers; sums are exact; k idle steps are one."""

    async def main() -> None:
        async with system() as sim:
            pool = await sim.spawn(Pool, "meters", cycle=Meter)
            assert await pool.sync_cycles(10**12) == {"previous": 0, "now": 10**12}
            last = f"d9://cycle/meters/{10**12 - 1}"
            assert await sim.ask(last, "add", by=5) == 5
            await pool.tell_cycle(7, "add", {"by": 2})
            assert await pool.total("value") == 7
            assert await pool.step(3) == {"active": 1, "woken": 2}
            assert await sim.ask(last, "add", by=0) == 2
            assert (await pool.step(10**12))["active"] == 0
            assert (await pool.status())["population"]["active"] == 0
            assert sim.addresses("d9://cycle/**") == []

    run(main)


def test_an_untouched_state_is_let_go() -> None:
    """A message that leaves the default leaves nothing; `status` of a cycle neither."""

    async def main() -> None:
        async with system() as sim:
            pool = await sim.spawn(Pool, "meters", cycle=Meter)
            await pool.sync_cycles(100)
            await pool.tell_cycle(7, "add", {"by": 0})
            assert (await sim.ask("d9://cycle/meters/8", "status"))["name"] == "8"
            assert await sim.ask("d9://cycle/meters/9", "ping") == "pong"
            await asyncio.sleep(0)
            population = (await pool.status())["population"]
            assert population["active"] == 0
            assert sim.addresses("d9://cycle/**") == []

    run(main)


def test_a_cycle_is_a_daemon_while_it_is_spoken_to() -> None:
    """It handles one message at a time in order, knows its address, and refuses and crashes."""

    async def main() -> None:
        async with system() as sim:
            pool = await sim.spawn(Pool, "meters", cycle=Meter)
            await pool.sync_cycles(100)
            address = "d9://cycle/meters/3"
            asked = asyncio.ensure_future(sim.ask(address, "slowly", by=4))
            await asyncio.sleep(0.5)
            await pool.tell_cycle(3, "add", {"by": 2})  # queued behind it
            assert await asked == address
            assert await sim.ask(address, "add") == 7
            with pytest.raises(Refused):
                await sim.ask(address, "refuse")
            assert await sim.ask(address, "add") == 8
            with pytest.raises(Exception, match="on purpose"):
                await sim.ask(address, "crash")
            await asyncio.sleep(1)
            assert await sim.ask(address, "add") == 1  # it fell back to the default
            counts = sim.conservation()
            assert counts["sent"] == sum(
                counts[key] for key in ("handled", "dead", "queued", "in-hand")
            )

    run(main)


def test_dropping_cycles() -> None:
    """Beyond the new count there is nobody, and what they had is gone."""

    async def main() -> None:
        async with system() as sim:
            pool = await sim.spawn(Pool, "meters", cycle=Meter)
            await pool.sync_cycles(1000)
            for number in (5, 500, 999):
                await pool.tell_cycle(number, "add", {"by": 1})
            assert await pool.sync_cycles(10) == {"previous": 1000, "now": 10}
            assert await pool.total("value") == 1
            with pytest.raises(UnknownDaemon):
                await sim.ask("d9://cycle/meters/500", "add")
            await pool.sync_cycles(1000)
            assert await sim.ask("d9://cycle/meters/500", "add") == 1

    run(main)


def test_a_closed_form_of_defaults() -> None:
    """Cycle i is worth i: the sum over 10**9 is known at once and corrected exactly."""

    async def main() -> None:
        async with system() as sim:
            pool = await sim.spawn(Pool, "ramp", cycle=Ramp)
            await pool.sync_cycles(10**9)
            everything = 10**9 * (10**9 - 1) // 2
            assert await pool.total("value") == everything
            await pool.tell_cycle(10, "set-to", {"value": 25})
            assert await pool.total("value") == everything + 15
            assert await pool.step(2) == {"active": 0, "woken": 1}
            assert await pool.total("value") == everything

    run(main)


operations = st.lists(
    st.one_of(
        st.tuples(st.just("sync"), st.integers(0, 30)),
        st.tuples(st.just("add"), st.integers(0, 29), st.integers(0, 4)),
        st.tuples(st.just("step"), st.integers(0, 5)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(operations, st.booleans())
def test_equal_to_a_list(steps: list[Any], closed: bool) -> None:
    """Whatever is done, sums and steps are those of a list with a number for every cycle."""

    def step(state: list[int], n: int) -> None:
        state[0] = max(0, state[0] - n)

    people = Population(lambda state: state[0] == 0, step, is_closed=closed)
    model: list[int] = []
    for kind, *values in steps:
        if kind == "sync":
            assert people.sync(values[0]) == len(model)
            model = (model + [0] * values[0])[: values[0]]
        elif kind == "add" and values[0] < len(model):
            people.wake(values[0], lambda: [0])[0] += values[1]
            people.rest(values[0])
            model[values[0]] += values[1]
        elif kind == "step":
            people.step(values[0])
            model = [max(0, value - values[0]) for value in model]
        assert people.total(lambda state: state[0], lambda first, last: 0) == sum(model)
        assert {number: state[0] for number, state in people.active.items()} == {
            number: value for number, value in enumerate(model) if value
        }


def test_bounds() -> None:
    """Sync to 10**12 under 50 us; idle steps too, however many."""
    people = Population(lambda state: state == 0)
    begun = time.process_time()
    for count in (10**12, 10, 10**12):
        people.sync(count)
        people.step(10**15)
    assert time.process_time() - begun < 50e-6 * 3
    assert people.epoch == 3 * 10**15


def test_jobs_run_a_limited_number_at_once() -> None:
    """Two at once of five; each in a daemon of its own; the rest wait their turn."""

    async def main() -> None:
        async with system(copy=False) as sim:  # functions do not cross a wire
            pool = await sim.spawn(Pool, "pool", size=2)
            gate = asyncio.Event()
            begun: list[int] = []

            def job(number: int) -> Any:
                async def work() -> None:
                    begun.append(number)
                    await gate.wait()

                return work

            names = [await pool.spawn_cycle(job(number)) for number in range(5)]
            await asyncio.sleep(0)
            jobs = (await pool.status())["jobs"]
            assert (jobs["running"], jobs["queued"]) == (names[:2], names[2:])
            assert await pool.drop_cycle(names[4]) == "queued"
            assert await pool.drop_cycle(names[0]) == "running"
            gate.set()
            await asyncio.sleep(1)
            assert begun == [0, 1, 2, 3]
            jobs = (await pool.status())["jobs"]
            assert (jobs["running"], jobs["queued"], jobs["done"]) == ([], [], 3)
            with pytest.raises(NotFound):
                await pool.drop_cycle(names[0])

    run(main)


def test_a_job_may_be_a_message() -> None:
    """It asks its target; one that crashes counts as failed and holds up nobody."""

    async def main() -> None:
        async with system() as sim:
            pool = await sim.spawn(Pool, "pool", size=1)
            meter = await sim.spawn(Meter, "m")
            await pool.spawn_cycle("m", "slowly", {"by": 3})
            await pool.spawn_cycle("m", "refuse")
            await pool.spawn_cycle("m", "slowly", {"by": 4})
            await asyncio.sleep(10)
            assert await meter.add(0) == 7
            jobs = (await pool.status())["jobs"]
            assert (jobs["done"], jobs["failed"], jobs["running"]) == (2, 1, [])

    run(main)


def test_pools_of_one_name_do_not_share_their_cycles() -> None:
    """The second is refused; a restart of the first is none."""

    async def main() -> None:
        async with system(copy=False) as sim:
            pool = await sim.spawn(Pool, "p", cycle=Meter)
            with pytest.raises(AddressInUse, match="d9://cycle/p/"):
                await sim.spawn(Pool, "p", group="other", cycle=Meter)
            await pool.restart()
            await pool.sync_cycles(3)
            assert await sim.ask("d9://cycle/p/2", "add") == 1

    run(main)


class Tagged(Daemon):
    """A cycle with several fields."""

    value: int = 0
    tags: list[str] = []
    pair: tuple[int, int] = (0, 0)

    @on
    def tag(self, word: str) -> list[str]:
        self.tags.append(word)
        self.pair = (len(word), self.value)
        return self.tags

    @on
    def paired(self) -> tuple[int, int]:
        return self.pair


def test_a_population_and_its_jobs_survive_a_restart() -> None:
    """Count, steps, what cycles have of their own, and the jobs that had not begun."""

    async def first() -> None:
        async with system(store=store, copy=False) as sim:
            pool = await sim.spawn(Pool, "tags", cycle=Tagged, size=1)
            await pool.sync_cycles(10**12)
            await pool.step(7)
            await sim.ask("d9://cycle/tags/999999999999", "tag", word="far")
            await pool.tell_cycle(3, "tag", {"word": "near"})
            meter = await sim.spawn(Meter, "m")
            await pool.spawn_cycle("m", "slowly", {"by": 1})  # begins, and is not repeated
            await pool.spawn_cycle("m", "slowly", {"by": 10})
            assert await pool.spawn_cycle(lambda: None) == "tags-3"
            await pool.checkpoint()
            await meter.add(0)
            sim.lifecycle.crashed(sim.cell_of(pool), None, RuntimeError("on purpose"))
            await sim.sleep(5)
            assert await sim.ask("d9://cycle/tags/3", "tag", word="again") == ["near", "again"]
            await pool.tell_cycle(4, "tag", {"word": "saved when it stops"})

    async def second() -> None:
        async with system(store=store, copy=False) as sim:
            await sim.spawn(Meter, "m")
            pool = await sim.spawn(Pool, "tags", cycle=Tagged, size=1)
            status = await pool.status()
            assert status["population"]["count"] == 10**12
            assert status["population"]["epoch"] == 7
            assert status["population"]["active"] == 3
            assert await sim.ask("d9://cycle/tags/3", "paired") == [5, 0]
            assert await sim.ask("d9://cycle/tags/999999999999", "tag", word="x") == ["far", "x"]
            assert await pool.spawn_cycle("m", "add") == "tags-4"

    async def third() -> None:
        async with system(store=store, copy=False) as sim:
            with pytest.raises(Corrupt, match="of d9://pool/default/tags was saved with tags="):
                await sim.spawn(Pool, "tags", cycle=Meter)
        async with system(store=store, copy=False) as sim:
            with pytest.raises(Corrupt, match="no cycle class any more"):
                await sim.spawn(Pool, "tags")

    store = MemoryStore()
    for life in (first, second, third):
        run(life)


def test_only_jobs_that_had_not_begun_are_run_again() -> None:
    """One of two had begun when the node was killed: the other runs in the next life, once."""

    async def first() -> None:
        async with system(store=store, copy=False) as sim:
            await sim.spawn(Meter, "m")
            pool = await sim.spawn(Pool, "p", size=1)
            await pool.spawn_cycle("m", "slowly", {"by": 1})
            await pool.spawn_cycle("m", "slowly", {"by": 10})
            await pool.checkpoint()
            store.lose_power()  # nothing that comes after counts
            store.error = NotRunning("no power")

    async def second() -> None:
        store.error = None
        async with system(store=store, copy=False) as sim:
            meter = await sim.spawn(Meter, "m")
            pool = await sim.spawn(Pool, "p", size=1)
            await sim.sleep(5)
            assert await meter.add(0) == 10
            assert (await pool.status())["jobs"]["done"] == 1

    store = MemoryStore()
    for life in (first, second):
        run(life)


def test_refusals() -> None:
    """Counts, cycles, messages, fields and configurations that cannot be."""

    async def main() -> None:
        async with system() as sim:
            bare = await sim.spawn(Pool, "bare")
            pool = await sim.spawn(Pool, "meters", cycle=Meter)
            await pool.sync_cycles(10)
            for count in (-1, 10**12 + 1):
                with pytest.raises(BadPayload):
                    await pool.sync_cycles(count)
            with pytest.raises(BadPayload):
                await bare.sync_cycles(1)
            for cycle in (-1, 10):
                with pytest.raises(UnknownDaemon):
                    await pool.tell_cycle(cycle, "add")
            with pytest.raises(UnknownDaemon):
                await bare.tell_cycle(0, "add")
            with pytest.raises(UnknownMessage):
                await pool.tell_cycle(1, "ad")
            with pytest.raises(BadPayload):
                await pool.tell_cycle(1, "status")
            with pytest.raises(BadPayload):
                await pool.tell_cycle(1, "add", {"by": "x"})
            with pytest.raises(Refused):
                await pool.tell_cycle(1, "refuse")
            with pytest.raises(BadPayload):
                await pool.step(-1)
            with pytest.raises(NotFound):
                await pool.total("nothing")
            for target, message in (("", "x"), ("x", ""), (5, "x")):
                with pytest.raises(BadPayload):
                    await pool.spawn_cycle(target, message)
            for config in ({"size": 0}, {"cycle": "no.such:Class"}, {"cycle": 5}, {"cycle": "x"}):
                with pytest.raises(BadConfig):
                    await sim.spawn(Pool, "bad", **config)
            for text in ("01", "x", "10"):
                with pytest.raises(UnknownDaemon):
                    await sim.ask(f"d9://cycle/meters/{text}", "add")

    run(main)
