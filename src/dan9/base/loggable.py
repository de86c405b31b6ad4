"""What a log keeps of a value: plain data of bounded size, as it was at that moment.

Who logs hands over whatever he has: a list that he goes on changing, a whole document, a
structure that holds itself, an object whose `str` fails. An entry may be shown much later,
by another thread, and thousands of entries are kept. So the copy is made when the entry is
said; it never raises, and what is too long or too deep is cut and says so.

Numbers and short ASCII text, which most fields are, are looked at and kept as they are.
"""

from __future__ import annotations

import re
from itertools import islice
from math import isfinite
from typing import Any

from dan9.base.forms import INT_HIGH, INT_LOW, plain_of

__all__ = ["kept_fields", "kept_text"]

MAX_TEXT = 64 * 1024
"""Characters of a text, and of all the texts within one field."""
ITEM = 16
"""How many characters an item of a list or map counts for, beside its text."""
MAX_DEPTH = 10
"""Containers within containers."""

_MEMORY_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def kept_text(text: object, most: int = MAX_TEXT) -> str:
    """Return the text, cut if it is too long; half characters (of file names) are escaped."""
    if type(text) is not str:
        text = _text_of(text)
    if len(text) > most:
        text = f"{text[:most]}… ({len(text) - most} more characters)"
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def kept_fields(fields: dict[str, Any]) -> dict[str, object]:
    """Return fields that nobody can change any more: these, if they are simple, else a copy."""
    for key, value in fields.items():
        kind = type(value)
        if kind is str:
            is_simple = len(value) <= MAX_TEXT and value.isascii()
        elif kind is int:
            is_simple = INT_LOW <= value <= INT_HIGH
        elif kind is float:
            is_simple = isfinite(value)
        else:
            is_simple = kind is bool or value is None
        if not (is_simple and key.isascii()):
            return {kept_text(key): _kept(value, [MAX_TEXT], 0) for key, value in fields.items()}
    return fields


def _kept(value: Any, room: list[int], depth: int) -> object:
    """Return plain data; `room` is how many characters this field may still have."""
    if type(value) not in {dict, list, tuple}:
        try:
            value = plain_of(value)
        except Exception:  # a record that holds itself, somebody else's property
            value = _text_of(value)
    if isinstance(value, dict | list | tuple):
        return _kept_items(value, room, depth + 1) if depth < MAX_DEPTH else "…"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and INT_LOW <= value <= INT_HIGH:
        return value
    if isinstance(value, float) and isfinite(value):
        return value
    text = kept_text(value, max(0, room[0]))
    room[0] -= len(text)
    return text


def _kept_items(
    value: dict[Any, Any] | list[Any] | tuple[Any, ...], room: list[int], depth: int
) -> object:
    """Return as many items as there is room for, and how many were left out."""
    count = min(len(value), max(0, room[0]) // ITEM)
    more = len(value) - count
    room[0] -= count * ITEM
    if isinstance(value, dict):
        # the items at once: another thread may be changing the map
        items = list(islice(value.items(), count))
        found = {kept_text(key, 1000): _kept(inner, room, depth) for key, inner in items}
        return {**found, "…": f"{more} more"} if more else found
    kept = [_kept(inner, room, depth) for inner in value[:count]]
    return [*kept, f"… {more} more"] if more else kept


def _text_of(value: object) -> str:
    """Return the text of anything, without memory addresses; exceptions with their class."""
    try:
        text = repr(value) if isinstance(value, BaseException) else str(value)
    except Exception:  # somebody else's __str__, or a number of more than 4,300 digits
        return f"<{type(value).__name__}>"
    return _MEMORY_ADDRESS.sub("", text)
