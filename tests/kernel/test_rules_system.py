"""Chance, starvation and systems side by side: rules 28, 29 and 30."""

import asyncio
import logging
import socket
import threading

import pytest

from dan9 import BadAddress, Daemon, System, current_message, on
from dan9.base.errors import AddressInUse
from dan9.base.events import SlowStep
from dan9.kernel.log import log_info
from dan9.testing import run, system


class Flood(Daemon):
    """Keeps itself busy for ever."""

    left: int = 0
    open: bool = True

    @on
    def drop(self) -> None:
        """Fall again."""
        if self.open:
            self.drop.tell()

    @on
    def close(self) -> None:
        """Fall no more."""
        self.open = False


class Greeter(Daemon):
    """Says where it lives."""

    @on
    def greet(self) -> str:
        """Return the system's name."""
        return self.system.name

    @on
    def log_it(self, text: str) -> None:
        """Log by the module's function."""
        log_info("greeter", text)


def test_no_number_of_messages_starves_the_event_loop():
    """Between two turns of the scheduler the loop runs its own: counted in turns, not in time."""

    async def main() -> None:
        async with System("flood", daemons="none", socket=False) as made:
            flood = await made.spawn(Flood, "flood")
            for _ in range(64):
                flood.drop.tell()
            loop = asyncio.get_running_loop()
            scheduler = made.scheduler
            # A callback: in the loop's next iteration, whatever is queued.
            start = scheduler.turns
            for _ in range(5):
                await asyncio.sleep(0)
            assert scheduler.turns - start <= 6
            # A timer that is due, and a socket that is readable.
            here, there = socket.socketpair()
            here.setblocking(False)
            readable = asyncio.Event()
            loop.add_reader(here, readable.set)
            fired = asyncio.Event()
            start = scheduler.turns
            loop.call_at(loop.time(), fired.set)
            there.send(b"x")
            await fired.wait()
            await readable.wait()
            assert scheduler.turns - start <= 4
            loop.remove_reader(here)
            here.close()
            there.close()
            # And control: an answer out of band.
            start = scheduler.turns
            assert (await flood.status())["state"] == "running"
            assert scheduler.turns - start <= 4
            await flood.close()

    run(main, real=True)


def test_a_slow_step_is_named():
    """A handler that holds the node is an event, in `explain`, with its stack."""

    class Slow(Daemon):
        @on
        def grind(self) -> None:
            """Hold the node for longer than a step may take."""
            until = self.clock.monotonic() + 0.25
            while self.clock.monotonic() < until:
                pass

    async def main() -> None:
        async with System("slow", daemons="none", socket=False) as made:
            said = asyncio.Event()
            made.subscribe_events(lambda _: said.set(), SlowStep)
            slow = await made.spawn(Slow, "slow")
            await slow.grind()
            await asyncio.wait_for(said.wait(), 30)  # the watchdog is a thread of its own
            steps = made.explain("slow")["slow-steps"]
            assert [step["message"] for step in steps] == ["grind"]
            assert steps[0]["took-s"] >= 0.1
            assert "grind" in made.slow_steps[0].stack

    run(main, real=True)


def test_a_system_lives_inside_another_programs_loop():
    """Entered in one task, used from others, left while the program goes on (as in FastAPI)."""

    async def handle(made: System) -> str:
        return await made.ask("g", "greet")

    async def main() -> None:
        started, stop = asyncio.Event(), asyncio.Event()
        kept: list[System] = []

        async def lifespan() -> None:
            async with System("guest", daemons="none", socket=False) as made:
                kept.append(made)
                await made.spawn(Greeter, "g")
                started.set()
                await stop.wait()

        task = asyncio.create_task(lifespan())
        await started.wait()
        answers = await asyncio.gather(*(handle(kept[0]) for _ in range(5)))
        assert answers == ["guest"] * 5
        stop.set()
        await task
        assert not kept[0].is_up
        assert await asyncio.create_task(asyncio.sleep(0, "goes on")) == "goes on"
        assert asyncio.get_running_loop().get_task_factory() is None

    run(main, real=True)


def test_two_systems_live_in_one_process():
    """Side by side in one loop; each has its names, and logs go where the handler lives."""

    async def main() -> None:
        lines: dict[str, list[str]] = {"one": [], "two": []}
        async with system("one") as one, system("two") as two:
            for made in (one, two):
                heard = lines[made.name]
                made.log_sink = lambda line, heard=heard: heard.append(line.text)
                await made.spawn(Greeter, "g")
            assert await one.ask("g", "greet") == "one"
            assert await two.ask("g", "greet") == "two"
            await one.ask("g", "log-it", text="from one")
            await two.ask("g", "log-it", text="from two")
            assert lines == {"one": ["from one"], "two": ["from two"]}
            assert current_message() is None
        async with system("three") as three:
            heard = []
            three.log_sink = heard.append
            log_info("main", "outside")  # the process's only one
            assert [line.text for line in heard] == ["outside"]

    run(main)


def test_without_a_system_a_log_goes_to_the_standard_one(caplog):
    """Nothing is lost before there is a system, or between two."""
    with caplog.at_level(logging.INFO):
        log_info("main", "nobody %s", "here")
    assert "nobody here" in caplog.text


def test_a_system_runs_in_the_loop_of_a_thread():
    """One in the main thread, one in another's loop: they share nothing."""
    answers: list[str] = []

    async def life(name: str) -> None:
        async with System(name, daemons="none", socket=False) as made:
            await made.spawn(Greeter, "g")
            answers.append(await made.ask("g", "greet"))

    async def main() -> None:
        async with System("main", daemons="none", socket=False) as made:
            await made.spawn(Greeter, "g")
            thread = threading.Thread(target=lambda: asyncio.run(life("thread")))
            thread.start()
            await asyncio.to_thread(thread.join)
            answers.append(await made.ask("g", "greet"))

    run(main, real=True)
    assert answers == ["thread", "main"]


def test_a_second_system_of_a_name_is_refused(tmp_path):
    """By the lock in its state directory, within one process too; another name is welcome."""

    async def main() -> None:
        first = System("node", daemons=[], state_dir=tmp_path / "a", socket=True)
        async with first:
            second = System("node", daemons=[], state_dir=tmp_path / "a", socket=True)
            with pytest.raises(AddressInUse):
                await second.up()
            assert not second.is_up
        async with System("node", daemons=[], state_dir=tmp_path / "a", socket=True) as third:
            assert third.is_up

    run(main, real=True)


@pytest.mark.parametrize("name", ["", "Upper", "with space", "a" * 64, "at@node", "a/b", "-x"])
def test_a_system_needs_a_name_that_an_address_may_hold(name):
    """It is a segment of its clients' addresses."""
    with pytest.raises(BadAddress):
        System(name, daemons="none", socket=False)


def test_a_seed_decides_and_none_is_random():
    """Two systems without a seed differ; with one they draw the same."""
    free = {System("s", daemons="none", socket=False).seed for _ in range(3)}
    assert len(free) == 3
    draws = [System("s", seed=4, daemons="none", socket=False).random.random() for _ in range(2)]
    assert draws[0] == draws[1]
