"""What the socket needs of the node behind it, as Protocols: tests give a fake, boot the kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dan9.base.frame import MAX_FRAME_BYTES

if TYPE_CHECKING:
    from dan9.kernel.wires import Wires

__all__ = ["Callback", "Cancel", "Limits", "Link", "NodePort", "Reception", "Visit"]

Callback = Callable[[bool, Any], None]
"""Called once with True and the reply in wire form, or False and the error form."""


class Cancel(Protocol):
    """A request under way."""

    def cancel(self) -> object:
        """Give it up; its callback is not called any more, or calls are ignored."""


class NodePort(Protocol):
    """The node, as a connection sees it.

    Payloads are as they came; the node checks them against the handler's signature.
    Replies come back in wire form. A refusal known at once may be raised, or given to
    the callback before the call returns.
    """

    @property
    def name(self) -> str:
        """The node's name."""

    @property
    def wires(self) -> Wires:
        """Takes what clients ask."""

    def wire_send(
        self,
        sender: str,
        to: str,
        type: str,
        payload: dict[str, Any],
        callback: Callback,
        timeout_s: float | None = -1.0,
        message_id: str | None = None,
    ) -> Cancel | None:
        """Tell for a client and wait for room; the callback says that it is queued."""

    def wire_tell(
        self,
        sender: str,
        to: str,
        type: str,
        payload: dict[str, Any],
        *,
        message_id: str | None,
    ) -> None:
        """Tell for a client; to a pattern, everyone it fits."""


class Link(Protocol):
    """A connection, as the client's daemon in the node sees it."""

    def deliver(self, sender: str, type: str, payload: Any, answer: Callable[[], None]) -> None:
        """Forward an event; `answer` is called once the client has acknowledged it."""

    async def room(self) -> None:
        """Wait until the client takes more; raise Closed when it is gone."""


class Visit(Protocol):
    """A client's presence in the node."""

    @property
    def address(self) -> str:
        """The address that the node stamps on what this client says."""

    def end(self) -> None:
        """The connection is gone: end the client's daemon, and with it its subscriptions."""


class Reception(Protocol):
    """Gives each connection its place in the node."""

    async def admit(self, number: int, link: Link) -> Visit:
        """Make the daemon that stands for the client."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection may take of the node.

    Attributes:
        max_frame_bytes: The longest frame, in either direction.
        unsent_bytes: How much may wait for a client that does not read; then it is cut off.
            Above `max_frame_bytes`, so that one long reply is no offence.
        pause_bytes: From here on nothing more is read from that client.
        in_flight: Requests of one client in work at once; more stay in its socket.
        hello_s: Until when the first frame must be there.
        stall_s: How long half a frame, or a client that reads nothing, is waited for.
    """

    max_frame_bytes: int = MAX_FRAME_BYTES
    unsent_bytes: int = 2 * MAX_FRAME_BYTES
    pause_bytes: int = 4 * 1024 * 1024
    in_flight: int = 10_000
    hello_s: float = 10.0
    stall_s: float = 30.0
