"""Mesh: every member knows its peers; messages come in causal order; values can be agreed on.

Members that derive from `MeshMember` speak for themselves: `publish` reaches all others in
causal order, `peers` is kept up to date, and they elect. Other daemons may be members too: they
are told, in the order of the coordinator, and of their peers if they know a message `peers`.

`propose` is single-decree Paxos (`consensus.py`) with the coordinator as the proposer. The
electors of a topic are fixed when it is first proposed, each with the mark of its memory; a
vote counts after it was saved, where the system has a store; an elector that lost its memory
has another mark and is refused as an elector. What is decided for a topic never changes.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, TypedDict

from dan9.base.errors import BadPayload, Conflict, Dan9Error, MailboxFull, NotSupported
from dan9.egregore.clocks import Causal
from dan9.egregore.consensus import Acceptor, Promise, Proposer
from dan9.egregore.core import Egregore, Pattern
from dan9.kernel.daemon import Config, Daemon, on

__all__ = ["Decided", "Decree", "Mesh", "MeshMember", "MeshPattern"]

_PATIENCE_S = 0.5  # how long a proposer waits for an elector in one attempt


class Decided(TypedDict):
    """Whether a value is decided, which, and in what round."""

    decided: bool
    value: Any
    round: int


@dataclass(slots=True)
class Decree:
    """What an elector remembers of one topic."""

    electors: dict[str, str] = field(default_factory=dict)
    promised: list[Any] = field(default_factory=lambda: [0, ""])
    ballot: list[Any] = field(default_factory=lambda: [0, ""])
    value: Any = None


def _ballot(pair: list[Any]) -> tuple[int, str]:
    return (int(pair[0]), str(pair[1]))


class MeshMember(Daemon, type="mesh-member", checkpoint="on-stop"):
    """A daemon that knows its peers, publishes to them in causal order, and elects."""

    peer_list: list[str] = []
    born: str = ""
    """The mark of its memory: another one after that was lost."""
    decrees: dict[str, Decree] = {}

    @on
    def peers(self, members: list[str], joined: str = "", left: str = "") -> str:
        """Hear who the peers are; reply the mark of this member's memory."""
        self.peer_list = [one for one in members if one != self.address]
        return self._mark()

    @on
    def publish(self, type: str, payload: dict[str, Any] | None = None) -> int:
        """Tell all peers, so that everyone handles it after whatever caused it.

        Replies how many were told. It is handled here first. Errors: those of the handler.
        """
        causal = self._causal_of()
        self._handle(type, payload or {})
        clock = causal.stamp()
        say = {"sender": causal.me, "clock": clock, "type": type, "payload": payload or {}}
        told = 0
        for peer in self.peer_list:
            try:
                self.tell(peer, "deliver", payload=say)
            except (MailboxFull, Dan9Error) as error:
                self.log.warning("%s was not told %s: %s", peer, type, error)
                continue
            told += 1
        return told

    @on
    def deliver(
        self, sender: str, clock: dict[str, int], type: str, payload: dict[str, Any]
    ) -> int:
        """Take a published message; handle what may be handled now; reply how many that were."""
        ready = self._causal_of().receive(sender, clock, (type, payload))
        for type_, what in ready:
            self._handle(type_, what)
        return len(ready)

    @on
    async def prepare(self, topic: str, electors: dict[str, str], ballot: list[Any]) -> Any:
        """Promise to accept nothing older; reply promise, or a refusal. Errors: conflict."""
        decree = self._decree(topic, electors)
        acceptor = Acceptor(_ballot(decree.promised), _ballot(decree.ballot), decree.value)
        promise = acceptor.prepare(_ballot(ballot))
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
        acceptor = Acceptor(_ballot(decree.promised), _ballot(decree.ballot), decree.value)
        granted = acceptor.accept(_ballot(ballot), value)
        decree.promised, decree.ballot = list(acceptor.promised), list(acceptor.ballot)
        decree.value = acceptor.value
        await self.system.save(self.address)
        return granted

    def _mark(self) -> str:
        if not self.born:
            self.born = f"{self.system.random.getrandbits(64):016x}"
        return self.born

    def _decree(self, topic: str, electors: dict[str, str]) -> Decree:
        if electors.get(self.address) != self._mark():
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
        causal: Causal | None = getattr(self, "_causal", None)
        if causal is None:
            mark = self.system.random.getrandbits(32)
            causal = self._causal = Causal(f"{self.address}#{mark:08x}")
        return causal

    def _handle(self, type_: str, payload: dict[str, Any]) -> None:
        """Run a plain handler in place: order is kept; an async one is queued to oneself."""
        verb = self.system.verb_of(self._d9_cell, type_)
        if verb.is_async or verb.function is None:
            self.tell(self.address, type_, payload=payload)
            return
        verb.function(self, **verb.signature.bind(payload))


