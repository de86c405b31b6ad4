"""The address router: from `d9://type/group/name` to the daemon that answers there.

Every daemon answers at its own address; the router knows these from the node's registry and
adds to them: `register` gives a living daemon another address. Such an address is unique,
and free again when its daemon has ended for good (one that is restarted keeps it).
"""

from __future__ import annotations

from typing import Any, TypedDict

from dan9.base.address import Address, is_pattern
from dan9.base.errors import BadAddress, Dan9Error, Exists, NotFound, UnknownDaemon
from dan9.daemons.routes import Routes, matching
from dan9.kernel.cell import CLOSED, CREATED, FAILED, STATE_NAMES, STOPPED, Cell
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import current_message

__all__ = ["Resolved", "Route", "Router"]


class Resolved(TypedDict):
    """Who answers at an address, on which node, in which state."""

    address: str
    node: str
    state: str


class Route(TypedDict):
    """One address of a list; `address` differs from `uri` where it was registered."""

    uri: str
    address: str
    state: str


class Router(Daemon, type="router", checkpoint="never"):
    """Finds daemons by address and pattern, and gives them addresses beside their own."""

    async def on_start(self) -> None:
        """Know no address but the daemons' own."""
        self._routes: Routes[Cell] = Routes()
        self._of: dict[str, dict[str, None]] = {}  # target: its registered addresses

    def on_status(self) -> dict[str, object]:
        """Add how many addresses are registered."""
        return {"registered": self._routes.count}

    @on
    def register(self, uri: str, target: str | None = None, replace: bool = False) -> str:
        """Have `uri` lead to a daemon (without `target`: to whoever asks); reply its address.

        Errors: exists (it leads somewhere already; `replace` moves it), unknown-daemon,
        bad-address.
        """
        uri = str(Address.parse(uri))
        cell = self.system.cell_of(self._asker() if target is None else target, self._d9_cell)
        if cell.gate & CLOSED and cell.state in {STOPPED, FAILED, CREATED}:
            raise UnknownDaemon(f"{cell.address} has ended", hint="start it first")
        if self.system.registry.get(uri) is not None:
            raise Exists(f"{uri} is a daemon's own address", hint="choose another")
        known = self._routes.get(uri)
        if known is not None:
            if not replace:
                raise Exists(
                    f"{uri} leads to {known.address} already",
                    hint="unregister it first, or say replace=true",
                    at="uri",
                )
            self._drop(uri)
        self._routes.add(uri, cell)
        own = self._of.get(cell.address)
        if own is None:
            own = self._of[cell.address] = {}
            self._watch(cell)
        own[uri] = None
        return cell.address

    @on
    def unregister(self, uri: str) -> str:
        """Free a registered address; reply where it led. Errors: not-found bad-address."""
        uri = str(Address.parse(uri))
        if self._routes.get(uri) is None:
            raise self._missing(uri)
        return self._drop(uri)

    @on
    def resolve(self, uri: str) -> Resolved:
        """Return address, node and state of who answers at `uri`.

        Errors: not-found bad-address.
        """
        cell = self._find(uri)
        return {
            "address": cell.address,
            "node": self.system.name,
            "state": STATE_NAMES[cell.state],
        }

    @on
    def send_(self, target_uri: str, type: str, payload: dict[str, Any] | None = None) -> int:
        """Tell whoever answers at an address, or all that a pattern fits; reply how many.

        The sender they see is whoever asked for it. Of a pattern, those that know no such
        message are left out. Errors: not-found bad-address, and what telling one answers.
        """
        sender = self._asker()
        if not is_pattern(target_uri):
            cell = self._find(target_uri)
            self._pass_on(sender, cell.address, type, payload)
            return 1
        told = 0
        for address in dict.fromkeys(cell.address for _, cell in self._match(target_uri)):
            try:
                self._pass_on(sender, address, type, payload)
            except Dan9Error:
                continue
            told += 1
        return told

    @on
    def list_(self, pattern: str = "**", limit: int = 1000) -> list[Route]:
        """Return the addresses that a pattern fits, registered and daemons' own, `limit` at most.

        Errors: bad-address.
        """
        out: list[Route] = []
        for uri, cell in self._match(pattern):
            if len(out) >= limit:
                break
            out.append({"uri": uri, "address": cell.address, "state": STATE_NAMES[cell.state]})
        return out

    @on
    def ended(self, target: str) -> int:
        """Free the addresses of a daemon that has ended for good; reply how many.

        The router tells itself so; a daemon that is about to be restarted keeps them.
        """
        cell = self.system.registry.get(target)
        if cell is not None and cell.state not in {STOPPED, FAILED}:
            if target in self._of:
                self._watch(cell)
            return 0
        uris = self._of.pop(target, {})
        for uri in uris:
            self._routes.remove(uri)
        return len(uris)

    # -- inside ------------------------------------------------------------------------------

    def _asker(self) -> str:
        message = current_message()
        return message.sender if message is not None else self.address

    def _pass_on(
        self, sender: str, address: str, type_: str, payload: dict[str, Any] | None
    ) -> None:
        """Tell for somebody else: the kernel stamps the daemon at work, unless none is."""
        scheduler = self.system.scheduler
        at_work, scheduler.current_cell = scheduler.current_cell, None
        try:
            self.system.wire_tell(sender, address, type_, payload or {})
        finally:
            scheduler.current_cell = at_work

    def _find(self, uri: str) -> Cell:
        cell = self._routes.get(uri)
        if cell is None:
            cell = self.system.registry.get(uri)
            if cell is None:
                raise self._missing(uri)
            return cell
        # A daemon that was spawned anew at its address has another cell.
        return self.system.current_cell_of(cell)

    def _missing(self, uri: str) -> Dan9Error:
        if is_pattern(uri):
            return BadAddress(f"{uri} is a pattern and names many", hint="`list` takes patterns")
        parsed = Address.parse(uri)
        return NotFound(
            f"nobody answers at {parsed}", hint=f"try list pattern=d9://{parsed.type}/**", at="uri"
        )

    def _match(self, pattern: str) -> list[tuple[str, Cell]]:
        own: dict[str, dict[str, dict[str, Cell]]] = {}
        for key, home in self.system.registry.homes.items():
            kind, _, group = key.partition("/")
            own.setdefault(kind, {})[group] = home.names
        return [*matching(own, pattern), *self._routes.match(pattern)]

    def _drop(self, uri: str) -> str:
        cell = self._routes.remove(uri)
        assert cell is not None
        uris = self._of[cell.address]
        del uris[uri]  # the watch stays; it finds nothing to free
        return cell.address

    def _watch(self, cell: Cell) -> None:
        address = cell.address
        self.system.on_end_of(address, lambda: self.ended.tell(address))
