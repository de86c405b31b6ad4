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
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.testing import Crash, Delay, World, run, run_world, system
from dan9.testing.memory_store import MemoryStore


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

    @on(timeout_s=60)
    async def takes_long(self, item: int = 0) -> str:
        await self.sleep(50)
        return "done"


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
            got = await swarm.broadcast("note", {"word": "x"}, True, timeout="2s")
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
            assert (await swarm.status())["config"]["member"] == f"{__name__}:Worker"
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
            dead = sim.dead_letters.total
            await swarm.stop()
            assert sim.addresses("d9://worker/s/**") == []
            assert sim.dead_letters.total == dead  # nobody tells it of its children's end

    run(main)


def test_others_have_their_turn_while_many_members_are_spawned() -> None:
    """A swarm of 1,200 begins in portions."""

    async def main() -> None:
        async with system(copy=False) as sim:
            other = await sim.spawn(Worker, "other")
            begun = asyncio.ensure_future(sim.spawn(Swarm, "s", member=Worker, count=1200))
            await asyncio.sleep(0)
            assert await other.note("x") == "other x"
            assert not begun.done()
            assert len((await (await begun).status())["members"]) == 1200

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


def test_a_ring_may_be_a_worker() -> None:
    """What comes round is the item's result."""

    async def main() -> None:
        async with system(copy=False) as sim:
            top = await sim.spawn(Hierarchy, "top")
            ring = await sim.spawn(Ring, "ring", member=Worker, count=1)
            await top.add(str(ring.address))
            assert await top.broadcast("pair", {"items": [3, 4]}) == [{"3": 3}, {"4": 4}]

    run(main)


def test_how_long_an_item_may_take() -> None:
    """What the asker says, unless the handler does; then it is begun elsewhere."""

    async def main() -> None:
        async with system(copy=False) as sim:
            tree = await sim.spawn(Hierarchy, "h", attempts=2)
            for name, pace in (("slow", 30.0), ("fast", 0.0)):
                await sim.spawn(Worker, name, pace_s=pace)
                await tree.add(name)
            begun = sim.clock.monotonic()
            assert await tree.broadcast("work", {"items": [1, 2]}, timeout=2.0) == [0 + 1, 2]
            assert sim.clock.monotonic() - begun == 2.0
            await tree.remove("fast")
            await sim.sleep(60)
            assert await tree.broadcast("work", {"items": [3]}, timeout=40.0) == [3]
            assert await tree.broadcast("takes-long", {"items": [3]}) == ["done"]
            with pytest.raises(ItemFailed, match="item 0 failed 2 times"):
                await tree.broadcast("work", {"items": [3]}, timeout=1.0)

    run(main)


def test_idle_workers_do_not_poll() -> None:
    """While one has the last item, the others wait without a timer."""

    async def main() -> None:
        async with system(copy=False) as sim:
            tree = await sim.spawn(Hierarchy, "h", member=Worker, count=3)
            asked = asyncio.ensure_future(tree.broadcast("hang", {"items": [1]}, timeout=None))
            await asyncio.sleep(0.01)
            fired = len(sim.scheduler.timers)
            await asyncio.sleep(1000)
            assert len(sim.scheduler.timers) == fired
            asked.cancel()

    run(main)


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


