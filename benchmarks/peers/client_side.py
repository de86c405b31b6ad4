"""Both sides of the socket rows: a node and its clients, and a bare uvloop echo of the same bytes.

As a contender it is the clients, and starts its servers itself. Ours asks a node through
Dan9's own clients, or (`raw`) writes frames that were encoded before and counts the answers,
which measures the node alone. Bare does the same with the same frames against a uvloop
protocol that writes back whatever it reads.

CPU seconds are those of the client and its server together.
"""

from __future__ import annotations

import asyncio
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.peers.worker import Result, expect, serve
from dan9 import Daemon, System, connect, connect_async, on
from dan9.base.frame import FrameReader, frame
from dan9.edge.protocol import keep_freed_memory

IN_FLIGHT = 100
TEXT = "x" * 16
LARGE = "x" * (1024 * 1024)
PIECE = 256 * 1024
BUSY_S = 45e-6  # with what handling and telling cost, some 50 us
HELLO = frame(msgspec.msgpack.encode({"hello": "dan9", "version": 1}))


class Echo(Daemon):
    """Answers what it is sent."""

    @on
    def say(self, text: str) -> str:
        """Echo."""
        return text


class Flooded(Daemon):
    """Never runs out of messages while it is flooded, and spends 50 us on each."""

    handled: int = 0
    is_over: bool = True

    @on
    def begin(self) -> None:
        """Let the flood begin."""
        self.is_over = False
        for _ in range(1_000):
            self.work.tell()

    @on
    def work(self) -> None:
        """Spend 50 us, and see to it that there is no less to do."""
        until = time.perf_counter() + BUSY_S
        self.handled += 1
        if not self.is_over:
            self.work.tell()
        while time.perf_counter() < until:
            pass

    @on
    def end(self) -> int:
        """Let the flood end; answer how many messages it was."""
        self.is_over = True
        return self.handled


class BareEcho(asyncio.Protocol):
    """Writes back what it reads."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Echo."""
        self._transport.write(data)


async def node() -> None:
    """Be a node with one daemon, until standard input ends."""
    async with System("bench", daemons="none", socket=True) as system:
        await system.spawn(Echo, "echo")
        await system.spawn(Flooded, "flooded")
        await until_closed()


async def bare() -> None:
    """Be a bare echo, until standard input ends."""
    path = os.environ["BARE_SOCKET"]
    server = await asyncio.get_running_loop().create_unix_server(BareEcho, path)
    await until_closed()
    server.close()


async def until_closed() -> None:
    """Say that we are there; wait for the end of standard input."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)


# ------------------------------------------------------------------------------- clients


class Server:
    """A server process: its socket, and the CPU time that it has used."""

    def __init__(self, kind: str, home: str) -> None:
        environment = {
            **os.environ,
            "XDG_RUNTIME_DIR": home,
            "XDG_STATE_HOME": home,
            "BARE_SOCKET": f"{home}/bare.sock",
        }
        self.kind = kind
        self.path = f"{home}/dan9/bench.sock" if kind == "node" else f"{home}/bare.sock"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.peers.client_side", kind],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        expect(self.process.stdout.readline(), b"ready\n")

    def cpu_s(self) -> float:
        """Return the CPU seconds of all its threads."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(path.read_text("ascii").split()[0]) for path in threads) / 1e9

    @contextmanager
    def timed(self, result: Result, operations: int) -> Iterator[None]:
        """Fill in what the block took."""
        cpu, wall = self.cpu_s() + time.process_time(), time.perf_counter()
        yield
        result["wall_s"] = time.perf_counter() - wall
        result["cpu_s"] = self.cpu_s() + time.process_time() - cpu
        result["operations"] = operations


def pinned(pids: list[int], cores: set[int]) -> None:
    """Bind every thread of some processes to some cores."""
    for pid in pids:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), cores)


def ask_frame(number: int, text: str) -> bytes:
    """Return the frame of an ask, as our clients encode it."""
    body = {"id": number, "to": "echo", "type": "say", "payload": {"text": text}}
    return frame(msgspec.msgpack.encode(body))


def sequential(server: Server, count: int, text: str) -> Result:
    """One ask after another, through our blocking client."""
    if server.kind != "node":
        return sequential_raw(server, count, text)
    result: Result = {}
    with connect(server.path) as client:
        client.ask("echo", "say", text=text)
        with server.timed(result, count):
            for _ in range(count):
                answer = client.ask("echo", "say", text=text)
        expect(answer, text)
    return result


def beside_a_flood(server: Server, count: int) -> Result:
    """Ask one daemon one thing after another while another has all that it can do."""
    result: Result = {}
    waits = []
    with connect(server.path) as client:
        before = client.ask("flooded", "end")
        client.tell("flooded", "begin")
        with server.timed(result, count):
            for _ in range(count):
                asked = time.perf_counter()
                answer = client.ask("echo", "say", text=TEXT)
                waits.append(time.perf_counter() - asked)
                expect(answer, TEXT)
        handled = client.ask("flooded", "end", timeout_s=60) - before
    expect(handled > count, True)  # there was a flood all the time
    result["p50_ms"] = statistics.median(waits) * 1e3
    result["p99_ms"] = statistics.quantiles(waits, n=100)[98] * 1e3
    result["flood_per_s"] = handled / result["wall_s"]
    return result


def sequential_raw(server: Server, count: int, text: str) -> Result:
    """One frame after another, encoded before, through a plain socket: the server alone."""
    result: Result = {}
    numbers = range(1, count + 1) if text is TEXT else [1] * count
    frames = [ask_frame(number, text) for number in numbers]
    mark = text.encode()
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(server.path)
        if server.kind == "node":
            raw.sendall(HELLO)
            receive(raw)
        with server.timed(result, count):
            for request in frames:
                raw.sendall(request)
                answer = receive(raw)
        expect(mark in answer, True)
    return result


