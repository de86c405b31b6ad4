"""The node's end of its helper: start it, ask it, hear of exits, notice its loss.

One socket, requests numbered, replies in any order. The standard streams of a new
process are passed along as descriptors, so that what it prints comes straight to
the node; the helper never sees a byte of it.

The helper is started at the first need: a node that runs no process has none. It
survives everything but KILL; if somebody does kill it, `on_lost` is called once and
what it had started is ended by `sweep`: each process carries a mark in its
environment, so that those which left their session are found too.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import MAGIC_NUMBER
from pathlib import Path
from typing import Any

from dan9.base.errors import Closed, Dan9Error, NotSupported
from dan9.daemons import process_helper
from dan9.daemons.process_rules import Ended

__all__ = ["HelperLink", "Order", "StartFailed", "sweep"]

MARK = "DAN9_OFFSPRING"
"""The environment variable that every process of a node carries."""


class StartFailed(Exception):
    """The helper could not start a process: in which stage, and the system's number."""

    def __init__(self, stage: str, number: int) -> None:
        super().__init__(f"{stage}: {os.strerror(number)}")
        self.stage = stage
        self.number = number


@dataclass(frozen=True, slots=True)
class Order:
    """What to start: the argument vector and what surrounds it."""

    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: str
    limits: Mapping[str, tuple[int, int]]

    def with_env(self, more: Mapping[str, str]) -> Order:
        """Return the order with further variables."""
        return replace(self, env={**self.env, **more}) if more else self

    def form(self, mark: str) -> dict[str, Any]:
        """Return the request's fields as the helper takes them: bytes, as exec does."""
        env = {os.fsencode(name): os.fsencode(value) for name, value in self.env.items()}
        env[MARK.encode()] = mark.encode()
        return {
            "op": "spawn",
            "argv": [os.fsencode(word) for word in self.argv],
            "env": env,
            "cwd": os.fsencode(self.cwd),
            "limits": {name: list(pair) for name, pair in self.limits.items()},
        }


