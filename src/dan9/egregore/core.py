"""The coordinator of a group of daemons, whatever their archetype.

Members are daemons that exist (given by address or ref) or that the egregore spawns: those
are its children, supervised by it, and end with it. It monitors each: one that is being
restarted is passed over until it runs again, one that has ended for good leaves. Members come
and go while it works. What a broadcast means is the archetype's (`swarm.py`, `hierarchy.py`,
`ring.py`, `mesh.py`), which `Egregore(archetype=…)` picks by name.
"""

from __future__ import annotations

import asyncio
import importlib
import re
from typing import TYPE_CHECKING, Any, TypedDict

from dan9.base.address import SCHEME, Address
from dan9.base.duration import Duration, parse_duration
from dan9.base.errors import (
    BadConfig,
    BadPayload,
    Dan9Error,
    Exists,
    NotFound,
    NotSupported,
)
from dan9.base.events import DaemonRestarted, DaemonStarted
from dan9.kernel.cell import CREATED, FAILED, RUNNING, STARTING, STOPPED, SUSPENDED, Cell
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.ref import Ref

if TYPE_CHECKING:
    from collections.abc import Callable

    from dan9.base.events import Event
    from dan9.base.reasons import Reason
    from dan9.kernel.links import Down

__all__ = ["ARCHETYPES", "Decided", "Egregore", "Pattern"]

ARCHETYPES = {
    "swarm": "dan9.egregore.swarm:SwarmPattern",
    "hierarchy": "dan9.egregore.hierarchy:HierarchyPattern",
    "ring": "dan9.egregore.ring:RingPattern",
    "mesh": "dan9.egregore.mesh:MeshPattern",
}

_SHUTDOWN = "shutdown"
"""The kind of an end by a supervisor, or by an operator's `restart`: the daemon comes back."""
_PORTION = 512
"""How many are spawned before others have a turn."""


class Decided(TypedDict):
    """Whether a value is decided, which, and in what round."""

    decided: bool
    value: Any
    round: int


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

    async def propose(self, value: Any, topic: str, timeout: float | None) -> Decided:
        """Have the members agree on one value."""
        raise NotSupported(f"a {self.owner.archetype} does not agree on values", hint="a mesh does")

    def status(self) -> dict[str, object]:
        """Return keys to add to the status."""
        return {}


