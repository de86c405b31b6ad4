"""No message is lost or made up, per daemon and in sum, whatever becomes of the daemon."""

import asyncio

import pytest

from dan9 import (
    Backoff,
    ChildSpec,
    Config,
    Daemon,
    MailboxFull,
    NotAllowed,
    NotRunning,
    Refused,
    Supervisor,
    gather,
    on,
)
from dan9.base.reasons import NORMAL
from dan9.testing import run_world
from dan9.testing.memory_store import MemoryStore

QUICK = Backoff(first_s=0.0, jitter=0.0, give_up_after=0)


class Hand(Daemon):
    """Works, waits, ends, falls."""

    @on
    async def wait(self, seconds: float = 1.0) -> str:
        """Wait with the daemon."""
        await self.sleep(seconds)
        return "waited"

    @on(concurrent=2)
    async def serve(self, seconds: float = 1.0) -> str:
        """Wait beside one other."""
        await self.sleep(seconds)
        return "served"

    @on
    def end(self) -> None:
        """End of oneself."""
        self.system.finish(self, NORMAL)

    @on
    def fall(self) -> None:
        """Crash."""
        raise RuntimeError("on request")


def outcome(done):
    """Return what an ask came to: its value or the class of its refusal."""
    return done if not isinstance(done, BaseException) else type(done)


def test_messages_set_aside_go_on_after_a_crash():
    """What waited for a slot of a concurrent handler is handled by the next incarnation."""

    async def body(world):
        s = world.system
        spec = ChildSpec(Hand, "h", backoff=QUICK)
        hand = await s.spawn(Hand, "h", spec=spec)
        asks = [asyncio.create_task(hand.serve(1.0)) for _ in range(4)]
        await s.sleep(0.1)
        world.crash("h")
        return [outcome(one) for one in await asyncio.gather(*asks, return_exceptions=True)]

    found, _ = run_world(body)
    assert found == [NotRunning, NotRunning, "served", "served"]


@pytest.mark.parametrize("how", ["end", "fall"])
@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_queue_of_a_daemon_that_does_not_come_back_is_dead(how, restart):
    """What is queued when a daemon ends for good becomes dead letters; its askers hear at once."""

    async def body(world):
        s = world.system
        spec = ChildSpec(Hand, "h", restart=restart, backoff=QUICK)
        hand = await s.spawn(Hand, "h", spec=spec)
        hand.wait.tell(0.5)
        getattr(hand, how).tell()
        before = world.clock.monotonic()
        asks = [asyncio.create_task(hand.wait(1.0)) for _ in range(2)]
        hand.wait.tell()
        found = [outcome(one) for one in await asyncio.gather(*asks, return_exceptions=True)]
        took = world.clock.monotonic() - before
        await world.quiet()
        world.check()
        return found, took, s.dead_letters.by_reason["not-running"]

    (found, took, dead), _ = run_world(body)
    if how == "fall" and restart == "transient":
        assert found == ["waited", "waited"]
    else:
        assert found == [NotRunning, NotRunning]
        assert took == 0.5
        assert dead == 3


def test_refused_callers_are_counted():
    """A message that `allow` turns away is received and dead."""

    async def body(world):
        hand = await world.system.spawn(
            Hand, "h", allow=[{"from": "d9://other/**", "messages": ["wait"]}]
        )
        with pytest.raises(NotAllowed):
            await hand.wait()
        hand.wait.tell()
        world.check()
        return world.system.dead_letters.by_reason["not-allowed"]

    assert run_world(body)[0] == 2


@pytest.mark.parametrize("policy", ["wait", "refuse", "drop-oldest", "drop-newest"])
def test_full_mailboxes_are_counted(policy):
    """Whatever a full mailbox does with one more, the account is right at every step."""

    async def body(world):
        s = world.system
        hand = await s.spawn(Hand, "h", mailbox=2, policy=policy)
        await s.spawn(Hand, "i", mailbox=2, policy=policy)
        asks = [asyncio.create_task(hand.wait(0.1)) for _ in range(5)]
        asks += [asyncio.create_task(hand.wait.send(0.1)) for _ in range(5)]
        await asyncio.sleep(0)
        for _ in range(3):
            try:
                hand.wait.tell(0.1)
            except MailboxFull:
                break
        s.tell("d9://hand/**", "wait", seconds=0.1)
        world.check()
        await asyncio.gather(*asks, return_exceptions=True)
        await s.sleep(10)
        hand.fall.tell()
        await s.sleep(10)
        world.check()

    run_world(body)


