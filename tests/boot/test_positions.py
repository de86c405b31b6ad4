"""Where keys stand: checked against the standard library's own reading of the same text."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.boot.positions import line_of, positions
from tests.boot.writing import quoted, toml

KEYS = st.one_of(
    st.text("abcxyz-_09", min_size=1, max_size=6),
    st.text("a .]=#\"'\\é\n", min_size=1, max_size=6),
)
TEXTS = st.text("ab\"'\\#[]{}=,.\n é", max_size=12)
SCALARS = st.one_of(st.integers(-9, 9), st.booleans(), TEXTS, st.floats(0, 9))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def paths(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """List every path in a value that has a place in the text."""
    found = [path] if path else []
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*path, key))
    if isinstance(value, list):
        for index, inner in enumerate(value):
            found += paths(inner, (*path, index))
    return found


@given(st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4), st.booleans())
def test_every_key_has_a_line(tables: dict[str, dict[str, object]], spread: bool) -> None:
    """Every path that the reader finds has a position, and there are no others."""
    lines = [
        line
        for name, table in tables.items()
        for line in (
            f"[{quoted(name)}] # head",
            *(f"{quoted(key)} = {toml(value, spread=spread)}" for key, value in table.items()),
        )
    ]
    text = "\n".join(lines)
    assert set(positions(text)) == set(paths(tomllib.loads(text)))


@given(st.dictionaries(KEYS, VALUES, min_size=1, max_size=6))
def test_a_key_stands_on_its_line(table: dict[str, object]) -> None:
    """With one key a line, the position of the n-th key is the n-th line's."""
    text, expected = "", {}
    for key, value in table.items():
        expected[(key,)] = text.count("\n") + 1
        text += f"{quoted(key)} = {toml(value, spread=True)}\n"
    found = positions(text)
    assert {path: line for path, line in found.items() if len(path) == 1} == expected


@pytest.mark.parametrize(
    ("text", "path", "line"),
    [
        ("a = 1", ("a",), 1),
        ("\n\n[t]\nx.y = 1\n", ("t", "x", "y"), 4),
        ("[a]\n[a.b]\nc = 1", ("a", "b", "c"), 3),
        ("[[a]]\nb = 1\n[[a]]\nb = 2", ("a", 1, "b"), 4),
        ("[[a]]\n[[a.b]]\n[[a.b]]\nc = 2", ("a", 0, "b", 1, "c"), 4),
        ("[[a]]\n[a.t]\nc = 2", ("a", 0, "t", "c"), 3),
        ("a = [\n 1,\n {b = 2}\n]", ("a", 1, "b"), 3),
        ('a = """\n\n"""\nb = 1', ("b",), 4),
        ('a = """x""""\nb = 1', ("b",), 2),
        ("a = '''\n\\'''\nb = 1", ("b",), 3),
        ("a = 1979-05-27 07:32:00 # then\nb = 1", ("b",), 2),
        ("a = 1\r\nb = 2\r\n", ("b",), 2),
        ('"a b".c = 1', ("a b", "c"), 1),
    ],
)
def test_line(text: str, path: tuple[str | int, ...], line: int) -> None:
    """The known shapes of TOML each give the line that an editor shows."""
    tomllib.loads(text)
    assert positions(text)[path] == line


def test_line_of_a_missing_key_is_that_of_its_table() -> None:
    """A key that is not there is reported where it should be."""
    lines = positions("\n[daemon.web]\nrun = 'a:B'\n")
    assert line_of(lines, ("daemon", "web", "group")) == 2
    assert line_of(lines, ("system", "name")) == 1
