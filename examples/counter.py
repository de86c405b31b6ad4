"""A daemon of one's own: a counter, told and asked.

`python examples/counter.py` runs it in a system of its own. A running node takes it in with
`dan9 run examples.counter:Counter c1 --group demo`; then `dan9 send c1 add by=2` asks it.
"""

from __future__ import annotations

import asyncio

from dan9 import Daemon, Refused, System, every, on


class Counter(Daemon):
    """Counts what it is told to count."""

    total: int = 0

    @on
    async def add(self, by: int = 1) -> int:
        """Add to the total and answer it. Errors: refused, when the total would fall below 0."""
        if self.total + by < 0:
            raise Refused(f"{self.total} and {by} is less than nothing")
        self.total += by
        return self.total

    @on
    async def reset(self) -> None:
        """Begin again at 0."""
        self.total = 0

    @every("30s")
    async def report(self) -> None:
        """Say how far it is."""
        self.log.info("total is %d", self.total)


async def main() -> None:
    """Tell it, ask it, be refused by it, and look at it."""
    async with System("counting", daemons="none", socket=False) as system:
        counter = await system.spawn(Counter, "c1", group="demo")
        print("address", counter.address)
        counter.add.tell(5)
        print("add 2  ", await counter.add(2))
        try:
            await counter.add(-10)
        except Refused as error:
            print("add -10", error)
        status = system.status_of("c1")
        print(
            "status ", status["state"], status["handled"], "handled,", status["refused"], "refused"
        )
        await counter.reset()
        print("add    ", await counter.add())


if __name__ == "__main__":
    asyncio.run(main())
