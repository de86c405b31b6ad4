"""Shapes made of shapes: lists, maps, unions, records, enumerations, constraints.

The second half of `shape`: what is built from other annotations. Keys of declared
records are spelled in kebab-case outside and in Python's way inside; outside may use either,
not both at once. Keys of maps are data and never touched.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

from dan9.base import forms
from dan9.base.address import kebab
from dan9.base.atoms import NONE, take_list, take_map
from dan9.base.errors import BadConfig, BadPayload
from dan9.base.shape import Json, Misfit, SchemaDraft, Shape, Take

__all__ = [
    "by_msgspec",
    "constrained",
    "enumeration",
    "fixed",
    "is_record",
    "listing",
    "literal",
    "mapping",
    "record",
    "union",
]


def listing(kind: type, inner: Shape) -> Shape:
    """`list[X]`, `tuple[X, ...]`, `set[X]`: a list outside."""
    take_inner = inner.take
    is_list = kind is list

    def take(value: Any) -> Any:
        if isinstance(value, (list, tuple)) or not is_list:
            items = take_list(value, take_inner)
        else:
            raise Misfit("a list", value)
        if is_list:
            return items
        try:
            return kind(items)
        except TypeError:
            raise Misfit("", text="has a member that cannot be in a set") from None

    def schema(draft: SchemaDraft) -> Json:
        items = inner.schema(draft)
        body: Json = {"type": "array", "items": items} if items else {"type": "array"}
        if kind in (set, frozenset):
            body["uniqueItems"] = True
        return body

    sort = kind in (set, frozenset)

    def out(each: Take | None) -> Take:
        def convert(value: Any) -> Any:
            if not isinstance(value, (list, tuple, set, frozenset)):
                return forms.wire_of(value)  # not what was declared: say what it is
            items = list(value) if each is None else [each(item) for item in value]
            return forms.wire_of(set(value)) if sort else items

        return convert

    always = not is_list
    return Shape(
        "a list",
        take,
        lambda value: isinstance(value, (list, kind)),
        schema,
        plain=out(inner.plain) if inner.plain or always else None,
        wire=out(inner.wire) if inner.wire or always else None,
        mutable=kind is not frozenset,
    )


def fixed(inner: list[Shape]) -> Shape:
    """`tuple[X, Y]`: a list of exactly so many."""
    says = f"a list of {len(inner)}"

    def take(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise Misfit(says, value)
        if len(value) != len(inner):
            raise Misfit("", text=f"must be {says}, not of {len(value)}")
        out = []
        for index, (shape, item) in enumerate(zip(inner, value, strict=True)):
            try:
                out.append(shape.take(item))
            except Misfit as misfit:
                raise misfit.under(f"[{index}]") from None
        return tuple(out)

    def schema(draft: SchemaDraft) -> Json:
        items = [shape.schema(draft) for shape in inner]
        return {
            "type": "array",
            "prefixItems": items,
            "minItems": len(items),
            "maxItems": len(items),
        }

    return Shape(
        says,
        take,
        lambda value: isinstance(value, (list, tuple)),
        schema,
        plain=forms.plain_of,
        wire=forms.wire_of,
    )


def mapping(inner: Shape) -> Shape:
    """`dict[str, X]`: a map; its keys are data."""
    take_inner = inner.take

    def schema(draft: SchemaDraft) -> Json:
        items = inner.schema(draft)
        return {"type": "object", "additionalProperties": items} if items else {"type": "object"}

    def out(each: Take | None, walk: Take) -> Take | None:
        if each is None:
            return None

        def convert(value: Any) -> Any:
            if type(value) is not dict or each is walk:
                return walk(value)
            return {key: each(item) for key, item in value.items()}

        return convert

    return Shape(
        "a map",
        lambda value: take_map(value, take_inner),
        lambda value: isinstance(value, Mapping) and not (len(value) == 1 and "$bytes" in value),
        schema,
        plain=out(inner.plain, forms.plain_of),
        wire=out(inner.wire, forms.wire_of),
        mutable=True,
    )


def union(members: list[Shape]) -> Shape:
    """`X | Y`: the member that the value is already of, else the first that takes it."""
    reachable = [member for member in members if not member.is_opaque]
    if not reachable:
        return members[0]
    says = _either([member.says for member in reachable])
    without_none = [member for member in reachable if member is not NONE]
    optional = len(without_none) < len(reachable)

    def take(value: Any) -> Any:
        if value is None and optional:
            return None
        deepest: Misfit | None = None
        for member in without_none:
            if member.native(value):
                try:
                    return member.take(value)
                except Misfit as misfit:
                    deepest = deepest or misfit
        for member in without_none:
            try:
                return member.take(value)
            except Misfit as misfit:
                deepest = deepest or (misfit if misfit.path or len(without_none) == 1 else None)
        raise deepest or Misfit(says, value)

    def schema(draft: SchemaDraft) -> Json:
        bodies: list[Json] = []
        for member in reachable:
            body = member.schema(draft)
            if not body:
                return {}
            if body not in bodies:
                bodies.append(body)
        kinds = [body["type"] for body in bodies if list(body) == ["type"]]
        if len(kinds) == len(bodies) and all(isinstance(kind, str) for kind in kinds):
            return {"type": kinds if len(kinds) > 1 else kinds[0]}
        return {"anyOf": bodies} if len(bodies) > 1 else bodies[0]

    def out(which: str, walk: Take) -> Take | None:
        converts = [getattr(member, which) for member in members]
        if not any(converts):
            return None
        if len(without_none) == 1 == len(members) - optional:
            only = getattr(without_none[0], which)
            return lambda value: None if value is None else only(value)

        def convert(value: Any) -> Any:
            for member in reachable:
                if member.native(value):
                    found = getattr(member, which)
                    return value if found is None else found(value)
            return walk(value)

        return convert

    return Shape(
        says,
        take,
        lambda value: any(member.native(value) for member in reachable),
        schema,
        plain=out("plain", forms.plain_of),
        wire=out("wire", forms.wire_of),
        mutable=any(member.is_mutable for member in reachable),
    )


def _either(words: list[str]) -> str:
    words = list(dict.fromkeys(words))
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def literal(values: tuple[Any, ...]) -> Shape:
    """`Literal[…]`: one of these."""
    says = "one of " + " ".join("null" if value is None else str(value) for value in values)

    def native(value: Any) -> bool:
        return any(value == one and type(value) is type(one) for one in values)

    def take(value: Any) -> Any:
        for one in values:
            if value == one and type(value) is type(one):
                return one
        near = forms.nearest(value, map(str, values)) if isinstance(value, str) else ""
        raise Misfit(says, value, hint=f"did you mean {near}?" if near else "")

    return Shape(says, take, native, {"enum": list(values)})


def enumeration(kind: type[Enum]) -> Shape:
    """An Enum: its value outside; its member inside."""
    values = [member.value for member in kind]
    by_value = literal(tuple(values))

    def take(value: Any) -> Any:
        return value if isinstance(value, kind) else kind(by_value.take(value))

    return Shape(
        by_value.says,
        take,
        lambda value: isinstance(value, kind) or by_value.native(value),
        {"enum": values},
        plain=forms.plain_of,
        wire=forms.wire_of,
    )


def by_msgspec(annotation: Any, kind: type) -> Shape:
    """A type that msgspec converts and we add nothing to."""
    says = f"a {kind.__name__.lower()} as text"

    def take(value: Any) -> Any:
        import msgspec

        if isinstance(value, kind):
            return value
        try:
            return msgspec.convert(value, annotation)
        except msgspec.ValidationError:
            raise Misfit(says, value) from None

    return Shape(
        says,
        take,
        lambda value: isinstance(value, kind),
        lambda _: {"type": "string", "format": kind.__name__.lower()},
        plain=forms.plain_of,
        wire=forms.wire_of,
    )


def constrained(base: Shape, annotation: Any) -> Shape:
    """`Annotated[X, msgspec.Meta(ge=0)]`: X, and what Meta says of it."""

    def take(value: Any) -> Any:
        import msgspec

        taken = base.take(value)
        try:
            msgspec.convert(base.wire(taken) if base.wire else taken, annotation)
        except msgspec.ValidationError as error:
            text = str(error).partition(" - at ")[0]
            raise Misfit("", text=f"is refused: {text[:1].lower()}{text[1:]}") from None
        return taken

    def schema(draft: SchemaDraft) -> Json:
        import msgspec

        found: Json = msgspec.json.schema(annotation)
        found.pop("$defs", None)
        return {**base.schema(draft), **found}

    return Shape(
        base.says,
        take,
        base.native,
        schema,
        plain=base.plain,
        wire=base.wire,
        mutable=base.is_mutable,
    )


def is_record(kind: type) -> bool:
    """True for dataclasses, TypedDicts, named tuples and msgspec Structs."""
    return typing.is_typeddict(kind) or forms.record_names(kind) is not None


class _Record:
    """The fields of one record class, found on first use: a record may contain itself."""

    def __init__(self, kind: type, shape_of: Callable[[Any], Shape]) -> None:
        self.kind = kind
        self.shape_of = shape_of
        self.is_map = typing.is_typeddict(kind)
        self.shapes: dict[str, Shape] | None = None
        self.keys: dict[str, str] = {}
        self.required: list[str] = []

    def load(self) -> dict[str, Shape]:
        if self.shapes is not None:
            return self.shapes
        try:
            hints = typing.get_type_hints(self.kind, include_extras=True)
        except Exception as error:  # whatever evaluating an annotation raises
            raise BadConfig(
                f"{self.kind.__qualname__}: an annotation cannot be resolved: {error}",
                hint="define what it names at the head of its module",
            ) from None
        names = forms.record_names(self.kind) or tuple(hints)
        self.required = [name for name in names if self._is_required(name, hints.get(name))]
        for name in names:
            self.keys[kebab(name)] = name
            self.keys[name] = name
        self.shapes = {name: self.shape_of(hints.get(name, Any)) for name in names}
        return self.shapes

    def _is_required(self, name: str, hint: Any) -> bool:
        if self.is_map:
            # Python does not see these two through annotations that are text.
            if typing.get_origin(hint) in (typing.Required, typing.NotRequired):
                return typing.get_origin(hint) is typing.Required
            return name in self.kind.__required_keys__  # type: ignore[attr-defined]  # TypedDict
        struct = getattr(self.kind, "__struct_config__", None)
        if struct is not None:
            fields: tuple[str, ...] = self.kind.__struct_fields__  # type: ignore[attr-defined]
            defaults = self.kind.__struct_defaults__  # type: ignore[attr-defined]  # Struct
            return name in fields[: len(fields) - len(defaults)]
        if hasattr(self.kind, "__dataclass_fields__"):
            from dataclasses import MISSING
            from dataclasses import fields as fields_of

            for field in fields_of(self.kind):
                if field.name == name:
                    return field.default is MISSING and field.default_factory is MISSING
        return name not in getattr(self.kind, "_field_defaults", {})

    def take(self, value: Any) -> Any:
        shapes = self.load()
        if not self.is_map and isinstance(value, self.kind):
            return value
        if not isinstance(value, Mapping):
            raise Misfit(f"a map with {', '.join(map(kebab, shapes)) or 'no keys'}", value)
        out: dict[str, Any] = {}
        for key, item in value.items():
            name = self.keys.get(key) if isinstance(key, str) else None
            if name is None:
                near = forms.nearest(str(key), self.keys)
                raise Misfit(
                    "",
                    text="is no key of this map",
                    hint=f"did you mean {kebab(near)}?"
                    if near
                    else f"its keys are {', '.join(map(kebab, shapes))}",
                ).under(str(key))
            if name in out:
                raise Misfit("", text="is given in both spellings").under(str(key))
            try:
                out[name] = shapes[name].take(item)
            except Misfit as misfit:
                raise misfit.under(str(key)) from None
        for name in self.required:
            if name not in out:
                raise Misfit("", text="is missing").under(kebab(name))
        if self.is_map:
            return out
        try:
            return self.kind(**out)
        except (TypeError, ValueError, BadPayload) as error:  # its own __post_init__ says no
            raise Misfit("", text=f"is refused: {error}") from None

    def native(self, value: Any) -> bool:
        if isinstance(value, Mapping):
            shapes = self.load()
            return all(key in self.keys for key in value) and len(value) <= len(shapes)
        return not self.is_map and isinstance(value, self.kind)

    def plain(self, value: Any) -> Any:
        return self._out(value, wire=False)

    def wire(self, value: Any) -> Any:
        return self._out(value, wire=True)

    def _out(self, value: Any, *, wire: bool) -> Any:
        shapes = self.load()
        walk = forms.wire_of if wire else forms.plain_of
        if isinstance(value, Mapping):
            if not self.is_map:
                return walk(value)
            pairs = list(value.items())
        elif isinstance(value, self.kind):
            pairs = [(name, getattr(value, name)) for name in shapes]
        else:
            return walk(value)
        out = {}
        for name, item in pairs:
            shape = shapes.get(name)
            convert = walk if shape is None else (shape.wire if wire else shape.plain)
            key = kebab(name) if wire and shape is not None else name
            out[key] = item if convert is None else convert(item)
        return out

    def schema(self, draft: SchemaDraft) -> Json:
        name = self.kind.__name__
        if name in draft.open:
            draft.recursive.add(name)
            return {"$ref": f"#/$defs/{name}"}
        draft.open.append(name)
        shapes = self.load()
        body: Json = {
            "type": "object",
            "title": name,
            "properties": {kebab(key): shape.schema(draft) for key, shape in shapes.items()},
            "required": [kebab(key) for key in self.required],
            "additionalProperties": False,
        }
        if not body["required"]:
            del body["required"]
        draft.open.pop()
        if name in draft.recursive:
            draft.defs[name] = body
            return {"$ref": f"#/$defs/{name}"}
        return body


def record(kind: type, shape_of: Callable[[Any], Shape]) -> Shape:
    """A dataclass, TypedDict, named tuple or Struct: a map outside.

    `shape_of` gives the shapes of its fields, on first use.
    """
    found = _Record(kind, shape_of)
    return Shape(
        f"a map ({kind.__name__})",
        found.take,
        found.native,
        found.schema,
        plain=found.plain,
        wire=found.wire,
        mutable=True,
    )
