"""What a durable daemon acknowledges is not lost, and happens once: rules 9, 11 and 21."""

import asyncio

import pytest

from dan9 import Daemon, on
from dan9.base.errors import Conflict, Corrupt, Dan9Error, MailboxFull, NotRunning, TimedOut
from dan9.kernel.cell import STATE_NAMES
from dan9.kernel.clock import VirtualClock
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Till(Daemon, durable=True):
    """Counts money."""

    total: int = 0

    @on
    async def pay(self, amount: int = 1, pause: float = 0.0) -> int:
        """Take money, after a pause."""
        await self.sleep(pause)
        self.total += amount
        return self.total

    @on
    async def spoil(self) -> None:
        """Crash."""
        raise ZeroDivisionError

    @on
    async def look(self) -> int:
        """Return the total."""
        return self.total


class SmallTill(Till, durable=True, mailbox=1):
    """The same with room for one."""


class Forgetful(SmallTill, durable=True, policy="drop-oldest"):
    """The same, and it drops the oldest."""


def conserved(made) -> None:
    """Assert that nothing was lost."""
    account = made.conservation()
    sent = account.pop("sent")
    assert sent == sum(account.values()), account


def test_send_between_two_incarnations_is_not_acknowledged():
    """While no incarnation runs, `send` is refused as `ask` is: it is a dead letter."""

    async def main() -> None:
        async with system(store=MemoryStore()) as made:
            await made.spawn(Till, "till")
            await made.send("till", "spoil")
            await asyncio.sleep(0.01)
            assert made.state_of("till") == "starting"  # the pause before the restart
            with pytest.raises(NotRunning):
                await made.send("till", "pay", message_id="a")
            assert made.dead_letters.last(1)[0].reason == "not-running"
            await asyncio.sleep(1)
            await made.send("till", "pay", message_id="a")
            assert await made.ask("till", "look") == 1
            conserved(made)

    run(main)


def test_send_to_a_plain_daemon_that_is_stopped_is_refused():
    """Not only durable daemons: who waits for room learns that there is nobody."""

    class Plain(Daemon):
        @on
        def go(self) -> None:
            """Do nothing."""

    async def main() -> None:
        async with system() as made:
            ref = await made.spawn(Plain, "plain")
            await ref.stop()
            with pytest.raises(NotRunning):
                await ref.go.send()
            conserved(made)

    run(main)


def test_send_that_allow_turns_away_is_refused():
    """`not-allowed` is told to who sends, as to who asks."""

    async def main() -> None:
        async with system() as made:
            ref = await made.spawn(Till, "till", allow=[{"from": "d9://a/b/c", "messages": ["*"]}])
            with pytest.raises(Dan9Error) as caught:
                await ref.pay.send()
            assert caught.value.code == "not-allowed"
            conserved(made)

    run(main)


def test_a_queued_message_is_handled_once_over_a_crash():
    """The mailbox survives a restart; the journal does not deliver again what is in it."""

    async def main() -> None:
        async with system(store=MemoryStore()) as made:
            await made.spawn(Till, "till")
            sends = [made.send("till", "spoil", message_id="x")]
            sends += [made.send("till", "pay", message_id=f"p{n}") for n in range(3)]
            await asyncio.gather(*sends)
            await asyncio.sleep(60)
            assert await made.ask("till", "look") == 3
            # Three deliveries of the poison, and no crash besides.
            assert made.status_of("till")["failed"] == 3
            conserved(made)

    run(main)


