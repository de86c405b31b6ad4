"""The program that is killed: a node whose timer fires into a durable target.

Usage: timer_child.py FOLDER. The first life schedules a task; every life says `ready`, then
fires until it is killed. With `--read` it prints what the target has kept, and ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from dan9.daemons.sqlite_store import SqliteStore
from dan9.daemons.timer import Timer
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System, current_message


class Ledger(Daemon, type="ledger", durable=True):
    """Keeps the number of every firing that it has handled."""

    seen: list[int] = []

    @on
    def go(self) -> None:
        """Note the number that the message's id ends with."""
        message = current_message()
        assert message is not None
        self.seen.append(int(message.id.rpartition("-")[2]))

    @on
    def settle(self) -> None:
        """Reply when everything before this is committed."""


async def live(folder: Path, *, only_read: bool) -> None:
    """Run the node."""
    loop = asyncio.get_running_loop()
    store = SqliteStore(folder / "state.db", post=loop.call_soon_threadsafe)
    async with System("kill", daemons="none", socket=False, store=store) as system:
        ledger = await system.spawn(Ledger, "ledger")
        if only_read:
            os.write(1, json.dumps(system.cell_of(ledger).instance.seen).encode())
            return
        timer = await system.spawn(Timer, "timer", group="system")
        if not await timer.list_():
            await timer.schedule_repeating(0.004, "ledger", "go", missed="all")
        # What was in hand at the last kill is handled before the next one may come, for a
        # message that dies three times in hand is given up as poison, as it should be.
        await system.ask("ledger", "settle", timeout_s=30.0)
        os.write(1, b"ready\n")
        await asyncio.Event().wait()


asyncio.run(live(Path(sys.argv[1]), only_read="--read" in sys.argv))
