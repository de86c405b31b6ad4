"""A foreign program as a daemon: what `exec` in dan9.toml becomes.

The program's end is the daemon's end, so that restart types, backoff, `after` and
`dan9 stop` mean for it what they mean for every daemon. It is run by the process
daemon, met by address: no program outlives the node, and a test may put a twin there.

Ready is later than up: `on_start` returns when the program shows that it serves, and
only then do those that come `after` it start. What it prints goes to the log in
this daemon's name, from its first line on.
"""

from __future__ import annotations

from typing import Any

from dan9.base.duration import Duration
from dan9.base.errors import Closed, Dan9Error, NoSuchProcess
from dan9.base.reasons import Reason
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.links import Down

__all__ = ["Service", "ServiceEnded"]


class ServiceEnded(Exception):
    """The program ended by itself, and not well: a crash of its daemon."""


class Service(Daemon, type="service", shutdown_s=15):
    """Runs a program for as long as it lives, and lives for as long as the program runs.

    Configuration:
        command: Text, split as a shell would split it, or a list; no shell sees it.
        cwd, env, limits: Directory, changes to the environment, limits, as for `spawn`.
        ready: `port:8080`, `line:REGEX`, `file:/path` or `notify`; empty: once it runs.
        ready_within: How long it may take to become ready.
        stop_signal: What asks it to end.
        grace: How long the session may take over that before KILL; within the default
            deadline of `stop` (5 s), and never more than `shutdown_s` (15).
        process: Who runs it.
    """

    command: Config[str | list[str]]
    cwd: Config[str | None] = None
    env: Config[dict[str, str | None]] = {}
    limits: Config[dict[str, Any]] = {}
    ready: Config[str] = ""
    ready_within: Config[Duration] = 30.0
    stop_signal: Config[str] = "TERM"
    grace: Config[Duration] = 4.0
    process: Config[str] = "d9://process/system/process"

    async def on_start(self) -> None:
        """Start the program and see it ready.

        Raises:
            Dan9Error: What `spawn` answers: not-executable, not-running (it ended first),
                timed-out (not ready in time), address-in-use (its port answers already).
        """
        self._pid = 0
        self._end: tuple[int | None, str | None] | None = None
        order = {
            "command": self.command,
            "cwd": self.cwd,
            "env": dict(self.env),
            "limits": dict(self.limits),
            "stdin": "",
            "ready": self.ready,
            "ready_within": self.ready_within,
            "log": True,
            "owned": True,
            "deliver_to": self.address,
            "deliver": ["exited"],
        }
        # Should the process daemon itself fall, its processes fall with it.
        self.system.monitor(self.process)
        self._pid = await self.ask(self.process, "spawn", payload=order, timeout_s=None)

    async def main(self) -> None:
        """Answer messages until the program ends; end with it, well or badly as it did."""
        async for message in self.inbox():
            await self.dispatch(message)
            if self._end is not None:
                break
        if self._end is None:
            return  # asked to stop
        code, signal = self._end
        if code != 0:
            how = f"exited with code {code}" if signal is None else f"was ended by signal {signal}"
            raise ServiceEnded(f"{self._program()} {how}")
        self.log.info("%s ended", self._program())

    async def on_stop(self, reason: Reason) -> None:
        """End the program and its whole session: the stop signal, then KILL after the grace.

        Also when the program itself has ended: what it left behind ends as well.
        """
        if not self._pid:
            return
        order = {"pid": self._pid, "signal": self.stop_signal, "grace": self.grace}
        try:
            await self.ask(self.process, "kill", payload=order, timeout_s=None)
        except (NoSuchProcess, Closed):
            return
        except Dan9Error as error:
            self.log.warning("process %d may still run: %s", self._pid, error)

    def on_status(self) -> dict[str, object]:
        """Add the process id."""
        return {"pid": self._pid}

    async def on_down(self, down: Down) -> None:
        """Hear that the process daemon has ended, and with it the program."""
        self._end = (None, "KILL")

    @on
    def exited(self, pid: int, code: int | None = None, signal: str | None = None) -> None:
        """Hear from the process daemon that the program has ended; so does this daemon."""
        if pid == self._pid:
            self._end = (code, signal)

    def _program(self) -> str:
        return self.command if isinstance(self.command, str) else " ".join(self.command)
