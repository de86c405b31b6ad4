"""Kill a busy node with SIGKILL, again and again, and look for what it left behind.

    make kill            fifty times; python tests/trials/kill.py 5: as often as one likes

Each run starts a node that starts processes of every unpleasant kind as fast as it can, kills it
at a random moment, and wants every one of them gone within five seconds, the helper
included. Prints one line a run; exit status 1 if anything was left.
"""

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from dan9.daemons.process import Process
from dan9.daemons.service import Service
from dan9.testing import run, system

WITHIN_S = 5.0
MOST_STEPS = 40
"""The node is killed after a random number of starts below this."""

# `@` becomes the run's mark: a fraction of a second, so that `sleep` shows it in its arguments
# even where the environment was cleared.
PLAIN = "sleep 1000.@"
BACKGROUND = "sh -c 'sleep 1000.@ & sleep 1001.@ & wait'"
DOUBLE_FORK = "sh -c 'setsid sh -c \"sleep 1000.@ & sleep 1001.@ & exit 0\" & exit 0'"
STUBBORN = "sh -c 'trap \"\" TERM HUP INT; sleep 1000.@ & sleep 1001.@; sleep 1002.@'"
NAKED = "sh -c 'env -i setsid sleep 1000.@ </dev/null >/dev/null 2>&1 & exit 0'"
STOPPED = "sh -c 'sleep 1000.@ & kill -STOP $!; sleep 1001.@; kill -STOP $$'"
BREEDING = "sh -c 'while :; do sleep 0.02; sleep 1000.@ & done'"
KINDS = (PLAIN, BACKGROUND, DOUBLE_FORK, STUBBORN, NAKED, STOPPED, BREEDING)


async def busy_node(mark: str) -> None:
    """Start processes without end; say after each how many there were."""
    async with system(copy=False) as world:
        process = await world.spawn(Process, "process", group="system", max_processes=100_000)
        await world.spawn(Service, "service", command=PLAIN.replace("@", mark))
        for count in range(100_000):
            command = KINDS[count % len(KINDS)].replace("@", mark)
            if count % 5 == 4:
                await process.run(f"sh -c 'sleep 1000.{mark} & exit 0'")
            else:
                await process.spawn_(command)
            sys.stdout.write(f"{count}\n")
            sys.stdout.flush()


def left_behind(mark: str, node: int) -> dict[int, str]:
    """Return what still runs of a node: pid and command."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or int(entry.name) == node:
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        except OSError:
            continue
        is_helper = any("process_helper" in word for word in words) and str(node) in words
        if is_helper or any(f".{mark}" in word for word in words):
            found[int(entry.name)] = " ".join(words).strip()
    return found


async def ended(pid: int) -> None:
    """Return when the process has ended."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    over = loop.create_future()
    loop.add_reader(handle, lambda: over.done() or over.set_result(None))
    try:
        await over
    finally:
        loop.remove_reader(handle)
        os.close(handle)


@dataclass
class Outcome:
    """One run: after how many starts, how many processes there were, how long they took to go."""

    steps: int
    processes: int
    seconds: float
    left: dict[int, str]


async def kill_once() -> Outcome:
    """Start a busy node, kill it, wait until nothing of it is left."""
    chance = int.from_bytes(os.urandom(4), "big")
    steps = chance % MOST_STEPS
    mark = f"{chance:010d}"
    node = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, "--node", mark), stdout=asyncio.subprocess.PIPE
    )
    assert node.stdout is not None
    for _ in range(steps + 1):
        if not await node.stdout.readline():
            raise RuntimeError("the node ended by itself: see above")
    there = len(left_behind(mark, node.pid))
    loop = asyncio.get_running_loop()
    node.send_signal(signal.SIGKILL)
    killed = loop.time()
    try:
        async with asyncio.timeout(WITHIN_S):
            await node.wait()
            while left := left_behind(mark, node.pid):
                await asyncio.gather(*(ended(pid) for pid in left))
    except TimeoutError:
        left = left_behind(mark, node.pid)
    outcome = Outcome(steps, there, loop.time() - killed, left)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    return outcome


async def kill_often(runs: int) -> int:
    """Kill `runs` nodes; return how many left something behind."""
    failed = 0
    for number in range(1, runs + 1):
        outcome = await kill_once()
        failed += bool(outcome.left)
        what = f"LEFT {outcome.left}" if outcome.left else "nothing left"
        sys.stdout.write(
            f"{number:3} killed after {outcome.steps:2} starts: {outcome.processes:3} processes, "
            f"{what} after {outcome.seconds:.2f} s\n"
        )
        sys.stdout.flush()
    sys.stdout.write(f"{runs} runs, {failed} left something behind\n")
    return failed


if __name__ == "__main__":
    if sys.argv[1:2] == ["--node"]:
        run(lambda: busy_node(sys.argv[2]), real=True)
    else:
        sys.exit(1 if asyncio.run(kill_often(int((sys.argv[1:] or ["50"])[0]))) else 0)
