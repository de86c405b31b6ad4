"""Causal order: no effect before its cause, whoever comes, goes or starts anew."""

from __future__ import annotations

import itertools
import random  # noqa: TID251 (a generator of its own, seeded)
from typing import Any

import pytest

from dan9.egregore.clocks import Causal, Published


class Group:
    """A mesh without daemons: a coordinator, members, and links that keep order, each its own.

    What is said waits in its link until `arrive`; what was said to a process that has ended
    since, or was never heard by the one that came after it, is gone.
    """

    def __init__(self) -> None:
        self.number = itertools.count(1)
        self.coordinator = Causal("boss", next(self.number))
        self.causal: dict[str, Causal] = {}
        self.members: list[str] = []
        self.peers: dict[str, list[str]] = {}
        self.greeted: dict[str, set[str]] = {}
        self.links: dict[tuple[str, str], list[tuple[Any, ...]]] = {}
        self.causes: dict[str, set[str]] = {}
        self.handled: dict[str, list[str]] = {}  # by process
        self.meant: dict[str, list[str]] = {}  # by process: what was said to it
        self.names = (f"m{number}" for number in itertools.count())

    def say(self, sender: str, receiver: str, *what: Any) -> None:
        self.links.setdefault((sender, receiver), []).append(what)

    def begin(self, name: str) -> None:
        """A member joins, or begins anew: what was on its way to it is lost."""
        for (_, receiver), link in self.links.items():
            if receiver == name:
                link.clear()
        causal = self.causal[name] = Causal(name, next(self.number))
        self.handled[causal.me], self.meant[causal.me] = [], []
        self.peers[name], self.greeted[name] = [], set()
        if name not in self.members:
            self.members.append(name)
        self.tell_peers(joined=name)

    def end(self, name: str, *, for_good: bool) -> None:
        """A member ends; the word of it comes after what it has said."""
        for sender, receiver in self.waiting():
            while sender == name and self.links[sender, receiver]:
                self.arrive(sender, receiver)
        del self.causal[name]
        if for_good:
            self.members.remove(name)
        self.tell_peers()

    def tell_peers(self, joined: str = "") -> None:
        view = next(self.number)
        for name in [one for one in self.members if one in self.causal]:
            count = self.coordinator.sent if name == joined else 0
            speaking = [one for one in self.members if one in self.causal]
            self.say("boss", name, "peers", view, list(self.members), speaking, joined, count)

    def publish(self, name: str) -> None:
        message = next(self.names)
        causal = self.coordinator if name == "boss" else self.causal[name]
        own = self.handled.get(causal.me, [])
        self.causes[message] = set(own)
        if name != "boss":
            own.append(message)
            self.greet(name)
        published = causal.stamp(message)
        for peer in self.members if name == "boss" else self.peers[name]:
            if peer in self.causal:
                self.meant[self.causal[peer].me].append(message)
                self.say(name, peer, "publish", published)

    def greet(self, name: str) -> None:
        causal = self.causal[name]
        for peer in self.peers[name]:
            if peer not in self.greeted[name] and peer in self.causal:
                self.greeted[name].add(peer)
                self.say(name, peer, "greet", causal.me, causal.sent, causal.view)

    def arrive(self, sender: str, receiver: str) -> None:
        """Let the next of a link come in; what may be handled comes after its causes."""
        kind, *what = self.links[sender, receiver].pop(0)
        causal = self.causal[receiver]
        if kind == "peers":
            view, members, speaking, joined, count = what
            self.peers[receiver] = [one for one in members if one != receiver]
            ready = causal.see(view, [*speaking, "boss"])
            ready += causal.greet(self.coordinator.me, count, view)
            self.greeted[receiver] &= set(self.peers[receiver]) - {joined}
            self.greet(receiver)
        else:
            ready = causal.greet(*what) if kind == "greet" else causal.receive(*what)
        handled = self.handled[causal.me]
        for message in ready:
            meant = set(self.meant[causal.me])
            assert self.causes[message] & meant <= set(handled), (message, receiver)
            handled.append(message)

    def waiting(self) -> list[tuple[str, str]]:
        links = self.links.items()
        return sorted(link for link, queue in links if queue and link[1] in self.causal)


