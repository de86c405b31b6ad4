"""A shell in a world of its own: real processes, real sockets, folders that vanish."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest.mock
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import dan9.base
from dan9.cli import main

SOURCE = Path(dan9.base.__file__).parents[2]
ROOT = SOURCE.parent


@dataclass
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON document on standard output."""
        return json.loads(self.out)


@dataclass
class Shell:
    """Runs `dan9` with XDG folders of its own.

    Attributes:
        folder: Where it all lies; a short path, because a socket's has at most 107 bytes.
        cwd: Where commands are run.
    """

    folder: Path
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("run", "state", "config"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        self.cwd.mkdir(exist_ok=True)
        keep = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
        self.env = {
            **keep,
            "HOME": str(self.folder),
            "XDG_RUNTIME_DIR": str(self.folder / "run"),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "XDG_CONFIG_HOME": str(self.folder / "config"),
            "PYTHONPATH": str(SOURCE),
            "PYTHONWARNINGS": "error",
        }

    def __call__(self, *words: str, timeout: float = 30, **env: str) -> Done:
        """Run one command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "dan9", *words],
            cwd=self.cwd,
            env={**self.env, **env},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def here(self, *words: str, **env: str) -> Done:
        """Run one command in this very process: ten times as fast, the same code."""
        out, err = io.StringIO(), io.StringIO()
        with (
            unittest.mock.patch.dict(os.environ, {**self.env, **env}, clear=True),
            contextlib.chdir(self.cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            status = main(words)
        return Done(status, out.getvalue(), err.getvalue())

    def well(self, *words: str, **env: str) -> str:
        """Run a command that must go well; return what it printed.

        In this process, but for `up`, which forks.
        """
        done = self(*words, **env) if "up" in words else self.here(*words, **env)
        assert (done.status, done.err) == (0, ""), (words, done)
        return done.out

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a command that goes on."""
        return subprocess.Popen(
            [sys.executable, "-m", "dan9", *words],
            cwd=self.cwd,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
        )

    def lock_holder(self, name: str) -> int:
        """Return the process id of a node."""
        return int((self.folder / "state" / "dan9" / name / "lock").read_text() or 0)

    def end(self) -> None:
        """Kill whatever node is left."""
        for lock in (self.folder / "state" / "dan9").glob("*/lock"):
            holder = lock.read_text().strip()
            if holder:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(holder), signal.SIGKILL)


def _shell() -> Shell:
    folder = Path(tempfile.mkdtemp(prefix="d9-"))
    return Shell(folder, folder / "work")


@pytest.fixture
def shell() -> Iterator[Shell]:
    """A shell without a node."""
    found = _shell()
    yield found
    found.end()
    shutil.rmtree(found.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def node() -> Iterator[Shell]:
    """A shell beside a running node `home`, shared by tests that leave it as it was."""
    found = _shell()
    found.well("up", "--detach", "--name", "home")
    yield found
    found.end()
    shutil.rmtree(found.folder, ignore_errors=True)