def test_a_member_that_starts_anew_has_its_peers_again() -> None:
    """Crashed, restarted by hand, suspended: it hears all that is said afterwards, and is heard."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=3)
            one, two, three = (sim.ref(Peer, f"d9://peer/m/m-{n}") for n in (1, 2, 3))
            await two.publish("hear", {"word": "before"})
            await mesh.broadcast("hear", {"word": "all"})
            sim.lifecycle.crashed(sim.cell_of(one), None, RuntimeError("on purpose"))
            await mesh.broadcast("hear", {"word": "lost"})
            await sim.sleep(5)
            await two.restart()
            await three.suspend()
            await mesh.broadcast("hear", {"word": "missed by three"})
            await three.resume()
            for peer in (one, two, three):
                assert await peer.publish("hear", {"word": peer.name}) == 2
            await mesh.broadcast("hear", {"word": "after"})
            assert await one.told() == ["missed by three", "m-1", "m-2", "m-3", "after"]
            assert await two.told() == ["missed by three", "m-1", "m-2", "m-3", "after"]
            assert (await three.told())[-4:] == ["m-1", "m-2", "m-3", "after"]

    run(main)


def test_a_newcomer_sees_no_effect_before_its_cause() -> None:
    """What is late on its way to a newcomer holds back what others said because of it."""

    async def body(world: World) -> None:
        system = world.system
        mesh = await system.spawn(Mesh, "m", member=Peer, count=2)
        await sim_publish(system, "d9://peer/m/m-1", "old")
        newcomer = await system.spawn(Peer, "late")
        await mesh.add("late")
        await world.quiet()
        await sim_publish(system, "d9://peer/m/m-1", "cause")
        assert "cause" in await system.ask("d9://peer/m/m-2", "told")
        await sim_publish(system, "d9://peer/m/m-2", "effect")
        assert await newcomer.told() == []
        await asyncio.sleep(2)
        assert await newcomer.told() == ["cause", "effect"]

    async def sim_publish(system: Any, peer: str, word: str) -> None:
        await system.ask(peer, "publish", payload={"type": "hear", "payload": {"word": word}})

    late = Delay(who="d9://peer/default/late", type="deliver", nth=1, seconds=1.0)
    run_world(body, 1, faults=[late], copy=False)


class Gossip(MeshMember):
    """Says something because of what it hears, now and then."""

    @on
    def hear(self, word: str) -> None:
        heard = HEARD.setdefault((self.address, id(self)), [])
        KEPT_ALIVE.append(self)  # so that no later one has its id
        heard.append(word)
        if len(word) < 12 and self.system.random.random() < 0.3:
            effect = f"{word}.{self.name}{len(CAUSES)}"
            CAUSES[effect] = list(heard)
            self.publish.tell("hear", {"word": effect})


HEARD: dict[tuple[str, int], list[str]] = {}
CAUSES: dict[str, list[str]] = {}
KEPT_ALIVE: list[object] = []


@pytest.mark.slow
@pytest.mark.parametrize("falls", [False, True])
def test_no_effect_before_its_cause_in_a_world(falls: bool) -> None:
    """Whoever joins, and whatever is late; or whoever leaves, falls and starts anew."""
    effects = 0
    fault = (
        Crash(who="d9://gossip/**", type="deliver", chance=0.02, most=4, at="before")
        if falls
        else Delay(who="d9://gossip/**", type="deliver", chance=0.1, seconds=0.3)
    )

    async def body(world: World) -> None:
        system = world.system
        mesh = await system.spawn(Mesh, "m", member=Gossip, count=3)
        for number in range(4):
            for word in range(5):
                await mesh.broadcast("hear", {"word": f"{number}{word}"})
                await asyncio.sleep(system.random.random() * 0.2)
            await mesh.add(Gossip)
            if falls and number % 2:
                await mesh.remove(next(iter((await mesh.status())["members"])))
        await asyncio.sleep(60)  # all who fell are up, all that was late is there
        for cell in system.registry.cells("d9://gossip/**"):
            assert cell.instance._causal.waiting == []

    for seed in range(12):
        for one in (HEARD, CAUSES, KEPT_ALIVE):
            one.clear()
        run_world(body, seed, faults=[fault], copy=False, record=False, check=False)
        effects += len(CAUSES)
        for heard in HEARD.values():
            place = {word: number for number, word in enumerate(heard)}
            for word in heard:
                causes = CAUSES.get(word, [])
                assert all(place.get(cause, -1) <= place[word] for cause in causes), seed
    assert effects > 100


def test_a_full_mailbox_loses_a_message_and_nothing_else() -> None:
    """Who could not be told learns that this one never comes, and hears the next."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=2)
            small = await sim.spawn(Peer, "small", mailbox=2)
            await mesh.add("small")
            await sim.sleep(1)  # all have greeted
            one = sim.ref(Peer, "d9://peer/m/m-1")
            await small.suspend()
            assert await one.publish("hear", {"word": "first"}) == 2
            assert await one.publish("hear", {"word": "second"}) == 2
            assert await one.publish("hear", {"word": "no room"}) == 1
            await small.resume()
            assert await one.publish("hear", {"word": "last"}) == 2
            assert await small.told() == ["first", "second", "last"]

    run(main)


