"""The coordinator of a group of daemons, whatever their archetype.

Members are daemons that exist (given by address or ref) or that the egregore spawns: those
are its children, supervised by it, and end with it. It monitors each: one that is being
restarted is passed over until it runs again, one that has ended for good leaves. Members come
and go while it works. What a broadcast means is the archetype's (`swarm.py`, `hierarchy.py`,
`ring.py`, `mesh.py`), which `Egregore(archetype=…)` picks by name.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from dan9.base.errors import BadConfig, BadPayload, Dan9Error, Exists, NotFound
from dan9.base.events import DaemonRestarted, DaemonStarted
from dan9.base.reasons import Reason
from dan9.kernel.cell import CREATED, FAILED, RUNNING, STARTING, STOPPED, SUSPENDED, Cell
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.ref import Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from dan9.base.events import Event
    from dan9.kernel.links import Down

__all__ = ["ARCHETYPES", "Egregore", "Pattern"]

ARCHETYPES = {
    "swarm": "dan9.egregore.swarm:SwarmPattern",
    "hierarchy": "dan9.egregore.hierarchy:HierarchyPattern",
    "ring": "dan9.egregore.ring:RingPattern",
    "mesh": "dan9.egregore.mesh:MeshPattern",
}

_RESTART = Reason("shutdown", "restart")
"""Why a daemon ends that is told `restart`: it comes back."""


class Pattern:
    """What an archetype makes of a broadcast and of members' coming and going."""

    def __init__(self, owner: Egregore) -> None:
        self.owner = owner

    async def broadcast(self, type_: str, payload: dict[str, Any], options: dict[str, Any]) -> Any:
        """Do it; return what the broadcast replies."""
        raise NotImplementedError

    def begun(self) -> None:
        """The members from the start are all there."""

    def joined(self, member: str) -> None:
        """A member has joined, or runs again."""

    def left(self, member: str) -> None:
        """A member has left for good."""

    def fallen(self, member: str) -> None:
        """A member has ended and will be started again."""

    def status(self) -> dict[str, object]:
        """Return keys to add to the status."""
        return {}


