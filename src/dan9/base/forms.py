"""Data as it leaves Python: plain for a by-name ask, wire for a socket, JSON for a person.

Plain data are None, bool, int, float, str, bytes, list and dict with text keys.
Three outward spellings of the same value:

- *plain*: for Python callers that ask by name. Records (dataclasses, named
  tuples, msgspec Structs) become maps with underscores in their keys.
- *wire*: for msgpack. Keys of records are kebab-case, keys of maps are data and stay
  as they are; integers beyond 64 bits are decimal text, because msgpack ends there.
- *JSON*: wire, and bytes are base64 text where the schema says bytes, else
  `{"$bytes": …}`.

A value in which nothing has to change is returned itself, not copied: by
reference locally is the rule, and it costs a walk but no memory.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from dan9.base.address import Address, kebab
from dan9.base.errors import BadPayload

__all__ = [
    "INT_HIGH",
    "INT_LOW",
    "bytes_from_text",
    "finite",
    "is_ref",
    "json_form",
    "nearest",
    "number_out",
    "plain_of",
    "record_names",
    "wire_of",
]

INT_LOW: Final = -(2**63)
INT_HIGH: Final = 2**64 - 1

_AS_IS: Final = frozenset({str, bytes, bool, type(None)})


def is_ref(value: object) -> bool:
    """True if the value stands for a daemon: a ref, or a daemon itself, and not its class."""
    return bool(getattr(value, "__d9_ref__", False)) and not isinstance(value, type)


def plain_of(value: object) -> object:
    """Return the value as plain data for Python: maps with underscores, lists, text, numbers."""
    return _walk(value, False)


def wire_of(value: object) -> object:
    """Return the value as plain data for a wire: record keys in kebab-case, finite, 64 bits.

    Raises:
        BadPayload: Something in it has no form outside Python, is nan or
            infinite, or a map has a key that is no text.
    """
    return _walk(value, True)


def _walk(value: Any, wire: bool) -> object:
    kind = type(value)
    if kind in _AS_IS:
        return value
    if kind is int:
        return number_out(value) if wire else value
    if kind is float:
        return finite(value) if wire else value
    if kind is dict:
        return _map(value, wire)
    if kind is list:
        return _list(value, wire)
    return _rare(value, wire)


def _map(value: dict[Any, object], wire: bool) -> dict[Any, object]:
    """The map itself, or a copy from the first value on that changes."""
    out: dict[Any, object] | None = None
    for key, item in value.items():
        if wire and not isinstance(key, str):
            raise BadPayload(
                f"a map has the key {key!r}: map keys are text", hint="use text as key"
            )
        if type(item) in _AS_IS:
            continue
        new = _walk(item, wire)
        if new is not item:
            if out is None:
                out = dict(value)
            out[key] = new
    return value if out is None else out


def _list(value: list[object], wire: bool) -> list[object]:
    """The list itself, or a copy from the first item on that changes."""
    out: list[object] | None = None
    for index, item in enumerate(value):
        if type(item) in _AS_IS:
            continue
        new = _walk(item, wire)
        if new is not item:
            if out is None:
                out = list(value)
            out[index] = new
    return value if out is None else out


def _rare(value: object, wire: bool) -> object:
    """What is no plain data yet: records, references, exact numbers, times, containers."""
    if is_ref(value):
        return str(value.address)  # type: ignore[attr-defined]  # promised by the mark
    if isinstance(value, type) and hasattr(value, "__d9_ref__"):
        return f"{value.__module__}:{value.__qualname__}"  # as dan9.toml names a Daemon class
    if isinstance(value, Address):
        return str(value)
    names = record_names(type(value))
    if names is not None:
        return {
            (kebab(name) if wire else name): _walk(getattr(value, name), wire) for name in names
        }
    if isinstance(value, (list, tuple)):
        return [_walk(item, wire) for item in value]
    if isinstance(value, Mapping):
        return _map(dict(value), wire)
    if isinstance(value, (set, frozenset)):
        items = [_walk(item, wire) for item in value]
        try:
            return sorted(items)  # type: ignore[type-var]  # if they cannot be, by their text
        except TypeError:
            return sorted(items, key=repr)  # the order of a set is never seen outside
    for test, convert in _RARE:
        if test in {cls.__name__ for cls in type(value).__mro__}:
            return _walk(convert(value), wire)
    if isinstance(value, (str, int, float, bytes)):  # subclasses: IntEnum, NewType-like
        return _walk(_base_of(value), wire)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if wire:
        raise BadPayload(
            f"a {type(value).__name__} has no form outside Python",
            hint="reply with numbers, text, bytes, lists, maps or records of them",
        )
    return value


# By class name along the MRO, so that nobody pays the import of datetime, fractions,
# decimal, pathlib and uuid who does not use them.
_RARE: Final[tuple[tuple[str, Callable[[Any], object]], ...]] = (
    ("Enum", lambda value: value.value),
    ("Fraction", lambda value: f"{value.numerator}/{value.denominator}"),
    ("Decimal", str),
    ("PurePath", str),
    ("UUID", str),
    ("datetime", lambda value: value.timestamp()),
    ("date", lambda value: value.isoformat()),
    ("timedelta", lambda value: value.total_seconds()),
)


def _base_of(value: object) -> object:
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    return int(value) if isinstance(value, int) else float(value)  # type: ignore[arg-type]  # looked


def record_names(cls: type) -> tuple[str, ...] | None:
    """Return the field names of a dataclass, Struct or named tuple; None for other classes."""
    if hasattr(cls, "__dataclass_fields__"):
        from dataclasses import fields  # loaded already, or there would be no dataclass

        return tuple(field.name for field in fields(cls))
    names = getattr(cls, "__struct_fields__", None)
    if names is None and issubclass(cls, tuple):
        names = getattr(cls, "_fields", None)
    return None if names is None else tuple(names)


def finite(value: float) -> float:
    """Return the number; raise BadPayload if it is nan or infinite."""
    if not math.isfinite(value):
        raise BadPayload(f"{value} is no number for a wire", hint="use a finite number or null")
    return value


def number_out(value: int) -> int | str:
    """Return the integer, or its decimal text where 64 bits do not hold it."""
    return value if INT_LOW <= value <= INT_HIGH else str(value)


def bytes_from_text(text: str) -> bytes:
    """Decode base64 text; raise ValueError if it is none."""
    from base64 import b64decode

    return b64decode(text, validate=True)


def json_form(value: object, schema: Mapping[str, Any] | None = None) -> object:
    """Return wire data as JSON can hold them.

    Args:
        value: Wire data, as `wire_of` and replies from a socket are.
        schema: JSON Schema of the value, if known. Where it says bytes (and only
            bytes) they become base64 text, elsewhere `{"$bytes": …}`.
    """
    if isinstance(value, (bytes, bytearray, memoryview)):
        from base64 import b64encode

        text = b64encode(value).decode("ascii")
        if schema is not None and schema.get("contentEncoding") == "base64":
            return text
        return {"$bytes": text}
    if isinstance(value, dict):
        properties = (schema or {}).get("properties", {})
        rest = (schema or {}).get("additionalProperties")
        rest = rest if isinstance(rest, dict) else None
        return {key: json_form(item, properties.get(key, rest)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = (schema or {}).get("items")
        return [json_form(item, items if isinstance(items, dict) else None) for item in value]
    return value


def nearest(word: str, words: Iterable[str]) -> str:
    """Return the word most like the given one, or empty text if none is near."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(words), n=1, cutoff=0.6)
    return found[0] if found else ""
