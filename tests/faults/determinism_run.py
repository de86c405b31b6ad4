"""One run of a system under a seed; prints its event log. See tests/faults/test_determinism.py."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from dan9 import Backoff, ChildSpec, Daemon, DaemonFailed, Refused, Supervisor, TimedOut, every, on
from dan9.testing import Crash, Delay, Drop, Duplicate, Hold, SlowHandler, run_world
from dan9.testing.memory_store import MemoryStore

EXPECTED = (Refused, TimedOut, DaemonFailed)
FAULTS = (
    Crash(chance=0.02),
    Crash(chance=0.02, at="after"),
    Delay(chance=0.05, seconds=0.7),
    Drop(chance=0.02),
    Duplicate(chance=0.02),
    SlowHandler(chance=0.03),
    Hold(type="look", nth=2),
)


class Keeper(Daemon, durable=True):
    """Keeps a number, durably."""

    total: int = 0

    @on
    async def add(self, by: int = 1) -> int:
        """Add."""
        await self.sleep(self.system.random.random())
        self.total += by
        return self.total


class Looker(Daemon):
    """Looks after the keepers by the clock."""

    seen: dict[str, int] = {}

    @every("2s")
    async def look(self) -> None:
        """Ask them all."""
        for address in self.system.addresses("d9://keeper/**"):
            with contextlib.suppress(*EXPECTED):
                self.seen[address] = await self.ask(address, "add", by=1, timeout_s=1.0)
            self.log.info("%s: %s", address, sorted(self.seen.items()))

    async def hurry(self) -> None:
        """Wait for several at once, as asyncio has it."""
        await asyncio.gather(self.sleep(0.1), self.sleep(0.2))


class House(Supervisor, type="house"):
    """Keepers under one roof."""

    children = tuple(
        ChildSpec(Keeper, f"k{n}", group="house", backoff=Backoff(0.2, jitter=0.5))
        for n in range(5)
    )


async def body(world) -> None:
    """Live for a minute."""
    system = world.system
    system.log_sink = world.log_entry
    await system.spawn(House, "house", group="demo", strategy="rest_for_one", intensity=4)
    for name in ("one", "two", "three"):
        await system.spawn(Looker, name)
    for n in range(40):
        with contextlib.suppress(*EXPECTED):
            await system.ask(f"d9://keeper/house/k{n % 5}", "add", by=n, message_id=f"m{n}")
        await system.sleep(system.random.random())
    world.release()
    await system.sleep("30s")


def main(seed: int) -> None:
    """Print the event log of a seed."""
    _, world = run_world(body, seed, faults=FAULTS, store=MemoryStore())
    sys.stdout.write("\n".join(world.log) + f"\n{sorted(world.struck.items())} {world.steps}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