class Egregore(Daemon, type="egregore", checkpoint="never"):
    """Coordinates a group of daemons: a swarm, a hierarchy, a ring or a mesh."""

    archetype: Config[str] = "swarm"
    """swarm, hierarchy, ring or mesh."""
    members: Config[list[Any]] = []
    """Who belongs to it from the start: addresses or refs; in Python also Daemon classes."""
    member: Config[Any] = None
    """A Daemon class (or `module:Class`) of which it spawns `count` members."""
    count: Config[int] = 0

    rounds: int = 0
    """Broadcasts so far."""

    async def on_start(self) -> None:
        """Start those that are its own, and take up the others."""
        if self.archetype not in ARCHETYPES:
            raise BadConfig(
                f"no archetype {self.archetype!r}",
                hint="one of " + ", ".join(ARCHETYPES),
                at="archetype",
            )
        self._members: dict[str, Cell] = {}
        self._monitors: dict[str, int] = {}
        self._born = 0
        self._fallen: dict[str, None] = {}
        self._unsubscribe: Callable[[], None] | None = None
        self.has_begun = False
        self._pattern: Pattern = _load(ARCHETYPES[self.archetype])(self)
        for _ in range(self.count):
            await self._take(self.member)
        for one in self.members:
            await self._take(one)
        self.has_begun = True
        self._pattern.begun()

    def on_status(self) -> dict[str, object]:
        """Add archetype, members with their states, coordinator, rounds."""
        return {
            "archetype": self.archetype,
            "coordinator": self.address,
            "rounds": self.rounds,
            "members": {
                address: self.system.control.state(cell) for address, cell in self._members.items()
            },
            **self._pattern.status(),
        }

    @on(concurrent=True)
    async def add(self, member: Any) -> str:
        """Let a daemon join; reply its address.

        `member` is an address, a name or a ref; in Python also a Daemon class, of which
        one is spawned. Errors: unknown-daemon exists bad-payload.
        """
        return await self._take(member)

    @on(concurrent=True)
    async def remove(self, member: str) -> str:
        """Let a member go; one that the egregore spawned is stopped. Errors: not-found."""
        address = self.system.resolve(member) if member not in self._members else member
        if address not in self._members:
            raise NotFound(
                f"{address} is no member",
                hint=f"there are: {', '.join(list(self._members)[:8]) or 'none'}",
                at="member",
            )
        cell = self._members[address]
        number = self._monitors.pop(address, None)
        if number is not None:
            self.system.demonitor(number, self)
        self._leave(address)
        own = cell.cold is not None and cell.cold.parent is self._d9_cell
        if own:
            await self.system.control.stop(cell, "shutdown")
            self.system.supervision.forget(cell)
        return address

    @on(concurrent=True, timeout_s=None)
    async def broadcast(
        self,
        type: str,
        payload: dict[str, Any] | None = None,
        gather: bool = False,
        reduce: str = "list",
        timeout: float | None = 5.0,
    ) -> Any:
        """Say something to all, in the archetype's way.

        Swarm: every member is told; with `gather` asked: replies within `timeout`, and who is
        missing. Hierarchy: the payload's `items` are split over the workers and their results
        reduced (`list`, `sum`, `merge`); an item that takes longer than `timeout` (or than
        its handler says) is begun again elsewhere. Ring: the payload passes through the members
        in order; who keeps it longer than `timeout` is ended. Mesh: all are told, in causal
        order. Errors: bad-payload not-running item-failed, and what members refuse.
        """
        if not type:
            raise BadPayload("type is empty", hint="what is to be said?", at="payload.type")
        self.rounds += 1
        options = {"gather": gather, "reduce": reduce, "timeout": timeout}
        return await self._pattern.broadcast(type, payload or {}, options)

    async def on_down(self, down: Down) -> None:
        """A member ended: passed over while it is restarted, forgotten if that was its end."""
        address = down.address
        if self._monitors.get(address) != down.monitor:
            return
        del self._monitors[address]
        cell = self._members[address]
        has_ended = cell.state in {STOPPED, FAILED, CREATED} and down.reason != _RESTART
        if has_ended or self.system.registry.get(address) is None:
            self._leave(address)
            return
        self._pattern.fallen(address)
        if cell.state in {RUNNING, SUSPENDED}:  # it was faster than the word of its end
            self._up(address)
            return
        self._fallen[address] = None
        if cell.state == STARTING:
            self._monitors[address] = self.system.monitor(address, self)
        if self._unsubscribe is None:
            self._unsubscribe = self.system.subscribe_events(
                self._risen, DaemonStarted, DaemonRestarted
            )

    async def on_stop(self, reason: Reason) -> None:
        """Listen no more."""
        self._fallen.clear()
        self._listen_no_more()

    # -- for patterns ----------------------------------------------------------------------------

    def running(self) -> list[str]:
        """Return the members that run, in order of joining."""
        return [address for address, cell in self._members.items() if cell.state == RUNNING]

    def runs(self, member: str) -> bool:
        """True if it is a member and runs."""
        cell = self._members.get(member)
        return cell is not None and cell.state == RUNNING

    # -- inside ----------------------------------------------------------------------------------

    async def _take(self, member: Any) -> str:
        if isinstance(member, str) and ":" in member and not member.startswith("d9://"):
            member = _load(member)
        if isinstance(member, type):
            if not issubclass(member, Daemon):
                raise BadPayload(f"{member!r} is no Daemon class", at="member")
            self._born += 1
            name = f"{self.name[:50]}-{self._born}"
            member = await self.spawn(member, name, group=self.name)
        if not isinstance(member, str | Ref):
            raise BadPayload(
                f"{member!r} is no member", hint="an address, a ref or a Daemon class", at="member"
            )
        cell = self.system.cell_of(member, self._d9_cell)
        address = cell.address
        if cell is self._d9_cell:
            raise BadPayload("an egregore is no member of itself", at="member")
        if address in self._members:
            raise Exists(f"{address} is a member already", at="member")
        self._members[address] = cell
        self._monitors[address] = self.system.monitor(address, self)
        self._pattern.joined(address)
        return address

    def _leave(self, address: str) -> None:
        del self._members[address]
        self._fallen.pop(address, None)
        self._listen_no_more()
        self._pattern.left(address)

    def _risen(self, event: Event) -> None:
        """A daemon runs: perhaps a member that fell."""
        if event.address in self._fallen:
            self._up(event.address)

    def _up(self, address: str) -> None:
        self._fallen.pop(address, None)
        self._listen_no_more()
        if address not in self._monitors:
            self._monitors[address] = self.system.monitor(address, self)
        self._pattern.joined(address)

    def _listen_no_more(self) -> None:
        if self._unsubscribe is not None and not self._fallen:
            self._unsubscribe()
            self._unsubscribe = None


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadConfig(f"{target!r}: {error}", hint="as module:Class", at="member") from None


def described(error: BaseException) -> str:
    """Say in one line what went wrong with a member."""
    return error.text if isinstance(error, Dan9Error) else str(error)
