"""What any network daemon must do, whatever carries its bytes.

Each check takes the system and a ref to the network in it, and speaks only in messages, so
that the daemon over real sockets and its twin in memory are held to the same. `CONTRACT`
lists the checks; tests/daemons/test_network_contract.py runs them over both.
"""

import asyncio
import contextlib

import pytest

from dan9.base.errors import (
    AddressInUse,
    BadPayload,
    Closed,
    Conflict,
    ConnectionRefused,
    NoSpace,
    NotAllowed,
    NotFound,
    TimedOut,
    Unreachable,
)
from dan9.kernel.daemon import Daemon, on

CONTRACT = []
NET = "d9://network/test/net"


def check(function):
    """Enter a check in the contract."""
    CONTRACT.append(function)
    return function


def with_config(**config):
    """Enter a check that wants its network configured."""

    def enter(function):
        function.config = config
        return check(function)

    return enter


class Hearer(Daemon, type="hearer"):
    """Keeps what it is told of connections, in order, and can wait for it."""

    async def on_start(self) -> None:
        self._heard = []
        self._news = asyncio.Event()
        self._echo = False

    @on
    def accepted(self, connection_id: str, listener_id: str, peer: str) -> None:
        self._note("accepted", connection_id, listener_id)

    @on
    async def data(self, connection_id: str, data: bytes) -> None:
        self._note("data", connection_id, data)
        if self._echo:
            await self.ask(NET, "send", connection_id=connection_id, data=data.upper())

    @on
    def closed(self, connection_id: str, reason: str) -> None:
        self._note("closed", connection_id, reason)

    @on
    def datagram(self, listener_id: str, peer: str, data: bytes) -> None:
        self._note("datagram", peer, data)

    @on(concurrent=True)
    async def heard(self, count: int) -> list[list[object]]:
        while len(self._heard) < count:
            self._news.clear()
            await self._news.wait()
        return [list(one) for one in self._heard]

    @on
    def echo(self) -> None:
        self._echo = True

    @on
    async def listen(self, keys: dict[str, object]) -> dict[str, object]:
        return await self.ask(NET, "listen", payload=keys)

    def _note(self, *what: object) -> None:
        self._heard.append(what)
        self._news.set()


async def pair(net):
    """Return the two ends of one connection, and the listener."""
    door = await net.listen(deliver_to="")
    ours = await net.connect("127.0.0.1", door["port"])
    theirs = await net.accept(door["listener_id"])
    return ours["connection_id"], theirs["connection_id"], door["listener_id"]


@check
async def bytes_arrive_whole_and_in_order(system, net):
    """What is sent in pieces arrives as the same bytes, in both directions."""
    a, b, _ = await pair(net)
    for piece in (b"one", "zwei ü", b""):
        await net.send_(a, piece)
    assert await net.receive(b, until=len(b"onezwei ") + 2) == "onezwei ü".encode()
    assert await net.send_(b, b"back") == 4
    assert await net.receive(a, until=4) == b"back"


@check
async def the_end_is_empty_and_our_side_stays_open(system, net):
    """After the other end's last byte a receive is empty, and we may still answer."""
    a, b, _ = await pair(net)
    await net.send_(a, b"question", end=True)
    assert await net.receive(b, until=8) == b"question"
    assert await net.receive(b) == b""
    assert await net.receive(b) == b""
    await net.send_(b, b"answer")
    assert await net.receive(a, until=6) == b"answer"
    with pytest.raises(Closed):
        await net.send_(a, b"more")


@check
async def a_connection_that_both_have_finished_is_gone(system, net):
    """When both halves are closed so is the connection; what arrived is read all the same."""
    a, b, _ = await pair(net)
    await net.send_(a, b"question", end=True)
    while (await net.receive(b)) != b"":
        pass
    await net.send_(b, b"answer", end=True)
    assert await net.receive(a, until=6) == b"answer"
    assert await net.receive(a) == b""
    while (await net.list_())["connections"]:  # noqa: ASYNC110  (it is asked, turn by turn)
        await asyncio.sleep(0)
    assert await net.receive(a) == b""
    with pytest.raises(NotFound):
        await net.send_(a, b"x")


