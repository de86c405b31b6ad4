"""How one talks to a daemon: refs, asks, tells, sends, by type and by name."""

import asyncio
import threading
from collections.abc import Coroutine

import pytest

from dan9 import (
    BadAddress,
    BadPayload,
    Config,
    Daemon,
    NotAllowed,
    Ref,
    System,
    UnknownDaemon,
    UnknownMessage,
    current_message,
    gather,
    on,
)
from dan9.base.errors import AddressInUse, AmbiguousName, BadConfig
from dan9.testing import run, system


class Counter(Daemon):
    """Counts what it is told to count."""

    total: int = 0
    step: Config[int] = 1

    @on
    async def add(self, by: int = 1) -> int:
        """Add to the total."""
        self.total += by * self.step
        return self.total

    @on
    def get(self) -> int:
        """Return the total."""
        return self.total

    @on
    def list_(self, for_: str = "") -> list[str]:
        """Return what it was called with."""
        return [for_]

    @on
    async def twice(self, by: int) -> int:
        """Add twice, in place: no message is sent."""
        await self.add(by)
        return await self.add(by)

    @on
    async def later(self, by: int) -> None:
        """Queue an `add` to oneself."""
        self.add.tell(by)

    @on
    def who(self) -> str:
        """Return the sender's address."""
        return current_message().sender

    def secret(self) -> int:
        """Not a message."""
        return 42


class Caller(Daemon):
    """Asks another."""

    to: Config[str]

    @on
    async def who(self) -> str:
        """Ask the other who is asking."""
        return await self.ask(self.to, "who")


def test_a_ref_asks_tells_and_sends():
    """The three ways of saying something reach the handler."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1", group="demo")
            assert await ref.add(2) == 2
            ref.add.tell(3)
            await ref.add.send(by=4)
            assert await ref.get() == 9
            assert await ref.add.within(1.0)(1) == 10
            assert ref.address == "d9://counter/demo/c1"

    run(main)


def test_nothing_is_sent_before_await():
    """A call makes a coroutine; awaiting it sends."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            call = ref.add(5)
            assert isinstance(call, Coroutine)
            assert await ref.get() == 0
            assert await call == 5

    run(main)


def test_by_name_and_by_kebab_case():
    """`ask`, `tell` and `send` by name take addresses, bare names and both spellings."""

    async def main():
        async with system() as s:
            await s.spawn(Counter, "c1", group="demo", step=10)
            assert await s.ask("c1", "add", by=2) == 20
            s.tell("d9://counter/demo/c1", "add", by=1)
            await s.send("c1", "add", by=1)
            assert await s.ask("c1", "get") == 40
            assert await s.ask("c1", "list", **{"for": "x"}) == ["x"]
            assert await s.ask("c1", "list", for_="x") == ["x"]

    run(main)


def test_a_trailing_underscore_is_dropped_from_type_and_key():
    """`list_` is the message `list`, `for_` the key `for`."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            assert await ref.list_(for_="me") == ["me"]
            described = await ref.describe()
            one = next(m for m in described["messages"] if m["type"] == "list")
            assert list(one["payload"]["properties"]) == ["for"]

    run(main)


def test_state_is_private():
    """An attribute that is no handler raises AttributeError, whatever it is."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            for name in ("total", "step", "secret", "nothing"):
                with pytest.raises(AttributeError, match="state is private; ask for it"):
                    getattr(ref, name)

    run(main)


def test_on_itself_a_call_runs_in_place_and_tell_queues():
    """Inside a daemon `self.add(2)` is a plain call; `self.add.tell(2)` is a message."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            assert await ref.twice(2) == 4
            assert (await ref.metrics())["twice-count"] == 1
            assert "add-count" not in await ref.metrics()
            await ref.later(1)
            assert await ref.get() == 5

    run(main)


def test_the_node_stamps_the_sender():
    """A handler sees the address of the daemon that asked; outside it is a client's."""

    async def main():
        async with system() as s:
            await s.spawn(Counter, "c1")
            caller = await s.spawn(Caller, "a", to="c1")
            assert await caller.who() == "d9://caller/default/a"
            assert (await s.ask("c1", "who")).startswith("d9://client/")

    run(main)


def test_a_client_s_number_is_no_hint():
    """Nobody who mistypes a name means the number of a connection."""

    class Guest(Daemon, type="client"):
        pass

    async def main():
        async with system() as s:
            await s.spawn(Guest, "15", group="home")
            with pytest.raises(UnknownDaemon) as unknown:
                await s.ask("w1", "ping")
            assert unknown.value.hint == "`dan9 ps` lists who is there"

    run(main)


