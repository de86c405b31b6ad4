"""What every test rests on: a hermetic home, honest skips, and a fresh kernel.

- No test sees the user's own nodes: the state and socket folders are temporary.
- A test that needs a program (`@pytest.mark.needs("strace")`) is skipped where it
  is missing, and fails in CI, so that a green run there has run everything.
- Extension modules that are older than their sources end the run at once.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}

# Examples are timed by pytest-timeout; a deadline per example would only
# report how busy the machine is. In CI the same examples are tried each time.
settings.register_profile(
    "dan9", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.register_profile("ci", settings.get_profile("dan9"), derandomize=True)
settings.load_profile("ci" if IN_CI else "dan9")


def pytest_configure(config: pytest.Config) -> None:
    """Take the sources if asked to; refuse a compiled kernel that is out of date."""
    if os.environ.get("DAN9_PURE") == "1":
        from dan9._pure import prefer_sources

        prefer_sources()
        return
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    hatch_build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hatch_build)
    if hatch_build.is_stale():
        pytest.exit(
            "the compiled kernel is older than its source: make compiled, or make pure",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose program is missing; in CI, fail it."""
    for mark in item.iter_markers("needs"):
        missing = [program for program in mark.args if shutil.which(program) is None]
        if missing and IN_CI:
            pytest.fail(f"needs {', '.join(missing)}: add the package to .ci/packages")
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="session", autouse=True)
def _home() -> Iterator[Path]:
    """Give the run its own state and socket folders.

    Not pytest's tmp_path: the path of a Unix socket may have 107 bytes only.
    """
    names = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DAN9_SOCKET")
    saved = {name: os.environ.pop(name, None) for name in names}
    home = Path(tempfile.mkdtemp(prefix="d9-"))
    for name, folder in zip(names[:3], ("state", "run", "config"), strict=True):
        (home / folder).mkdir(mode=0o700)
        os.environ[name] = str(home / folder)
    yield home
    for name, value in saved.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    shutil.rmtree(home, ignore_errors=True)
