"""Words and calls: rules 1 to 6, 13 to 16, 18 and 19, as far as the other files leave room."""

import asyncio
from dataclasses import dataclass

import pytest

from dan9 import BadAddress, Daemon, MailboxFull, NotAllowed, TimedOut, current_message, every, on
from dan9.base.errors import BadConfig, BadPayload
from dan9.daemons.network import Network
from dan9.daemons.process import Process
from dan9.kernel.ref import Ref
from dan9.testing import run, system

SPEC = (
    "address name group system log clock ref ask tell send spawn sleep inbox main migrate "
    "ping describe status metrics get_metric set_metric start stop restart suspend resume "
    "checkpoint restore on_anything"
)


@dataclass
class Point:
    """A record."""

    x_axis: int = 0
    tags: tuple[str, ...] = ()


class Desk(Daemon):
    """Answers, slowly if told to."""

    heard: list[str] = []

    @on
    async def work(self, seconds: float = 0.0) -> str:
        """Be busy."""
        await self.sleep(seconds)
        return "done"

    @on(timeout_s=2.0)
    async def patient(self) -> None:
        """Never answer; who asks waits two seconds."""
        await asyncio.Event().wait()

    @on
    def point(self) -> Point:
        """Return a record."""
        return Point(1, ("a",))

    @on
    def note(self, text: str) -> None:
        """Keep a text and who said it."""
        self.heard.append(f"{text} from {current_message().sender}")

    @on
    def all_(self) -> list[str]:
        """Return what was noted."""
        return self.heard

    @on
    def whom(self) -> Ref:
        """Return a ref to oneself."""
        return self.system.ref(Desk, self.address)


class Loop(Daemon):
    """Owns its inbox: handles every second message and answers in its own way."""

    seen: int = 0

    @on
    async def add(self, by: int = 1) -> int:
        """Count; run by dispatch only."""
        self.seen += by
        return self.seen

    @every("1s")
    async def tick(self) -> None:
        """Count a hundred; run by dispatch only."""
        self.seen += 100

    async def main(self) -> None:
        """Dispatch `add`, answer `show`, let the rest lie."""
        async for message in self.inbox():
            if message.type == "add":
                await self.dispatch(message)
            elif message.type == "show":
                message.reply({"seen": self.seen, "where": Point(2)})
            elif message.type == "own":
                message.reply(object())


@pytest.mark.parametrize("name", SPEC.split())
def test_a_reserved_name_is_refused(name):
    """As a message, and as a field, when the class is made; the hint says what to do."""
    with pytest.raises(BadConfig, match=r"reserved|hook"):
        type("Bad", (Daemon,), {name: on(_handler(name))})
    with pytest.raises(BadConfig):
        type("Bad", (Daemon,), {"__annotations__": {name: int}})
    with pytest.raises(BadConfig):
        type("Bad", (Daemon,), {"__annotations__": {name: int}, name: 0})


def _handler(name):
    def handler(self) -> None:
        """Do nothing."""

    handler.__name__ = name
    return handler


def test_by_name_through_a_ref_has_the_deadline_of_any_ask():
    """`ref.ask("work")` gives up after five seconds like `ref.work()`."""

    async def main() -> None:
        async with system() as made:
            desk = await made.spawn(Desk, "desk")
            for ask, wait_s in (
                (desk.ask("work", seconds=60.0), 5.0),
                (desk.ask("work", seconds=60.0, timeout_s=1.0), 1.0),
                (desk.ask("work", seconds=60.0, timeout_s="250ms"), 0.25),
                (desk.work.within("500ms")(60.0), 0.5),
                (desk.patient(), 2.0),
                (desk.ask("patient"), 2.0),
                (made.ask("desk", "patient"), 2.0),
                (desk.patient.within(1.0)(), 1.0),
            ):
                before = made.clock.monotonic()
                with pytest.raises(TimedOut):
                    await ask
                assert made.clock.monotonic() - before == pytest.approx(wait_s)

    run(main)


def test_typed_calls_return_the_annotated_type_and_by_name_ones_plain_data():
    """A record stays a record for who knows its class."""

    async def main() -> None:
        async with system() as made:
            desk = await made.spawn(Desk, "desk")
            assert await desk.point() == Point(1, ("a",))
            assert await made.ask("desk", "point") == {"x_axis": 1, "tags": ["a"]}
            assert await made.ask("desk", "whom") == desk.address

    run(main)


def test_a_wire_hears_plain_data_and_addresses():
    """Keys of records are kebab-case on a wire, refs their addresses, own loops no exception."""

    async def main() -> None:
        answers = []

        def ask(to: str, type_: str) -> None:
            made.wire_ask(
                "d9://client/test/3", to, type_, {}, callback=lambda *found: answers.append(found)
            )

        async with system() as made:
            await made.spawn(Desk, "desk")
            await made.spawn(Loop, "loop")
            for to, type_ in (
                ("desk", "point"),
                ("desk", "whom"),
                ("loop", "show"),
                ("loop", "own"),
            ):
                ask(to, type_)
                await asyncio.sleep(0.01)
            assert answers[:3] == [
                (True, {"x-axis": 1, "tags": ["a"]}),
                (True, "d9://desk/default/desk"),
                (True, {"seen": 0, "where": {"x-axis": 2, "tags": []}}),
            ]
            assert answers[3][0] is False
            assert answers[3][1]["error"]["code"] == "bad-payload"
            assert await made.ask("loop", "show") == {"seen": 0, "where": {"x_axis": 2, "tags": []}}

    run(main)


