"""The processes of this machine as messages: start, feed, hear, end and look at them.

Every process is started by one helper (`process_helper.py`), which inherits whatever a
process leaves behind and ends it all when the node is gone, however that happened. A
process that was started here leads a session and a group of its own; `kill`,
a timeout of `run` and the end of the node reach the whole of it.

Defined once: a process has *ended* when its first process has; what it printed until
then can be read. What it left running in its session is ended with `kill` and after
`run`, and otherwise lives until the node ends.
"""

from __future__ import annotations

import asyncio
import os
import signal as signals
from dataclasses import dataclass
from typing import Any, Literal

from dan9.base.duration import Duration
from dan9.base.errors import (
    BadPayload,
    Closed,
    NoSuchProcess,
    PermissionRefused,
    Refused,
    TimedOut,
)
from dan9.base.reasons import Reason
from dan9.daemons import process_rules, process_table
from dan9.daemons.process_family import Family
from dan9.daemons.process_job import Job
from dan9.daemons.process_keeper import KILL_GRACE_S, Keeper
from dan9.daemons.process_link import Order
from dan9.daemons.process_rules import Ended
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.kernel import current_message
from dan9.kernel.links import Down
from dan9.kernel.subscription import Subscription

__all__ = ["Process", "Ran", "WaitedTooLong"]

ENDING = frozenset({signals.SIGTERM, signals.SIGKILL, signals.SIGINT, signals.SIGQUIT})
"""Signals after which a process that is restarted otherwise stays down."""
STOP_GRACE_S = 2.0
"""What processes get between TERM and KILL when the daemon stops."""


class WaitedTooLong(TimedOut, Refused):
    """The process did not end in time. An answer, not a crash."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What a finished command gave.

    Attributes:
        code: Exit code; None when a signal ended it.
        signal: That signal's name without SIG; None when it exited.
        stdout: What it printed; bytes if no encoding was wanted.
        stderr: What it complained of.
        cpu_seconds: User and system time.
        peak_memory: Largest resident set in bytes.
        truncated: True if more was printed than is kept.
    """

    code: int | None
    signal: str | None
    stdout: str | bytes
    stderr: str | bytes
    cpu_seconds: float
    peak_memory: int
    truncated: bool = False


