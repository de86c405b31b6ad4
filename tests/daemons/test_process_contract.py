"""The contract of the process daemon, over real processes and over its twin in memory."""

import asyncio
import signal

import pytest

from dan9.daemons.process import Process
from dan9.daemons.service import Service
from dan9.testing import run, system
from dan9.testing.memory_process import MemoryProcess
from tests.contracts.process_contract import CONTRACT


async def hold(case, kind):
    """Run one check against a fresh process daemon."""
    async with system(seed=0) as world:
        await world.spawn(kind, "process", group="test", **getattr(case, "config", {}))
        await case(world)


@pytest.mark.real
@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
def test_the_process_daemon_keeps_the_contract(case):
    """The daemon does, with real processes, what the check says."""
    run(lambda: hold(case, Process), real=True)


@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
def test_the_twin_in_memory_keeps_the_contract(case):
    """The twin does, in virtual time, what the check says."""
    run(lambda: hold(case, MemoryProcess))


def test_a_program_of_ones_own_runs_in_virtual_time():
    """A server that takes an hour to come up is ready after an hour, which takes no time."""

    async def server(program):
        program.ignores.add(signal.SIGTERM)
        await asyncio.sleep(3600)
        await program.print("serving\n")
        await asyncio.sleep(1e9)
        return 0

    class Machine(MemoryProcess, type="process"):
        """Has a server."""

        programs = {**MemoryProcess.programs, "server": server}

    async def main():
        loop = asyncio.get_running_loop()
        async with system() as world:
            await world.spawn(Machine, "process", group="system")
            service = {"command": "server --port 80", "ready": "line:serving", "ready_within": "2h"}
            await world.spawn(Service, "server", **service)
            assert loop.time() == 3600
            await world.ask("server", "stop")
            assert loop.time() == 3604, "it ignores TERM: KILL comes after the grace"
            assert await world.ask("process", "list") == []

    run(main)
