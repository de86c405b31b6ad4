"""Rule 2 for the other type checker: pyright strict reports what mypy strict reports."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.house
@pytest.mark.timeout(300)
def test_pyright_strict_sees_handlers():
    """Programs in tests/typing are reported exactly on the lines that say so."""
    pytest.importorskip("pyright")
    paths = sorted((ROOT / "tests" / "typing").glob("*.py"))
    expected = {
        (path.name, number)
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if "# E: " in line and not line.startswith("A line")
    }
    done = subprocess.run(
        [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {done.stderr[-200:]}")
    found = json.loads(done.stdout)["generalDiagnostics"]
    errors = [one for one in found if one["severity"] == "error"]
    lines = {(Path(one["file"]).name, one["range"]["start"]["line"] + 1) for one in errors}
    assert lines == expected, [one["message"] for one in errors]