class Process(Daemon, type="process"):
    """Starts, watches and ends the processes of this machine; none outlives the node."""

    max_processes: Config[int] = 1000
    output_bytes: Config[int] = 65536
    run_bytes: Config[int] = 16 * 1024 * 1024
    keep_ended: Config[int] = 1000
    any_process: Config[bool] = False

    async def on_start(self) -> None:
        """Be ready at once: the helper is started at the first need."""
        self._monitors: dict[int, int] = {}
        self._family = self._make_family(
            mark=f"{os.getpid()}-{self.system.random.getrandbits(48):012x}",
            most=self.max_processes,
            keep=self.keep_ended,
            on_end=lambda _: self._d9_count("ended"),
            on_forget=self._forgotten,
            on_lost=self._lost,
        )
        self._keeper = Keeper(self, self._family, self.output_bytes)

    async def on_stop(self, reason: Reason) -> None:
        """End every process: TERM, a moment, KILL; then the helper."""
        await self._keeper.close()
        await self._family.close(STOP_GRACE_S)

    async def on_down(self, down: Down) -> None:
        """End what belonged to a daemon that has ended."""
        pid = self._monitors.pop(down.monitor, 0)
        if self._keeper.job(pid) is not None:
            self._keeper.end(pid)

    def on_status(self) -> dict[str, object]:
        """Add how many run and the helper's pid."""
        return {"processes": len(self._family.running()), "helper": self._family.helper}

    # starting

    @on(concurrent=True, timeout_s=None)
    async def spawn_(
        self,
        command: str | list[str],
        args: list[str] = [],  # noqa: B006  (never changed)
        env: dict[str, str | None] = {},  # noqa: B006  (never changed)
        cwd: str | None = None,
        stdin: str | bytes | None = None,
        deliver_to: str | None = None,
        deliver: list[Literal["output", "exited"]] | None = None,
        limits: dict[str, Any] = {},  # noqa: B006  (never changed)
        restart: Literal["temporary", "transient", "permanent"] = "temporary",
        ready: str = "",
        ready_within: Duration = 30.0,
        log: bool = False,
        owned: bool = False,
    ) -> int:
        """Start a process; replies its pid once it runs, or once it is ready.

        Args:
            command: Text, split as a shell would split it, or a list; no shell sees it.
            args: Further arguments, taken as they are.
            env: Changes to this node's environment; null removes a variable.
            cwd: Its directory; the node's by default.
            stdin: All it will read. Without it `write` feeds it.
            deliver_to: The daemon that gets each line as `output` (pid, stream, line) and
                the end as `exited` (pid, code, signal). A slow one slows the process.
            deliver: Which of the two to send; both by default.
            limits: cpu (seconds), memory (bytes, or text such as 64MB), files, processes.
            restart: Start it again when it ends: never, after a failure, always.
            ready: What makes it ready: `port:8080`, `line:REGEX`, `file:/path`, `notify`.
            ready_within: How long that may take, before it is ended.
            log: Write its lines to the log, in the asker's name.
            owned: End it when the asker ends.

        Answers not-executable, not-found (directory), bad-payload, permission, no-space
        (too many processes), address-in-use (the port answers already), not-running (it
        ended before it was ready), timed-out (not ready in time).
        """
        message = current_message()
        sender = message.sender if message is not None else self.address
        job = Job(
            self._order(command, args, env, cwd, limits),
            stdin=_bytes(stdin),
            restart=restart,
            ready=process_rules.parse_ready(ready),
            ready_within=ready_within,
        )
        if log:
            job.logger = self.system.logger(sender)
        if deliver_to is not None:
            target = self.system.resolve(deliver_to)
            if deliver is None or "output" in deliver:
                job.lines = Subscription(self, target, "output", on_end=job.deafen)
            if deliver is None or "exited" in deliver:
                job.ends = Subscription(self, target, "exited")
        try:
            child = await self._keeper.launch(job)
        except BaseException:
            job.close()
            raise
        if owned:
            self._monitors[self.system.monitor(sender)] = child.pid
        return child.pid

    @on(concurrent=True, timeout_s=None, cancellable=True)
    async def run(
        self,
        command: str | list[str],
        args: list[str] = [],  # noqa: B006  (never changed)
        input_: str | bytes | None = None,
        timeout: Duration | None = None,
        env: dict[str, str | None] = {},  # noqa: B006  (never changed)
        cwd: str | None = None,
        limits: dict[str, Any] = {},  # noqa: B006  (never changed)
        encoding: str | None = "utf-8",
    ) -> Ran:
        """Run a command to its end; replies how it ended and what it printed.

        What it left running in its session is ended too.

        Args:
            command: Text, split as a shell would split it, or a list; no shell sees it.
            args: Further arguments, taken as they are.
            input_: What it reads; nothing by default.
            timeout: After so long it is killed, with all it started.
            env: Changes to this node's environment; null removes a variable.
            cwd: Its directory; the node's by default.
            limits: As for spawn.
            encoding: Of its output; null: as bytes.

        Answers not-executable, not-found (directory), bad-payload, permission, no-space,
        timed-out.
        """
        _check_encoding(encoding)
        data = _bytes(input_) or b""
        order = self._order(command, args, env, cwd, limits)
        child = await self._keeper.start(
            order, stdin=bool(data), kept_bytes=self.run_bytes, brief=True
        )
        feeding = self._keeper.task(child.stdin.finish(data)) if child.stdin is not None else None
        try:
            async with asyncio.timeout(timeout):
                ended = await asyncio.shield(child.exit)
        except TimeoutError:
            await self._kill_now(child.pid)
            raise WaitedTooLong(
                f"{child.argv[0]} did not end within {timeout:g} s and was killed",
                hint="give it a longer timeout, or spawn it",
                timeout_s=timeout or 0.0,
            ) from None
        finally:
            if feeding is not None:
                feeding.cancel()
            self._keeper.task(self._kill_session(child.pid))
        out, errors = child.streams["stdout"].kept, child.streams["stderr"].kept
        return Ran(
            ended.code,
            ended.signal,
            _text(out.bytes(), encoding),
            _text(errors.bytes(), encoding),
            ended.cpu_seconds,
            ended.peak_memory,
            out.truncated or errors.truncated,
        )

    # ending

    @on(concurrent=True, timeout_s=None)
    async def kill(
        self, pid: int, signal: str | int = "TERM", grace: Duration | None = None
    ) -> None:
        """Signal a process and its session.

        With `grace`, replies when all of it is gone: KILL follows after so many seconds.

        Args:
            pid: One that was started here, or a descendant of one; with the configuration
                `any_process` any that the system lets us signal.
            signal: TERM, KILL, HUP, … with or without SIG, or a number.
            grace: Seconds between the signal and KILL; null: send the signal, no more.

        Answers no-such-process, permission, bad-payload.
        """
        number = process_rules.signal_of(signal)
        if pid <= 0:
            raise BadPayload(f"{pid} is no process id", at="payload.pid", hint="1 or more")
        job = self._keeper.job(pid)
        if job is not None:
            message = current_message()
            if grace is not None and message is not None:
                job.spare(message.sender)  # who waits for the end need not be told of it
            if grace is not None or number in ENDING:
                job.stop()
            if job.child is not None and job.child.ended is None:
                pid = job.child.pid  # the one that runs now in place of the one asked for
            elif job.between:
                return  # it was waiting to be started again, and now is not
        known = self._family.get(pid) is not None
        if not known and await self._family.signal(pid, number, "process"):
            return
        if known and grace is None and await self._family.signal(pid, number):
            return
        if known and grace is not None and await self._family.signal(pid, 0):
            await self._family.end(pid, number, grace)
            return
        self._signal_stranger(pid, number)

    def _signal_stranger(self, pid: int, number: int) -> None:
        """Signal a process that is no descendant of ours, if that is wanted at all."""
        child = self._family.get(pid)
        if child is not None:
            raise NoSuchProcess(f"process {pid} ({child.argv[0]}) has {child.ended}")
        self._family.signal_stranger(pid, number, allowed=self.any_process)

    @on(concurrent=True, timeout_s=None, cancellable=True)
    async def wait(self, pid: int, timeout: Duration | None = None) -> Ended:
        """Wait until a process that was started here has ended; replies how.

        Answers no-such-process, timed-out.
        """
        child = self._family.find(pid)
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.shield(child.exit)
        except TimeoutError:
            raise WaitedTooLong(
                f"process {pid} ({child.argv[0]}) still runs after {timeout:g} s",
                hint="kill ends it",
                timeout_s=timeout or 0.0,
            ) from None

    # looking

    @on(concurrent=True)
    async def list_(
        self,
        all_: bool = False,
        fields: list[str] | None = None,
    ) -> list[dict[str, Any]]:
        """List the processes that were started here and run; with `all` those of the machine.

        Args:
            all_: Every process of the machine.
            fields: Out of pid, name, state, ppid (the default), group, session, threads,
                cpu (s), memory (bytes), started (s since 1970), command, user.

        Answers bad-payload.
        """
        wanted = process_table.check_fields(fields or process_table.DEFAULT_FIELDS)
        return await self._family.rows(wanted, everyone=all_)

    @on(concurrent=True)
    async def info(self, pid: int) -> process_table.Facts:
        """Show everything about one process; of one that ended here, how it did.

        Answers no-such-process, permission.
        """
        child = self._family.get(pid)
        if child is not None and child.ended is not None:
            return process_table.Facts(
                pid=pid,
                state="ended",
                command=child.argv,
                started=child.started,
                code=child.ended.code,
                signal=child.ended.signal,
                cpu=child.ended.cpu_seconds,
                memory=child.ended.peak_memory,
            )
        return await self._family.facts(pid)

    @on
    def getpid(self) -> int:
        """Reply the process id of this node."""
        return os.getpid()

    # talking

    @on(concurrent=True)
    async def write(self, pid: int, data: str | bytes = "", close: bool = False) -> int:
        """Feed a process's standard input; replies how many bytes that were.

        Waits while the process does not read; writes to one process keep their order.

        Args:
            pid: One that was spawned here without `stdin`.
            data: Text, sent as UTF-8, or bytes.
            close: Then close it: the process reads the end.

        Answers no-such-process, closed.
        """
        child = self._family.find(pid)
        if child.stdin is None or not child.stdin.open:
            raise Closed(
                f"the standard input of {pid} is closed", hint="spawn without stdin keeps it open"
            )
        written = await child.stdin.write(_bytes(data) or b"")
        if close:
            child.stdin.close()
        return written

    @on
    def output(
        self,
        pid: int,
        stream: Literal["stdout", "stderr"] = "stdout",
        tail: int | None = None,
        encoding: str | None = "utf-8",
    ) -> str | bytes:
        """Reply what a process printed, as far as it is kept (the newest 64 KiB).

        Args:
            pid: One that was spawned here; it may have ended.
            stream: Which of the two.
            tail: Only the last so many lines.
            encoding: Null: as bytes.

        Answers no-such-process, bad-payload.
        """
        _check_encoding(encoding)
        data = self._family.find(pid).streams[stream].kept.bytes()
        if tail is not None:
            if tail < 0:
                raise BadPayload(f"{tail} lines cannot be shown", at="payload.tail", hint="0 or up")
            data = b"".join(data.splitlines(keepends=True)[-tail:]) if tail else b""
        return _text(data, encoding)

    # the life of a process

    def _order(
        self,
        command: str | list[str],
        args: list[str],
        env: dict[str, str | None],
        cwd: str | None,
        limits: dict[str, Any],
    ) -> Order:
        where = cwd if cwd is not None else os.getcwd()
        if "\0" in where:
            raise BadPayload("the directory holds a NUL character", at="payload.cwd")
        return Order(
            process_rules.argv_of(command, args),
            process_rules.environment_of(os.environ, env),
            where,
            process_rules.limits_of(limits),
        )

    def _make_family(self, **how: Any) -> Family:
        return Family(**how)

    def _forgotten(self, pid: int) -> None:
        self._keeper.forget(pid)

    def _lost(self, count: int) -> None:
        self.log.error("the process helper was killed; %d processes were ended with it", count)

    async def _kill_now(self, pid: int) -> None:
        """Kill a session and see it gone, unless the system itself holds on to it."""
        try:
            async with asyncio.timeout(KILL_GRACE_S):
                await self._family.end(pid, signals.SIGKILL, KILL_GRACE_S)
        except TimeoutError:
            self.log.warning("process %d does not end: it waits for a device", pid)

    async def _kill_session(self, pid: int) -> None:
        """End what a command left in its session."""
        try:
            await self._family.signal(pid, signals.SIGKILL)
        except (Closed, PermissionRefused):
            return


def _bytes(data: str | bytes | None) -> bytes | None:
    return data.encode() if isinstance(data, str) else data


def _text(data: bytes, encoding: str | None) -> str | bytes:
    return data if encoding is None else data.decode(encoding, "replace")


def _check_encoding(encoding: str | None) -> None:
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        raise BadPayload(
            f"there is no encoding {encoding!r}",
            at="payload.encoding",
            hint="such as utf-8 or null",
        ) from None
