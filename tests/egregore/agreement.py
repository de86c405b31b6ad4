"""Agreement under crashes, delays and drops: `python -m tests.egregore.agreement [SEEDS] [FIRST]`.

Three or five electors, two meshes' worth of rivals on one topic; every proposal that is told
"decided" must have been told the same value. Prints how many were decided and struck.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import Any

from dan9.egregore import Mesh, MeshMember
from dan9.testing import Crash, Delay, Drop, World, run_world
from dan9.testing.memory_store import MemoryStore

FAULTS = [
    Crash(who="d9://mesh-member/**", chance=0.04, most=6),
    Crash(who="d9://mesh-member/**", chance=0.03, most=4, at="after"),
    Delay(who="d9://mesh-member/**", chance=0.08, seconds=0.4),
    Drop(who="d9://mesh-member/**", chance=0.05),
]


def one(seed: int, *, memory: bool = True) -> tuple[int, Counter[str]]:
    """Run one seed; return how many proposals were decided, and the faults that struck.

    Raises:
        AssertionError: Two values were decided.
    """

    async def body(world: World) -> int:
        system = world.system
        count = 3 + 2 * (seed % 2)
        members = [
            str((await system.spawn(MeshMember, f"m{number}")).address) for number in range(count)
        ]
        mesh = await system.spawn(Mesh, "mesh", members=members)
        asks = [mesh.propose.within(60.0)(f"value-{number}", "topic", 20.0) for number in range(4)]
        replies: list[Any] = await asyncio.gather(*asks, return_exceptions=True)
        told = [reply for reply in replies if isinstance(reply, dict)]
        values = {reply["value"] for reply in told if reply["decided"]}
        assert len(values) <= 1, f"seed {seed}: {values}"
        return sum(reply["decided"] for reply in told)

    store = MemoryStore() if memory else None
    decided, world = run_world(
        body, seed, faults=FAULTS, record=False, check=False, copy=False, store=store
    )
    return decided, world.struck


def main() -> int:
    """Run the seeds."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    struck: Counter[str] = Counter()
    decided = 0
    for seed in range(first, first + seeds):
        count, faults = one(seed, memory=seed % 4 != 0)
        decided += count
        struck += faults
        if (seed + 1) % 500 == 0:
            print(seed + 1, decided, flush=True)  # noqa: T201
    print(f"{seeds} runs, {3 * seeds} proposals, {decided} told the decision; {dict(struck)}")  # noqa: T201
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
