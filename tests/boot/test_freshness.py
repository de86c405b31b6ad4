"""Compiled modules that are not of the sources beside them: nothing starts on those."""

from __future__ import annotations

import asyncio
import hashlib
import json
from pathlib import Path

import pytest

from dan9.base.errors import BadConfig
from dan9.boot.freshness import is_stale, refuse_stale
from dan9.cli.command import run as dan9
from dan9.kernel.kernel import System

SOURCE = "dan9/kernel/cell.py"
MODULE = "dan9/kernel/cell.cpython-311-x86_64-linux-gnu.so"


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with one compiled module, as the build leaves it."""
    monkeypatch.delenv("DAN9_PURE", raising=False)
    (tmp_path / "src/dan9/kernel").mkdir(parents=True)
    (tmp_path / "build").mkdir()
    (tmp_path / "src" / SOURCE).write_text("old")
    (tmp_path / "src" / MODULE).touch()
    digest = hashlib.sha256(b"old").hexdigest()
    record = {"sources": {"python": "3.11", SOURCE: digest}, "files": [MODULE]}
    (tmp_path / "build" / "compiled.json").write_text(json.dumps(record))
    return tmp_path


def test_a_pull_makes_compiled_modules_stale(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what is in the sources, not by when they were touched; uncompiled is never stale."""
    (checkout / "src" / SOURCE).touch()
    assert not is_stale(checkout)
    refuse_stale(checkout)
    (checkout / "src" / SOURCE).write_text("new")
    assert is_stale(checkout)
    with pytest.raises(BadConfig, match="other sources") as caught:
        refuse_stale(checkout)
    assert "make compiled" in caught.value.hint
    monkeypatch.setenv("DAN9_PURE", "1")
    assert not is_stale(checkout)
    monkeypatch.delenv("DAN9_PURE")
    (checkout / "src" / MODULE).unlink()
    assert not is_stale(checkout)


def test_what_was_never_compiled_is_not_stale(tmp_path: Path) -> None:
    """An installation, or a checkout without a compiler."""
    assert not is_stale(tmp_path)


@pytest.mark.parametrize("words", [("up",), ("up", "--detach"), ("doctor",)])
def test_nothing_starts_on_stale_modules(
    words: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The command line says so at once; it does not hang, and leaves no node."""
    for name in ("XDG_RUNTIME_DIR", "XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("DAN9_SOCKET", raising=False)
    monkeypatch.setattr("dan9.boot.freshness.is_stale", lambda _root: True)
    assert dan9(list(words)) == 1
    said = capfd.readouterr()
    assert "other sources than are here now" in said.out + said.err
    assert "make compiled" in said.out + said.err


def test_a_system_in_a_program_refuses_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only `dan9 up`."""
    monkeypatch.setattr("dan9.boot.freshness.is_stale", lambda _root: True)

    async def body() -> None:
        with pytest.raises(BadConfig, match="other sources"):
            async with System("s", daemons=["timer"], socket=False, state_dir=tmp_path):
                pass

    asyncio.run(body())
