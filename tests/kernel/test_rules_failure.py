"""What is an answer, what is a crash, and how a daemon ends: rules 7, 8, 9, 10 and 12."""

import asyncio
import threading

import pytest

from dan9 import Daemon, DaemonFailed, Refused, TimedOut, on
from dan9.base import errors
from dan9.base.errors import BadConfig, BadPayload, Dan9Error, NotFound, NotRunning, to_form
from dan9.base.events import DaemonStopped
from dan9.kernel.supervisor import ChildSpec
from dan9.testing import run, system

CODES = [
    "unknown-daemon",
    "unknown-message",
    "bad-payload",
    "bad-address",
    "ambiguous-name",
    "not-running",
    "suspended",
    "mailbox-full",
    "timed-out",
    "ask-cycle",
    "crashed",
    "not-allowed",
    "not-supported",
    "not-found",
    "exists",
    "not-a-directory",
    "is-a-directory",
    "not-empty",
    "outside-root",
    "read-only",
    "no-space",
    "permission",
    "refused",
    "unreachable",
    "closed",
    "tls",
    "address-in-use",
    "no-such-process",
    "not-executable",
    "corrupt",
    "conflict",
]


class TooDear(Refused):
    """A refusal of a user's."""

    code = "too-dear"


class Shop(Daemon):
    """Refuses, crashes, waits."""

    sold: int = 0

    @on
    async def buy(self, what: str = "") -> int:
        """Sell, or say no."""
        self.sold += 1
        if what == "gold":
            raise TooDear("gold is too dear", hint="buy bread")
        if what == "bomb":
            raise ValueError("boom")
        return self.sold

    @on
    async def order(self, timeout_s: float) -> str:
        """Ask somebody who never answers."""
        return await self.ask("d9://wall/default/wall", "listen", timeout_s=timeout_s)

    @on
    async def pass_on(self) -> int:
        """Ask somebody who crashes."""
        return await self.ask("d9://shop/default/other", "buy", what="bomb")

    @on(concurrent=True, cancellable=True)
    async def receive(self) -> None:
        """Wait on the world."""
        await asyncio.Event().wait()

    @on(cancellable=True)
    async def hold(self) -> None:
        """Wait on the world, and block the daemon."""
        await asyncio.Event().wait()

    @on
    async def stay(self) -> None:
        """Wait for ever, and not be cancelled by anybody but a kill."""
        await asyncio.Event().wait()


class Wall(Daemon):
    """Never answers."""

    @on(concurrent=True)
    async def listen(self) -> str:
        """Say nothing."""
        await asyncio.Event().wait()
        return ""


def test_every_code_of_the_rules_has_its_class():
    """A reader of the error form can rely on the list; all but a crash are refusals."""
    classes = [getattr(errors, name) for name in errors.__all__]
    found = {
        cls.code: cls for cls in reversed(classes) if isinstance(cls, type) and hasattr(cls, "code")
    }
    assert set(CODES) <= set(found)
    for code in CODES:
        assert issubclass(found[code], Refused) == (code != "crashed"), code


def test_a_refusal_of_a_users_is_an_answer():
    """The asker gets it whole, the daemon keeps its state; a tell's is logged and counted."""

    async def main() -> None:
        lines = []
        async with system() as made:
            made.log_sink = lines.append
            shop = await made.spawn(Shop, "shop")
            with pytest.raises(TooDear) as caught:
                await shop.buy("gold")
            form = to_form(caught.value)["error"]
            assert form == {
                "code": "too-dear",
                "text": "gold is too dear",
                "hint": "buy bread",
                "address": "d9://shop/default/shop",
                "message": "buy",
            }
            shop.buy.tell("gold")
            assert await shop.buy() == 3
            status = await shop.status()
            assert (status["refused"], status["failed"], status["restarts"]) == (2, 0, 0)
            assert [line.level for line in lines if "gold is too dear" in line.text] == ["warning"]

    run(main)


def test_a_crash_by_tell_is_logged_and_counted():
    """Nobody waits for the answer, and yet it is heard of."""

    async def main() -> None:
        lines = []
        async with system() as made:
            made.log_sink = lines.append
            shop = await made.spawn(Shop, "shop")
            shop.buy.tell("bomb")
            await asyncio.sleep(1)
            assert (await shop.status())["failed"] == 1
            assert any("boom" in line.text for line in lines)
            assert await shop.buy() == 1  # a new instance

    run(main)


def test_a_nested_deadline_that_is_let_through_is_an_answer():
    """`timed-out` is a named refusal: a slow neighbour takes nobody down."""

    async def main() -> None:
        async with system() as made:
            await made.spawn(Wall, "wall")
            shop = await made.spawn(Shop, "shop")
            await shop.buy()
            with pytest.raises(TimedOut) as caught:
                await shop.order(0.5)
            assert caught.value.address == "d9://wall/default/wall"
            assert await shop.buy() == 2

    run(main)


def test_a_nested_crash_that_is_let_through_is_a_crash():
    """`DaemonFailed` is no refusal."""

    async def main() -> None:
        async with system() as made:
            await made.spawn(Shop, "other")
            shop = await made.spawn(Shop, "shop")
            await shop.buy()
            with pytest.raises(DaemonFailed):
                await shop.pass_on()
            await asyncio.sleep(1)
            assert await shop.buy() == 1

    run(main)


