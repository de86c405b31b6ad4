"""Run a test in virtual time, with or without a system."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from dan9.kernel.clock import VirtualClock
from dan9.kernel.kernel import System

__all__ = ["run", "system"]

T = TypeVar("T")


def run(
    main: Callable[[], Coroutine[Any, Any, T]],
    *,
    clock: VirtualClock | None = None,
    real: bool = False,
) -> T:
    """Run an async function to its end: in virtual time, unless `real`.

    Args:
        main: Called without arguments.
        clock: The virtual clock to run under; a fresh one by default.
        real: Use the machine's time and loop.

    Raises:
        TimeStandsStill: In virtual time, it waits for what can never happen.
    """
    if real:
        return asyncio.run(main())
    return (clock or VirtualClock()).run(main())  # type: ignore[no-any-return]


@asynccontextmanager
async def system(
    name: str = "test", *, seed: int = 0, copy: bool = True, **options: Any
) -> AsyncIterator[System]:
    """A system without system daemons and socket, in the clock of the running loop."""
    loop: Any = asyncio.get_running_loop()
    options.setdefault("clock", getattr(loop, "virtual_clock", None))
    async with System(name, daemons="none", socket=False, seed=seed, copy=copy, **options) as made:
        yield made