@check
async def disconnect_ends_it_for_both(system, net):
    """A disconnect sends what was accepted, then ends; the id is forgotten."""
    a, b, _ = await pair(net)
    await net.send_(a, b"last words")
    ended = await net.disconnect(a)
    assert ended == {"bytes_in": 0, "bytes_out": 10}
    assert await net.receive(b, until=10) == b"last words"
    assert await net.receive(b) == b""
    with pytest.raises(NotFound):
        await net.send_(a, b"x")
    with pytest.raises(NotFound):
        await net.disconnect(a)
    await net.disconnect(b)
    assert (await net.list_())["connections"] == []


@check
async def what_arrived_before_the_end_is_not_lost(system, net):
    """A connection that is gone is still read to its end."""
    a, b, _ = await pair(net)
    await net.send_(a, b"left behind")
    await net.disconnect(a)
    got = b""
    while piece := await net.receive(b, 4):
        got += piece
    assert got == b"left behind"


@check
async def framing_cuts_lines_counts_and_prefixes(system, net):
    """`until` and `prefix` give whole pieces however the bytes came."""
    a, b, _ = await pair(net)
    await net.send_(a, b"one\r\ntwo")
    await net.send_(a, b"\r\nABCDE")
    assert await net.receive(b, until="\r\n") == b"one\r\n"
    assert await net.receive(b, until="\r\n", encoding="utf-8") == "two\r\n"
    assert await net.receive(b, until=5) == b"ABCDE"
    assert await net.send_(a, b"framed", prefix=4) == 6
    assert await net.receive(b, prefix=4) == b"framed"
    await net.send_(a, b"endless")
    with pytest.raises(BadPayload):
        await net.receive(b, 3, until="\n")
    with pytest.raises(BadPayload):
        await net.receive(b, until="\n", prefix=2)
    with pytest.raises(BadPayload):
        await net.send_(a, b"x" * 300, prefix=1)


@check
async def a_character_that_came_in_half_waits(system, net):
    """Text is never cut within a character, and what is no text stays to be read as bytes."""
    a, b, _ = await pair(net)
    await net.send_(a, "aü".encode()[:2])
    assert await net.receive(b, encoding="utf-8") == "a"
    await net.send_(a, "ü".encode()[1:])
    assert await net.receive(b, encoding="utf-8") == "ü"
    await net.send_(a, b"\xff!")
    with pytest.raises(BadPayload):
        await net.receive(b, encoding="utf-8")
    with pytest.raises(BadPayload):
        await net.receive(b, encoding="no-such-code")
    assert await net.receive(b) == b"\xff!"


@check
async def a_receive_that_gave_up_took_nothing(system, net):
    """A receive past its timeout is refused by name, and the next one gets what came."""
    a, b, _ = await pair(net)
    with pytest.raises(TimedOut):
        await net.receive(b, timeout=0.05)
    with pytest.raises(TimedOut):
        await net.receive(b, until="\n", timeout=0.05)
    await net.send_(a, b"late\n")
    assert await net.receive(b, until="\n", timeout=5.0) == b"late\n"


@check
async def one_reader_a_connection(system, net):
    """A second receive while one waits is a conflict, not a race for bytes."""
    a, b, _ = await pair(net)
    first = asyncio.create_task(net.receive(b))
    await asyncio.sleep(0)
    await net.list_()
    with pytest.raises(Conflict):
        await net.receive(b)
    await net.send_(a, b"x")
    assert await first == b"x"


@with_config(buffer_bytes=4096)
async def a_slow_reader_holds_its_sender_back(system, net):
    """Sends wait once the buffers are full, refuse when given up, and lose nothing."""
    a, b, _ = await pair(net)
    sent = 0
    block = bytes(range(256)) * 1024
    while True:
        try:
            await net.send_.within(0.3)(a, block)
        except TimedOut:
            break
        sent += len(block)
        assert sent < 1 << 26, "an unread connection took 64 MiB"
    rows = {row["connection_id"]: row for row in (await net.list_())["connections"]}
    assert rows[b]["unread"] < 1 << 20
    assert rows[a]["unsent"] < 1 << 20
    await_rest = asyncio.create_task(net.send_(a, b"the end", end=True))
    got = 0
    last = b""
    while piece := await net.receive(b, 1 << 16):
        got += len(piece)
        last = (last + piece)[-7:]
    await await_rest
    assert got == sent + 7
    assert last == b"the end"


