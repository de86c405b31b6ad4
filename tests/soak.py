"""The soak: thirty daemons, a thousand messages and many kinds of faults, seed after seed.

`make soak SEEDS=100000` runs this for as long as one likes; the suite runs a part of
it (tests/stateful/test_soak.py). Every step of the scheduler is followed by a check that no
message was lost or made up; a seed that breaks it is printed and can be replayed alone:

    python -m tests.soak --from 1234 --seeds 1
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import sys
from collections import Counter

from dan9 import Daemon, DaemonFailed, Refused, TimedOut, every, on
from dan9.testing import (
    ClockJump,
    Crash,
    Delay,
    Drop,
    Duplicate,
    FullMailbox,
    SlowHandler,
    World,
    run_world,
)

DAEMONS = 30
ROUNDS = 230
EXPECTED = (Refused, TimedOut, DaemonFailed)
FAULTS = (
    Crash(chance=0.004, at="before"),
    Crash(chance=0.004, at="while"),
    Crash(chance=0.004, at="after"),
    Delay(chance=0.02, seconds=1.5),
    Drop(chance=0.01),
    Duplicate(chance=0.01),
    SlowHandler(chance=0.01),
    FullMailbox(chance=0.003),
    ClockJump(chance=0.001),
)


class Worker(Daemon):
    """Passes work on to others, by ask or by tell, until none is left."""

    done: int = 0

    async def on_start(self) -> None:
        """Know nobody yet."""
        self._peers: list[Worker] = []

    @on
    async def meet(self, names: list[str]) -> None:
        """Hear of the others."""
        self._peers = [self.ref(Worker, name) for name in names]

    @on
    async def work(self, left: int) -> int:
        """Do one piece and pass the rest on."""
        self.done += 1
        if left > 0 and self._peers:
            peer = self.system.random.choice(self._peers)
            try:
                if left % 2:
                    return await peer.work.within(3.0)(left - 1)
                peer.work.tell(left - 1)
            except EXPECTED:
                return self.done
            if left % 5 == 0:
                await self.sleep(0.5)
        return self.done

    @on(concurrent=2)
    async def wait(self) -> int:
        """Wait a little, two at a time."""
        await self.sleep(0.2)
        return self.done

    @every("10s")
    def tick(self) -> None:
        """Do a piece by the clock."""
        self.done += 1


async def live(world: World) -> dict[str, int]:
    """Run the workload; return the final account of messages."""
    system = world.system
    names = [f"w{number}" for number in range(DAEMONS)]
    workers = [await system.spawn(Worker, name) for name in names]
    for worker in workers:
        with contextlib.suppress(*EXPECTED):
            await worker.meet(names)
    draw = system.random
    for _ in range(ROUNDS):
        worker = draw.choice(workers)
        try:
            worker.work.tell(draw.randrange(8))
            await worker.work.within(2.0)(draw.randrange(4))
            if draw.random() < 0.2:
                worker.wait.tell()
        except EXPECTED:
            continue
    await system.sleep("30s")
    world.check()
    return system.conservation()


def run_seed(seed: int) -> tuple[int, int, dict[str, int], str]:
    """Run one seed; return it, its messages, the faults that struck and what went wrong."""
    try:
        account, world = run_world(live, seed, faults=FAULTS, record=False, copy=False)
    except BaseException as error:  # reported with its seed
        return seed, 0, {}, f"{type(error).__name__}: {error}"
    return seed, account["sent"], dict(world.struck), ""


def run_seeds(first: int, count: int, workers: int = 2) -> tuple[int, Counter[str], list[str]]:
    """Run many seeds in `workers` processes.

    Returns:
        All messages sent, how often each fault struck, and what was found, each with its seed.
    """
    messages = 0
    struck: Counter[str] = Counter()
    found: list[str] = []
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers) as pool:
        for seed, sent, faults, error in pool.imap_unordered(
            run_seed, range(first, first + count), chunksize=4
        ):
            messages += sent
            struck.update(faults)
            if error:
                found.append(f"seed {seed}: {error}")
            elif sent < 1000 or sum(faults.values()) < 5 or len(faults) < 3:
                found.append(f"seed {seed} proves too little: {sent} messages, {faults}")
    return messages, struck, found


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--from", dest="first", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    messages, struck, found = run_seeds(given.first, given.seeds, given.workers)
    sys.stdout.write(f"{given.seeds} seeds, {messages} messages, faults: {dict(struck)}\n")
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
