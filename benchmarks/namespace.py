"""Lookups in a namespace of 10,000 bindings, against a plain search for the longest prefix.

`python -m benchmarks.namespace` prints lookups per second: of the bound paths themselves,
again and again, and of paths that were never asked for before. The peer is a dict of
prefixes cut off name by name, which knows neither unions nor places.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable

from dan9.daemons.mountscript import first_guess
from dan9.daemons.mounttable import Member, MountTable

BINDINGS = 10_000
GOAL = 300_000


def rate(look: Callable[[str], object], paths: Iterable[str]) -> float:
    """Return lookups per second."""
    wanted = list(paths)
    begun = time.perf_counter()
    for path in wanted:
        look(path)
    return len(wanted) / (time.perf_counter() - begun)


def longest_prefix(bound: dict[str, str], path: str) -> tuple[str, str]:
    """The peer: cut names off until what is left is bound."""
    prefix = path
    while prefix not in bound:
        prefix = prefix.rpartition("/")[0]
    return bound[prefix], path[len(prefix) :]


def main() -> int:
    """Print the table; 1 if the bindings' own paths miss the goal."""
    table = MountTable()
    bound = {f"/net/g{n % 100}/n{n}": f"d9://echo/g{n % 100}/n{n}" for n in range(BINDINGS)}
    for path, address in bound.items():
        table.bind(first_guess(table.locate(path)), (Member((address, "")),))
    paths = list(bound)
    random.Random(1).shuffle(paths)
    rows = {
        "bound paths, again and again": rate(table.resolve, paths * 30),
        "bound paths, the first time": 0.0,
        "new paths below them": 0.0,
    }
    fresh = table.copy()
    rows["bound paths, the first time"] = rate(fresh.resolve, paths)
    rows["new paths below them"] = rate(
        fresh.resolve, (f"{path}/f{n}" for n in range(20) for path in paths)
    )
    peer = rate(
        lambda path: longest_prefix(bound, path),
        (f"{path}/f{n}" for n in range(20) for path in paths),
    )
    for name, value in rows.items():
        print(f"{name:32} {value:>12,.0f} lookups/s")
    print(f"{'peer: longest prefix, new paths':32} {peer:>12,.0f} lookups/s")
    return 0 if rows["bound paths, again and again"] >= GOAL else 1


if __name__ == "__main__":
    raise SystemExit(main())
