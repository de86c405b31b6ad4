"""One question put to the members of a mesh until a majority has voted.

This is single-decree Paxos (`consensus.py`) with the coordinator as the proposer. The electors
of a topic are fixed when it is first proposed, each with the mark of its memory, and saved
before anybody votes; so what is decided for a topic never changes. A proposer waits for a
majority only, or until none can be had any more: a slow elector holds up nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from dan9.base.errors import Conflict, Dan9Error
from dan9.egregore.consensus import Promise, Proposer, ballot_of
from dan9.egregore.core import Decided, Egregore

__all__ = ["Agreement"]

_PATIENCE_S = 0.5  # how long a proposer waits for an elector in one attempt


class Agreement:
    """The proposer's side of one question.

    Args:
        owner: The coordinator, whose members elect.
        topic: What it is about; empty: a question that nobody asks again.
    """

    def __init__(self, owner: Egregore, topic: str) -> None:
        system = owner.system
        self.owner = owner
        self.me = f"{owner.address}/{system.next_number()}-{system.random.getrandbits(40):010x}"
        self.topic = topic or self.me
        self.is_named = bool(topic)
        self.electors: dict[str, str] = {}
        self.lost: set[str] = set()  # electors that have lost their memory

    async def propose(self, value: Any, timeout: float | None) -> Decided:
        """Try again and again, until the time is up.

        Raises:
            Conflict: Electors that lost their memory leave no majority; or not all members
                could be asked to elect.
        """
        owner = self.owner
        clock = owner.clock
        end = clock.monotonic() + (float("inf") if timeout is None else timeout)
        self.electors = owner.topics.get(self.topic) or await self._elect(end)
        proposer = Proposer(self.me, len(self.electors), value)
        try:
            while clock.monotonic() < end:
                if await self._attempt(proposer):
                    return {"decided": True, "value": proposer.value, "round": proposer.round}
                if len(self.electors) - len(self.lost) < proposer.majority:
                    raise Conflict(
                        f"{len(self.lost)} of {len(self.electors)} electors have lost their "
                        f"memory since {self.topic!r} was first proposed: no majority is left",
                        hint="propose under a new topic; with a store, members remember",
                        at="topic",
                    )
                pause = owner.system.random.random() * 0.05 * min(proposer.round, 8)
                await owner.sleep(pause)  # rivals give way to each other at random
            return {"decided": False, "value": None, "round": proposer.round}
        finally:
            if not self.is_named:
                self._forget()

    async def _elect(self, end: float) -> dict[str, str]:
        """Fix the electors of a topic: all members, by the marks that they answer."""
        owner = self.owner
        members = list(owner._members)
        marks: dict[str, str] = {}
        while len(marks) < len(members):
            missing = [member for member in members if member not in marks]
            asks = (self._ask(member, "enrol", {}) for member in missing)
            said = await asyncio.gather(*asks)
            marks.update({member: mark for member, mark in said if isinstance(mark, str)})
            if len(marks) < len(members):
                if owner.clock.monotonic() >= end:
                    raise Conflict("not all members could be asked", hint="are they running?")
                await owner.sleep(0.1)
        if not self.is_named:
            return marks
        known = owner.topics.setdefault(self.topic, marks)  # a rival may have been faster
        await owner.system.save(owner.address)
        return known

    async def _attempt(self, proposer: Proposer) -> bool:
        """Try once to have a value decided."""
        ballot = proposer.begin()
        spare = len(self.electors) - proposer.majority

        def promised(name: str, reply: Any) -> bool:
            if not isinstance(reply, dict):
                return False
            promise = Promise(
                reply["granted"],
                ballot_of(reply["promised"]),
                ballot_of(reply["ballot"]),
                reply["value"],
            )
            return proposer.promised(name, ballot, promise)

        def accepted(name: str, reply: Any) -> bool:
            return proposer.accepted(name, ballot, reply is True)

        say = {"topic": self.topic, "electors": self.electors, "ballot": list(ballot)}
        if not await self._majority("prepare", say, spare, promised):
            return False
        say["value"] = proposer.value
        return await self._majority("accept", say, spare, accepted)

    async def _majority(
        self, type_: str, say: dict[str, Any], spare: int, heard: Callable[[str, Any], bool]
    ) -> bool:
        """Ask all electors at once; True as soon as `heard`, called with each reply, says so.

        False as soon as more than `spare` of them have not granted it.
        """
        replies: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()

        async def ask(member: str) -> None:
            replies.put_nowait(await self._ask(member, type_, say))

        names = [name for name in self.electors if name not in self.lost]
        spare -= len(self.lost)
        tasks = [asyncio.ensure_future(ask(name)) for name in names]
        try:
            for _ in names:
                name, reply = await replies.get()
                if isinstance(reply, Conflict):
                    self.lost.add(name)
                if heard(name, reply):
                    return True
                spare -= not _is_granted(reply)
                if spare < 0:
                    break
            return False
        finally:
            for task in tasks:
                task.cancel()

    async def _ask(self, member: str, type_: str, say: dict[str, Any]) -> tuple[str, Any]:
        """Ask one; an error stands for the reply of one that gives none."""
        try:
            reply = await self.owner.ask(member, type_, payload=say, timeout_s=_PATIENCE_S)
        except Dan9Error as error:
            reply = error
        return member, reply

    def _forget(self) -> None:
        """Let the electors forget a question that nobody asks again."""
        for name in self.electors:
            try:
                self.owner.tell(name, "forget-topic", payload={"topic": self.topic})
            except Dan9Error as error:
                self.owner.log.debug("%s keeps %s: %s", name, self.topic, error)


def _is_granted(reply: Any) -> bool:
    return reply is True or (isinstance(reply, dict) and reply["granted"] is True)
