"""The persistence daemon: what is saved, when, and how it comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dan9.base.errors import BadPayload, Corrupt, NotFound, NotSupported, UnknownDaemon
from dan9.base.ports import Checkpoint, StatePolicy
from dan9.daemons.node import Check, NodeDaemon
from dan9.daemons.persistence import Persistence
from dan9.daemons.sqlite_store import SqliteStore
from dan9.daemons.state_disk import DiskFailed
from dan9.daemons.stateform import FORM, from_form, to_form
from dan9.daemons.statepolicy import NEVER, Rule, effective
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.metrics import count
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Counter(Daemon):
    """Counts."""

    total: int = 0
    data: bytes = b""

    @on
    async def add(self, by: int = 1) -> int:
        self.total += by
        return self.total

    @on
    async def look(self) -> int:
        return self.total

    @on
    async def fail(self) -> None:
        raise ZeroDivisionError


class Eager(Counter, checkpoint="on-change"):
    """Saved on every change."""


class Fleeting(Counter, checkpoint="never"):
    """Not saved at all."""


class Brisk(Counter, checkpoint="10s"):
    """Saved every ten seconds."""


class Plain(Daemon):
    """Has no state."""

    @on
    async def work(self) -> None:
        count("jobs")


class Slow(Counter):
    """Takes its time."""

    @on
    async def take(self, seconds: float) -> None:
        await self.sleep(seconds)
        self.total += 1


class SlowEager(Slow, checkpoint="on-change"):
    """Takes its time, and is saved on every change."""


C1 = "d9://counter/default/c1"
PERSISTENCE = "d9://persistence/system/persistence"


class House:
    """A system with persistence; `reboot` is a power cut and a new life."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.store: Any = MemoryStore()
        self.system: Any = None

    async def spawn(self, cls: type[Daemon] = Counter, name: str = "c1", **options: Any) -> Any:
        return await self.system.spawn(cls, name, **options)

    async def ask(self, type: str, /, **payload: Any) -> Any:
        return await self.system.ask(PERSISTENCE, type, payload=payload)

    def stored(self, address: str = C1) -> list[int]:
        return [version.version for version in self.store.versions(address)]


Test = Callable[[House], Awaitable[None]]


@asynccontextmanager
async def life(house: House) -> AsyncIterator[House]:
    """One life of the system over the house's store."""
    async with system(store=house.store) as made:
        house.system = made
        await made.spawn(Persistence, "persistence", group="system", **house.config)
        yield house


def live(test: Test, **config: Any) -> None:
    """Run a test in a house."""

    async def main() -> None:
        async with life(House(config)) as house:
            await test(house)

    run(main)


def lives(first: Test, second: Test, **config: Any) -> None:
    """Run two tests over one store, the second in a new system."""

    async def main() -> None:
        house = House(config)
        async with life(house):
            await first(house)
        async with life(house):
            await second(house)

    run(main)


def cut(first: Test, second: Test, **config: Any) -> None:
    """As `lives`, but the power goes between the two: only what was committed is left."""
    house = House(config)

    async def one() -> None:
        async with life(house):
            await first(house)
            house.kept = house.store._medium
            house.store._medium = type(house.kept)()  # what stops now writes nowhere

    async def two() -> None:
        house.store = MemoryStore()
        house.store._medium = house.kept
        async with life(house):
            await second(house)

    clock = VirtualClock()
    run(one, clock=clock)
    run(two)


# ---- save and load ----------------------------------------------------------


def test_a_saved_state_survives_a_power_cut():
    """`save` replies when the state is on the medium."""

    async def first(house: House) -> None:
        counter = await house.spawn()
        await counter.add(3)
        reply = await house.ask("save", daemon_name="c1")
        assert (reply["address"], reply["version"]) == (C1, 1)
        assert reply["bytes"] > 0
        await counter.add(4)

    async def second(house: House) -> None:
        assert await (await house.spawn()).look() == 3

    cut(first, second)


def test_a_daemon_stopped_in_good_order_is_saved():
    """By default state is saved on stop and restored at the next start."""

    async def first(house: House) -> None:
        await (await house.spawn()).add(5)

    async def second(house: House) -> None:
        assert await (await house.spawn()).look() == 5

    lives(first, second)