class MeshPattern(Pattern):
    """Tells members of their peers and messages in one order."""

    async def broadcast(self, type_: str, payload: dict[str, Any], options: dict[str, Any]) -> int:
        """Return how many were told."""
        owner = self.owner
        causal = self._causal()
        say = {"sender": causal.me, "clock": causal.stamp(), "type": type_, "payload": payload}
        told = 0
        for member in owner.running():
            is_own = self._is_own(member)
            try:
                if is_own:
                    await owner.send(member, "deliver", payload=say)
                else:
                    await owner.send(member, type_, payload=payload)
            except Dan9Error as error:
                owner.log.warning("%s was not told %s: %s", member, type_, error)
                continue
            told += 1
        return told

    def joined(self, member: str) -> None:
        """All hear of it."""
        self._tell_peers(joined=member)

    def left(self, member: str) -> None:
        """All hear of it."""
        self._tell_peers(left=member)

    def fallen(self, member: str) -> None:
        """It hears of its peers again when it is back: the message waits in its mailbox."""
        owner = self.owner
        handle = owner.system.scheduler
        handle.call_soon(lambda _: self._tell_peers(joined=member), None, None)

    def _tell_peers(self, joined: str = "", left: str = "") -> None:
        owner = self.owner
        members = list(owner._members)
        for member in members:
            verbs = owner._members[member].home.behaviour.verbs
            if "peers" not in verbs:
                continue
            say = {"members": members, "joined": joined, "left": left}
            try:
                owner.tell(member, "peers", payload=say)
            except Dan9Error as error:
                owner.log.warning("%s was not told its peers: %s", member, error)

    def _is_own(self, member: str) -> bool:
        return issubclass(self.owner._members[member].home.behaviour.cls, MeshMember)

    def _causal(self) -> Causal:
        causal: Causal | None = getattr(self, "_own_causal", None)
        if causal is None:
            mark = self.owner.system.random.getrandbits(32)
            causal = self._own_causal = Causal(f"{self.owner.address}#{mark:08x}")
        return causal


class Mesh(Egregore, type="egregore", checkpoint="on-stop"):
    """An egregore of peers, who can agree."""

    archetype: Config[str] = "mesh"
    topics: dict[str, dict[str, str]] = {}
    """The electors of each topic, fixed when it was first proposed."""
    proposals: int = 0

    @on(concurrent=True, timeout_s=None)
    async def propose(self, value: Any, topic: str = "", timeout: float | None = 30.0) -> Decided:
        """Have the members agree on one value; reply decided, value, round.

        The value may be another than the one proposed: what was decided for the topic before.
        Without a topic it is a question of its own. Not decided within `timeout`: no majority
        could be had; it may still be decided later. Errors: not-supported (members that are
        no MeshMembers), conflict (electors that lost their memory leave no majority),
        bad-payload.
        """
        if value is None:
            raise BadPayload("nothing is proposed", at="payload.value")
        self.proposals += 1
        mine = f"{self.address}/{self.proposals}-{self.system.random.getrandbits(40):010x}"
        subject = topic or mine
        limit = float("inf") if timeout is None else timeout
        end = self.clock.monotonic() + limit
        electors = self.topics.get(subject) or await self._electors(subject, limit)
        proposer = Proposer(mine, len(electors), value)
        while self.clock.monotonic() < end:
            if await self._attempt(proposer, subject, electors):
                return {"decided": True, "value": proposer.value, "round": proposer.round}
            pause = self.system.random.random() * 0.05 * min(proposer.round, 8)
            await self.sleep(pause)  # rivals give way to each other at random
        return {"decided": False, "value": None, "round": proposer.round}

    async def _electors(self, subject: str, limit: float) -> dict[str, str]:
        """Fix the electors of a topic: all members, by the marks that they answer."""
        members = list(self._members)
        if not members or not all(self._pattern._is_own(one) for one in members):  # type: ignore[attr-defined]
            raise NotSupported(
                "only MeshMembers elect", hint="derive the members from dan9.egregore.MeshMember"
            )
        end = self.clock.monotonic() + limit
        marks: dict[str, str] = {}
        while True:
            missing = [one for one in members if one not in marks]
            said = {"members": members}
            replies = zip(missing, await self._all(missing, "peers", said), strict=True)
            marks.update({one: reply for one, reply in replies if isinstance(reply, str)})
            if len(marks) == len(members):
                break
            if self.clock.monotonic() >= end:
                raise Conflict("not all members could be asked", hint="are they running?")
            await self.sleep(0.1)
        known = self.topics.setdefault(subject, marks)  # a rival may have been faster
        await self.system.save(self.address)
        return known

    async def _attempt(self, proposer: Proposer, subject: str, electors: dict[str, str]) -> bool:
        ballot = proposer.begin()
        names = list(electors)
        say: dict[str, Any] = {"topic": subject, "electors": electors, "ballot": list(ballot)}
        for name, reply in zip(names, await self._all(names, "prepare", say), strict=True):
            if isinstance(reply, dict):
                promise = Promise(
                    reply["granted"],
                    _ballot(reply["promised"]),
                    _ballot(reply["ballot"]),
                    reply["value"],
                )
                proposer.promised(name, ballot, promise)
        if proposer.phase != "accepting":
            return False
        say = {**say, "value": proposer.value}
        for name, reply in zip(names, await self._all(names, "accept", say), strict=True):
            if proposer.accepted(name, ballot, reply is True):
                return True
        return False

    async def _all(self, members: list[str], type_: str, payload: dict[str, Any]) -> list[Any]:
        """Ask all at once; an error stands for the reply of one that gave none."""
        return await asyncio.gather(
            *(self.ask(one, type_, payload=payload, timeout_s=_PATIENCE_S) for one in members),
            return_exceptions=True,
        )
