"""Agreement under crashes, delays and drops: never two values decided.

Three or five electors, four rivals on one topic; every proposal that is told "decided" must
have been told the same value. In one seed of three the coordinator crashes as well and is
asked once more; in one of four there is no store, and electors that crash lose their memory.

    make agreement SEEDS=10000 FROM=0
"""

from __future__ import annotations

import asyncio
import random  # noqa: TID251 (a generator of its own, seeded)
from collections import Counter
from typing import Any

from dan9.egregore import Mesh, MeshMember
from dan9.testing import Crash, Delay, Drop, World, run_world
from dan9.testing.memory_store import MemoryStore
from tests.egregore.seeds import run_seeds

FAULTS = [
    Crash(who="d9://mesh-member/**", chance=0.04, most=6),
    Crash(who="d9://mesh-member/**", chance=0.03, most=4, at="after"),
    Delay(who="d9://mesh-member/**", chance=0.08, seconds=0.4),
    Drop(who="d9://mesh-member/**", chance=0.05),
]


def one(seed: int) -> Counter[str]:
    """Run one seed; count proposals, what became of them, and the faults that struck.

    Raises:
        AssertionError: Two values were decided.
    """
    has_store = seed % 4 != 0
    chance = random.Random(seed)
    counts: Counter[str] = Counter()

    async def ask(mesh: Any, values: list[str]) -> set[str]:
        asks = [mesh.propose.within(60.0)(value, "topic", 20.0) for value in values]
        decided = set()
        for reply in await asyncio.gather(*asks, return_exceptions=True):
            counts["proposals"] += 1
            if isinstance(reply, BaseException):
                counts[type(reply).__name__] += 1
            elif reply["decided"]:
                counts["decided"] += 1
                decided.add(reply["value"])
            else:
                counts["undecided"] += 1
        return decided

    async def body(world: World) -> None:
        system = world.system
        members = [
            str((await system.spawn(MeshMember, f"m{number}")).address)
            for number in range(3 + 2 * (seed % 2))
        ]
        mesh: Any = await system.spawn(Mesh, "mesh", members=members)
        asked = asyncio.ensure_future(ask(mesh, [f"value-{number}" for number in range(4)]))
        if has_store and seed % 3 == 0:
            await asyncio.sleep(chance.random() * 0.3)
            world.crash(str(mesh.address))
            counts["crash-of-coordinator"] += 1
            await asyncio.sleep(1.0)
        decided = await asked
        if has_store and seed % 3 == 0:
            decided |= await ask(mesh, ["late"])
        assert len(decided) <= 1, f"seed {seed}: {decided}"

    store = MemoryStore() if has_store else None
    _, world = run_world(
        body, seed, faults=FAULTS, record=False, check=False, copy=False, store=store
    )
    return counts + world.struck


def main(arguments: list[str]) -> int:
    """Run the seeds."""
    return run_seeds(
        one, arguments, prog="make agreement", description=__doc__, promise="never two values"
    )
