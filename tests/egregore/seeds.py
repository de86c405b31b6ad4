"""A trial of many seeds from the command line, with what it counted printed as it goes."""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable, Sequence


def run_seeds(
    one: Callable[[int], Counter[str]],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str | None,
    promise: str,
) -> int:
    """Run seed after seed and add up their counts; each raises if its promise is broken."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("SEEDS", "10000")))
    parser.add_argument("--from", type=int, default=int(os.environ.get("FROM", "0")), dest="first")
    given = parser.parse_args(arguments)
    total: Counter[str] = Counter()
    for number in range(1, given.seeds + 1):
        total += one(given.first + number - 1)
        if number % 500 == 0 or number == given.seeds:
            text = ", ".join(f"{key} {total[key]}" for key in sorted(total))
            print(f"{number} runs, {promise}: {text}", flush=True)  # noqa: T201
    return 0
