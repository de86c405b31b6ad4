"""The filesystem in memory, held to the contract of the real one, in virtual time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dan9.base.errors import NoSpace
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system
from dan9.testing.memory_filesystem import MemoryFilesystem
from tests.contracts.filesystem_contract import *  # noqa: F403  (the contract is its tests)
from tests.contracts.filesystem_contract import Body, Files


class Slow(Daemon):
    """Takes changes only once it is let."""

    told: list[str] = []
    missed: int = 0

    async def on_start(self) -> None:
        """Closed at first."""
        self._open = asyncio.Event()

    @on(concurrent=True, timeout_s=None)
    async def changed(self, watch: str, path: str, change: str, dropped: int = 0) -> None:
        """Take one, when let."""
        await self._open.wait()
        self.told.append(path)
        self.missed += dropped

    @on
    async def look(self) -> None:
        """Watch everything."""
        await self.ask("fs", "watch", path="/")

    @on
    def let(self) -> None:
        """Open."""
        self._open.set()

    @on
    def saw(self) -> list[int]:
        """Return how many were told and how many missed."""
        return [len(set(self.told)), self.missed]


@pytest.fixture
def files() -> Files:
    """A daemon over nothing but memory."""

    def start(body: Body, **config: Any) -> None:
        async def main() -> None:
            async with system() as s:
                fs = await s.spawn(MemoryFilesystem, "fs", **config)
                await body(fs, s)

        run(main)

    return start


def test_a_slow_watcher_misses_what_is_beyond_the_limit_and_hears_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Changes wait for it, up to a number; then they are dropped, and the next one says so."""
    monkeypatch.setattr("dan9.daemons.filesystem._MOST_PENDING", 100)

    async def main() -> None:
        async with system() as s:
            fs = await s.spawn(MemoryFilesystem, "fs")
            slow = await s.spawn(Slow, "slow")
            await slow.look()
            for number in range(70):
                await fs.write(f"/early-{number}", "")
            await s.sleep(1)  # 64 are out, the other 6 wait in hand
            for number in range(130):
                await fs.write(f"/late-{number}", "")
            await slow.let()
            await s.sleep(1)
            assert await slow.saw() == [170, 30]

    run(main)


def test_files_of_ones_own() -> None:
    """What it begins with is configuration; a full disk is, too."""

    async def main() -> None:
        async with system() as s:
            fs = await s.spawn(
                MemoryFilesystem, "fs", files={"/etc/hostname": "test"}, capacity_bytes=10
            )
            assert await fs.read("/etc/hostname") == "test"
            with pytest.raises(NoSpace):
                await fs.write("/f", "1234567")
            await fs.write("/f", "123456")
            assert [e["path"] for e in await fs.list_("/", pattern="f")] == ["/f"]

    run(main)


def test_a_directory_1500_deep() -> None:
    """It is no deeper than the memory."""

    async def main() -> None:
        async with system() as s:
            fs = await s.spawn(MemoryFilesystem, "fs")
            await fs.mkdir("/d" * 1500, parents=True)
            await fs.copy("/d", "/e", recursive=True)
            assert len(await fs.list_("/", recursive=True)) == 3000
            await fs.delete("/d", recursive=True)
            await fs.delete("/e", recursive=True)
            assert await fs.list_("/") == []

    run(main)
