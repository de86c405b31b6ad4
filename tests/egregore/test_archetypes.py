"""The four archetypes in virtual time: coming, going, dying and healing."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dan9.base.errors import (
    BadConfig,
    BadPayload,
    Conflict,
    Exists,
    NotFound,
    NotRunning,
    NotSupported,
    Refused,
    UnknownDaemon,
)
from dan9.egregore import Egregore, Fence, Hierarchy, ItemFailed, Mesh, MeshMember, Ring, Swarm
from dan9.kernel.daemon import Daemon, on
from dan9.testing import Crash, World, run, run_world, system


class Worker(Daemon):
    """Does what workers do."""

    seen: list[Any] = []
    pace_s: float = 0.0

    @on
    async def work(self, item: int = 0, factor: int = 1) -> int:
        await self.sleep(self.pace_s)
        self.seen.append(item)
        return item * factor

    @on
    def note(self, word: str) -> str:
        self.seen.append(word)
        return f"{self.name} {word}"

    @on
    def pair(self, item: int) -> dict[str, int]:
        return {str(item): item}

    @on
    def told(self) -> list[Any]:
        return self.seen

    @on
    def crash(self, item: int = 0) -> None:
        raise RuntimeError("on purpose")

    @on
    def refuse(self, item: int = 0) -> None:
        raise Refused("not this")

    @on
    async def hang(self, item: int = 0) -> None:
        await self.sleep(1e6)


def test_a_swarm_tells_all_and_gathers_what_comes() -> None:
    """Told: how many; asked: replies, refusals, and who had not answered at the deadline."""

    async def main() -> None:
        async with system() as sim:
            swarm = await sim.spawn(Swarm, "s")
            workers = [await sim.spawn(Worker, f"w{number}") for number in range(3)]
            for worker in workers:
                await swarm.add(str(worker.address))
            assert await swarm.broadcast("note", {"word": "hello"}) == 3
            got = await swarm.broadcast("note", {"word": "again"}, True)
            assert sorted(got["replies"].values()) == ["w0 again", "w1 again", "w2 again"]
            workers[1].hang.tell()
            got = await swarm.broadcast("note", {"word": "x"}, True, timeout=2.0)
            assert got["missing"] == ["d9://worker/default/w1"]
            assert len(got["replies"]) == 2
            got = await swarm.broadcast("refuse", {}, True, timeout=2.0)
            assert got["errors"]["d9://worker/default/w0"] == "not this"
            status = await swarm.status()
            assert (status["archetype"], status["rounds"]) == ("swarm", 4)
            assert list(status["members"].values()) == ["running"] * 3

    run(main)


def test_members_come_and_go() -> None:
    """Its own are its children and end with it; others only leave; the dead are forgotten."""

    async def main() -> None:
        async with system(copy=False) as sim:
            swarm = await sim.spawn(Swarm, "s", member=Worker, count=2)
            other = await sim.spawn(Worker, "other")
            await swarm.add("other")
            with pytest.raises(Exists):
                await swarm.add("other")
            own = await swarm.add(Worker)
            assert own == "d9://worker/s/s-3"
            assert await swarm.broadcast("note", {"word": "a"}) == 4
            sim.tell("d9://worker/s/s-1", "crash")
            await sim.sleep(0)
            await sim.sleep(5)  # restarted by the egregore
            assert await swarm.broadcast("note", {"word": "b"}) == 4
            assert await swarm.remove(own) == own
            assert sim.addresses("d9://worker/s/s-3") == []
            await other.stop()
            assert list((await swarm.status())["members"]) == [
                "d9://worker/s/s-1",
                "d9://worker/s/s-2",
            ]
            await swarm.stop()
            assert sim.addresses("d9://worker/s/**") == []

    run(main)


def test_a_hierarchy_reduces() -> None:
    """Results in the order of the items, summed, merged; one idle worker gets the whole."""

    async def main() -> None:
        async with system(copy=False) as sim:
            tree = await sim.spawn(Hierarchy, "h", member=Worker, count=3)
            items = list(range(20))
            assert await tree.broadcast("work", {"items": items, "factor": 2}) == [
                2 * item for item in items
            ]
            assert await tree.broadcast("work", {"items": items}, reduce="sum") == sum(items)
            merged = await tree.broadcast("pair", {"items": [1, 2]}, reduce="merge")
            assert merged == {"1": 1, "2": 2}
            assert await tree.broadcast("work", {"items": []}) == []
            assert await tree.broadcast("work", {"item": 7}) == 7
            with pytest.raises(Refused, match="not this"):
                await tree.broadcast("refuse", {"items": [1]})
            with pytest.raises(ItemFailed, match="10 times"):
                await tree.broadcast("crash", {"items": [1]})
            await sim.sleep(60)  # the workers are up again

    run(main)


def test_the_slow_do_not_hold_the_fast() -> None:
    """One worker of three is a hundred times as slow: it gets one item of thirty."""

    async def main() -> None:
        async with system() as sim:
            tree = await sim.spawn(Hierarchy, "h")
            for name, pace in (("slow", 1.0), ("f1", 0.01), ("f2", 0.01)):
                await sim.spawn(Worker, name, pace_s=pace)
                await tree.add(name)
            begun = sim.clock.monotonic()
            assert await tree.broadcast("work", {"items": list(range(30))}, reduce="sum") == 435
            assert sim.clock.monotonic() - begun < 1.2
            assert len(await sim.ask("slow", "told")) == 1

    run(main)


def test_trees_of_any_depth() -> None:
    """Hierarchies under hierarchies give the same sum."""

    async def main() -> None:
        async with system(copy=False) as sim:
            top = await sim.spawn(Hierarchy, "top")
            for number in range(2):
                middle = await sim.spawn(Hierarchy, f"mid{number}")
                await top.add(str(middle.address))
                for leaf in range(2):
                    low = await sim.spawn(Hierarchy, f"low{number}{leaf}", member=Worker, count=2)
                    await middle.add(str(low.address))
            assert await top.broadcast("work", {"items": list(range(50))}) == list(range(50))

    run(main)


@pytest.mark.parametrize("part", range(4))
def test_every_result_once_under_crashes(part: int) -> None:
    """Fifty seeded runs: workers crash before, while and after; each item counts exactly once."""
    struck = 0
    for seed in range(part * 13, part * 13 + 13):
        faults = [
            Crash(who="d9://worker/**", type="work", chance=0.08, at="before", most=8),
            Crash(who="d9://worker/**", type="work", chance=0.08, at="while", most=8),
            Crash(who="d9://worker/**", type="work", chance=0.08, at="after", most=8),
        ]

        async def body(world: World) -> None:
            tree = await world.system.spawn(Hierarchy, "h", attempts=1000)
            for number in range(4):
                await world.system.spawn(Worker, f"w{number}")
                await tree.add(f"w{number}")
            done = await tree.broadcast("work", {"items": list(range(40)), "factor": 3})
            assert done == [3 * item for item in range(40)]

        _, world = run_world(body, seed, faults=faults, check=False, record=False)
        struck += sum(world.struck.values())
    assert struck > 50


class Stage(Daemon):
    """One stage of a pipeline."""

    at_once: int = 0
    epochs: list[int] = []

    @on
    async def pass_on(self, epoch: int, trail: list[str] | None = None, value: int = 0) -> Any:
        self.epochs.append(epoch)
        await self.sleep(0.1)
        if self.name == "quiet":
            return None
        if self.name == "number":
            return 42
        return {"trail": [*(trail or []), self.name], "value": value}

    @on
    async def keep(self, epoch: int) -> None:
        if self.name == "b":
            await self.sleep(1e6)

    @on
    def seen(self) -> list[int]:
        return self.epochs


def test_a_ring_passes_in_order() -> None:
    """A map replaces the payload, None keeps it, anything else becomes its value."""

    async def main() -> None:
        async with system() as sim:
            ring = await sim.spawn(Ring, "r")
            for name in ("a", "quiet", "b"):
                await sim.spawn(Stage, name)
                await ring.add(name)
            assert await ring.broadcast("pass-on", {}) == {"trail": ["a", "b"], "value": 0}
            await sim.spawn(Stage, "number")
            await ring.add("number")
            assert await ring.broadcast("pass-on", {}) == {"value": 42}
            assert (await ring.status())["epoch"] == 1

    run(main)


def test_a_ring_heals() -> None:
    """Over one that hangs (it is ended), one that is stopped; the epoch rises; others go on."""

    async def main() -> None:
        async with system() as sim:
            ring = await sim.spawn(Ring, "r")
            stages = []
            for name in ("a", "b", "c"):
                stages.append(await sim.spawn(Stage, name))
                await ring.add(name)
            assert await ring.broadcast("keep", {}, timeout=1.0) == {}
            status = await ring.status()
            assert status["epoch"] > 1
            assert status["holder"] is None
            await sim.sleep(5)

            async def ask() -> Any:
                return await ring.broadcast("pass-on", {})

            asked = asyncio.ensure_future(ask())
            await asyncio.sleep(0.15)  # b has it
            assert (await ring.status())["holder"] == "d9://stage/default/b"
            await sim.kill("b")
            assert (await asked)["trail"] == ["a", "c"]
            await stages[0].stop()
            assert (await ring.broadcast("pass-on", {}))["trail"][-1] == "c"
            for stage in stages[1:]:
                await stage.stop()
            with pytest.raises(NotRunning):
                await ring.broadcast("pass-on", {})

    run(main)


def test_one_holder_at_a_time_and_no_old_token() -> None:
    """Broadcasts at once pass one after the other; a fence refuses older epochs."""

    async def main() -> None:
        async with system() as sim:
            ring = await sim.spawn(Ring, "r")
            for name in ("a", "b"):
                await sim.spawn(Stage, name)
                await ring.add(name)
            begun = sim.clock.monotonic()
            await asyncio.gather(*(ring.broadcast("pass-on", {}) for _ in range(3)))
            assert round(sim.clock.monotonic() - begun, 6) == 0.6
            fence = Fence()
            fence.admit(2)
            fence.admit(2)
            with pytest.raises(Conflict, match="epoch 1"):
                fence.admit(1)

    run(main)


class Peer(MeshMember):
    """Notes what it hears."""

    heard: list[str] = []

    @on
    def hear(self, word: str) -> None:
        self.heard.append(word)

    @on
    def told(self) -> list[str]:
        return self.heard

    @on
    def who(self) -> list[str]:
        return self.peer_list


def test_a_mesh_knows_its_peers_and_tells_all() -> None:
    """Members hear of coming and going; broadcasts and what peers publish reach everyone."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=3)
            plain = await sim.spawn(Worker, "plain")
            await mesh.add("plain")
            one, two, three = (sim.ref(Peer, f"d9://peer/m/m-{n}") for n in (1, 2, 3))
            assert len(await one.who()) == 3
            await mesh.remove("plain")
            assert await one.who() == ["d9://peer/m/m-2", "d9://peer/m/m-3"]
            assert await mesh.broadcast("hear", {"word": "all"}) == 3
            await one.publish("hear", {"word": "cause"})
            assert await two.told() == ["all", "cause"]
            await two.publish("hear", {"word": "effect"})
            for peer in (one, two, three):
                assert await peer.told() == ["all", "cause", "effect"]
            assert await plain.told() == []

    run(main)


