"""Vector clocks: messages in causal order. Pure.

Prior art: Birman, Schiper and Stephenson, "Lightweight causal and atomic group multicast"
(ACM TOCS 9, 1991). A message carries what its sender had delivered; a receiver keeps it
back until it has delivered that too. A sender that starts anew is a new process.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Causal"]


class Causal:
    """One process of a group: stamps what it sends, orders what it gets.

    Args:
        me: The process; a name that no earlier incarnation had.
    """

    def __init__(self, me: str) -> None:
        self.me = me
        self.clock: dict[str, int] = {}
        self.waiting: list[tuple[str, dict[str, int], Any]] = []

    def stamp(self) -> dict[str, int]:
        """Count a message of one's own and return its clock."""
        self.clock[self.me] = self.clock.get(self.me, 0) + 1
        return dict(self.clock)

    def receive(self, sender: str, clock: dict[str, int], message: Any) -> list[Any]:
        """Return the messages that may be delivered now, in order; doubles are dropped.

        Of a process never heard of, its first message is where its story begins.
        """
        if sender == self.me:
            return []
        self.clock.setdefault(sender, clock.get(sender, 1) - 1)
        self.waiting.append((sender, clock, message))
        out = []
        progress = True
        while progress:
            progress = False
            for index, (one, its, what) in enumerate(self.waiting):
                if its.get(one, 0) <= self.clock.get(one, 0):
                    del self.waiting[index]
                    progress = True
                    break
                if self._is_next(one, its):
                    del self.waiting[index]
                    self.clock[one] = its[one]
                    out.append(what)
                    progress = True
                    break
        return out

    def forget(self, process: str) -> list[Any]:
        """A process is gone: nobody waits for it any more. Return what may be delivered now."""
        self.clock.pop(process, None)
        kept, self.waiting = self.waiting, []
        out: list[Any] = []
        for sender, clock, message in kept:
            if sender != process:
                rest = {key: value for key, value in clock.items() if key != process}
                out += self.receive(sender, rest, message)
        return out

    def _is_next(self, sender: str, clock: dict[str, int]) -> bool:
        if clock.get(sender, 0) != self.clock.get(sender, 0) + 1:
            return False
        return all(
            count <= self.clock.get(process, count)
            for process, count in clock.items()
            if process != sender
        )
