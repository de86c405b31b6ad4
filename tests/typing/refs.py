"""What a type checker sees of refs and handlers; nothing here runs.

A line that must be reported ends in `# E: code` (mypy's); tests/test_house.py compares, and
tests/kernel/test_rules_typing.py does so for pyright, whose codes are others.
"""

# pyright: strict, reportUnusedExpression=false

from __future__ import annotations

from typing import assert_type

from dan9 import Daemon, Ref, System, every, on

__all__ = ["Counter", "beat", "outside"]


class Counter(Daemon):
    """Has an asynchronous and a plain handler."""

    total: int = 0

    @on
    async def add(self, by: int = 1) -> int:
        """Answer with a number."""
        self.total += by
        return self.total

    @on
    def label(self, word: str) -> str:
        """Answer with text, without awaiting."""
        return f"{word} {self.total}"

    @on(concurrent=True, timeout_s="30s", cancellable=True)
    async def wait(self, *, until: float = 0.0) -> float:
        """Answer later."""
        return until

    @on(thread=True)
    def grind(self, rounds: int) -> bytes:
        """Answer from a thread."""
        return bytes(rounds)

    @on
    async def keep(self, name: str, **fields: object) -> list[str]:
        """Take whatever keys there are."""
        return [name, *fields]

    @on
    async def list_(self, for_: str = "") -> list[str]:
        """Answer to `list`."""
        return [for_]

    @every("30s")
    async def tick(self) -> None:
        """Come by the clock."""
        assert_type(await self.add(1), int)
        self.add.tell(1)
        self.log.info("%d", await self.add(), total=self.total)

    @on
    async def twin(self) -> None:
        """Spawn another from inside."""
        other = await self.spawn(Counter, "twin")
        assert_type(await other.add(2), int)
        assert_type(await self.spawn(beat, "beat"), Ref)
        assert_type(self.ref(Counter, "d9://counter/default/c1"), Counter)


async def beat(daemon: Daemon) -> None:
    """Be a daemon that is a function."""
    await daemon.sleep("1s")


async def outside(system: System) -> None:
    """Tell and ask through a ref."""
    counter = await system.spawn(Counter, "c1")
    assert_type(await counter.add(2), int)
    assert_type(await counter.label("now"), str)
    assert_type(await counter.add.within(1.0)(2), int)
    counter.add.tell(2)
    await counter.add.send(2)
    assert_type(await counter.add.within("250ms")(2), int)
    assert_type(await counter.wait(until=2.0), float)
    assert_type(await counter.grind(2), bytes)
    assert_type(await counter.keep("x", colour="red"), list[str])
    assert_type(await counter.list_(for_="x"), list[str])
    assert_type(await counter.ping(), str)
    assert_type(await system.get_or_spawn(Counter, "c1"), Counter)
    assert_type(system.ref(Counter, "d9://counter/default/c1"), Counter)
    assert_type(await system.spawn(beat, "beat"), Ref)

    await counter.add("two")  # E: arg-type
    await counter.label()  # E: call-arg
    counter.add.tell("two")  # E: arg-type
    counter.add(2)  # E: unused-coroutine
    counter.add.send(2)  # E: unused-coroutine
    counter.add.within(1.0)(2)  # E: unused-coroutine
    counter.label("now")  # E: unused-coroutine
    system.ask("c1", "add")  # E: unused-coroutine
    counter.add(2) + 1  # E: operator
    word: str = await counter.add(2)  # E: assignment
    await counter.add(total=2)  # E: call-arg
    await counter.add.within(1.0)("two")  # E: arg-type
    await counter.add.send("two")  # E: arg-type
    await system.spawn(print, "p")  # E: arg-type
    del word
    counter.subtract  # E: attr-defined
