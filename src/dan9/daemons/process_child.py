"""One process of ours: its three pipes, what it printed, how it ended.

Output is read as it comes and kept in a window of fixed size, so that a process
which talks never blocks for want of a listener and never fills memory. With a
listener its lines also queue, and when a thousand of them wait, the pipe is not
read until some were taken: the process then blocks in its own `write`, as it would
on any slow pipe. That is the whole of the backpressure.

A process has ended when its first process has; what it printed until then is read
before anybody hears of the end, even if a grandchild still holds the pipe.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
import termios
from collections import deque
from collections.abc import Callable, Sequence

from dan9.base.errors import Closed
from dan9.daemons.process_rules import Ended

__all__ = ["Child", "Kept", "Lines", "Stdin", "Stream", "Wiring"]

READ_BYTES = 65536
HEARD_BYTES = 1024
"""Where somebody hears the lines, so much is read at a time: a flood of short lines must
not hold up the loop (64 KiB of them in the log took a second)."""
LINE_BYTES = 65536
"""A longer line is delivered in pieces of this size."""
QUEUED_LINES = 1000
"""Lines that wait for the listener before the pipe is no longer read."""


class Kept:
    """The part of an output that is kept: the newest bytes, or the first ones.

    Args:
        limit: How many bytes.
        first: Keep the beginning rather than the end.
    """

    def __init__(self, limit: int, *, first: bool = False) -> None:
        self.total = 0
        self._limit = limit
        self._first = first
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Take what was read."""
        self.total += len(data)
        if self._first:
            data = data[: max(0, self._limit - self._size)]
        if not data:
            return
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) >= self._limit:
            self._size -= len(self._chunks.popleft())

    @property
    def truncated(self) -> bool:
        """True if something was let go."""
        return self.total > self._limit

    def bytes(self) -> bytes:
        """Return what is kept."""
        data = b"".join(self._chunks)
        return data[: self._limit] if self._first else data[-self._limit :]