class HelperLink:
    """Talk to one helper process.

    Args:
        on_exit: Called on the loop with pid and `Ended` for every spawned process.
        on_lost: Called once if the helper ends while it is in use.
        mark: Begins the mark in the environment of all that is spawned.
    """

    def __init__(
        self,
        on_exit: Callable[[int, Ended], None],
        on_lost: Callable[[], None],
        *,
        mark: str,
    ) -> None:
        self.mark = mark
        self._base = mark
        self._generation = 0
        self._on_exit = on_exit
        self._on_lost = on_lost
        self._helper: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._frames = process_helper.Frames()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._abandoned: set[int] = set()
        self._disowned: set[int] = set()
        self._last = 0
        self._out: deque[tuple[bytes, tuple[int, ...]]] = deque()
        self._writing = False
        self._closing: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        """The helper's process id; None while there is none."""
        return self._helper.pid if self._helper is not None else None

    def start(self) -> None:
        """Start the helper unless it runs. Does not wait for it: requests queue.

        Raises:
            NotSupported: Not on Linux, or no interpreter is known to run it with.
        """
        if self._helper is not None:
            return
        if sys.platform != "linux" or not sys.executable:
            raise NotSupported(
                "processes need Linux and a Python interpreter of their own",
                hint="run the node with python, not embedded",
            )
        self._generation += 1
        self.mark = f"{self._base}.{self._generation}"  # what a lost one left is not the next one's
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            self._helper = subprocess.Popen(
                [
                    sys.executable,
                    *("-I", "-S", "-E", "-B"),
                    _program(),
                    str(theirs.fileno()),
                    str(os.getpid()),
                ],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        ours.setblocking(False)
        self._channel = ours
        self._frames = process_helper.Frames()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(ours, self._readable)

    async def spawn(self, order: Order, streams: tuple[int, int, int]) -> int:
        """Start a process with these descriptors as its streams; return its pid.

        Whatever happens, the descriptors are closed here afterwards. A caller that is
        cancelled meanwhile leaves no process behind.

        Raises:
            StartFailed: Fork, directory, limits or exec failed.
            Closed: The helper is gone.
        """
        try:
            self.start()
        except BaseException:
            _close(streams)
            raise
        reply = await self._ask(order.form(self.mark), streams)
        if "error" in reply:
            stage, number = reply["error"]
            raise StartFailed(stage, number)
        return int(reply["pid"])

    async def signal(self, pid: int, number: int, scope: str = "session") -> int:
        """Signal a process, its session or all; return how many were reached.

        Raises:
            PermissionError: The system forbids it.
        """
        if self._helper is None:
            return 0
        reply = await self._ask({"op": "signal", "pid": pid, "signal": int(number), "scope": scope})
        if "error" in reply:
            raise PermissionError(reply["error"][1], os.strerror(reply["error"][1]))
        return int(reply["count"])

    async def end(self, pid: int, number: int, grace: float, scope: str = "session") -> None:
        """Signal a scope, give it `grace` seconds, then KILL; return when nobody is left."""
        if self._helper is None:
            return
        request = {"op": "end", "pid": pid, "signal": int(number), "scope": scope}
        gone = asyncio.ensure_future(self._ask(request))
        try:
            async with asyncio.timeout(grace):
                await asyncio.shield(gone)
        except TimeoutError:
            await self.signal(pid, signal.SIGKILL, scope)
            await gone
        finally:
            gone.cancel()

    async def close(self) -> None:
        """End the helper and with it whatever still runs; return when both are gone."""
        if self._helper is None or self._channel is None:
            return
        assert self._loop is not None
        self._closing = self._loop.create_future()
        self._channel.shutdown(socket.SHUT_WR)
        try:
            await self._closing
        finally:
            self._forget()

    # the channel

    async def _ask(self, request: dict[str, Any], streams: tuple[int, ...] = ()) -> dict[str, Any]:
        if self._channel is None or self._loop is None:
            _close(streams)
            raise Closed("the process helper has ended", hint="restart the process daemon")
        self._last += 1
        number = self._last
        reply: asyncio.Future[dict[str, Any]] = self._loop.create_future()
        self._waiting[number] = reply
        self._out.append((process_helper.pack({"id": number, **request}), streams))
        self._writable()
        try:
            return await reply
        except asyncio.CancelledError:
            if request["op"] == "spawn":
                # The reply may have come already, and not yet have been seen by the caller.
                if reply.done() and not reply.cancelled():
                    self._disown(reply.result())
                else:
                    self._abandoned.add(number)
            raise
        finally:
            self._waiting.pop(number, None)

    def _writable(self) -> None:
        assert self._channel is not None
        assert self._loop is not None
        while self._out:
            data, streams = self._out[0]
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, _packed(streams))] if streams else []
            try:
                sent = self._channel.sendmsg([data], rights)
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                return  # the reader notices the loss
            _close(streams)  # they went with the first byte
            if sent < len(data):
                self._out[0] = (data[sent:], ())
            else:
                self._out.popleft()
        if bool(self._out) != self._writing:
            self._writing = bool(self._out)
            if self._writing:
                self._loop.add_writer(self._channel, self._writable)
            else:
                self._loop.remove_writer(self._channel)

    def _readable(self) -> None:
        assert self._channel is not None
        try:
            data = self._channel.recv(process_helper.CHANNEL_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self._ended()
            return
        for message in self._frames.feed(data):
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        if message.get("event") == "exit":
            pid = message["pid"]
            if pid in self._disowned:
                self._disowned.discard(pid)
            else:
                self._on_exit(pid, Ended.of(message["status"], message["cpu"], message["peak"]))
            return
        number = message["id"]
        if number in self._abandoned:
            self._abandoned.discard(number)
            self._disown(message)
            return
        reply = self._waiting.get(number)
        if reply is not None and not reply.done():
            reply.set_result(message)

    def _disown(self, message: dict[str, Any]) -> None:
        """Kill what was started for a caller who has given up."""
        if "pid" not in message:
            return
        self._disowned.add(message["pid"])
        kill = {"op": "signal", "pid": message["pid"], "scope": "session"}
        frame = process_helper.pack({"id": 0, **kill, "signal": int(signal.SIGKILL)})
        self._out.append((frame, ()))
        self._writable()

    def _ended(self) -> None:
        closing = self._closing
        assert self._channel is not None
        assert self._loop is not None
        self._loop.remove_reader(self._channel)
        if closing is not None:
            if not closing.done():
                closing.set_result(None)
            return
        self._forget()
        self._on_lost()

    def _forget(self) -> None:
        if self._channel is not None and self._loop is not None:
            self._loop.remove_reader(self._channel)
            if self._writing:
                self._loop.remove_writer(self._channel)
                self._writing = False
            self._channel.close()
        for _data, streams in self._out:
            _close(streams)
        self._out.clear()
        for reply in list(self._waiting.values()):
            if not reply.done():
                reply.set_exception(_gone())
        if self._helper is not None:
            self._helper.wait()  # its socket is closed: it is on its last instruction
        self._helper = None
        self._channel = None
        self._closing = None


def _program() -> str:
    """Return the helper's file: its bytecode where it is current, 10 ms and 1 MB less."""
    source = Path(process_helper.__file__)
    cached = process_helper.__spec__.cached
    try:
        facts = source.stat()
        head = Path(cached or "").read_bytes()[:16]
    except OSError:
        return str(source)
    # As importlib judges it (PEP 552): same interpreter, not hashed, same source.
    stamp = int(facts.st_mtime) & 0xFFFFFFFF, facts.st_size & 0xFFFFFFFF
    wanted = MAGIC_NUMBER + bytes(4) + b"".join(one.to_bytes(4, "little") for one in stamp)
    return cached if cached is not None and head == wanted else str(source)


def _gone() -> Dan9Error:
    return Closed("the process helper has ended", hint="restart the process daemon")


def _packed(streams: tuple[int, ...]) -> bytes:
    return b"".join(fd.to_bytes(4, sys.byteorder) for fd in streams)


def _close(streams: Sequence[int]) -> None:
    for fd in streams:
        os.close(fd)


def sweep(mark: str) -> int:
    """Kill every process whose environment carries the mark; return how many there were.

    For the case that the helper was killed: its orphans are nobody's descendants any
    more. Looks until a look finds nobody new, so that what forks meanwhile is met too.
    """
    wanted = f"{MARK}={mark}".encode()
    killed: set[str] = set()
    while True:
        before = len(killed)
        for name in os.listdir("/proc"):
            if not name.isdecimal() or name in killed:
                continue
            try:
                if wanted not in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                    continue
                os.kill(int(name), signal.SIGKILL)
            except OSError:
                continue  # gone, or another user's
            killed.add(name)
        if len(killed) == before:
            return before
