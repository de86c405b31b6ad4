"""A peer: what one writes without an actor library, a task with a queue for each actor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import Any

from benchmarks.peers.worker import Result, Stopwatch, expect, on_uvloop, resident_bytes, serve

BURST = 5_000
FAN = 1_000
Queue = asyncio.Queue[Any]


async def hop(own: Queue, following: Queue, finished: asyncio.Event) -> None:
    """One place in a ring."""
    while True:
        left = await own.get()
        if left:
            following.put_nowait(left - 1)
        else:
            finished.set()


async def counter(own: Queue) -> None:
    """Count; answer through the future in the message, if there is one."""
    total = 0
    while True:
        by, reply = await own.get()
        total += by
        if reply is not None:
            reply.set_result(total)


def ask_of(queue: Queue, by: int) -> asyncio.Future[int]:
    """Send a message with a future to answer through."""
    reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    queue.put_nowait((by, reply))
    return reply


@asynccontextmanager
async def counters(count: int) -> Any:
    """So many counters; cancelled in the end."""
    queues: list[Queue] = [asyncio.Queue() for _ in range(count)]
    tasks = [asyncio.create_task(counter(queue)) for queue in queues]
    await asyncio.sleep(0)
    yield queues
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def ring(size: int) -> Callable[[int], Result]:
    """A token goes round so many tasks."""

    async def run(hops: int) -> Result:
        stopwatch, finished = Stopwatch(), asyncio.Event()
        queues: list[Queue] = [asyncio.Queue() for _ in range(size)]
        tasks = [
            asyncio.create_task(hop(queue, queues[(number + 1) % size], finished))
            for number, queue in enumerate(queues)
        ]
        await asyncio.sleep(0)
        with stopwatch:
            queues[0].put_nowait(hops)
            await finished.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return stopwatch.result(hops)

    return on_uvloop(run)


async def ask(count: int) -> Result:
    """One ask after another."""
    stopwatch, answer = Stopwatch(), 0
    async with counters(1) as (queue,):
        with stopwatch:
            for _ in range(count):
                answer = await ask_of(queue, 1)
    expect(answer, count)
    return stopwatch.result(count)


async def tell(count: int) -> Result:
    """Flood one receiver, in bursts."""
    stopwatch, answer = Stopwatch(), 0
    async with counters(1) as (queue,):
        with stopwatch:
            for _ in range(count // BURST):
                for _ in range(BURST):
                    queue.put_nowait((1, None))
                answer = await ask_of(queue, 0)
    expect(answer, count)
    return stopwatch.result(count)


async def fan_out(count: int) -> Result:
    """Ask a thousand at once."""
    stopwatch, answers = Stopwatch(), [0]
    async with counters(FAN) as queues:
        with stopwatch:
            for _ in range(count // FAN):
                answers = await asyncio.gather(*(ask_of(queue, 1) for queue in queues))
    expect(sum(answers), count)
    return stopwatch.result(count)


async def spawn(count: int) -> Result:
    """Many tasks with a queue each, then one ask to each."""
    spawning, visiting = Stopwatch(), Stopwatch()
    before = resident_bytes()
    with spawning:
        queues: list[Queue] = [asyncio.Queue() for _ in range(count)]
        tasks = [asyncio.create_task(counter(queue)) for queue in queues]
        await asyncio.sleep(0)
    each = (resident_bytes() - before) / count
    answered = 0
    with visiting:
        for start in range(0, count, FAN):
            asks = (ask_of(queue, 1) for queue in queues[start : start + FAN])
            answered += sum(await asyncio.gather(*asks))
    expect(answered, count)
    held = resident_bytes()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return spawning.result(
        count,
        bytes_each=each,
        visit_cpu_s=visiting.cpu_s,
        visit_wall_s=visiting.wall_s,
        resident_mb=held / 1e6,
    )


if __name__ == "__main__":
    serve(
        {
            "ring-100-sync": ring(100),
            "ring-10000-sync": ring(10_000),
            "ask-sync": on_uvloop(ask),
            "tell": on_uvloop(tell),
            "fan-out": on_uvloop(fan_out),
            "spawn": on_uvloop(spawn),
        }
    )
