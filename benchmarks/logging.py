"""The log: calls that are filtered out, entries in the buffer, entries in a file.

`python -m benchmarks.logging`. Python's own `logging` with a file handler is measured beside
it, in the same run. Goals: 300,000 filtered-out calls a second, 50,000 written entries.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import table
from dan9.daemons.logging import Logging
from dan9.kernel.kernel import System

CALLS = 200_000
ENTRIES = 50_000


def rate(count: int, call: Callable[[], object]) -> float:
    """Return how many a second."""
    begun = time.perf_counter()
    call()
    return count / (time.perf_counter() - begun)


async def measure(folder: Path) -> list[tuple[str, float, float]]:
    """Return (what, a second, goal)."""
    found: list[tuple[str, float, float]] = []
    async with System("bench", daemons="none", socket=False) as system:
        ref = await system.spawn(
            Logging,
            "logging",
            group="system",
            file=str(folder / "ours.log"),
            flood=None,
            take_python=False,
        )
        logger = system.log_hub.logger("d9://worker/bench/w")

        def filtered() -> None:
            for number in range(CALLS):
                logger.debug("line %d", number, size=number)

        def written() -> None:
            for number in range(ENTRIES):
                logger.info("line %d", number, size=number)

        found.append(("filtered out", rate(CALLS, filtered), 300_000))
        begun = time.perf_counter()
        written()
        await ref.flush.within(60.0)()
        both = ENTRIES / (time.perf_counter() - begun)
        found.append(("written to a file", both, 50_000))
        found.append(("buffered, no file to write", await buffered(), 50_000))
        figures = await ref.stats()
        assert figures["file"]["written"] >= ENTRIES, figures
        assert figures["dropped"] == 0
    return found


async def buffered() -> float:
    """Return entries a second into the ring alone."""
    async with System("ring", daemons="none", socket=False) as system:
        await system.spawn(Logging, "logging", group="system", flood=None, take_python=False)
        logger = system.log_hub.logger("w")

        def say() -> None:
            for number in range(ENTRIES):
                logger.info("line %d", number, size=number)

        return rate(ENTRIES, say)


def python(folder: Path) -> float:
    """Return entries a second of Python's logging into a file."""
    logger = logging.getLogger("bench")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    handler = logging.FileHandler(folder / "python.log")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)

    def say() -> None:
        for number in range(ENTRIES):
            logger.info("line %d size=%d", number, number)

    found = rate(ENTRIES, say)
    logger.removeHandler(handler)
    handler.close()
    return found


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder)))
        peer = python(Path(folder))
    lines = [(what, f"{found:,.0f}/s", f"{goal:,.0f}/s") for what, found, goal in rows]
    lines.append(("Python's logging, written to a file", f"{peer:,.0f}/s", ""))
    print(table(("log entries", "measured", "goal"), lines))
    return 0 if all(found >= goal for _, found, goal in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
