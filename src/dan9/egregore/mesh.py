"""Mesh: every member knows its peers; messages come in causal order; values can be agreed on.

Members that derive from `MeshMember` speak for themselves: `publish` reaches all others in
causal order, `peers` is kept up to date, and they elect. Other daemons may be members too: they
are told, in the order of the coordinator, and of their peers if they know a message `peers`.

They elect, too: what the coordinator proposes (`agreement.py`) they promise and vote for, and
say so after it was saved, where the system has a store. An elector that lost its memory has
another mark and refuses.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from dan9.base.errors import Conflict, Dan9Error, MailboxFull, NotSupported
from dan9.egregore.agreement import Agreement
from dan9.egregore.clocks import Causal, Published
from dan9.egregore.consensus import Acceptor, ballot_of
from dan9.egregore.core import Decided, Egregore, Pattern
from dan9.kernel.cell import CLOSED
from dan9.kernel.daemon import Config, Daemon, on

__all__ = ["Decree", "Mesh", "MeshMember", "MeshPattern"]

_PATIENCE_S = 5.0
"""How long a message waits for its cause before the peers are asked whether that still comes."""


@dataclass(slots=True)
class Decree:
    """What an elector remembers of one topic."""

    electors: dict[str, str] = field(default_factory=dict)
    promised: list[Any] = field(default_factory=lambda: [0, ""])
    ballot: list[Any] = field(default_factory=lambda: [0, ""])
    value: Any = None


class MeshMember(Daemon, type="mesh-member", checkpoint="on-stop"):
    """A daemon that knows its peers, publishes to them in causal order, and elects."""

    peer_list: list[str] = []
    born: str = ""
    """The mark of its memory: another one after that was lost."""
    decrees: dict[str, Decree] = {}

    @on
    def peers(
        self,
        members: list[str],
        joined: str = "",
        left: str = "",
        speaking: list[str] | None = None,
        view: int = 0,
        coordinator: str = "",
        count: int = 0,
    ) -> None:
        """Hear who the peers are, from their coordinator.

        Args:
            members: All of them.
            joined: Who is new, or runs again.
            left: Who is none any more.
            speaking: Those that run; the others' next message comes from their next
                incarnation.
            view: The number of this membership; greater than that of every earlier one.
            coordinator, count: The coordinator's process; how many it has published.
        """
        self.peer_list = [one for one in members if one != self.address]
        causal = self._causal_of()
        speaking = members if speaking is None else speaking
        ready = causal.see(view, [*speaking, coordinator.rpartition("#")[0]])
        if coordinator:
            ready += causal.greet(coordinator, count, view)
        self._handle_all(ready)
        self._greeted &= set(self.peer_list) - {joined}
        for peer in self.peer_list:
            self._greet(peer)

    @on
    def publish(self, type: str, payload: dict[str, Any] | None = None) -> int:
        """Tell all peers, so that everyone handles it after whatever caused it.

        Replies how many were told. It is handled here first. Peers that are no MeshMembers
        are told it plainly. Errors: those of the handler.
        """
        causal = self._causal_of()
        self._handle(type, payload or {})
        for peer in self.peer_list:
            self._greet(peer)
        say = _on_its_way(causal.stamp((type, payload or {})))
        told = 0
        for peer in self.peer_list:
            try:
                if _is_own(self.system, peer):
                    self.tell(peer, "deliver", payload=say)
                else:
                    self.tell(peer, type, payload=payload)
            except Dan9Error as error:
                self.log.warning("%s was not told %s: %s", peer, type, error)
                self._greeted.discard(peer)
                self._greet(peer)  # so that it does not wait for what never comes
                continue
            told += 1
        return told

    @on
    def deliver(
        self, sender: str, clock: dict[str, int], type: str, payload: dict[str, Any], view: int = 0
    ) -> int:
        """Take a published message; handle what may be handled now; reply how many that were."""
        ready = self._causal_of().receive(Published(sender, clock, view, (type, payload)))
        self._handle_all(ready)
        self._wonder()
        return len(ready)

    @on
    def peer_greets(self, sender: str, count: int, view: int = 0) -> None:
        """Hear from a peer that what it has published so far, `count` messages, is told."""
        self._handle_all(self._causal_of().greet(sender, count, view))

    @on
    def peer_asks(self, peer: str) -> None:
        """Greet a peer again: it has waited so long that what it waits for may be lost."""
        self._causal_of()
        self._greeted.discard(peer)
        self._greet(peer)

    @on
    async def enrol(self) -> str:
        """Reply the mark of this member's memory, saved before."""
        if not self.born:
            self.born = f"{self.system.random.getrandbits(64):016x}"
            await self.system.save(self.address)
        return self.born

    @on
    async def prepare(self, topic: str, electors: dict[str, str], ballot: list[Any]) -> Any:
        """Promise to accept nothing older; reply promise, or a refusal. Errors: conflict."""
        decree = self._decree(topic, electors)
        acceptor = Acceptor(ballot_of(decree.promised), ballot_of(decree.ballot), decree.value)
        promise = acceptor.prepare(ballot_of(ballot))
        decree.promised = list(promise.promised)
        await self.system.save(self.address)
        return {
            "granted": promise.granted,
            "promised": list(promise.promised),
            "ballot": list(promise.ballot),
            "value": promise.value,
        }

    @on
    async def accept(
        self, topic: str, electors: dict[str, str], ballot: list[Any], value: Any
    ) -> bool:
        """Vote for a value, unless something newer was promised. Errors: conflict."""
        decree = self._decree(topic, electors)
        acceptor = Acceptor(ballot_of(decree.promised), ballot_of(decree.ballot), decree.value)
        granted = acceptor.accept(ballot_of(ballot), value)
        decree.promised, decree.ballot = list(acceptor.promised), list(acceptor.ballot)
        decree.value = acceptor.value
        await self.system.save(self.address)
        return granted

    @on
    def forget_topic(self, topic: str) -> None:
        """Drop what was promised about a topic of which nobody will ever hear again."""
        self.decrees.pop(topic, None)

    def _decree(self, topic: str, electors: dict[str, str]) -> Decree:
        if not self.born or electors.get(self.address) != self.born:
            raise Conflict(
                f"{self.address} is no elector of {topic!r}: it has lost its memory since",
                hint="propose under a new topic",
                at="electors",
            )
        decree = self.decrees.get(topic)
        if decree is None:
            decree = self.decrees[topic] = Decree(electors)
        elif decree.electors != electors:
            raise Conflict(f"{topic!r} has other electors", hint="use a new topic", at="electors")
        return decree

    def _causal_of(self) -> Causal:
        """Return the clocks of this incarnation; a subclass may have an `on_start` of its own."""
        causal: Causal | None = getattr(self, "_causal", None)
        if causal is None:
            causal = self._causal = Causal(self.address, self.system.next_number())
            self._greeted: set[str] = set()
            self._wonders = False
        return causal

    def _wonder(self) -> None:
        """If something has to wait, ask the peers after a while whether its cause still comes."""
        if self._wonders or not self._causal_of().waiting:
            return
        self._wonders = True

        def ask() -> None:
            self._wonders = False
            if self._d9_cell.instance is not self or not self._causal_of().waiting:
                return
            for peer in self.peer_list:
                if _is_own(self.system, peer):
                    _told(self, peer, "peer-asks", {"peer": self.address})
            self._wonder()

        self.system.call_at(self.system.scheduler.time() + _PATIENCE_S, ask)

    def _greet(self, peer: str) -> None:
        """Say where one's story begins to a peer that has not heard it."""
        if peer in self._greeted or not _is_own(self.system, peer):
            return
        causal = self._causal_of()
        say = {"sender": causal.me, "count": causal.sent, "view": causal.view}
        if _told(self, peer, "peer-greets", say):
            self._greeted.add(peer)

    def _handle_all(self, ready: list[Any]) -> None:
        for type_, payload in ready:
            self._handle(type_, payload)

    def _handle(self, type_: str, payload: dict[str, Any]) -> None:
        """Run a plain handler in place: order is kept; an async one is queued to oneself."""
        verb = self.system.verb_of(self._d9_cell, type_)
        if verb.is_async or verb.function is None:
            self.tell(self.address, type_, payload=payload)
            return
        verb.function(self, **verb.signature.bind(payload))