def come_and_go(chance: random.Random, steps: int) -> None:
    """Let members come, speak and go; then let everything arrive."""
    group = Group()
    for number in range(2):
        group.begin(f"p{number}")
    for step in range(steps):
        links = group.waiting()
        there = sorted(group.causal)
        choice = chance.random()
        if links and choice < 0.55:
            group.arrive(*chance.choice(links))
        elif choice < 0.85:
            group.publish(chance.choice([*there, *there, "boss"]))
        elif choice < 0.92:
            away = sorted(set(group.members) - set(there))
            group.begin(chance.choice([*away, f"p{step + 2}"]))
        elif len(there) > 1:
            group.end(chance.choice(there), for_good=chance.random() < 0.5)
    while links := group.waiting():
        group.arrive(*chance.choice(links))
    for causal in group.causal.values():
        assert causal.waiting == []
        assert set(group.meant[causal.me]) <= set(group.handled[causal.me])
        assert len(causal.clock) <= len(group.members) + 1


@pytest.mark.parametrize("part", range(4))
def test_causes_come_first_while_members_come_and_go(part: int) -> None:
    """Whoever joins, leaves or starts anew: no effect before its cause, and nobody is stuck."""
    for seed in range(part * 100, part * 100 + 100):
        come_and_go(random.Random(seed), steps=5 + seed % 60)


def test_a_member_that_comes_later_begins_where_it_hears_first() -> None:
    """It does not wait for what was before it; doubles and its own are dropped."""
    old, new = Causal("old", 1), Causal("new", 2)
    old.stamp("one")
    two = old.stamp("two")
    new.see(1, ["old", "new"])
    assert new.receive(two) == ["two"]
    assert new.receive(two) == []
    assert new.receive(new.stamp("own")) == []
    assert new.receive(old.stamp("three")) == ["three"]


def test_a_newcomer_waits_for_the_cause_until_it_knows_that_none_comes() -> None:
    """An effect waits for a member that has not greeted; greeting, going or ageing frees it."""
    effect = Published("b#2", {"a#1": 3, "b#2": 1}, 1, "effect")
    cause = Published("a#1", {"a#1": 3}, 1, "cause")

    def newcomer() -> Causal:
        causal = Causal("c", 9)
        causal.see(1, ["a", "b", "c"])
        assert causal.receive(effect) == []
        return causal

    assert newcomer().receive(cause) == ["cause", "effect"]
    one = newcomer()
    assert one.greet("a#1", 2, 1) == []
    assert one.receive(cause) == ["cause", "effect"]
    assert newcomer().greet("a#1", 3, 1) == ["effect"]
    assert newcomer().see(2, ["b", "c"]) == ["effect"]
    assert newcomer().greet("a#5", 0, 1) == ["effect"]


def test_a_message_of_a_later_membership_waits_for_it() -> None:
    """Who has joined meanwhile may be its cause; an old membership changes nothing."""
    causal = Causal("c", 9)
    causal.see(3, ["b", "c"])
    assert causal.receive(Published("b#2", {"a#7": 1, "b#2": 1}, 4, "effect")) == []
    assert causal.see(2, ["a", "b", "c"]) == []
    assert causal.see(4, ["a", "b", "c"]) == []
    assert causal.receive(Published("a#7", {"a#7": 1}, 4, "cause")) == ["cause", "effect"]


def test_what_was_lost_holds_up_nobody() -> None:
    """A greeting over a hole, and an end, free what came after it; in order."""
    causal = Causal("c", 9)
    causal.see(1, ["a", "c"])
    third, fifth = (Published("a#1", {"a#1": n}, 1, n) for n in (3, 5))
    causal.greet("a#1", 1, 1)
    assert causal.receive(third) == causal.receive(fifth) == []
    assert causal.greet("a#1", 3, 1) == [3]
    assert causal.see(2, ["c"]) == [5]
    assert causal.clock == {}
    assert causal.receive(Published("a#1", {"a#1": 6}, 1, 6)) == [6]
