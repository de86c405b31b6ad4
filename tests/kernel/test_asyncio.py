"""Ordinary asyncio code inside handlers: each of these is somebody's library."""

import asyncio
import contextvars

import anyio
import pytest
from aiohttp import ClientSession, web

from dan9 import Daemon, System, current_message, on
from dan9.testing import run, system

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


class Modern(Daemon):
    """Uses what asyncio and its friends offer."""

    @on
    async def with_timeout(self) -> str:
        """asyncio.timeout cancels and is caught."""
        try:
            async with asyncio.timeout(1):
                await asyncio.sleep(5)
        except TimeoutError:
            return "timed out"
        return "no"

    @on
    async def with_group(self) -> list[int]:
        """TaskGroup runs tasks of asyncio's."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.half(n)) for n in (1, 2, 3)]
        return [task.result() for task in tasks]

    async def half(self, n: int) -> int:
        """Sleep and return."""
        await asyncio.sleep(n)
        return n

    @on
    async def with_failing_group(self) -> str:
        """A task that fails cancels its siblings and the body."""

        async def bad() -> None:
            raise ValueError("bad")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(bad())
                await asyncio.sleep(100)
        except ExceptionGroup as group:
            return type(group.exceptions[0]).__name__
        return "no"

    @on
    async def with_gather(self) -> list[int]:
        """gather and wait_for."""
        return await asyncio.wait_for(asyncio.gather(self.half(1), self.half(2)), 10)

    @on
    async def with_anyio(self) -> list[int]:
        """anyio's task groups and cancel scopes."""
        found: list[int] = []

        async def work(n: int) -> None:
            await anyio.sleep(n)
            found.append(n)

        async with anyio.create_task_group() as group:
            group.start_soon(work, 2)
            group.start_soon(work, 1)
        with anyio.move_on_after(1):
            await anyio.sleep(10)
            found.append(99)
        return found

    @on
    async def with_lock(self) -> str:
        """Locks, queues and events."""
        lock, queue = asyncio.Lock(), asyncio.Queue()

        async def feed() -> None:
            async with lock:
                await queue.put("fed")

        task = asyncio.create_task(feed())
        got = await queue.get()
        await task
        return got

    @on
    async def colour(self, value: str) -> list[str]:
        """Context variables keep to the handler and reach its tasks and threads."""
        before = COLOUR.get()
        COLOUR.set(value)
        await asyncio.sleep(0.1)

        async def inner() -> str:
            return COLOUR.get()

        return [before, COLOUR.get(), await asyncio.create_task(inner())]

    @on
    async def who_in_a_task(self) -> list[str]:
        """The message in hand is known in tasks and threads that the handler starts."""

        async def inner() -> str:
            return current_message().type

        def in_thread() -> str:
            return current_message().type

        return [await asyncio.create_task(inner()), await asyncio.to_thread(in_thread)]

    @on
    async def ask_in_a_task(self, to: str) -> float:
        """An ask made in a task has what is left of the handler's deadline."""

        async def inner() -> float:
            return await self.ask(to, "left")

        return await asyncio.create_task(inner())

    @on
    def left(self) -> float:
        """Return how much of the deadline is left."""
        return current_message().deadline - self.clock.monotonic()

    @on
    async def current(self) -> bool:
        """A handler is asyncio's current task."""
        return asyncio.current_task() is not None

    @on
    async def zero(self) -> str:
        """asyncio.sleep(0) lets others go first."""
        for _ in range(10):
            await asyncio.sleep(0)
        return "done"


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("with_timeout", "timed out"),
        ("with_group", [1, 2, 3]),
        ("with_failing_group", "ValueError"),
        ("with_gather", [1, 2]),
        ("with_anyio", [1, 2]),
        ("with_lock", "fed"),
        ("current", True),
        ("zero", "done"),
    ],
)
def test_in_virtual_time(message, expected):
    """It works as in any asyncio program, and takes no real time."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Modern, "m")
            return await getattr(ref, message).within(100)()

    assert run(main) == expected


@pytest.mark.parametrize("message", ["with_lock", "current", "zero"])
def test_on_uvloop(message):
    """It works on uvloop too."""
    uvloop = pytest.importorskip("uvloop", reason="uvloop is not installed")

    async def main():
        async with System("t", daemons="none", socket=False) as s:
            ref = await s.spawn(Modern, "m")
            return await getattr(ref, message)()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(main())


def test_context_variables_do_not_leak_between_messages():
    """Each handling has a context of its own."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Modern, "m")
            assert await ref.colour("red") == ["none", "red", "red"]
            assert await ref.colour("blue") == ["none", "blue", "blue"]

    run(main)


def test_the_message_in_hand_reaches_tasks_and_threads():
    """current_message() works in what a handler started."""

    async def main():
        async with System("t", daemons="none", socket=False) as s:
            ref = await s.spawn(Modern, "m")
            return await ref.who_in_a_task()

    assert run(main, real=True) == ["who-in-a-task", "who-in-a-task"]


def test_an_ask_is_sent_by_a_task_and_not_by_ensure_future():
    """To asyncio an unsent ask looks like a future that runs: documented, and relied on."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Modern, "m")
            unsent = asyncio.ensure_future(ref.with_lock())
            await asyncio.sleep(1)
            assert s.metrics_of("m")["handled"] == 0
            for send in (asyncio.create_task, asyncio.gather, asyncio.shield):
                sent = send(ref.with_lock())
                await asyncio.sleep(1)
                assert sent.done()
            assert s.metrics_of("m")["handled"] == 3
            assert await unsent == "fed"

    run(main)


def test_deadlines_travel_through_tasks():
    """A task's ask inherits what is left."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Modern, "m")
            await s.spawn(Modern, "other")
            assert await ref.ask_in_a_task.within(2.0)("other") == pytest.approx(2.0)

    run(main)


def test_an_aiohttp_request_inside_a_handler():
    """A whole HTTP client and server live with the kernel on one loop."""

    class Fetcher(Daemon):
        @on
        async def fetch(self, url: str) -> str:
            async with ClientSession() as session, session.get(url) as response:
                return await response.text()

    async def main():
        async def hello(request: web.Request) -> web.Response:
            return web.Response(text="hello")

        app = web.Application()
        app.router.add_get("/", hello)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        try:
            async with System("t", daemons="none", socket=False) as s:
                ref = await s.spawn(Fetcher, "f")
                return await ref.fetch(f"http://127.0.0.1:{port}/")
        finally:
            await runner.cleanup()

    assert run(main, real=True) == "hello"


def test_a_foreign_awaitable_is_refused():
    """What is no asyncio future crashes the handler with a text that says so."""

    class Odd(Daemon):
        @on
        async def odd(self) -> None:
            class Strange:
                def __await__(self):
                    yield "strange"

            await Strange()

    async def main():
        async with system() as s:
            from dan9 import DaemonFailed

            ref = await s.spawn(Odd, "o")
            with pytest.raises(DaemonFailed, match="another library than asyncio"):
                await ref.odd()

    run(main)