class MeshPattern(Pattern):
    """Tells members of their peers and messages in one order."""

    def __init__(self, owner: Egregore) -> None:
        super().__init__(owner)
        self.causal = Causal(owner.address, owner.system.next_number())
        self.view = 0
        self.greeted: dict[str, int] = {}  # member: how much was said before it was greeted

    async def broadcast(self, type_: str, payload: dict[str, Any], options: dict[str, Any]) -> int:
        """Return how many were told."""
        owner = self.owner
        published = self.causal.stamp((type_, payload))
        say = _on_its_way(published)
        told = 0
        for member in list(owner._members):
            if not owner.runs(member):
                self._skip(member, published)
                continue
            try:
                if not _is_own(owner.system, member):
                    await owner.send(member, type_, payload=payload)
                elif self.greeted.get(member, 0) < published.number:  # else it joined since
                    await owner.send(member, "deliver", payload=say)
            except Dan9Error as error:
                owner.log.warning("%s was not told %s: %s", member, type_, error)
                self._skip(member, published)
                continue
            told += 1
        return told

    def _skip(self, member: str, published: Published) -> None:
        """Let a member not wait for what it is not told."""
        self.greeted.pop(member, None)
        self._tell(member, count=published.number)

    def begun(self) -> None:
        """All hear of all."""
        self._tell_all()

    def joined(self, member: str) -> None:
        """All hear of it."""
        if self.owner.has_begun:
            self.greeted.pop(member, None)
            self._tell_all(joined=member)

    def left(self, member: str) -> None:
        """All hear of it; if it lives, it hears that it has no peers any more."""
        self.greeted.pop(member, None)
        self._tell_all(left=member)
        self._tell(member, left=member, members=[])

    def fallen(self, member: str) -> None:
        """All hear that it says nothing until it runs again."""
        self.greeted.pop(member, None)
        self._tell_all()

    def _tell_all(self, joined: str = "", left: str = "") -> None:
        self.view = self.owner.system.next_number()
        for member in list(self.owner._members):
            self._tell(member, joined=joined, left=left)

    def _tell(
        self,
        member: str,
        joined: str = "",
        left: str = "",
        members: list[str] | None = None,
        count: int | None = None,
    ) -> None:
        """Tell a member of its peers, if it is there and knows such a message."""
        owner = self.owner
        cell = owner.system.registry.get(member)
        if cell is None or cell.gate & CLOSED or "peers" not in cell.home.behaviour.verbs:
            return
        members = list(owner._members) if members is None else members
        say: dict[str, Any] = {"members": members, "joined": joined, "left": left}
        known = self.causal.sent if count is None else count
        if _is_own(owner.system, member):
            known = self.greeted.get(member, known)
            say["speaking"] = [one for one in members if self._may_speak(one)]
            say["view"], say["coordinator"], say["count"] = self.view, self.causal.me, known
        if _told(owner, member, "peers", say):
            self.greeted[member] = known

    def _may_speak(self, member: str) -> bool:
        return not self.owner._members[member].gate & CLOSED

    async def propose(self, value: Any, topic: str, timeout: float | None) -> Decided:
        """Have the members agree, if all of them elect."""
        owner = self.owner
        if not owner._members or not all(_is_own(owner.system, one) for one in owner._members):
            raise NotSupported(
                "only MeshMembers elect", hint="derive the members from dan9.egregore.MeshMember"
            )
        return await Agreement(owner, topic).propose(value, timeout)