def receive(raw: socket.socket) -> bytes | bytearray:
    """Read one frame."""
    first = raw.recv(PIECE)
    size = int.from_bytes(first[:4], "big") + 4
    filled = len(first)
    if filled == size:
        return first
    buffer = bytearray(size)
    buffer[:filled] = first
    view = memoryview(buffer)
    while filled < size:
        some = raw.recv_into(view[filled:])
        if not some:
            raise EOFError("the server is gone")
        filled += some
    return buffer


class Pipeline(asyncio.Protocol):
    """Keeps frames in flight: for each that comes back another goes out.

    Args:
        count: How many asks.
        greets: The server is a node, which wants to be greeted first.
    """

    def __init__(self, count: int, *, greets: bool) -> None:
        loop = asyncio.get_running_loop()
        self.is_welcome: asyncio.Future[None] = loop.create_future()
        self.done: asyncio.Future[int] = loop.create_future()
        self._requests = [ask_frame(number, TEXT) for number in range(1, count + 1)]
        self._sent = 0
        self._answered = 0
        self._good = 0
        self._greets = greets
        self._reader = FrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, if that is wanted."""
        self._transport: Any = transport
        if self._greets:
            self._transport.write(HELLO)
        else:
            self.is_welcome.set_result(None)

    def send(self, count: int) -> None:
        """Let so many more go out, in one write."""
        more = self._requests[self._sent : self._sent + count]
        self._sent += len(more)
        if more:
            self._transport.write(b"".join(more))

    def data_received(self, data: bytes) -> None:
        """Count what came back, and send as many again."""
        bodies = self._reader.feed(data)
        if not self.is_welcome.done():
            self.is_welcome.set_result(None)
            return
        mark = TEXT.encode()
        self._good += sum(mark in body for body in bodies)
        self._answered += len(bodies)
        self.send(len(bodies))
        if self._answered == len(self._requests):
            self.done.set_result(self._good)

    def connection_lost(self, error: Exception | None) -> None:
        """Say so to whoever waits."""
        if not self.done.done():
            self.done.set_exception(error or EOFError("the server closed the connection"))


async def pipelined_raw(server: Server, count: int) -> Result:
    """A hundred frames in flight, encoded before: what the server can do."""
    result: Result = {}
    pipeline = Pipeline(count, greets=server.kind == "node")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_unix_connection(lambda: pipeline, server.path)
    await pipeline.is_welcome
    with server.timed(result, count):
        pipeline.send(IN_FLIGHT)
        good = await pipeline.done
    transport.close()
    expect(good, count)
    return result


async def pipelined(server: Server, count: int) -> Result:
    """A hundred asks in flight through our asyncio client; without one, raw frames."""
    if server.kind != "node":
        return await pipelined_raw(server, count)
    result: Result = {}
    async with await connect_async(server.path) as client:
        with server.timed(result, count):
            for _ in range(count // IN_FLIGHT):
                asks: list[Awaitable[Any]] = [
                    client.ask("echo", "say", text=TEXT) for _ in range(IN_FLIGHT)
                ]
                answers = await asyncio.gather(*asks)
        expect(answers, [TEXT] * IN_FLIGHT)
    return result


def on_loop(work: Callable[[Server, int], Awaitable[Result]]) -> Callable[[Server, int], Result]:
    """Run an async workload on uvloop."""

    def run(server: Server, count: int) -> Result:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(work(server, count))  # type: ignore[arg-type]

    return run


def loop_factory() -> Any:
    """Return uvloop's maker of loops, or None."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def on_cores(
    client: int, node: int, work: Callable[[Server, int], Result]
) -> Callable[[Server, int], Result]:
    """Run with client and server bound to a core each: 0 is our first, -1 our last.

    Unbound, the system puts the two on one core or on two as it happens, for seconds at a
    time, and waking another core takes several times as long as all the rest.
    """

    def run(server: Server, count: int) -> Result:
        cores = os.sched_getaffinity(0)
        ordered = sorted(cores)
        pinned([os.getpid()], {ordered[client]})
        pinned([server.process.pid], {ordered[node]})
        try:
            return work(server, count)
        finally:
            pinned([os.getpid(), server.process.pid], cores)

    return run


def main(kind: str) -> None:
    """Be the clients of a node, or of a bare echo."""
    # Or each `recv` maps and unmaps its buffer, 10 to 40 us, until something large was freed: for
    # the one contender sooner than for the other.
    keep_freed_memory()
    small, large = partial(sequential, text=TEXT), partial(sequential, text=LARGE)
    raw = partial(sequential_raw, text=TEXT)
    workloads: dict[str, Callable[[Server, int], Result]] = {
        "sequential": small,
        "sequential-raw": raw,
        "sequential-raw-one-core": on_cores(-1, -1, raw),
        "sequential-raw-two-cores": on_cores(0, -1, raw),
        "pipelined": on_loop(pipelined),
        "pipelined-raw": on_loop(pipelined_raw),
        "large": large,
        "flooded": beside_a_flood,
    }
    with tempfile.TemporaryDirectory(prefix="d9-") as home:
        server = Server(kind, home)
        try:
            serve({name: partial(work, server) for name, work in workloads.items()})
        finally:
            assert server.process.stdin is not None
            server.process.stdin.close()
            server.process.wait()


if __name__ == "__main__":
    match sys.argv[1]:
        case "node" | "bare" as kind:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                runner.run(node() if kind == "node" else bare())
        case "clients-of-node":
            main("node")
        case "clients-of-bare":
            main("bare")