def test_a_restarted_daemon_has_its_last_saved_state():
    """After a crash the state is the last acknowledged checkpoint, not the one that crashed."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        await counter.add(2)
        await house.ask("save", daemon_name="c1")
        await counter.add(40)
        counter.fail.tell()
        assert await counter.look.within(30)() == 2

    live(test)


def test_load_gives_back_any_version():
    """`load` takes a number, latest, or none."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        for _ in range(3):
            await counter.add(1)
            await house.ask("save", daemon_name=C1)
        await counter.add(10)
        assert (await house.ask("load", daemon_name="c1", version=2))["version"] == 2
        assert await counter.look() == 2
        await house.ask("load", daemon_name="c1", version="1")
        assert await counter.look() == 1
        await house.ask("load", daemon_name="c1")
        assert await counter.look() == 3
        await house.ask("load", daemon_name="c1", version="none")
        assert await counter.look() == 0
        with pytest.raises(NotFound):
            await house.ask("load", daemon_name="c1", version=9)
        with pytest.raises(BadPayload) as caught:
            await house.ask("load", daemon_name="c1", version="newest")
        assert caught.value.at == "version"

    live(test)


def test_a_torn_state_leaves_the_daemon_failed():
    """What cannot be loaded is never silently empty; `none` starts afresh."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        await counter.add(5)
        await house.ask("save", daemon_name="c1")
        house.store.tear(C1, 1)
        with pytest.raises(Corrupt):
            await house.ask("load", daemon_name="c1")
        with pytest.raises(Corrupt):
            await house.ask("export", daemon_name="c1")
        counter.fail.tell()
        await asyncio.sleep(3_600)
        assert house.system.state_of(C1) == "failed"

    live(test)


def test_a_torn_state_is_not_started_from():
    """A daemon whose state is torn does not come up empty in the next life."""

    async def first(house: House) -> None:
        await (await house.spawn()).add(5)
        await house.ask("save", daemon_name="c1")
        house.store.tear(C1, 1)

    async def second(house: House) -> None:
        with pytest.raises(Exception, match="not what was saved"):
            await house.spawn()

    cut(first, second)


@pytest.mark.parametrize("message", ["save", "load"])
def test_an_unknown_daemon_is_refused(message: str):
    """A name that nobody has is an answer."""

    async def test(house: House) -> None:
        with pytest.raises(UnknownDaemon):
            await house.ask(message, daemon_name="nobody")

    live(test)


def test_a_daemon_without_state_cannot_be_saved():
    """Nothing to save is said so."""

    async def test(house: House) -> None:
        await house.spawn(Plain, "p1")
        with pytest.raises(NotSupported, match="no state"):
            await house.ask("save", daemon_name="p1")

    live(test)


def test_metrics_of_a_daemon_without_state_are_saved():
    """At its end and when it is told to; and a restart does not put them back."""

    async def first(house: House) -> None:
        plain = await house.spawn(Plain, "p1")
        await plain.work()
        await plain.work()
        assert (await house.ask("save", daemon_name="p1"))["version"] == 1
        await plain.work()
        await house.system.ask("p1", "restart")
        assert house.system.metrics_of("p1")["jobs"] == 3
        await plain.work()

    async def second(house: House) -> None:
        await house.spawn(Plain, "p1")
        assert house.system.metrics_of("p1")["jobs"] == 4
        assert house.system.metric_kinds_of("p1")["jobs"] == "counter"
        assert (await house.ask("checkpoint-all"))["saved"] <= 1  # no more than persistence itself

    lives(first, second)


def test_checkpoint_all_takes_metrics_along():
    """Those of a daemon that has nothing else too."""

    async def first(house: House) -> None:
        await (await house.spawn(Plain, "p1")).work()
        assert (await house.ask("checkpoint-all"))["saved"] == 1

    async def second(house: House) -> None:
        await house.spawn(Plain, "p1")
        assert house.system.metrics_of("p1")["jobs"] == 1

    cut(first, second)


def test_starting_afresh_is_saved_at_once():
    """What one wanted to be rid of does not come back with the next life."""

    async def first(house: House) -> None:
        counter = await house.spawn(total=7)
        await counter.add(5)
        await house.ask("save", daemon_name="c1")
        assert (await house.ask("load", daemon_name="c1", version="none"))["version"] == 0
        assert await counter.look() == 7  # as it was spawned, not as its class says

    async def second(house: House) -> None:
        assert await (await house.spawn()).look() == 7

    cut(first, second)


def test_starting_afresh_what_does_not_run_is_saved_at_once():
    """As for one that runs."""

    async def first(house: House) -> None:
        counter = await house.spawn()
        await counter.add(5)
        await house.system.ask(C1, "stop")
        await house.system.ask(C1, "restore", version="none")
        assert await counter.look() == 0

    async def second(house: House) -> None:
        assert await (await house.spawn()).look() == 0

    cut(first, second)


def test_starting_afresh_that_cannot_be_saved_changes_nothing():
    """A refusal leaves the state as it was."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        await counter.add(5)
        house.store.error = DiskFailed("no disk")
        with pytest.raises(DiskFailed):
            await house.ask("load", daemon_name="c1", version="none")
        assert await counter.look() == 5
        house.store.error = None

    live(test)


