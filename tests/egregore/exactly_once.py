"""Every item's result in the reduction exactly once, however often its work is begun.

Five workers under one hierarchy, or under two that are members of a third, do forty items
while they crash before, in the middle of and after their work, and while messages are late
or lost. Each result is a power of two of its own: a sum with one missing or twice differs.

    make exactly_once SEEDS=10000 FROM=0
"""

from __future__ import annotations

from collections import Counter

from dan9 import Daemon, on
from dan9.egregore import Hierarchy
from dan9.testing import Crash, Delay, Drop, World, run_world
from tests.egregore.seeds import run_seeds

ITEMS = 40
WHO = "d9://worker/**"
FAULTS = [
    Crash(WHO, type="work", chance=0.08, at="before", most=8),
    Crash(WHO, type="work", chance=0.08, at="while", most=8),
    Crash(WHO, type="work", chance=0.08, at="after", most=8),
    Delay(WHO, type="work", chance=0.03, seconds=0.4),
    Delay(WHO, type="work", chance=0.01, seconds=7.0),
    Drop(WHO, type="work", chance=0.02),
]


class Worker(Daemon):
    """Takes a while over each item, some longer."""

    @on
    async def work(self, item: int) -> int:
        """Reply the item's power of two."""
        await self.sleep(0.01 * (1 + item % 7))
        return 1 << item


def one(seed: int) -> Counter[str]:
    """Run one seed; count items, how often work was begun, results, and faults.

    Raises:
        AssertionError: A result is missing, or is there twice.
    """
    counts: Counter[str] = Counter()
    flat = seed % 2 == 0

    async def body(world: World) -> None:
        system = world.system
        top = await system.spawn(Hierarchy, "top", attempts=1000)
        groups = [top]
        if not flat:
            groups = [await system.spawn(Hierarchy, f"g{n}", attempts=1000) for n in range(2)]
            for group in groups:
                await top.add(str(group.address))
        for number in range(5):
            worker = await system.spawn(Worker, f"w{number}")
            await groups[number % len(groups)].add(str(worker.address))
        say = {"items": list(range(ITEMS))}
        if seed % 3:
            total = await top.broadcast("work", say, reduce="sum")
            assert total == (1 << ITEMS) - 1, f"seed {seed}: {total:b}"
        else:
            results = await top.broadcast("work", say)
            assert results == [1 << item for item in range(ITEMS)], f"seed {seed}: {results}"
        counts["items"] += ITEMS
        counts["results"] += ITEMS

    _, world = run_world(body, seed, faults=FAULTS, check=False, record=False, copy=False)
    return counts + world.struck


def main(arguments: list[str]) -> int:
    """Run the seeds."""
    return run_seeds(
        one, arguments, prog="make exactly_once", description=__doc__, promise="each result once"
    )
