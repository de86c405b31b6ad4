"""What a log keeps: plain, bounded, and never an exception."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dan9.base.loggable import ITEM, MAX_DEPTH, MAX_TEXT, kept_fields, kept_text


class Broken:
    """Cannot be shown."""

    def __str__(self) -> str:
        raise RuntimeError("on purpose")


@dataclass
class Job:
    """A record."""

    name: str
    parts: list[int]


def kept(value: object) -> Any:
    """Return what is kept of one field."""
    return kept_fields({"x": value})["x"]


def test_simple_fields_are_kept_as_they_are() -> None:
    """The very map: most entries are copied by nobody."""
    fields: dict[str, Any] = {"size": 5, "path": "/x", "ok": True, "share": 0.5, "none": None}
    assert kept_fields(fields) is fields


def test_what_changes_later_is_kept_as_it_was() -> None:
    """Containers are copied, within containers too."""
    inner = [1]
    fields = {"jobs": {"a": inner}, "parts": (inner, 2), "job": Job("n", inner)}
    found = kept_fields(fields)
    inner.append(2)
    assert found == {
        "jobs": {"a": [1]},
        "parts": [[1], 2],
        "job": {"name": "n", "parts": [1]},
    }


def test_what_holds_itself_ends_somewhere() -> None:
    """Lists, maps and records that hold themselves."""
    ring: list[object] = []
    ring.append(ring)
    found: Any = kept(ring)
    for _ in range(MAX_DEPTH - 1):
        [found] = found
    assert found == ["…"]
    job = Job("n", [])
    job.parts.append(job)  # type: ignore[arg-type]
    assert kept(job).startswith(f"{Job.__qualname__}(name='n'")


def test_numbers_that_no_wire_carries_are_text() -> None:
    """Not numbers, infinities, beyond 64 bits, beyond what Python prints."""
    assert [kept(value) for value in (math.nan, -math.inf)] == ["nan", "-inf"]
    assert kept(2**64) == str(2**64)
    assert kept(-(2**63)) == -(2**63)
    assert kept(10**5000) == "<int>"
    assert kept([math.nan, 2**70]) == ["nan", str(2**70)]


def test_objects_are_their_text_without_memory_addresses() -> None:
    """One whose text fails is its class; an exception says which it is; sets are in order."""
    assert kept(object()) == "<object object>"
    assert kept(Broken()) == "<Broken>"
    assert kept({Broken(): 1}) == {"<Broken>": 1}
    assert kept(KeyError("gone")) == "KeyError('gone')"
    assert kept(b"raw") == "b'raw'"
    assert kept({"b", "a"}) == ["a", "b"]


def test_long_texts_are_cut_and_say_so() -> None:
    """In a field, in a list of them, as a key, and as the text itself."""
    assert kept_text("x" * (MAX_TEXT + 7)) == "x" * MAX_TEXT + "… (7 more characters)"
    assert kept("x" * (MAX_TEXT + 7)).endswith("… (7 more characters)")
    many = kept(["x" * MAX_TEXT] * 9)
    assert sum(map(len, many)) < MAX_TEXT + 9 * 40
    assert len(next(iter(kept({"k" * 5000: 1})))) < 1100
    assert kept_text(7) == "7"


def test_of_many_items_the_first_are_kept_and_the_others_counted() -> None:
    """In lists and maps alike."""
    most = MAX_TEXT // ITEM
    assert kept([0] * (most + 5))[most:] == ["… 5 more"]
    found = kept(dict.fromkeys(map(str, range(most + 5)), 0))
    assert (len(found), found["…"]) == (most + 1, "5 more")


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.binary()
    | st.text(st.characters())  # half characters too
    | st.builds(Broken),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@settings(max_examples=50)
@given(st.dictionaries(st.text(st.characters()), anything, max_size=3))
def test_whatever_is_logged_becomes_strict_json(fields: dict[str, Any]) -> None:
    """UTF-8 that every parser takes, and the same again if it is kept twice."""
    found = kept_fields(fields)
    text = json.dumps(found, allow_nan=False, ensure_ascii=False)
    assert json.loads(text.encode()) == found
    assert kept_fields(found) == found
