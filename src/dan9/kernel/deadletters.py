"""Dead letters: messages that reached nobody, with the reason, counted and kept in a ring."""

from __future__ import annotations

from collections import Counter, deque

from dan9.base.events import DeadLetter

__all__ = ["DeadLetters"]


class DeadLetters:
    """The last dead letters, and how many there were by reason.

    Args:
        size: How many are kept; the counts go on.
    """

    def __init__(self, size: int = 1000) -> None:
        self.ring: deque[DeadLetter] = deque(maxlen=size)
        self.by_reason: Counter[str] = Counter()

    def add(self, letter: DeadLetter) -> None:
        """Keep one."""
        self.ring.append(letter)
        self.by_reason[letter.reason] += 1

    @property
    def total(self) -> int:
        """How many there were in all."""
        return sum(self.by_reason.values())

    def last(self, limit: int) -> list[DeadLetter]:
        """Return the newest, newest last."""
        return list(self.ring)[-limit:] if limit > 0 else []
