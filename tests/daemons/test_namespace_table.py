"""The rules of a namespace by themselves, where the stateful test says too little."""

from __future__ import annotations

import pytest

from dan9.base.errors import BadAddress, BadPayload, NotFound, PermissionRefused
from dan9.daemons.mountscript import first_guess, read_script, write_script
from dan9.daemons.mounttable import (
    NAMES,
    REGISTRY,
    Found,
    Member,
    MountTable,
    Place,
    address_of,
    place_of,
    text_of_place,
)

A, B = "d9://echo/test/a", "d9://echo/test/b"


def bound(*lines: str) -> MountTable:
    """Make a table of commands."""
    return read_script(lines)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("d9://echo/test/a", (A, "")),
        ("d9://echo/test/a/x/y", (A, "/x/y")),
        ("d9://echo/test/a//x/", (A, "/x")),
        ("#/", (NAMES, "")),
        ("#/net", (NAMES, "/net")),
        ("#s", (REGISTRY, "")),
        ("#s/echo/test/a", (REGISTRY, "/echo/test/a")),
        ("/a/path", None),
        ("name", None),
        ("#x/y", None),
    ],
)
def test_places_are_spelled_and_read(text: str, place: Place | None) -> None:
    """What is read of the spelling of a place is the place."""
    assert place_of(text) == place
    if place is not None:
        assert place_of(text_of_place(place)) == place


def test_a_place_that_is_spelled_wrong() -> None:
    """An address in it must be one."""
    with pytest.raises(BadAddress):
        place_of("d9://echo")
    with pytest.raises(BadPayload):
        bound(f"bind /x#y/.. {A}", "bind relative /x")


def test_the_registry_is_addresses_as_paths() -> None:
    """Three names are a daemon, what follows is left for it."""
    assert address_of((REGISTRY, "/echo/test/a")) == (A, "")
    assert address_of((REGISTRY, "/echo/test/a/x/y")) == (A, "/x/y")
    assert address_of((REGISTRY, "/echo/test")) is None
    assert address_of((NAMES, "/x")) is None
    assert address_of((A, "/x")) == (A, "/x")


def test_a_folder_of_names_stays_when_what_was_joined_goes() -> None:
    """A name bound to itself is an empty folder; a union with it falls back to it."""
    table = bound("bind /dev '#/dev'", f"bind /dev {A} --after")
    table.unbind((NAMES, "/dev"), ((A, ""),))
    assert table.resolve("/dev") == (NAMES, "/dev")
    table.unbind((NAMES, "/dev"))
    with pytest.raises(NotFound):
        table.resolve("/dev")


def test_a_daemons_place_alone_is_as_if_nothing_were_bound() -> None:
    """When the last joined member goes, so does the head."""
    table = bound(f"bind /x {A}", f"bind /x/sub {B} --before")
    assert table.heads[A, "/sub"] == (Member((B, "")), Member((A, "/sub")))
    table.unbind((A, "/sub"), ((B, ""),))
    assert (A, "/sub") not in table.heads
    assert table.resolve("/x/sub/f") == (A, "/sub/f")


def test_binding_again_moves_a_member_and_its_right_to_create() -> None:
    """There are no two of the same in a union."""
    table = bound(f"bind /x {A}", f"bind /x {B} --after", f"bind /x {A} --after --create")
    assert table.heads[NAMES, "/x"] == (Member((B, "")), Member((A, ""), create=True))


def test_new_names_are_made_in_the_member_bound_to_create() -> None:
    """In the first such; in a union without one, nowhere; alone, in that."""
    nobody = lambda _place: False  # noqa: E731  (a daemon that has nothing)
    table = bound(f"bind /u {A}", f"bind /u {B} --after --create")
    found: Found = first_guess(table.walk("/u/new"), nobody)
    assert found.place_to_create("/u/new") == (B, "/new")
    found = first_guess(table.walk("/u/no/new"), nobody)
    with pytest.raises(NotFound, match="folder"):
        found.place_to_create("/u/no/new")
    found = first_guess(bound(f"bind /u {A}", f"bind /u {B} --after").walk("/u/new"), nobody)
    with pytest.raises(PermissionRefused):
        found.place_to_create("/u/new")
    found = first_guess(bound("bind /d '#/d'").walk("/d/new"))
    assert found.place_to_create("/d/new") == (NAMES, "/d/new")


def test_only_what_matters_is_asked() -> None:
    """A single daemon is not asked, nor whoever comes after what is certain."""
    table = bound(f"bind /u {A}", f"bind /u {B} --after", f"bind /alone {A}")
    asked: list[Place] = []

    def note(place: Place) -> bool:
        asked.append(place)
        return place[0] == B

    assert first_guess(table.walk("/alone/x/y"), note).members == (Member((A, "/x/y")),)
    assert asked == []
    assert first_guess(table.walk("/u/x/y"), note).members == (Member((B, "/x/y")),)
    assert asked == [(A, "/x"), (B, "/x")]
    assert table.resolve("/u/x") is None
    assert table.resolve("/u") is None


def test_paths_may_be_spelled_loosely() -> None:
    """Empty names and dots say nothing; a very deep path is walked all the same."""
    table = bound(f"bind /x {A}")
    for path in ("/x/f", "//x///f", "/./x/./f", "/x/f/", "/x/q/../f", "/../x/f"):
        assert table.resolve(path) == (A, "/f")
    deep = "/x" + "/d" * 5_000
    assert table.resolve(deep) == (A, deep[2:])
    for path in ("x/f", "", "/a\0"):
        with pytest.raises(BadPayload):
            table.resolve(path)


def test_a_change_is_seen_at_once() -> None:
    """What was remembered of a path is forgotten with the next change."""
    table = bound(f"bind /x {A}")
    assert table.resolve("/x/f") == (A, "/f")
    table.bind((A, "/f"), (Member((B, "")),))
    assert table.resolve("/x/f") == (B, "")
    table.unbind((A, "/f"))
    assert table.resolve("/x/f") == (A, "/f")


def test_scripts_quote_what_a_shell_would_take_apart() -> None:
    """Names with spaces, quotes and stars come back whole."""
    table = MountTable()
    for name in ("/a b", "/it's", "/*", "/$HOME", "/#"):
        table.bind((NAMES, name), (Member((A, name)),))
    assert read_script(write_script(table)).heads == table.heads
