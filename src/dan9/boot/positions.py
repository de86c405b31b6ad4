"""On which line of a TOML text each key stands.

The standard library's reader gives values without positions, and tomlkit, which has
them in a fashion, adds 20 to 30 ms of imports to a start that has 500. So this reads the
*shape* of a text that `tomllib` has already accepted: because the text is known to be
valid, a scanner needs no grammar of values, only where strings, arrays and inline
tables begin and end.

A path is a tuple of keys, and of numbers for the members of arrays:
`("daemon", "web", "allow", 0, "from")`.
"""

from __future__ import annotations

import tomllib

__all__ = ["Path", "line_of", "positions"]

Path = tuple[str | int, ...]

_BARE_END = frozenset(" \t\r\n,]}#=")


def positions(text: str) -> dict[Path, int]:
    """Return the line (from 1) of every key, header and array member in a valid TOML text."""
    return _Scanner(text).scan()


def line_of(lines: dict[Path, int], path: Path) -> int:
    """Return the line of `path`, or of the nearest table around it; 1 when there is none."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return 1


class _Scanner:
    """One pass over one text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._lines: dict[Path, int] = {}
        self._members: dict[Path, int] = {}

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._skip_blank():
            if self._text.startswith("[", self._at):
                table = self._header()
            else:
                self._pair(table)
        return self._lines

    def _header(self) -> Path:
        is_array = self._text.startswith("[[", self._at)
        self._advance(2 if is_array else 1)
        path = self._inside_arrays(self._key_parts(), is_array=is_array)
        self._advance(2 if is_array else 1)
        self._mark(path)
        return path

    def _inside_arrays(self, parts: list[str], *, is_array: bool) -> Path:
        """Resolve a header: under an array of tables it means that array's last member."""
        path: Path = ()
        for index, part in enumerate(parts):
            path = (*path, part)
            self._mark(path)
            if is_array and index == len(parts) - 1:
                self._members[path] = self._members.get(path, -1) + 1
            if path in self._members:
                path = (*path, self._members[path])
        return path

    def _pair(self, table: Path) -> None:
        path = table
        for part in self._key_parts():
            path = (*path, part)
            self._mark(path)
        self._advance(1)  # the equals sign
        self._value(path)

    def _key_parts(self) -> list[str]:
        """Read `a."b c".d` up to the `=` or `]` that follows it."""
        parts = []
        while True:
            self._skip_space()
            start = self._at
            if self._text[self._at] in "\"'":
                self._string()
                # The reader itself knows best what a quoted key's escapes mean.
                parts.append(next(iter(tomllib.loads(f"{self._text[start : self._at]}=0"))))
            else:
                while self._text[self._at] not in _BARE_END and self._text[self._at] != ".":
                    self._advance(1)
                parts.append(self._text[start : self._at])
            self._skip_space()
            if self._text[self._at] != ".":
                return parts
            self._advance(1)

    def _value(self, path: Path) -> None:
        self._skip_space()
        first = self._text[self._at]
        if first in "\"'":
            self._string()
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            # A date with a space before its time ends at the newline or comma as well:
            # the time reads as another bare word, which the loop in `scan` never sees.
            while self._at < len(self._text) and self._text[self._at] not in "\r\n,]}#":
                self._advance(1)

    def _array(self, path: Path) -> None:
        self._advance(1)
        index = 0
        while self._skip_blank() and self._text[self._at] != "]":
            self._mark((*path, index))
            self._value((*path, index))
            self._skip_blank()
            if self._text[self._at] == ",":
                self._advance(1)
            index += 1
        self._advance(1)

    def _inline_table(self, path: Path) -> None:
        self._advance(1)
        while self._skip_blank() and self._text[self._at] != "}":
            self._pair(path)
            self._skip_blank()
            if self._text[self._at] == ",":
                self._advance(1)
        self._advance(1)

    def _string(self) -> None:
        quote = self._text[self._at]
        is_long = self._text.startswith(quote * 3, self._at)
        end = quote * 3 if is_long else quote
        self._advance(len(end))
        while not self._text.startswith(end, self._at):
            self._advance(2 if quote == '"' and self._text[self._at] == "\\" else 1)
        self._advance(len(end))
        while is_long and self._text.startswith(quote, self._at):
            self._advance(1)  # up to two quotes may stand before the closing three

    def _skip_blank(self) -> bool:
        """Go to the next thing that is no white space, newline or comment; False at the end."""
        while self._at < len(self._text):
            if self._text[self._at] == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif self._text[self._at] in " \t\r\n":
                self._advance(1)
            else:
                return True
        return False

    def _skip_space(self) -> None:
        while self._text[self._at] in " \t":
            self._at += 1

    def _advance(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count

    def _mark(self, path: Path) -> None:
        self._lines.setdefault(path, self._line)
