"""Agreement and causal order: the pure parts, and five hundred runs under faults."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dan9.egregore.clocks import Causal
from dan9.egregore.consensus import Acceptor, Proposer

_SPEC = importlib.util.spec_from_file_location(
    "agreement", Path(__file__).with_name("agreement.py")
)
assert _SPEC is not None
assert _SPEC.loader is not None
agreement = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(agreement)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 5), st.integers(1, 3))
def test_never_two_values(data: st.DataObject, electors: int, rivals: int) -> None:
    """Whatever is lost, doubled or late between proposers and acceptors: one value at most."""
    acceptors = {f"e{number}": Acceptor() for number in range(electors)}
    proposers = [Proposer(f"p{number}", electors, f"v{number}") for number in range(rivals)]
    flying: list[tuple[Any, ...]] = []
    decided: set[str] = set()
    for _ in range(data.draw(st.integers(0, 120))):
        choice = data.draw(st.integers(0, len(flying) + 1))
        if choice >= len(flying):
            proposer = proposers[data.draw(st.integers(0, rivals - 1))]
            if proposer.phase != "decided":
                ballot = proposer.begin()
                flying += [("prepare", proposer, one, ballot, None) for one in acceptors]
            continue
        kind, proposer, elector, ballot, what = flying[choice]
        if not data.draw(st.booleans()):
            del flying[choice]  # else it comes again
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
    assert len(decided) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_five_hundred_runs(part: int) -> None:
    """Crashes, delays and drops, with and without a store: never two values; some are decided."""
    decided = 0
    for seed in range(part * 50, part * 50 + 50):
        count, _ = agreement.one(seed, memory=seed % 4 != 0)
        decided += count
    assert decided > 50


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_causes_come_before_effects(data: st.DataObject) -> None:
    """Messages may overtake each other between members; none is handled before its causes."""
    members = {name: Causal(name) for name in "abc"}
    flying: dict[tuple[str, str], list[Any]] = {}
    handled: dict[str, list[str]] = {name: [] for name in members}
    causes: dict[str, set[str]] = {}
    for causal in members.values():  # all know each other from the start
        causal.clock = dict.fromkeys(members, 0)
    for number in range(data.draw(st.integers(1, 30))):
        links = [link for link, queue in flying.items() if queue]
        if links and data.draw(st.booleans()):
            link = data.draw(st.sampled_from(sorted(links)))
            clock, message = flying[link].pop(data.draw(st.integers(0, len(flying[link]) - 1)))
            for one in members[link[1]].receive(link[0], clock, message):
                assert causes[one] <= set(handled[link[1]])
                handled[link[1]].append(one)
        else:
            name = data.draw(st.sampled_from("abc"))
            message = f"m{number}"
            causes[message] = set(handled[name])
            handled[name].append(message)
            clock = members[name].stamp()
            for other in members:
                if other != name:
                    flying.setdefault((name, other), []).append((clock, message))
    for (sender, receiver), queue in flying.items():
        for clock, message in queue:
            handled[receiver] += members[receiver].receive(sender, clock, message)
    assert all(len(set(got)) == len(got) == len(causes) for got in handled.values())


def test_a_member_that_comes_later_begins_where_it_hears_first() -> None:
    """It does not wait for what was before it; doubles are dropped; the gone hold nobody."""
    old, new = Causal("old"), Causal("new")
    old.stamp()
    clock = old.stamp()
    assert new.receive("old", clock, "two") == ["two"]
    assert new.receive("old", clock, "two") == []
    assert new.receive("new", {}, "own") == []
    third = {"old": 3, "lost": 1}
    new.clock["lost"] = 0
    assert new.receive("old", third, "three") == []
    assert new.forget("lost") == ["three"]
