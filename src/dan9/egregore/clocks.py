"""Vector clocks: messages in causal order, while processes come, go and start anew. Pure.

Prior art: Birman, Schiper and Stephenson, "Lightweight causal and atomic group multicast"
(ACM TOCS 9, 1991). A message carries what its sender had delivered; a receiver keeps it
back until it has delivered that too.

What is hard is to know what will never come, so that nobody waits for it and everybody waits
for the rest. We rely on this: a link keeps order, and whoever learns of a newcomer greets it.

- A process is an incarnation, `address#number`; a later one of an address has a greater number.
- A coordinator numbers the memberships, and tells of an end after what was said before it
  has come in. A message names the membership its sender was in; a receiver that knows only
  an older one keeps it back.
- A greeting says how many messages its sender has published: those that the greeted has not
  heard of were never meant for it. Until a member has greeted (or said anything), whoever
  depends on it waits. Of one that is no member, or has started anew, nothing more comes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Causal", "Published"]


@dataclass(slots=True, eq=False)
class Published:
    """A message on its way.

    Attributes:
        sender: The process that published it.
        clock: How many messages of each process its sender had delivered; of its own, with it.
        view: The membership its sender was in.
        message: What was said.
    """

    sender: str
    clock: dict[str, int]
    view: int
    message: Any

    @property
    def number(self) -> int:
        """Return which of its sender's messages it is, from 1."""
        return self.clock[self.sender]


class Causal:
    """One process of a group: stamps what it sends, orders what it gets.

    Args:
        address: Whose process it is.
        number: Greater than that of every earlier process of this address.
    """

    def __init__(self, address: str, number: int) -> None:
        self.me = f"{address}#{number}"
        self.sent = 0
        self.view = 0
        self.clock: dict[str, int] = {}
        self.waiting: list[Published] = []
        self._members: frozenset[str] = frozenset()
        self._latest: dict[str, str] = {address: self.me}
        self._greeted: dict[str, int] = {}
        self._views: dict[str, int] = {}

    def stamp(self, message: Any) -> Published:
        """Count a message of one's own and return it as it is to be sent to all members."""
        self.sent += 1
        clock = {process: count for process, count in self.clock.items() if count}
        return Published(self.me, {**clock, self.me: self.sent}, self.view, message)

    def receive(self, published: Published) -> list[Any]:
        """Return the messages that may be delivered now, in order; doubles are dropped."""
        sender = published.sender
        # A link keeps order: where its story begins for us is what it says first.
        if not self._hear(sender, published.number - 1, published.view):
            return []
        if published.number > self.clock[sender]:
            self.waiting.append(published)
        return self._release()

    def greet(self, sender: str, count: int, view: int) -> list[Any]:
        """Hear that a process has published so many; return what may be delivered now."""
        if self._hear(sender, 0, view):
            self._greeted[sender] = max(count, self._greeted.get(sender, 0))
        return self._release()

    def see(self, view: int, members: Iterable[str]) -> list[Any]:
        """Hear who may yet say something, by address; return what may be delivered now."""
        if view >= self.view:
            self.view, self._members = view, frozenset(members)
        return self._release()

    def _hear(self, process: str, count: int, view: int) -> bool:
        """Begin the story of a process; False if a later one of its address was heard of."""
        address = _address(process)
        latest = self._latest.setdefault(address, process)
        if _number(latest) > _number(process) or process == self.me:
            return process in self.clock  # some of its messages may still wait
        self._latest[address] = process
        self.clock.setdefault(process, count)
        self._views[process] = max(view, self._views.get(process, 0))
        return True

    def _release(self) -> list[Any]:
        out = []
        while (ready := next(filter(self._is_ready, self.waiting), None)) is not None:
            self.waiting.remove(ready)
            if ready.number > self.clock[ready.sender]:
                self.clock[ready.sender] = ready.number
                out.append(ready.message)
        for process in [one for one in self.clock if not self._is_expected(one)]:
            if self._first_waiting(process) is None:
                self._forget(process)
        return out

    def _forget(self, process: str) -> None:
        """End the story of a process; if it becomes a member again, another begins."""
        del self.clock[process], self._views[process]
        self._greeted.pop(process, None)
        if self._latest.get(_address(process)) == process:
            del self._latest[_address(process)]

    def _is_ready(self, published: Published) -> bool:
        sender, number = published.sender, published.number
        if published.view > self.view or self._first_waiting(sender) != number:
            return False
        if number > self.clock[sender] + 1 and number > self._complete(sender) + 1:
            return False
        return all(
            self._has(process, count)
            for process, count in published.clock.items()
            if process != sender
        )

    def _has(self, process: str, count: int) -> bool:
        """Return whether a process's messages up to `count` are delivered, or never come."""
        if process not in self.clock:
            latest = self._latest.get(_address(process))
            is_later = latest is not None and _number(latest) >= _number(process)
            return is_later or _address(process) not in self._members
        if count <= self.clock[process]:
            return True
        first = self._first_waiting(process)
        return count <= self._complete(process) and (first is None or first > count)

    def _complete(self, process: str) -> float:
        """Return up to which number everything of a process is here that will ever come."""
        return self._greeted.get(process, 0) if self._is_expected(process) else float("inf")

    def _is_expected(self, process: str) -> bool:
        address = _address(process)
        is_member = address in self._members or self._views[process] > self.view
        return is_member and self._latest.get(address) == process

    def _first_waiting(self, process: str) -> int | None:
        return min((one.number for one in self.waiting if one.sender == process), default=None)


def _address(process: str) -> str:
    return process.rpartition("#")[0]


def _number(process: str) -> int:
    return int(process.rpartition("#")[2])
