"""A web server that is no Python of ours, supervised, and an alert that reads its log.

The server is `python -m http.server`, run as a daemon: ready when it says so, its lines in
the log under its name, started again when it falls. The alert follows that log and
goes off when three requests in a row found nothing.
"""

import asyncio
import re
import sys
import tempfile
from typing import Any

from dan9 import Daemon, System, on
from dan9.daemons.service import Service

REQUEST = re.compile(r'"GET (?P<path>\S+) HTTP/1\.\d" (?P<status>\d+)')


class Alert(Daemon):
    """Goes off when the server has answered 404 `at` times in a row."""

    at: int = 3
    in_a_row: int = 0
    raised: list[str] = []

    async def on_start(self) -> None:
        """Follow the log of the web server."""
        self._gone_off = asyncio.Event()
        await self.ask("logging", "follow", source="web")

    @on
    def entry(self, text: str, **_more: Any) -> None:
        """Take a line of the log."""
        request = REQUEST.search(text)
        if request is None:
            return
        self.in_a_row = self.in_a_row + 1 if request["status"] == "404" else 0
        if self.in_a_row == self.at:
            self.raised.append(f"{self.at} requests in a row found nothing, last {request['path']}")
            self._gone_off.set()

    @on(concurrent=True)
    async def gone_off(self) -> list[str]:
        """Reply what was raised, once something was."""
        await self._gone_off.wait()
        return self.raised


async def main() -> None:
    """Serve a page, ask for what is there and what is not, and let the server fall."""
    with tempfile.TemporaryDirectory() as site:
        async with System("web-alert", daemons=["logging", "process", "network"]) as system:
            await system.ask(
                "process", "run", command=["tee", "index.html"], input="<h1>Hello</h1>", cwd=site
            )
            alert = await system.spawn(Alert, "alert")
            up_again = asyncio.Event()
            system.subscribe_events(
                lambda event: up_again.set() if type(event).__name__ == "DaemonRestarted" else None
            )
            await system.spawn(
                Service,
                "web",
                command=[sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"],
                cwd=site,
                ready="line:Serving HTTP",
            )

            for path in ("/", "/robots.txt", "/admin.php", "/login.php"):
                answer = await system.ask("network", "http", url=await address(system) + path)
                print(path, answer["status"])
            print("alert:", *await alert.gone_off())

            pid = (await system.ask("web", "status"))["pid"]
            await system.ask("process", "kill", pid=pid, signal="KILL")
            await up_again.wait()
            answer = await system.ask("network", "http", url=await address(system) + "/")
            status = await system.ask("web", "status")
            print("it", status["last-error"].rpartition(" was ")[2])
            print("restarts:", status["restarts"], "and again it says", answer["status"])


async def address(system: System) -> str:
    """Return where the server listens: it says so in the log when it starts."""
    (entry,) = await system.ask("logging", "display", source="web", contains="Serving", limit=1)
    return str(re.search(r"http://[\d.:]+", entry["text"])[0])  # type: ignore[index]  # it matches


if __name__ == "__main__":
    asyncio.run(main())
