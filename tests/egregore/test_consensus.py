"""Agreement: the deciding part alone; with daemons see test_trials.py."""

from __future__ import annotations

import random  # noqa: TID251 (a generator of its own, seeded)
from typing import Any

from dan9.egregore.consensus import Acceptor, Proposer


def test_never_two_values() -> None:
    """Whatever is lost, doubled or late between proposers and acceptors: one value at most."""
    decisions = [
        decided_by(random.Random(seed), electors=1 + seed % 5, rivals=1 + seed % 3)
        for seed in range(3000)
    ]
    assert all(len(values) <= 1 for values in decisions)
    assert sum(map(len, decisions)) > 1000


def decided_by(chance: random.Random, electors: int, rivals: int) -> set[str]:
    """Let proposers propose over links that lose, double and reorder; return what was decided."""
    acceptors = {f"e{number}": Acceptor() for number in range(electors)}
    proposers = [Proposer(f"p{number}", electors, f"v{number}") for number in range(rivals)]
    flying: list[tuple[Any, ...]] = []
    decided: set[str] = set()
    for _ in range(chance.randrange(120)):
        if not flying or chance.random() < 0.05:
            proposer = chance.choice(proposers)
            if proposer.phase != "decided":
                ballot = proposer.begin()
                flying += [("prepare", proposer, one, ballot, None) for one in acceptors]
            continue
        choice = chance.randrange(len(flying))
        kind, proposer, elector, ballot, what = flying[choice]
        if chance.random() < 0.8:
            del flying[choice]  # else it comes again
        if chance.random() < 0.05:
            continue  # it is lost
        if kind == "prepare":
            promise = acceptors[elector].prepare(ballot)
            flying.append(("promise", proposer, elector, ballot, promise))
        elif kind == "promise":
            if proposer.promised(elector, ballot, what):
                value = proposer.value
                flying += [("accept", proposer, one, ballot, value) for one in acceptors]
        elif kind == "accept":
            vote = acceptors[elector].accept(ballot, what)
            flying.append(("vote", proposer, elector, ballot, vote))
        elif proposer.accepted(elector, ballot, what):
            decided.add(proposer.value)
    return decided