@pytest.mark.parametrize(
    ("message", "payload"),
    [
        ("save", {"daemon_name": "persistence"}),
        ("load", {"daemon_name": "persistence"}),
        ("checkpoint-all", {}),
        ("list", {}),
        ("delete", {"daemon_name": "persistence", "keep": 0}),
        ("verify", {}),
        ("export", {"daemon_name": "persistence"}),
        ("import", {"data": {}}),
        ("compact", {}),
        ("backup", {"path": "/tmp/x"}),
    ],
)
def test_without_a_store_everything_is_refused(message: str, payload: dict[str, Any]):
    """A system without a store says so, for each message."""

    async def main() -> None:
        async with system() as made:
            await made.spawn(Persistence, "persistence", group="system")
            with pytest.raises(NotSupported, match="store"):
                await made.ask(PERSISTENCE, message, payload=payload)
            assert made.status_of(PERSISTENCE)["saving"] == "no store"

    run(main)


# ---- policies ---------------------------------------------------------------


def test_system_daemons_are_saved_on_change():
    """A change of a daemon in group system is on the medium within the coalescing interval."""

    async def first(house: House) -> None:
        counter = await house.spawn(group="system")
        await counter.add(7)
        await asyncio.sleep(0.11)

    async def second(house: House) -> None:
        assert await (await house.spawn(group="system")).look() == 7

    cut(first, second)


def test_changes_are_coalesced():
    """However often it changes, a daemon is saved at most each 100 ms, and the last change is."""

    async def test(house: House) -> None:
        counter = await house.spawn(Eager, "e1")
        address = "d9://eager/default/e1"
        await asyncio.sleep(1.0)
        for _ in range(100):
            await counter.add(1)
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        latest = house.store.versions(address)[-1].version
        assert 9 <= latest <= 12
        exported = await house.ask("export", daemon_name="e1")
        assert exported["state"]["state"]["total"] == 100

    live(test)


def test_the_first_change_after_a_quiet_time_is_saved_at_once():
    """The interval is a limit, not a delay."""

    async def test(house: House) -> None:
        counter = await house.spawn(Eager, "e1")
        await asyncio.sleep(5)
        await counter.add(1)
        await asyncio.sleep(0.001)
        assert house.stored("d9://eager/default/e1") == [1]

    live(test)


def test_what_did_not_change_is_not_written():
    """A message that changed nothing costs no version."""

    async def test(house: House) -> None:
        counter = await house.spawn(Eager, "e1")
        await counter.add(1)
        await asyncio.sleep(1)
        for _ in range(5):
            await counter.look()
            await asyncio.sleep(1)
        assert house.stored("d9://eager/default/e1") == [1]

    live(test)


def test_a_state_that_returns_to_an_older_one_is_written():
    """Unchanged means: like the newest stored, whoever stored that."""

    async def test(house: House) -> None:
        counter = await house.spawn(Eager, "e1")
        address = "d9://eager/default/e1"
        await counter.add(1)
        await asyncio.sleep(1)
        house.system.watch_dirty(address, False)
        await counter.add(1)
        await house.system.ask(address, "checkpoint")
        house.system.watch_dirty(address, True)
        await counter.add(-1)
        await asyncio.sleep(1)
        assert house.stored(address) == [1, 2, 3]

    live(test)


