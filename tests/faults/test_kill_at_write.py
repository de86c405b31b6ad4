"""The process is killed at every write call and at random; what it acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.crash_steps import steps
from tests.faults.crash_work import Twin, Verdict

ROOT = Path(__file__).resolve().parents[2]
SEED = 11
STEPS = 400


def expected(count: int, seed: int) -> list[str]:
    """Return the digest of what is stored after 0, 1, 2 … steps."""
    twin = Twin()
    return [twin.digest(), *(twin.do(step) for step in steps(count, seed))]


class Lives:
    """One database and the processes that die over it.

    Args:
        path: The database.
        seed: Of the steps.
        count: How many steps there are in all.
    """

    def __init__(self, path: Path, seed: int, count: int) -> None:
        self.path, self.seed, self.count = path, seed, count
        self.digests = expected(count, seed)
        self.done = 0
        self.deaths = 0
        self.verdict = Verdict()

    def live(self, tracer: list[str], kill_after: int | None = None) -> bool:
        """Run one child to its death, and judge what it left. False: it was not killed."""
        command = [
            *tracer,
            *(sys.executable, "-S", "-m", "tests.faults.killed_child"),
            *(str(self.path), str(self.seed), str(self.done), str(self.count)),
        ]
        paths = [str(ROOT), str(ROOT / "src"), *(p for p in sys.path if "site-packages" in p)]
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
        assert child.stdout is not None
        acknowledged = self.done
        for lines, line in enumerate(child.stdout, 1):
            if line.startswith(b"acknowledged"):
                acknowledged = int(line.split()[1])
            assert not line.startswith(b"refused"), line
            if lines == kill_after:
                child.send_signal(signal.SIGKILL)
        child.stdout.close()
        child.wait()
        # The step under way may be there or not; nothing else is possible.
        allowed = self.digests[acknowledged : acknowledged + 2]
        self.verdict.judge(self.path, frozenset(allowed), f"after {acknowledged} steps")
        self.done = acknowledged
        if self.verdict.examples == [] and len(allowed) == 2 and not self._is_at(acknowledged):
            self.done += 1
        killed = child.returncode in {-signal.SIGKILL, 128 + signal.SIGKILL}
        self.deaths += killed
        return killed

    def _is_at(self, number: int) -> bool:
        probe = Verdict()
        probe.judge(self.path, frozenset({self.digests[number]}), "")
        return probe.lost == 0


def inject(call: str, number: int) -> list[str]:
    """Return the command that kills at the n-th call of one kind."""
    return [
        *("strace", "-f", "-o", "/dev/null", "-e", f"trace={call}"),
        *("-e", f"inject={call}:signal=SIGKILL:when={number}"),
    ]


@pytest.mark.real
@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path):
    """A process killed after any acknowledgement leaves what it acknowledged, and goes on."""
    lives = Lives(tmp_path / "state.db", SEED, STEPS)
    chance = random.Random(SEED)
    for _ in range(8):
        assert lives.live([], kill_after=chance.randrange(1, 30))
    assert (lives.verdict.lost, lives.verdict.corrupt) == (0, 0), lives.verdict.examples
    assert lives.done > 40


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.needs("strace")
@pytest.mark.parametrize(
    ("call", "numbers"),
    [("pwrite64", (1, 3, 20, 41, 90)), ("fdatasync", (1, 2, 9)), ("unlink", (1,))],
)
def test_killed_at_a_write(tmp_path: Path, call: str, numbers: tuple[int, ...]):
    """Killed inside a write or sync of the database, it leaves what it acknowledged."""
    lives = Lives(tmp_path / "state.db", SEED, STEPS)
    for number in numbers:
        assert lives.live(inject(call, number))
    assert (lives.verdict.lost, lives.verdict.corrupt) == (0, 0), lives.verdict.examples