@check
async def a_listener_delivers_to_its_asker(system, net):
    """Arrivals come as accepted, data and closed, in that order, to the daemon that listens."""
    hearer = await system.spawn(Hearer, "h1")
    door = await hearer.listen({})
    ours = await net.connect("127.0.0.1", door["port"])
    await net.send_(ours["connection_id"], b"hello")
    await net.disconnect(ours["connection_id"])
    heard = await hearer.heard(3)
    theirs = heard[0][1]
    assert heard[0] == ["accepted", theirs, door["listener_id"]]
    assert heard[1] == ["data", theirs, b"hello"]
    assert heard[2] == ["closed", theirs, "end"]
    assert (await net.list_())["connections"] == []


@check
async def the_last_delivery_can_still_be_answered(system, net):
    """A peer that finished sending gets the answer to its last words, then the end."""
    hearer = await system.spawn(Hearer, "h1")
    await hearer.echo()
    door = await net.listen(deliver_to="h1", until="\n")
    ours = (await net.connect("127.0.0.1", door["port"]))["connection_id"]
    await net.send_(ours, b"a\nb\nc", end=True)
    got = b""
    while piece := await net.receive(ours):
        got += piece
    assert got == b"A\nB\nC"
    heard = await hearer.heard(5)
    assert [one[2] for one in heard[1:4]] == [b"a\n", b"b\n", b"c"]


@check
async def half_open_leaves_the_end_to_the_subscriber(system, net):
    """With half-open the end is told as empty data, and the connection stays."""
    hearer = await system.spawn(Hearer, "h1")
    door = await net.listen(deliver_to="h1", half_open=True)
    ours = (await net.connect("127.0.0.1", door["port"]))["connection_id"]
    await net.send_(ours, b"x", end=True)
    heard = await hearer.heard(3)
    theirs = heard[0][1]
    assert heard[2] == ["data", theirs, b""]
    await net.send_(theirs, b"still here")
    assert await net.receive(ours, until=10) == b"still here"
    await net.disconnect(theirs)
    assert (await hearer.heard(4))[3][0] == "closed"


@check
async def a_connection_we_opened_delivers_too(system, net):
    """`connect` with deliver-to turns what comes back into messages."""
    hearer = await system.spawn(Hearer, "h1")
    door = await net.listen(deliver_to="")
    await net.connect("127.0.0.1", door["port"], deliver_to="h1", prefix=2)
    theirs = (await net.accept(door["listener_id"]))["connection_id"]
    await net.send_(theirs, b"framed", prefix=2)
    await net.disconnect(theirs)
    heard = await hearer.heard(2)
    assert heard[0][2] == b"framed"
    assert heard[1][0] == "closed"


@check
async def a_peer_that_breaks_the_framing_is_closed(system, net):
    """A delivery that cannot be cut as agreed ends its connection and says why."""
    hearer = await system.spawn(Hearer, "h1")
    door = await net.listen(deliver_to="h1", prefix=4)
    ours = (await net.connect("127.0.0.1", door["port"]))["connection_id"]
    await net.send_(ours, b"GET / HTTP/1.1\r\n\r\n")
    heard = await hearer.heard(2)
    assert heard[1][0] == "closed"
    assert "announces" in heard[1][2]


@check
async def deliveries_end_with_their_subscriber(system, net):
    """When the subscriber stops, its listener and its connections are closed."""
    hearer = await system.spawn(Hearer, "h1", restart="temporary")
    door = await hearer.listen({})
    ours = (await net.connect("127.0.0.1", door["port"]))["connection_id"]
    await hearer.heard(1)
    await system.ask("h1", "stop")
    with contextlib.suppress(Closed):
        assert await net.receive(ours, timeout=5.0) == b""
    with pytest.raises(ConnectionRefused):
        await net.connect("127.0.0.1", door["port"])
    assert (await net.list_())["listeners"] == []


