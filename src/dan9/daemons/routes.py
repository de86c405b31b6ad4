"""The router's table: a trie of type, group and name, so that patterns need no scan. Pure.

Three levels of dictionaries: a pattern descends only where it fits, so that `d9://meter/north/*`
looks at one group, however many addresses there are. Beside them one dictionary of whole
addresses: among a million in random order one look-up takes a third of the time of three.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Generic, TypeVar

from dan9.base.address import SCHEME, Address
from dan9.base.errors import BadAddress

__all__ = ["Routes", "matching"]

V = TypeVar("V")
Tree = Mapping[str, Mapping[str, Mapping[str, V]]]

_PLAIN = re.compile(
    SCHEME + "/".join(["([a-z0-9][a-z0-9._-]{0,62})"] * 3) + r"\Z"
)  # most addresses: known to be legal in less than half the time of parsing
_LEGAL = re.compile(r"[a-z0-9._*-]+\Z")


class Routes(Generic[V]):
    """Addresses and what each leads to."""

    def __init__(self) -> None:
        self.tree: dict[str, dict[str, dict[str, V]]] = {}
        self._all: dict[str, V] = {}

    def add(self, uri: str, value: V) -> bool:
        """Enter an address; False if it is there already.

        Raises:
            BadAddress: It is no address.
        """
        plain = _PLAIN.match(uri)
        if plain is not None:
            kind, group, name = plain.groups()
        else:
            parsed = Address.parse(uri)
            kind, group, name, uri = parsed.type, parsed.group, parsed.name, str(parsed)
        if uri in self._all:
            return False
        self._all[uri] = value
        self.tree.setdefault(kind, {}).setdefault(group, {})[name] = value
        return True

    @property
    def count(self) -> int:
        """Return how many addresses there are."""
        return len(self._all)

    def get(self, uri: str) -> V | None:
        """Return what an address leads to, or None. Never raises: for what is asked often."""
        value = self._all.get(uri)
        if value is None and uri.count("/") == 3:
            head, _, name = uri.rpartition("/")
            value = self._all.get(f"{head}/default/{name}")
        return value

    def remove(self, uri: str) -> V | None:
        """Take an address out and return what it led to, or None; empty branches go too."""
        parsed = Address.parse(uri)
        value = self._all.pop(str(parsed), None)
        if value is not None:
            groups = self.tree[parsed.type]
            names = groups[parsed.group]
            del names[parsed.name]
            if not names:
                del groups[parsed.group]
            if not groups:
                del self.tree[parsed.type]
        return value

    def match(self, pattern: str) -> Iterator[tuple[str, V]]:
        """Iterate over the addresses that a pattern fits, and what they lead to."""
        return matching(self.tree, pattern)


def matching(tree: Tree[V], pattern: str) -> Iterator[tuple[str, V]]:
    """Iterate over what a pattern fits in a tree of type, group, name.

    `*` stands for one segment or a part of one, `**` for any number of segments; a
    pattern without a slash is matched against the name.

    Raises:
        BadAddress: It is no pattern.
    """
    before: list[tuple[str, str, str]] = []
    for shape in _shapes(pattern):
        for one, groups in _level(tree, shape[0]):
            for two, names in _level(groups, shape[1]):
                for three, value in _level(names, shape[2]):
                    # Two shapes of one pattern may both fit: told once.
                    if not before or not any(_fits(s, (one, two, three)) for s in before):
                        yield f"{SCHEME}{one}/{two}/{three}", value
        before.append(shape)


def _level(branch: Mapping[str, V], part: str) -> Iterable[tuple[str, V]]:
    """Return the entries of one level that one segment of a pattern fits."""
    if part == "*":
        return list(branch.items())
    if "*" not in part:
        return [(part, branch[part])] if part in branch else []
    fits = _matcher(part)
    return [(key, value) for key, value in branch.items() if fits(key)]


@lru_cache(maxsize=512)
def _matcher(part: str) -> Callable[[str], object]:
    return re.compile("[^/]*".join(map(re.escape, part.split("*"))) + r"\Z").match


def _fits(shape: tuple[str, ...], address: tuple[str, ...]) -> bool:
    return all(_matcher(part)(one) for part, one in zip(shape, address, strict=True))


def _shapes(pattern: str) -> list[tuple[str, str, str]]:
    """Return the patterns of three segments that a pattern means: none twice over.

    `d9://a/**` is a/*/*. Where several `**` stand, those shapes are left out that a
    wider one contains.
    """
    body = pattern.removeprefix(SCHEME)
    parts = body.split("/") if "/" in body or body == "**" else ["**", body]
    if not body or not all(_LEGAL.match(part) for part in parts):
        raise BadAddress(f"{pattern!r} is no pattern", hint="as d9://timer/**, d9://*/system/*")
    found: list[tuple[str, ...]] = [()]
    for part in parts:
        if part == "**":
            found = [(*shape, *["*"] * more) for shape in found for more in range(4 - len(shape))]
        else:
            found = [(*shape, part) for shape in found if len(shape) < 3]
    shapes = list(dict.fromkeys(shape for shape in found if len(shape) == 3))
    return [
        (one[0], one[1], one[2])
        for one in shapes
        if not any(other != one and _covers(other, one) for other in shapes)
    ]


def _covers(wide: tuple[str, ...], narrow: tuple[str, ...]) -> bool:
    return all(one in {"*", two} for one, two in zip(wide, narrow, strict=True))