def test_a_child_spec_says_how_long_stopping_may_take():
    """Its `shutdown_s` wins over the class's."""

    async def main() -> None:
        async with system() as made:
            spec = ChildSpec(Shop, "shop", shutdown_s=0.5)
            shop = await made.spawn(Shop, "shop", spec=spec)
            shop.stay.tell()
            await asyncio.sleep(0)
            before = made.clock.monotonic()
            await shop.stop()
            assert made.clock.monotonic() - before == pytest.approx(0.5)

    run(main)


@pytest.mark.parametrize("drain", [False, True])
@pytest.mark.parametrize("waits", ["receive", "hold"])
def test_what_waits_on_the_world_does_not_hold_a_stop(waits, drain):
    """Once nothing is queued it is cancelled at once; its asker hears of it."""

    async def main() -> None:
        async with system() as made:
            shop = await made.spawn(Shop, "shop")
            waiting = [asyncio.create_task(made.ask("shop", waits))]
            await asyncio.sleep(0.1)
            before = made.clock.monotonic()
            await shop.stop(drain=drain)
            assert made.clock.monotonic() == before
            for task in waiting:
                with pytest.raises(NotRunning):
                    await task
            account = made.conservation()
            assert account.pop("sent") == sum(account.values())

    run(main)


def test_a_draining_stop_handles_the_queue_before_it_cancels():
    """What was queued behind a wait that does not block is handled."""

    async def main() -> None:
        async with system() as made:
            shop = await made.spawn(Shop, "shop")
            waiting = asyncio.create_task(made.ask("shop", "receive"))
            await asyncio.sleep(0.1)
            asks = [asyncio.create_task(made.ask("shop", "buy")) for _ in range(3)]
            await asyncio.sleep(0)
            await shop.stop(drain=True)
            assert await asyncio.gather(*asks) == [1, 2, 3]
            with pytest.raises(NotRunning):
                await waiting

    run(main)


def test_a_thread_that_does_not_end_is_abandoned_and_said():
    """It cannot be killed: the daemon ends without it, and its reply goes nowhere."""
    gate, inside = threading.Event(), threading.Event()

    class Blocking(Daemon, shutdown_s=0.01):
        @on(thread=True)
        def block(self) -> str:
            """Block."""
            inside.set()
            gate.wait(5)
            return "late"

    async def main() -> None:
        lines = []
        async with system(clock=None) as made:
            made.log_sink = lines.append
            ref = await made.spawn(Blocking, "b")
            asking = asyncio.create_task(made.ask("b", "block"))
            await asyncio.to_thread(inside.wait, 5)
            try:
                await ref.stop()
                assert made.state_of("b") == "stopped"
            finally:
                gate.set()
            with pytest.raises(Dan9Error):
                await asking
            assert any("did not end: abandoned" in line.text for line in lines), lines

    run(main, real=True)


def test_down_stops_in_reverse_order_of_start():
    """The last that was started ends first."""

    async def main() -> None:
        ended = []
        async with system() as made:
            made.subscribe_events(
                lambda event: ended.append(event.address) if isinstance(event, DaemonStopped) else 0
            )
            for name in ("a", "b", "c"):
                shop = await made.spawn(Shop, name)
                shop.buy.tell()
        ours = [address[-1] for address in ended if "//shop/" in address]
        assert ours == ["c", "b", "a"]

    run(main)


def test_a_name_is_free_when_the_failed_start_is_heard_of():
    """Who spawns again at once succeeds."""
    attempts = []

    class Shy(Daemon):
        async def on_start(self) -> None:
            attempts.append(1)
            if len(attempts) == 1:
                raise NotFound("no courage")

    async def main() -> None:
        async with system() as made:
            with pytest.raises(NotFound):
                await made.spawn(Shy, "shy")
            await made.spawn(Shy, "shy")
            assert made.state_of("shy") == "running"

    run(main)


def test_an_init_that_wants_arguments_is_refused_at_the_definition():
    """The hint says where configuration goes; one without arguments is called."""
    with pytest.raises(BadConfig, match="Config"):

        class Wrong(Daemon):
            def __init__(self, size):
                self.size = size

    class Right(Daemon):
        def __init__(self) -> None:
            super().__init__()
            self._cache = [7]

        @on
        def look(self) -> list[int]:
            """Show what was made."""
            return self._cache

    async def main() -> None:
        async with system() as made:
            assert await (await made.spawn(Right, "r")).look() == [7]

    run(main)


def test_an_own_loop_cannot_be_durable():
    """The journal follows handlers; a loop that takes messages itself has none."""
    with pytest.raises(BadConfig, match="durable"):

        class Loop(Daemon, durable=True):
            async def main(self) -> None:
                pass


def test_a_reply_that_no_wire_carries_is_a_refusal_where_replies_are_copied():
    """Under copy=True the asker hears bad-payload at once, and the daemon goes on."""

    class Odd(Daemon):
        @on
        def odd(self) -> object:
            return object()

    async def main():
        async with system() as s:
            ref = await s.spawn(Odd, "odd")
            with pytest.raises(BadPayload):
                await ref.odd()
            assert s.clock.monotonic() == 0.0
            assert await ref.ping() == "pong"

    run(main)
