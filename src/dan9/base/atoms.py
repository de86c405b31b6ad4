"""Shapes of single values: numbers, text, bytes, durations, times, fractions, addresses.

msgspec converts the types that it knows and we add nothing to (see `containers`); these
are ours, because durations, base64 beside text, fractions and integers beyond 64 bits are
outside its grammar.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from dan9.base import forms
from dan9.base.address import Address
from dan9.base.duration import parse_duration, parse_time
from dan9.base.errors import BadPayload
from dan9.base.shape import Json, Misfit, Shape, Take

__all__ = [
    "ANY",
    "ATOMS",
    "DURATION",
    "NONE",
    "REF",
    "TIME",
    "named",
    "opaque",
    "take_list",
    "take_map",
]


def _exactly(kind: type, says: str, schema: Json) -> Shape:
    def take(value: Any) -> Any:
        if type(value) is kind or isinstance(value, kind):
            return value
        raise Misfit(says, value)

    return Shape(says, take, lambda value: isinstance(value, kind), schema, exact=kind)


def _take_int(value: Any) -> int:
    if type(value) is int:
        return value
    if type(value) is float and value.is_integer():
        return int(value)  # JavaScript has but one kind of number
    if type(value) is str and 19 <= len(value) <= 4000 and value.lstrip("-").isdecimal():
        number = int(value)
        if not forms.INT_LOW <= number <= forms.INT_HIGH:
            return number
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise Misfit("an integer", value)


def _take_float(value: Any) -> float:
    if type(value) is float:
        if value - value == 0.0:  # neither nan nor infinite, without a call
            return value
        raise Misfit("", text=f"must be a finite number, not {value}")
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            pass
    raise Misfit("a number", value)


def _take_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if type(value) is dict and len(value) == 1 and isinstance(value.get("$bytes"), str):
        value = value["$bytes"]
    if isinstance(value, str):
        try:
            return forms.bytes_from_text(value)
        except ValueError:
            raise Misfit("", text="must be bytes: base64 text", hint="") from None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise Misfit("bytes", value)


def _is_bytes(value: Any) -> bool:
    return isinstance(value, (bytes, bytearray, memoryview)) or (
        type(value) is dict and len(value) == 1 and "$bytes" in value
    )


def _take_any(value: Any) -> Any:
    kind = type(value)
    if kind is str or kind is int or kind is bool or kind is bytes or value is None:
        return value
    if kind is float:
        return _take_float(value)
    if kind is dict:
        if len(value) == 1 and "$bytes" in value:
            return _take_bytes(value)
        return take_map(value, _take_any)
    if kind is list:
        return take_list(value, _take_any)
    return value  # an object of a local caller; a wire makes none


def take_list(value: Any, inner: Take) -> list[Any]:
    """Take every item; a misfit says which."""
    if not isinstance(value, (list, tuple)):
        if not isinstance(value, (set, frozenset)):
            raise Misfit("a list", value)
        value = list(value)
    out: list[Any] = []
    try:
        for item in value:
            out.append(inner(item))  # noqa: PERF401  (its length names the item that misfits)
    except Misfit as misfit:
        raise misfit.under(f"[{len(out)}]") from None
    return out


def take_map(value: Any, inner: Take) -> dict[str, Any]:
    """Take every value of a map with text keys; a misfit says which."""
    if not isinstance(value, Mapping):
        raise Misfit("a map", value)
    out: dict[str, Any] = {}
    key: Any = ""
    try:
        for key, item in value.items():
            if not isinstance(key, str):
                raise Misfit("", text=f"has the key {key!r}: map keys are text")
            out[key] = inner(item)
    except Misfit as misfit:
        raise (misfit.under(key) if isinstance(key, str) and key else misfit) from None
    return out


def _by_parse(says: str, parse: Take, schema: Json) -> Shape:
    """A float of seconds that takes text from outside."""

    def take(value: Any) -> float:
        if type(value) is float and value - value == 0.0 and value >= 0.0:
            return value
        try:
            return parse(value)  # type: ignore[no-any-return]  # both parsers return float
        except BadPayload as error:
            raise Misfit(says, value, hint=error.hint) from None

    def native(value: Any) -> bool:
        return isinstance(value, (int, float)) and not isinstance(value, bool)

    return Shape(says, take, native, schema, wire=forms.finite)


def _take_fraction(value: Any) -> Any:
    from fractions import Fraction

    if isinstance(value, Fraction):
        return value
    if isinstance(value, (int, str)) and not isinstance(value, bool):
        try:
            return Fraction(value)
        except (ValueError, ZeroDivisionError):
            pass
    raise Misfit("a fraction as text, as 19/254", value)


def _take_datetime(value: Any) -> Any:
    from datetime import UTC, datetime

    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    try:
        return datetime.fromtimestamp(parse_time(value), UTC)
    except BadPayload as error:
        raise Misfit("a time", value, hint=error.hint) from None
    except (OverflowError, ValueError, OSError):
        raise Misfit("a time between the years 1 and 9999", value) from None


def _take_timedelta(value: Any) -> Any:
    from datetime import timedelta

    if isinstance(value, timedelta):
        return value
    try:
        return timedelta(seconds=parse_duration(value))
    except BadPayload as error:
        raise Misfit("a duration", value, hint=error.hint) from None
    except OverflowError:
        raise Misfit("a duration of less than a billion days", value) from None


def _take_address(value: Any) -> Any:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise Misfit("an address", value)
    try:
        return Address.parse(value)
    except ValueError as error:
        raise Misfit("", text=str(error)) from None


def _take_ref(value: Any) -> Any:
    if forms.is_ref(value):
        return value
    if isinstance(value, str):
        return value  # the receiver resolves it: base knows no system
    raise Misfit("the address of a daemon", value)


def _take_path(value: Any) -> Any:
    from pathlib import PurePath

    if isinstance(value, PurePath):
        return value
    if isinstance(value, str):
        from pathlib import Path

        return Path(value)
    raise Misfit("a path as text", value)


_SECONDS: Final = "seconds, or text such as 250ms 30s 5m 2h 7d"
ANY = Shape(
    "any value",
    _take_any,
    lambda _: True,
    {},
    plain=forms.plain_of,
    wire=forms.wire_of,
    mutable=True,
)
NONE = _exactly(type(None), "null", {"type": "null"})
DURATION = _by_parse(
    "a duration", parse_duration, {"type": ["number", "string"], "description": _SECONDS}
)
TIME = _by_parse(
    "a time",
    parse_time,
    {"type": ["number", "string"], "description": "UTC seconds since 1970, or ISO-8601 text"},
)
REF = Shape(
    "the address of a daemon",
    _take_ref,
    forms.is_ref,
    {"type": "string", "description": "address of a daemon"},
    plain=forms.plain_of,
    wire=forms.wire_of,
)

ATOMS: Final[dict[object, Shape]] = {
    Any: ANY,
    object: ANY,
    None: NONE,
    type(None): NONE,
    str: _exactly(str, "text", {"type": "string"}),
    bool: _exactly(bool, "true or false", {"type": "boolean"}),
    int: Shape(
        "an integer",
        _take_int,
        lambda value: isinstance(value, int) and not isinstance(value, bool),
        {"type": "integer"},
        wire=forms.number_out,
        exact=int,
    ),
    float: Shape(
        "a number",
        _take_float,
        lambda value: isinstance(value, float),
        {"type": "number"},
        wire=lambda value: forms.finite(value) if type(value) is float else forms.wire_of(value),
    ),
    bytes: Shape("bytes", _take_bytes, _is_bytes, {"type": "string", "contentEncoding": "base64"}),
    Address: Shape(
        "an address",
        _take_address,
        lambda value: isinstance(value, Address),
        {"type": "string", "description": "d9://type/group/name"},
        plain=str,
        wire=str,
    ),
}


# By name and module, so that their modules are not imported for those who do not use them.
_NAMED: Final[dict[tuple[str, str], tuple[str, Take, Json]]] = {
    ("fractions", "Fraction"): (
        "a fraction as text",
        _take_fraction,
        {"type": ["string", "integer"], "description": "a fraction as text, as 19/254"},
    ),
    ("datetime", "datetime"): (
        "a time",
        _take_datetime,
        {"type": ["number", "string"], "description": "UTC seconds since 1970, or ISO-8601 text"},
    ),
    ("datetime", "timedelta"): (
        "a duration",
        _take_timedelta,
        {"type": ["number", "string"], "description": _SECONDS},
    ),
    ("pathlib", "Path"): ("a path as text", _take_path, {"type": "string"}),
    ("pathlib", "PurePath"): ("a path as text", _take_path, {"type": "string"}),
}


def named(kind: type) -> Shape | None:
    """The shape of a class of the standard library that is known by name; None for others."""
    found = _NAMED.get((kind.__module__.partition(".")[0], kind.__name__))
    if found is None:
        return None
    says, take, schema = found
    return Shape(
        says,
        take,
        lambda value: isinstance(value, kind),
        schema,
        plain=forms.plain_of,
        wire=forms.wire_of,
    )


def opaque(annotation: object) -> Shape:
    """The shape of what cannot come from outside."""
    said = getattr(annotation, "__name__", None) or repr(annotation)

    def take(_: Any) -> Any:
        raise Misfit("", text=f"takes a {said}, which cannot come from outside this process")

    return Shape(
        f"a {said}",
        take,
        lambda _: False,
        {"description": f"a {said}; only for callers in the same process"},
        plain=forms.plain_of,
        wire=forms.wire_of,
        opaque=True,
    )
