"""Fields: the state and configuration of a daemon class."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import msgspec
import pytest

from dan9.base.duration import Duration
from dan9.base.errors import BadConfig, BadPayload, Corrupt
from dan9.base.schema import Config, Fields


@dataclass
class Point:
    x_pos: int = 0


class Base:
    """Stands for the Daemon base."""

    address: str
    log: threading.Lock


class Counter(Base):
    known: ClassVar[int] = 5
    root: Config[str] = "/"
    max_wait: Config[Duration] = 1.0
    total: int = 0
    ratio: Fraction = Fraction(1, 2)
    names: list[str] = []
    points: dict[str, Point] = {}
    _lock: threading.Lock


class Needy(Counter):
    port: Config[int]
    total: int = 7


FIELDS = Fields.of(Counter, stop_at=Base)


def test_annotations_are_state_or_configuration() -> None:
    """Private names, class variables and the base's own annotations are neither."""
    assert list(FIELDS.state) == ["total", "ratio", "names", "points"]
    assert list(FIELDS.config) == ["root", "max_wait"]


def test_subclasses_add_and_override() -> None:
    """The most derived default counts; required configuration is known."""
    fields = Fields.of(Needy, stop_at=Base)
    assert fields.all["total"].default == 7
    assert fields.required == ("port",)
    assert next(iter(fields.all)) == "root"


def test_mutable_defaults_are_copied_per_instance() -> None:
    """Only those: the others serve from the class."""
    one, two = FIELDS.fresh(), FIELDS.fresh()
    assert one == {"names": [], "points": {}}
    assert one["names"] is not two["names"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"x": (threading.Lock, None)}, "no type of the schema"),
        ({"x": (dict[int, str], {})}, "map keys are text"),
        ({"x": (int, "a")}, "its default must be an integer, not text 'a'"),
        ({"x": (object, threading.Lock())}, "its default is no type of the schema"),
        ({"x": (int, ...)}, "state without a default"),
        ({"x": ("Nowhere", 0)}, "cannot be resolved"),
        ({"read": (int, 0)}, "is a field and a handler"),
        ({"list": (int, 0)}, "is a field and a handler"),
    ],
)
def test_wrong_declarations_are_refused_when_the_class_is_made(
    body: dict[str, Any], text: str
) -> None:
    """Each with the field's name."""
    annotations = {name: annotation for name, (annotation, _) in body.items()}
    defaults = {name: default for name, (_, default) in body.items() if default is not ...}
    cls = type("Wrong", (Base,), {"__annotations__": annotations, **defaults})
    with pytest.raises(BadConfig, match=text):
        Fields.of(cls, stop_at=Base, handlers=["read", "list_"])


def test_values_from_outside_are_converted() -> None:
    """Either spelling of the name, every form of the value."""
    assert FIELDS.convert("max-wait", "5m") == 300.0
    assert FIELDS.convert_all({"max_wait": "2s", "total": 3}) == {"max_wait": 2.0, "total": 3}


@pytest.mark.parametrize(
    ("given", "text", "hint"),
    [
        ({"port": 1, "rot": "/"}, "has no field rot", "did you mean root?"),
        ({"port": "x"}, "port must be an integer", ""),
        ({}, "needs port", "give port: an integer"),
        ({"port": 1, "max-wait": 1, "max_wait": 1}, "both spellings", ""),
        ({"port": 1, "points": {"a": {"x-pos": "?"}}}, r"points\.a\.x-pos must be", ""),
        ({"port": 1, "Root": "/"}, "has no field Root", ""),
    ],
)
def test_wrong_configuration_is_refused(given: dict[str, object], text: str, hint: str) -> None:
    """With class, name and what was wanted."""
    with pytest.raises(BadConfig, match=text) as caught:
        Fields.of(Needy, stop_at=Base).convert_all(given)
    assert hint in caught.value.hint


def test_state_survives_a_checkpoint() -> None:
    """What was stored is what the class declared, types included."""
    counter = Counter()
    counter.total, counter.points = 2**80, {"a": Point(3)}
    restored = FIELDS.restore(FIELDS.snapshot(counter))
    assert restored == {
        "total": 2**80,
        "ratio": Fraction(1, 2),
        "names": [],
        "points": {"a": Point(3)},
    }


def test_state_that_cannot_be_stored_is_named() -> None:
    """A checkpoint fails loudly, with the field."""
    counter = Counter()
    counter.points = {"a": threading.Lock()}  # type: ignore[dict-item]  # that is the fault
    with pytest.raises(BadPayload, match=r"Counter\.points cannot be stored"):
        FIELDS.snapshot(counter)


@pytest.mark.parametrize("data", [b"", b"\xc1", b"\x01", msgspec.msgpack.encode({"state": 1})])
def test_what_is_no_snapshot_is_corrupt(data: bytes) -> None:
    """A torn file is reported, never loaded."""
    with pytest.raises(Corrupt, match="no snapshot"):
        FIELDS.restore(data)


def stored(state: dict[str, object]) -> bytes:
    """A snapshot of another version of the class."""
    return msgspec.msgpack.encode({"schema": "another", "state": state})


def test_state_of_another_schema_is_taken_if_it_fits() -> None:
    """New fields keep their defaults; lost and changed ones are refused, not dropped."""
    assert FIELDS.restore(stored({"total": 4})) == {"total": 4}
    with pytest.raises(Corrupt, match="has no state gone") as caught:
        FIELDS.restore(stored({"gone": 4}))
    assert "migrate" in caught.value.hint
    with pytest.raises(Corrupt, match=r"Counter\.total must be an integer"):
        FIELDS.restore(stored({"total": "four"}))


def test_migrate_sees_state_of_another_schema_only() -> None:
    """The class's own migration runs between reading and checking."""
    assert FIELDS.restore(stored({"sum": 4}), lambda old: {"total": old["sum"]}) == {"total": 4}
    same = FIELDS.restore(FIELDS.snapshot(Counter()), lambda old: {})
    assert same["total"] == 0


def test_the_fingerprint_follows_the_state() -> None:
    """Configuration does not change it; a field does."""

    class More(Counter):
        extra: int = 0

    class Other(Counter):
        other_root: Config[str] = "/"

    assert Fields.of(Other, stop_at=Base).schema_id == FIELDS.schema_id
    assert Fields.of(More, stop_at=Base).schema_id != FIELDS.schema_id


def test_fields_are_shown_as_plain_data() -> None:
    """For status, in either spelling."""
    counter = Counter()
    assert FIELDS.show(counter, config=True, wire=True) == {"root": "/", "max-wait": 1.0}
    assert FIELDS.show(counter, config=False)["ratio"] == "1/2"
    assert FIELDS.schema(config=True)["properties"]["root"] == {"type": "string"}
