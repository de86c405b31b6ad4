"""A node's socket: it listens, knows its peers by the kernel's word, and recovers what is stale.

The socket's file is 0600 in a folder that is 0700, and each peer's user is asked of
the operating system as well: a mistaken chmod opens nothing. A socket that nobody
listens at is taken over; one that somebody does is refused.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import stat
import struct
from collections.abc import Callable
from typing import Any

from dan9.base.errors import AddressInUse, Dan9Error, NotAllowed, PermissionRefused
from dan9.edge.connection import Connection
from dan9.edge.discovery import is_live, private_directory, reachable
from dan9.edge.port import Callback, Cancel, Limits, Link, NodePort, Reception, Visit
from dan9.edge.protocol import keep_freed_memory

__all__ = ["Callback", "Cancel", "Limits", "Link", "NodePort", "Reception", "Server", "Visit"]

_BACKLOG = 128


class Server:
    """The socket of one node.

    Args:
        port: The node.
        path: Where to listen.
        reception: Gives each client its place in the node.
        build: The version of Dan9, told to clients.
        limits: What one connection may take.
        log: Called with a level and a text.

    Attributes:
        accepted: How many connections there have been.
    """

    def __init__(
        self,
        port: NodePort,
        path: str,
        reception: Reception,
        *,
        build: str = "",
        limits: Limits | None = None,
        log: Callable[[str, str], None] | None = None,
    ) -> None:
        self.port = port
        self.path = path
        self.reception = reception
        self.build = build
        self.limits = limits or Limits()
        self.pid = os.getpid()
        self.accepted = 0
        self._log = log
        self._connections: dict[Connection, None] = {}
        self._listener: asyncio.AbstractServer | None = None
        self._identity = (0, 0)
        self._emptied: asyncio.Event | None = None

    async def start(self) -> None:
        """Listen.

        Raises:
            AddressInUse: A node listens there already, or a file that is no socket is there.
            PermissionRefused: The folder cannot be made or written.
        """
        keep_freed_memory()
        self._emptied = asyncio.Event()
        listening = listen(self.path)
        try:
            found = os.stat(self.path)
            self._identity = (found.st_dev, found.st_ino)
            loop = asyncio.get_running_loop()
            self._listener = await loop.create_unix_server(
                self._accept, sock=listening, backlog=_BACKLOG
            )
        except BaseException:
            listening.close()
            raise

    async def stop(self) -> None:
        """Say farewell to every client, close, and remove the socket if it is still ours."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            try:
                found = os.lstat(self.path)
                if (found.st_dev, found.st_ino) == self._identity:
                    os.unlink(self.path)
            except OSError:
                pass  # gone already, which is what was wanted
        for connection in list(self._connections):
            connection.bid_farewell(self.port.name)
        if self._connections and self._emptied is not None:
            self._emptied.clear()
            await self._emptied.wait()

    @property
    def clients(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def log(self, level: str, text: str) -> None:
        """Write to the node's log."""
        if self._log is not None:
            self._log(level, text)

    def _accept(self) -> Any:  # a Protocol by its methods, for asyncio's stubs by its class
        self.accepted += 1
        return Connection(self, self.accepted)

    def meet(self, connection: Connection, transport: asyncio.Transport) -> Dan9Error | None:
        """Count a connection in; return why it is refused, if it is."""
        self._connections[connection] = None
        uid = _peer(transport)
        if uid in (os.geteuid(), 0):
            return None
        return NotAllowed(
            f"the node {self.port.name} belongs to user {os.geteuid()}, not {uid}",
            hint="run a node of your own: dan9 up",
        )

    def part(self, connection: Connection) -> None:
        """Count a connection out."""
        self._connections.pop(connection, None)
        if not self._connections and self._emptied is not None:
            self._emptied.set()


def _peer(transport: asyncio.Transport) -> int:
    """The user at the other end, as the kernel knows it."""
    peer = transport.get_extra_info("socket")
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack(
        "3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    )
    return int(uid)


def listen(path: str) -> socket.socket:
    """Return a socket that is bound at the path, and private; a stale one is taken over.

    Raises:
        AddressInUse: Somebody listens there, or something else is there.
        PermissionRefused: The folder cannot be made or written.
    """
    private_directory(os.path.dirname(path) or ".")
    listening = socket.socket(socket.AF_UNIX)
    try:
        try:
            _bind(listening, path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            _recover(path)
            _bind(listening, path)
        listening.listen(_BACKLOG)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:  # somebody else was faster
            raise _in_use(path) from None
        raise PermissionRefused(
            f"cannot listen at {path}: {os.strerror(error.errno or 0)}",
            hint="check the folder, or choose another: dan9 up --socket PATH",
            at=path,
        ) from None
    except BaseException:
        listening.close()
        raise
    return listening


def _bind(listening: socket.socket, path: str) -> None:
    with reachable(path) as short:
        listening.bind(short)
    # Nobody can connect before listen(), so there is no moment at which it is open to others.
    os.chmod(path, 0o600)


def _recover(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise AddressInUse(
            f"{path} is there and is no socket",
            hint="move it away, or choose another path",
            at=path,
        )
    if is_live(path):
        raise _in_use(path)
    os.unlink(path)


def _in_use(path: str) -> AddressInUse:
    return AddressInUse(
        f"a node listens at {path}",
        hint="stop it: dan9 down; or give this one another name: dan9 up --name NAME",
        at=path,
    )