def test_unknown_things_are_named_with_the_nearest():
    """A wrong address, name, message or key is refused with a hint."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1", group="demo")
            with pytest.raises(UnknownDaemon, match="did you mean c1"):
                await s.ask("c2", "get")
            with pytest.raises(UnknownDaemon):
                await s.ask("d9://counter/other/c1", "get")
            with pytest.raises(BadAddress):
                await s.ask("d9://a/b/c/d", "get")
            with pytest.raises(BadAddress):
                await s.ask("C 1", "get")
            with pytest.raises(BadAddress, match="pattern"):
                await s.ask("d9://counter/**", "get")
            with pytest.raises(UnknownMessage, match="did you mean add"):
                await s.ask("c1", "ad")
            with pytest.raises(BadPayload) as bad:
                await s.ask("c1", "add", by="x")
            assert bad.value.at == "by"
            with pytest.raises(BadPayload):
                await s.ask("c1", "add", bye=1)
            with pytest.raises(BadPayload, match="unexpected keyword"):
                await ref.add(bye=1)
            assert await ref.get() == 0, "a caller's mistake does not crash the daemon"

    run(main)


def test_bare_names_prefer_system_and_refuse_doubt():
    """A bare name resolves if one daemon has it, group system first."""

    async def main():
        async with system() as s:
            await s.spawn(Counter, "x", group="one")
            await s.spawn(Counter, "x", group="two")
            with pytest.raises(AmbiguousName) as doubt:
                s.resolve("x")
            assert len(doubt.value.chain) == 2
            await s.spawn(Counter, "x", group="system")
            assert s.resolve("x") == "d9://counter/system/x"

    run(main)


def test_names_are_unique_and_get_or_spawn_finds():
    """A second spawn of an address is refused; get_or_spawn returns the first."""

    async def main():
        async with system() as s:
            first = await s.spawn(Counter, "c1")
            with pytest.raises(AddressInUse):
                await s.spawn(Counter, "c1")
            assert await s.get_or_spawn(Counter, "c1") == first
            both = await asyncio.gather(
                s.get_or_spawn(Counter, "c2"), s.get_or_spawn(Counter, "c2")
            )
            assert both[0] == both[1]

    run(main)


def test_a_narrowed_ref_lets_only_some_messages_through():
    """`ref.only` narrows and cannot be widened again, by name neither."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            reader = ref.only("get", "status")
            assert await reader.get() == 0
            with pytest.raises(NotAllowed):
                await reader.add(1)
            with pytest.raises(NotAllowed):
                reader.add.tell(1)
            with pytest.raises(NotAllowed):
                await reader.only("add").add(1)
            with pytest.raises(NotAllowed):
                await s.ask(reader, "add", by=1)
            assert await ref.get() == 0

    run(main)


def test_tell_to_a_pattern_reaches_every_match():
    """Publish and subscribe: a tell to a pattern goes to all it fits."""

    async def main():
        async with system() as s:
            refs = [await s.spawn(Counter, f"c{n}", group="pub") for n in range(3)]
            other = await s.spawn(Counter, "c9", group="private")
            s.tell("d9://counter/pub/*", "add", by=7)
            assert await gather(*(ref.get() for ref in refs)) == [7, 7, 7]
            assert await other.get() == 0

    run(main)


def test_asyncio_takes_an_ask_for_a_coroutine_and_a_future():
    """create_task, gather, wait_for and TaskGroup work with asks."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            assert await asyncio.create_task(ref.add(1)) == 1
            assert await asyncio.gather(ref.add(1), ref.add(1)) == [2, 3]
            assert await asyncio.wait_for(ref.add(1), 5) == 4
            async with asyncio.TaskGroup() as group:
                task = group.create_task(ref.add(1))
            assert task.result() == 5
            assert await gather(ref.add(1), ref.add(1)) == [6, 7]
            assert await asyncio.wait_for(gather(ref.add(1), ref.add(1)), 5) == [8, 9]

    run(main)


def test_gather_gives_errors_among_the_results_if_asked():
    """`return_errors` keeps going; without it the first error is raised."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            with pytest.raises(BadPayload):
                await gather(ref.add(1), ref.add(x=1))
            good, bad = await gather(ref.add(1), ref.add(x=1), return_errors=True)
            assert good == 2
            assert isinstance(bad, BadPayload)

    run(main)


def test_many_positional_and_keyword_arguments():
    """Up to six positional arguments and any keywords arrive as they were given."""

    class Many(Daemon):
        @on
        def take(self, a: int, b: int, c: int, d: int, e: int, f: int = 6, **rest: int) -> list:
            return [a, b, c, d, e, f, rest]

    async def main():
        async with system() as s:
            ref = await s.spawn(Many, "m")
            assert await ref.take(1, 2, 3, 4, 5) == [1, 2, 3, 4, 5, 6, {}]
            assert await ref.take(1, 2, 3, 4, 5, 0) == [1, 2, 3, 4, 5, 0, {}]
            assert await ref.take(1, b=2, c=3, d=4, e=5, z=9) == [1, 2, 3, 4, 5, 6, {"z": 9}]

    run(main)


