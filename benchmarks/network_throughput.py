"""Bytes through the network daemon against a bare asyncio stream, in one run on uvloop.

Both sides of a loopback connection live in this process. The bare program writes 64 KiB
chunks and drains, and reads 64 KiB at a time; the daemon is asked to `send` and to `receive`
the same. Rounds alternate, so that a noisy machine is noisy for both.

    python -m benchmarks.network_throughput [MEBIBYTES] [ROUNDS]

Bound: the daemon's rate / the bare stream's ≥ 0.5.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

from dan9.daemons.network import Network
from dan9.testing import system

CHUNK = 65_536
BOUND = 0.5


async def bare(total: int) -> float:
    """Return seconds for `total` bytes through asyncio's streams."""
    arrived: asyncio.Future[asyncio.StreamReader] = asyncio.get_running_loop().create_future()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        arrived.set_result(reader)
        await gone.wait()
        writer.close()

    gone = asyncio.Event()
    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    reader = await arrived
    data = bytes(CHUNK)

    async def write() -> None:
        for _ in range(total // CHUNK):
            writer.write(data)
            await writer.drain()

    async def read() -> None:
        left = total
        while left:
            left -= len(await reader.read(CHUNK))

    seconds = await timed(write, read)
    gone.set()
    writer.close()
    server.close()
    return seconds


async def through(net: Network, total: int) -> float:
    """Return seconds for `total` bytes through the daemon."""
    door = await net.listen(deliver_to="")
    ours = (await net.connect("127.0.0.1", door["port"]))["connection_id"]
    theirs = (await net.accept(door["listener_id"]))["connection_id"]
    data = bytes(CHUNK)

    async def write() -> None:
        for _ in range(total // CHUNK):
            await net.send_(ours, data)

    async def read() -> None:
        left = total
        while left:
            left -= len(await net.receive(theirs, CHUNK))

    seconds = await timed(write, read)
    await net.disconnect(ours)
    await net.disconnect(theirs)
    await net.unlisten(door["listener_id"])
    return seconds


async def timed(*work: Callable[[], Awaitable[None]]) -> float:
    """Return how long both sides took together."""
    start = time.perf_counter()
    await asyncio.gather(*(one() for one in work))
    return time.perf_counter() - start


async def main(mebibytes: int, rounds: int) -> int:
    """Measure, print, and return the exit status."""
    total = mebibytes << 20
    async with system(copy=False, clock=None) as world:
        net = await world.spawn(Network, "net")
        await bare(1 << 22)
        await through(net, 1 << 22)
        ratios, rates = [], []
        for _ in range(rounds):
            ours, theirs = await through(net, total), await bare(total)
            ratios.append(theirs / ours)
            rates.append((total / ours, total / theirs))
    daemon, stream = (statistics.median(column) / 1e9 for column in zip(*rates, strict=True))
    ratio = statistics.median(ratios)
    print(f"daemon {daemon:.2f} GB/s, bare stream {stream:.2f} GB/s, ratio {ratio:.2f}")
    print(f"bound {BOUND}: {'met' if ratio >= BOUND else 'MISSED'}")
    return 0 if ratio >= BOUND else 1


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(size, count)))