def test_what_a_mailbox_dropped_holds_up_nobody_for_long() -> None:
    """Its sender does not know; who waits asks after five seconds whether it still comes."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=2)
            small = await sim.spawn(Peer, "small", mailbox=2, policy="drop-newest")
            await mesh.add("small")
            await sim.sleep(1)
            one = sim.ref(Peer, "d9://peer/m/m-1")
            await small.suspend()
            for word in ("first", "second", "dropped"):
                assert await one.publish("hear", {"word": word}) == 2
            await small.resume()
            assert await one.publish("hear", {"word": "last"}) == 2
            assert await small.told() == ["first", "second"]
            await sim.sleep(4.9)
            assert await small.told() == ["first", "second"]
            await sim.sleep(0.2)
            assert await small.told() == ["first", "second", "last"]

    run(main)


def test_who_leaves_a_mesh_is_told_no_more_and_tells_no_more() -> None:
    """It has no peers then; when it comes back it takes part as before."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=2)
            guest = await sim.spawn(Peer, "guest")
            await mesh.add("guest")
            assert await guest.publish("hear", {"word": "one"}) == 2
            await mesh.remove("guest")
            assert await guest.publish("hear", {"word": "alone"}) == 0
            assert await mesh.broadcast("hear", {"word": "without"}) == 2
            await mesh.add("guest")
            assert await mesh.broadcast("hear", {"word": "with"}) == 3
            assert await guest.publish("hear", {"word": "two"}) == 2
            assert await guest.told() == ["one", "alone", "with", "two"]
            assert await sim.ask("m-1", "told") == ["one", "without", "with", "two"]

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


def test_electors_that_lost_their_memory_are_none() -> None:
    """With a majority of them gone the topic is refused at once; another can be decided."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=3)
            assert (await mesh.propose("x", "leader"))["decided"]
            for number in (1, 2):
                await sim.ask(f"m-{number}", "restart")
            begun = sim.clock.monotonic()
            with pytest.raises(Conflict, match="2 of 3 electors have lost their memory"):
                await mesh.propose("y", "leader")
            assert sim.clock.monotonic() - begun < 1
            assert (await mesh.propose("y", "another"))["value"] == "y"

    run(main)


def test_a_slow_elector_holds_up_nobody() -> None:
    """A majority is enough, and is not waited for longer than it takes."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Mesh, "m", member=Peer, count=3)
            assert (await mesh.propose("x", "leader"))["decided"]
            await sim.ask("m-3", "suspend")
            begun = sim.clock.monotonic()
            assert (await mesh.propose("y", "leader"))["value"] == "x"
            assert sim.clock.monotonic() - begun < 0.5

    run(main)


def test_memberships_survive_a_restart() -> None:
    """Who was added and removed by hand, of all kinds; who is not there yet is waited for."""

    async def first(store: MemoryStore) -> None:
        async with system(store=store, copy=False) as sim:
            for name in ("a", "b", "c", "d"):
                await sim.spawn(Worker, name)
            swarm = await sim.spawn(Swarm, "s", member=Worker, count=2, members=["a", "b"])
            await swarm.add("c")
            await swarm.add("d")
            await swarm.add(Worker)
            await swarm.remove("b")
            await swarm.remove("d9://worker/s/s-1")
            await sim.ask("d", "stop")
            want = ["s/s-2", "default/a", "default/c", "s/s-3"]
            assert await names(swarm) == want
            sim.lifecycle.crashed(sim.cell_of(swarm), None, RuntimeError("on purpose"))
            await sim.sleep(5)
            assert await names(swarm) == want

    async def second(store: MemoryStore) -> None:
        async with system(store=store, copy=False) as sim:
            for name in ("a", "b"):
                await sim.spawn(Worker, name)
            swarm = await sim.spawn(Swarm, "s", member=Worker, count=2, members=["a", "b"])
            assert await names(swarm) == ["s/s-2", "default/a", "s/s-3", "default/c"]
            assert (await swarm.status())["members"]["d9://worker/default/c"] == "absent"
            assert await swarm.broadcast("note", {"word": "x"}) == 3
            await sim.spawn(Worker, "c")
            assert await swarm.broadcast("note", {"word": "y"}) == 4
            await swarm.add("b")
            assert await swarm.remove("d9://worker/default/c") == "d9://worker/default/c"
            assert await swarm.add(Worker) == "d9://worker/s/s-4"

    async def third(store: MemoryStore) -> None:
        async with system(store=store, copy=False) as sim:
            for name in ("a", "b"):
                await sim.spawn(Worker, name)
            swarm = await sim.spawn(Swarm, "s", member=Worker, count=2, members=["a", "b"])
            assert await names(swarm) == ["s/s-2", "default/a", "default/b", "s/s-3", "s/s-4"]

    async def names(swarm: Any) -> list[str]:
        return [one.removeprefix("d9://worker/") for one in (await swarm.status())["members"]]

    store = MemoryStore()
    for life in (first, second, third):
        run(lambda life=life: life(store))  # type: ignore[misc]


