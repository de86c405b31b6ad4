"""The filesystem daemon on a disk, by both ways of confinement, held to the contract."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import NotFound, Refused
from dan9.daemons.filesystem import Filesystem
from dan9.testing import run, system
from tests.contracts.filesystem_contract import *  # noqa: F403  (the contract is its tests)
from tests.contracts.filesystem_contract import Body, Files


@pytest.fixture(params=["openat2", "walk"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Files]:
    """A daemon over an empty folder; real time, because the disk keeps no other."""
    root = tmp_path / "root"
    root.mkdir()

    def start(body: Body, links: dict[str, str] | None = None, **config: Any) -> None:
        for path, target in (links or {}).items():
            (root / path.lstrip("/")).symlink_to(target)

        async def main() -> None:
            async with system() as s:
                fs = await s.spawn(
                    Filesystem, "fs", root=str(root), by_walk=request.param == "walk", **config
                )
                await body(fs, s)

        run(main, real=True)

    yield start
    left = [p for p in root.rglob("*") if p.name.startswith(".d9-")]
    assert not left


def test_it_runs_in_virtual_time_too(tmp_path: Path) -> None:
    """Blocking work is then done in place, and the run stays one thread's."""

    async def main() -> None:
        async with system() as s:
            fs = await s.spawn(Filesystem, "fs", root=str(tmp_path))
            await fs.write("/f", "x")
            assert await fs.read("/f") == "x"

    run(main)


def test_several_with_different_roots(tmp_path: Path) -> None:
    """Each gives its own, and says how it keeps to it."""

    async def main() -> None:
        async with system() as s:
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                (tmp_path / name / "name").write_text(name)
                await s.spawn(Filesystem, name, root=str(tmp_path / name))
            assert await s.ask("one", "read", path="/name") == "one"
            assert await s.ask("two", "read", path="/name") == "two"
            status = await s.ask("two", "status")
            assert status["confinement"] in {"openat2", "walk"}
            assert status["config"]["root"] == str(tmp_path / "two")

    run(main)


def test_a_root_that_is_not_there(tmp_path: Path) -> None:
    """The daemon does not start, and says why."""

    async def main() -> None:
        async with system() as s:
            with pytest.raises(NotFound, match="no such file"):
                await s.spawn(Filesystem, "fs", root=str(tmp_path / "none"))
            (tmp_path / "file").write_text("")
            with pytest.raises(Refused):
                await s.spawn(Filesystem, "fs2", root=str(tmp_path / "file"))

    run(main)


def test_it_keeps_to_its_root_when_that_is_renamed(tmp_path: Path) -> None:
    """A root is a directory, not a path."""

    async def main() -> None:
        (tmp_path / "root").mkdir()
        async with system() as s:
            fs = await s.spawn(Filesystem, "fs", root=str(tmp_path / "root"))
            (tmp_path / "root").rename(tmp_path / "moved")
            (tmp_path / "root").symlink_to("/etc")
            await fs.write("/f", "x")
        assert (tmp_path / "moved/f").read_text() == "x"

    run(main)


def test_what_it_counts(tmp_path: Path) -> None:
    """Bytes read and written are metrics."""

    async def main() -> None:
        async with system() as s:
            fs = await s.spawn(Filesystem, "fs", root=str(tmp_path))
            await fs.write("/f", "12345")
            await fs.read("/f")
            metrics = await s.ask("fs", "metrics")
            assert metrics["bytes-read"] == 5
            assert metrics["bytes-written"] == 5
            assert metrics["read-count"] == 1

    run(main)
