"""The catalogue names by text; each name must lead to the daemon that it promises."""

from __future__ import annotations

import pytest

from dan9.boot.catalogue import NODE, SERVICE, SYSTEM, TYPES
from dan9.boot.importing import load_class


@pytest.mark.parametrize(("name", "target"), [*TYPES.items(), *SYSTEM.items()])
def test_a_type_is_what_its_name_says(name: str, target: str) -> None:
    """The class is there, and its type in addresses is the name."""
    assert load_class(target)._d9_behaviour.type_name == name


@pytest.mark.parametrize("target", [NODE, SERVICE])
def test_the_others_are_there(target: str) -> None:
    """The node's daemon and what a command becomes."""
    assert load_class(target).__doc__


def test_persistence_starts_first_and_the_log_next() -> None:
    """What stops last has saved the others and heard of their end."""
    assert list(SYSTEM)[:2] == ["persistence", "logging"]