def _is_own(system: Any, address: str) -> bool:
    """Return whether a member speaks for itself."""
    cell = system.registry.get(address)
    return cell is not None and issubclass(cell.home.behaviour.cls, MeshMember)


_WAITING: set[asyncio.Task[None]] = set()


def _told(daemon: Daemon, member: str, type_: str, say: dict[str, Any]) -> bool:
    """Tell a member, now or when it has room; False if it cannot be told.

    What comes after it to the same member waits as well, so that order is kept.
    """

    async def wait() -> None:
        try:
            await daemon.send(member, type_, payload=say, timeout_s=None)
        except Dan9Error as error:
            daemon.log.warning("%s was not told %s: %s", member, type_, error)

    try:
        daemon.tell(member, type_, payload=say)
    except MailboxFull:
        task = asyncio.ensure_future(wait())
        _WAITING.add(task)
        task.add_done_callback(_WAITING.discard)
    except Dan9Error as error:
        daemon.log.warning("%s was not told %s: %s", member, type_, error)
        return False
    return True


def _on_its_way(published: Published) -> dict[str, Any]:
    type_, payload = published.message
    return {
        "sender": published.sender,
        "clock": published.clock,
        "view": published.view,
        "type": type_,
        "payload": payload,
    }


class Mesh(Egregore, type="egregore"):
    """An egregore of peers, who can agree."""

    archetype: Config[str] = "mesh"
