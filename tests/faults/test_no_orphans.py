"""No process outlives its node, however the node ends."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from dan9.daemons.process import Process
from dan9.testing import run, system
from tests.trials.kill import BACKGROUND, DOUBLE_FORK, KINDS, ended, kill_once, left_behind

pytestmark = pytest.mark.real


def mark_of():
    """Return digits that mark the processes of one test."""
    return f"{int.from_bytes(os.urandom(4), 'big'):010d}"


async def gone(mark):
    """Wait until no process of this mark is left; five seconds are promised."""
    async with asyncio.timeout(5):
        while left := left_behind(mark, os.getpid()):
            await asyncio.gather(*(ended(pid) for pid in left))


@pytest.mark.slow
def test_a_node_killed_at_random_moments_leaves_nothing():
    """Five busy nodes die by KILL at moments of their own; within five seconds all is gone."""

    async def main():
        for outcome in await asyncio.gather(*(kill_once() for _ in range(5))):
            assert not outcome.left, f"killed after {outcome.steps} starts"

    run(main, real=True)


@pytest.mark.slow
def test_a_node_that_stops_leaves_nothing():
    """An orderly stop ends grandchildren, double-forked and stubborn ones too."""
    mark = mark_of()

    async def main():
        async with system() as world:
            process = await world.spawn(Process, "process")
            for command in KINDS:
                await process.spawn_(command.replace("@", mark))
        await gone(mark)

    run(main, real=True)


@pytest.mark.slow
def test_a_killed_helper_takes_everything_along():
    """When somebody kills the helper its processes end, all askers hear, and a new one starts."""
    mark = mark_of()

    async def main():
        async with system() as world:
            process = await world.spawn(Process, "process")
            pid = await process.spawn_(BACKGROUND.replace("@", mark))
            await process.spawn_(DOUBLE_FORK.replace("@", mark))
            waiting = asyncio.ensure_future(world.ask("process", "wait", pid=pid))
            await asyncio.sleep(0)
            os.kill(world.status_of("process")["helper"], signal.SIGKILL)
            assert (await waiting)["signal"] == "KILL"
            await gone(mark)
            assert (await process.run("echo again")).stdout == "again\n"

    run(main, real=True)


def test_the_helper_ignores_what_a_terminal_sends():
    """INT, TERM, HUP and QUIT to everybody do not end the helper before the node."""

    async def main():
        async with system() as world:
            process = await world.spawn(Process, "process")
            await process.run("true")
            helper = world.status_of("process")["helper"]
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                os.kill(helper, number)
            assert (await process.run("echo here")).stdout == "here\n"
            assert world.status_of("process")["helper"] == helper

    run(main, real=True)


FORKING_NODE = """
import os, signal, sys
from dan9.daemons.process import Process
from dan9.testing import run, system

async def main():
    async with system() as world:
        process = await world.spawn(Process, "process")
        await process.spawn_(f"sleep 1000.{sys.argv[1]}")
        copy = os.fork()
        if copy == 0:
            signal.pause()
        print(copy, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

run(main, real=True)
"""


def test_a_fork_of_the_node_does_not_keep_its_processes_alive():
    """A copy of the node's descriptors in some fork must not hide the node's end."""
    mark = mark_of()
    node = subprocess.Popen([sys.executable, "-c", FORKING_NODE, mark], stdout=subprocess.PIPE)
    with node:
        copy = int(node.stdout.readline())
        try:
            run(lambda: gone(mark), real=True)
        finally:
            os.kill(copy, signal.SIGKILL)
