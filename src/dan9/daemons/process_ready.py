"""When a process serves, which is later than when it runs.

Four signs, as s6, systemd and supervisors of containers know them: a port answers, a
line matches, a file appears, the process says so itself (sd_notify). The process that
ends first, or takes too long, has not become ready.

A line and a notification are events. A port and a file are looked for, 20 times a
second at first and ever more slowly, and only while a process starts: nothing
polls once it is up.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from pathlib import Path

from dan9.base.errors import AddressInUse, NotRunning, Refused, TimedOut
from dan9.daemons.process_child import Child
from dan9.daemons.process_rules import Readiness

__all__ = ["NotReadyInTime", "ReadyWatch"]

FIRST_LOOK_S = 0.05
LAST_LOOK_S = 1.0
TOLD_BYTES = 400
"""How much of its last words goes into the refusal."""


class NotReadyInTime(TimedOut, Refused):
    """It did not show that it serves. An answer, not a crash."""


class ReadyWatch:
    """Watch one process become ready. Made before it starts, so that no sign is missed.

    Args:
        readiness: What to wait for.
        cwd: The directory that a relative file name is in.
    """

    def __init__(self, readiness: Readiness, cwd: str) -> None:
        self._readiness = readiness
        self._notify: socket.socket | None = None
        self._file = Path(cwd, readiness.value)
        self._before = self._stamp()
        self._matched: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self) -> dict[str, str]:
        """Look around before the start; return what to add to the environment.

        Raises:
            AddressInUse: The port answers already: it would prove nothing.
        """
        if self._readiness.kind == "port" and await self._answers():
            raise AddressInUse(
                f"port {self._readiness.port} answers already, so it cannot show readiness",
                at="payload.ready",
                hint="end what listens there, or choose another port",
            )
        if self._readiness.kind != "notify":
            return {}
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind("")  # the kernel chooses a free abstract name; no file to tidy up
        self._notify = listener
        name = listener.getsockname()
        return {"NOTIFY_SOCKET": "@" + os.fsdecode(name).lstrip("\0")}

    def attach(self, child: Child) -> None:
        """Look at every line from the first one on."""
        if self._readiness.kind != "line":
            return
        pattern = re.compile(self._readiness.value)

        def look(_stream: str, line: str) -> None:
            if pattern.search(line):
                forget()
                if not self._matched.done():
                    self._matched.set_result(None)

        forget = child.on_line(look)

    async def ready(self, child: Child, within_s: float) -> None:
        """Return when it is ready.

        Raises:
            NotRunning: It ended before; the hint has its last words.
            NotReadyInTime: It neither did nor ended within `within_s` seconds.
        """
        sign = asyncio.ensure_future(self._sign())
        try:
            await asyncio.wait(
                (sign, child.exit), timeout=within_s, return_when=asyncio.FIRST_COMPLETED
            )
            if sign.done() or self._matched.done():
                return
        finally:
            sign.cancel()
        what = child.argv[0]
        if child.ended is not None:
            raise NotRunning(f"{what} {child.ended} before it was ready", hint=_last_words(child))
        raise NotReadyInTime(
            f"{what} was not ready within {within_s:g} s ({self._says()}) and was ended",
            hint=_last_words(child),
            timeout_s=within_s,
        )

    def close(self) -> None:
        """Let go of the notification socket."""
        if self._notify is not None:
            self._notify.close()
            self._notify = None

    def _says(self) -> str:
        match self._readiness.kind:
            case "port":
                return f"port {self._readiness.port} did not answer"
            case "line":
                return f"no line matched {self._readiness.value!r}"
            case "file":
                return f"{self._file} did not appear"
            case _:
                return "it sent no READY=1"

    async def _sign(self) -> None:
        match self._readiness.kind:
            case "line":
                await self._matched
            case "notify":
                await self._notified()
            case "port":
                await self._look_for(self._answers)
            case _:
                await self._look_for(self._appeared)

    async def _notified(self) -> None:
        assert self._notify is not None
        listener = self._notify
        loop = asyncio.get_running_loop()
        said: asyncio.Future[None] = loop.create_future()

        def hear() -> None:
            while True:
                try:
                    data, extra, _flags, _peer = listener.recvmsg(4096, socket.CMSG_SPACE(12))
                except OSError:
                    return
                # Anybody may write to an abstract socket: only our own user is believed.
                users = [struct.unpack("3i", body[:12])[1] for _level, _kind, body in extra]
                if users and users[0] not in {0, os.getuid()}:
                    continue
                if b"READY=1" in data.split(b"\n") and not said.done():
                    said.set_result(None)

        loop.add_reader(listener, hear)
        try:
            await said
        finally:
            loop.remove_reader(listener)

    async def _look_for(self, there: object) -> None:
        assert callable(there)
        pause_s = FIRST_LOOK_S
        while not await there():
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 1.2, LAST_LOOK_S)

    async def _answers(self) -> bool:
        host, port = self._readiness.value, self._readiness.port
        try:
            async with asyncio.timeout(LAST_LOOK_S):
                _reader, writer = await asyncio.open_connection(host, port)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    def _stamp(self) -> tuple[int, int] | None:
        if self._readiness.kind != "file":
            return None
        try:
            facts = self._file.stat()
        except OSError:
            return None
        return (facts.st_ino, facts.st_mtime_ns)

    async def _appeared(self) -> bool:
        # One left by an earlier run is not yet a sign: it must have been made or written anew.
        return self._stamp() not in {None, self._before}


def _last_words(child: Child) -> str:
    for name in ("stderr", "stdout"):
        text = child.streams[name].kept.bytes()[-TOLD_BYTES:].decode("utf-8", "replace").strip()
        if text:
            return f"it said: {text.splitlines()[-1]}"
    return "it said nothing"
