"""Every example runs and prints what its .out file says.

`examples/X.py` belongs to `examples/X.out`. Lines of the latter that begin with
`#!` are directions, the rest is the expected output:

    #! arguments --once               given to the program
    #! replace REGEX => TEXT          applied to what was printed, line by line
    #! ignore REGEX                   lines that match are left out
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))


@dataclass
class Expected:
    """What an .out file says: directions and text."""

    arguments: list[str] = field(default_factory=list)
    replace: list[tuple[str, str]] = field(default_factory=list)
    ignore: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, text: str) -> Expected:
        """Read an .out file; an unknown direction is an error."""
        expected = cls()
        for line in text.splitlines():
            if not line.startswith("#!"):
                expected.lines.append(line.rstrip())
                continue
            verb, _, rest = line.removeprefix("#!").strip().partition(" ")
            match verb:
                case "arguments":
                    expected.arguments += rest.split()
                case "replace":
                    pattern, _, text_ = rest.partition(" => ")
                    expected.replace.append((pattern.strip(), text_.strip()))
                case "ignore":
                    expected.ignore.append(rest.strip())
                case _:
                    raise ValueError(f"unknown direction: {line}")
        return expected

    def normalised(self, output: str) -> list[str]:
        """Return the lines of the output as the directions have them."""
        lines = []
        for raw in output.splitlines():
            line = raw.rstrip()
            if any(re.search(pattern, line) for pattern in self.ignore):
                continue
            for pattern, text in self.replace:
                line = re.sub(pattern, text, line)
            lines.append(line)
        return lines


def test_directions_are_read() -> None:
    """Directions are taken out of the expected text and applied to the output."""
    expected = Expected.parse(
        "#! arguments --once\n#! replace \\d+ ms => N ms\n#! ignore ^noise\nin N ms\n"
    )
    assert expected.arguments == ["--once"]
    assert expected.normalised("noise 1\nin 17 ms  \n") == expected.lines == ["in N ms"]


def test_unknown_direction_is_refused() -> None:
    """A misspelt direction is an error, not silence."""
    with pytest.raises(ValueError, match="unknown direction"):
        Expected.parse("#! replcae a => b\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_has_its_output(path: Path) -> None:
    """No example stands there unchecked."""
    assert path.with_suffix(".out").exists()


@pytest.mark.real
@pytest.mark.parametrize(
    "path", [path for path in EXAMPLES if path.with_suffix(".out").exists()], ids=lambda p: p.stem
)
def test_example_prints_what_it_says(path: Path, tmp_path: Path) -> None:
    """Running the example prints its .out file, line by line, and ends well."""
    expected = Expected.parse(path.with_suffix(".out").read_text("utf-8"))
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "NO_COLOR": "1",
        "COLUMNS": "100",
        "XDG_STATE_HOME": str(tmp_path),
    }
    done = subprocess.run(
        [sys.executable, str(path), *expected.arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert expected.normalised(done.stdout) == expected.lines
    assert done.stderr == ""
