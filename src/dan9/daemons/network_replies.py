"""What the network daemon replies, key by key."""

from __future__ import annotations

from typing import NotRequired, TypedDict

__all__ = [
    "Accepted",
    "Answer",
    "Connected",
    "ConnectionRow",
    "Datagram",
    "Ended",
    "Inventory",
    "ListenerRow",
    "Listening",
]


class Connected(TypedDict):
    """Reply of `connect`."""

    connection_id: str
    peer: str
    local: str


class Listening(TypedDict):
    """Reply of `listen`."""

    listener_id: str
    port: int
    local: str


class Accepted(TypedDict):
    """Reply of `accept`; the last key is a UDP listener's."""

    connection_id: str
    peer: str
    local: str
    data: NotRequired[bytes]


class Ended(TypedDict):
    """Reply of `disconnect`."""

    bytes_in: int
    bytes_out: int


class ConnectionRow(TypedDict):
    """One connection in the reply of `list`."""

    connection_id: str
    kind: str
    peer: str
    local: str
    listener_id: str
    state: str
    bytes_in: int
    bytes_out: int
    unread: int
    unsent: int
    opened: float


class ListenerRow(TypedDict):
    """One listener in the reply of `list`."""

    listener_id: str
    kind: str
    local: str
    port: int
    deliver_to: str
    accepted: int
    turned_away: int
    waiting: int
    bytes_in: int
    bytes_out: int


class Inventory(TypedDict):
    """Reply of `list`."""

    connections: list[ConnectionRow]
    listeners: list[ListenerRow]


class Datagram(TypedDict):
    """Reply of `datagram`."""

    sent: int
    data: bytes | None
    peer: str


class Answer(TypedDict):
    """Reply of `http`."""

    status: int
    reason: str
    url: str
    version: str
    headers: dict[str, str]
    body: str | bytes
    redirects: list[str]
