"""Storms over daemons that nobody watches: the kernel's shortest ways, in batches.

A world shows every message to its invariants, one at a time and in an order of the seed's, so
what it tries is the long way. Here daemons are told, asked, crashed, suspended, stopped and
started again at random, with mailboxes of a few places; when all is quiet, nobody may be left
waiting: no message in a mailbox that could be handled, no ask without an answer.
"""

import asyncio
import contextlib

from dan9 import (
    Backoff,
    ChildSpec,
    Daemon,
    DaemonFailed,
    Refused,
    System,
    TimedOut,
    VirtualClock,
    gather,
    on,
)
from dan9.kernel.cell import BUSY, QUEUED, WATCHED

SEEDS = 75
DAEMONS = 6
ROUNDS = 60
AGES_S = 10_000.0
MESSAGES = ("plain", "plain", "brief", "asking", "beside", "sleeping", "given_up")
POLICIES = ("wait", "refuse", "drop-oldest", "drop-newest")
QUICK = Backoff(first_s=0.1, jitter=0.0, give_up_after=0)
REFUSALS = (Refused, TimedOut, DaemonFailed)


class Sailor(Daemon):
    """Passes on what it hears, in every way there is."""

    done: int = 0

    def other(self):
        """Draw one of the others, or oneself."""
        return self.ref(Sailor, f"s{self.system.random.randrange(DAEMONS)}")

    def pass_on(self, left):
        """Count, and tell two others, perhaps oneself."""
        self.done += 1
        for _ in range(2 if left > 0 else 0):
            with contextlib.suppress(*REFUSALS):
                getattr(self.other(), self.system.random.choice(MESSAGES)).tell(left - 1)
        return self.done

    @on
    def plain(self, left: int) -> int:
        """Pass on."""
        return self.pass_on(left)

    @on
    async def brief(self, left: int) -> int:
        """Pass on from a coroutine that ends at once."""
        return self.pass_on(left)

    @on
    async def asking(self, left: int) -> int:
        """Ask on, one or several, with the daemon held up meanwhile."""
        self.done += 1
        if left <= 0:
            return self.done
        try:
            if left % 2:
                return await self.other().plain.within(0.7)(left - 1)
            await gather([self.other().brief(left - 2) for _ in range(3)])
        except REFUSALS:
            pass
        return self.done

    @on(concurrent=2)
    async def beside(self, left: int) -> int:
        """Wait beside one other."""
        await self.sleep(0.05)
        return self.pass_on(left)

    @on
    async def sleeping(self, left: int) -> int:
        """Hold the daemon up, and be given up by some."""
        await self.sleep(self.system.random.choice((0.0, 0.01, 0.3)))
        return self.pass_on(left)

    @on(cancellable=True)
    async def given_up(self, left: int) -> int:
        """Wait for longer than anyone does."""
        await self.sleep(3.0)
        return self.pass_on(left)

    @on
    def crash(self, left: int) -> None:
        """Fall."""
        raise RuntimeError("on request")

    @on
    def count(self) -> int:
        """Say how much was done."""
        return self.done


async def storm(seed, clock):
    """One storm; return what was wrong when it was over, and how many messages there were."""
    async with System("storm", daemons="none", socket=False, seed=seed, clock=clock) as s:
        draw, refs = s.random, []
        for number in range(DAEMONS):
            limit, policy = draw.choice((3, 40, 10_000)), draw.choice(POLICIES)
            spec = ChildSpec(Sailor, f"s{number}", backoff=QUICK)
            refs.append(
                await s.spawn(Sailor, f"s{number}", spec=spec, mailbox=limit, policy=policy)
            )
        asks = []
        for some in await asyncio.gather(*(wave(draw, s, refs) for _ in range(3))):
            asks += some
        await s.sleep(AGES_S)
        for ref in refs:
            await ref.start()
            await ref.resume()
        await s.sleep(AGES_S)
        wrong = at_rest(s)
        for ask in asks:
            if not ask.done():
                wrong.append(f"an ask has no answer: {ask}")
            elif not ask.cancelled() and not isinstance(ask.exception(), (*REFUSALS, type(None))):
                wrong.append(f"an ask failed: {ask.exception()!r}")
        wrong += [f"{ref.name} does not answer" for ref in refs if not await answers_soon(ref)]
        return wrong, s.conservation()["handled"]


async def wave(draw, s, refs):
    """Do what comes to mind, to one daemon after another; return the asks."""
    asks = []
    for _ in range(ROUNDS):
        ref = draw.choice(refs)
        message = getattr(ref, draw.choice(MESSAGES))
        left = draw.randrange(5)
        match draw.randrange(14):
            case 0 | 1 | 2 | 3:
                with contextlib.suppress(*REFUSALS):
                    for _ in range(draw.choice((1, 1, 3, 50))):
                        message.tell(left)
            case 4 | 5 | 6:
                ask = message.within(draw.choice((0.02, 0.5, 2.0, None)))(left)
                asks.append(asyncio.create_task(ask))
            case 7:
                asks.append(asyncio.create_task(message.send(left)))
            case 8:
                with contextlib.suppress(*REFUSALS):
                    ref.crash.tell(0)
            case 9:
                how = draw.choice((ref.suspend, ref.resume, ref.resume, ref.restart, ref.stop))
                asks.append(asyncio.create_task(how()))
            case 10:
                asks.append(asyncio.create_task(ref.start()))
            case 11:
                if asks:
                    draw.choice(asks).cancel()
            case _:
                await s.sleep(draw.choice((0.0, 0.0, 0.03, 0.4)))
    return asks


def at_rest(s):
    """Return who was forgotten, nothing being runnable any more."""
    wrong = []
    scheduler = s.scheduler
    if scheduler.run_first is not None or scheduler.control:
        wrong.append("something is runnable still")
    for cell in s.registry.home(Sailor._d9_behaviour, "sailor", "default").names.values():
        assert not cell.gate & WATCHED
        if cell.head is not None:
            wrong.append(f"{cell.name} has messages and nobody wakes it up")
        if cell.gate & QUEUED:
            wrong.append(f"{cell.name} waits to run and is not in the run queue")
        if cell.gate & BUSY:
            wrong.append(f"{cell.name} is held up by {cell.hand}")
        if cell.cold is not None and (cell.cold.room or cell.cold.set_aside):
            wrong.append(f"{cell.name} lets nobody in")
    sums = s.conservation()
    if sums["sent"] != sums["handled"] + sums["dead"] or sums["queued"] or sums["in-hand"]:
        wrong.append(f"messages were lost or made up: {sums}")
    return wrong


async def answers_soon(ref):
    """Return whether it answers."""
    try:
        await ref.count.within(1.0)()
    except REFUSALS:
        return False
    return True


def test_nobody_is_forgotten():
    """After each of many storms all are at rest, answered, and there to be asked."""
    found, handled = {}, 0
    for seed in range(SEEDS):
        clock = VirtualClock()
        wrong, count = clock.run(storm(seed, clock))
        handled += count
        if wrong:
            found[seed] = wrong
    assert found == {}
    assert handled > 60_000
