"""Agreement on one value: single-decree Paxos, the deciding part. Pure.

Source: L. Lamport, "Paxos made simple" (2001). Electors are fixed when a decree starts, each
with the mark of its memory (`born`): an elector that has lost its memory has another mark and
is none any more, so that it cannot vote against what it had promised. A vote counts only
after it was saved; that is the caller's to see to.

A ballot is (round, proposer); ballots of different proposers never are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Acceptor", "Ballot", "Promise", "Proposer", "ballot_of"]

Ballot = tuple[int, str]
NONE: Ballot = (0, "")


def ballot_of(pair: list[Any]) -> Ballot:
    """Return a ballot that has crossed a wire."""
    return (int(pair[0]), str(pair[1]))


@dataclass(slots=True)
class Promise:
    """An acceptor's answer to `prepare`.

    Attributes:
        granted: Whether it promised.
        promised: The highest ballot that it has promised.
        ballot, value: What it last accepted, if anything.
    """

    granted: bool
    promised: Ballot
    ballot: Ballot = NONE
    value: Any = None


@dataclass(slots=True)
class Acceptor:
    """What one elector remembers of one decree: to be saved before it answers."""

    promised: Ballot = NONE
    ballot: Ballot = NONE
    value: Any = None

    def prepare(self, ballot: Ballot) -> Promise:
        """Promise to take part in nothing older, if nothing newer was promised."""
        granted = ballot >= self.promised
        if granted:
            self.promised = ballot
        return Promise(granted, self.promised, self.ballot, self.value)

    def accept(self, ballot: Ballot, value: Any) -> bool:
        """Accept a value, unless something newer was promised."""
        if ballot < self.promised:
            return False
        self.promised = self.ballot = ballot
        self.value = value
        return True


class Proposer:
    """One attempt after another to have a value decided.

    Args:
        me: The proposer; unique.
        electors: How many there are.
        value: What it would like.
    """

    def __init__(self, me: str, electors: int, value: Any) -> None:
        self.me = me
        self.majority = electors // 2 + 1
        self.value = value
        self.round = 0
        self.highest = 0
        self.phase: Literal["idle", "preparing", "accepting", "decided"] = "idle"
        self._promises: dict[str, Promise] = {}
        self._votes: dict[str, bool] = {}

    @property
    def ballot(self) -> Ballot:
        """The ballot of this attempt."""
        return (self.round, self.me)

    def begin(self) -> Ballot:
        """Begin an attempt above every ballot heard of; return its ballot."""
        self.round = max(self.round, self.highest) + 1
        self.phase = "preparing"
        self._promises, self._votes = {}, {}
        return self.ballot

    def promised(self, elector: str, ballot: Ballot, promise: Promise) -> bool:
        """Hear a promise; True when a majority has promised: then `value` may be asked for."""
        self.highest = max(self.highest, promise.promised[0])
        if self.phase != "preparing" or ballot != self.ballot or not promise.granted:
            return False
        self._promises[elector] = promise
        if len(self._promises) < self.majority:
            return False
        newest = max(self._promises.values(), key=lambda one: one.ballot)
        if newest.ballot != NONE:
            self.value = newest.value  # it may have been decided: nothing else may be asked for
        self.phase = "accepting"
        return True

    def accepted(self, elector: str, ballot: Ballot, granted: bool) -> bool:
        """Hear a vote; True when a majority has voted: `value` is decided, for ever."""
        if self.phase != "accepting" or ballot != self.ballot or not granted:
            return False
        self._votes[elector] = True
        if len(self._votes) < self.majority:
            return False
        self.phase = "decided"
        return True