def test_messages_to_one_who_went_and_one_who_took_the_name():
    """A ref to a freed name leads to who has it now; before that, to a dead letter."""

    async def body(world):
        s = world.system
        old = await s.spawn(Hand, "h", restart="temporary")
        old.end.tell()
        await world.quiet()
        old.wait.tell()
        world.check()
        await s.spawn(Hand, "h", restart="temporary")
        assert await old.wait(0.1) == "waited"
        world.check()
        return s.dead_letters.by_reason["not-running"]

    assert run_world(body)[0] == 1


def test_gather_counts_what_is_refused_at_once():
    """`gather` waits for all, also when one ask is a dead letter the moment it is sent."""

    async def body(world):
        s = world.system
        gone = await s.spawn(Hand, "gone", restart="temporary")
        there = await s.spawn(Hand, "there")
        gone.end.tell()
        await world.quiet()
        asks = [gone.wait(), there.wait(), gone.wait(), there.wait()]
        return [outcome(one) for one in await gather(*asks, return_errors=True)]

    assert run_world(body)[0] == [NotRunning, "waited", NotRunning, "waited"]


class Ledger(Daemon, durable=True):
    """Handles each message id once."""

    total: int = 0

    @on
    async def add(self, by: int = 1) -> int:
        """Add."""
        await self.sleep(0.1)
        if by < 0:
            raise Refused("no")
        self.total += by
        return self.total


def test_repeats_of_durable_messages_are_counted():
    """Repeats of what is in hand or was handled are answered, and the account is right."""

    async def body(world):
        s = world.system
        await s.spawn(Ledger, "l")
        asks = [
            asyncio.create_task(s.ask("l", "add", by=1, message_id=f"m{n % 3}")) for n in range(9)
        ]
        await asyncio.gather(*asks)
        assert await s.ask("l", "add", by=1, message_id="m1") <= 3
        with pytest.raises(Refused):
            await s.ask("l", "add", by=-1, message_id="m9")
        for n in range(3):
            await s.send("l", "add", by=1, message_id=f"s{n}")
        world.crash("l")
        await s.sleep(10)
        world.check()
        return world.system.state_of("d9://ledger/default/l")

    assert run_world(body, store=MemoryStore())[0] == "running"


class Slow(Daemon):
    """Takes a second to start."""

    slow: Config[float] = 1.0

    async def on_start(self) -> None:
        """Take a while."""
        await self.sleep(self.slow)

    @on
    def ping_me(self) -> str:
        """Answer."""
        return self.name

    @on
    def fall(self) -> None:
        """Crash."""
        raise RuntimeError("on request")


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
@pytest.mark.parametrize("second", ["a", "b", "c"])
def test_child_that_falls_while_others_are_restarted_comes_back(strategy, second):
    """A child that crashes during the restart of its siblings is not left behind."""

    class Family(Supervisor, type="family"):
        children = tuple(ChildSpec(Slow, name, group="kids", backoff=QUICK) for name in "abc")

    async def body(world):
        s = world.system
        await s.spawn(Family, "f", strategy=strategy)
        await s.ask("d9://slow/kids/b", "ping-me")
        s.tell("d9://slow/kids/b", "fall")
        # When the second of them falls, its neighbour is half way through its start.
        await s.sleep({"a": 1.5, "b": 1.5 if strategy == "rest_for_one" else 2.5, "c": 0.5}[second])
        if s.state_of(f"d9://slow/kids/{second}") == "running":
            s.tell(f"d9://slow/kids/{second}", "fall")
        await s.sleep(20)
        return {name: s.state_of(f"d9://slow/kids/{name}") for name in "abc"}

    assert run_world(body)[0] == dict.fromkeys("abc", "running")
