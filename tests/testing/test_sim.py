"""`dan9 sim`: a user's own system, rehearsed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dan9.base.errors import BadConfig, NotFound
from dan9.cli.command import run
from dan9.testing import parse_faults
from dan9.testing.sim import simulate

HEART = Path(__file__).resolve().parents[2] / "examples" / "heart" / "dan9.toml"
PROGRAM = """
from dan9 import Daemon, every, on

class Lamp(Daemon):
    hours: int = 0

    @every("1h")
    async def glow(self):
        await self.ask("filesystem", "write", path="/lamp", content=b"on")
        self.hours += 1

async def main(system):
    await system.spawn(Lamp, "lamp")
"""


def row(report: dict, name: str) -> dict:
    """Return what the report says of one daemon."""
    return next(one for one in report["daemons"] if one["address"].endswith(f"/{name}"))


@pytest.mark.slow
def test_declared_system_lives_an_hour_under_faults() -> None:
    """A dan9.toml runs with twins of the machine; faults strike its daemons and are counted."""
    report = simulate(
        HEART, for_s=3600.0, seed=17, faults=parse_faults("crash:0.001,delay:0.01:2s")
    )
    heart = row(report, "heart")
    assert heart["state"] == "running"
    assert 3500 < heart["handled"] <= 3600 + 60
    assert heart["restarts"] == report["faults"]["crash-while"] == report["restarts"] > 0
    assert report["faults"]["delay"] > 10
    again = simulate(HEART, for_s=3600.0, seed=17, faults=parse_faults("crash:0.001,delay:0.01:2s"))
    assert again == report


@pytest.mark.slow
def test_program_is_rehearsed_and_touches_no_disk(tmp_path: Path) -> None:
    """A Python file with `async def main(system)` runs; its files are in memory."""
    path = tmp_path / "lamp_program.py"
    path.write_text(PROGRAM, "utf-8")
    report = simulate(path, for_s=86_400.0)
    assert row(report, "lamp")["handled"] == 24 or row(report, "lamp")["handled"] == 23
    assert row(report, "lamp")["crashes"] == 0
    assert not Path("/lamp").exists()


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("none.py", None, NotFound),
        ("system.txt", "", BadConfig),
        ("empty.py", "", BadConfig),
        ("sync.py", "def main(system): pass", BadConfig),
        ("broken.py", "1/0", BadConfig),
    ],
)
def test_files_that_cannot_be_rehearsed(tmp_path: Path, name, text, error) -> None:
    """What is no system is refused, with a hint."""
    path = tmp_path / name
    if text is not None:
        path.write_text(text, "utf-8")
    with pytest.raises(error) as caught:
        simulate(path, for_s=1.0)
    assert caught.value.hint


@pytest.mark.slow
def test_command_prints_a_report_or_json(capsys: pytest.CaptureFixture[str]) -> None:
    """The verb prints a line a daemon; with --json one document."""
    assert run(["sim", str(HEART), "--for", "10m", "--seed", "3"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("10m under seed 3: ")
    assert "d9://heart/default/heart" in text
    assert run(["sim", str(HEART), "--for", "10m", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["simulated-s"] == 600.0


def test_command_refuses_unknown_faults(capsys: pytest.CaptureFixture[str]) -> None:
    """A fault that nobody knows is one line on standard error."""
    assert run(["sim", str(HEART), "--faults", "earthquake:1"]) == 1
    assert "unknown fault" in capsys.readouterr().err
