"""The filesystem daemon: what confinement costs an open, and what a message costs a read.

`python -m benchmarks.filesystem` prints microseconds. An open is openat2 beneath a root,
the portable walk, and a plain open of the same file, three folders deep; a read is a KiB
through the daemon and by hand.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

from dan9.daemons.beneath import Root
from dan9.daemons.filesystem import Filesystem
from dan9.kernel.kernel import System

COUNT = 5_000


def microseconds(work: Callable[[], object]) -> float:
    """Return what one call takes, the best of three rounds."""
    rounds = []
    for _ in range(3):
        begun = perf_counter()
        for _ in range(COUNT):
            work()
        rounds.append((perf_counter() - begun) / COUNT * 1e6)
    return min(rounds)


async def by_message(folder: str) -> float:
    """Return what an ask for a KiB takes."""
    async with System("bench", daemons="none", socket=False) as system:
        fs = await system.spawn(Filesystem, "fs", root=folder)
        rounds = []
        for _ in range(3):
            begun = perf_counter()
            for _ in range(COUNT):
                await fs.read("/a/b/c/f")
            rounds.append((perf_counter() - begun) / COUNT * 1e6)
        return min(rounds)


def main() -> int:
    """Print the table; 1 if openat2 costs more than four plain opens."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a/b/c/f"
        file.parent.mkdir(parents=True)
        file.write_text("x" * 1024)
        root, walk = Root(folder), Root(folder, by_walk=True)
        plain = microseconds(lambda: os.close(os.open(file, os.O_RDONLY)))
        beneath = microseconds(lambda: os.close(root.open(b"a/b/c/f", os.O_RDONLY)))
        walked = microseconds(lambda: os.close(walk.open(b"a/b/c/f", os.O_RDONLY)))
        by_hand = microseconds(file.read_text)
        asked = asyncio.run(by_message(folder))
    print(f"open and close, plain            {plain:8.1f} us")
    print(f"open and close, openat2          {beneath:8.1f} us   {beneath / plain:.1f} x")
    print(f"open and close, walk             {walked:8.1f} us   {walked / plain:.1f} x")
    print(f"read a KiB, Path.read_text       {by_hand:8.1f} us")
    print(f"read a KiB, asked of the daemon  {asked:8.1f} us   {asked / by_hand:.1f} x")
    return 0 if root.by_walk or beneath < 4 * plain else 1


if __name__ == "__main__":
    raise SystemExit(main())
