"""The network as a daemon: connections, listeners, datagrams, names and HTTP.

Principles. A connection is a name (`c1`) that any daemon allowed to speak to this one may use;
the socket stays here. What comes in is either fetched (`receive`, `accept`) or delivered: a
listener tells its subscriber `accepted`, `data` and `closed`, never more than a few unanswered
at once, so that a slow subscriber slows its peers and not the node. Both directions are
bounded, both push back; see network_stream. Whom one may talk to is decided after resolution,
over addresses; see network_policy. A listener binds the loopback unless told otherwise.

Every refusal of the operating system is an answer by name. When the daemon stops, every
socket that it opened is closed before it says that it has stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final, TypeVar

from dan9.base.duration import Duration
from dan9.base.errors import (
    BadConfig,
    BadPayload,
    Dan9Error,
    NotAllowed,
    NotFound,
    Unreachable,
)
from dan9.base.reasons import Reason
from dan9.daemons.network_feed import Feed
from dan9.daemons.network_framing import Frame, check_prefix
from dan9.daemons.network_hall import Answers, Listener, Seats
from dan9.daemons.network_keys import body_of, client_tls, rules_of, server_tls
from dan9.daemons.network_policy import UNIX, Policy, plain_host, plain_port
from dan9.daemons.network_replies import (
    Accepted,
    Answer,
    Connected,
    Datagram,
    Ended,
    Inventory,
    Listening,
)
from dan9.daemons.network_stream import Stream
from dan9.daemons.network_switchboard import Switchboard
from dan9.daemons.network_wires import SocketWires, Tls, WaitedTooLong, Wires, place
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.kernel import current_message

if TYPE_CHECKING:
    from dan9.daemons.network_http import Browser

__all__ = ["Network"]

T = TypeVar("T")

FLUSH_S: Final = 5.0
"""Seconds that a peer has to take what was sent before a disconnect closes without."""

STOP_FLUSH_S: Final = 1.0
"""The same when the daemon stops."""

MAX_DATAGRAM: Final = 65_507
"""Bytes that one UDP datagram can carry over IPv4."""


class Network(Daemon, type="network"):
    """Opens and serves connections: TCP, UDP, Unix sockets, TLS and HTTP."""

    max_connections: Config[int] = 100
    """Connections open at once, in both directions together."""
    allow: Config[list[str]] = []
    """Whom we may call; empty: everybody who is not denied."""
    deny: Config[list[str]] = []
    """Whom we talk to never, whoever calls whom."""
    buffer_bytes: Config[int] = 262_144
    """Bytes held unread, and bytes held unsent, by each connection."""
    max_frame_bytes: Config[int] = 16_777_216
    """The longest piece that a framed receive or an HTTP answer may have."""
    idle_timeout: Config[Duration] = 0.0
    """Seconds of silence after which a connection is closed; 0: never."""

    async def on_start(self) -> None:
        """Read the rules; nothing is opened yet."""
        for name, least in (("max_connections", 1), ("buffer_bytes", 1), ("max_frame_bytes", 1)):
            value = getattr(self, name)
            if value < least:
                raise BadConfig(f"{name} is {value}", at=name, hint=f"{least} or more")
        self._policy = Policy.parse(self.allow, self.deny)
        self._wires: Wires = self._make_wires()
        self._board = Switchboard(
            Seats(self.max_connections),
            limit=self.buffer_bytes,
            now=self.clock.now,
            count=self._d9_count,
        )
        self._browsers: dict[tuple[str | None, bool], Browser] = {}

    async def on_stop(self, reason: Reason) -> None:
        """Close every socket, giving what was sent a moment to leave."""
        await self._board.shut(STOP_FLUSH_S)
        for browser in self._browsers.values():
            await browser.close()

    def on_status(self) -> dict[str, object]:
        """Add how many connections and listeners there are."""
        return {
            "connections": len(self._board.streams),
            "listeners": len(self._board.listeners),
        }

    # -- connections -----------------------------------------------------------------------

    @on(concurrent=True, cancellable=True)
    async def connect(
        self,
        host: str,
        port: int = 0,
        tls: bool = False,
        timeout: Duration = 10.0,
        *,
        cafile: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        verify: bool = True,
        server_name: str | None = None,
        idle_timeout: Duration | None = None,
        deliver_to: str | None = None,
        until: str | bytes | int | None = None,
        prefix: int | None = None,
        max_bytes: int = 65_536,
        half_open: bool = False,
    ) -> Connected:
        """Open a connection.

        Every address of the host is tried in turn. TLS is 1.2 or later and verified by the
        system's authorities.

        Args:
            host: A name, an address, or `unix:` and the path of a socket.
            port: The port; a Unix socket has none.
            tls: Speak TLS.
            timeout: For the name, the connection and the handshake together.
            cafile: The authorities to trust instead of the system's (PEM).
            certfile: Our own certificate, for a server that asks for one (PEM).
            keyfile: Its key, if certfile does not hold it.
            verify: False accepts any certificate: no protection against an impostor.
            server_name: The name that the certificate must carry; the host, if not given.
            idle_timeout: Close after so long a silence; 0 never; the daemon's, if not given.
            deliver_to: Who is told `data` and `closed`; nobody: use `receive`.
            until: How deliveries are cut, as for `receive`.
            prefix: As for `receive`.
            max_bytes: As for `receive`.
            half_open: Keep our side open when the other end has finished (deliveries only).

        Errors: not-allowed, refused, unreachable, timed-out, tls, no-space, bad-payload,
        not-found (a file or a Unix socket), permission.
        """
        host = plain_host(host)
        if not host.startswith(UNIX):
            plain_port(port)
        options = client_tls(tls, cafile, certfile, keyfile, verify, server_name)
        frame = self._frame(until, prefix, max_bytes)
        subscriber = None if deliver_to is None else self.system.resolve(deliver_to)
        board = self._board
        board.seats.take()
        stream = board.stream(self._idle(idle_timeout))
        try:
            await self._within(
                timeout,
                self._open(stream, host, port, options, timeout),
                f"connecting to {host} port {port}: no answer",
            )
        except BaseException:
            board.seats.leave()
            raise
        board.enter(stream)
        if subscriber is not None:
            board.deliver(stream, self._feed(stream.name, subscriber), frame, half_open)
        return {"connection_id": stream.name, "peer": stream.peer, "local": stream.local}

    @on(concurrent=True, cancellable=True)
    async def send_(
        self,
        connection_id: str,
        data: str | bytes = b"",
        *,
        end: bool = False,
        prefix: int | None = None,
    ) -> int:
        """Send on a connection; waits while the other end is slow.

        All of it was accepted for sending when the reply comes; nothing was if it fails.

        Args:
            connection_id: Which.
            data: Text goes as UTF-8.
            end: Nothing will follow: the other end sees the end of the stream, and may
                still answer.
            prefix: Put the length in front, in so many bytes: 1, 2, 4 or 8 (big-endian).

        Errors: not-found, closed, mailbox-full (too many sends wait), not-supported (end
        over TLS), timed-out.
        """
        stream = self._board.find(connection_id)
        payload = data.encode() if isinstance(data, str) else data
        if prefix is None:
            return await stream.send(payload, end=end)
        check_prefix(prefix)
        if len(payload) >= 1 << 8 * prefix:
            raise BadPayload(
                f"{len(payload)} bytes do not fit a length of {prefix} bytes", at="payload.data"
            )
        await stream.send(len(payload).to_bytes(prefix, "big") + payload, end=end)
        return len(payload)

    @on(concurrent=True, cancellable=True)
    async def receive(
        self,
        connection_id: str,
        max_bytes: int = 65_536,
        until: str | bytes | int | None = None,
        timeout: Duration | None = None,
        *,
        prefix: int | None = None,
        encoding: str | None = None,
    ) -> bytes | str:
        r"""Return the next bytes of a connection; empty ones at the end of the stream.

        Args:
            connection_id: Which.
            max_bytes: At most so many.
            until: Text or bytes: wait for them and return up to and including them (the last
                piece of a stream may come without). A number: exactly so many bytes.
                None: what there is, as soon as there is something.
            timeout: Give up after so long, nothing taken; None: wait.
            prefix: Each piece has its length in front, in so many bytes: 1, 2, 4 or 8.
            encoding: Return text; None: bytes. A character that arrived in part waits.

        Errors: not-found, closed, conflict (another reader waits), bad-payload, timed-out.
        """
        stream = self._board.find(connection_id, remains=True)
        frame = self._frame(until, prefix, max_bytes)
        piece = stream.take(frame) if stream.unread else None
        if piece is None:
            piece = await self._within(
                timeout, stream.receive(frame), f"nothing came on {connection_id}"
            )
        return piece if encoding is None else await stream.decode(piece, encoding)

    @on(concurrent=True)
    async def disconnect(self, connection_id: str) -> Ended:
        """Send what was accepted, then close the connection.

        A peer that does not take it within 5 s loses the rest.

        Errors: not-found.
        """
        stream = self._board.find(connection_id, remains=True)
        await stream.close(FLUSH_S)
        self._board.forget(stream)
        return {"bytes_in": stream.bytes_in, "bytes_out": stream.bytes_out}

    # -- listeners -------------------------------------------------------------------------

    @on(concurrent=True)
    async def listen(
        self,
        port: int = 0,
        host: str = "127.0.0.1",
        deliver_to: str | None = None,
        tls: dict[str, str] | None = None,
        *,
        udp: bool = False,
        allow_from: list[str] | None = None,
        idle_timeout: Duration | None = None,
        until: str | bytes | int | None = None,
        prefix: int | None = None,
        max_bytes: int = 65_536,
        half_open: bool = False,
    ) -> Listening:
        """Listen for connections, or for datagrams.

        Arrivals are delivered: `accepted` (listener-id, connection-id, peer), `data`
        (connection-id, data), `closed` (connection-id, reason); of UDP, `datagram`
        (listener-id, peer, data). The listener ends with the daemon it delivers to.

        Args:
            port: 0 picks a free one.
            host: The address to bind; `0.0.0.0` or `::` for all; `unix:` and a path.
            deliver_to: Whose messages arrivals become; the asker's, if not given. Empty
                text: nobody's, they are fetched with `accept` and `receive`.
            tls: `certfile` and `keyfile` (PEM); `cafile`: callers must show a certificate.
            udp: Datagrams rather than connections.
            allow_from: Callers must fit one of these rules, written as for `allow`.
            idle_timeout: As for `connect`.
            until: How deliveries are cut, as for `receive`.
            prefix: As for `receive`.
            max_bytes: As for `receive`.
            half_open: Keep our side open when the other end has finished; the end comes as
                empty `data`, and you disconnect. Otherwise the connection closes as soon as
                the last delivery was handled.

        Errors: address-in-use, permission, unreachable (no such address here), not-found,
        tls, bad-payload, unknown-daemon.
        """
        host, port = plain_host(host), plain_port(port, least=0)
        options = server_tls(tls)
        frame = self._frame(until, prefix, max_bytes)
        rules = rules_of(allow_from or [])
        if udp and (options is not None or host.startswith(UNIX)):
            raise BadPayload("UDP goes without tls, and not over Unix sockets", at="payload.udp")
        subscriber = self._subscriber(deliver_to)
        address = host if host.startswith(UNIX) else (await self._wires.resolve(host, port))[0]
        board = self._board
        name = board.name("l")
        kind = "udp" if udp else "unix" if host.startswith(UNIX) else "tls" if tls else "tcp"
        listener = Listener(
            name,
            kind,
            seats=board.seats,
            policy=self._policy,
            allow_from=rules,
            make=lambda: board.stream(self._idle(idle_timeout)),
            on_stream=board.arrived,
            on_parcel=board.parcel,
        )
        listener.frame, listener.half_open, listener.deliver_to = frame, half_open, subscriber
        if udp:
            listener.door = await self._wires.parcels(address, port, listener)
        else:
            listener.door = await self._wires.listen(address, port, options, listener)
        board.open(listener, self._feed(name, subscriber) if subscriber else None)
        return {
            "listener_id": name,
            "port": listener.door.port,
            "local": listener.door.local,
        }

    @on(concurrent=True)
    async def unlisten(self, listener_id: str) -> bool:
        """Close a listener; connections that it accepted live on.

        Errors: not-found.
        """
        await self._board.close(self._board.listener(listener_id))
        return True

    @on(concurrent=True, cancellable=True)
    async def accept(self, listener_id: str, timeout: Duration | None = None) -> Accepted:
        """Return the next arrival at a listener that delivers to nobody.

        Of a UDP listener it is a datagram: connection-id is empty, and data is there.

        Errors: not-found, closed (the listener), conflict (it delivers), timed-out.
        """
        listener = self._board.listener(listener_id)
        if listener.deliver_to:
            raise BadPayload(
                f"{listener_id} delivers to {listener.deliver_to}",
                at="payload.listener-id",
                hint='listen with deliver-to="" to fetch arrivals',
            )
        local, nobody = listener.local, f"nobody called {listener.local}"
        if listener.kind == "udp":
            data, peer = await self._within(timeout, listener.parcels.get(), nobody)
            return {"connection_id": "", "peer": peer, "local": local, "data": data}
        stream = await self._within(timeout, listener.streams.get(), nobody)
        return {"connection_id": stream.name, "peer": stream.peer, "local": stream.local}

    @on
    def list_(self) -> Inventory:
        """Return connections and listeners, with bytes in and out."""
        return {
            "connections": self._board.connection_rows(),
            "listeners": self._board.listener_rows(),
        }

    # -- datagrams, names, HTTP ------------------------------------------------------------

    @on(concurrent=True, cancellable=True)
    async def datagram(
        self,
        host: str,
        port: int,
        data: str | bytes,
        *,
        listener_id: str | None = None,
        timeout: Duration | None = None,
    ) -> Datagram:
        """Send one UDP datagram, and wait for one answer if `timeout` is given.

        Args:
            host: A name or an address.
            port: The port.
            data: Up to 65,507 bytes; text goes as UTF-8.
            listener_id: Send from this UDP listener; answers go to it.
            timeout: Wait so long for an answer to come back.

        Errors: not-allowed, unreachable, refused, timed-out, not-found, bad-payload.
        """
        payload = data.encode() if isinstance(data, str) else data
        if len(payload) > MAX_DATAGRAM:
            raise BadPayload(
                f"a datagram of {len(payload)} bytes",
                at="payload.data",
                hint=f"UDP carries at most {MAX_DATAGRAM}; connect carries any number",
            )
        address = (await self._addresses(plain_host(host), plain_port(port)))[0]
        peer = place((address, port))
        if listener_id is not None:
            listener = self._board.listener(listener_id)
            if listener.kind != "udp" or listener.door is None:
                raise NotFound(f"{listener_id!r} is no UDP listener", hint="listen with udp=True")
            listener.door.send_to(payload, address, port)
            listener.bytes_out += len(payload)
            return {"sent": len(payload), "data": None, "peer": peer}
        bind = "::" if ":" in address else "0.0.0.0"  # noqa: S104  (any source; only it answers)
        answers = Answers(peer)
        door = await self._wires.parcels(bind, 0, answers)
        try:
            door.send_to(payload, address, port)
            if timeout is None:
                return {"sent": len(payload), "data": None, "peer": peer}
            reply = await self._within(timeout, answers.get(), f"{host} port {port} was silent")
        finally:
            await door.close()
        return {"sent": len(payload), "data": reply, "peer": peer}

    @on(concurrent=True, cancellable=True)
    async def resolve(self, host: str, timeout: Duration = 5.0) -> list[str]:
        """Return the addresses of a name, best first.

        Errors: unreachable, not-allowed, timed-out, bad-payload.
        """
        host = plain_host(host)
        self._policy.check_name(host, 0)
        return await self._within(timeout, self._wires.resolve(host, 0), f"{host} was not resolved")

    @on(concurrent=True, cancellable=True)
    async def http(
        self,
        url: str,
        method: str = "GET",
        headers: dict[str, str] | None = None,
        body: str | bytes | None = None,
        timeout: Duration = 30.0,
        *,
        follow_redirects: bool = True,
        encoding: str | None = "auto",
        max_bytes: int | None = None,
        cafile: str | None = None,
        verify: bool = True,
    ) -> Answer:
        """Send an HTTP request and return the whole answer. Any status is an answer.

        Args:
            url: `http://…` or `https://…`.
            method: GET, POST, …
            headers: Added to the usual ones.
            body: Text goes as UTF-8.
            timeout: For everything together.
            follow_redirects: Up to 20 of them; each is checked as the first.
            encoding: `auto`: text if the answer says it is text, else bytes. A name: text
                in that encoding. None: bytes.
            max_bytes: The longest answer; max-frame-bytes, if not given.
            cafile: The authorities to trust instead of the system's (PEM).
            verify: False accepts any certificate.

        Errors: not-allowed, refused, unreachable, timed-out, closed, tls, bad-payload.
        """
        browser = await self._browser(cafile, verify)
        payload = body.encode() if isinstance(body, str) else body
        answer = await self._within(
            timeout,
            browser.request(
                method,
                url,
                headers=headers,
                body=payload,
                timeout_s=timeout,
                follow_redirects=follow_redirects,
                max_bytes=self.max_frame_bytes if max_bytes is None else max_bytes,
            ),
            f"{method} {url}: no answer",
        )
        return {
            "status": answer.status,
            "reason": answer.reason,
            "url": answer.url,
            "version": answer.version,
            "headers": answer.headers,
            "body": body_of(answer.content, answer.headers, answer.charset, encoding),
            "redirects": answer.redirects,
        }

    # -- private ---------------------------------------------------------------------------

    def _make_wires(self) -> Wires:
        return SocketWires()

    def _idle(self, given: float | None) -> float:
        return self.idle_timeout if given is None else given

    def _feed(self, name: str, subscriber: str) -> Feed:
        return Feed(self, subscriber, lambda: self._board.subscriber_ended(name))

    def _frame(self, until: str | bytes | int | None, prefix: int | None, most: int) -> Frame:
        return Frame.of(until, prefix, most, self.max_frame_bytes)

    async def _addresses(self, host: str, port: int) -> tuple[str, ...]:
        """Resolve a host and return the addresses that may be connected to."""
        self._check(host, port, None)
        addresses = await self._wires.resolve(host, port)
        if not addresses:
            raise Unreachable(f"{host} has no address")
        return self._check(host, port, addresses)

    def _check(self, host: str, port: int, addresses: list[str] | None) -> tuple[str, ...]:
        try:
            if addresses is None:
                self._policy.check_name(host, port)
                return ()
            return self._policy.check(host, port, addresses)
        except NotAllowed as error:
            self._d9_count("denied", 1)
            message = current_message()
            self.log.warning("%s", error.text, sender="" if message is None else message.sender)
            raise

    async def _open(
        self, stream: Stream, host: str, port: int, tls: Tls | None, timeout: float
    ) -> None:
        if host.startswith(UNIX):
            self._check(host, port, None)
            await self._wires.connect(stream, host, 0, host, tls)
            return
        addresses = await self._addresses(host, port)
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        for left, address in zip(range(len(addresses), 0, -1), addresses, strict=True):
            try:
                # One silent address must not use up the time of the next.
                async with asyncio.timeout((until - loop.time()) / left):
                    await self._wires.connect(stream, address, port, host, tls)
                return
            except (Dan9Error, TimeoutError):
                if left == 1:
                    raise

    def _subscriber(self, deliver_to: str | None) -> str:
        if deliver_to:
            return str(self.system.resolve(deliver_to))
        if deliver_to is not None:
            return ""
        message = current_message()
        sender = "" if message is None else message.sender
        try:
            # Code outside any daemon has an address too, but nobody to deliver to there.
            return str(self.system.resolve(sender)) if sender else ""
        except Dan9Error:
            return ""

    async def _browser(self, cafile: str | None, verify: bool) -> Browser:
        browser = self._browsers.get((cafile, verify))
        if browser is None:
            from dan9.daemons.network_http import Browser

            wires = self._wires
            if not isinstance(wires, SocketWires):
                raise Unreachable("HTTP needs real sockets, which this network has not")
            context = await wires.context(Tls(cafile=cafile, verify=verify))
            browser = self._browsers.setdefault(
                (cafile, verify), Browser(self._addresses_of, context, self.max_connections)
            )
        return browser

    async def _addresses_of(self, host: str, port: int) -> tuple[str, ...]:
        return await self._addresses(plain_host(host), port)

    async def _within(self, timeout: float | None, work: Awaitable[T], failed: str) -> T:
        if timeout is None:
            return await work
        try:
            async with asyncio.timeout(timeout):
                return await work
        except TimeoutError as error:
            if isinstance(error, Dan9Error):
                raise
            raise WaitedTooLong(
                f"{failed} within {timeout:g} s", hint="timeout=… waits longer", timeout_s=timeout
            ) from None
