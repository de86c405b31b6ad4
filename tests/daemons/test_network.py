"""The network daemon against real peers: servers, other programs, rude ones, crowds.

What holds for any network stands in tests/contracts/network_contract.py.
"""

import asyncio
import contextlib
import os
import resource
import socket
import ssl
import stat
import struct
import subprocess
import sys

import pytest
import trustme

from dan9.base.errors import (
    AddressInUse,
    BadConfig,
    BadPayload,
    Closed,
    ConnectionRefused,
    NotAllowed,
    NotFound,
    NotSupported,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from dan9.daemons.network import Network
from dan9.testing import run, system
from tests.contracts.network_contract import Hearer, pair

pytestmark = pytest.mark.real


def with_network(test, **config):
    """Run `test(system, net)` in real time with a network daemon."""

    async def main():
        async with system(copy=False) as world:
            net = await world.spawn(Network, "net", group="test", **config)
            await test(world, net)

    run(main, real=True)


@contextlib.contextmanager
def program(*command, ready, cwd=None):
    """Run a program until the block ends; give it and the line that says it is ready."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )
    try:
        for line in process.stdout:
            if ready in line:
                break
        else:
            pytest.fail(f"{command[0]} ended before it was ready")
        yield process, line
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@contextlib.contextmanager
def http_server(folder):
    """Serve a folder by Python's own server; give its port."""
    command = (sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1")
    with program(*command, ready="Serving", cwd=folder) as (_, line):
        yield int(line.split(" port ")[1].split()[0])


@pytest.fixture
def authority(tmp_path):
    """A certificate authority of the test's own; its file and a server's certificate."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    server = ca.issue_cert("localhost", "127.0.0.1")
    server.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    client = ca.issue_cert("client@example.org")
    client.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    return tmp_path


def open_sockets():
    """Return how many sockets this process holds."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            count += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return count


# -- HTTP ----------------------------------------------------------------------------------


def test_http_fetches_from_pythons_own_server(tmp_path):
    """A page comes with status, headers and text; a missing one is an answer too."""
    (tmp_path / "page.txt").write_text("grüße")
    (tmp_path / "blob.bin").write_bytes(b"\x00\xff")

    async def test(world, net):
        with http_server(tmp_path) as port:
            page = await net.http(f"http://127.0.0.1:{port}/page.txt")
            assert (page["status"], page["reason"]) == (200, "OK")
            assert page["body"] == "grüße"
            assert page["headers"]["content-length"] == "7"
            assert (await net.http(f"http://127.0.0.1:{port}/blob.bin"))["body"] == b"\x00\xff"
            raw = await net.http(f"http://127.0.0.1:{port}/page.txt", encoding=None)
            assert raw["body"] == "grüße".encode()
            assert (await net.http(f"http://127.0.0.1:{port}/none"))["status"] == 404
            assert (await net.http(f"http://127.0.0.1:{port}/", "PUT", body="x"))["status"] == 501
            with pytest.raises(BadPayload, match="more than 3 bytes"):
                await net.http(f"http://127.0.0.1:{port}/page.txt", max_bytes=3)
        with pytest.raises((ConnectionRefused, Closed)):
            await net.http(f"http://127.0.0.1:{port}/page.txt")

    with_network(test)


@pytest.mark.parametrize("url", ["", "nonsense", "ftp://127.0.0.1/", "http://", "http://a b/"])
def test_a_url_that_is_none_is_refused(url):
    """What is no http URL is bad payload."""

    async def test(world, net):
        with pytest.raises(BadPayload):
            await net.http(url)

    with_network(test)


def test_http_obeys_the_policy_after_resolution_and_after_a_redirect():
    """A name that leads to a denied address is refused, in a redirect as well."""

    async def test(world, net):
        door = await net.listen(deliver_to="")
        with pytest.raises(NotAllowed, match=r"leads to 127\.0\.0\.1"):
            await net.http("http://localhost:9/")

        async def serve():
            one = (await net.accept(door["listener_id"]))["connection_id"]
            await net.receive(one, until="\r\n\r\n")
            head = "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n"
            await net.send_(one, head + "Location: http://localhost:1/\r\n\r\n")

        serving = asyncio.create_task(serve())
        with pytest.raises(NotAllowed, match="port 1 "):
            await net.http(f"http://127.0.0.1:{door['port']}/")
        await serving

    with_network(test, deny=["127.0.0.1:1-1023"])


def test_http_over_tls_is_verified(authority):
    """An https server with an unknown authority is refused; with its authority it answers."""

    async def test(world, net):
        door = await net.listen(deliver_to="", tls={"certfile": str(authority / "server.pem")})

        async def serve():
            while True:
                one = (await net.accept(door["listener_id"]))["connection_id"]
                await net.receive(one, until="\r\n\r\n")
                await net.send_(one, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        serving = asyncio.create_task(serve())
        with pytest.raises(TlsFailed):
            await net.http(f"https://localhost:{door['port']}/")
        page = await net.http(
            f"https://localhost:{door['port']}/", cafile=str(authority / "ca.pem")
        )
        assert page["body"] == "ok"
        page = await net.http(f"https://localhost:{door['port']}/", verify=False)
        assert page["status"] == 200
        serving.cancel()

    with_network(test)


def test_http_gives_up_on_a_server_that_never_answers():
    """A silent server is timed out by name, and the daemon goes on."""

    async def test(world, net):
        door = await net.listen(deliver_to="")
        with pytest.raises(TimedOut):
            await net.http(f"http://127.0.0.1:{door['port']}/", timeout=0.1)
        one = (await net.accept(door["listener_id"]))["connection_id"]
        await net.disconnect(one)
        serving = asyncio.create_task(net.accept(door["listener_id"]))
        asking = asyncio.create_task(net.http(f"http://127.0.0.1:{door['port']}/"))
        two = (await serving)["connection_id"]
        await net.send_(two, b"SSH-2.0-OpenSSH\r\n", end=True)
        with pytest.raises(Closed):
            await asking

    with_network(test)


# -- TLS -----------------------------------------------------------------------------------


@pytest.mark.needs("openssl")
def test_an_openssl_server_is_spoken_to_and_verified(authority):
    """TLS to OpenSSL's own server: refused by default, spoken with its authority known."""
    command = ("openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "9", "-rev")
    certificate = ("-cert", str(authority / "server.pem"), "-key", str(authority / "server.pem"))

    async def test(world, net):
        with program(*command, *certificate, ready="ACCEPT") as (_, line):
            port = int(line.rpartition(":")[2])
            with pytest.raises(TlsFailed, match="certificate was not accepted") as caught:
                await net.connect("localhost", port, tls=True)
            assert "cafile" in caught.value.hint
            with pytest.raises(TlsFailed, match="certificate was not accepted"):
                await net.connect(
                    "127.0.0.1", port, True, cafile=str(authority / "ca.pem"), server_name="other"
                )
            one = await net.connect("localhost", port, True, cafile=str(authority / "ca.pem"))
            await net.send_(one["connection_id"], b"drawer\n")
            assert await net.receive(one["connection_id"], until="\n") == b"reward\n"
            with pytest.raises(NotSupported):
                await net.send_(one["connection_id"], b"", end=True)

    with_network(test)


def test_a_self_signed_server_is_refused_by_default(authority):
    """No certificate is trusted that the system's authorities do not vouch for."""

    async def test(world, net):
        tls = {"certfile": str(authority / "server.pem")}
        door = await net.listen(deliver_to="", tls=tls)
        with pytest.raises(TlsFailed):
            await net.connect("localhost", door["port"], tls=True)
        ours = await net.connect("localhost", door["port"], tls=True, verify=False)
        theirs = await net.accept(door["listener_id"])
        await net.send_(ours["connection_id"], b"hello")
        assert await net.receive(theirs["connection_id"], until=5) == b"hello"
        assert (await net.list_())["connections"][0]["kind"] == "tls"
        await net.disconnect(ours["connection_id"])
        assert await net.receive(theirs["connection_id"]) == b""

    with_network(test)


def test_a_listener_may_ask_callers_for_a_certificate(authority):
    """With `cafile` a TLS listener takes only callers that the authority vouches for."""

    async def test(world, net):
        ca, mine = str(authority / "ca.pem"), str(authority / "client.pem")
        tls = {"certfile": str(authority / "server.pem"), "cafile": ca}
        door = await net.listen(deliver_to="", tls=tls)
        with contextlib.suppress(TlsFailed, Closed):
            one = await net.connect("localhost", door["port"], True, cafile=ca)
            # In TLS 1.3 the client learns of its refusal when it first reads.
            assert await net.receive(one["connection_id"]) == b""
        one = await net.connect("localhost", door["port"], True, cafile=ca, certfile=mine)
        theirs = await net.accept(door["listener_id"])
        await net.send_(one["connection_id"], b"it is me")
        assert await net.receive(theirs["connection_id"], until=8) == b"it is me"
        assert (await net.list_())["listeners"][0]["turned_away"] == 1

    with_network(test)


def test_old_tls_is_refused(authority):
    """A client that offers nothing above TLS 1.1 gets no connection."""

    async def test(world, net):
        door = await net.listen(deliver_to="", tls={"certfile": str(authority / "server.pem")})
        context = ssl.create_default_context(cafile=str(authority / "ca.pem"))
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLS"):
            context.minimum_version = ssl.TLSVersion.TLSv1
        with pytest.warns(DeprecationWarning, match="TLS"):
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection(
                "127.0.0.1", door["port"], ssl=context, server_hostname="localhost"
            )

    with_network(test)


def test_tls_files_that_are_missing_or_no_certificates_are_named(tmp_path):
    """A certificate that is not there or none is refused before anything is opened."""
    (tmp_path / "junk.pem").write_text("junk")

    async def test(world, net):
        with pytest.raises(NotFound, match=r"none\.pem"):
            await net.listen(tls={"certfile": str(tmp_path / "none.pem")})
        with pytest.raises(TlsFailed):
            await net.listen(tls={"certfile": str(tmp_path / "junk.pem")})
        with pytest.raises(NotFound):
            await net.connect("localhost", 1, True, cafile=str(tmp_path / "none.pem"))

    with_network(test)


def test_plain_text_to_a_tls_listener_harms_nobody(authority):
    """Garbage instead of a handshake is turned away, its seat is given back."""

    async def test(world, net):
        door = await net.listen(deliver_to="", tls={"certfile": str(authority / "server.pem")})
        one = await net.connect("127.0.0.1", door["port"])
        await net.send_(one["connection_id"], b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(Closed):
            while await net.receive(one["connection_id"]):
                pass
        with contextlib.suppress(NotFound):
            await net.disconnect(one["connection_id"])
        ca = str(authority / "ca.pem")
        two = await net.connect("localhost", door["port"], True, cafile=ca)
        assert two["connection_id"]
        assert (await net.list_())["listeners"][0]["turned_away"] == 1

    with_network(test, max_connections=2)


# -- rude peers and crowds -----------------------------------------------------------------


def test_a_peer_that_resets_is_told_after_what_it_sent():
    """What came before a reset is read first; then it is closed, with the reason."""

    async def test(world, net):
        hearer = await world.spawn(Hearer, "h1")
        door = await net.listen(deliver_to="h1")
        with socket.create_connection(("127.0.0.1", door["port"])) as peer:
            peer.sendall(b"last words")
            heard = await hearer.heard(2)
            assert heard[1][2] == b"last words"
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        heard = await hearer.heard(3)
        assert heard[2][0] == "closed"
        assert "reset" in heard[2][2].lower()
        with pytest.raises(NotFound):
            await net.send_(heard[0][1], b"x")

    with_network(test)


def test_a_peer_that_resets_breaks_a_send():
    """Sending to a peer that has reset is refused as closed, never a crash."""

    async def test(world, net):
        door = await net.listen(deliver_to="")
        peer = socket.create_connection(("127.0.0.1", door["port"]))
        one = (await net.accept(door["listener_id"]))["connection_id"]
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        with pytest.raises(Closed, match="reset"):
            while True:
                assert await net.receive(one) != b""
        with pytest.raises((Closed, NotFound)):
            await net.send_(one, b"x")
        assert await world.ask("net", "ping") == "pong"

    with_network(test)


def test_a_thousand_connections_at_once_slow_readers_among_them():
    """A thousand callers are served at once; a few that never read hold up nobody."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 4096:
        pytest.skip(f"needs 4096 open files, and {hard} are allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 4096), hard))

    class Echo(Hearer, type="echo-hearer"):
        async def on_start(self):
            await super().on_start()
            self._echo = True

    async def call(number, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello %d\n" % number)
        if number % 100 == 0:  # never reads, and asks for more than fits any buffer
            writer.write(b"x" * 400_000)
            return None, writer
        line = await reader.readline()
        return line == b"HELLO %d\n" % number, writer

    async def test(world, net):
        await world.spawn(Echo, "h1")
        door = await net.listen(deliver_to="h1", max_bytes=4096)
        calls = [call(number, door["port"]) for number in range(1000)]
        answers = await asyncio.gather(*calls)
        assert [ok for ok, _ in answers].count(True) == 990
        status = await world.ask("net", "status")
        assert status["connections"] == 1000
        for _, writer in answers:
            writer.transport.abort()

    with_network(test, max_connections=1000, buffer_bytes=16_384)


def test_more_callers_than_seats_wait_and_are_served():
    """With ten seats fifty callers are all answered, ten at a time."""

    async def call(port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        line = await reader.readline()
        writer.close()
        await writer.wait_closed()
        return line

    async def test(world, net):
        door = await net.listen(deliver_to="")
        calls = [asyncio.create_task(call(door["port"])) for _ in range(50)]
        for _ in range(50):
            one = (await net.accept(door["listener_id"]))["connection_id"]
            assert len((await net.list_())["connections"]) <= 10
            await net.send_(one, b"served\n")
            await net.disconnect(one)
        assert await asyncio.gather(*calls) == [b"served\n"] * 50

    with_network(test, max_connections=10)


@pytest.mark.needs("nc")
def test_netcat_gets_its_answer_before_the_end():
    """netcat, which closes its side after the question, reads the answer."""

    async def test(world, net):
        hearer = await world.spawn(Hearer, "h1")
        await hearer.echo()
        door = await net.listen(deliver_to="h1")
        nc = await asyncio.create_subprocess_exec(
            "nc",
            "-N",
            "127.0.0.1",
            str(door["port"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        answer, _ = await nc.communicate(b"question\n")
        assert answer == b"QUESTION\n"

    with_network(test)


def test_no_socket_is_left_after_stop():
    """After stop no listener answers a scan, no descriptor is left, peers see the end."""
    before = open_sockets()
    ports = []
    peers = []

    async def test(world, net):
        hearer = await world.spawn(Hearer, "h1")
        ports.extend([(await net.listen(deliver_to=""))["port"] for _ in range(5)])
        ports.append((await hearer.listen({}))["port"])
        ports.append((await net.listen(deliver_to="", udp=True))["port"])
        for port in ports[:6]:
            peers.append(socket.create_connection(("127.0.0.1", port)))
            await net.connect("127.0.0.1", port)
        one = (await net.accept("l1"))["connection_id"]
        waiting = asyncio.create_task(net.receive.within(None)(one))
        await asyncio.sleep(0)
        await world.ask("net", "stop")
        with contextlib.suppress(Exception):
            await waiting

    with_network(test)
    for peer in peers:
        peer.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert peer.recv(1) == b""
        peer.close()
    for port in ports:
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
    assert open_sockets() == before


# -- policy, addresses, Unix sockets -------------------------------------------------------


def test_a_name_is_resolved_once_and_the_checked_address_is_connected_to(monkeypatch):
    """A name that changes its mind between check and use gains nothing: there is no second look."""
    looks = []

    async def test(world, net):
        door = await net.listen(0, "127.0.0.2", "")
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def rebinding(host, port, **keys):
            if host == "rebind.example":
                looks.append(host)
                host = "127.0.0.2" if len(looks) == 1 else "127.0.0.1"
            return await real(host, port, **keys)

        monkeypatch.setattr(loop, "getaddrinfo", rebinding)
        one = await net.connect("rebind.example", door["port"])
        assert one["peer"] == f"127.0.0.2:{door['port']}"
        assert looks == ["rebind.example"]
        with pytest.raises(NotAllowed, match=r"leads to 127\.0\.0\.1"):
            await net.connect("rebind.example", door["port"])

    with_network(test, deny=["127.0.0.1"])


def test_every_address_is_tried_in_turn(monkeypatch):
    """A host whose first address refuses is reached at its second."""

    async def test(world, net):
        door = await net.listen(deliver_to="")
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def two(host, port, **keys):
            if host != "two.example":
                return await real(host, port, **keys)
            first = await real("127.0.0.9", port, **keys)
            return [*first, *await real("127.0.0.1", port, **keys)]

        monkeypatch.setattr(loop, "getaddrinfo", two)
        one = await net.connect("two.example", door["port"])
        assert one["peer"].startswith("127.0.0.1:")
        assert await net.resolve("two.example") == ["127.0.0.9", "127.0.0.1"]

    with_network(test)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"deny": ["10.0.0.0/99"]}, "no network and no name"),
        ({"max_connections": 0}, "max_connections is 0"),
        ({"buffer_bytes": -1}, "buffer_bytes is -1"),
    ],
)
def test_a_configuration_that_is_none_fails_the_start(config, words):
    """A misspelt rule keeps the daemon from starting rather than protecting nobody."""

    async def main():
        async with system(copy=False) as world:
            with pytest.raises(Exception, match=words) as caught:
                await world.spawn(Network, "net", group="test", **config)
            assert "BadConfig" in repr(caught.value) or isinstance(caught.value, BadConfig)

    run(main, real=True)


def test_unix_sockets_are_private_and_taken_over_when_stale(tmp_path):
    """A Unix listener is 0600, refuses a live rival, replaces a dead one, and cleans up."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # and never unlinked, as after a crash

    async def test(world, net):
        door = await net.listen(host=f"unix:{path}", deliver_to="")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        with pytest.raises(AddressInUse):
            await net.listen(host=f"unix:{path}", deliver_to="")
        ours = await net.connect(f"unix:{path}")
        assert ours["peer"] == f"unix:{path}"
        theirs = await net.accept(door["listener_id"])
        await net.send_(ours["connection_id"], b"over unix", end=True)
        assert await net.receive(theirs["connection_id"], until=9) == b"over unix"
        await net.unlisten(door["listener_id"])
        assert not path.exists()
        with pytest.raises(NotFound):
            await net.connect(f"unix:{path}")
        path.write_text("a file, no socket")
        with pytest.raises(AddressInUse):
            await net.listen(host=f"unix:{path}", deliver_to="")
        assert path.read_text() == "a file, no socket"

    with_network(test)


def test_an_address_that_is_not_ours_cannot_be_bound():
    """Listening on a foreign address is refused by name."""

    async def test(world, net):
        with pytest.raises(Unreachable):
            await net.listen(host="192.0.2.1", deliver_to="")

    with_network(test)


def test_a_host_that_is_silent_is_timed_out():
    """A connect that gets no answer is given up in time, and its seat is free again."""

    async def test(world, net):
        # A listener whose backlog is full answers no more callers.
        with socket.socket() as full, contextlib.ExitStack() as callers:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(3):
                caller = callers.enter_context(socket.socket())
                caller.setblocking(False)
                caller.connect_ex(full.getsockname())
            with pytest.raises(TimedOut) as caught:
                await net.connect("127.0.0.1", full.getsockname()[1], timeout=0.2)
            assert caught.value.code == "timed-out"
        assert (await net.list_())["connections"] == []
        a, _, _ = await pair(net)
        assert a

    with_network(test, max_connections=2)


def test_ipv6_works_where_there_is_any():
    """The loopback of IPv6 is listened on, called, and written with brackets."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6")

    async def test(world, net):
        door = await net.listen(host="::1", deliver_to="")
        one = await net.connect("[::1]", door["port"])
        assert one["peer"] == f"[::1]:{door['port']}"
        udp = await net.listen(host="::1", deliver_to="", udp=True)
        asking = asyncio.create_task(net.datagram("::1", udp["port"], b"x", timeout=5.0))
        got = await net.accept(udp["listener_id"])
        assert got["data"] == b"x"
        host, _, port = got["peer"].rpartition(":")
        await net.datagram(host, int(port), b"y", listener_id=udp["listener_id"])
        assert (await asking)["data"] == b"y"

    with_network(test)
