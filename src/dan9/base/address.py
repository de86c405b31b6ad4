"""Addresses `d9://type/group/name` and the patterns that match them.

A segment is `[a-z0-9][a-z0-9._-]{0,62}`; `@ ? #` are reserved (`name@node` is
for many nodes). On every surface an address is its text; `Address` is the text
taken apart.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from dan9.base.errors import BadAddress

__all__ = ["SCHEME", "Address", "Pattern", "is_pattern", "kebab", "segment"]

SCHEME = "d9://"
_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}\Z")
_WORD = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def segment(text: str, what: str = "name") -> str:
    """Return `text` if it is a legal segment.

    Raises:
        BadAddress: It is not; the hint says what is allowed.
    """
    if not _SEGMENT.match(text):
        raise BadAddress(
            f"{text!r} is no {what}",
            hint="use 1 to 63 of a-z 0-9 . _ -, the first a letter or digit",
            at=what,
        )
    return text


def kebab(name: str) -> str:
    """Spell a Python name as on the wire: `HTTPServer` and `http_server` give `http-server`."""
    return _WORD.sub("-", name).replace("_", "-").lower()


class Address(NamedTuple):
    """An address taken apart; `str()` puts it together again."""

    type: str
    group: str
    name: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.type}/{self.group}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `d9://type/group/name`, or `d9://type/name` for group `default`.

        Raises:
            BadAddress: Not of that form, or a segment is not legal.
        """
        if not text.startswith(SCHEME):
            raise BadAddress(f"{text!r} is no address", hint="an address is d9://type/group/name")
        parts = text[len(SCHEME) :].split("/")
        if len(parts) == 2:
            parts.insert(1, "default")
        if len(parts) != 3:
            raise BadAddress(
                f"{text!r} has {len(parts)} segments", hint="an address is d9://type/group/name"
            )
        return cls(segment(parts[0], "type"), segment(parts[1], "group"), segment(parts[2]))


def is_pattern(text: str) -> bool:
    """True if the text has a `*` in it."""
    return "*" in text


class Pattern:
    """A pattern over addresses.

    `*` stands for one segment or a part of one, `**` for any number of segments.
    `d9://` may be left out; a pattern without a slash is matched against the name.
    """

    __slots__ = ("_match", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self._match = _compile(text)

    def matches(self, address: str) -> bool:
        """True if the whole address fits."""
        return self._match.match(address) is not None

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"


@lru_cache(maxsize=512)
def _compile(text: str) -> re.Pattern[str]:
    body = text.removeprefix(SCHEME)
    if not body or re.search(r"[^a-z0-9._*/-]", body):
        raise BadAddress(f"{text!r} is no pattern", hint="as d9://timer/**, d9://*/system/*, web-*")
    if "/" not in body and body != "**":
        body = f"**/{body}"
    segments: list[str] = []
    for part in body.split("/"):
        if part != "**" or segments[-1:] != ["**"]:  # two in a row say no more than one
            segments.append(part)
    tail = ""
    if len(segments) > 1 and segments[-1] == "**":  # none is a number of segments too
        segments.pop()
        tail = "(?:/[^/]+)*"
    out = []
    for index, part in enumerate(segments):
        last = index == len(segments) - 1
        if part == "**":
            out.append(r"(?:[^/]+(?:/[^/]+)*)?" if last else r"(?:[^/]+/)*")
        else:
            out.append("[^/]*".join(re.escape(piece) for piece in part.split("*")))
            out.append("" if last else "/")
    out.append(tail)
    return re.compile(re.escape(SCHEME) + "".join(out) + r"\Z")
