"""How values look on a terminal, in a pipe, and as JSON.

Pure: values in, text out. Colour is a property of the `Page` on which text is
written, decided once: on a terminal, unless NO_COLOR is set or TERM is dumb.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TextIO

from dan9.base.duration import format_duration, format_time

__all__ = ["Page", "clean", "json_line", "page_for", "value_lines"]

Row = Mapping[str, Any]

_CODES: Final = {"red": "31", "green": "32", "yellow": "33", "dim": "2", "bold": "1"}
_STATES: Final = {
    "running": "green",
    "failed": "red",
    "stopped": "dim",
    "suspended": "yellow",
    "starting": "yellow",
    "stopping": "yellow",
    "created": "dim",
}
_LEVELS: Final = {"debug": "dim", "warning": "yellow", "error": "red", "critical": "red"}


class Page:
    """Formats with or without colour.

    Args:
        colour: Use it.
        is_raw: Text that is a whole reply goes out byte for byte, as a pipe wants it; on
            a terminal its control characters are shown instead of obeyed.
    """

    def __init__(self, *, colour: bool = False, is_raw: bool = False) -> None:
        self._colour = colour
        self.is_raw = is_raw

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour, or as it is."""
        if not self._colour or colour not in _CODES or not text:
            return text
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"

    def state(self, state: str) -> str:
        """Return a daemon's state in its colour."""
        return self.paint(state, _STATES.get(state, ""))

    def level(self, level: str) -> str:
        """Return a log level in its colour."""
        return self.paint(level, _LEVELS.get(level, ""))

    def table(
        self,
        rows: Iterable[Row],
        columns: Sequence[str],
        forms: Mapping[str, Callable[[Any], str]] | None = None,
    ) -> list[str]:
        """Lay rows out in aligned columns under a heading; numbers to the right.

        Args:
            rows: The maps, one a line.
            columns: The keys to show, in order; what is missing in a row stays blank.
            forms: How to write a column's values, where it is not the plain way.
        """
        body = [[_cell(row.get(key), (forms or {}).get(key)) for key in columns] for row in rows]
        numeric = [
            bool(body) and all(_is_number(line[index]) for line in body if line[index])
            for index in range(len(columns))
        ]
        table = [[clean(key.upper()) for key in columns], *body]
        widths = [max(len(line[index]) for line in table) for index in range(len(columns))]
        lines = []
        for number, line in enumerate(table):
            cells = []
            for index, text in enumerate(line):
                last = index == len(columns) - 1
                flat = text.rjust(widths[index]) if numeric[index] else text.ljust(widths[index])
                flat = flat.rstrip() if last else flat
                if number == 0:
                    flat = self.paint(flat, "bold")
                elif columns[index] == "state":
                    flat = self.state(text) + " " * (len(flat) - len(text))
                elif columns[index] == "level":
                    flat = self.level(text) + " " * (len(flat) - len(text))
                cells.append(flat)
            lines.append("  ".join(cells).rstrip())
        return lines

    def tree(self, nodes: Sequence[Row]) -> list[str]:
        """Draw nested rows (`address`, `state`, `children`) as a tree."""
        lines: list[str] = []
        for node in nodes:
            lines.append(self._leaf(node))
            self._branches(node.get("children") or [], "", lines)
        return lines

    def _branches(self, children: Sequence[Row], indent: str, lines: list[str]) -> None:
        for index, child in enumerate(children):
            last = index == len(children) - 1
            lines.append(f"{indent}{'└─' if last else '├─'} {self._leaf(child)}")
            self._branches(child.get("children") or [], indent + ("   " if last else "│  "), lines)

    def _leaf(self, node: Row) -> str:
        state = str(node.get("state", ""))
        restarts = node.get("restarts") or 0
        tail = f", {restarts} restart{'s' if restarts != 1 else ''}" if restarts else ""
        return f"{clean(str(node['address']))}  {self.state(state)}{tail}"

    def facts(self, facts: Row) -> list[str]:
        """Lay a map out as one `key  value` a line."""
        if not facts:
            return ["(nothing)"]
        width = max(len(str(key)) for key in facts)
        lines = []
        for key, value in facts.items():
            text = "-" if value in ([], {}, "") else _form(str(key), value)
            if key == "state":
                text = self.state(text)
            first, *more = text.removesuffix("\n").split("\n")
            lines.append(f"{clean(str(key)).ljust(width)}  {first}".rstrip())
            lines += [f"{' ' * width}  {line}".rstrip() for line in more]
        return lines


def page_for(stream: TextIO) -> Page:
    """Return the page for a stream: in colour on a terminal that wants it."""
    colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return Page(colour=colour, is_raw=not stream.isatty())


def json_line(value: object) -> str:
    """Return a value as one JSON document on one line."""
    import msgspec

    from dan9.base.forms import json_form

    return msgspec.json.encode(json_form(value)).decode()


def value_lines(page: Page, value: object) -> list[str]:
    """Return any reply as lines: text as it is, a list of maps as a table, a map as facts."""
    if value is None:
        return []
    if isinstance(value, str):
        lines = value.removesuffix("\n").split("\n")
        return lines if page.is_raw else [clean(line) for line in lines]
    if isinstance(value, bytes):
        return [_bytes(value)]
    if isinstance(value, dict):
        return page.facts(value)
    if isinstance(value, list):
        if value and all(isinstance(item, dict) for item in value):
            columns = list(dict.fromkeys(str(key) for item in value for key in item))
            forms = {key: partial(_form, key) for key in columns}
            return page.table(value, columns, forms)
        return [_short(item) for item in value]
    return [_short(value)]


def clean(text: str) -> str:
    """Return text whose control characters cannot move a terminal's cursor."""
    return "".join(
        one if one.isprintable() or one == "\t" else f"\\x{ord(one):02x}" for one in text
    )


def _cell(value: Any, form: Callable[[Any], str] | None) -> str:
    if value is None:
        return ""
    return clean(form(value) if form else _short(value))


def _short(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}" if abs(value) < 1e6 else f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, bytes):
        return _bytes(value)
    if isinstance(value, dict | list):
        return clean(json_line(value))
    if isinstance(value, str):
        return "\n".join(clean(line) for line in value.split("\n"))
    return str(value)


def _form(key: str, value: object) -> str:
    return _known(key, value) or _short(value)


def _known(key: str, value: object) -> str:
    """Write the few keys whose meaning is fixed: lengths of time, points in time, mailboxes."""
    if isinstance(value, bool):
        return ""
    if isinstance(value, int | float) and key in {"uptime", "delay", "interval"}:
        return format_duration(value)
    if isinstance(value, int | float) and key in {"when", "time", "since", "next", "mtime"}:
        return format_time(value)
    if isinstance(value, dict) and set(value) == {"depth", "limit"}:
        return f"{value['depth']} of {value['limit']}"
    return ""


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).isdigit()


def _bytes(value: bytes) -> str:
    return f"{len(value)} bytes: {value[:32].hex(' ')}{' …' if len(value) > 32 else ''}"
