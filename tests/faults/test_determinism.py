"""A run is a function of its seed: the same event log, byte for byte, in any process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("determinism_run.py")


def log_of(seed: int, hash_seed: str) -> bytes:
    """Run a seed in a process of its own; return the event log."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), str(seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 7])
def test_same_seed_same_log_in_two_processes(seed: int) -> None:
    """Faults, supervisors, timers, asks, a journal: nothing depends on hashes or addresses."""
    one, other = log_of(seed, "1"), log_of(seed, "4242")
    assert one == other
    assert one.count(b"\n") > 500
    for word in (b"fault crash", b"fault delay", b"daemon-restarted", b"dead-letter", b" log info"):
        assert word in one
    assert b" at 0x" not in one


def test_another_seed_is_another_log() -> None:
    """The seed decides."""
    assert log_of(1, "1") != log_of(2, "1")
