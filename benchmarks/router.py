"""The router among 1,000,000 registered addresses: resolving, and what a pattern fits.

`python -m benchmarks router` prints resolutions a second (CPU time, the median of five) of the
table and of the daemon: asked one after another by a client in the process, a thousand at
once by a client in the process. 500,000 a second of the table are wanted. A pattern that names
a group must take no longer among a million than among a thousand.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time

from benchmarks.harness import table
from dan9 import Daemon, System, gather
from dan9.daemons.router import Router
from dan9.daemons.routes import Routes

ADDRESSES = 1_000_000
GROUPS = 1_000
GOAL = 500_000
ROUNDS = 5


class Meter(Daemon):
    """Is registered a thousand times."""


def addresses(count: int) -> list[str]:
    """Return addresses, a thousandth of them in each group."""
    return [f"d9://meter/g{number % GROUPS}/m{number}" for number in range(count)]


def lookups(routes: Routes[str], wanted: list[str]) -> float:
    """Return resolutions a second of the table."""
    get = routes.get
    begun = time.process_time()
    for uri in wanted:
        get(uri)
    return len(wanted) / (time.process_time() - begun)


def pattern_us(routes: Routes[str]) -> float:
    """Return how long a pattern takes for one address that it fits."""
    begun = time.process_time()
    found = sum(1 for number in range(20) for _ in routes.match(f"d9://meter/g{number}/*"))
    return (time.process_time() - begun) / found * 1e6


async def asked(count: int) -> tuple[float, float]:
    """Return resolutions a second of the daemon: one after another, and a thousand at once."""
    single, many = [], []
    async with System("router", daemons="none", socket=False) as system:
        router: Router = await system.spawn(Router, "router", group="system")
        for number in range(GROUPS):
            await system.spawn(Meter, f"m{number}")
        uris = addresses(count)
        for number, uri in enumerate(uris):
            await router.register(uri, f"d9://meter/default/m{number % GROUPS}")
        for round_ in range(ROUNDS):
            wanted = random.Random(round_).sample(uris, 20_000)
            begun = time.process_time()
            for uri in wanted:
                await router.resolve(uri)
            single.append(len(wanted) / (time.process_time() - begun))
            begun = time.process_time()
            for first in range(0, len(wanted), 1_000):
                replies = await gather(*map(router.resolve, wanted[first : first + 1_000]))
            many.append(len(wanted) / (time.process_time() - begun))
            number = int(wanted[-1].rpartition("m")[2])
            assert replies[-1]["address"] == f"d9://meter/default/m{number % GROUPS}"  # type: ignore[index]
        listed = await router.list_("d9://meter/g7/*", 10_000)
        assert len(listed) == count // GROUPS
    return statistics.median(single), statistics.median(many)


def main() -> int:
    """Measure and print; 1 if a goal is missed."""
    few: Routes[str] = Routes()
    for uri in addresses(GROUPS * 10):
        few.add(uri, uri)
    routes: Routes[str] = Routes()
    uris = addresses(ADDRESSES)
    for uri in uris:
        routes.add(uri, uri)
    wanted = random.Random(1).sample(uris, 200_000)
    assert all(routes.get(uri) == uri for uri in wanted)
    assert routes.get("d9://meter/g1/m2") is None
    rate = statistics.median(lookups(routes, wanted) for _ in range(ROUNDS))
    narrow = statistics.median(pattern_us(few) for _ in range(ROUNDS))
    wide = statistics.median(pattern_us(routes) for _ in range(ROUNDS))
    del routes, few
    single, many = asyncio.run(asked(100_000))
    rows = [
        ("the table, resolutions/s among 1,000,000", f"{rate:,.0f}", f">= {GOAL:,}"),
        ("the daemon, asked one by one, 100,000", f"{single:,.0f}", ""),
        ("the daemon, asked 1,000 at once, 100,000", f"{many:,.0f}", ""),
        ("a pattern, us an address, among 10,000", f"{narrow:.2f}", ""),
        ("a pattern, us an address, among 1,000,000", f"{wide:.2f}", f"<= {3 * narrow:.2f}"),
    ]
    print(table(("router", "measured", "wanted"), rows))
    return 0 if rate >= GOAL and wide <= 3 * narrow else 1


if __name__ == "__main__":
    raise SystemExit(main())
