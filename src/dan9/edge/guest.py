"""A client's presence in the node: one small daemon per connection, `d9://client/NODE/N`.

It exists so that a client is a subscriber as all others: it has an address, can be
monitored, and ends when the connection does, and with it what it subscribed to. It forwards
what it is told and answers when the client has acknowledged, so that a source's limit on
unanswered events reaches across the socket. While the client takes nothing, nothing leaves its
mailbox, and the mailbox's limit holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dan9.base import forms
from dan9.base.errors import BadPayload, Closed
from dan9.kernel.daemon import Daemon

if TYPE_CHECKING:
    from dan9.edge.port import Link
    from dan9.kernel.kernel import System
    from dan9.kernel.message import Message

__all__ = ["KernelReception"]


class KernelReception:
    """Gives each connection its daemon.

    Args:
        system: The node.
    """

    def __init__(self, system: System) -> None:
        self._system = system
        self._guests: dict[str, Guest] = {}
        guests = self._guests

        # A class of its own for each node: what a daemon needs beside its configuration, the
        # connection, is no schema type, and a closure is how it gets it.
        class _Client(Daemon, type="client", restart="temporary"):
            """Forwards what it is told to a client at the node's socket."""

            async def main(self) -> None:
                guest = guests[self.address]
                async for message in self.inbox():
                    try:
                        await guest.forward(message)
                    except Closed:
                        return

            def on_status(self) -> dict[str, object]:
                guest = guests.get(self.address)
                return {"unanswered": len(guest.open) if guest is not None else 0}

        self._class = _Client

    async def admit(self, number: int, link: Link) -> Guest:
        """Make the daemon that stands for the client."""
        address = f"d9://client/{self._system.name}/{number}"
        guest = self._guests[address] = Guest(self, self._system, address, link)
        try:
            await self._system.spawn(
                self._class, str(number), group=self._system.name, supervisor=False
            )
        except BaseException:
            guest.end()
            raise
        return guest

    def forget(self, address: str) -> None:
        """The client is gone."""
        self._guests.pop(address, None)


class Guest:
    """One client in the node; its connection is `link`.

    Attributes:
        address: What the node stamps on its messages.
        open: Asks that the client has not acknowledged, by their order.
    """

    def __init__(
        self, reception: KernelReception, system: System, address: str, link: Link
    ) -> None:
        self.address = address
        self.open: dict[Message, None] = {}
        self._reception = reception
        self._system = system
        self._link = link

    async def forward(self, message: Message) -> None:
        """Hand a message to the connection, when it takes more.

        Raises:
            Closed: The connection is gone; the message is refused with that.
        """
        try:
            await self._link.room()
        except Closed as error:
            message.refuse(error)
            raise
        try:
            payload = _spelled(message.payload)
        except BadPayload as error:
            message.refuse(error)
            return
        self.open[message] = None

        def acknowledged() -> None:
            if self.open.pop(message, 0) is None:
                message.reply(None)

        self._link.deliver(message.sender, message.type, payload, acknowledged)

    def end(self) -> None:
        """The connection is gone: refuse what it had not acknowledged, stop the daemon."""
        gone = Closed(f"the client {self.address} is gone", address=self.address)
        unanswered, self.open = list(self.open), {}
        for message in unanswered:
            message.refuse(gone)
        self._reception.forget(self.address)
        system = self._system
        if system.is_up and system.registry.get(self.address) is not None:
            system.run(system.stop_cell(system.cell_of(self.address)))


def _spelled(payload: dict[str, Any]) -> dict[str, object]:
    """The payload as a wire has it: its own keys in kebab-case, what is inside them untouched."""
    return {key.replace("_", "-"): forms.wire_of(value) for key, value in payload.items()}
