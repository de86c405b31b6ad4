"""Names of files as text, and back, without loss; and what a path in a request may be.

A file's name is bytes: anything but `/` and NUL. On Dan9's surfaces it is text that has
to cross sockets and JSON, where the lone surrogates of Python's `surrogateescape`
cannot go. So a byte that is no UTF-8 becomes one character of U+EF80 to U+EFFF (a
private range; MirBSD's OPTU encodings use the same one for the same purpose), and a
name that really holds such a character gives its bytes one by one. That is a
bijection: every name can be listed, and what was listed can be read. Requests may
also spell such bytes with lone surrogates, as Python's `os.listdir` does.
"""

from __future__ import annotations

import re
from functools import lru_cache

from dan9.base.errors import BadPayload, OutsideRoot

__all__ = ["bytes_of", "components", "join", "matcher", "text_of"]

_RAW = 0xEF00  # U+EF80 is byte 0x80 … U+EFFF is byte 0xFF
_LONGEST = 4095  # bytes of a path, as Linux counts; characters are no more than that
_SPAN = re.compile("(?s)(.)(?:-(.))?")  # of a set of characters: `a-z`, or one
_NEEDS_CARE = re.compile("[\udc80-\udcff\uef80-\uefff]")


def text_of(name: bytes) -> str:
    """Return a file's name (or a link's text) as text that every wire can carry."""
    text = name.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    return _NEEDS_CARE.sub(_raw, text)


def _raw(found: re.Match[str]) -> str:
    char = found.group()
    if "\udc80" <= char <= "\udcff":
        return chr(_RAW + ord(char) - 0xDC00)
    return "".join(chr(_RAW + byte) for byte in char.encode())


def bytes_of(text: str) -> bytes:
    """Return the bytes that `text_of` made text of; lone surrogates are taken too.

    Raises:
        BadPayload: The text has a surrogate that stands for no byte.
    """
    spelled = _NEEDS_CARE.sub(lambda m: chr(0xDC00 + (ord(m.group()) & 0xFF)), text)
    try:
        return spelled.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise BadPayload(
            f"{text!r} has half a surrogate pair at character {error.start}",
            hint="a byte that is no text is spelled U+EF80 to U+EFFF",
            at="path",
        ) from None


def components(path: str, key: str = "path") -> list[bytes]:
    """Take a request's path apart; the root is the empty list.

    Paths are absolute within the root, so a leading slash may be left out.

    Args:
        path: As the request has it.
        key: The payload key it came in, for the refusal.

    Raises:
        OutsideRoot: A component is `..`. It is refused before any system call, because
            what it means depends on links that may change while it is looked at.
        BadPayload: Empty, too long, or with a NUL in it.
    """
    if not path:
        raise BadPayload(f"{key} is empty", hint='the root is "/"', at=key)
    if "\0" in path:
        raise BadPayload(f"{key} {path!r} has a NUL in it", hint="no file has one", at=key)
    if len(path) > _LONGEST:
        raise BadPayload(
            f"{key} is {len(path)} characters long", hint=f"at most {_LONGEST}", at=key
        )
    parts = [part for part in bytes_of(path).split(b"/") if part and part != b"."]
    if b".." in parts:
        raise OutsideRoot(
            f"{path!r}: '..' is not taken in a path",
            hint="name the file by its path from the root of the daemon",
            at=key,
        )
    return parts


def join(parts: list[bytes]) -> str:
    """Return the path as replies show it: absolute within the root."""
    return "/" + text_of(b"/".join(parts))


@lru_cache(maxsize=128)
def matcher(pattern: str) -> re.Pattern[str]:
    """Compile a shell pattern: `*` and `?` stay within a name, `**` spans folders.

    A pattern without a slash is meant for the name, one with a slash for the path
    below the listed directory.

    Raises:
        BadPayload: The pattern is empty or has an unclosed or impossible `[`.
    """
    if not pattern:
        raise BadPayload("pattern is empty", hint="leave it out to list all", at="pattern")
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            if pattern.startswith("*/", at):  # `**/`: any number of folders, or none
                out.append("(?:[^/]+/)*")
                at += 2
            elif pattern.startswith("*", at):
                out.append(".*")
                at += 1
            else:
                out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            end = pattern.find("]", at + 1 + (pattern[at : at + 1] == "!"))
            if end < 0:
                raise BadPayload(f"pattern {pattern!r}: '[' is not closed", at="pattern")
            negated = pattern.startswith("!", at)
            inside = _SPAN.sub(_escaped, pattern[at + negated : end])
            out.append(f"(?!/)[{'^' * negated}{inside}]")
            at = end + 1
        else:
            out.append(re.escape(char))
    try:
        return re.compile("(?s:" + "".join(out) + r")\Z")
    except re.error as error:
        raise BadPayload(f"pattern {pattern!r}: {error}", at="pattern") from None


def _escaped(span: re.Match[str]) -> str:
    """Return it as `re` spells it: bare, `--`, `&&`, `||` and `~~` are kept for more."""
    first, last = span.groups()
    return re.escape(first) + (f"-{re.escape(last)}" if last else "")
