"""A system at work on this machine: files, a process, the network, logs, a timer.

`python examples/basic.py [FILE]` boots a node with all system daemons, sends them messages
and shows what they answer. Above each answer stands the command that asks the same from a
shell, while the node is up. It stays up until Ctrl-C when a person is watching; with `--once`,
or when standard input is no terminal, it ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from dan9 import Daemon, System, on

NAME = "demo"
FILES = ("/etc/hostname", "/etc/os-release", "/etc/hosts")
PAGE = "<h1>Everything is a daemon</h1>"


class Greeter(Daemon):
    """Serves one page: the network daemon tells it who calls and what they say."""

    served: int = 0

    @on
    async def data(self, connection_id: str, data: bytes) -> None:
        """Answer a request; `data` is what arrived on a connection."""
        status = "200 OK" if data.startswith(b"GET / ") else "404 Not Found"
        reply = f"HTTP/1.0 {status}\r\nContent-Length: {len(PAGE)}\r\n\r\n{PAGE}"
        await self.ask("network", "send", connection_id=connection_id, data=reply)
        await self.ask("network", "disconnect", connection_id=connection_id)
        self.served += 1

    @on
    def accepted(self, connection_id: str, listener_id: str, peer: str) -> None:
        """Somebody connected; what they say comes as `data`."""

    @on
    def closed(self, connection_id: str, reason: str) -> None:
        """They left."""


class Bell(Daemon):
    """Rings when it is told to, and knows how often it has."""

    rings: int = 0

    async def on_start(self) -> None:
        """Have a bell that nobody has rung."""
        self._rung = asyncio.Event()

    @on
    def ring(self, word: str = "ding") -> None:
        """Ring."""
        self.rings += 1
        self.log.info("%s", word)
        self._rung.set()

    @on(concurrent=True)
    async def heard(self) -> int:
        """Answer how often it rang, once it has."""
        await self._rung.wait()
        return self.rings


def a_file() -> str:
    """Name the file given on the command line, or a small one that this machine has."""
    given = [word for word in sys.argv[1:] if not word.startswith("-")]
    return str(Path(given[0]).resolve()) if given else next(filter(os.path.exists, FILES))


def title(text: str) -> None:
    """Begin a chapter."""
    print(f"\n{text}\n{'─' * len(text)}")


def typed(command: str) -> None:
    """Show what one would type."""
    print(f"$ dan9 {command}")


def shown(text: object) -> None:
    """Show an answer."""
    for line in str(text).rstrip().splitlines():
        print(f"  {line}")


def tree(system: System) -> str:
    """Draw who supervises whom."""
    children: dict[str | None, list[str]] = {}
    for address in system.addresses():
        status = system.status_of(address)
        children.setdefault(status.get("supervisor"), []).append(address)
    known = {address for below in children.values() for address in below}
    roots = [
        address
        for supervisor, below in children.items()
        if supervisor not in known
        for address in below
    ]
    lines: list[str] = []

    def draw(address: str, lead: str, knee: str, below: str) -> None:
        status = system.status_of(address)
        lines.append(f"{lead + knee + address:<42} {status['state']}")
        members = sorted(children.get(address, []))
        for member in members:
            last = member is members[-1]
            draw(member, lead + below, "└─ " if last else "├─ ", "   " if last else "│  ")

    for root in sorted(roots):
        draw(root, "", "", "")
    return "\n".join(lines)


async def at_work(system: System) -> None:
    """Send messages to the system's daemons and show what they answer."""
    greeter = await system.spawn(Greeter, "greeter", group="demo")
    bell = await system.spawn(Bell, "bell", group="demo")

    title("Everything here is a daemon")
    typed("tree")
    shown(tree(system))

    title("filesystem reads a file")
    path = a_file()
    typed(f"send filesystem read path={path}")
    shown((await system.ask("filesystem", "read", path=path)).splitlines()[0].strip())

    title("process runs a command")
    typed("""send process run command=uname args='["-sm"]'""")
    ran = await system.ask("process", "run", command="uname", args=["-sm"])
    shown(ran["stdout"])

    title("network fetches a page, from a daemon of our own that serves it")
    listening = await system.ask("network", "listen", port=0, deliver_to=str(greeter))
    port = listening["port"]
    typed(f"send network connect host=127.0.0.1 port={port}")
    call = await system.ask("network", "connect", host="127.0.0.1", port=port)
    connection = call["connection_id"]
    request = "GET / HTTP/1.0\r\n\r\n"
    await system.ask("network", "send", connection_id=connection, data=request)
    page = b""
    while piece := await system.ask("network", "receive", connection_id=connection, timeout=5):
        page += piece if isinstance(piece, bytes) else piece["data"]
    shown(page.decode().replace("\r\n", "\n").replace("\n\n", "\n"))
    await system.ask("network", "disconnect", connection_id=connection)
    await system.ask("network", "unlisten", listener_id=listening["listener_id"])

    title("timer tells a daemon something, later")
    typed("""send timer schedule delay=100ms target=bell type=ring payload='{"word": "dong"}'""")
    await system.ask(
        "timer",
        "schedule",
        payload={
            "delay": "100ms",
            "target": "d9://bell/demo/bell",
            "type": "ring",
            "payload": {"word": "dong"},
        },
    )
    shown(f"the bell rang; with earlier runs: {await bell.heard()}")

    title("every daemon answers the same questions")
    typed("status filesystem")
    status = await system.ask("filesystem", "status")
    shown(", ".join(f"{key} {status[key]}" for key in ("state", "handled", "failed", "restarts")))
    typed("metrics filesystem")
    shown(f"read-count {(await system.ask('filesystem', 'metrics'))['read-count']}")

    title("logging keeps what everybody says")
    typed("tell logging write level=warning source=me text='the coffee is ready'")
    system.tell("logging", "write", level="warning", source="me", text="the coffee is ready")
    typed("logs")
    entries = await system.ask("logging", "display", limit=50)
    for entry in entries:
        if entry["source"] in {"me", "d9://bell/demo/bell"}:
            shown(f"{entry['level']:<8} {entry['source']:<22} {entry['text']}")

    title("monitoring sees them all")
    typed("send monitoring dashboard")
    await system.ask("monitoring", "snapshot")
    shown(await system.ask("monitoring", "dashboard"))


async def stay() -> None:
    """Wait for Ctrl-C, or for a polite kill."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    print(
        "\nThe node is up. From another terminal: .venv/bin/dan9 ps"
        "\n                                       .venv/bin/dan9 describe filesystem"
        "\n                                       .venv/bin/dan9 send bell ring word=hello"
        "\nCtrl-C ends it."
    )
    await stop.wait()
    print("\nstopping…")


async def main(*, once: bool) -> None:
    """Boot, show, and stay or go."""
    async with System(NAME, daemons="all", socket=True) as system:
        await at_work(system)
        if not once:
            await stay()
    print("\nEvery daemon has stopped, in reverse order of its start.")


if __name__ == "__main__":
    asyncio.run(main(once="--once" in sys.argv or not sys.stdin.isatty()))
