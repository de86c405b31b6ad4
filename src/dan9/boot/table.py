"""A TOML table that is taken apart key by key, noting what is wrong on the way.

Each method takes one key out, returns it in its final form or `None`, and never raises;
what is left at the end was not known (`refuse_rest`) or is somebody else's (`rest`).
Keys are kebab-case; underscores are taken as well, both at once are a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches

from dan9.base.address import segment
from dan9.base.duration import parse_duration
from dan9.base.errors import BadAddress, Refused
from dan9.boot.manifest import Fault
from dan9.boot.positions import Path, line_of

__all__ = ["Faults", "Table"]


class Faults:
    """What was found wrong so far, each with the line of its key."""

    def __init__(self, lines: dict[Path, int]) -> None:
        self._lines = lines
        self.found: list[Fault] = []

    def note(
        self,
        path: Path,
        text: str,
        hint: str = "",
        *,
        near: tuple[str, Iterable[str]] | None = None,
    ) -> None:
        """Note a fault; `near` is a word and the words that it was perhaps meant to be."""
        if near is not None:
            hint = suggestion(*near) or hint
        self.found.append(Fault(line_of(self._lines, path), _dotted(path), text, hint))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Say what `word` was perhaps meant to be, or else what there is."""
    words = sorted(known)
    found = get_close_matches(word, words, n=1, cutoff=0.6)
    if found:
        return f'did you mean "{found[0]}"?'
    return f"there are: {', '.join(words)}" if 0 < len(words) <= 24 else ""


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class Table:
    """One table of the file, at `path`."""

    def __init__(self, data: Mapping[str, object], path: Path, faults: Faults) -> None:
        self.path = path
        self._faults = faults
        self._left: dict[str, object] = {}
        self._spelled: dict[str, str] = {}
        self._asked: set[str] = set()
        for key, value in data.items():
            name = key.replace("_", "-")
            if name in self._left:
                self._spelled[name] = key
                self.fault(name, f"is given twice, as {name} and {name.replace('-', '_')}")
                continue
            self._left[name] = value
            self._spelled[name] = key

    @property
    def key(self) -> str:
        """The table's own name, the last key of its header."""
        return str(self.path[-1])

    def fault(
        self,
        key: str,
        text: str,
        *,
        hint: str = "",
        near: tuple[str, Iterable[str]] | None = None,
        at: int | None = None,
    ) -> None:
        """Note a fault at one of the keys, or at the table itself if `key` is empty."""
        path: Path = self.path
        if key:
            path = (*path, *self._spelled.get(key, key).split("."))
        if at is not None:
            path = (*path, at)
        self._faults.note(path, text, hint, near=near)

    def has(self, key: str) -> bool:
        """True if the key is given."""
        self._asked.add(key)
        return key in self._spelled

    def is_table(self, key: str) -> bool:
        """True if the key is given as a table."""
        return isinstance(self._left.get(key), dict)

    def is_texts(self, key: str) -> bool:
        """True if the key is given as a list of texts, at least one."""
        value = self._left.get(key)
        return bool(value) and isinstance(value, list) and all(isinstance(o, str) for o in value)

    def peek(self, key: str) -> object:
        """Return a value without taking it; `None` if it is not there."""
        return self._left.get(key)

    def spelling(self, name: str) -> str:
        """Return the key for a Python name."""
        return name.replace("_", "-")

    def take(self, key: str) -> object:
        """Take a key out, whatever it is; `None` if it is not there (TOML has no null)."""
        self._asked.add(key)
        return self._left.pop(key, None)

    def text(self, key: str) -> str | None:
        """Take a text."""
        value = self.take(key)
        if value is None or isinstance(value, str):
            return value
        self._wrong(key, "a text", value)
        return None

    def segment(self, key: str) -> str | None:
        """Take a text that is one segment of an address."""
        value = self.text(key)
        try:
            return None if value is None else segment(value, key)
        except BadAddress as error:
            self.fault(key, error.text, hint=error.hint)
            return None

    def texts(self, key: str) -> tuple[str, ...]:
        """Take a list of texts; one text alone is a list of one."""
        value = self.take(key)
        if value is None:
            return ()
        items = [value] if isinstance(value, str) else value
        if not isinstance(items, list):
            self._wrong(key, "a list of texts", value)
            return ()
        for index, item in enumerate(items):
            if not isinstance(item, str):
                self.fault(key, f"must be a text, not {_word(item)}", at=index)
        return tuple(item for item in items if isinstance(item, str))

    def choice(self, key: str, words: Collection[str]) -> str | None:
        """Take one of some words; hyphens and underscores are alike."""
        value = self.text(key)
        if value is None:
            return None
        found = next(
            (word for word in words if word.replace("_", "-") == value.replace("_", "-")), None
        )
        if found is None:
            meant = get_close_matches(value, words, n=1)
            hint = f'did you mean "{meant[0]}"?' if meant else ""
            self.fault(key, f"{value!r} is none of {', '.join(words)}", hint=hint)
        return found

    def whole(self, key: str, *, least: int | None = None) -> int | None:
        """Take a whole number."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            self._wrong(key, "a whole number", value)
            return None
        if least is not None and value < least:
            self.fault(key, f"must be {least} or more, not {value}")
            return None
        return value

    def share(self, key: str) -> float | None:
        """Take a number from 0 to 1."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._wrong(key, "a number from 0 to 1", value)
            return None
        if not 0 <= value <= 1:
            self.fault(key, f"must be from 0 to 1, not {value}")
            return None
        return float(value)

    def flag(self, key: str) -> bool | None:
        """Take true or false."""
        value = self.take(key)
        if value is None or isinstance(value, bool):
            return value
        self._wrong(key, "true or false", value)
        return None

    def duration(self, key: str) -> float | None:
        """Take a duration: seconds, or a text as `250ms 30s 5m 2h 7d`."""
        value = self.take(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            self._wrong(key, "a duration", value)
            return None
        try:
            return parse_duration(value)
        except Refused as error:
            self.fault(key, error.text, hint=error.hint or "as 250ms, 30s, 5m, 2h or 7d")
            return None

    def table(self, key: str) -> Table:
        """Take a table; an empty one if it is not there."""
        value = self.take(key)
        if value is None or isinstance(value, dict):
            return Table(value or {}, (*self.path, self._spelled.get(key, key)), self._faults)
        self._wrong(key, f"a table [{key}]", value)
        return Table({}, (*self.path, key), self._faults)

    def tables(self, key: str) -> list[Table]:
        """Take a table of tables: `[key.ONE]`, `[key.TWO]`."""
        value = self.take(key)
        if value is None:
            return []
        if not isinstance(value, dict):
            self._wrong(key, f"tables [{key}.NAME]", value)
            return []
        found = []
        for name, inner in value.items():
            path = (*self.path, key, name)
            if isinstance(inner, dict):
                found.append(Table(inner, path, self._faults))
            else:
                hint = f"as [{key}.{name}]; a key needs a name before it: {key}.NAME.{name}"
                self._faults.note(path, f"must be a table, not {_word(inner)}", hint)
        return found

    def members(self, key: str) -> list[Table]:
        """Take a list of tables: `key = [{…}, {…}]`."""
        value = self.take(key)
        if value is None:
            return []
        items = [value] if isinstance(value, dict) else value
        if not isinstance(items, list):
            self._wrong(key, "a list of tables {…}", value)
            return []
        found = []
        spelled = self._spelled.get(key, key)
        for index, item in enumerate(items):
            if isinstance(item, dict):
                path: Path = (
                    (*self.path, spelled)
                    if isinstance(value, dict)
                    else (*self.path, spelled, index)
                )
                found.append(Table(item, path, self._faults))
            else:
                self.fault(key, f"must be a table {{…}}, not {_word(item)}", at=index)
        return found

    def rest(self) -> dict[str, object]:
        """Take all that is left, under Python names."""
        left, self._left = self._left, {}
        return {key.replace("-", "_"): value for key, value in left.items()}

    def refuse_rest(self) -> None:
        """Note a fault for every key that nobody asked for."""
        for key in list(self._left):
            spelled = self._spelled[key]
            del self._left[key]
            self.fault(key, f"unknown key {spelled!r}", near=(key, self._asked))

    def _wrong(self, key: str, wanted: str, value: object) -> None:
        self.fault(key, f"must be {wanted}, not {_word(value)}")


def _word(value: object) -> str:
    """Say what a TOML value is, in TOML's words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, str):
        return f"the text {value!r}" if len(value) <= 30 else "a text"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a table"
    return "a date or time"