def test_a_member_that_ended_and_came_back_can_still_be_removed() -> None:
    """The configuration names it: it leaves when it is stopped, is added, and let go for good."""

    async def first() -> None:
        async with system(store=store, copy=False) as sim:
            one = await sim.spawn(Worker, "one")
            swarm = await sim.spawn(Swarm, "s", members=["one"])
            await one.stop()
            assert (await swarm.status())["members"] == {}
            await one.start()
            await swarm.add("one")
            await swarm.remove("one")

    async def second() -> None:
        async with system(store=store, copy=False) as sim:
            await sim.spawn(Worker, "one")
            swarm = await sim.spawn(Swarm, "s", members=["one"])
            assert (await swarm.status())["members"] == {}

    store = MemoryStore()
    for life in (first, second):
        run(life)


def test_members_may_start_after_their_egregore() -> None:
    """One that the configuration gives by its address is waited for; a name must be known."""

    async def main() -> None:
        async with system(copy=False) as sim:
            later = "d9://worker/default/later"
            swarm = await sim.spawn(Swarm, "s", members=[later])
            assert (await swarm.status())["members"] == {later: "absent"}
            await sim.spawn(Worker, "later")
            assert (await swarm.status())["members"] == {later: "running"}
            with pytest.raises(UnknownDaemon):
                await sim.spawn(Swarm, "t", members=["nobody"])

    run(main)


def test_a_ring_that_starts_anew_has_a_later_epoch() -> None:
    """With a store and without one: members have seen the earlier ones."""

    async def main() -> None:
        async with system(copy=False, store=store) as sim:
            ring = await sim.spawn(Ring, "r", member=Stage, count=1)
            seen.append((await ring.status())["epoch"])
            await ring.restart()
            seen.append((await ring.status())["epoch"])
            await ring.broadcast("pass-on")

    for store in (None, MemoryStore()):
        seen: list[int] = []
        run(main)
        run(main, clock=VirtualClock(946_684_900.0))
        first, again, later, last = seen
        assert first == 1
        assert again > first
        assert last > later
        assert (later > again) == (store is not None)


def test_an_anonymous_question_leaves_nothing_behind() -> None:
    """Neither the coordinator nor an elector keeps what nobody can ask again."""

    async def main() -> None:
        async with system(copy=False) as sim:
            mesh = await sim.spawn(Egregore, "m", archetype="mesh", member=Peer, count=3)
            assert (await mesh.propose(7))["value"] == 7
            assert (await mesh.propose(8, "named"))["value"] == 8
            await sim.sleep(1)
            assert list(sim.cell_of(mesh).instance.topics) == ["named"]
            assert list(sim.cell_of("m-1").instance.decrees) == ["named"]
            swarm = await sim.spawn(Swarm, "s")
            with pytest.raises(NotSupported, match="a swarm does not agree"):
                await swarm.propose(1)

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
            for egregore in (swarm, tree, mesh):
                for timeout in (0, -1.0, "soon"):
                    with pytest.raises(BadPayload):
                        await sim.ask(egregore, "broadcast", type="work", timeout=timeout)

    run(main)
