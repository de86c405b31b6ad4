"""A command line as a daemon: what `exec` in dan9.toml becomes.

The process's end is the daemon's end: the supervisor restarts both, with backoff, and `stop`
of the daemon ends the process. It is run by the process daemon, met by address, so that
its limits and its promise (no child outlives the node) hold here as well.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from dan9.base.duration import Duration
from dan9.base.errors import DaemonFailed, Dan9Error
from dan9.base.reasons import NORMAL
from dan9.kernel.daemon import Config, Daemon, on

__all__ = ["Service"]

_PROCESS = "d9://process/system/process"


class Service(Daemon, type="service"):
    """Runs a command for as long as it lives, and lives for as long as the command runs.

    What the command prints goes into the log, in this daemon's name.
    """

    command: Config[str]
    cwd: Config[str | None] = None
    env: Config[dict[str, str]] = {}
    limits: Config[dict[str, Any]] = {}
    ready: Config[str] = ""
    ready_within: Config[Duration] = 30.0
    grace: Config[Duration] = 4.0

    async def on_start(self) -> None:
        """Start the process; ready when it is: see `ready` of the process daemon's `spawn`.

        Raises:
            Dan9Error: It could not be started, ended, or was not ready in time.
        """
        self._pid = 0
        self._watching: asyncio.Task[None] | None = None
        self._pid = await self.ask(
            _PROCESS,
            "spawn",
            command=self.command,
            cwd=self.cwd,
            env=dict(self.env),
            limits=dict(self.limits),
            ready=self.ready,
            ready_within=self.ready_within,
            log=True,
            owned=True,
        )
        self._watching = asyncio.get_running_loop().create_task(self._watch(self._pid))

    async def on_stop(self, reason: object) -> None:
        """End the process: TERM, and KILL after the grace."""
        if self._watching is not None:
            self._watching.cancel()
        if self._pid:
            pid, self._pid = self._pid, 0
            with contextlib.suppress(Dan9Error):  # it ended in this very moment
                await self.ask(_PROCESS, "kill", pid=pid, grace=self.grace)

    def on_status(self) -> dict[str, object]:
        """Add the process id."""
        return {"pid": self._pid}

    async def _watch(self, pid: int) -> None:
        """Tell oneself how the process ended."""
        try:
            end = await self.ask(_PROCESS, "wait", pid=pid, timeout_s=None)
        except Dan9Error as error:  # the process daemon is gone, and with it the process
            end = {"code": None, "signal": None, "text": error.text}
        self.tell(self.address, "ended", **{key: end.get(key) for key in ("code", "signal")})

    @on
    def ended(self, code: int | None = None, signal: str | None = None) -> None:
        """Hear that the process ended; this daemon ends as it did, and its supervisor decides.

        Status 0 is a normal end, after which a transient daemon stays down.
        """
        self._pid = 0
        if code == 0:
            self.log.info("%s ended", self.command)
            self.system.lifecycle._end_now(self._d9_cell, NORMAL)
            return
        how = f"ended with status {code}" if signal is None else f"was ended by signal {signal}"
        raise DaemonFailed(f"{self.command!r} {how}", hint="dan9 logs shows what it printed")
