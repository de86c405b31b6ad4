"""What a type checker sees of refs and handlers; nothing here runs.

A line that must be reported ends in `# E: code`; tests/test_house.py compares.
"""

from __future__ import annotations

from typing import assert_type

from dan9 import Daemon, System, on

__all__ = ["Counter", "outside"]


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

    @on
    async def twin(self) -> None:
        """Spawn another from inside."""
        other = await self.spawn(Counter, "twin")
        assert_type(await other.add(2), int)


async def outside(system: System) -> None:
    """Tell and ask through a ref."""
    counter = await system.spawn(Counter, "c1")
    assert_type(await counter.add(2), int)
    assert_type(await counter.label("now"), str)
    assert_type(await counter.add.within(1.0)(2), int)
    counter.add.tell(2)
    await counter.add.send(2)

    await counter.add("two")  # E: arg-type
    await counter.label()  # E: call-arg
    counter.add.tell("two")  # E: arg-type
    counter.add(2)  # E: unused-coroutine
    counter.subtract  # E: attr-defined
