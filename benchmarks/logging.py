"""The log: calls that are filtered out, entries in a file, entries in the buffer.

`python -m benchmarks logging`. Python's own `logging` with a file handler does the same work in
the same run, in turn. Goals: 300,000 filtered-out calls and 50,000 written entries a second,
and twice what Python's logging writes, each by CPU second, which a loaded machine changes
little. The limit on floods is on, and out of reach.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import in_turn, table
from dan9.daemons.logfile import LogForm
from dan9.daemons.logging import Logging
from dan9.kernel.kernel import System

CALLS = 200_000
ENTRIES = 50_000
TIMES_PYTHON = 2.0
PYTHON = "by Python's logging"
FILTERED = "filtered out"
WRITTEN_BY_PYTHON = f"written to a file {PYTHON}"
NEVER = 1e9


def ours(folder: Path, *, level: str = "info", form: LogForm | None = None) -> Callable[[], None]:
    """Return what says lines, and returns when they are in a file if there is a `form`."""

    async def run() -> None:
        path = folder / f"{form}.log"
        path.unlink(missing_ok=True)
        async with System("bench", daemons="none", socket=False) as system:
            ref = await system.spawn(
                Logging,
                "logging",
                group="system",
                file=str(path) if form else "",
                form=form or "text",
                rotate={"size": 1_000_000_000},
                flood=NEVER,
                take_python=False,
            )
            logger = system.log_hub.logger("d9://worker/bench/w")
            say = logger.info if level == "info" else logger.debug
            for number in range(CALLS if level == "debug" else ENTRIES):
                say("line %d", number, size=number)
            await ref.flush.within(60.0)()

    return lambda: asyncio.run(run())


def python(folder: Path, *, level: str = "info") -> Callable[[], None]:
    """Return what says the same lines to Python's logging."""

    def run() -> None:
        path = folder / ("python.log" if level == "info" else "nothing.log")
        path.unlink(missing_ok=True)
        logger = logging.getLogger("bench")
        logger.propagate = False
        logger.setLevel(logging.INFO)
        handler = logging.FileHandler(path)
        handler.setFormatter(
            logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s size=%(size)d")
        )
        logger.addHandler(handler)
        say = logger.info if level == "info" else logger.debug
        for number in range(CALLS if level == "debug" else ENTRIES):
            say("line %d", number, extra={"size": number})
        logger.removeHandler(handler)
        handler.close()

    return run


def main() -> int:
    """Print the table; 1 if a goal is missed."""
    with tempfile.TemporaryDirectory() as where:
        folder = Path(where)
        figures = in_turn(
            {
                FILTERED: ours(folder, level="debug"),
                f"{FILTERED} {PYTHON}": python(folder, level="debug"),
                "written to a file as text": ours(folder, form="text"),
                "written to a file as JSON": ours(folder, form="json"),
                WRITTEN_BY_PYTHON: python(folder),
                "kept in the buffer": ours(folder),
            },
            rounds=5,
        )
        for name in ("text.log", "json.log", "python.log"):
            lines = (folder / name).read_text().splitlines()
            assert sum("line" in line for line in lines) == ENTRIES, name
    rows, met = [], True
    for name, figure in figures.items():
        count, goal = (CALLS, 300_000) if name.startswith(FILTERED) else (ENTRIES, 50_000)
        by_cpu = count / figure.cpu
        times = figures[WRITTEN_BY_PYTHON].cpu / figure.cpu if name.startswith("written") else 0.0
        if PYTHON not in name:
            met &= by_cpu >= goal and (not times or times >= TIMES_PYTHON)
        rows.append(
            (
                name,
                f"{count / figure.wall:,.0f}",
                f"{by_cpu:,.0f}",
                "" if PYTHON in name else f"{goal:,.0f}",
                f"{times:.1f}" if times else "",
            )
        )
    print(table(("log entries", "a second", "a CPU second", "goal", "times Python's"), rows))
    return 0 if met else 1


if __name__ == "__main__":
    raise SystemExit(main())
