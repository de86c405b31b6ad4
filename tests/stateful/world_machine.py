"""A Hypothesis machine around a world: its rules act between two moments of virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from dan9.kernel.clock import VirtualClock
from dan9.testing import World

__all__ = ["WorldMachine"]

T = TypeVar("T")


class WorldMachine(RuleBasedStateMachine):
    """Has a system in virtual time; derive rules that act on it and compare.

    Each rule runs in the loop of the world until nothing is runnable; time passes only by
    `wait`. The invariants of `dan9.testing` are checked at every step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock()
        self.loop: Any = self.clock.new_event_loop()
        self.loop._selector.patience_s = 0.5
        self.world = World(1, clock=self.clock, copy=False, record=False)
        self.loop.set_exception_handler(self.world._loop_error)
        self.do(self.world.system.up())

    def do(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the world, then until nothing is runnable."""

        async def main() -> T:
            value = await coroutine
            await self.world.quiet()
            self.world.check()
            return value

        return self.loop.run_until_complete(main())

    def call(self, function: Callable[[], T]) -> T:
        """Call a function in the world."""

        async def main() -> T:
            return function()

        return self.do(main())

    def settle(self) -> None:
        """Let happen what is to happen now."""
        for _ in range(3):
            self.call(lambda: None)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.do(self.world.system.sleep(seconds))

    def cell(self, name: str) -> Any:
        """Return the record of a daemon."""
        return self.world.system.cell_of(name)

    def instance(self, name: str) -> Any:
        """Return the object behind a name."""
        return self.cell(name).instance

    def teardown(self) -> None:
        """End the world; what was found on the way is an error now."""
        try:
            self.loop.run_until_complete(self.world.end())
            self.loop.set_exception_handler(None)
            for task in asyncio.all_tasks(self.loop):
                task.cancel()
            self.loop.run_until_complete(asyncio.sleep(0))
        finally:
            self.loop.close()
        if self.world.invariants.breach is not None:
            raise self.world.invariants.breach
