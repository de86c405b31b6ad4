"""The soak: thirty daemons, a thousand messages and many kinds of faults, seed after seed.

`make soak SEEDS=100000` runs this for as long as one likes; the suite runs a part of
it (tests/stateful/test_soak.py). Every step of the scheduler is followed by a check of the
invariants of `dan9.testing.invariants`; beside the workers, whom the faults strike, a
supervisor with an intensity and a nursery of short lives are compared with models. A seed
that breaks something is printed and can be replayed alone:

    python -m tests.soak --from 1234 --seeds 1
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Awaitable

from dan9 import (
    AddressInUse,
    Backoff,
    ChildSpec,
    Daemon,
    DaemonFailed,
    NotRunning,
    Refused,
    Supervisor,
    TimedOut,
    every,
    gather,
    on,
)
from dan9.base.events import RestartIntensityReached
from dan9.base.reasons import NORMAL
from dan9.testing import (
    BrokenPromise,
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
ROUNDS = 165
EXPECTED = (Refused, TimedOut, DaemonFailed)
WHO = "d9://worker/**"
FAULTS = (
    Crash(WHO, chance=0.004, at="before"),
    Crash(WHO, chance=0.004, at="while"),
    Crash(WHO, chance=0.004, at="after"),
    Delay(WHO, chance=0.02, seconds=1.5),
    Drop(WHO, chance=0.01),
    Duplicate(WHO, chance=0.01),
    SlowHandler(WHO, chance=0.01),
    FullMailbox(WHO, chance=0.003),
    ClockJump(WHO, chance=0.001),
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

    @on
    async def pause(self) -> None:
        """Keep everyone waiting."""
        await self.sleep(1.0)

    @every("10s")
    def tick(self) -> None:
        """Do a piece by the clock."""
        self.done += 1


class Mayfly(Daemon):
    """Lives once."""

    @on
    async def buzz(self) -> None:
        """Take a moment."""
        await self.sleep(0.1)

    @on
    def go(self, how: str) -> None:
        """End."""
        if how == "crash":
            raise RuntimeError("on request")
        self.system.finish(self, NORMAL)


INTENSITY, PERIOD_S = 2, 5.0


class Boss(Supervisor, type="boss"):
    """Gives up after more than two restarts in five seconds."""

    children = tuple(
        ChildSpec(Mayfly, f"f{n}", group="boss", backoff=Backoff(0.0, give_up_after=0))
        for n in range(3)
    )


def hold(world: World, promise: bool, text: str) -> None:
    """Report a broken promise."""
    if not promise:
        raise BrokenPromise(f"seed {world.seed}: {text}")


async def fall(world: World) -> None:
    """Crash a supervisor's children at moments drawn by the seed; a model counts along."""
    system, draw = world.system, world.system.random
    reached: list[str] = []
    unsubscribe = system.subscribe_events(
        lambda event: (
            reached.append(event.address) if isinstance(event, RestartIntensityReached) else None
        )
    )
    strategy = draw.choice(("one_for_one", "one_for_all", "rest_for_one"))
    await system.spawn(
        Boss, "boss", group="boss", strategy=strategy, intensity=INTENSITY, period_s=PERIOD_S
    )
    falls: list[float] = []
    for _ in range(12):
        now = world.clock.monotonic()
        falls = [when for when in falls if when >= now - PERIOD_S]
        falls.append(now)
        await system.send(f"d9://mayfly/boss/f{draw.randrange(3)}", "go", how="crash")
        await world.quiet()
        too_many = len(falls) > INTENSITY
        hold(world, bool(reached) == too_many, f"{strategy}: falls {falls}, gave up {reached}")
        if too_many:
            falls.clear()
            reached.clear()
            await system.sleep(61)  # back in good health
        await system.sleep(draw.choice((0.0, 1.0, 2.5, 5.0, 5.0, 5.5)))
    unsubscribe()


