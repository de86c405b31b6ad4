"""Runs every benchmark of this folder in turn: `python -m benchmarks [name…]`.

A benchmark is a module with a `main` that prints a table and returns 0, or 1 when it
missed its goal. Each runs in a process of its own, so that one does not warm or burden the
next. What they print is also kept in `build/benchmarks/`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NO_BENCHMARKS = {"__init__", "__main__", "harness"}


def main(names: list[str]) -> int:
    """Run the named benchmarks, or all; 1 if one missed its goal or failed."""
    known = sorted(
        path.stem
        for path in HERE.glob("*.py")
        if path.stem not in NO_BENCHMARKS and "def main(" in path.read_text("utf-8")
    )
    if unknown := sorted(set(names) - set(known)):
        print(f"no such benchmark: {', '.join(unknown)}; there are {', '.join(known)}")
        return 2
    results = HERE.parent / "build" / "benchmarks"
    results.mkdir(parents=True, exist_ok=True)
    paths = [str(HERE.parent), str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    missed = []
    for name in names or known:
        print(f"== {name}", flush=True)
        done = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        (results / f"{name}.txt").write_text(done.stdout, "utf-8")
        if done.returncode:
            missed.append(name)
    print(f"missed their goals: {', '.join(missed)}" if missed else "all goals reached")
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