@check
async def unlisten_closes_the_door_and_no_connection(system, net):
    """A closed listener refuses callers; what it accepted lives on."""
    a, b, listener = await pair(net)
    port = (await net.list_())["listeners"][0]["port"]
    assert await net.unlisten(listener)
    with pytest.raises(ConnectionRefused):
        await net.connect("127.0.0.1", port)
    await net.send_(a, b"alive")
    assert await net.receive(b, until=5) == b"alive"
    with pytest.raises(NotFound):
        await net.unlisten(listener)
    with pytest.raises(NotFound):
        await net.accept(listener)


@check
async def an_accept_ends_with_its_listener(system, net):
    """Whoever waits for a caller is told when the listener closes, or when time is up."""
    door = await net.listen(deliver_to="")
    with pytest.raises(TimedOut):
        await net.accept(door["listener_id"], timeout=0.05)
    waiting = asyncio.create_task(net.accept(door["listener_id"]))
    await asyncio.sleep(0)
    await net.list_()
    await net.unlisten(door["listener_id"])
    with pytest.raises(Closed):
        await waiting


@check
async def a_port_in_use_is_refused(system, net):
    """Two listeners on one port: the second is told address-in-use."""
    door = await net.listen(deliver_to="")
    with pytest.raises(AddressInUse) as caught:
        await net.listen(door["port"], deliver_to="")
    assert "port=0" in caught.value.hint


@check
async def nobody_there_is_refused(system, net):
    """A port without a listener refuses; a name without an address is unreachable."""
    door = await net.listen(deliver_to="")
    await net.unlisten(door["listener_id"])
    with pytest.raises(ConnectionRefused):
        await net.connect("127.0.0.1", door["port"])
    with pytest.raises(Unreachable):
        await net.connect("no-such-host.invalid", 80)
    with pytest.raises(Unreachable):
        await net.resolve("no-such-host.invalid")
    assert "127.0.0.1" in await net.resolve("localhost")


@with_config(max_connections=4)
async def the_limit_refuses_callers_of_ours_and_holds_others_back(system, net):
    """At the limit a connect is refused by name; a caller waits and is served when room is."""
    a, b, listener = await pair(net)
    port = (await net.list_())["listeners"][0]["port"]
    c = (await net.connect("127.0.0.1", port))["connection_id"]
    d = (await net.accept(listener))["connection_id"]
    with pytest.raises(NoSpace) as caught:
        await net.connect("127.0.0.1", port)
    assert "max-connections" in caught.value.hint
    await net.disconnect(c)
    await net.disconnect(d)
    e = (await net.connect("127.0.0.1", port))["connection_id"]
    assert (await net.accept(listener))["peer"]
    await net.send_(e, b"x")
    del a, b


@with_config(deny=["127.0.0.0/8", "*.denied.example"])
async def a_denied_network_is_denied_by_every_spelling(system, net):
    """A name, a mapped address or 0.0.0.0 that leads to a denied network is refused."""
    for host in ("127.0.0.1", "localhost", "::ffff:127.0.0.1", "0.0.0.0"):
        with pytest.raises(NotAllowed):
            await net.connect(host, 80)
        with pytest.raises(NotAllowed):
            await net.datagram(host, 80, b"x")
    with pytest.raises(NotAllowed):
        await net.resolve("a.denied.example")
    assert (await system.ask(NET, "metrics"))["denied"] >= 8


@with_config(deny=["127.0.0.3"])
async def a_denied_caller_is_turned_away(system, net):
    """Deny rules hold for callers as well, and `allow-from` narrows one listener."""
    door = await net.listen(deliver_to="", allow_from=["127.0.0.2"])
    ours = (await net.connect("127.0.0.1", door["port"]))["connection_id"]
    with contextlib.suppress(Closed):
        assert await net.receive(ours, timeout=5.0) == b""
    assert (await net.list_())["listeners"][0]["turned_away"] == 1


