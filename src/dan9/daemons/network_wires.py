"""The operating system's side of the network daemon: sockets, names, TLS.

Everything here waits on the world, and nothing here decides whom one may talk to: addresses
come checked from the policy and are connected to as they are. Names are resolved in the
loop's worker threads. Each error of the operating system leaves as a refusal by name.

Listeners accept by a loop of their own rather than asyncio's server, because a server accepts
without end: here the next connection is taken when there is room for it, and until then it
waits in the kernel's backlog, where the caller feels it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
import stat
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from dan9.base.errors import (
    AddressInUse,
    BadPayload,
    Closed,
    ConnectionRefused,
    Dan9Error,
    NoSpace,
    NotFound,
    PermissionRefused,
    Refused,
    TimedOut,
    TlsFailed,
    Unreachable,
)
from dan9.daemons.network_policy import UNIX
from dan9.daemons.network_stream import Stream

__all__ = [
    "Door",
    "Hall",
    "Parcels",
    "SocketWires",
    "Tls",
    "WaitedTooLong",
    "Wires",
    "place",
    "refusal",
]

BACKLOG: Final = 1_024
"""Connections that the kernel holds for a listener that has no room (capped by somaxconn)."""

HANDSHAKE_S: Final = 10.0
"""Seconds that a peer has for its TLS handshake."""


class WaitedTooLong(TimedOut, Refused):
    """The other end did not answer in time. An answer, not a crash: the world is slow."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How one end of a TLS connection proves itself and what it asks of the other."""

    cafile: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    verify: bool = True
    server_name: str | None = None
    is_server: bool = False


class Hall(Protocol):
    """What a listener asks of the daemon behind it, arrival by arrival."""

    async def room(self) -> None:
        """Return when another connection may be taken."""

    def admits(self, address: str) -> bool:
        """Tell whether a peer with this numeric address ("" for Unix) may come in."""

    def stream(self) -> Stream:
        """Make the stream of the next connection and count it."""

    def entered(self, stream: Stream) -> None:
        """Note that it is connected."""

    def turned_away(self, stream: Stream, error: Dan9Error) -> None:
        """Note that it never came to be: a failed handshake."""


class Parcels(Protocol):
    """What receives datagrams."""

    def arrived(self, data: bytes, peer: str) -> None:
        """Take one datagram."""


class Door(Protocol):
    """A listener."""

    local: str
    port: int

    async def close(self) -> None:
        """Stop listening; returns when the socket is closed."""

    def send_to(self, data: bytes, address: str, port: int) -> None:
        """Send a datagram from here, if this is a UDP door."""


class Wires(Protocol):
    """The world as the network daemon sees it. Testing has a twin of it in memory."""

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the host's numeric addresses, best first."""

    async def connect(
        self, stream: Stream, address: str, port: int, host: str, tls: Tls | None
    ) -> None:
        """Connect the stream to a numeric address, or a `unix:` path."""

    async def listen(self, address: str, port: int, tls: Tls | None, hall: Hall) -> Door:
        """Listen at a numeric address or a `unix:` path."""

    async def parcels(self, address: str, port: int, parcels: Parcels) -> Door:
        """Open a UDP socket at a numeric address."""


def place(address: object) -> str:
    """Return a socket's name as text: `127.0.0.1:80`, `[::1]:80`, `unix:/run/x.sock`."""
    if isinstance(address, tuple):
        host, port = str(address[0]), address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = os.fsdecode(address) if isinstance(address, (bytes, str)) else ""
    return UNIX + path


def refusal(error: BaseException, doing: str) -> Dan9Error:
    """Return the named refusal for an error of the operating system.

    Args:
        error: What was raised.
        doing: What was being done, and to whom: the beginning of the text.
    """
    if isinstance(error, Dan9Error):
        return error
    text = f"{doing}: {_reason(error)}"
    if isinstance(error, ssl.SSLCertVerificationError):
        return TlsFailed(
            f"{doing}: its certificate was not accepted: {error.verify_message}",
            hint="cafile=… names the authority to trust; server-name=… the name to expect",
        )
    if isinstance(error, ssl.SSLError):
        return TlsFailed(text, hint="does the other end speak TLS 1.2 or later here?")
    if isinstance(error, socket.gaierror):
        return Unreachable(text, hint="is the name right, and is a name server reachable?")
    if isinstance(error, TimeoutError):
        return WaitedTooLong(text, hint="timeout=… waits longer")
    if isinstance(error, ConnectionRefusedError):
        return ConnectionRefused(text, hint="nothing listens there; is the service up?")
    if isinstance(error, (ConnectionError, asyncio.IncompleteReadError)):
        return Closed(text)
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.EADDRINUSE:
        return AddressInUse(text, hint="port=0 picks a free one; `ss -ltnp` shows who has it")
    if number in {errno.EACCES, errno.EPERM}:
        return PermissionRefused(text, hint="ports below 1024 and some sockets need privileges")
    if number in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
        return NoSpace(text, hint="raise the limit of open files (ulimit -n) or close some")
    if number in {errno.ENOENT, errno.ENOTDIR}:
        return NotFound(text, hint="does the path exist?")
    if number == errno.EMSGSIZE:
        return BadPayload(text, at="payload.data", hint="UDP carries at most 65,507 bytes")
    return Unreachable(text)


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        # asyncio wraps the text with the address, which `doing` has said already.
        return os.strerror(error.errno).lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error).lower() or "it took too long"