def test_tells_from_any_thread_arrive_in_order():
    """`tell` is safe from threads; order is kept per thread."""

    class Sink(Daemon):
        async def on_start(self) -> None:
            self._seen = []

        @on
        def put(self, who: int, number: int) -> None:
            self._seen.append((who, number))

        @on
        def seen(self) -> list[tuple[int, int]]:
            return self._seen

    async def main():
        async with System("t", daemons="none", socket=False) as s:
            ref = await s.spawn(Sink, "sink")

            def work(who: int) -> None:
                for number in range(300):
                    ref.put.tell(who, number)

            threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
            for thread in threads:
                thread.start()
            await asyncio.to_thread(lambda: [thread.join() for thread in threads])
            while len(await ref.seen()) < 1200:  # noqa: ASYNC110
                await asyncio.sleep(0)
            seen = await ref.seen()
            for who in range(4):
                assert [n for w, n in seen if w == who] == list(range(300))

    run(main, real=True)


def test_under_virtual_time_other_threads_may_not_tell():
    """Determinism holds for one thread: a tell from another raises."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Counter, "c1")
            errors = []

            def work() -> None:
                try:
                    ref.add.tell(1)
                except RuntimeError as error:
                    errors.append(str(error))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            assert "virtual time" in errors[0]

    run(main)


def test_a_function_can_be_a_daemon():
    """An async function is an own loop; any message type reaches it."""

    async def echo(daemon) -> None:
        async for message in daemon.inbox():
            message.reply({"type": message.type, **message.payload})

    async def main():
        async with system() as s:
            ref = await s.spawn(echo, "e")
            assert isinstance(ref, Ref)
            assert await ref.ask("anything", x=1) == {"type": "anything", "x": 1}
            with pytest.raises(BadConfig):
                await s.spawn(lambda: None, "f")

    run(main)


def test_an_own_loop_dispatches_to_handlers():
    """`self.dispatch(message)` runs the handler and answers, refusals included."""

    class Loop(Daemon):
        total: int = 0

        async def main(self) -> None:
            async for message in self.inbox():
                await self.dispatch(message)

        @on
        async def add(self, by: int) -> int:
            self.total += by
            return self.total

    async def main():
        async with system() as s:
            ref = await s.spawn(Loop, "l")
            assert await ref.add(2) == 2
            with pytest.raises(UnknownMessage):
                await ref.ask("nothing")
            with pytest.raises(BadPayload):
                await ref.add(x=1)
            assert await ref.ping() == "pong"

    run(main)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"address": on(lambda self: 1)}, "reserved"),
        ({"status": 3}, "reserved"),
        ({"on_fire": lambda self: 1}, "hooks"),
        ({"main": lambda self: 1}, "own loop"),
        ({"__annotations__": {"made": System}, "made": None}, "no type of the schema"),
        ({"__annotations__": {"n": "int"}}, "without a default"),
        ({"__annotations__": {"n": "int"}, "n": "x"}, "default"),
    ],
)
def test_a_wrong_class_is_refused_when_it_is_made(body, says):
    """Reserved names, hooks, fields: all are checked when the class is made."""
    with pytest.raises(BadConfig, match=says):
        type("Wrong", (Daemon,), body)


def test_a_handler_cannot_be_a_generator_or_share_a_fields_name():
    """What cannot be a message is refused at the definition."""
    with pytest.raises(BadConfig, match="generator"):

        class Gen(Daemon):
            @on
            def stream(self):
                yield 1

    with pytest.raises(BadConfig):

        class Both(Daemon):
            total: int = 0

            @on
            def total_(self) -> int:
                return 1


def test_configuration_is_checked_at_spawn():
    """An unknown, missing or ill-typed configuration is refused and the name stays free."""

    async def main():
        async with system() as s:
            with pytest.raises(BadConfig, match="did you mean step"):
                await s.spawn(Counter, "c1", stpe=1)
            with pytest.raises(BadConfig):
                await s.spawn(Counter, "c1", step="many")
            with pytest.raises(BadConfig, match="needs to"):
                await s.spawn(Caller, "c1")
            with pytest.raises(BadAddress):
                await s.spawn(Counter, "Not A Name")
            ref = await s.spawn(Counter, "c1", step=2, total=5)
            assert await ref.add(1) == 7

    run(main)


def test_mutable_defaults_are_copied_per_instance():
    """Two daemons of a class never share a list."""

    class Bag(Daemon):
        items: list[int] = []

        @on
        def put(self, item: int) -> list[int]:
            self.items.append(item)
            return self.items

    async def main():
        async with system() as s:
            a, b = await s.spawn(Bag, "a"), await s.spawn(Bag, "b")
            await a.put(1)
            assert await b.put(2) == [2]

    run(main)


def test_copying_breaks_what_no_wire_carries():
    """Under copy=True a payload passes through encode and decode."""

    class Keep(Daemon):
        async def on_start(self) -> None:
            self._kept = None

        @on
        def keep(self, items: list[int]) -> None:
            self._kept = items

        @on
        def kept(self) -> list[int]:
            return self._kept

    async def main(copy):
        async with system(copy=copy) as s:
            ref = await s.spawn(Keep, "k")
            mine = [1]
            await ref.keep(mine)
            mine.append(2)
            return await ref.kept()

    assert run(lambda: main(copy=False)) == [1, 2]
    assert run(lambda: main(copy=True)) == [1]
