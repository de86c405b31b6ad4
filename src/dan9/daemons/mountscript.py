"""A namespace as commands that would make it, as Plan 9's ns(1) prints one.

The commands are made against a second table that follows along: each is spelled as
simply as leads to the very same place in what has been rebuilt so far, and with the
place spelled out (`#/net`, `d9://type/group/name/path`) where a plain path would not.
So the script is right by construction, whatever was bound, masked and unbound before.
`dan9 ns | sh` rebuilds it in another node.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

from dan9.base.errors import BadPayload, Refused
from dan9.daemons.mounttable import (
    NAMES,
    Found,
    Member,
    MountTable,
    Order,
    Place,
    address_of,
    place_of,
    text_of_place,
)

__all__ = ["read_script", "write_script"]

T = TypeVar("T")


def write_script(table: MountTable) -> list[str]:
    """Return the commands, one a line, in the order in which they must be given."""
    again = MountTable()
    lines = []
    for place, members in table.heads.items():
        path = _spell(again, place)
        for index, member in enumerate(members):
            order: Order = "after" if index else "replace"
            # `dan9 mount` has no --create; what was mounted to create is bound to create.
            verb = "bind" if member.create else member.verb
            words = ["dan9", verb, path, text_of_place(member.place)]
            if index:
                words.append("--after")
            if member.create:
                words.append("--create")
            lines.append(" ".join(shlex.quote(word) for word in words))
            again.bind(place, (member,), order, create=member.create)
    return lines


def read_script(lines: Iterable[str]) -> MountTable:
    """Return the table that the commands make.

    Raises:
        BadPayload: A line is no such command; the text says which.
    """
    table = MountTable()
    for number, line in enumerate(lines, 1):
        words = shlex.split(line, comments=True)
        if words[:1] == ["dan9"]:
            del words[0]
        if not words:
            continue
        flags = {word for word in words if word.startswith("--")}
        plain = [word for word in words if not word.startswith("--")]
        if (
            plain[0] not in {"bind", "mount"}
            or len(plain) != 3
            or flags - {"--before", "--after", "--create"}
        ):
            raise BadPayload(f"line {number}: {line!r} is no bind or mount", at="commands")
        order: Order = "after" if "--after" in flags else "replace"
        order = "before" if "--before" in flags else order
        place = place_of(plain[1]) or first_guess(table.locate(plain[1]))
        target = place_of(plain[2])
        members = (
            (Member(target, verb=plain[0]),)
            if target is not None
            else _found(first_guess(table.walk(plain[2])), plain[2])
        )
        table.bind(place, members, order, create="--create" in flags)
    return table


def first_guess(
    walk: Generator[Place, bool, T], exists: Callable[[Place], bool] | None = None
) -> T:
    """Drive a walk to its end; without `exists` every place that is asked for is there."""
    try:
        question = next(walk)
        while True:
            question = walk.send(exists is None or exists(question))
    except StopIteration as end:
        value: T = end.value
        return value


def _found(found: Found, path: str) -> tuple[Member, ...]:
    if found.left:
        raise BadPayload(f"{path!r} is not there", at="commands")
    return found.members


def _spell(table: MountTable, place: Place) -> str:
    """Return the simplest spelling that leads to the place in this table."""
    origin, path = place
    candidates = [path or "/"] if origin == NAMES else []
    if address_of(place) is not None and path:
        # Below a daemon: by a path through one of the heads that lead there.
        for head, members in table.heads.items():
            if head[0] == NAMES and len(members) == 1:
                top = members[0].place
                if top[0] == origin and (path == top[1] or path.startswith(top[1] + "/")):
                    candidates.append(head[1] + path[len(top[1]) :])
                    break
    for text in candidates:
        asked: list[Place] = []

        def note(question: Place, asked: list[Place] = asked) -> bool:
            asked.append(question)
            return True

        try:
            if first_guess(table.locate(text), note) == place and not asked:
                return text
        except Refused:
            continue
    return text_of_place(place)