def test_a_mesh_agrees() -> None:
    """Rivals are told one value; a topic once decided stays so; a majority is enough."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=3)
            replies = await asyncio.gather(*(mesh.propose(n, "leader") for n in range(1, 4)))
            assert all(reply["decided"] for reply in replies)
            [value] = {reply["value"] for reply in replies}
            await sim.ask("m-1", "stop")
            assert (await mesh.propose(99, "leader"))["value"] == value
            await sim.ask("m-2", "stop")
            reply = await mesh.propose.within(60)(99, "leader", 3.0)
            assert reply["decided"] is False
            assert (await mesh.propose(7))["decided"]

    run(main)


def test_refusals() -> None:
    """Archetypes, members, messages and proposals that cannot be."""

    async def main() -> None:
        async with system(copy=False) as sim:
            with pytest.raises(BadConfig):
                await sim.spawn(Egregore, "bad", archetype="crowd")
            swarm = await sim.spawn(Egregore, "s", archetype="swarm")
            with pytest.raises(UnknownDaemon):
                await swarm.add("nobody")
            for member in (5, int):
                with pytest.raises(BadPayload):
                    await swarm.add(member)
            with pytest.raises(BadPayload):
                await swarm.add("d9://egregore/default/s")
            with pytest.raises(BadConfig):
                await swarm.add("no.module:Class")
            await sim.spawn(Worker, "w")
            with pytest.raises(NotFound):
                await swarm.remove("w")
            with pytest.raises(BadPayload):
                await swarm.broadcast("")
            tree = await sim.spawn(Hierarchy, "h")
            with pytest.raises(NotRunning):
                await tree.broadcast("work", {"items": [1]})
            await tree.add("w")
            with pytest.raises(BadPayload):
                await tree.broadcast("work", {"items": [1]}, reduce="product")
            with pytest.raises(BadPayload):
                await tree.broadcast("work", {"items": 5})
            with pytest.raises(BadPayload):
                await tree.broadcast("work", {"items": [1]}, reduce="merge")
            mesh = await sim.spawn(Mesh, "m", members=["w"])
            with pytest.raises(NotSupported):
                await mesh.propose(1)
            with pytest.raises(BadPayload):
                await mesh.propose(None)

    run(main)
