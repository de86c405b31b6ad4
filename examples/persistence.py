"""Memory: what was acknowledged survives kill -9, and nothing takes effect twice.

`python examples/persistence.py` runs a first life as a process of its own, which ends by
SIGKILL in the middle of things, and then looks in a second life at what is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile

from dan9 import Daemon, System, on


class Notebook(Daemon):
    """Keeps lines. Saved when told, when it stops, and every five minutes."""

    lines: list[str] = []

    @on
    async def write(self, line: str) -> int:
        """Add a line; replies how many there are."""
        self.lines.append(line)
        return len(self.lines)

    @on
    async def read(self) -> list[str]:
        """Return all lines."""
        return self.lines


class Account(Daemon, durable=True):
    """Holds money, so each message counts once: neither lost nor doubled."""

    balance: int = 0

    @on
    async def deposit(self, amount: int) -> int:
        """Add to the balance and reply it."""
        self.balance += amount
        return self.balance


def node(directory: str) -> System:
    """Return a system that keeps its state in the directory."""
    return System("memory", daemons=["persistence"], socket=False, state_dir=directory)


async def first_life(directory: str) -> None:
    """Write, save, write more, and die."""
    async with node(directory) as system:
        notebook = await system.spawn(Notebook, "notes")
        await system.spawn(Account, "savings")
        await notebook.write("buy bread")
        await system.ask("notes", "set-metric", name="tasks-completed", value=42)
        saved = await system.ask("persistence", "save", daemon_name="notes")
        print(f"saved notes as version {saved['version']}")
        await notebook.write("this line is not saved yet")
        for number in range(3):
            balance = await system.ask("savings", "deposit", amount=10, message_id=f"pay-{number}")
            print(f"deposit pay-{number}: balance {balance}")
        print("kill -9", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)


async def second_life(directory: str) -> None:
    """See what is left, and what else persistence can do."""
    async with node(directory) as system:
        notebook = await system.spawn(Notebook, "notes")
        await system.spawn(Account, "savings")
        print("notes:", await notebook.read())
        done = await system.ask("notes", "get-metric", name="tasks-completed")
        print(f"tasks-completed: {done:g}")

        # The payer never heard whether his last deposit arrived, so he sends it again,
        # under the same id: it has taken effect once.
        balance = await system.ask("savings", "deposit", amount=10, message_id="pay-2")
        print("pay-2 again: balance", balance)

        await notebook.write("water the flowers")
        every = await system.ask("persistence", "checkpoint-all")
        print("checkpoint-all has number", every["snapshot"])
        for row in await system.ask("persistence", "list", daemon_name="notes"):
            print(f"  version {row['version']} of {row['address']}: {row['bytes']} bytes")

        await system.ask("persistence", "load", daemon_name="notes", version=1)
        print("version 1:", await notebook.read())
        policy = await system.ask("persistence", "policy", daemon_name="notes", on_change=True)
        print("notes are saved on change:", policy["on_change"], "keep:", policy["keep"])
        print(f"and every {policy['interval']:g} s, and when they stop:", policy["on_stop"])
        exported = await system.ask("persistence", "export", daemon_name="notes")
        print("exported:", exported["state"]["state"])
        faults = (await system.ask("persistence", "verify"))["faults"]
        print("faults:", faults)


def main() -> None:
    """Run the first life in a process of its own, the second here."""
    if len(sys.argv) > 1:
        asyncio.run(first_life(sys.argv[1]))
        return
    with tempfile.TemporaryDirectory() as directory:
        ended = subprocess.run([sys.executable, __file__, directory], check=False)
        print("the first life ended with signal", -ended.returncode, flush=True)
        asyncio.run(second_life(directory))


if __name__ == "__main__":
    main()