class Lines:
    """Cut bytes into lines of text.

    Line ends are LF or CRLF and left out; bytes that are no UTF-8 become U+FFFD. A
    carriage return alone (a progress bar) does not end a line.
    """

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that are complete now that `data` came."""
        self._rest += data
        *whole, last = self._rest.split(b"\n")
        lines = [piece for line in whole for piece in self._pieces(line)]
        while len(last) > LINE_BYTES:
            lines.append(self._text(last[:LINE_BYTES]))
            del last[:LINE_BYTES]
        self._rest = last
        return lines

    def flush(self) -> list[str]:
        """Return the line that never ended, if any."""
        rest, self._rest = self._rest, bytearray()
        return self._pieces(rest) if rest else []

    def _pieces(self, line: bytearray) -> list[str]:
        starts = range(0, max(len(line), 1), LINE_BYTES)
        return [self._text(line[at : at + LINE_BYTES]) for at in starts]

    @staticmethod
    def _text(line: bytearray) -> str:
        return line.removesuffix(b"\r").decode("utf-8", "replace")


class Stream:
    """The node's end of one output pipe.

    Args:
        fd: The reading end; owned from here on.
        kept: Where everything goes.
        on_data: Called with each chunk after it was kept.
    """

    def __init__(self, fd: int, kept: Kept, on_data: Callable[[bytes], None]) -> None:
        os.set_blocking(fd, False)
        self.kept = kept
        self.open = True
        self.read_bytes = READ_BYTES
        self._fd = fd
        self._on_data = on_data
        self._loop = asyncio.get_running_loop()
        self._paused = False
        self._loop.add_reader(fd, self.read)

    def read(self) -> int:
        """Read one chunk if there is one; return its size, 0 when there is none now."""
        if not self.open:
            return 0
        try:
            data = os.read(self._fd, self.read_bytes)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            data = b""
        if not data:
            self.close()
            return 0
        self.kept.add(data)
        self._on_data(data)
        return len(data)

    def waiting(self) -> int:
        """Return how many bytes are in the pipe now."""
        if not self.open:
            return 0
        return int.from_bytes(fcntl.ioctl(self._fd, termios.FIONREAD, bytes(4)), sys.byteorder)

    def pause(self) -> None:
        """Read no more until `resume`."""
        if self.open and not self._paused:
            self._paused = True
            self._loop.remove_reader(self._fd)

    def resume(self) -> None:
        """Read again."""
        if self.open and self._paused:
            self._paused = False
            self._loop.add_reader(self._fd, self.read)

    def close(self) -> None:
        """Close our end; a process that still writes gets SIGPIPE."""
        if self.open:
            self.open = False
            self._loop.remove_reader(self._fd)
            os.close(self._fd)


class Stdin:
    """The node's end of the pipe that a process reads.

    Writes happen in the order in which they were asked for, each whole; one that
    meets a full pipe waits, and those behind it.
    """

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self.open = True
        self._fd = fd
        self._loop = asyncio.get_running_loop()
        self._turn = asyncio.Lock()
        self._room: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> int:
        """Write all of it; return how much that was.

        Raises:
            Closed: The pipe is closed, by us or because the process let go of it.
        """
        async with self._turn:
            left = memoryview(data)
            while left:
                if not self.open:
                    raise Closed("its standard input is closed")
                try:
                    left = left[os.write(self._fd, left) :]
                except (BlockingIOError, InterruptedError):
                    await self._wait()
                except OSError as error:
                    self.close()
                    raise Closed("it reads its standard input no more") from error
        return len(data)

    async def finish(self, data: bytes) -> None:
        """Write and close; a process that did not want it all is no error."""
        try:
            await self.write(data)
        except Closed:
            return
        self.close()

    async def _wait(self) -> None:
        room = self._loop.create_future()
        self._room = room
        self._loop.add_writer(self._fd, _resolve, room)
        try:
            await room
        finally:
            self._room = None
            if self.open:
                self._loop.remove_writer(self._fd)

    def close(self) -> None:
        """Close the pipe: the process reads its end."""
        if self.open:
            self.open = False
            self._loop.remove_writer(self._fd)
            os.close(self._fd)
            if self._room is not None:
                _resolve(self._room)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Wiring:
    """Three fresh pipes: `theirs` are for the process, the rest is kept here.

    Args:
        stdin: Make a pipe for standard input; otherwise it is empty.
    """

    def __init__(self, *, stdin: bool) -> None:
        self.input: int | None = None
        if stdin:
            theirs_in, self.input = os.pipe2(os.O_CLOEXEC)
        else:
            theirs_in = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self.output, theirs_out = os.pipe2(os.O_CLOEXEC)
        self.errors, theirs_err = os.pipe2(os.O_CLOEXEC)
        self.theirs = (theirs_in, theirs_out, theirs_err)

    def feeder(self) -> Stdin | None:
        """Return our end of the input, if there is one."""
        return Stdin(self.input) if self.input is not None else None

    def stream(self, name: str, kept: Kept, take: Callable[[bytes], None]) -> Stream:
        """Return our end of `stdout` or `stderr`."""
        return Stream(self.output if name == "stdout" else self.errors, kept, take)

    def close(self) -> None:
        """Close our ends: the process was never made."""
        for fd in (self.input, self.output, self.errors):
            if fd is not None:
                os.close(fd)


class Child:
    """A process that was started here.

    Args:
        pid: Its process id, also its group and its session.
        argv: What it runs.
        wiring: Its pipes.
        kept_bytes: How much of each output is kept.
        brief: Keep the beginning of the output rather than its end; nobody asks later.
    """

    def __init__(
        self, pid: int, argv: Sequence[str], wiring: Wiring, *, kept_bytes: int, brief: bool = False
    ) -> None:
        self.pid = pid
        self.argv = list(argv)
        self.brief = brief
        self.started = 0.0
        self.ended: Ended | None = None
        self.over = False  # it has ended and all that it said was read
        self.stdin = wiring.feeder()
        self.exit: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self.lines: deque[tuple[str, str]] = deque()
        self.dropped = 0
        self._listening = False
        self._flowing = False
        self._news: asyncio.Future[None] | None = None
        self._line_hooks: list[Callable[[str, str], None]] = []
        self._cutters = {"stdout": Lines(), "stderr": Lines()}
        self.streams = {
            name: wiring.stream(name, Kept(kept_bytes, first=brief), self._taker(name))
            for name in ("stdout", "stderr")
        }

    # output

    def listen(self) -> None:
        """Queue lines for `next_line`; until `flow` the oldest of them give way."""
        self._listening = True
        self._hear()

    def flow(self) -> None:
        """From now on a full queue stops the pipes instead."""
        self._flowing = True
        self._regulate()

    def on_line(self, hook: Callable[[str, str], None]) -> Callable[[], None]:
        """Call `hook` with every line's stream and text; return what ends that."""
        self._line_hooks.append(hook)
        self._hear()
        return lambda: self._line_hooks.remove(hook)

    async def next_line(self) -> tuple[str, str] | None:
        """Return the next line with its stream; None when it has ended and all was told."""
        while not self.lines:
            if self.over:
                return None
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        line = self.lines.popleft()
        self._regulate()
        return line

    def take_dropped(self) -> int:
        """Return how many lines gave way since the last call."""
        count, self.dropped = self.dropped, 0
        return count

    async def ending(self) -> Ended:
        """Wait for its end; any number may."""
        return await asyncio.shield(self.exit)

    def deaf(self) -> None:
        """Nobody listens any more: keep reading, queue nothing."""
        self._listening = False
        self.lines.clear()
        self._regulate()

    def _hear(self) -> None:
        for stream in self.streams.values():
            stream.read_bytes = HEARD_BYTES

    def _taker(self, name: str) -> Callable[[bytes], None]:
        def take(data: bytes) -> None:
            if self._listening or self._line_hooks:
                self._offer(name, self._cutters[name].feed(data))

        return take

    def _offer(self, name: str, lines: list[str]) -> None:
        for line in lines:
            for hook in list(self._line_hooks):
                hook(name, line)
        if not self._listening or not lines:
            return
        self.lines.extend((name, line) for line in lines)
        while not self._flowing and len(self.lines) > QUEUED_LINES:
            self.lines.popleft()
            self.dropped += 1
        self._regulate()
        self._tell()

    def _regulate(self) -> None:
        full = self._listening and self._flowing and len(self.lines) >= QUEUED_LINES
        for stream in self.streams.values():
            if full:
                stream.pause()
            else:
                stream.resume()

    def _tell(self) -> None:
        if self._news is not None:
            _resolve(self._news)

    # the end

    def finish(self, ended: Ended) -> None:
        """It has exited: read what is in the pipes now, then say so.

        No more than that: a grandchild may go on printing.
        """
        self.ended = ended
        if self.stdin is not None:
            self.stdin.close()
        self._drain({name: stream.waiting() for name, stream in self.streams.items()})

    def _drain(self, left: dict[str, int]) -> None:
        heard = self._listening or bool(self._line_hooks)
        for name, stream in self.streams.items():
            while left[name] > 0 and (size := stream.read()):
                left[name] -= size
                if heard and left[name] > 0:  # the rest in another turn of the loop
                    asyncio.get_running_loop().call_soon(self._drain, left)
                    return
        for name, cutter in self._cutters.items():
            self._offer(name, cutter.flush())
        self.over = True
        if not self.exit.done():
            self.exit.set_result(self.ended)  # type: ignore[arg-type]  # set by finish
        self._tell()

    def close(self) -> None:
        """Close every pipe."""
        if self.stdin is not None:
            self.stdin.close()
        for stream in self.streams.values():
            stream.close()