def test_a_daemon_that_handled_something_is_saved_by_time():
    """Every `checkpoint_interval`, and not otherwise."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        await asyncio.sleep(301)
        assert house.stored() == []
        await counter.add(1)
        await asyncio.sleep(301)
        assert house.stored() == [1]
        await asyncio.sleep(3_000)
        assert house.stored() == [1]

    live(test)


def test_a_class_names_its_own_interval():
    """`checkpoint="10s"` on the class."""

    async def test(house: House) -> None:
        counter = await house.spawn(Brisk, "b1")
        await counter.add(1)
        await asyncio.sleep(10.5)
        assert house.stored("d9://brisk/default/b1") == [1]

    live(test)


def test_a_class_may_never_be_saved():
    """`checkpoint="never"`: not on stop, not by time, not restored."""

    async def first(house: House) -> None:
        await (await house.spawn(Fleeting, "f1")).add(1)
        await asyncio.sleep(1_000)
        await house.ask("checkpoint-all")

    async def second(house: House) -> None:
        assert house.stored("d9://fleeting/default/f1") == []
        assert await (await house.spawn(Fleeting, "f1")).look() == 0

    lives(first, second)


def test_policy_is_told_key_by_key_and_shown():
    """What is left out stays; the reply is what is in force."""

    async def test(house: House) -> None:
        await house.spawn()
        shown = await house.ask("policy", daemon_name="c1")
        assert shown == {
            "address": C1, "interval": 300.0, "on_stop": True, "on_change": False, "keep": 3,
        }  # fmt: skip
        await house.ask("policy", daemon_name="c1", interval="1m")
        shown = await house.ask("policy", daemon_name="c1", on_change=True, keep=5)
        assert (shown["interval"], shown["on_change"], shown["keep"]) == (60.0, True, 5)
        shown = await house.ask("policy", daemon_name="c1", interval=0)
        assert shown["interval"] is None
        shown = await house.ask("policy", daemon_name="c1", reset=True)
        assert (shown["interval"], shown["on_change"], shown["keep"]) == (300.0, False, 3)

    live(test)


def test_policy_works_at_once_and_survives():
    """A policy is saved before it is acknowledged."""

    async def first(house: House) -> None:
        counter = await house.spawn()
        await house.ask("policy", daemon_name="c1", on_change=True, keep=1)
        for _ in range(3):
            await counter.add(1)
            await asyncio.sleep(0.2)
        assert house.stored() == [3]

    async def second(house: House) -> None:
        shown = await house.ask("policy", daemon_name=C1)
        assert (shown["on_change"], shown["keep"]) == (True, 1)
        counter = await house.spawn()
        await counter.add(1)
        await asyncio.sleep(0.2)
        assert house.stored() == [4]

    cut(first, second)


def test_a_policy_that_cannot_be_saved_is_not_in_force():
    """The refusal is the truth: before and after are the same."""

    async def test(house: House) -> None:
        await house.spawn()
        house.store.error = DiskFailed("disk I/O error")
        with pytest.raises(DiskFailed):
            await house.ask("policy", daemon_name="c1", keep=7)
        house.store.error = None
        assert (await house.ask("policy", daemon_name="c1"))["keep"] == 3

    live(test)


def test_a_policy_for_a_daemon_to_come():
    """An address that nobody has yet may be named; a bare name may not."""

    async def test(house: House) -> None:
        await house.ask("policy", daemon_name=C1, on_change=True)
        counter = await house.spawn()
        await counter.add(1)
        await asyncio.sleep(0.2)
        assert house.stored() == [1]
        with pytest.raises(UnknownDaemon):
            await house.ask("policy", daemon_name="c2", on_change=True)

    live(test)


@pytest.mark.parametrize(
    "wrong", [{"keep": -1}, {"keep": 1_001}, {"interval": -1}, {"interval": "soon"}, {"keep": "x"}]
)
def test_a_wrong_policy_is_refused(wrong: dict[str, Any]):
    """Each key says what it takes."""

    async def test(house: House) -> None:
        await house.spawn()
        with pytest.raises(BadPayload):
            await house.ask("policy", daemon_name="c1", **wrong)
        assert (await house.ask("policy", daemon_name="c1"))["keep"] == 3

    live(test)


def test_rules_overrule_each_other_key_by_key():
    """Default, group system, class, policy: the later wins where it says something."""
    default = {"interval": 300.0, "keep": 3}
    assert effective(C1, None, None, **default) == StatePolicy(300.0, True, False, 3)
    system_one = "d9://timer/system/timer"
    assert effective(system_one, None, None, **default) == StatePolicy(300.0, True, True, 3)
    assert effective(system_one, None, "on-stop", **default) == StatePolicy(None, True, False, 3)
    assert effective(C1, None, "never", **default) == NEVER
    assert effective(C1, Rule(keep=2), "never", **default) == StatePolicy(None, False, False, 2)
    assert effective(C1, Rule(interval=5.0), "1m", **default) == StatePolicy(5.0, True, False, 3)
    with pytest.raises(BadPayload):
        effective(C1, None, True, **default)
    with pytest.raises(BadPayload):
        effective(C1, None, "sometimes", **default)


# ---- checkpoint-all, list, delete, verify -----------------------------------


def test_checkpoint_all_saves_what_changed_in_one_transaction():
    """One number for all of them, nothing for the unchanged."""

    async def test(house: House) -> None:
        counters = [await house.spawn(name=f"c{n}") for n in range(20)]
        for counter in counters[:5]:
            await counter.add(1)
        groups = house.store.groups
        reply = await house.ask("checkpoint-all")
        assert house.store.groups == groups + 1
        assert (reply["saved"], reply["snapshot"]) == (5, 1)
        assert {v.snapshot for v in house.store.versions() if "/counter/" in v.address} == {1}
        assert (await house.ask("checkpoint-all"))["saved"] == 0
        await counters[3].look()
        reply = await house.ask("checkpoint-all")
        assert (reply["saved"], reply["snapshot"]) == (0, 0)
        assert reply["unchanged"] >= 1

    live(test)


def test_checkpoint_all_does_not_wait_for_ever():
    """One daemon with a long message in hand is left out, and saved when it can be."""

    async def test(house: House) -> None:
        slow, counter = await house.spawn(Slow, "s1"), await house.spawn()
        await slow.add(1)
        await counter.add(1)
        house.store.delete(slow.address, 0)
        slow.add.tell(1)
        slow.take.tell(100.0)
        await asyncio.sleep(0.01)
        begun = house.system.clock.monotonic()
        reply = await house.ask("checkpoint-all", wait=2)
        assert house.system.clock.monotonic() - begun == pytest.approx(2.0)
        assert (reply["busy"], house.stored()) == (1, [1])
        await asyncio.sleep(120)
        assert house.store.load(slow.address).schema  # the state it had after its message
        assert await slow.look() == 3

    live(test)


def test_checkpoint_all_waits_for_a_short_message():
    """It is in the same transaction then."""

    async def test(house: House) -> None:
        slow, counter = await house.spawn(Slow, "s1"), await house.spawn()
        await slow.add(1)
        await counter.add(1)
        slow.take.tell(1.0)
        await asyncio.sleep(0.2)
        reply = await house.ask("checkpoint-all")
        assert reply["busy"] == 0
        newest = [house.store.versions(ref.address)[-1] for ref in (slow, counter)]
        assert {version.snapshot for version in newest} == {reply["snapshot"]}

    live(test)


def test_checkpoint_all_does_not_wait_for_what_stops():
    """A daemon that ends before it can be captured is not waited for."""

    async def test(house: House) -> None:
        slow = await house.spawn(Slow, "s1")
        await slow.add(1)
        slow.take.tell(3.0)
        slow.add.tell(1)
        await asyncio.sleep(0.2)
        stopping = asyncio.ensure_future(house.system.ask("s1", "stop"))
        letters = house.system.dead_letters.total
        checkpoint = asyncio.ensure_future(house.ask("checkpoint-all"))
        await stopping
        assert (await checkpoint)["busy"] == 0
        assert house.system.clock.monotonic() < 3.5
        assert house.system.dead_letters.total == letters + 1  # `add`, and no capture

    live(test)


def test_a_busy_daemon_holds_up_no_other():
    """What changed is saved on time though another one is in the middle of something."""

    async def test(house: House) -> None:
        slow, eager = await house.spawn(SlowEager, "s1"), await house.spawn(Eager, "e1")
        await asyncio.sleep(1)
        await slow.add(1)
        await asyncio.sleep(0.05)
        await slow.add(1)
        slow.take.tell(100.0)
        await eager.add(1)
        await asyncio.sleep(1)
        assert house.stored(eager.address)
        before = len(house.stored(slow.address))
        await asyncio.sleep(120)
        assert len(house.stored(slow.address)) > before

    live(test)


def test_a_suspended_daemon_is_saved():
    """It has nothing in hand: there is nothing to wait for."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        await counter.add(5)
        await house.system.ask("c1", "suspend")
        reply = await house.ask("checkpoint-all")
        assert (reply["saved"], reply["busy"]) == (1, 0)
        assert house.stored() == [1]

    live(test)


