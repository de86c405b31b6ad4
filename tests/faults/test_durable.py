"""Durable daemons under power cuts: each message id takes effect once, whatever happens."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from dan9.base.errors import Dan9Error
from dan9.daemons.persistence import Persistence
from dan9.daemons.state_disk import DiskFailed
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore

ADDRESS = "d9://till/default/till"


class Till(Daemon, durable=True):
    """Counts money, and what it was told by whom."""

    total: int = 0
    notes: dict[str, int] = {}

    @on
    async def pay(self, name: str, amount: int = 1) -> int:
        self.total += amount
        self.notes[name] = self.notes.get(name, 0) + 1
        return self.total

    @on
    async def spoil(self, name: str) -> None:
        raise ZeroDivisionError(name)

    @on
    async def look(self) -> dict[str, int]:
        return dict(self.notes)


class CutStore(MemoryStore):
    """Loses its power after a number of commits; what is written later is nowhere."""

    def __init__(self, cut_after: int | None = None) -> None:
        super().__init__()
        self.cut_after = cut_after
        self.is_cut = False

    def _commit(self) -> None:
        if self.cut_after is not None and self.groups >= self.cut_after and not self.is_cut:
            self.is_cut = True
            kept = self._medium
            self.left = type(kept)(
                {address: list(rows) for address, rows in kept.states.items()},
                dict(kept.floors),
                dict(kept.journal),
                kept.snapshots,
            )
        super()._commit()

    def next_life(self, cut_after: int | None = None) -> CutStore:
        """Return a store over what the power cut left."""
        other = CutStore(cut_after)
        other._medium = self.left if self.is_cut else self._medium
        return other


async def pay(made: Any, store: CutStore, ids: list[str], chance: random.Random) -> set[str]:
    """Pay under each id, by ask or send, many at once; return what was acknowledged in time."""
    acknowledged: set[str] = set()

    async def one(message_id: str) -> None:
        how = made.send if chance.random() < 0.5 else made.ask
        try:
            await how(ADDRESS, "pay", message_id=message_id, name=message_id)
        except Dan9Error:
            return
        if not store.is_cut:
            acknowledged.add(message_id)

    await asyncio.gather(*(one(message_id) for message_id in ids))
    return acknowledged


@pytest.mark.parametrize("seed", range(12))
def test_each_message_takes_effect_once(seed: int):
    """Cut at any commit, sent again as often as one likes: nothing is lost and nothing doubled."""
    chance = random.Random(seed)
    ids = [f"id-{number}" for number in range(30)]
    store = CutStore(cut_after=chance.randrange(1, 12))
    promised: set[str] = set()

    async def life(*, last: bool) -> None:
        async with system(store=store, seed=chance.randrange(1 << 30)) as made:
            await made.spawn(Persistence, "persistence", group="system")
            await made.spawn(Till, "till")
            await asyncio.sleep(1)  # what was accepted is delivered again
            notes = await made.ask(ADDRESS, "look")
            assert promised <= notes.keys(), "an acknowledged message is missing"
            assert set(notes.values()) <= {1}, "a message took effect twice"
            mine = ids if last else chance.sample(ids, 20)
            promised.update(await pay(made, store, mine, chance))
            if last:
                await asyncio.sleep(1)  # a `send` is acknowledged before it is handled
                assert await made.ask(ADDRESS, "look") == dict.fromkeys(ids, 1)

    for _ in range(3):
        run(lambda: life(last=False))
        store = store.next_life(cut_after=chance.randrange(1, 8))
    store.cut_after = None
    run(lambda: life(last=True))


def test_poison_is_given_up_and_harms_no_neighbour():
    """A message that crashes its handler is delivered three times, then it is a dead letter."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as made:
            await made.spawn(Persistence, "persistence", group="system")
            await made.spawn(Till, "till")
            await asyncio.gather(
                made.send(ADDRESS, "pay", message_id="before", name="before"),
                made.send(ADDRESS, "spoil", message_id="poison", name="x"),
                made.send(ADDRESS, "pay", message_id="after", name="after"),
            )
            await asyncio.sleep(120)
            assert await made.ask(ADDRESS, "look") == {"before": 1, "after": 1}
            assert store.pending(ADDRESS) == []
            assert store.seen(ADDRESS, "poison").known.value == "dead"

    run(main)


def test_a_failing_disk_answers_the_asker_and_changes_nothing():
    """What was refused is not in the state, and the same id succeeds when the disk is well."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store) as made:
            await made.spawn(Persistence, "persistence", group="system")
            await made.spawn(Till, "till")
            await made.ask(ADDRESS, "pay", message_id="a", name="a")
            store.error = DiskFailed("disk I/O error")
            with pytest.raises(Dan9Error):
                await made.ask(ADDRESS, "pay", message_id="b", name="b")
            store.error = None
            await asyncio.sleep(120)
            assert await made.ask(ADDRESS, "look") == {"a": 1}
            assert await made.ask(ADDRESS, "pay", message_id="b", name="b") == 2
            assert await made.ask(ADDRESS, "pay", message_id="b", name="b") == 2

    run(main)


class Valve(Daemon, durable=True):
    """Stands where it was last set."""

    level: int = 0

    @on
    async def set(self, level: int) -> None:
        self.level = level

    @on
    async def look(self) -> int:
        return self.level


@pytest.mark.parametrize("between", ["restore", "checkpoint"])
def test_a_state_that_is_back_where_it_was_is_written(between: str):
    """What the journal last wrote is not the newest if something else was saved since."""
    store = MemoryStore()

    async def first() -> None:
        async with system(store=store) as made:
            valve = await made.spawn(Valve, "v")
            await valve.set(7)
            if between == "restore":
                await made.ask("v", "restore", version="none")
            else:
                valve.set.tell(3)  # a tell is not journalled
                await made.ask("v", "checkpoint")
            await valve.set(7)
            kept, store._medium = store._medium, type(store._medium)()  # the power goes
            store.kept = kept  # type: ignore[attr-defined]

    async def second() -> None:
        store._medium = store.kept  # type: ignore[attr-defined]
        async with system(store=store) as made:
            assert await (await made.spawn(Valve, "v")).look() == 7

    run(first)
    run(second)