async def hatch(world: World) -> None:
    """Let short lives begin and end under two names; a name is free when its life is over."""
    system, draw = world.system, world.system.random
    for _ in range(6):
        name = f"m{draw.randrange(2)}"
        try:
            fly = await system.spawn(Mayfly, name, group="nursery", restart="temporary")
        except AddressInUse as error:
            raise BrokenPromise(f"seed {world.seed}: {error}") from None
        buzzing = [asyncio.create_task(fly.buzz()) for _ in range(draw.randrange(4))]
        await asyncio.sleep(0)
        fly.go.tell(draw.choice(("crash", "leave")))
        late = asyncio.create_task(fly.buzz())
        outcomes = await asyncio.gather(*buzzing, late, return_exceptions=True)
        hold(world, isinstance(outcomes[-1], NotRunning), f"asked the dead: {outcomes[-1]!r}")
        await world.quiet()


async def within(world: World, limit_s: float, ask: Awaitable[object]) -> None:
    """Wait for an answer of whatever kind; it comes within its deadline."""
    asked = world.clock.monotonic()
    with contextlib.suppress(*EXPECTED):
        await ask
    took = world.clock.monotonic() - asked
    hold(world, took <= limit_s + 1e-6, f"an answer came after {took} s instead of {limit_s}")


async def work(world: World, workers: list[Worker]) -> None:
    """Keep the workers busy."""
    draw = world.system.random
    for _ in range(ROUNDS):
        worker = draw.choice(workers)
        with contextlib.suppress(*EXPECTED):
            worker.work.tell(draw.randrange(8))
        await within(world, 2.0, worker.work.within(2.0)(draw.randrange(4)))
        with contextlib.suppress(*EXPECTED):
            if draw.random() < 0.2:
                worker.wait.tell()
            if draw.random() < 0.05:
                worker.pause.tell()
                asks = [worker.work.within(0.5)(0) for _ in range(3)]
                await within(world, 0.5, gather(*asks, return_errors=True))
                await within(world, 5.0, worker.work.send(0))


async def live(world: World) -> dict[str, int]:
    """Run the workload; return the final account of messages."""
    system = world.system
    names = [f"w{number}" for number in range(DAEMONS)]
    workers = [await system.spawn(Worker, name) for name in names]
    for worker in workers:
        with contextlib.suppress(*EXPECTED):
            await worker.meet(names)
    await asyncio.gather(work(world, workers), hatch(world), fall(world))
    await system.sleep("30s")
    await world.quiet()
    world.check()
    return system.conservation()


def run_seed(seed: int) -> tuple[int, int, dict[str, int], str]:
    """Run one seed; return it, its messages, the faults that struck and what went wrong."""
    try:
        account, world = run_world(live, seed, faults=FAULTS, record=False, copy=False, wait_s=0.1)
    except BaseException as error:  # whatever it is, it is reported with its seed
        return seed, 0, {}, f"{type(error).__name__}: {error}"
    return seed, account["sent"], dict(world.struck), ""


def run_seeds(
    first: int, count: int, workers: int = 2, *, stop: bool = False
) -> tuple[int, Counter[str], list[str]]:
    """Run many seeds in `workers` processes; with `stop`, up to the first that breaks something.

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
            if found and stop:
                pool.terminate()
                break
    return messages, struck, found


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    seeds, first = os.environ.get("SEEDS", "400"), os.environ.get("FROM", "0")
    parser.add_argument("--seeds", type=int, default=int(seeds), help="SEEDS; 400")
    parser.add_argument("--from", dest="first", type=int, default=int(first), help="FROM; 0")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--stop", action="store_true", help="at the first seed that breaks")
    given = parser.parse_args()
    messages, struck, found = run_seeds(given.first, given.seeds, given.workers, stop=given.stop)
    sys.stdout.write(f"{given.seeds} seeds, {messages} messages, faults: {dict(struck)}\n")
    for line in found:
        sys.stdout.write(line + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
