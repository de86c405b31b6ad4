"""The address router: addresses beside daemons' own, patterns from a trie."""

from __future__ import annotations

import time  # noqa: TID251 (a bound is part of the promise)

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.address import Pattern
from dan9.base.errors import BadAddress, Exists, NotFound, UnknownDaemon
from dan9.daemons.router import Router
from dan9.daemons.routes import Routes
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System, current_message
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Worker(Daemon):
    """Notes who said what."""

    heard: list[tuple[str, str]] = []

    @on
    def hear(self, word: str) -> None:
        message = current_message()
        assert message is not None
        self.heard.append((message.sender, word))

    @on
    def told(self) -> list[tuple[str, str]]:
        return self.heard

    @on
    def crash(self) -> None:
        raise RuntimeError("on purpose")


async def start(sim: System) -> Router:
    """Return a router as boot starts it."""
    return await sim.spawn(Router, "router", group="system")


segments = st.sampled_from(["a", "ab", "b", "abc", "c-1"])
parts = st.sampled_from(["a", "ab", "*", "**", "a*", "*b", "c-*"])


@given(
    st.lists(st.tuples(segments, segments, segments), max_size=12),
    st.lists(parts, min_size=1, max_size=4),
)
def test_the_trie_finds_what_a_scan_finds(
    addresses: list[tuple[str, str, str]], pattern: list[str]
) -> None:
    """For every pattern the same addresses as matching each, and none twice."""
    routes: Routes[str] = Routes()
    uris = ["d9://" + "/".join(address) for address in addresses]
    for uri in uris:
        routes.add(uri, uri)
    text = "d9://" + "/".join(pattern) if len(pattern) > 1 else pattern[0]
    fits = Pattern(text)
    found = [uri for uri, _ in routes.match(text)]
    assert sorted(found) == sorted({uri for uri in uris if fits.matches(uri)})


def test_many_addresses() -> None:
    """Half a million resolutions a second; a group is found without a scan.

    `python -m benchmarks router` measures it among a million.
    """
    routes: Routes[int] = Routes()
    wanted = [f"d9://meter/g{number % 1000}/m{number}" for number in range(100_000)]
    for number, uri in enumerate(wanted):
        routes.add(uri, number)
    begun = time.process_time()
    assert all(routes.get(uri) is not None for uri in wanted)
    assert len(wanted) / (time.process_time() - begun) > 500_000
    begun = time.process_time()
    assert len(list(routes.match("d9://meter/g7/*"))) == 100
    assert time.process_time() - begun < 0.01


def test_what_is_no_address_is_refused_by_the_table() -> None:
    """Its short way takes what an address is, and nothing else."""
    routes: Routes[int] = Routes()
    for bad in ("d9://A/b/c", "d9://a/b/c/d", "d9://a/b/" + "x" * 64, "d9://a/*/c", "d9://a//c"):
        with pytest.raises(BadAddress):
            routes.add(bad, 1)
    assert routes.add("d9://a/b", 1)
    assert routes.get("d9://a/default/b") == 1
    assert not routes.add("d9://a/default/b", 2)


def test_register_resolve_unregister() -> None:
    """An address leads to its daemon until it is taken back; the short form is group default."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            await sim.spawn(Worker, "w1")
            assert await router.register("d9://egregore/one", "w1") == "d9://worker/default/w1"
            expected = {"address": "d9://worker/default/w1", "node": "test", "state": "running"}
            for uri in ("d9://egregore/one", "d9://egregore/default/one", "d9://worker/w1"):
                assert await router.resolve(uri) == expected
            assert await router.unregister("d9://egregore/one") == "d9://worker/default/w1"
            with pytest.raises(NotFound):
                await router.resolve("d9://egregore/one")

    run(main)


def test_a_second_registration_is_an_error() -> None:
    """Unless it says that it replaces the first; a daemon's own address cannot be taken."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            for name in ("w1", "w2"):
                await sim.spawn(Worker, name)
            await router.register("d9://x/y/z", "w1")
            for target in ("w1", "w2"):
                with pytest.raises(Exists, match="leads to d9://worker/default/w1"):
                    await router.register("d9://x/y/z", target)
            assert await router.register("d9://x/y/z", "w2", True) == "d9://worker/default/w2"
            with pytest.raises(Exists):
                await router.register("d9://worker/default/w1", "w2")

    run(main)


def test_a_dead_daemons_address_frees_itself() -> None:
    """Stopped: free. Crashed and restarted: kept, and the new incarnation answers."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            one = await sim.spawn(Worker, "w1")
            await router.register("d9://x/y/z", "w1")
            one.crash.tell()
            await sim.sleep(1)
            assert (await router.resolve("d9://x/y/z"))["state"] == "running"
            one.crash.tell()
            await sim.sleep(1)
            await one.stop()
            with pytest.raises(NotFound):
                await router.resolve("d9://x/y/z")
            await sim.spawn(Worker, "w2")
            await router.register("d9://x/y/z", "w2")

    run(main)


def test_a_registered_address_is_good_wherever_one_is_asked_for() -> None:
    """Asked, told, monitored, restarted by it; a daemon of that very address comes first."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            one = await sim.spawn(Worker, "w1")
            await router.register("d9://scheduler/year-gear", "w1")
            for uri in ("d9://scheduler/year-gear", "d9://scheduler/default/year-gear"):
                assert await sim.ask(uri, "ping") == "pong"
                assert sim.resolve(uri) == "d9://worker/default/w1"
            assert (await sim.ask("d9://scheduler/year-gear", "restart")) == "running"
            own = await sim.spawn(Worker, "year-gear")
            await router.register("d9://a/b/c", str(own.address))
            with pytest.raises(Exists):
                await router.register("d9://worker/default/year-gear", "w1")
            for gone in ("d9://scheduler/other", "year", "d9://no/such/one"):
                with pytest.raises(UnknownDaemon):
                    await sim.ask(gone, "ping")
            await one.stop()
            with pytest.raises(UnknownDaemon):
                await sim.ask("d9://scheduler/year-gear", "ping")
            await router.stop()
            with pytest.raises(UnknownDaemon):
                await sim.ask("d9://a/b/c", "ping")

    run(main)