class SocketWires:
    """`Wires` over real sockets."""

    def __init__(self) -> None:
        self._contexts: dict[Tls, ssl.SSLContext] = {}

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return the host's numeric addresses, each once, in the order of RFC 6724."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port or None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise refusal(error, f"the name {host!r} was not resolved") from error
        return list(dict.fromkeys(str(entry[4][0]) for entry in found))

    async def context(self, tls: Tls) -> ssl.SSLContext:
        """Return the TLS context for these options, made once.

        Reading the authorities of the system takes some 10 ms: a worker thread does it.
        """
        context = self._contexts.get(tls)
        if context is None:
            try:
                context = await asyncio.to_thread(_make_context, tls)
            except FileNotFoundError as error:
                files = ", ".join(f for f in (tls.cafile, tls.certfile, tls.keyfile) if f)
                raise NotFound(f"TLS: one of {files} does not exist") from error
            except OSError as error:
                raise refusal(error, "TLS: the certificate or key was not loaded") from error
            self._contexts[tls] = context
        return context

    async def connect(
        self, stream: Stream, address: str, port: int, host: str, tls: Tls | None
    ) -> None:
        """Connect the stream; `host` is what the certificate must name."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        if tls is not None:
            stream.kind = "tls"
            name = tls.server_name or ("localhost" if host.startswith(UNIX) else host)
            options = {"ssl": await self.context(tls), "server_hostname": name}
        where = host if host in {address, ""} else f"{host} ({address})"
        port_text = "" if address.startswith(UNIX) else f" port {port}"
        try:
            if address.startswith(UNIX):
                stream.kind = "unix" if tls is None else "tls"
                path = address[len(UNIX) :]
                transport, _ = await loop.create_unix_connection(lambda: stream, path, **options)
            else:
                transport, _ = await loop.create_connection(
                    lambda: stream, address, port, **options
                )
        except (OSError, ValueError) as error:
            raise refusal(error, f"connecting to {where}{port_text}") from error
        _name(stream, transport, f"{address}:{port}")

    async def listen(self, address: str, port: int, tls: Tls | None, hall: Hall) -> Door:
        """Bind, listen, and accept as the hall has room."""
        context = None if tls is None else await self.context(tls)
        try:
            listener = _bound(address, port, socket.SOCK_STREAM)
            listener.listen(BACKLOG)
        except OSError as error:
            raise refusal(error, f"listening on {_where(address, port)}") from error
        return _StreamDoor(listener, context, hall)

    async def parcels(self, address: str, port: int, parcels: Parcels) -> Door:
        """Bind a UDP socket and hand on what arrives."""
        loop = asyncio.get_running_loop()
        try:
            bound = _bound(address, port, socket.SOCK_DGRAM)
            transport, _ = await loop.create_datagram_endpoint(
                lambda: _Postbox(parcels), sock=bound
            )
        except OSError as error:
            raise refusal(error, f"opening UDP {_where(address, port)}") from error
        return _ParcelDoor(transport)


def _where(address: str, port: int) -> str:
    return address if address.startswith(UNIX) else f"{address} port {port}"


def _make_context(tls: Tls) -> ssl.SSLContext:
    purpose = ssl.Purpose.CLIENT_AUTH if tls.is_server else ssl.Purpose.SERVER_AUTH
    context = ssl.create_default_context(purpose, cafile=tls.cafile)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if tls.is_server and tls.cafile:
        context.verify_mode = ssl.CERT_REQUIRED
    if not tls.is_server and not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certfile:
        context.load_cert_chain(tls.certfile, tls.keyfile)
    return context


def _name(stream: Stream, transport: asyncio.BaseTransport, peer: str) -> None:
    found = transport.get_extra_info("peername")
    stream.local = place(transport.get_extra_info("sockname") or "")
    # A peer that has reset already has no name any more; a Unix one never had.
    stream.peer = place(found) if found else peer


def _bound(address: str, port: int, kind: socket.SocketKind) -> socket.socket:
    if address.startswith(UNIX):
        return _bound_unix(address[len(UNIX) :])
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, kind)
    try:
        sock.setblocking(False)
        if kind == socket.SOCK_STREAM:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
    except OSError:
        sock.close()
        raise
    return sock


def _bound_unix(path: str) -> socket.socket:
    """Bind a Unix socket, private to this user, over one that nobody serves any more."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not _is_stale(path):
                raise
            os.unlink(path)
            sock.bind(path)
        # Before listen: until then nobody can connect, whatever the umask was.
        os.chmod(path, 0o600)
    except OSError:
        sock.close()
        raise
    return sock