class Egregore(Daemon, type="egregore", checkpoint="on-change"):
    """Coordinates a group of daemons: a swarm, a hierarchy, a ring or a mesh."""

    archetype: Config[str] = "swarm"
    """swarm, hierarchy, ring or mesh."""
    members: Config[list[Any]] = []
    """Who belongs to it from the start: addresses or refs, or classes of which one is spawned."""
    member: Config[Any] = None
    """A Daemon class (or `module:Class`) of which it spawns `count` members."""
    count: Config[int] = 0

    added: dict[str, str] = {}
    """Who was added by hand: address to `module:Class` if it spawned it, else to nothing."""
    removed: list[str] = []
    """Who was let go by hand of those that the configuration names."""
    epoch: int = 0
    """A ring's: rises whenever a token is given up for lost."""
    topics: dict[str, dict[str, str]] = {}
    """A mesh's: the electors of each topic, fixed when it was first proposed."""

    async def on_start(self) -> None:
        """Start those that are its own, and take up the others."""
        if self.archetype not in ARCHETYPES:
            raise BadConfig(
                f"no archetype {self.archetype!r}",
                hint="one of " + ", ".join(ARCHETYPES),
                at="archetype",
            )
        self._rounds = 0
        self._members: dict[str, Cell] = {}
        self._monitors: dict[str, int] = {}
        self._away: dict[str, None] = {}  # members that are to come, or to come back
        self._unsubscribe: Callable[[], None] | None = None
        self._pattern: Pattern = _load(ARCHETYPES[self.archetype])(self)
        self.has_begun = False
        await self._begin_members()
        self.has_begun = True
        self._pattern.begun()

    async def _begin_members(self) -> None:
        """Take up whom the configuration names and who was added; not who was removed."""
        removed = frozenset(self.removed)
        self._named: set[str] = set()  # whom the configuration names
        born = [_class_of(self.member)] * self.count if self.count else []
        born += [_class_of(one) for one in self.members if _is_class(one)]
        for number, cls in enumerate(born, 1):
            name = self._own_name(number)
            address = f"{SCHEME}{cls._d9_behaviour.type_name}/{self.name}/{name}"
            self._named.add(address)
            if address not in removed:
                self._join(address, await self._bear(cls, name))
            if number % _PORTION == 0:
                await asyncio.sleep(0)  # many take long: everybody else has a turn
        for one in self.members:
            if _is_class(one):
                continue
            is_address = isinstance(one, str) and one.startswith(SCHEME)
            is_there = not is_address or self.system.registry.get(one) is not None
            address = self._found(one).address if is_there else str(Address.parse(one))
            self._named.add(address)
            if address in removed:
                continue
            if is_there:
                self._enlist(self._found(one))
            else:
                self._await(address)
        self._born = max([len(born), *map(_number_of, self.added)])
        # Shown as text: a class is nothing that `status` could print.
        self.member = _spelled(self.member)
        self.members = [*map(_spelled, self.members)]
        for address, target in list(self.added.items()):
            await self._take_again(address, target)

    def on_status(self) -> dict[str, object]:
        """Add archetype, members with their states, coordinator, rounds."""
        return {
            "archetype": self.archetype,
            "coordinator": self.address,
            "rounds": self._rounds,
            "members": {
                **{
                    address: self.system.control.state(cell)
                    for address, cell in self._members.items()
                },
                **{address: "absent" for address in self._away if address not in self._members},
            },
            **self._pattern.status(),
        }

    @on(concurrent=True)
    async def add(self, member: Any) -> str:
        """Let a daemon join; reply its address.

        `member` is an address, a name or a ref; in Python also a Daemon class, of which
        one is spawned. Errors: unknown-daemon exists bad-payload.
        """
        if _is_class(member):
            self._born += 1
            cell = await self._bear(_class_of(member), self._own_name(self._born))
        else:
            cell = self._found(member)
        address = self._enlist(cell)
        if address in self._named:
            self.removed = [one for one in self.removed if one != address]
        else:
            self.added[address] = _spelled(cell.home.behaviour.cls) if self._is_own(cell) else ""
        await self.system.save(self.address)
        return address

    @on(concurrent=True)
    async def remove(self, member: str) -> str:
        """Let a member go; one that the egregore spawned is stopped. Errors: not-found."""
        known = member in self._members or member in self._away
        address = member if known else self.system.resolve(member)
        if address not in self._members and address not in self._away:
            raise NotFound(
                f"{address} is no member",
                hint=f"there are: {', '.join(list(self._members)[:8]) or 'none'}",
                at="member",
            )
        if address in self._named:
            self.removed.append(address)
        self.added.pop(address, None)
        cell = self._members.get(address)
        number = self._monitors.pop(address, None)
        if number is not None:
            self.system.demonitor(number, self)
        self._leave(address)
        if cell is not None and self._is_own(cell):
            await self.system.control.stop(cell, "shutdown")
            self.system.supervision.forget(cell)
        await self.system.save(self.address)
        return address

    @on(concurrent=True, timeout_s=None)
    async def broadcast(
        self,
        type: str,
        payload: dict[str, Any] | None = None,
        gather: bool = False,
        reduce: str = "list",
        timeout: Duration | None = 5.0,
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
        self._rounds += 1
        options = {"gather": gather, "reduce": reduce, "timeout": _limit(timeout)}
        return await self._pattern.broadcast(type, payload or {}, options)

    @on(concurrent=True, timeout_s=None)
    async def propose(
        self, value: Any, topic: str = "", timeout: Duration | None = 30.0
    ) -> Decided:
        """Have the members of a mesh agree on one value; reply decided, value, round.

        The value may be another than the one proposed: what was decided for the topic before.
        Without a topic it is a question of its own. Not decided within `timeout`: no majority
        could be had; it may still be decided later. Errors: not-supported (no mesh, or
        members that are no MeshMembers), conflict (electors that lost their memory leave no
        majority), bad-payload.
        """
        if value is None:
            raise BadPayload("nothing is proposed", at="payload.value")
        return await self._pattern.propose(value, topic, _limit(timeout))

    async def on_down(self, down: Down) -> None:
        """A member ended: passed over while it is restarted, forgotten if that was its end."""
        address = down.address
        if self._monitors.get(address) != down.monitor or self.system.supervision.is_going_down:
            return
        del self._monitors[address]
        cell = self._members[address]
        has_ended = cell.state in {STOPPED, FAILED, CREATED} and down.reason.kind != _SHUTDOWN
        if has_ended or self.system.registry.get(address) is None:
            self.added.pop(address, None)
            self._leave(address)
            return
        self._pattern.fallen(address)
        if cell.state in {RUNNING, SUSPENDED}:  # it was faster than the word of its end
            self._up(address)
            return
        if cell.state == STARTING:
            self._monitors[address] = self.system.monitor(address, self)
        self._await(address)

    async def on_stop(self, reason: Reason) -> None:
        """Listen no more."""
        self._away.clear()
        self._listen()

    # -- for patterns ----------------------------------------------------------------------------

    def running(self) -> list[str]:
        """Return the members that run, in order of joining."""
        return [address for address, cell in self._members.items() if cell.state == RUNNING]

    def runs(self, member: str) -> bool:
        """True if it is a member and runs."""
        cell = self._members.get(member)
        return cell is not None and cell.state == RUNNING

    # -- inside ----------------------------------------------------------------------------------

    def _found(self, member: Any) -> Cell:
        """Return the daemon that is meant."""
        if not isinstance(member, str | Ref):
            raise BadPayload(
                f"{member!r} is no member", hint="an address, a ref or a Daemon class", at="member"
            )
        cell: Cell = self.system.cell_of(member, self._d9_cell)
        if cell is self._d9_cell:
            raise BadPayload("an egregore is no member of itself", at="member")
        return cell

    async def _take_again(self, address: str, target: str) -> None:
        """Take up one that was added in an earlier life."""
        try:
            if target:
                self._enlist(await self._bear(_class_of(target), address.rpartition("/")[2]))
                return
            cell = self.system.registry.get(address)
        except Dan9Error as error:
            self.log.warning("%s is no member any more: %s", address, described(error))
            del self.added[address]
            return
        if cell is None:
            self._await(address)
        elif address not in self._members:
            self._enlist(cell)

    async def _bear(self, cls: type[Daemon], name: str) -> Cell:
        """Spawn a member: a child, in a group of the egregore's name."""
        child = await self.spawn(cls, name, group=self.name)
        return child._d9_cell

    def _own_name(self, number: int) -> str:
        return f"{self.name[:50]}-{number}"

    def _is_own(self, cell: Cell) -> bool:
        return cell.cold is not None and cell.cold.parent is self._d9_cell

    def _enlist(self, cell: Cell) -> str:
        address = cell.address
        if address in self._members:
            raise Exists(f"{address} is a member already", at="member")
        self._join(address, cell)
        return address

    def _join(self, address: str, cell: Cell) -> None:
        self._members[address] = cell
        self._monitors[address] = self.system.monitor(cell, self._d9_cell)
        self._pattern.joined(address)

    def _leave(self, address: str) -> None:
        self._away.pop(address, None)
        self._listen()
        if self._members.pop(address, None) is not None:
            self._pattern.left(address)

    def _await(self, address: str) -> None:
        """Wait for a member that is to come, or to come back."""
        self._away[address] = None
        self._listen()

    def _risen(self, event: Event) -> None:
        """A daemon runs: perhaps one that is waited for."""
        if event.address in self._away:
            self._up(event.address)

    def _up(self, address: str) -> None:
        self._away.pop(address, None)
        self._listen()
        cell = self.system.cell_of(address)
        if address not in self._members:
            self._enlist(cell)
            return
        self._members[address] = cell
        if address not in self._monitors:
            self._monitors[address] = self.system.monitor(cell, self._d9_cell)
        self._pattern.joined(address)

    def _listen(self) -> None:
        """Listen for daemons that start, as long as one is waited for."""
        if self._away and self._unsubscribe is None:
            self._unsubscribe = self.system.subscribe_events(
                self._risen, DaemonStarted, DaemonRestarted
            )
        elif not self._away and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None


_CLASS = re.compile(r"[\w.]+:[\w.]+\Z")


def _limit(timeout: Duration | None) -> float | None:
    """Return a deadline in seconds; None: there is none."""
    if timeout is None:
        return None
    seconds = parse_duration(timeout)
    if not seconds > 0:
        raise BadPayload(f"timeout is {timeout}", hint="above 0", at="payload.timeout")
    return seconds


def _is_class(member: object) -> bool:
    return isinstance(member, type) or (isinstance(member, str) and bool(_CLASS.match(member)))


def _class_of(given: object) -> type[Daemon]:
    """Return a Daemon class, given as such or as `module:Class`."""
    found = _load(given) if isinstance(given, str) else given
    if not (isinstance(found, type) and issubclass(found, Daemon)):
        raise BadPayload(f"{given!r} is no Daemon class", hint="as module:Class", at="member")
    return found


def _spelled(member: Any) -> Any:
    """Return a class as `module:Class`, anything else as it is."""
    return f"{member.__module__}:{member.__qualname__}" if isinstance(member, type) else member


def _number_of(address: str) -> int:
    """Return the number in the name of a member that was spawned; 0: there is none."""
    number = address.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise BadConfig(f"{target!r}: {error}", hint="as module:Class", at="member") from None


def described(error: BaseException) -> str:
    """Say in one line what went wrong with a member."""
    return error.text if isinstance(error, Dan9Error) else str(error)