@check
async def datagrams_go_and_come(system, net):
    """A datagram is sent, heard with its sender, and answered; silence is timed out."""
    door = await net.listen(deliver_to="", udp=True)
    asking = asyncio.create_task(net.datagram("127.0.0.1", door["port"], b"ping", timeout=5.0))
    got = await net.accept(door["listener_id"])
    assert got["data"] == b"ping"
    host, _, port = got["peer"].rpartition(":")
    await net.datagram(host, int(port), "pong", listener_id=door["listener_id"])
    reply = await asking
    assert reply["data"] == b"pong"
    assert reply["sent"] == 4
    with pytest.raises(TimedOut):
        await net.datagram("127.0.0.1", door["port"], b"ping", timeout=0.05)
    sent = await net.datagram("127.0.0.1", door["port"], b"ping")
    assert sent["data"] is None
    with pytest.raises(NotFound):
        await net.datagram("127.0.0.1", 9, b"x", listener_id="l99")
    with pytest.raises(BadPayload):
        await net.datagram("127.0.0.1", door["port"], b"x" * 70_000)


@check
async def datagrams_are_delivered(system, net):
    """A UDP listener tells its subscriber who said what."""
    hearer = await system.spawn(Hearer, "h1")
    door = await net.listen(deliver_to="h1", udp=True)
    await net.datagram("127.0.0.1", door["port"], b"one")
    heard = await hearer.heard(1)
    assert heard[0][0] == "datagram"
    assert heard[0][2] == b"one"


@check
async def the_inventory_counts(system, net):
    """`list` shows both ends with bytes in and out, and the listener with its callers."""
    a, b, listener = await pair(net)
    await net.send_(a, b"12345")
    await net.receive(b, until=5)
    held = await net.list_()
    rows = {row["connection_id"]: row for row in held["connections"]}
    assert rows[a]["bytes_out"] == rows[b]["bytes_in"] == 5
    assert rows[a]["state"] == rows[b]["state"] == "open"
    assert rows[b]["listener_id"] == listener
    assert rows[a]["local"] == rows[b]["peer"]
    assert held["listeners"][0]["accepted"] == 1
    status = await system.ask(NET, "status")
    assert (status["connections"], status["listeners"]) == (2, 1)


@check
async def an_idle_connection_is_closed(system, net):
    """Silence longer than the idle timeout closes a connection, and says so."""
    door = await net.listen(deliver_to="")
    ours = await net.connect("127.0.0.1", door["port"], idle_timeout=0.05)
    with pytest.raises(Closed, match="idle"):
        await net.receive(ours["connection_id"])


@check
async def nonsense_is_bad_payload(system, net):
    """Wrong hosts, ports, keys and options are refused before anything is opened."""
    for keys in (
        {"host": "", "port": 80},
        {"host": "a b", "port": 80},
        {"host": "localhost"},
        {"host": "localhost", "port": 0},
        {"host": "localhost", "port": 65_536},
        {"host": "localhost", "port": 80, "cafile": "/x"},
        {"host": "localhost", "port": 80, "prefix": 3},
        {"host": "localhost", "port": 80, "timeout": -1},
        {"host": "localhost", "port": "eighty"},
        {"host": "localhost", "port": 80, "colour": "red"},
    ):
        with pytest.raises(BadPayload):
            await system.ask(NET, "connect", payload=keys)
    for keys in (
        {"port": -1},
        {"tls": {"keyfile": "x"}},
        {"tls": {"certfile": "x", "colour": "red"}},
        {"udp": True, "tls": {"certfile": "x"}},
        {"allow_from": ["10.0.0.0/99"]},
    ):
        with pytest.raises(BadPayload):
            await system.ask(NET, "listen", payload={"deliver_to": "", **keys})
    with pytest.raises(NotFound):
        await net.receive("c999")
    with pytest.raises(LookupError):
        await net.listen(deliver_to="d9://nobody/is/here")
    assert (await net.list_()) == {"connections": [], "listeners": []}