def test_an_address_is_kept_through_an_operators_restart() -> None:
    """Between stop and start it leads to a daemon that is stopped, and is taken."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            one = await sim.spawn(Worker, "w1")
            await router.register("d9://x/y/z", "w1")
            for _ in range(2):
                await one.restart()
                assert (await router.resolve("d9://x/y/z"))["state"] == "running"
            await one.stop()
            with pytest.raises(NotFound):
                await router.resolve("d9://x/y/z")

    run(main)


def test_registrations_survive_a_restart() -> None:
    """Of the router, of the node: an address leads to its daemon as soon as that has started."""

    async def first() -> None:
        async with system(store=store, copy=False) as sim:
            router = await start(sim)
            for name in ("w1", "w2", "w3"):
                await sim.spawn(Worker, name)
            for uri, target in (("a", "w1"), ("b", "w1"), ("c", "w2"), ("d", "w3")):
                await router.register(f"d9://x/y/{uri}", target)
            await router.unregister("d9://x/y/b")
            await sim.ask("w3", "stop")
            await sim.sleep(1)
            sim.lifecycle.crashed(sim.cell_of(router), None, RuntimeError("on purpose"))
            await sim.sleep(1)
            assert len(await router.list_("d9://x/**")) == 2

    async def second() -> None:
        async with system(store=store, copy=False) as sim:
            router = await start(sim)
            assert await router.list_("d9://x/**") == []
            assert (await router.status())["awaited"] == 2
            await sim.spawn(Worker, "w1")
            assert await router.list_("d9://x/**") == [
                {"uri": "d9://x/y/a", "address": "d9://worker/default/w1", "state": "running"}
            ]
            assert await router.unregister("d9://x/y/c") == "d9://worker/default/w2"
            assert (await router.status())["awaited"] == 0

    async def third() -> None:
        async with system(store=store, copy=False) as sim:
            router = await start(sim)
            await sim.spawn(Worker, "w2")
            await router.register("d9://x/y/a", "w2")  # free until w1 is there
            await sim.spawn(Worker, "w1")
            found = await router.resolve("d9://x/y/a")
            assert found["address"] == "d9://worker/default/w2"

    store = MemoryStore()
    for life in (first, second, third):
        run(life)


def test_many_changes_are_saved_once() -> None:
    """A tenth of a second after the first, however many there are until then."""

    async def main() -> None:
        store = MemoryStore()
        async with system(store=store, copy=False) as sim:
            router = await start(sim)
            await sim.spawn(Worker, "w1")
            for number in range(50):
                await router.register(f"d9://x/y/{number}", "w1")
            assert store.versions(str(router.address)) == []
            await sim.sleep(0.2)
            assert len(store.versions(str(router.address))) == 1

    run(main)


def test_send_keeps_the_sender_and_takes_patterns() -> None:
    """Who is told sees who asked; of a pattern those are told that know the message."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            refs = [await sim.spawn(Worker, f"w{number}", group="g") for number in range(3)]
            await router.register("d9://alias/g/a", str(refs[0].address))
            assert await router.send_("d9://alias/g/a", "hear", {"word": "one"}) == 1
            assert await router.send_("d9://*/g/*", "hear", {"word": "all"}) == 3
            assert await router.send_("d9://**", "nothing-of-the-kind") == 0
            assert await refs[0].told() == [(sim.outside, "one"), (sim.outside, "all")]
            with pytest.raises(NotFound):
                await router.send_("d9://no/such/one", "hear")

    run(main)


def test_list_by_pattern() -> None:
    """Own and registered addresses alike, no more than asked for."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            await sim.spawn(Worker, "w1")
            await router.register("d9://alias/default/w1", "w1")
            listed = await router.list_("w1")
            assert [(one["uri"], one["address"]) for one in listed] == [
                ("d9://worker/default/w1", "d9://worker/default/w1"),
                ("d9://alias/default/w1", "d9://worker/default/w1"),
            ]
            assert len(await router.list_("**", 1)) == 1

    run(main)


def test_refusals() -> None:
    """No address, nobody there, a pattern where one is meant, a stopped daemon."""

    async def main() -> None:
        async with system() as sim:
            router = await start(sim)
            one = await sim.spawn(Worker, "w1")
            for uri in ("x", "d9://a", "d9://a/b/c/d", "d9://A/b/c", "d9://a/*/c"):
                with pytest.raises(BadAddress):
                    await router.register(uri, "w1")
            with pytest.raises(BadAddress, match="pattern"):
                await router.resolve("d9://worker/*/w1")
            with pytest.raises(BadAddress):
                await router.list_("d9://A/**")
            with pytest.raises(UnknownDaemon):
                await router.register("d9://a/b/c", "nobody")
            with pytest.raises(NotFound):
                await router.unregister("d9://a/b/c")
            await one.stop()
            with pytest.raises(UnknownDaemon):
                await router.register("d9://a/b/c", "w1")

    run(main)
