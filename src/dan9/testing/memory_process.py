"""A process daemon without processes: programs are coroutines, time is virtual.

The twin shares everything with the daemon but the machine below: messages, jobs,
lines, readiness by a line, restarts, refusals. A program is a coroutine function that takes a
`Program` and returns an exit code; a signal cancels it. true, false, echo, cat and sleep
are there, as tests of real processes use them; derive and add others:

    class Machine(MemoryProcess):
        programs = {**MemoryProcess.programs, "server": server}
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, ClassVar, TypeAlias

from dan9.base.errors import Closed, NoSpace, NoSuchProcess, NotExecutable
from dan9.daemons import process_table
from dan9.daemons.process import Process
from dan9.daemons.process_child import Child, Kept, Stdin, Stream, Wiring
from dan9.daemons.process_family import Family
from dan9.daemons.process_link import Order
from dan9.daemons.process_rules import Ended
from dan9.kernel.daemon import on

__all__ = ["MemoryProcess", "Program"]

NODE = 1000
"""The pid of every node in memory; those of its processes follow."""


class _Input(Stdin):
    """Standard input as a queue."""

    def __init__(self) -> None:
        self.open = True
        self.chunks: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def write(self, data: bytes) -> int:
        if not self.open:
            raise Closed("its standard input is closed")
        self.chunks.put_nowait(data)
        return len(data)

    def close(self) -> None:
        if self.open:
            self.open = False
            self.chunks.put_nowait(None)


class _Output(Stream):
    """An output that is handed over as it is printed."""

    def __init__(self, kept: Kept, take: Callable[[bytes], None]) -> None:
        self.kept = kept
        self.open = True
        self.take = take
        self.flowing = asyncio.Event()
        self.flowing.set()

    def read(self) -> int:
        return 0

    def waiting(self) -> int:
        return 0

    def pause(self) -> None:
        self.flowing.clear()

    def resume(self) -> None:
        self.flowing.set()

    def close(self) -> None:
        self.open = False
        self.flowing.set()


class _Wiring(Wiring):
    """Streams without pipes."""

    def __init__(self, *, stdin: bool) -> None:
        self._stdin = _Input() if stdin else None

    def feeder(self) -> Stdin | None:
        return self._stdin

    def stream(self, name: str, kept: Kept, take: Callable[[bytes], None]) -> Stream:
        return _Output(kept, take)

    def close(self) -> None:
        return


class Program:
    """What a program in memory has: arguments, environment, input and output.

    Attributes:
        argv: The argument vector.
        env: The environment.
        cwd: The directory.
        ignores: Signals that do not end it; KILL always does.
    """

    def __init__(self, child: Child, order: Order) -> None:
        self.argv = list(order.argv)
        self.env = dict(order.env)
        self.cwd = order.cwd
        self.ignores: set[int] = set()
        self._child = child

    async def stdin(self) -> AsyncIterator[bytes]:
        """Iterate over what is written to it, to the end."""
        feeder = self._child.stdin
        while isinstance(feeder, _Input) and (chunk := await feeder.chunks.get()) is not None:
            yield chunk

    async def print(self, data: str | bytes, stream: str = "stdout") -> None:
        """Print; waits while the listener is behind."""
        output = self._child.streams[stream]
        assert isinstance(output, _Output)
        await output.flowing.wait()
        body = data.encode() if isinstance(data, str) else data
        output.kept.add(body)
        output.take(body)


async def _true(_program: Program) -> int:
    return 0


async def _false(_program: Program) -> int:
    return 1


async def _echo(program: Program) -> int:
    await program.print(" ".join(program.argv[1:]) + "\n")
    return 0


async def _cat(program: Program) -> int:
    async for chunk in program.stdin():
        await program.print(chunk)
    return 0


async def _sleep(program: Program) -> int:
    await asyncio.sleep(sum(float(word) for word in program.argv[1:]))
    return 0


Programs: TypeAlias = dict[str, Callable[[Program], Awaitable[int]]]


class _MemoryFamily(Family):
    """Processes that are tasks."""

    def __init__(
        self, programs: dict[str, Callable[[Program], Awaitable[int]]], **how: Any
    ) -> None:
        super().__init__(**how)
        self._programs = programs
        self._last = NODE
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._running_programs: dict[int, Program] = {}
        self._signals: dict[int, int] = {}

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
        running = len(self.running())
        if running >= self._most:
            raise NoSpace(f"{running} processes run already, as many as max-processes allows")
        program = self._programs.get(order.argv[0].rpartition("/")[2])
        if program is None:
            raise NotExecutable(
                f"there is no command {order.argv[0]!r} in PATH (in memory)",
                at="payload.command",
                hint=f"this twin has {', '.join(self._programs)}",
            )
        self._last += 1
        child = Child(
            self._last, order.argv, _Wiring(stdin=stdin), kept_bytes=kept_bytes, brief=brief
        )
        child.started = now
        self._children[child.pid] = child
        if attach is not None:
            attach(child)
        self._running_programs[child.pid] = Program(child, order)
        task = asyncio.get_running_loop().create_task(self._run(child, program))
        self._tasks[child.pid] = task
        await asyncio.sleep(0)  # one that is cancelled before its first step would never end
        return child

    async def _run(self, child: Child, program: Callable[[Program], Awaitable[int]]) -> None:
        status = 0
        try:
            status = await program(self._running_programs[child.pid])
        except asyncio.CancelledError:
            status = -self._signals.pop(child.pid, signal.SIGKILL)
        finally:
            del self._running_programs[child.pid], self._tasks[child.pid]
            self._over(child, Ended.of(status, 0.0, 4096))

    async def signal(self, pid: int, number: int, scope: str = "session") -> int:
        program = self._running_programs.get(pid)
        if program is None:
            return 0
        if number == signal.SIGKILL or (number and number not in program.ignores):
            self._signals[pid] = number
            self._tasks[pid].cancel()
        return 1

    async def end(self, pid: int, number: int, grace: float, scope: str = "session") -> None:
        pids = list(self._tasks) if scope == "all" else [pid]
        for one in pids:
            await self.signal(one, number)
        tasks = [self._tasks[one] for one in pids if one in self._tasks]
        if not tasks:
            return
        _done, left = await asyncio.wait(tasks, timeout=grace)
        for one, task in list(self._tasks.items()):
            if task in left:
                await self.signal(one, signal.SIGKILL)
        await asyncio.gather(*left)

    async def close(self, grace: float) -> None:
        await self.end(0, signal.SIGTERM, grace, "all")

    def signal_stranger(self, pid: int, number: int, *, allowed: bool) -> None:
        raise NoSuchProcess(f"there is no process {pid}", hint="list shows those there are")

    async def rows(self, fields: Sequence[str], *, everyone: bool) -> list[dict[str, Any]]:
        return [{field: self._facts(child)[field] for field in fields} for child in self.running()]

    async def facts(self, pid: int) -> process_table.Facts:
        child = self.get(pid)
        if child is None:
            raise NoSuchProcess(f"there is no process {pid}", hint="list shows those there are")
        facts: process_table.Facts = {**self._facts(child), "children": [], "open_files": []}  # type: ignore[typeddict-item]  # same keys
        return facts

    @staticmethod
    def _facts(child: Child) -> dict[str, Any]:
        return {
            "pid": child.pid,
            "name": child.argv[0].rpartition("/")[2],
            "state": "sleeping",
            "ppid": NODE,
            "group": child.pid,
            "session": child.pid,
            "threads": 1,
            "cpu": 0.0,
            "memory": 4096,
            "started": child.started,
            "command": child.argv,
            "user": "nobody",
        }


class MemoryProcess(Process, type="process"):
    """Plays a machine's processes in memory; for tests and simulations."""

    programs: ClassVar[Programs] = {
        "true": _true,
        "false": _false,
        "echo": _echo,
        "cat": _cat,
        "sleep": _sleep,
    }

    def _make_family(self, **how: Any) -> Family:
        return _MemoryFamily(self.programs, **how)

    @on
    def getpid(self) -> int:
        """Reply the pid of a node in memory: always the same."""
        return NODE
