"""The rules of a namespace, checked against a small model of Plan 9's.

The model keeps the same facts in the plainest way and looks a path up by recursion on
its text; the table walks, remembers and counts. Whatever is bound and unbound, both
must give every path the same meaning.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import product

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dan9.base.errors import BadPayload, NotFound
from dan9.daemons.mountscript import first_guess, read_script, write_script
from dan9.daemons.mounttable import NAMES, ROOT, Found, Member, MountTable, Place

ONE, TWO = "d9://filesystem/test/one", "d9://filesystem/test/two"
FILES = {(ONE, "/a"), (ONE, "/a/b"), (TWO, "/b"), (TWO, "/a"), (TWO, "/b/c")}
NAMES_USED = ("a", "b", "c")
PATHS = ["/"] + ["/" + "/".join(p) for n in (1, 2, 3) for p in product(NAMES_USED, repeat=n)]
some_path = st.sampled_from(PATHS)
some_target = st.one_of(st.sampled_from([(ONE, ""), (TWO, ""), (ONE, "/a"), (NAMES, "/a")]))


def exists(place: Place) -> bool:
    """What the daemons would say."""
    return place in FILES or place[1] == ""


class Model:
    """Heads and members as plain lists."""

    def __init__(self) -> None:
        self.heads: dict[Place, list[Member]] = {}

    def stands(self, place: Place) -> list[Member]:
        return self.heads.get(place, [Member(place)])

    def has(self, union: list[Member], index: int, name: str) -> bool:
        origin, at = union[index].place
        place = (origin, f"{at}/{name}")
        below = any(o == origin and (p + "/").startswith(place[1] + "/") for o, p in self.heads)
        return below or (origin != NAMES and (len(union) == 1 or exists(place)))

    def look(self, names: list[str]) -> list[Member] | None:
        if not names:
            return self.stands(ROOT)
        union = self.look(names[:-1])
        for index in range(len(union or ())):
            assert union is not None
            if self.has(union, index, names[-1]):
                origin, at = union[index].place
                return self.stands((origin, f"{at}/{names[-1]}"))
        return None

    def endless(self, place: Place, target: Place, depth: int = 0) -> bool:
        """Follow every way down from the target, far enough to come round."""
        if target[0] == place[0] and place[1].startswith(target[1] + "/"):
            return True
        return depth < len(self.heads) + 1 and any(
            self.endless(place, member.place, depth + 1)
            for head, members in self.heads.items()
            if head[0] == target[0] and head[1].startswith(target[1] + "/")
            for member in members
        )


class NamespaceRules(RuleBasedStateMachine):
    """Every path means what the model says, after every change."""

    def __init__(self) -> None:
        super().__init__()
        self.table = MountTable()
        self.model = Model()

    def place_at(self, path: str) -> Place:
        return first_guess(self.table.locate(path), exists)

    @rule(path=some_path, bound=some_target, order=st.sampled_from(["replace", "before", "after"]))
    def bind_place(self, path: str, bound: Place, order: str) -> None:
        self.bind(path, [Member(bound)], order, create=False)

    @rule(path=some_path, bound=some_target)
    def bind_to_create(self, path: str, bound: Place) -> None:
        self.bind(path, [Member(bound)], "after", create=True)

    @rule(path=some_path, source=some_path, order=st.sampled_from(["replace", "before", "after"]))
    def bind_path(self, path: str, source: str, order: str) -> None:
        members = self.model.look(source.split("/")[1:] if source != "/" else [])
        if members is not None:
            self.bind(path, members, order, create=False)

    def bind(self, path: str, new: list[Member], order: str, *, create: bool) -> None:
        place = self.place_at(path)
        endless = any(self.model.endless(place, member.place) for member in new)
        try:
            self.table.bind(place, tuple(new), order, create=create)  # type: ignore[arg-type]  # sampled
        except BadPayload:
            assert endless
            return
        assert not endless
        there = place == ROOT or place[0] != NAMES
        here = any(h[0] == NAMES and h[1].startswith(place[1] + "/") for h in self.model.heads)
        old = self.model.heads.get(place, [Member(place)] if (here or there) else [])
        fresh = [Member(m.place, create=create) for m in new]
        kept = [m for m in old if all(m.place != f.place for f in fresh)]
        self.model.heads[place] = {
            "replace": fresh,
            "before": fresh + kept,
            "after": kept + fresh,
        }[order]

    @rule(path=some_path)
    def unbind_all(self, path: str) -> None:
        place = self.place_at(path)
        try:
            self.table.unbind(place)
        except NotFound:
            assert place not in self.model.heads
        else:
            del self.model.heads[place]

    @rule(path=some_path, bound=some_target)
    def unbind_one(self, path: str, bound: Place) -> None:
        place = self.place_at(path)
        before = self.model.heads.get(place, [])
        kept = [m for m in before if m.place != bound]
        try:
            self.table.unbind(place, (bound,))
        except NotFound:
            assert len(kept) == len(before)
            return
        if not kept or (kept == [Member(place)] and place[0] != NAMES):
            del self.model.heads[place]
        else:
            self.model.heads[place] = kept

    @rule()
    def go_on_with_a_copy(self) -> None:
        old, self.table = self.table, self.table.copy()
        with suppress(BadPayload):
            old.bind(ROOT, (Member((ONE, "/elsewhere")),), "before")

    @invariant()
    def every_path_means_what_the_model_says(self) -> None:
        for path in PATHS:
            expected = self.model.look(path.split("/")[1:] if path != "/" else [])
            found: Found = first_guess(self.table.walk(path), exists)
            assert (list(found.members) or None) == expected, path
            try:
                quick = self.table.resolve(path)
            except NotFound:
                assert expected is None, path
            else:
                assert quick is None or [quick] == [m.place for m in expected or ()], path

    @invariant()
    def dotdot_undoes_the_way_one_came(self) -> None:
        for path in PATHS[1:13]:
            if self.model.look(path.split("/")[1:]) is not None:
                back = first_guess(self.table.walk(path + "/.."), exists)
                there = first_guess(self.table.walk(path.rpartition("/")[0] or "/"), exists)
                assert back.members == there.members, path

    @invariant()
    def the_script_rebuilds_it(self) -> None:
        again = read_script(write_script(self.table))
        assert again.heads == self.table.heads

    @invariant()
    def heads_are_what_the_model_has(self) -> None:
        assert {k: list(v) for k, v in self.table.heads.items()} == self.model.heads


TestNamespaceRules = NamespaceRules.TestCase
TestNamespaceRules.settings = settings(max_examples=40, stateful_step_count=20, deadline=None)
