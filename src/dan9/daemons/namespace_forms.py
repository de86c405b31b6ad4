"""What the namespace daemon answers with, and what it keeps of its views."""

from __future__ import annotations

from typing import NotRequired, TypedDict

from dan9.base.errors import Corrupt, NotFound
from dan9.daemons.mounttable import Member, MountTable, Place, address_of, place_of, text_of_place

__all__ = [
    "Lookup",
    "MemberForm",
    "Named",
    "SavedMember",
    "form_of",
    "named",
    "nothing_at",
    "table_of",
]


class MemberForm(TypedDict):
    """One member of a union, as replies show it."""

    address: str
    path: str
    create: bool


class Lookup(TypedDict):
    """What a path means."""

    address: str
    """The daemon; empty for a folder of names."""
    path: str
    """What is left of the path for it."""
    members: list[MemberForm]
    """All who stand at the path, in the order in which they are searched."""


class SavedMember(TypedDict):
    """One member of a union, as the state keeps it."""

    place: str
    create: bool
    verb: str


class Named(TypedDict):
    """One entry of a listing."""

    name: str
    path: str
    kind: str
    address: str
    """The daemon it belongs to; empty for a folder of names."""
    target: str
    """What is bound there, if something is."""
    member: int
    """Which member of a union it comes from, 0 the first."""
    order: NotRequired[str]


def table_of(heads: dict[str, list[SavedMember]]) -> MountTable:
    """Make a table of what was saved: place by place, as it was."""
    table = MountTable()
    for text, members in heads.items():
        place = place_of(text)
        for number, saved in enumerate(members):
            target = place_of(saved["place"])
            if place is None or target is None:
                raise Corrupt(f"a saved view has {text!r}, which is no place")
            member = Member(target, verb=saved["verb"])
            table.bind(place, (member,), "after" if number else "replace", create=saved["create"])
    return table


def form_of(member: Member) -> MemberForm:
    """Return a member as replies show it."""
    found = address_of(member.place)
    if found is None:
        return MemberForm(address="", path=text_of_place(member.place), create=member.create)
    return MemberForm(address=found[0], path=found[1], create=member.create)


def named(name: str, path: str, kind: str, place: Place, target: str, number: int) -> Named:
    """Return one entry of a listing."""
    found = address_of(place)
    return Named(
        name=name,
        path=path,
        kind=kind,
        address=found[0] if found else "",
        target=target,
        member=number,
    )


def nothing_at(path: str) -> NotFound:
    """Return the refusal of a path that nobody has."""
    return NotFound(f"{path!r}: no such name in this namespace", hint="dan9 ls / shows the names")
