"""Asks from a wire: a way that is kept is believed only while it leads where it did."""

from __future__ import annotations

import asyncio
from typing import Any

from dan9 import Daemon, System, on
from dan9.kernel import wires
from dan9.testing import run, system


class Echo(Daemon):
    @on
    def say(self, value: int = 0) -> str:
        return f"{self.address} {value}"

    @on
    async def fail(self) -> int:
        raise ValueError("no")

    @on
    def same(self) -> object:
        return object()


class Own(Daemon, type="echo"):
    async def main(self) -> None:
        async for message in self.inbox():
            message.reply(message.type)


async def told(world: Any, to: str, type_: str, **payload: Any) -> tuple[bool, Any]:
    """Ask as a client does; return what the callback got."""
    got: asyncio.Future[tuple[bool, Any]] = asyncio.get_running_loop().create_future()
    world.wire_ask(
        "d9://client/test/1",
        to,
        type_,
        payload,
        callback=lambda ok, value: got.set_result((ok, value)),
    )
    return await got


def test_a_way_follows_the_name_to_who_has_it_now() -> None:
    """A daemon that ends frees its name; the next of that name is asked, even of another class."""

    async def main() -> None:
        async with system(seed=0) as world:
            for cls in (Echo, Own, Echo):
                await world.spawn(cls, "e", restart="temporary")
                for _ in range(2):
                    ok, value = await told(world, "d9://echo/default/e", "say", value=3)
                    assert ok
                    assert value == ("say" if cls is Own else "d9://echo/default/e 3")
                await world.ask("d9://echo/default/e", "stop")
                ok, form = await told(world, "d9://echo/default/e", "say")
                assert (ok, form["error"]["code"]) == (False, "unknown-daemon")

    run(main)


def test_a_bare_name_is_looked_up_anew_when_anybody_came() -> None:
    """Two of a name are ambiguous from the moment that there are two."""

    async def main() -> None:
        async with system(seed=0) as world:
            await world.spawn(Echo, "e", restart="temporary")
            assert (await told(world, "e", "say"))[0]
            await world.spawn(Echo, "e", group="other")
            ok, form = await told(world, "e", "say")
            assert (ok, form["error"]["code"]) == (False, "ambiguous-name")
            await world.ask("d9://echo/default/e", "stop")
            assert await told(world, "e", "say") == (True, "d9://echo/other/e 0")

    run(main)


def test_what_is_wrong_is_told_each_time() -> None:
    """A kept way checks payloads as the first ask did; a crash and a bad reply are answers."""

    async def main() -> None:
        async with System("t", daemons="none", socket=False, seed=0) as world:
            await world.spawn(Echo, "e", restart="permanent")
            for _ in range(2):
                for type_, payload, code in (
                    ("say", {"value": "x"}, "bad-payload"),
                    ("say", {"other": 1}, "bad-payload"),
                    ("nothing", {}, "unknown-message"),
                    ("same", {}, "bad-payload"),
                ):
                    ok, form = await told(world, "d9://echo/default/e", type_, **payload)
                    assert (ok, form["error"]["code"]) == (False, code)
            ok, form = await told(world, "d9://echo/default/e", "fail")
            assert (ok, form["error"]["code"]) == (False, "crashed")

    run(main)


def test_ways_have_an_end() -> None:
    """Clients choose the texts, so what is kept of them is bounded."""

    async def main() -> None:
        async with system(seed=0) as world:
            for number in range(wires._MOST + 2):
                name = f"e{number}"
                await world.spawn(Echo, name, start=False)
                world.wires.parts(f"d9://echo/default/{name}", "say", {})
            assert world.wires.kept == 2

    run(main)


class Picky(Daemon):
    @on
    def first(self, max_size: float, unit: str = "b", *, is_exact: bool = False) -> str:
        return f"{max_size!r} {unit} {is_exact}"

    @on
    def both(self, left: int, right: int) -> int:
        return left - right

    @on
    def named(self, *, only: int = 1) -> int:
        return only

    @on
    def rest(self, path: str = "", **fields: int) -> str:
        return f"{path} {fields}"


def test_a_kept_way_takes_every_payload_as_the_first_time() -> None:
    """By position or by names: what a payload means does not depend on how often it came."""
    said: list[tuple[str, dict[str, Any], Any]] = [
        ("first", {"max_size": 2}, "2.0 b False"),  # converted, as an int is where a float is due
        ("first", {"max-size": 2.5}, "2.5 b False"),
        ("first", {"max_size": 1.0, "unit": "k", "is-exact": True}, "1.0 k True"),
        ("first", {"unit": "k"}, "bad-payload"),
        ("first", {"max_size": "much"}, "bad-payload"),
        ("first", {"least": 1.0}, "bad-payload"),
        ("first", {}, "bad-payload"),
        ("both", {"left": 1}, "bad-payload"),
        ("both", {"right": 1, "left": 3}, 2),
        ("named", {"only": 4}, 4),
        ("named", {}, 1),
        ("rest", {"path": "a"}, "a {}"),
        ("rest", {"size": 7}, " {'size': 7}"),
        ("rest", {}, " {}"),
    ]

    async def main() -> None:
        async with system(seed=0) as world:
            await world.spawn(Picky, "p")
            for type_, payload, expected in said:
                for _ in range(2):
                    ok, value = await told(world, "p", type_, **payload)
                    found = value if ok else value["error"]["code"]
                    assert found == expected, (type_, payload)

    run(main)
