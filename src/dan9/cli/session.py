"""One command's connection to one node, made when it is first needed."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from dan9.base.address import is_pattern
from dan9.base.errors import Dan9Error, Refused, TimedOut, UnknownDaemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dan9.edge.client import Client

__all__ = ["NODE", "Session"]

NODE = "d9://system/system/node"
"""The daemon that answers for the node as a whole."""

_SPARED = ("/system/", "d9://client/")


class Session:
    """What a verb talks to.

    Attributes:
        status: The exit status so far; a verb over many daemons goes on past a refusal.
        errors: Those refusals, to be printed at the end.
    """

    def __init__(self, *, socket: str | None = None, timeout: str | None = None) -> None:
        from dan9.base.duration import parse_duration

        self.socket = socket
        self.timeout_s = None if timeout is None else parse_duration(timeout)
        self.status = 0
        self.errors: list[Dan9Error] = []
        self._client: Client | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> Client:
        """The client, connected.

        Raises:
            NoNode: None runs, or several do and none was named.
        """
        if self._client is None:
            from dan9.edge.client import connect

            self._client = connect(self.socket)
        return self._client

    def ask(
        self, address: str, type_: str, /, *, wait_s: float | None = None, **payload: Any
    ) -> Any:
        """Ask; keys of `payload` that are None are left out, underscores become hyphens.

        `wait_s` is how long, unless the user said; else the client's default.
        """
        body = {key.replace("_", "-"): value for key, value in payload.items() if value is not None}
        return self.ask_with(address, type_, body, wait_s=wait_s)

    def ask_with(
        self, address: str, type_: str, payload: dict[str, Any], *, wait_s: float | None = None
    ) -> Any:
        """Ask with a payload as it stands."""
        timeout_s = self.timeout_s if self.timeout_s is not None else wait_s
        if timeout_s is None:
            return self.client.ask(address, type_, payload=payload)
        return self.client.ask(address, type_, payload=payload, timeout_s=timeout_s)

    def node(self, type_: str, /, **payload: Any) -> Any:
        """Ask the node's own daemon."""
        return self.ask(NODE, type_, **payload)

    def targets(self, pattern: str, *, spare_system: bool = False) -> list[str]:
        """Return the addresses that a word of the command line means.

        Args:
            pattern: An address, name or path, which the node resolves, or a pattern.
            spare_system: Leave out group `system` and clients, unless the pattern names
                them: `stop '**'` is about one's own daemons, not about the node.

        Raises:
            UnknownDaemon: No daemon fits the pattern.
        """
        if not is_pattern(pattern):
            return [pattern]
        rows = self.node("ps", pattern=pattern)
        # Whoever asks is no part of the answer: its presence in the node ends with it.
        found = [str(row["address"]) for row in rows if row["address"] != self.client.address]
        for spared in _SPARED if spare_system else ():
            if spared not in pattern:
                found = [address for address in found if spared not in address]
        if not found:
            raise UnknownDaemon(f"no daemon fits {pattern!r}", hint="dan9 ps lists them")
        return found

    def each(
        self,
        pattern: str,
        type_: str,
        /,
        *,
        spare_system: bool = False,
        passing_over: tuple[type[Refused], ...] = (),
        **payload: Any,
    ) -> list[dict[str, Any]]:
        """Ask every daemon that a word means; one's refusal does not keep it from the rest.

        Args:
            pattern: The word.
            type_: The message.
            spare_system: As in `targets`.
            passing_over: Refusals that do not matter when many are asked.
            payload: What the message says.

        Returns:
            A row for each that answered, with `address` and `reply`.
        """
        targets = self.targets(pattern, spare_system=spare_system)
        rows = []
        for address in targets:
            try:
                rows.append({"address": address, "reply": self.ask(address, type_, **payload)})
            except (Refused, TimedOut) as error:
                if len(targets) == 1:
                    raise
                if not isinstance(error, passing_over):
                    self.note(error, address)
        return rows

    def note(self, error: Dan9Error, address: str = "") -> None:
        """Remember an error that does not end the command."""
        error.address = error.address or address
        self.errors.append(error)
        self.status = self.status or (4 if isinstance(error, TimedOut) else 1)

    def stream(self, address: str, type_: str, /, **payload: Any) -> Iterator[dict[str, Any]]:
        """Subscribe, and yield what comes until the user has enough."""
        body = {key.replace("_", "-"): value for key, value in payload.items() if value is not None}
        yield from self.client.subscribe(address, type_, payload=body)
