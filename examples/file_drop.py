"""A file drop: whatever is put into `inbox` is counted, and the result is in `done`.

Three daemons, one job each. The filesystem daemon tells what changes; the pipeline takes
one file after another; the counter does the work, and may fail: a file that it
cannot read as text ends in `failed`, with the reason beside it, and the next one is taken.
"""

import asyncio
import tempfile
from pathlib import Path

from dan9 import Daemon, System, on
from dan9.base.errors import Refused
from dan9.daemons.filesystem import Filesystem


class WordCounter(Daemon):
    """Counts words."""

    total: int = 0

    @on
    async def count(self, text: str) -> int:
        """Return how many words there are."""
        words = len(text.split())
        self.total += words
        return words


class Pipeline(Daemon):
    """Watches `inbox`; each new file is processed and moved to `done` or `failed`."""

    finished: int = 0

    async def on_start(self) -> None:
        """Make the folders and begin to watch."""
        self._enough = asyncio.Event()
        for folder in ("/inbox", "/done", "/failed"):
            await self.ask("drop", "mkdir", path=folder, exist_ok=True)
        await self.ask("drop", "watch", path="/inbox", recursive=False)

    @on
    async def changed(self, watch: str, path: str, change: str, dropped: int = 0) -> None:
        """Take a file that was added; one at a time, in the order of their coming."""
        if change != "added":
            return
        name = path.rpartition("/")[2]
        try:
            text = await self.ask("drop", "read", path=path)
            words = await self.ask("counter", "count", text=text)
        except Refused as reason:
            await self.ask("drop", "write", path=f"/failed/{name}.why", content=f"{reason}\n")
            await self.ask("drop", "rename", source=path, target=f"/failed/{name}")
        else:
            await self.ask("drop", "write", path=f"/done/{name}.count", content=f"{words}\n")
            await self.ask("drop", "rename", source=path, target=f"/done/{name}")
        self.finished += 1
        if self.finished == 3:
            self._enough.set()

    @on(concurrent=True, timeout_s=20)
    async def wait(self) -> int:
        """Return how many files are finished, once that is three."""
        await self._enough.wait()
        return self.finished


async def main() -> None:
    """Drop three files and show what became of them."""
    with tempfile.TemporaryDirectory() as folder:
        async with System("file-drop", daemons="none", socket=False) as system:
            drop = await system.spawn(Filesystem, "drop", root=folder)
            await system.spawn(WordCounter, "counter")
            pipeline = await system.spawn(Pipeline, "pipeline")

            # Anyone may drop files: another program, as here, or a message.
            (Path(folder) / "inbox/poem.txt").write_text("so much depends upon")
            (Path(folder) / "inbox/picture.jpg").write_bytes(b"\xff\xd8\xff\xe0")
            await drop.write("/inbox/note.txt", "a red wheel barrow")

            await pipeline.wait()

            for entry in await drop.list_("/", recursive=True):
                print(f"{entry['type']:9} {entry['path']}")
            print("words in poem:", (await drop.read("/done/poem.txt.count")).strip())
            print("failed because:", (await drop.read("/failed/picture.jpg.why")).strip())


asyncio.run(main())
