"""A node that is killed while its timer fires: no firing is lost, none is handled twice.

Ten kills here, two hundred by `make timer_kills`.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

CHILD = Path(__file__).with_name("timer_child.py")
ROOT = CHILD.parents[2]


def child(folder: Path, *more: str) -> subprocess.Popen[bytes]:
    """Start the program that is killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(folder), *more],
        stdout=subprocess.PIPE,
        env=environment,
    )


def kill_after(folder: Path, seconds: float) -> None:
    """Let a node live so long after it is ready, then kill it with SIGKILL."""
    node = child(folder)
    assert node.stdout is not None
    assert node.stdout.readline() == b"ready\n"
    try:
        node.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        node.kill()
    node.wait()
    node.stdout.close()
    assert node.returncode == -9, "it should have lived until it was killed"


def kept(folder: Path) -> list[int]:
    """Return the numbers that the target has kept."""
    node = child(folder, "--read")
    out, _ = node.communicate()
    assert node.returncode == 0
    return json.loads(out)  # type: ignore[no-any-return]


def run(folder: Path, kills: int, seed: int) -> int:
    """Kill so often; return how many firings were handled, each exactly once."""
    draw = random.Random(seed)
    for _ in range(kills):
        kill_after(folder, draw.uniform(0.0, 0.12))
    seen = kept(folder)
    wrong = [(at, number) for at, number in enumerate(seen, 1) if number != at]
    assert not wrong, f"lost or doubled, first of {len(wrong)} (place, number): {wrong[:3]}"
    return len(seen)


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_no_firing_is_lost_or_doubled_over_kills(tmp_path: Path) -> None:
    """The numbers in the durable target's state are 1, 2, 3 … without a gap."""
    assert run(tmp_path, 10, seed=17) > 20


def main(arguments: list[str]) -> int:
    """Kill as often as is said (200), and print what came of it; 1 if anything did."""
    count = int(arguments[0]) if arguments else 200
    with tempfile.TemporaryDirectory() as where:
        begun = time.monotonic()
        try:
            handled = run(Path(where), count, seed=count)
        except AssertionError as error:
            sys.stdout.write(f"{count} kills: {error}\n")
            return 1
        took = time.monotonic() - begun
        sys.stdout.write(f"{count} kills, {handled} firings, 0 lost, 0 doubled, {took:.0f} s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
