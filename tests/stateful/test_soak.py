"""Four hundred seeds of the soak; `make soak SEEDS=100000` runs as many as one likes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 400


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_soak(
    record_testsuite_property: Callable[[str, object], None],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No seed breaks a promise: 30 daemons, 1,000 messages and 5 faults of 3 kinds in each."""
    monkeypatch.syspath_prepend(str(ROOT))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    from tests.soak import run_seeds

    messages, struck, found = run_seeds(0, SEEDS)
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(struck.items()))
    totals = f"soak: {SEEDS} seeds, {messages} messages, {sum(struck.values())} faults ({kinds})"
    record_testsuite_property("soak", totals)
    reporter = request.config.pluginmanager.getplugin("terminalreporter")
    if reporter is not None:
        reporter.ensure_newline()
        reporter.write_line(totals)
    else:
        sys.stdout.write(totals + "\n")
    assert found == []


def test_soak_is_a_function_of_its_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed that is run again does the same."""
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.soak import run_seed

    assert run_seed(5) == run_seed(5)


def test_planted_bugs_can_be_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each patch of tests/planted still fits the sources."""
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.planting import PATCHES, apply, copied

    assert len(PATCHES) >= 4
    with copied() as folder:
        assert {patch.stem: apply(patch, folder, only_check=True) for patch in PATCHES} == {
            patch.stem: "" for patch in PATCHES
        }


@pytest.mark.slow
def test_planted_bug_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them, for the suite; `make planted` tries all."""
    monkeypatch.syspath_prepend(str(ROOT))
    from tests.planting import PATCHES, apply, copied, soak

    patch = next(patch for patch in PATCHES if patch.stem == "lost-wakeup")
    with copied() as folder:
        assert apply(patch, folder) == ""
        found, text = soak(folder, 10)
    assert found, text
