"""What the two clients have in common: how a call is put, and what can become of it.

`client` blocks and `aio` is awaited; whatever is neither is here, and like them it stands on
msgspec alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from dan9.base import forms
from dan9.base.errors import (
    BadPayload,
    Dan9Error,
    NoNode,
    PermissionRefused,
    TimedOut,
    Unreachable,
    WireError,
)
from dan9.base.frame import MAX_FRAME_BYTES
from dan9.edge.outbox import Outbox
from dan9.edge.protocol import FOREVER, PROTOCOL, VERSION, Hello, Request, Welcome

__all__ = [
    "DEFAULT",
    "GRACE_S",
    "PATIENCE_S",
    "Caller",
    "no_node",
    "request_of",
    "silent",
    "timed_out",
    "together",
]

DEFAULT: Final = -1.0
"""The `timeout_s` that leaves the deadline to the message."""

GRACE_S: Final = 1.0
"""How much longer than a deadline the client waits: the node's own word says more than ours."""

PATIENCE_S: Final = 10.0
"""After so long without a word from the node it is asked whether it still lives."""


class Caller:
    """One end of a connection to a node, and what it was told of the node.

    Attributes:
        path: The node's socket.
        node, pid, build: The node's name, process id and version.
        address: The address under which the node stamps what this client says.
    """

    node = ""
    pid = 0
    build = ""
    address = ""

    def __init__(self, path: str) -> None:
        self.path = path
        self._limit = MAX_FRAME_BYTES

    def _enter(self, welcome: Welcome | Dan9Error) -> None:
        """Take the node's welcome; raise what it said instead, or that it is no node of ours."""
        if isinstance(welcome, Dan9Error):
            raise welcome
        if welcome.hello != PROTOCOL or welcome.version != VERSION:
            raise WireError(
                f"the node at {self.path} speaks {welcome.hello} version {welcome.version}, "
                f"this client {PROTOCOL} version {VERSION}",
                hint="use a client of the node's own build",
            )
        self.node = welcome.node
        self.pid = welcome.pid
        self.build = welcome.build
        self.address = welcome.address
        self._limit = welcome.max_frame_bytes

    def _put(self, out: Outbox, message: Hello | Request) -> None:
        """Encode a message into an outbox.

        Raises:
            BadPayload: Something in it is no data.
            WireError: It is too long.
        """
        try:
            out.add(message, self._limit)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadPayload(f"the payload cannot cross a wire: {error}") from None

    def _lost(self) -> Unreachable:
        return Unreachable(
            f"the node {self.node} ended the connection".replace("  ", " "),
            hint="whether the message was handled is not known; see dan9 ps, start with dan9 up",
        )

    def __repr__(self) -> str:
        return f"<client {self.address} of {self.node}>"


def together(payload: Mapping[str, Any] | None, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the payload of a call: the map and the keywords."""
    return {**payload, **fields} if payload else fields


def request_of(
    kind: str,
    to: str,
    type_: str,
    payload: dict[str, Any],
    timeout_s: float | None = DEFAULT,
    message_id: str | None = None,
) -> Request:
    """Return the request of a call; its id is the caller's to give."""
    timeout: float | str | None = timeout_s
    if timeout_s is None or timeout_s == math.inf:
        timeout = FOREVER
    elif timeout_s < 0:
        timeout = None
    body = forms.wire_of(payload)
    assert isinstance(body, dict)
    return Request(kind, None, to, type_, body, timeout, message_id)


def timed_out(to: str, type_: str, timeout_s: float) -> TimedOut:
    """Return the error of a node that said nothing, not even that the time was over."""
    return TimedOut(
        f"{to} did not answer {type_} within {timeout_s:g} s, nor did its node say so",
        hint="the node may be blocked: dan9 explain",
        address=to,
        message=type_,
        timeout_s=timeout_s,
    )


def silent(path: str) -> Unreachable:
    """Return the error of a socket at which nobody says welcome."""
    return Unreachable(
        f"what listens at {path} does not answer",
        hint="the node is stopped or blocked, or it is no node",
    )


def no_node(path: str, error: OSError) -> NoNode | PermissionRefused:
    """Return the error of a socket that cannot be connected to."""
    if isinstance(error, PermissionError):
        return PermissionRefused(
            f"{path} is another user's", hint="run a node of your own: dan9 up", at=path
        )
    return NoNode(
        f"no node listens at {path}: {error.strerror or error}",
        hint="see which run: dan9 ps; start one: dan9 up --detach",
        at=path,
    )
