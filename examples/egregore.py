"""Egregores: groups of daemons with one purpose, in their four archetypes.

A swarm that all hears, a hierarchy that splits work and survives a crash, a ring that is a
pipeline, a mesh whose members agree on a leader.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dan9 import Daemon, System, on
from dan9.egregore import Hierarchy, Mesh, MeshMember, Ring, Swarm


class Processor(Daemon):
    """Counts what is in a file, and may fall over it."""

    clumsy: bool = False

    @on
    def process(self, data: str) -> str:
        """Take a whole file."""
        return f"{self.name} has {data}"

    @on
    def count(self, item: str) -> int:
        """Count the letters of one line; a clumsy one falls at its first."""
        if self.clumsy:
            raise RuntimeError("tripped")
        return len(item)


class Stage(Daemon):
    """One stage of a pipeline: does to a text what its name says."""

    @on
    def circulate(self, text: str, epoch: int) -> dict[str, Any]:
        """Pass the text on."""
        return {"text": getattr(str, self.name)(text)}


class Node(MeshMember):
    """A peer."""

    synced: str = ""

    @on
    def sync_state(self, state: str) -> None:
        """Take a state over."""
        self.synced = state

    @on
    def state(self) -> str:
        """Return it."""
        return self.synced


async def main() -> None:
    """Show the four."""
    async with System("groups", daemons="none", socket=False) as system:
        system.log_hub.sink = lambda _: None  # the crash below is on purpose
        swarm = await system.spawn(Swarm, "data-processors", member=Processor, count=3)
        told = await swarm.broadcast("process", {"data": "dataset.csv"}, gather=True)
        print("swarm:", *sorted(told["replies"].values()), sep="\n   ")

        hierarchy = await system.spawn(Hierarchy, "jobs")
        for number in range(3):
            await system.spawn(Processor, f"w{number}", group="jobs", clumsy=number == 0)
            await hierarchy.add(f"d9://processor/jobs/w{number}")
        whole = await hierarchy.broadcast("process", {"data": "all the logs"})
        print("hierarchy: of what cannot be split, one idle worker gets the whole:", whole)
        lines = ["to be", "or not", "to be", "that", "is", "the question"]
        letters = await hierarchy.broadcast("count", {"items": lines}, reduce="sum")
        print(f"hierarchy: {letters} letters in {len(lines)} lines, though w0 fell")

        ring = await system.spawn(Ring, "pipeline")
        for name in ("strip", "title", "swapcase"):
            await system.spawn(Stage, name, group="pipeline")
            await ring.add(f"d9://stage/pipeline/{name}")
        print("ring:", (await ring.broadcast("circulate", {"text": "  everything is a daemon "})))

        mesh = await system.spawn(Mesh, "consensus", member=Node, count=3)
        print("mesh: told", await mesh.broadcast("sync-state", {"state": "initial"}))
        asks = (mesh.propose(name, "leader") for name in ("one", "two", "three"))
        decisions = await asyncio.gather(*asks)
        print("mesh: all decided:", all(one["decided"] for one in decisions))
        print("mesh: leaders:", len({one["value"] for one in decisions}))
        status = await mesh.status()
        print("mesh: members", sorted(set(status["members"].values())), len(status["members"]))


if __name__ == "__main__":
    asyncio.run(main())
