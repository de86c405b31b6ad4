"""The shape of an annotation: what it takes from outside, how it goes out, its JSON Schema.

One `Shape` per annotation, built once, shared by every handler and field that has it.
`take` checks and converts a value from outside into what the annotation promises;
`plain` and `wire` turn a value that leaves into plain data (None where nothing ever
has to change, so that callers skip the walk); `schema` describes it. `atoms` and
`containers` make shapes, `annotation` chooses which.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

__all__ = ["Json", "Misfit", "SchemaDraft", "Shape", "Take"]

Take = Callable[[Any], Any]
Json = dict[str, Any]


class Misfit(Exception):
    """A value does not fit; `path` grows from the inside out while it rises."""

    def __init__(self, says: str, value: object = None, *, text: str = "", hint: str = "") -> None:
        super().__init__(says)
        self.text = text or f"must be {says}, not {_name(value)}"
        self.hint = hint
        self.path: list[str] = []

    def under(self, step: str) -> Misfit:
        """Say one step more of where it is; `[2]` or a key."""
        self.path.insert(0, step)
        return self

    @property
    def at(self) -> str:
        """The path as text: `limits.cpu`, `items[2]`."""
        return "".join(step if step[0] == "[" else f".{step}" for step in self.path).lstrip(".")


_NAMES: Final = {
    str: "text",
    bytes: "bytes",
    int: "the integer",
    float: "the number",
    bool: "",
    list: "a list",
    dict: "a map",
}


def _name(value: object) -> str:
    """What kind of value it is, in the words of the catalogue, with the value if it is short."""
    if value is None:
        return "null"
    kind = type(value)
    word = _NAMES.get(kind, f"a {kind.__name__}")
    if kind in (list, dict, bytes):
        return word
    shown = str(value).lower() if kind is bool else repr(value)
    return f"{word} {shown if len(shown) <= 40 else shown[:37] + '...'}".strip()


class SchemaDraft:
    """One JSON Schema in the making: records that contain themselves go to `$defs`."""

    def __init__(self) -> None:
        self.open: list[str] = []
        self.recursive: set[str] = set()
        self.defs: dict[str, Json] = {}

    def finish(self, body: Json) -> Json:
        """Return the body with the definitions that it needs."""
        return {**body, "$defs": self.defs} if self.defs else body


class Shape:
    """What one annotation takes and gives.

    Attributes:
        says: The kind of value, in words for an error: `an integer`.
        native: True for values that are already of this kind; decides in unions.
        take: Converts a value from outside, or raises Misfit.
        plain, wire: Convert a value that leaves; None means it stays as it is.
        is_opaque: Nothing from outside fits.
        is_mutable: A default of this shape is copied per instance.
        exact: Values of just this class are taken as they are.
    """

    __slots__ = (
        "draft",
        "exact",
        "is_mutable",
        "is_opaque",
        "native",
        "plain",
        "says",
        "take",
        "wire",
    )

    def __init__(
        self,
        says: str,
        take: Take,
        native: Callable[[Any], bool],
        draft: Json | Callable[[SchemaDraft], Json],
        *,
        plain: Take | None = None,
        wire: Take | None = None,
        opaque: bool = False,
        mutable: bool = False,
        exact: type | None = None,
    ) -> None:
        self.says = says
        self.take = take
        self.native = native
        self.draft = draft
        self.plain = plain
        self.wire = wire
        self.is_opaque = opaque
        self.is_mutable = mutable
        self.exact = exact

    def schema(self, draft: SchemaDraft) -> Json:
        """Return the JSON Schema of this shape."""
        return self.draft(draft) if callable(self.draft) else dict(self.draft)
