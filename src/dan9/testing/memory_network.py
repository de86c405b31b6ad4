"""The network daemon over a world in memory: no socket, no thread, no real time.

`MemoryNetwork` is the real daemon with other wires: its messages, limits, policy, framing and
deliveries are the ones that run in production, and only what meets the operating system is
replaced. What is replaced keeps its manners: bytes arrive in order and in a later turn, an
unread stream pushes back, a closed end is an end, a broken one an error. The contract suite
of the network runs over both.

It has no TLS and no HTTP, which need the real thing; both answer so by name.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from dan9.base.errors import (
    AddressInUse,
    BadPayload,
    ConnectionRefused,
    NotFound,
    NotSupported,
    Unreachable,
)
from dan9.daemons.network import Network
from dan9.daemons.network_policy import UNIX
from dan9.daemons.network_stream import Stream
from dan9.daemons.network_wires import Door, Hall, Parcels, Tls, Wires, place
from dan9.kernel.daemon import Config

__all__ = ["MemoryNetwork", "MemoryWires"]

FIRST_PORT: Final = 49_152
ANY: Final = "0.0.0.0"  # noqa: S104  (nothing is bound here)

Where = tuple[str, int]


class MemoryWires:
    """A small internet.

    Args:
        names: Host names and the addresses that they lead to, beside `localhost`.
    """

    def __init__(self, names: Mapping[str, list[str]] | None = None) -> None:
        self.names = {"localhost": ["127.0.0.1"], **(names or {})}
        self.doors: dict[Where, _Door] = {}
        self.postboxes: dict[Where, _Postbox] = {}
        self._next_port = FIRST_PORT

    async def resolve(self, host: str, port: int) -> list[str]:
        """Return what the names say; numeric addresses are themselves."""
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            if host in self.names:
                return list(self.names[host])
        raise Unreachable(
            f"the name {host!r} was not resolved: name or service not known",
            hint="is the name right, and is a name server reachable?",
        )

    async def connect(
        self,
        stream: Stream,
        address: str,
        port: int,
        host: str,
        tls: Tls | None,
    ) -> None:
        """Connect the stream to the door at this address."""
        if tls is not None:
            raise NotSupported("TLS needs real sockets", hint="test it with the network daemon")
        door = self.doors.get((address, port))
        if door is None:
            if address.startswith(UNIX):
                raise NotFound(f"connecting to {address}: no such file or directory")
            raise ConnectionRefused(
                f"connecting to {address} port {port}: connection refused",
                hint="nothing listens there; is the service up?",
            )
        ours = _Transport(stream)
        stream.kind = "unix" if address.startswith(UNIX) else "tcp"
        stream.local = UNIX if stream.kind == "unix" else place((address, self.port()))
        stream.peer = door.local
        ours.begin()
        door.knock(ours, stream)

    async def listen(self, address: str, port: int, tls: Tls | None, hall: Hall) -> Door:
        """Open a door."""
        if tls is not None:
            raise NotSupported("TLS needs real sockets", hint="test it with the network daemon")
        where = self._free(self.doors, address, port)
        self.doors[where] = _Door(self, where, hall)
        return self.doors[where]

    async def parcels(self, address: str, port: int, parcels: Parcels) -> Door:
        """Open a UDP door."""
        where = self._free(self.postboxes, address, port)
        self.postboxes[where] = _Postbox(self, where, parcels)
        return self.postboxes[where]

    def port(self) -> int:
        """Return a port that nobody has."""
        self._next_port += 1
        return self._next_port - 1

    def _free(self, taken: Mapping[Where, object], address: str, port: int) -> Where:
        where = (address, port if port or address.startswith(UNIX) else self.port())
        if where in taken:
            raise AddressInUse(
                f"listening on {address} port {port}: address already in use",
                hint="port=0 picks a free one",
            )
        return where


class _Door:
    def __init__(self, wires: MemoryWires, where: Where, hall: Hall) -> None:
        self.port = where[1]
        self.local = where[0] if where[0].startswith(UNIX) else place(where)
        self._wires = wires
        self._where = where
        self._hall = hall
        self._guests: set[asyncio.Task[None]] = set()

    def knock(self, caller: _Transport, stream: Stream) -> None:
        """Let a caller in as soon as there is room; until then it waits as in a backlog."""
        task = asyncio.get_running_loop().create_task(self._welcome(caller, stream.local))
        self._guests.add(task)
        task.add_done_callback(self._guests.discard)

    async def _welcome(self, caller: _Transport, peer: str) -> None:
        host = "" if peer.startswith(UNIX) else peer.rpartition(":")[0].strip("[]")
        if not self._hall.admits(host):
            caller.eof_arrived()
            return
        await self._hall.room()
        guest = self._hall.stream()
        guest.kind = "unix" if not host else "tcp"
        guest.local, guest.peer = self.local, peer
        theirs = _Transport(guest)
        theirs.begin()
        theirs.join(caller)
        self._hall.entered(guest)

    def send_to(self, data: bytes, address: str, port: int) -> None:
        raise BadPayload("a TCP listener sends no datagrams", hint="listen with udp=True")

    async def close(self) -> None:
        self._wires.doors.pop(self._where, None)
        for guest in list(self._guests):
            guest.cancel()
        await asyncio.gather(*self._guests, return_exceptions=True)


class _Postbox:
    def __init__(self, wires: MemoryWires, where: Where, parcels: Parcels) -> None:
        self.port = where[1]
        self.local = place(where)
        self._wires = wires
        self._where = where
        self._parcels = parcels

    def send_to(self, data: bytes, address: str, port: int) -> None:
        boxes = self._wires.postboxes
        target = boxes.get((address, port)) or boxes.get((ANY, port))
        if target is not None:  # else it is lost, as datagrams are
            source = self.local.replace(ANY, "127.0.0.1")
            asyncio.get_running_loop().call_soon(target._parcels.arrived, data, source)

    async def close(self) -> None:
        self._wires.postboxes.pop(self._where, None)


class _Transport(asyncio.Transport):
    """One end of a pair; what is written arrives at the other in a later turn."""

    def __init__(self, protocol: Stream) -> None:
        super().__init__()
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._peer: _Transport | None = None
        self._unsent: deque[bytes] = deque()
        self._size = 0
        self._high = 65_536
        self._is_paused = False
        self._is_full = False
        self._is_closing = False
        self._wants_eof = False
        self._is_lost = False

    def begin(self) -> None:
        self._protocol.connection_made(self)

    def join(self, peer: _Transport) -> None:
        self._peer, peer._peer = peer, self
        self._loop.call_soon(peer._flow)
        self._loop.call_soon(self._flow)

    # -- what a stream calls ---------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview[int]) -> None:
        if self._is_lost:
            return
        if self._peer is not None and self._peer._is_lost:
            self._lose(BrokenPipeError("Broken pipe"))
            return
        self._unsent.append(bytes(data))
        self._size += len(data)
        if self._size > self._high and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()
        self._loop.call_soon(self._flow)

    def write_eof(self) -> None:
        self._wants_eof = True
        self._loop.call_soon(self._flow)

    def can_write_eof(self) -> bool:
        return True

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        if self._peer is not None:
            self._loop.call_soon(self._peer._flow)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high

    def get_write_buffer_size(self) -> int:
        return self._size

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = self._wants_eof = True
            self._loop.call_soon(self._flow)

    def abort(self) -> None:
        if not self._is_lost:
            self._is_closing = True
            self._loop.call_soon(self._lose, None)
            if self._peer is not None:
                reset = ConnectionResetError("Connection reset by peer")
                self._loop.call_soon(self._peer._lose, reset)

    # -- the wire --------------------------------------------------------------------------

    def eof_arrived(self) -> None:
        if not self._is_lost and not self._protocol.ended and not self._protocol.eof_received():
            self.close()

    def _flow(self) -> None:
        peer = self._peer
        if self._is_lost or (peer is None and not self._is_closing):
            return
        while self._unsent and peer is not None and not peer._is_paused:
            data = self._unsent.popleft()
            self._size -= len(data)
            if not peer._is_lost and not peer._is_closing:
                peer._protocol.data_received(data)
        if self._is_full and self._size <= self._high // 4:
            self._is_full = False
            self._protocol.resume_writing()
        if not self._unsent and self._wants_eof:
            self._wants_eof = False
            if peer is not None:
                peer.eof_arrived()
            if self._is_closing:
                self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if not self._is_lost:
            self._is_lost = self._is_closing = True
            self._unsent.clear()
            self._size = 0
            self._protocol.connection_lost(error)


class MemoryNetwork(Network, type="network"):
    """Opens and serves connections in a world of its own, for tests."""

    names: Config[dict[str, list[str]]] = {}
    """Host names of this world and where they lead."""

    def _make_wires(self) -> Wires:
        return MemoryWires(self.names)


_: Callable[[], Wires] = MemoryWires  # the class keeps to the protocol; mypy holds it
