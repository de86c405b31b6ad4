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
    if len(pattern) == 4 and pattern[-1] == "**":
        pattern = pattern[1:]  # of three segments and `**`, Pattern wants a fourth
    text = "d9://" + "/".join(pattern) if len(pattern) > 1 else pattern[0]
    fits = Pattern(text)
    found = [uri for uri, _ in routes.match(text)]
    assert sorted(found) == sorted({uri for uri in uris if fits.matches(uri)})


def test_a_million_addresses() -> None:
    """Half a million resolutions a second among a million; a group is found without a scan."""
    routes: Routes[int] = Routes()
    for number in range(1_000_000):
        routes.add(f"d9://meter/g{number % 1000}/m{number}", number)
    wanted = [f"d9://meter/g{number % 1000}/m{number}" for number in range(0, 1_000_000, 10)]
    begun = time.process_time()
    assert all(routes.get(uri) is not None for uri in wanted)
    assert len(wanted) / (time.process_time() - begun) > 500_000
    begun = time.process_time()
    assert len(list(routes.match("d9://meter/g7/*"))) == 1000
    assert time.process_time() - begun < 0.05


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