def test_a_repeat_of_what_is_delivered_again_waits_for_it():
    """An id that an earlier life accepted is answered when this life has handled it."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store, seed=1) as made:
            await made.spawn(Till, "till")
            made.suspend_cell(made.cell_of("till"))
            await made.send("till", "pay", message_id="a", amount=5)
            await made.kill("till")
        async with system(store=store, seed=1) as made:
            spawning = asyncio.create_task(made.spawn(Till, "till"))
            await spawning
            assert await made.ask("till", "pay", message_id="a", amount=5) == 5
            assert await made.ask("till", "look") == 5
            conserved(made)

    run(main)


def test_an_ask_given_up_in_the_queue_may_be_repeated():
    """An id that expired unhandled is new: the second ask of it is handled, not forgotten."""

    async def main() -> None:
        async with system(store=MemoryStore()) as made:
            await made.spawn(Till, "till")
            busy = asyncio.create_task(made.ask("till", "pay", pause=2.0))
            await asyncio.sleep(0)
            with pytest.raises(TimedOut):
                await made.ask("till", "pay", message_id="a", timeout_s=1.0)
            assert await made.ask("till", "pay", message_id="a") == 2
            assert await busy == 1
            assert await made.ask("till", "pay", message_id="a") == 2  # from the journal
            conserved(made)

    run(main)


def test_an_ask_given_up_in_hand_is_not_done_twice():
    """Its repeat waits for the first and gets that answer."""

    async def main() -> None:
        async with system(store=MemoryStore()) as made:
            await made.spawn(Till, "till")
            with pytest.raises(TimedOut):
                await made.ask("till", "pay", message_id="a", pause=2.0, timeout_s=1.0)
            assert await made.ask("till", "pay", message_id="a", pause=2.0) == 1
            conserved(made)

    run(main)


def test_a_journalled_send_that_waits_for_room_is_handled():
    """The journal's acknowledgement does not make the message fall out of the line."""

    async def main() -> None:
        async with system(store=MemoryStore()) as made:
            await made.spawn(SmallTill, "till")
            asking = asyncio.create_task(made.ask("till", "pay", pause=1.0))
            await asyncio.sleep(0)
            await asyncio.gather(*(made.send("till", "pay") for _ in range(5)))
            assert await asking == 1
            await asyncio.sleep(1)
            assert await made.ask("till", "look") == 6
            conserved(made)

    run(main)


def test_what_the_policy_drops_is_given_up_in_the_journal():
    """It is a dead letter once, not a message of the next life."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as made:
            await made.spawn(Forgetful, "till")
            asking = asyncio.create_task(made.ask("till", "pay", pause=1.0))
            await asyncio.sleep(0.1)
            await made.send("till", "pay", message_id="old")
            await made.send("till", "pay", message_id="young")
            assert await asking == 1
            await asyncio.sleep(1)
            assert store.pending("d9://forgetful/default/till") == []
            with pytest.raises(Conflict):
                await made.ask("till", "pay", message_id="old")
            assert await made.ask("till", "look") == 2
            conserved(made)

    run(main)


def test_dropped_newest_is_told_to_who_sends():
    """`send` waits for room; where the policy drops instead, it says so."""

    async def main() -> None:
        async with system() as made:
            ref = await made.spawn(Till, "till", mailbox=1, policy="drop-newest")
            ref.pay.tell(1, 1.0)
            await asyncio.sleep(0)
            ref.pay.tell()
            with pytest.raises(MailboxFull):
                await ref.pay.send()

    run(main)


def test_ids_do_not_come_again_in_a_second_life():
    """The same seed over the same store: the journal never takes a new message for an old one."""

    async def life(store: MemoryStore) -> int:
        async with system(store=store, seed=7) as made:
            await made.spawn(Till, "till")
            for _ in range(3):
                await made.ask("till", "pay")
            return await made.ask("till", "look")

    store = MemoryStore()
    assert VirtualClock().run(life(store)) == 3
    assert VirtualClock().run(life(store)) == 6
    assert VirtualClock().run(life(store)) == 9


def test_ids_of_a_fresh_store_are_a_function_of_the_seed():
    """Two fresh worlds of one seed draw the same ids."""

    async def life() -> str:
        async with system(store=MemoryStore(), seed=7) as made:
            await made.spawn(Till, "till")
            await made.ask("till", "pay")
            return made.scheduler.run_id

    assert VirtualClock().run(life()) == VirtualClock().run(life())


class Counter(Daemon):
    """Keeps a number."""

    total: int = 0

    @on
    def add(self, by: int = 1) -> int:
        """Add."""
        self.total += by
        return self.total


ADDRESS = "d9://counter/default/c"


def test_a_checkpoint_leaves_a_daemon_clean():
    """Saving is no change: what was just saved is not saved again."""

    async def main() -> None:
        async with system(store=MemoryStore()) as made:
            ref = await made.spawn(Counter, "c")
            await ref.add()
            assert made.dirty() == [ADDRESS]
            assert (await ref.checkpoint())["version"] == 1
            assert made.dirty() == []
            await ref.stop()
            assert [row.version for row in made.store.versions(ADDRESS)] == [1]

    run(main)


def test_state_that_cannot_be_loaded_leaves_the_daemon_failed():
    """It is never silently empty; `restore version=none` starts it afresh."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as made:
            ref = await made.spawn(Counter, "c")
            await ref.add(5)
            await ref.checkpoint()
            await ref.add(1)
        store.tear(ADDRESS, store.versions(ADDRESS)[-1].version)
        async with system(store=store) as made:
            with pytest.raises(Corrupt):
                await made.spawn(Counter, "c")
            assert made.state_of(ADDRESS) == "failed"
            with pytest.raises(NotRunning):
                await made.ask(ADDRESS, "add")
            with pytest.raises(Corrupt):
                await made.ask(ADDRESS, "start")
            with pytest.raises(Corrupt):
                await made.ask(ADDRESS, "restore")
            assert made.state_of(ADDRESS) == "failed"
            assert (await made.ask(ADDRESS, "restore", version=1))["version"] == 1
            assert await made.ask(ADDRESS, "add") == 6
            await made.kill(ADDRESS)
            await asyncio.sleep(1)
            assert made.state_of(ADDRESS) == "failed"
            assert (await made.ask(ADDRESS, "restore", version="none"))["version"] == 0
            assert await made.ask(ADDRESS, "add") == 1
            conserved(made)

    run(main)


