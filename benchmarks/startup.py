"""Start-up: importing Dan9, `dan9 ps` against a running node, `dan9 up` until it is ready.

`python -m benchmarks.startup [rounds]` prints medians against bare Python in the same
rounds, and ends with 1 if a bound is missed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.harness import Figure, in_turn, table

BOUNDS_MS = {"import dan9, over bare python": 30, "dan9 ps": 150, "dan9 up --detach to ready": 500}
NAME = "bench"


def command(*arguments: str) -> list[str]:
    """Return the command line of `dan9`, as installed beside this Python."""
    script = Path(sys.executable).parent / "dan9"
    program = [str(script)] if script.exists() else [sys.executable, "-m", "dan9"]
    return [*program, *arguments]


def runner(arguments: list[str], environment: dict[str, str]) -> Callable[[], object]:
    """Return a function that runs a command and insists on its success."""

    def run() -> None:
        done = subprocess.run(
            arguments,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)}: {done.returncode}\n{done.stderr}")

    return run


def measure(rounds: int, environment: dict[str, str]) -> tuple[dict[str, Figure], Figure]:
    """Time the short commands in turn beside a node, then its start and stop."""
    config = Path(environment["XDG_STATE_HOME"]) / "dan9.toml"
    config.write_text(f'[system]\nname = "{NAME}"\n', "utf-8")
    up = runner(command("up", "-c", str(config), "--detach"), environment)
    down = runner(command("down"), environment)
    up()
    try:
        short = in_turn(
            {
                "bare python": runner([sys.executable, "-c", "pass"], environment),
                "import dan9": runner([sys.executable, "-c", "import dan9"], environment),
                "dan9 ps": runner(command("ps"), environment),
            },
            rounds,
        )
    finally:
        down()
    starts = in_turn({"up": up, "down": down}, rounds)
    return short, starts["up"]


def main() -> int:
    """Print the table; 1 if a bound is missed."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    with tempfile.TemporaryDirectory(prefix="d9-") as home:
        environment = {**os.environ, "XDG_STATE_HOME": home, "XDG_RUNTIME_DIR": home}
        environment.pop("DAN9_SOCKET", None)
        short, up = measure(rounds, environment)
    bare = short["bare python"]
    milliseconds = {
        "import dan9, over bare python": short["import dan9"].wall - bare.wall,
        "dan9 ps": short["dan9 ps"].wall,
        "dan9 up --detach to ready": up.wall,
    }
    spreads = {
        "import dan9, over bare python": short["import dan9"].spread,
        "dan9 ps": short["dan9 ps"].spread,
        "dan9 up --detach to ready": up.spread,
    }
    rows = [["bare python", f"{bare.wall * 1e3:.0f} ms", f"±{bare.spread * 1e3:.0f}", "", ""]]
    missed = 0
    for what, seconds in milliseconds.items():
        ok = seconds * 1e3 < BOUNDS_MS[what]
        missed += not ok
        rows.append(
            [
                what,
                f"{seconds * 1e3:.0f} ms",
                f"±{spreads[what] * 1e3:.0f}",
                f"< {BOUNDS_MS[what]} ms",
                "" if ok else "MISSED",
            ]
        )
    print(table(["start-up", "median", "spread", "bound", ""], rows))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
