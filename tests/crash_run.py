"""Crash the store in every way we know, in large, and count what was lost: `make crash`.

    python tests/crash_run.py [seconds] [--planted]

Four trials share the time: power cuts at every moment of many runs; each write and sync
failing, with power cuts after; processes killed at each write call (strace); processes
killed at random. Exit status 1 if anything acknowledged is missing or anything torn is
found.

With `--planted` the power cuts are tried with synchronous=NORMAL and OFF, and errors without
writing the log anew; each must show losses, or the harness is blind and the status is 1.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / "src"), str(Path(__file__).parents[1])]

from tests.faults import test_disk_errors as errors
from tests.faults import test_power_loss as power
from tests.faults.crash_work import Verdict
from tests.faults.test_kill_at_write import Lives, inject

CALLS = {"pwrite64": 400, "fdatasync": 60, "ftruncate": 2, "unlink": 1}
"""System calls that change the database, and how many of each a child's life may have."""


def add(total: Verdict, more: Verdict) -> None:
    """Add one verdict to another."""
    total.images += more.images
    total.lost += more.lost
    total.corrupt += more.corrupt
    total.examples += more.examples[:2]


def power_cuts(directory: Path, synchronous: str = "FULL", count: int = 60) -> Iterator[Verdict]:
    """Cut the power at every moment of one run after another."""
    for seed in range(1, 1_000_000):
        yield power.examine(directory, synchronous=synchronous, count=count, seed=seed)


def disk_errors(directory: Path) -> Iterator[Verdict]:
    """Let each operation fail, once and for a while, and cut the power after."""
    total = errors.operations()
    cases = [
        (first, length, kind)
        for length in (1, 2, 3, 7)
        for first in range(1, total)
        for kind in ("EIO", "ENOSPC")
    ]
    random.Random(1).shuffle(cases)  # so that a short run sees something of everything
    for first, length, kind in cases:
        yield errors.hardship(first, length, kind, directory, 11)[1]


def kills_at_calls(directory: Path) -> Iterator[Verdict]:
    """Kill at the first, second … write call of each kind, each time on one database."""
    if shutil.which("strace") is None:
        print("no strace here: not killed at write calls")
        return
    for seed in range(1, 1_000_000):
        for call, most in CALLS.items():
            lives = Lives(directory / f"kill-{seed}-{call}.db", seed, 800)
            chance = random.Random(seed)
            for number in range(1, 12):
                if lives.done >= lives.count - 130:
                    break
                lives.live(inject(call, number if number < 6 else chance.randint(1, most)))
                more, lives.verdict = lives.verdict, Verdict()
                yield more


def kills_at_random(directory: Path) -> Iterator[Verdict]:
    """Kill after any acknowledgement."""
    for seed in range(1, 1_000_000):
        lives = Lives(directory / f"random-{seed}.db", seed, 800)
        chance = random.Random(seed)
        while lives.done < lives.count - 130:
            lives.live([], kill_after=chance.randrange(1, 120))
            more, lives.verdict = lives.verdict, Verdict()
            yield more


def trial(name: str, verdicts: Iterator[Verdict], seconds: float, unit: str = "images") -> Verdict:
    """Take verdicts until the time is over, and say what they were."""
    total = Verdict()
    end = time.monotonic() + seconds
    for verdict in verdicts:
        add(total, verdict)
        if time.monotonic() > end:
            break
    print(
        f"{name:<34} {total.images:>7} {unit}  {total.lost} lost  {total.corrupt} corrupt",
        flush=True,
    )
    for example in total.examples[:3]:
        print(f"    {example}", flush=True)
    return total


def main(arguments: list[str]) -> int:
    """Run the trials; 1 if something was lost (planted: if nothing was)."""
    planted = "--planted" in arguments
    numbers = [float(word) for word in arguments if not word.startswith("-")]
    seconds = numbers[0] if numbers else (40.0 if planted else 240.0)
    fast = Path("/dev/shm")
    with (
        tempfile.TemporaryDirectory(dir=fast if fast.is_dir() else None) as images,
        tempfile.TemporaryDirectory() as disk,
    ):
        quick, slow = Path(images), Path(disk)
        if planted:
            share = seconds / 3
            faults: list[tuple[str, Callable[[], Iterator[Verdict]]]] = [
                ("synchronous=NORMAL", lambda: power_cuts(quick, "NORMAL", 20)),
                ("synchronous=OFF", lambda: power_cuts(quick, "OFF", 20)),
                ("a failed sync believed later", lambda: errors.failing_syncs(quick, 7)),
            ]
            found = [trial(name, make(), share) for name, make in faults]
            blind = [v for v in found if not v.lost + v.corrupt]
            print("the harness is blind" if blind else "each planted fault was found")
            return 1 if blind else 0
        share = seconds / 4
        results = [
            trial("power cuts", power_cuts(quick), share),
            trial("disk errors, then power cuts", disk_errors(quick), share),
            trial("killed at write calls", kills_at_calls(slow), share, "deaths"),
            trial("killed at random", kills_at_random(slow), share, "deaths"),
        ]
    bad = sum(verdict.lost + verdict.corrupt for verdict in results)
    print("something was lost" if bad else "nothing acknowledged was lost, nothing torn was loaded")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