def test_a_supervisor_answers_for_a_daemon_that_does_not_run():
    """Universal messages are answered, honestly; all others are dead letters."""

    async def main() -> None:
        async with system(store=MemoryStore()) as made:
            ref = await made.spawn(Counter, "c")
            await ref.add(5)
            await ref.stop()
            assert (await ref.status())["state"] == "stopped"
            assert (await ref.describe())["address"] == ADDRESS
            assert (await ref.metrics())["add-count"] == 1
            assert await ref.get_metric("add-count") == 1
            assert await ref.set_metric("own", 4.0) == 4.0
            assert await ref.get_metric("own") == 4.0
            assert await ref.suspend() == await ref.resume() == "stopped"
            before = made.dead_letters.total
            for refused in ("ping", "checkpoint"):
                with pytest.raises(NotRunning):
                    await made.ask(ADDRESS, refused)
            assert made.dead_letters.total == before
            with pytest.raises(NotRunning):
                await ref.add()
            assert made.dead_letters.total == before + 1
            assert await ref.start() == "running"
            assert await ref.add() == 6
            conserved(made)

    run(main)


def test_nobody_answers_for_a_name_that_was_freed():
    """A temporary daemon that ended is gone: `start` by an old ref brings no ghost to life."""

    async def main() -> None:
        async with system() as made:
            ref = await made.spawn(Counter, "c", restart="temporary")
            await ref.stop()
            for ask in (ref.start(), ref.status(), ref.ping(), ref.add()):
                with pytest.raises(NotRunning):
                    await ask
            assert made.addresses("d9://counter/**") == []
            conserved(made)

    run(main)


def test_own_metrics_are_saved_beside_the_state():
    """They come back with it."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as made:
            ref = await made.spawn(Counter, "c")
            await ref.set_metric("own", 4.5)
        async with system(store=store) as made:
            ref = await made.spawn(Counter, "c")
            assert await ref.get_metric("own") == 4.5

    run(main)


def test_migrate_turns_old_state_into_new():
    """A class whose fields changed says how; without a word of it the state is corrupt."""

    class Old(Daemon, type="box"):
        size: int = 0

        @on
        def grow(self) -> None:
            """Grow."""
            self.size += 1

    class New(Daemon, type="box"):
        sizes: list[int] = []

        def migrate(self, state: dict) -> dict:
            """Put the one size into a list."""
            return {"sizes": [state["size"]]}

        @on
        def show(self) -> list[int]:
            """Show."""
            return self.sizes

    class Careless(Daemon, type="box"):
        size: str = ""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as made:
            await (await made.spawn(Old, "b")).grow()
        async with system(store=store) as made:
            assert await (await made.spawn(New, "b")).show() == [1]
        async with system(store=store) as made:
            with pytest.raises(Corrupt):
                await made.spawn(Careless, "b")
            assert made.state_of("b") == "failed"

    run(main)


def test_every_state_has_its_name():
    """The seven of the catalogue, no more."""
    assert set(STATE_NAMES) == {
        "created", "starting", "running", "suspended", "stopping", "stopped", "failed",
    }  # fmt: skip
