"""Addresses and the patterns over them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.address import Address, Pattern, is_pattern, kebab, segment
from dan9.base.errors import BadAddress

SEGMENTS = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,62}", fullmatch=True)


@given(SEGMENTS, SEGMENTS, SEGMENTS)
def test_an_address_survives_its_text(kind: str, group: str, name: str) -> None:
    """Reading what was written gives the same address."""
    address = Address(kind, group, name)
    assert Address.parse(str(address)) == address


def test_the_group_may_be_left_out() -> None:
    """Two segments are of the group default."""
    assert str(Address.parse("d9://timer/t1")) == "d9://timer/default/t1"


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "timer",
        "d9://",
        "d9://timer",
        "d9://a/b/c/d",
        "d9://A/b/c",
        "d9://a//c",
        "d9://a/b/c@n",
        "d9://-a/b/c",
        "d9://a/b/" + "x" * 64,
        "d9://a/b/c\n",
        "http://a/b/c",
        "d9://a/b/é",
    ],
)
def test_what_is_no_address_is_refused_with_the_form(wrong: str) -> None:
    """The refusal shows what an address looks like, or what a segment may hold."""
    with pytest.raises(BadAddress) as caught:
        Address.parse(wrong)
    assert caught.value.hint


def test_a_segment_names_what_it_is_for() -> None:
    """The text says which part is wrong."""
    with pytest.raises(BadAddress, match="'No' is no group") as caught:
        segment("No", "group")
    assert caught.value.at == "group"


@pytest.mark.parametrize(
    ("python", "wire"),
    [
        ("HTTPServer", "http-server"),
        ("VirtualDevice", "virtual-device"),
        ("max_bytes", "max-bytes"),
        ("read", "read"),
        ("Pool2", "pool2"),
    ],
)
def test_python_names_are_spelled_in_kebab_case(python: str, wire: str) -> None:
    """Classes and parameters have one spelling outside."""
    assert kebab(python) == wire


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("d9://timer/**", ["d9://timer/a/b"], ["d9://timers/a/b"]),
        ("d9://*/system/*", ["d9://x/system/y"], ["d9://x/user/y", "d9://x/y/system/z"]),
        ("**", ["d9://a/b/c"], []),
        ("**/c/**", ["d9://a/b/c", "d9://c/a/b", "d9://a/c/b"], ["d9://a/b/cc"]),
        ("a/b/c/**", ["d9://a/b/c"], ["d9://a/b/cc"]),
        ("web-*", ["d9://app/default/web-1"], ["d9://web-1/default/app"]),
        ("*/demo/*", ["d9://counter/demo/c1"], ["d9://counter/system/c1"]),
        ("d9://**/c1", ["d9://counter/demo/c1"], ["d9://counter/demo/c11"]),
        ("d9://a/b/c.d", ["d9://a/b/c.d"], ["d9://a/b/cxd"]),
    ],
)
def test_a_pattern_matches_whole_addresses(pattern: str, yes: list[str], no: list[str]) -> None:
    """One star is a segment or a part of one, two are any number."""
    found = Pattern(pattern)
    assert all(map(found.matches, yes))
    assert not any(map(found.matches, no))


@pytest.mark.parametrize("wrong", ["", "d9://", "A*", "a b", "x?"])
def test_what_is_no_pattern_is_refused(wrong: str) -> None:
    """Only the characters of addresses and stars are patterns."""
    with pytest.raises(BadAddress, match="no pattern"):
        Pattern(wrong)


def test_a_star_makes_a_pattern() -> None:
    """Everything else is an address or a name."""
    assert is_pattern("d9://*/a/b")
    assert not is_pattern("d9://x/a/b")