def test_list_shows_versions():
    """Of one daemon by any of its names, running or not, or of all."""

    async def first(house: House) -> None:
        await (await house.spawn()).add(1)
        await house.ask("save", daemon_name="c1")
        rows = await house.ask("list", daemon_name="c1")
        assert rows == await house.ask("list", daemon_name=C1)
        assert (rows[0]["address"], rows[0]["version"]) == (C1, 1)

    async def second(house: House) -> None:
        assert [row["version"] for row in await house.ask("list", daemon_name="c1")] == [1]
        assert C1 in {row["address"] for row in await house.ask("list")}
        with pytest.raises(UnknownDaemon):
            await house.ask("list", daemon_name="nobody")
        with pytest.raises(NotFound):
            await house.ask("list", daemon_name="d9://counter/default/nobody")

    cut(first, second)


def test_delete_forgets_versions():
    """All, or all but the newest."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        for _ in range(3):
            await counter.add(1)
            await house.ask("save", daemon_name="c1")
        assert (await house.ask("delete", daemon_name="c1", keep=2))["deleted"] == 1
        assert house.stored() == [2, 3]
        assert (await house.ask("delete", daemon_name="c1", keep=0))["deleted"] == 2
        with pytest.raises(NotFound):
            await house.ask("delete", daemon_name="c1", keep=0)
        with pytest.raises(BadPayload):
            await house.ask("delete", daemon_name="c1", keep=-1)

    live(test)


def test_verify_reports_what_is_torn():
    """Every row is read; what is not as written is named."""

    async def test(house: House) -> None:
        await (await house.spawn()).add(1)
        await house.ask("save", daemon_name="c1")
        reply = await house.ask("verify", daemon_name="c1")
        assert (reply["checked"], reply["faults"]) == (1, [])
        house.store.tear(C1, 1)
        faults = (await house.ask("verify"))["faults"]
        assert [(fault["address"], fault["version"]) for fault in faults] == [(C1, 1)]

    live(test)


# ---- export and import ------------------------------------------------------


def test_an_exported_state_can_be_imported():
    """Export survives JSON; import makes a new version; load gives it to the daemon."""

    async def test(house: House) -> None:
        counter = await house.spawn(data=b"\x00\xff")
        await counter.add(6)
        await house.ask("save", daemon_name="c1")
        data = await house.ask("export", daemon_name="c1")
        data["state"]["state"]["total"] = 60
        reply = await house.ask("import", data=data)
        assert (reply["address"], reply["version"]) == (C1, 2)
        await house.ask("load", daemon_name="c1")
        assert await counter.look() == 60
        other = await house.spawn(name="c2")
        await house.ask("import", data=data, daemon_name="c2")
        await house.ask("load", daemon_name="c2")
        assert await other.look() == 60

    live(test)


@pytest.mark.parametrize(
    ("change", "at"),
    [
        ({"form": "other"}, "data.form"),
        ({"address": 7}, "data.address"),
        ({"schema": None}, "data.schema"),
        ({"state": []}, "data.state"),
        ({"metrics": "x"}, "data.metrics"),
    ],
)
def test_a_wrong_import_is_refused(change: dict[str, Any], at: str):
    """The key at fault is named, and nothing is saved."""

    async def test(house: House) -> None:
        await (await house.spawn()).add(1)
        await house.ask("save", daemon_name="c1")
        data = {**await house.ask("export", daemon_name="c1"), **change}
        with pytest.raises(BadPayload) as caught:
            await house.ask("import", data=data)
        assert caught.value.at == at
        assert house.stored() == [1]

    live(test)


def test_export_of_a_version_that_is_gone():
    """The stored ones are named."""

    async def test(house: House) -> None:
        await (await house.spawn()).add(1)
        await house.ask("save", daemon_name="c1")
        with pytest.raises(NotFound, match="stored: 1"):
            await house.ask("export", daemon_name="c1", version=5)

    live(test)


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text() | st.binary(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=10,
    )
)
def test_export_and_import_are_inverse(value: Any):
    """Whatever a state holds comes back as it was."""
    blob = msgspec.msgpack.encode({"schema": "s", "state": {"x": value}})
    form = to_form(Checkpoint(C1, "s", blob, 1.0, metrics=msgspec.msgpack.encode({"m": 1.5})))
    back = from_form(form, address=None, when=2.0)
    assert (back.blob, back.address, back.when, back.version) == (blob, C1, 2.0, 0)
    assert back.metrics == msgspec.msgpack.encode({"m": 1.5})


@pytest.mark.parametrize(
    "checkpoint", [Checkpoint(C1, "s", b"\xc1", 1.0), Checkpoint(C1, "s", b"", 1.0, "pickle")]
)
def test_a_state_that_cannot_be_decoded_is_corrupt(checkpoint: Checkpoint):
    """Garbage and foreign codings are named, not printed."""
    with pytest.raises(Corrupt):
        to_form(checkpoint)


def test_what_cannot_be_encoded_is_refused():
    """A number that msgpack cannot hold names its place."""
    form = {"form": FORM, "address": C1, "schema": "s", "state": {"x": 1 << 70}}
    with pytest.raises(BadPayload) as caught:
        from_form(form, address=None, when=1.0)
    assert caught.value.at == "data.state"


# ---- trouble ----------------------------------------------------------------


def test_a_failing_disk_is_an_alarm_and_no_lie():
    """Nothing is acknowledged, the status says so, and what changed is saved afterwards."""

    async def test(house: House) -> None:
        counter = await house.spawn(Eager, "e1")
        address = "d9://eager/default/e1"
        events: list[Any] = []
        house.system.subscribe_events(events.append)
        node = await house.spawn(NodeDaemon, "node")

        async def checked() -> Check:
            (row,) = [row for row in await node.doctor() if row.check == "saving"]
            return row

        hint = (await checked()).hint
        assert "free some space" in hint
        house.store.error = DiskFailed("disk I/O error")
        await counter.add(1)
        with pytest.raises(DiskFailed):
            await house.ask("save", daemon_name="e1")
        await asyncio.sleep(1)
        status = house.system.status_of(PERSISTENCE)
        assert status["saving"] == "degraded"
        assert "nothing is being saved" in status["alarm"]
        assert await checked() == Check("saving", False, status["alarm"], hint)
        assert any(type(event).__name__ == "SaveFailed" for event in events)
        with pytest.raises(DiskFailed):
            await house.ask("checkpoint-all")
        house.store.error = None
        await asyncio.sleep(61)
        assert house.system.status_of(PERSISTENCE)["saving"] == "ok"
        assert await checked() == Check("saving", True, "ok", hint)
        assert house.stored(address)
        exported = await house.ask("export", daemon_name="e1")
        assert exported["state"]["state"]["total"] == 1

    live(test)


def test_a_restarted_persistence_goes_on():
    """Policies and hooks are taken up again."""

    async def test(house: House) -> None:
        counter = await house.spawn()
        await house.ask("policy", daemon_name="c1", on_change=True)
        await house.system.ask(PERSISTENCE, "restart")
        await counter.add(1)
        await asyncio.sleep(0.3)
        assert house.stored() == [1]

    live(test)


def test_persistence_of_a_quiet_system_does_nothing():
    """An idle node commits nothing, however long."""

    async def test(house: House) -> None:
        await house.spawn()
        await asyncio.sleep(1_000)
        groups = house.store.groups
        await asyncio.sleep(100_000)
        assert house.store.groups == groups

    live(test)


# ---- on a real disk ---------------------------------------------------------


@pytest.mark.real
def test_on_a_real_file(tmp_path: Path):
    """Save, back up, compact and restore with SQLite and the real loop."""

    async def one_life(expected: int) -> None:
        loop = asyncio.get_running_loop()
        store = SqliteStore(tmp_path / "state.db", post=loop.call_soon_threadsafe)
        async with system(store=store) as made:
            await made.spawn(Persistence, "persistence", group="system")
            counter = await made.spawn(Counter, "c1")
            assert await counter.look() == expected
            await counter.add(1)
            reply = await made.ask(PERSISTENCE, "save", daemon_name="c1")
            assert reply["version"] > expected
            assert (await made.ask(PERSISTENCE, "verify"))["faults"] == []
            await made.ask(PERSISTENCE, "compact")
            target = tmp_path / f"copy{expected}.db"
            await made.ask(PERSISTENCE, "backup", path=str(target))
            assert target.exists()
            with pytest.raises(BadPayload):
                await made.ask(PERSISTENCE, "backup", path="relative.db")
        await asyncio.to_thread(store.close)

    for life_number in range(3):
        run(lambda: one_life(life_number), real=True)  # noqa: B023  (run at once)
