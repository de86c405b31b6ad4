"""The filesystem in memory, held to the contract of the real one, in virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from dan9.base.errors import NoSpace
from dan9.testing import run, system
from dan9.testing.memory_filesystem import MemoryFilesystem
from tests.contracts.filesystem_contract import *  # noqa: F403  (the contract is its tests)
from tests.contracts.filesystem_contract import Body, Files


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
