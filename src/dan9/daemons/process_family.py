"""The processes that one daemon started: those that run, and the newest that ended.

Knows processes and the helper, no messages. A process that has ended stays known, so
that `wait` and `output` answer after the fact; the oldest of them give way.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from dan9.base.errors import Closed, NoSpace, NoSuchProcess, PermissionRefused
from dan9.daemons import process_rules, process_table
from dan9.daemons.process_child import Child, Wiring
from dan9.daemons.process_link import HelperLink, Order, StartFailed, sweep
from dan9.daemons.process_rules import Ended

__all__ = ["Family"]

SWEEPS_S = (0.1, 1.0)
"""When to look again for what a killed helper left behind."""


class Family:
    """Start, find and end processes through one helper.

    Args:
        mark: What marks them in their environment; unique to this daemon's life.
        most: How many may run at once.
        keep: How many that ended stay known.
        on_end: Called when one has ended.
        on_forget: Called with the pid of one that is no longer known.
        on_lost: Called with the number of processes that went with a killed helper.
    """

    def __init__(
        self,
        *,
        mark: str,
        most: int,
        keep: int,
        on_end: Callable[[Child], None],
        on_forget: Callable[[int], None],
        on_lost: Callable[[int], None],
    ) -> None:
        self._most = most
        self._keep = keep
        self._on_end = on_end
        self._on_forget = on_forget
        self._on_lost = on_lost
        self._children: dict[int, Child] = {}
        self._past: deque[Child] = deque()
        self._early: dict[int, Ended] = {}
        self._starting = 0
        self._closing = False
        self._link = HelperLink(self._exited, self._lost, mark=mark)

    @property
    def helper(self) -> int | None:
        """The helper's pid; None until the first process."""
        return self._link.pid

    def running(self) -> list[Child]:
        """Return those that have not ended."""
        return [child for child in self._children.values() if child.ended is None]

    def get(self, pid: int) -> Child | None:
        """Return the process if it is known."""
        return self._children.get(pid)

    def find(self, pid: int) -> Child:
        """Return the process.

        Raises:
            NoSuchProcess: It was not started here, or is long gone.
        """
        child = self._children.get(pid)
        if child is None:
            raise NoSuchProcess(
                f"no process {pid} was started here",
                hint="list shows those that were; info also looks at others",
            )
        return child

    async def start(
        self,
        order: Order,
        *,
        stdin: bool,
        kept_bytes: int,
        now: float,
        brief: bool = False,
        attach: Callable[[Child], None] | None = None,
    ) -> Child:
        """Start one process.

        Args:
            order: What.
            stdin: Keep a pipe to feed it; otherwise it reads nothing.
            kept_bytes: How much of each output is kept.
            now: The time, for the record.
            brief: It is one command: keep the beginning of its output rather than the
                end, and do not know it any more once it has ended.
            attach: Called with the process before anything it prints is looked at; it may
                have ended by then.

        Raises:
            NoSpace: As many run already as may.
            Refused: It could not be started; which one says why.
        """
        running = self._starting + len(self.running())
        if running >= self._most:
            raise NoSpace(
                f"{running} processes run already, as many as max-processes allows",
                hint="end some, or raise max-processes in the configuration of process",
            )
        wiring = Wiring(stdin=stdin)
        self._starting += 1
        try:
            pid = await self._link.spawn(order, wiring.theirs)
        except StartFailed as failure:
            wiring.close()
            raise process_rules.start_refusal(
                failure.stage, failure.number, argv=order.argv, cwd=order.cwd, env=order.env
            ) from failure
        except BaseException:
            wiring.close()
            raise
        finally:
            self._starting -= 1
        child = Child(pid, order.argv, wiring, kept_bytes=kept_bytes, brief=brief)
        child.started = now
        self._forget(pid)  # the number was used before
        self._children[pid] = child
        if attach is not None:
            attach(child)
        early = self._early.pop(pid, None)
        if early is not None:
            self._over(child, early)
        return child

    async def signal(self, pid: int, number: int, scope: str = "session") -> int:
        """Signal a process, its session or all; return how many were reached.

        Raises:
            PermissionRefused: The system forbids it.
        """
        try:
            return await self._link.signal(pid, number, scope)
        except PermissionError as error:
            raise PermissionRefused(f"process {pid} may not be signalled") from error

    async def end(self, pid: int, number: int, grace: float, scope: str = "session") -> None:
        """Signal, wait `grace` seconds, KILL; return when nobody in the scope is left."""
        await self._link.end(pid, number, grace, scope)

    async def close(self, grace: float) -> None:
        """End them all, then the helper."""
        self._closing = True
        try:
            await self.end(0, signal.SIGTERM, grace, "all")
        except Closed:
            pass  # the helper went first, and `_lost` has ended them
        finally:
            await self._link.close()
            for child in self._children.values():
                child.close()

    def signal_stranger(self, pid: int, number: int, *, allowed: bool) -> None:
        """Signal a process that is no descendant of ours.

        Raises:
            NoSuchProcess: There is none.
            PermissionRefused: Not allowed here (init, node and helper never are), or by the
                system.
        """
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            raise NoSuchProcess(
                f"there is no process {pid}", hint="list shows those there are"
            ) from None
        try:
            if not allowed or pid in {1, os.getpid(), self.helper}:
                raise PermissionRefused(
                    f"process {pid} was not started here",
                    hint="any-process = true in the configuration of process allows it",
                )
            signal.pidfd_send_signal(handle, number)
        except PermissionError as error:
            raise PermissionRefused(f"process {pid} belongs to another user") from error
        finally:
            os.close(handle)

    async def rows(self, fields: Sequence[str], *, everyone: bool) -> list[dict[str, Any]]:
        """Return the fields of those that run here, or of every process of the machine."""
        if everyone:
            return await asyncio.to_thread(process_table.processes, fields)
        return process_table.processes(fields, [child.pid for child in self.running()])

    async def facts(self, pid: int) -> process_table.Facts:
        """Return everything about a running process, whoever started it.

        Raises:
            NoSuchProcess: There is none.
        """
        return await asyncio.to_thread(process_table.describe, pid)

    def _exited(self, pid: int, ended: Ended) -> None:
        child = self._children.get(pid)
        if child is None or child.ended is not None:
            self._early[pid] = ended  # it was quicker than the news of its start
        else:
            self._over(child, ended)

    def _over(self, child: Child, ended: Ended) -> None:
        child.finish(ended)
        self._on_end(child)
        if child.brief:
            self._forget(child.pid)
            return
        self._past.append(child)
        while len(self._past) > self._keep:
            old = self._past.popleft()
            if self._children.get(old.pid) is old:
                self._forget(old.pid)

    def _forget(self, pid: int) -> None:
        child = self._children.pop(pid, None)
        if child is not None:
            child.close()
            self._on_forget(pid)

    def _lost(self) -> None:
        """The helper was killed: end what it had started, tell everybody."""
        if self._closing:
            return
        count = sweep(self._link.mark)
        # One that was between fork and exec just now could not be known by its environment.
        for later_s in SWEEPS_S:
            asyncio.get_running_loop().call_later(later_s, sweep, self._link.mark)
        for child in self.running():
            self._over(child, Ended(None, "KILL", 0.0, 0))
        self._on_lost(count)