def _is_stale(path: str) -> bool:
    with contextlib.suppress(OSError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return False
    # A datagram socket cannot connect to a stream socket, and learns all the same whether there
    # is one: whoever serves the path is not bothered by a caller who hangs up.
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


class _StreamDoor:
    def __init__(self, listener: socket.socket, context: ssl.SSLContext | None, hall: Hall) -> None:
        self._listener = listener
        self._context = context
        self._hall = hall
        name = listener.getsockname()
        self.local = place(name)
        self.port = int(name[1]) if isinstance(name, tuple) else 0
        self._guests: dict[asyncio.Task[None], tuple[socket.socket, Stream]] = {}
        self._accepting = _task(self._accept(), "accept")

    def send_to(self, data: bytes, address: str, port: int) -> None:
        raise BadPayload("a TCP listener sends no datagrams", hint="listen with udp=True")

    async def close(self) -> None:
        self._accepting.cancel()
        guests = list(self._guests)
        for guest in guests:
            guest.cancel()
        await asyncio.gather(self._accepting, *guests, return_exceptions=True)
        if self.local.startswith(UNIX):
            with contextlib.suppress(OSError):
                os.unlink(self.local[len(UNIX) :])
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._hall.room()
            try:
                sock, peer = await loop.sock_accept(self._listener)
            except OSError as error:
                if error.errno in {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}:
                    await asyncio.sleep(0.1)  # the machine is full; others must close first
                continue  # or the caller hung up before it was taken
            try:
                if not self._hall.admits(str(peer[0]) if isinstance(peer, tuple) else ""):
                    sock.close()
                    continue
                await self._hall.room()  # another listener may have been quicker
                stream = self._hall.stream()
            except BaseException:
                sock.close()
                raise
            guest = _task(self._welcome(stream, sock, place(peer)), "welcome")
            self._guests[guest] = (sock, stream)
            guest.add_done_callback(self._welcomed)

    async def _welcome(self, stream: Stream, sock: socket.socket, peer: str) -> None:
        options: dict[str, Any] = {}
        stream.kind = "unix" if self.local.startswith(UNIX) else "tcp"
        if self._context is not None:
            stream.kind = "tls"
            options = {"ssl": self._context, "ssl_handshake_timeout": HANDSHAKE_S}
        transport, _ = await asyncio.get_running_loop().connect_accepted_socket(
            lambda: stream, sock, **options
        )
        _name(stream, transport, peer)
        self._hall.entered(stream)

    def _welcomed(self, guest: asyncio.Task[None]) -> None:
        # In a callback, because a task cancelled before its first step runs no line of its own.
        sock, stream = self._guests.pop(guest)
        error = asyncio.CancelledError() if guest.cancelled() else guest.exception()
        if error is not None:
            sock.close()
            self._hall.turned_away(stream, refusal(error, f"a caller of {self.local}"))


class _Postbox(asyncio.DatagramProtocol):
    def __init__(self, parcels: Parcels) -> None:
        self._parcels = parcels

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        self._parcels.arrived(data, place(tuple(addr[:2])))


class _ParcelDoor:
    def __init__(self, transport: asyncio.DatagramTransport) -> None:
        self._transport = transport
        name = transport.get_extra_info("sockname")
        self.local = place(tuple(name[:2]))
        self.port = int(name[1])

    def send_to(self, data: bytes, address: str, port: int) -> None:
        try:
            self._transport.sendto(data, (address, port))
        except (OSError, ValueError) as error:
            raise refusal(error, f"a datagram to {_where(address, port)}") from error

    async def close(self) -> None:
        self._transport.abort()
        # The socket itself is closed in the loop's next turn.
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def _task(work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
    return asyncio.get_running_loop().create_task(work, name=f"dan9 network {name}")


_: Callable[[], Wires] = SocketWires  # the class keeps to the protocol; mypy holds it
