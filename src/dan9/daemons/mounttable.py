"""The rules of a namespace: what is bound where, and what a path then means.

Plan 9's rules, for daemons. A *place* is a daemon and a path below it (or a path in
the namespace's own tree of names, or in the registry of daemons). A *head* is a place
that something is bound on; its *members* are the places that stand for it, in order: a
union. Heads are keyed by place, not by the path that was typed: whatever other path
leads to the same place meets the same binding.

A path is walked one name at a time. At each step the members of the union that one
stands in are tried in order; the place that is found is exchanged for its head's
members, once. `..` goes back the way one came.

Whether a daemon has a name below it, only the daemon knows. Where it matters (several
members might have it) the walk *asks*: it is a generator that yields the place in
question and is sent the answer, so that the rules stay here, without I/O, and the
asking is whoever's drives it.

What differs from Plan 9: a place to bind on need not exist, the names are made up (a
name bound to itself, `bind /dev #/dev`, is a folder with nothing in it yet); a binding
that would make an endless path is refused, where Plan 9 allows it; binding the same
place again moves it within its union.

Source: Plan 9's bind(1), bind(2), namespace(4), and `sys/src/9/port/chan.c`
(namec, walk, domount, cmount, cunmount, createdir), read for what they do.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Literal

from dan9.base.address import SCHEME, Address
from dan9.base.errors import BadPayload, NotFound, PermissionRefused

__all__ = [
    "NAMES",
    "REGISTRY",
    "ROOT",
    "Found",
    "Member",
    "MountTable",
    "Order",
    "Place",
    "Walk",
    "address_of",
    "names_of",
    "place_of",
    "text_of_place",
]

Place = tuple[str, str]
"""Origin (a daemon's address, NAMES or REGISTRY) and path below it ("" for its top)."""

Order = Literal["replace", "before", "after"]

NAMES = "#"
"""The origin of the namespace's own tree of names; spelled `#/…`, as in Plan 9."""
REGISTRY = "#s"
"""The origin whose files are the daemons themselves: `#s/type/group/name`."""
ROOT: Place = (NAMES, "")

_UNKNOWN: Place = ("", "")
_DOTS = frozenset(("", ".", ".."))
_DEEP = 64  # names; what is deeper is walked in a loop
_CACHE = 65_536  # resolved paths remembered; about 20 MB when full


@dataclass(frozen=True, slots=True)
class Member:
    """One place of a union.

    Attributes:
        place: What stands for the head.
        create: New names in the union are made here.
        verb: `bind` or `mount`: how it came, for those who print it.
    """

    place: Place
    create: bool = False
    verb: str = "bind"


@dataclass(frozen=True, slots=True)
class Found:
    """Where a walk ended.

    Attributes:
        members: What stands at the path, in order; empty if nobody has the name.
        parent: The union that the last name was looked up in.
        left: The names that were not found; empty if all were.
    """

    members: tuple[Member, ...]
    parent: tuple[Member, ...] = ()
    left: tuple[str, ...] = ()

    def place_to_create(self, path: str) -> Place:
        """Return where a new name at this path would be made.

        Raises:
            PermissionRefused: It would be in a union none of whose members takes new names.
            NotFound: More than the last name is missing.
        """
        if len(self.left) != 1:
            raise NotFound(f"{path!r}: the folder of it is not there", hint="make it first")
        if len(self.parent) == 1:
            return _below(self.parent[0].place, self.left[0])
        for member in self.parent:
            if member.create:
                return _below(member.place, self.left[0])
        raise PermissionRefused(
            f"{path!r}: no member of the union takes new names",
            hint="bind one of them with create=true",
        )


Walk = Generator[Place, bool, Found]
"""A walk in progress: it yields places and is sent whether they exist."""


class MountTable:
    """The bindings of one view.

    Not safe from several threads. Lookups of a single member are remembered until the
    next change.
    """

    def __init__(self) -> None:
        self.heads: dict[Place, tuple[Member, ...]] = {}
        self.version = 0
        """Grows with each change."""
        # For each place, the names below it that lead to a head, counted.
        self._names: dict[Place, dict[str, int]] = {}
        self._cache: dict[str, Place | None] = {}

    def copy(self) -> MountTable:
        """Return a table that says the same and changes apart."""
        other = MountTable()
        other.heads = dict(self.heads)
        other._names = {place: dict(names) for place, names in self._names.items()}
        return other

    # -- what a path means -------------------------------------------------------------

    def resolve(self, path: str) -> Place | None:
        """Return the place a path leads to; None if members have to be asked.

        Also None where the path ends at a union of several.

        Raises:
            NotFound: No such name.
        """
        cache = self._cache
        place = cache.get(path, _UNKNOWN)
        if place is not _UNKNOWN:
            return place
        # One step from the folder's place, which is remembered for its next file.
        folder, _, name = path.rpartition("/")
        parent = cache.get(folder)
        if parent is None or name in _DOTS:
            place = self._resolve(path, folder, name)
        else:
            place = self._resolve_below(path, parent, name)
        if len(cache) >= _CACHE:
            cache.clear()
        cache[path] = place
        return place

    def _resolve(self, path: str, folder: str, name: str) -> Place | None:
        if not folder or name in _DOTS or path.count("/") > _DEEP:
            return self._resolve_by_walk(path)
        parent = self.resolve(folder)
        if parent is None:
            return self._resolve_by_walk(path)
        return self._resolve_below(path, parent, name)

    def _resolve_below(self, path: str, parent: Place, name: str) -> Place | None:
        origin, at = parent
        below = (origin, at + "/" + name)
        members = self.heads.get(below)
        if members is not None:
            return members[0].place if len(members) == 1 else None
        if origin == NAMES and name not in self._names.get(parent, ()):
            raise _nothing(path)
        return below

    def _resolve_by_walk(self, path: str) -> Place | None:
        walk = self.walk(path)
        try:
            next(walk)
        except StopIteration as end:
            found: Found = end.value
            if found.left:
                raise _nothing(path) from None
            return found.members[0].place if len(found.members) == 1 else None
        walk.close()
        return None

    def walk(self, path: str) -> Walk:
        """Walk a path; yields each place whose existence matters, is sent the answer."""
        way = [self.heads.get(ROOT, (Member(ROOT),))]
        names = names_of(path)
        for index, name in enumerate(names):
            if name == "..":
                if len(way) > 1:
                    way.pop()
                continue
            place = yield from self._step(way[-1], name)
            if place is None:
                left = tuple(names[index:])
                return Found((), way[-1], _without_dots(left))
            way.append(self.heads.get(place, (Member(place),)))
        return Found(way[-1], way[-2] if len(way) > 1 else ())

    def locate(self, path: str) -> Generator[Place, bool, Place]:
        """Walk to the place that a binding at this path is keyed by.

        As `walk`, but the last name is not exchanged for what is bound on it. Names that
        do not exist are made up: in the member of the union that takes new names, else
        in the namespace's own, else in the first.
        """
        names = list(_without_dots(tuple(names_of(path))))
        if not names:
            return ROOT
        union = self.heads.get(ROOT, (Member(ROOT),))
        place = ROOT
        for index, name in enumerate(names):
            found = yield from self._step(union, name)
            if found is None:
                place = _below(_creator(union), name)
                for rest in names[index + 1 :]:
                    place = _below(self._only(place), rest)
                return place
            place = found
            union = self.heads.get(place, (Member(place),))
        return place

    def _only(self, place: Place) -> Place:
        members = self.heads.get(place)
        return members[0].place if members else place

    def _step(self, union: tuple[Member, ...], name: str) -> Generator[Place, bool, Place | None]:
        """Find which member's name is meant; ask only where several might have it."""
        maybe: list[Place] = []
        certain: Place | None = None
        for member in union:
            place = _below(member.place, name)
            if name in self._names.get(member.place, ()):
                certain = place
                break
            if place[0] != NAMES:
                maybe.append(place)
        if certain is None and len(union) == 1:
            return maybe[0] if maybe else None  # only it can know, and it will say so
        for place in maybe:
            if (yield place):
                return place
        return certain

    # -- what is there -------------------------------------------------------------------

    def children(self, place: Place) -> list[str]:
        """Return the names below a place that this table knows of, sorted."""
        return sorted(self._names.get(place, ()))

    def members_at(self, place: Place) -> tuple[Member, ...]:
        """Return what stands for a place: its head's members, or itself."""
        return self.heads.get(place, (Member(place),))

    # -- changes ---------------------------------------------------------------------------

    def bind(
        self,
        place: Place,
        new: tuple[Member, ...],
        order: Order = "replace",
        *,
        create: bool = False,
    ) -> None:
        """Let `new` stand for `place`: alone, or before or after what stands there.

        Args:
            place: As `locate` found it.
            new: What is bound; several if a union is bound, which is copied.
            order: Whether it replaces, or joins at the front or at the end.
            create: New names are made in it.

        Raises:
            BadPayload: The binding would make an endless path, or `create` is asked for a
                union of several (in which of them?).
        """
        if create and len(new) > 1:
            raise BadPayload(
                f"{text_of_place(place)}: create=true with a union of {len(new)}",
                hint="bind the member that is to take new names",
                at="create",
            )
        for member in new:
            self._refuse_circle(place, member.place)
        added = tuple(Member(m.place, create, m.verb) for m in new)
        places = {member.place for member in added}
        old: tuple[Member, ...] = ()
        if order != "replace":
            # What was there joins the union, but is no place of creation unless it was.
            old = self.heads.get(place, (Member(place),) if self._exists(place) else ())
            old = tuple(member for member in old if member.place not in places)
        members = added + old if order == "before" else old + added
        if place not in self.heads:
            self._count(place, 1)
        self.heads[place] = members
        self._changed()

    def unbind(self, place: Place, targets: tuple[Place, ...] | None = None) -> int:
        """Undo bindings at a place and return how many members went.

        Args:
            place: As `locate` found it.
            targets: The members that go; all if None.

        Raises:
            NotFound: Nothing is bound there, or not that.
        """
        members = self.heads.get(place)
        if members is None:
            raise NotFound(
                f"nothing is bound at {text_of_place(place)}", hint="ns shows what is bound"
            )
        kept = (
            ()
            if targets is None
            else tuple(member for member in members if member.place not in targets)
        )
        if len(kept) == len(members):
            there = " ".join(text_of_place(member.place) for member in members)
            raise NotFound(f"{text_of_place(place)} holds no such member", hint=f"it holds {there}")
        # A daemon's place that stands for itself alone is as if nothing were bound; a name
        # of the namespace's own would be gone with its head, so that stays.
        alone = len(kept) == 1 and kept[0] == Member(place, verb=kept[0].verb)
        if not kept or (alone and place[0] != NAMES):
            del self.heads[place]
            self._count(place, -1)
        else:
            self.heads[place] = kept
        self._changed()
        return len(members) - len(kept)

    def _exists(self, place: Place) -> bool:
        """True if the place exists for all this table knows."""
        if place[0] != NAMES:
            return True
        return place == ROOT or bool(self._names.get(place))

    def _count(self, place: Place, by: int) -> None:
        """Count a head in all the places above it."""
        origin, at = place
        while at:
            at, _, name = at.rpartition("/")
            names = self._names.setdefault((origin, at), {})
            names[name] = names.get(name, 0) + by
            if not names[name]:
                del names[name]
                if not names:
                    del self._names[origin, at]

    def _changed(self) -> None:
        self.version += 1
        self._cache.clear()

    def _refuse_circle(self, place: Place, target: Place) -> None:
        """Refuse a target from which one would come to `place` again, and so on for ever."""
        seen: set[Place] = set()
        todo = [target]
        while todo:
            here = todo.pop()
            if here in seen:
                continue
            seen.add(here)
            if here[0] == place[0] and place[1].startswith(here[1] + "/"):
                raise BadPayload(
                    f"binding {text_of_place(target)} at {text_of_place(place)} makes a circle: "
                    "one would come to it again below itself, for ever",
                    hint="bind a part of it that does not contain the place",
                    at="target",
                )
            for head in self._heads_below(here):
                todo.extend(member.place for member in self.heads[head])

    def _heads_below(self, place: Place) -> Iterator[Place]:
        todo = [place]
        while todo:
            here = todo.pop()
            for name in self._names.get(here, ()):
                below = _below(here, name)
                if below in self.heads:
                    yield below
                todo.append(below)


def names_of(path: str) -> list[str]:
    """Return the names of a namespace path, `..` among them.

    Raises:
        BadPayload: It does not begin with `/`, or has a NUL or a line's end in it.
    """
    if not path.startswith("/"):
        raise BadPayload(f"{path!r} is no namespace path", hint="it begins with /", at="path")
    if "\0" in path:
        raise BadPayload(f"{path!r} has a NUL in it", at="path")
    return [name for name in path.split("/") if name and name != "."]


def place_of(text: str) -> Place | None:
    """Read a place spelled out: `d9://type/group/name[/path]`, `#/path`, `#s[/path]`.

    None if it is spelled otherwise (a path, a bare name).

    Raises:
        BadAddress: The address in it is none.
    """
    if text.startswith(SCHEME):
        parts = [part for part in text[len(SCHEME) :].split("/") if part]
        address = Address.parse(SCHEME + "/".join(parts[:3]))
        return str(address), "".join(f"/{name}" for name in parts[3:])
    origin, slash, rest = text.partition("/")
    if origin in {NAMES, REGISTRY}:
        path = "".join(f"/{name}" for name in names_of(slash + rest)) if slash else ""
        return origin, path
    return None


def text_of_place(place: Place) -> str:
    """Spell a place so that `place_of` reads it."""
    origin, path = place
    return origin + (path or ("/" if origin == NAMES else ""))


def address_of(place: Place) -> tuple[str, str] | None:
    """Return the daemon of a place, and the path that is left for it; None if it has none."""
    origin, path = place
    if origin == NAMES:
        return None
    if origin == REGISTRY:
        parts = path.split("/", 4)[1:]
        if len(parts) < 3:
            return None
        rest = "/" + parts[3] if len(parts) > 3 else ""
        return SCHEME + "/".join(parts[:3]), rest
    return origin, path


def _below(place: Place, name: str) -> Place:
    return place[0], f"{place[1]}/{name}"


def _creator(union: tuple[Member, ...]) -> Place:
    for member in union:
        if member.create:
            return member.place
    for member in union:
        if member.place[0] == NAMES:
            return member.place
    return union[0].place


def _without_dots(names: tuple[str, ...]) -> tuple[str, ...]:
    out: list[str] = []
    for name in names:
        if name != "..":
            out.append(name)
        elif out:
            out.pop()
    return tuple(out)


def _nothing(path: str) -> NotFound:
    return NotFound(
        f"{path!r}: no such name in this namespace", hint="dan9 ls / shows what is bound"
    )
