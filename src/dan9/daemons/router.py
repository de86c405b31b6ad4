"""The address router: from `d9://type/group/name` to the daemon that answers there.

Every daemon answers at its own address; the router knows these from the node's registry and
adds to them: `register` gives a living daemon another address, good wherever an address is
asked for. Such an address is unique, and free again when its daemon has ended for good (one
that is restarted keeps it). A daemon's own address comes before a registered one.

What is registered is state, saved soon after a change, and later the more there is: a save
writes it all. After a restart of the node an address leads to its daemon again as soon as
that has started; until then it is free for others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from dan9.base.address import Address, is_pattern
from dan9.base.errors import BadAddress, Dan9Error, Exists, NotFound, UnknownDaemon
from dan9.base.events import DaemonRestarted, DaemonStarted
from dan9.daemons.routes import Routes, matching
from dan9.kernel.cell import CLOSED, CREATED, FAILED, STATE_NAMES, STOPPED, Cell
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import current_message

if TYPE_CHECKING:
    from collections.abc import Callable

    from dan9.base.events import Event
    from dan9.base.reasons import Reason
    from dan9.kernel.links import Down

__all__ = ["Resolved", "Route", "Router"]

_SOON_S = 0.1  # after which a change is saved; and at most so often:
_SAVED_A_SECOND = 100_000
_ENDED = frozenset((STOPPED, FAILED, CREATED))


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


class Router(Daemon, type="router", checkpoint="on-stop"):
    """Finds daemons by address and pattern, and gives them addresses beside their own."""

    registered: dict[str, str] = {}
    """Registered address → the daemon's own."""

    async def on_start(self) -> None:
        """Lead to the daemons of an earlier life that are there; wait for the others."""
        self._routes: Routes[Cell] = Routes()
        self._of: dict[str, dict[str, None]] = {}  # target: its registered addresses
        self._monitors: dict[str, int] = {}
        self._away: dict[str, None] = {}  # targets that are to come (back)
        self._unsubscribe: Callable[[], None] | None = None
        self._is_save_due = False
        for uri, target in self.registered.items():
            self._of.setdefault(target, {})[uri] = None
        for target in self._of:
            self._lead_to(target)
        self.system.address_resolver = self._registered

    async def on_stop(self, reason: Reason) -> None:
        """Only daemons' own addresses lead anywhere now."""
        self.system.address_resolver = None
        self._away.clear()
        self._listen()

    def on_status(self) -> dict[str, object]:
        """Add how many addresses are registered, and how many daemons are waited for."""
        return {"registered": self._routes.count, "awaited": len(self._away)}

    @on
    def register(self, uri: str, target: str | None = None, replace: bool = False) -> str:
        """Have `uri` lead to a daemon (without `target`: to whoever asks); reply its address.

        Errors: exists (it leads somewhere already; `replace` moves it), unknown-daemon,
        bad-address.
        """
        uri = str(Address.parse(uri))
        cell = self.system.cell_of(self._asker() if target is None else target, self._d9_cell)
        if cell.gate & CLOSED and cell.state in _ENDED:
            raise UnknownDaemon(f"{cell.address} has ended", hint="start it first")
        if self.system.registry.get(uri) is not None:
            raise Exists(f"{uri} is a daemon's own address", hint="choose another")
        known = self._routes.get(uri)
        if known is not None and not replace:
            raise Exists(
                f"{uri} leads to {known.address} already",
                hint="unregister it first, or say replace=true",
                at="uri",
            )
        self._drop(uri)
        target = cell.address
        self._routes.add(uri, cell)
        self._of.setdefault(target, {})[uri] = None
        self.registered[uri] = target
        if target not in self._monitors:
            self._lead_to(target)
        self._save_soon()
        return target

    @on
    def unregister(self, uri: str) -> str:
        """Free a registered address; reply where it led. Errors: not-found bad-address."""
        uri = str(Address.parse(uri))
        target = self._drop(uri)
        if target is None:
            raise self._missing(uri)
        self._save_soon()
        return target

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

    async def on_down(self, down: Down) -> None:
        """Free the addresses of a daemon that has ended for good."""
        target = down.address
        if self._monitors.get(target) != down.monitor or self.system.supervision.is_going_down:
            return
        del self._monitors[target]
        cell = self.system.registry.get(target)
        # Its supervisor, or an operator's `restart`, stops a daemon with this reason.
        comes_back = cell is not None and (
            cell.state not in _ENDED or down.reason.kind == "shutdown"
        )
        if comes_back:
            self._lead_to(target)
            return
        for uri in self._of.pop(target, {}):
            self._routes.remove(uri)
            del self.registered[uri]
        self._save_soon()

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
        cell = self.system.registry.get(uri) or self._registered(uri)
        if cell is None:
            raise self._missing(uri)
        return cell

    def _registered(self, uri: str) -> Cell | None:
        """Return who answers at a registered address; whoever asks the kernel finds it so, too."""
        cell = self._routes.get(uri)
        # A daemon that was spawned anew at its address has another cell.
        return None if cell is None else self.system.current_cell_of(cell)

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

    def _drop(self, uri: str) -> str | None:
        """Free an address; return where it led, or was to lead."""
        target = self.registered.pop(uri, None)
        if target is not None:
            self._routes.remove(uri)
            uris = self._of[target]
            del uris[uri]
            if not uris:
                del self._of[target]
                self._away.pop(target, None)
                self._listen()
                number = self._monitors.pop(target, None)
                if number is not None:
                    self.system.demonitor(number, self)
        return target

    def _lead_to(self, target: str) -> None:
        """Have a daemon's addresses lead to it, and watch it; or wait until it starts."""
        cell = self.system.registry.get(target)
        if cell is None or cell.state in _ENDED:
            self._away[target] = None
        else:
            self._away.pop(target, None)
            for uri in self._of[target]:
                self._routes.add(uri, cell)
            self._monitors[target] = self.system.monitor(cell, self._d9_cell)
        self._listen()

    def _listen(self) -> None:
        """Listen for daemons that start, as long as one is waited for."""
        if self._away and self._unsubscribe is None:
            self._unsubscribe = self.system.subscribe_events(
                self._started, DaemonStarted, DaemonRestarted
            )
        elif not self._away and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None

    def _started(self, event: Event) -> None:
        if event.address in self._away:
            self._lead_to(event.address)

    def _save_soon(self) -> None:
        """Save what is registered in a while, once for all changes until then."""
        if self.system.store is None or self._is_save_due:
            return
        self._is_save_due = True
        pause_s = max(_SOON_S, len(self.registered) / _SAVED_A_SECOND)
        self.system.call_at(self.system.scheduler.time() + pause_s, self._save)

    def _save(self) -> None:
        self._is_save_due = False
        if self._d9_cell.instance is self:
            self.system.run(self.system.save(self.address))