def test_a_wires_tell_to_a_full_mailbox_is_a_dead_letter():
    """There is nobody to raise to; a daemon's own tell raises."""

    async def main() -> None:
        async with system() as made:
            desk = await made.spawn(Desk, "desk", mailbox=1)
            desk.work.tell(1.0)
            await asyncio.sleep(0.1)
            desk.note.tell("room")
            with pytest.raises(MailboxFull):
                desk.note.tell("no room")
            made.wire_tell("d9://client/test/3", "desk", "note", {"text": "no room"})
            letter = made.dead_letters.last(1)[0]
            assert (letter.reason, letter.sender) == ("mailbox-full", "d9://client/test/3")
            await asyncio.sleep(1)
            made.wire_tell("d9://client/test/3", "desk", "note", {"text": "hi"})
            assert (await desk.all_())[-1] == "hi from d9://client/test/3"
            account = made.conservation()
            assert account.pop("sent") == sum(account.values())

    run(main)


def test_a_sender_cannot_be_given_in_the_payload():
    """The node stamps it; a key of that name is a key that the message does not have."""

    async def main() -> None:
        async with system() as made:
            await made.spawn(Desk, "desk")
            with pytest.raises(BadPayload, match="sender"):
                await made.ask("desk", "note", text="x", sender="d9://forged/system/forged")

    run(main)


@pytest.mark.parametrize("busy", [True, False])
def test_control_is_answered_out_of_band(busy):
    """All seven are answered at once: while a handler awaits, and while the daemon is suspended."""

    async def main() -> None:
        async with system() as made:
            desk = await made.spawn(Desk, "desk", mailbox=1)
            if busy:
                desk.work.tell(3.0)
                await asyncio.sleep(0.1)
                desk.work.tell(0.0)  # and full
            before = made.clock.monotonic()
            assert (await desk.status())["state"] == "running"
            assert (await desk.describe())["messages"]
            assert "work-count" not in await desk.metrics()
            assert await desk.start() == "running"
            assert await desk.suspend() == "suspended"
            assert (await desk.status())["state"] == "suspended"
            assert await desk.resume() == "running"
            assert made.clock.monotonic() == before
            assert await desk.restart() == "running"
            assert await desk.stop() == "stopped"

    run(main)


def test_messages_about_the_daemon_keep_their_place_past_the_limit():
    """ping, get-metric and set-metric wait for what is in hand, and pass a full mailbox."""

    async def main() -> None:
        async with system() as made:
            desk = await made.spawn(Desk, "desk", mailbox=1)
            desk.work.tell(3.0)
            await asyncio.sleep(0)
            desk.work.tell(0.0)
            before = made.clock.monotonic()
            assert await desk.ping() == "pong"
            assert made.clock.monotonic() - before == pytest.approx(3.0)
            assert await desk.get_metric("work-count") == 2

    run(main)


def test_an_own_loop_owns_its_inbox():
    """Handlers run only by dispatch, those of the clock included."""

    async def main() -> None:
        async with system() as made:
            loop = await made.spawn(Loop, "loop")
            assert await loop.add(2) == 2
            await asyncio.sleep(10)
            assert (await made.ask("loop", "show"))["seen"] == 2
            assert (await loop.status())["handled"] >= 11  # ticks were taken, and let lie

    run(main)


@pytest.mark.parametrize(
    ("cls", "types"),
    [(Process, ("wait", "run")), (Network, ("receive", "connect", "http"))],
)
def test_what_waits_on_the_world_does_not_block_its_daemon(cls, types):
    """Such handlers are concurrent, and a stop cancels those that may wait for ever."""
    verbs = cls._d9_behaviour.verbs
    assert not [type_ for type_ in types if verbs[type_].concurrent == 1]
    assert not [type_ for type_ in types if not verbs[type_].cancellable]


def test_an_ask_to_a_pattern_is_refused():
    """Only a tell reaches many."""

    async def main() -> None:
        async with system() as made:
            await made.spawn(Desk, "a")
            with pytest.raises(BadAddress):
                await made.ask("d9://desk/default/*", "work")
            with pytest.raises(BadAddress):
                await made.send("d9://desk/default/*", "work")

    run(main)


def test_a_refusal_by_allow_is_counted_and_logged():
    """`not-allowed` shows in the status, in the log and among the dead letters."""

    async def main() -> None:
        lines = []
        async with system() as made:
            made.log_sink = lines.append
            rules = [{"from": "d9://desk/**", "messages": ["work"]}]
            desk = await made.spawn(Desk, "desk", allow=rules)
            with pytest.raises(NotAllowed):
                await desk.work()
            found = made.status_of("desk")
            assert found["refused"] == 1
            assert made.dead_letters.by_reason == {"not-allowed": 1}
            assert any("not allowed" in line.text for line in lines)

    run(main)


def test_nothing_printed_names_a_place_in_memory():
    """Two runs of one seed print the same: reprs and crash texts hold no object's id."""

    class Stranger(Daemon):
        @on
        async def go(self) -> None:
            """Await what is none of asyncio's."""

            class Odd:
                def __await__(self):
                    yield object()

            await Odd()

    async def main() -> None:
        async with system() as made:
            odd = await made.spawn(Stranger, "odd")
            ask = odd.go()
            texts = [repr(odd), repr(ask), str(odd), repr(made.cell_of("odd")), repr(odd.go)]
            with pytest.raises(Exception, match="asyncio") as caught:
                await ask
            texts += [str(caught.value), caught.value.trace, made.status_of("odd")["last-error"]]
            texts += [repr(made.cell_of("odd").instance), repr(ask.verb)]
            assert not [text for text in texts if "0x" in text]

    run(main)
