"""State and configuration of one daemon class, read off its annotations.

`total: int = 0` is state: shown, checkpointed, restored. `root: Config[str] = "/"` is
configuration: shown, never restored. A name that begins with `_`, and a `ClassVar`, is neither.
All of it is checked when the class is made, because a field that cannot be stored should
be heard of then and not at the first checkpoint.
"""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, TypeVar, final

from dan9.base import forms
from dan9.base.address import kebab
from dan9.base.annotation import resolve, shape_of
from dan9.base.errors import BadConfig, BadPayload, Corrupt
from dan9.base.shape import Misfit, SchemaDraft, Shape

__all__ = ["CONFIG", "MISSING", "Config", "ConfigMark", "Field", "Fields"]


@final
class ConfigMark:
    """Marks a field as configuration."""

    def __repr__(self) -> str:
        return "CONFIG"


CONFIG: Final = ConfigMark()
_T = TypeVar("_T")
Config = Annotated[_T, CONFIG]
"""`root: Config[str] = "/"`: configuration; type checkers see `str`."""


class _Missing:
    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
"""The default of a configuration that must be given."""


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its name, shape, default (or `MISSING`) and which of the two it is."""

    name: str
    shape: Shape
    default: object
    is_config: bool

    @property
    def key(self) -> str:
        """The name on a wire and in dan9.toml."""
        return kebab(self.name)


@final
class Fields:
    """The fields of one daemon class. Make it with `Fields.of`.

    Attributes:
        all: Every field by name, base classes first.
        state, config: The two kinds.
        required: Names of configuration without a default.
        schema_id: Fingerprint of the state's names and types; changes when a stored state may
            no longer fit.
    """

    __slots__ = ("_id", "_mutable", "_owner", "all", "config", "required", "state")

    @classmethod
    def of(
        cls,
        owner: type,
        *,
        stop_at: type | None = None,
        handlers: Iterable[str] = (),
        localns: Mapping[str, object] | None = None,
    ) -> Fields:
        """Read the fields of a class.

        Args:
            owner: The class.
            stop_at: The base whose own annotations, and whose bases', are no fields.
            handlers: Names of the class's handlers, which no field may have.
            localns: Names that annotations may use beside those of the module.

        Raises:
            BadConfig: A field is no schema type, has a handler's name, its default does not fit, or
                a state has none.
        """
        return cls(owner, stop_at, handlers, localns)

    def __init__(
        self,
        owner: type,
        stop_at: type | None,
        handlers: Iterable[str],
        localns: Mapping[str, object] | None,
    ) -> None:
        self._owner = owner.__qualname__
        self._id = ""
        self.all: dict[str, Field] = {}
        skipped = set(stop_at.__mro__) if stop_at is not None else {object}
        for base in reversed(owner.__mro__):
            if base not in skipped:
                self._read(base, owner, localns)
        taken = {name.rstrip("_") for name in handlers}
        for name in self.all:
            if name.rstrip("_") in taken:
                raise BadConfig(
                    f"{self._owner}.{name} is a field and a handler", hint="rename one", at=name
                )
        self.state = {name: field for name, field in self.all.items() if not field.is_config}
        self.config = {name: field for name, field in self.all.items() if field.is_config}
        self.required = tuple(n for n, field in self.config.items() if field.default is MISSING)
        self._mutable = tuple(
            (name, field.default)
            for name, field in self.all.items()
            if field.shape.is_mutable and not _is_atom(field.default)
        )

    def _read(self, base: type, owner: type, localns: Mapping[str, object] | None) -> None:
        written = {
            name: annotation
            for name, annotation in _annotations(base).items()
            if not name.startswith("_") and not _is_class_var(annotation)
        }
        where = base.__qualname__
        names = {**vars(base), **(localns or {})}
        for name, annotation in resolve(base, written, where, names).items():
            is_config, shape = _is_config(annotation), shape_of(annotation, f"{where}.{name}")
            if shape.is_opaque:
                raise BadConfig(
                    f"{where}.{name} is {shape.says}: no type of the schema",
                    hint=f"name it _{name} and make it in on_start, or annotate data",
                    at=name,
                )
            default = getattr(owner, name, MISSING)
            if default is MISSING and not is_config:
                raise BadConfig(
                    f"{where}.{name} is state without a default",
                    hint=f"write a default, or {name}: Config[…] for what spawn must be given",
                    at=name,
                )
            if default is not MISSING:
                _check_default(shape, default, f"{where}.{name}", name)
            self.all[name] = Field(name, shape, default, is_config)

    # -- instances

    def fresh(self) -> dict[str, object]:
        """Return new copies of the mutable defaults; the others serve from the class."""
        return {name: copy.deepcopy(default) for name, default in self._mutable}

    def convert(self, name: str, value: object) -> object:
        """Check one value from outside; the name in either spelling.

        Raises:
            BadConfig: No such field, or the value does not fit; `at` is the path.
        """
        field = self.field(name)
        try:
            return field.shape.take(value)
        except Misfit as misfit:
            at = misfit.under(name).at
            raise BadConfig(f"{self._owner}: {at} {misfit.text}", hint=misfit.hint, at=at) from None

    def convert_all(self, given: Mapping[str, object]) -> dict[str, object]:
        """Check what `spawn` or dan9.toml gives: values by Python name, required ones present.

        Raises:
            BadConfig: As `convert`; a field in both spellings; a required one missing.
        """
        out: dict[str, object] = {}
        for key, value in given.items():
            name = self.field(key).name
            if name in out:
                raise BadConfig(
                    f"{self._owner}: {key} is given in both spellings", hint="give it once", at=key
                )
            out[name] = self.convert(key, value)
        for name in self.required:
            if name not in out:
                raise BadConfig(
                    f"{self._owner} needs {kebab(name)}",
                    hint=f"give {kebab(name)}: {self.all[name].shape.says}",
                    at=kebab(name),
                )
        return out

    def field(self, name: str) -> Field:
        """Return the field of a name in either spelling; raise BadConfig if there is none."""
        found = self.all.get(name) or self.all.get(name.replace("-", "_"))
        if found is None or name not in (found.name, found.key):
            near = forms.nearest(name.replace("-", "_"), self.all)
            known = ", ".join(field.key for field in self.all.values())
            raise BadConfig(
                f"{self._owner} has no field {name}",
                hint=f"did you mean {kebab(near)}?" if near else f"it has {known or 'none'}",
                at=name,
            )
        return found

    # -- out

    def show(self, instance: object, *, config: bool, wire: bool = False) -> dict[str, object]:
        """Return state or configuration as plain data by name (wire: kebab-case)."""
        out: dict[str, object] = {}
        for name, field in (self.config if config else self.state).items():
            value = getattr(instance, name, None)
            convert = field.shape.wire if wire else field.shape.plain
            out[field.key if wire else name] = value if convert is None else convert(value)
        return out

    def schema(self, *, config: bool) -> dict[str, Any]:
        """Return the JSON Schema of the state or the configuration, keys in kebab-case."""
        draft = SchemaDraft()
        chosen = self.config if config else self.state
        body: dict[str, Any] = {
            "type": "object",
            "properties": {field.key: field.shape.schema(draft) for field in chosen.values()},
            "additionalProperties": False,
        }
        if config and self.required:
            body["required"] = [kebab(name) for name in self.required]
        return draft.finish(body)

    # -- checkpoints

    @property
    def schema_id(self) -> str:
        """Sixteen hexadecimal digits that name the state's fields and their types."""
        if not self._id:
            import hashlib
            import json

            text = json.dumps(self.schema(config=False), sort_keys=True)
            self._id = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return self._id

    def snapshot(self, instance: object) -> bytes:
        """Return the state as msgpack, with the fingerprint of its schema.

        Raises:
            BadPayload: A value has no data form (a lock in an untyped map, nan); `at` names it.
        """
        import msgspec

        state: dict[str, object] = {}
        for name, field in self.state.items():
            convert = field.shape.wire
            value = getattr(instance, name)
            try:
                state[name] = value if convert is None else convert(value)
            except BadPayload as error:
                raise BadPayload(
                    f"the state {self._owner}.{name} cannot be stored: {error.text}",
                    hint=error.hint,
                    at=name,
                ) from None
        try:
            return msgspec.msgpack.encode({"schema": self.schema_id, "state": state})
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            raise BadPayload(
                f"the state of {self._owner} cannot be stored: {error}",
                hint="a field holds what its annotation does not say",
            ) from None

    def restore(
        self,
        data: bytes,
        migrate: Callable[[dict[str, object]], Mapping[str, object]] | None = None,
    ) -> dict[str, object]:
        """Return the state that `snapshot` stored, checked, by name.

        A state of another schema goes through `migrate`, if given. Without it a
        field that is new keeps its default; one that is gone, or no longer fits, is
        Corrupt: a state is never dropped in silence.

        Raises:
            Corrupt: The bytes are no snapshot, or do not fit this class.
        """
        import msgspec

        try:
            stored = msgspec.msgpack.decode(data)
            schema, state = stored["schema"], stored["state"]
            items = dict(state)
        except (msgspec.DecodeError, TypeError, KeyError, ValueError, RecursionError):
            raise Corrupt(
                f"what is stored for {self._owner} is no snapshot",
                hint="restore an older version, or version=none to start afresh",
            ) from None
        if schema != self.schema_id and migrate is not None:
            items = dict(migrate(items))
        out: dict[str, object] = {}
        for name, value in items.items():
            field = self.state.get(name)
            if field is None:
                raise Corrupt(
                    f"{self._owner} has no state {name}, which is stored",
                    hint="write migrate(self, state) in the class, or restore version=none",
                    at=str(name),
                )
            try:
                out[name] = field.shape.take(value)
            except Misfit as misfit:
                raise Corrupt(
                    f"the stored {self._owner}.{misfit.under(name).at} {misfit.text}",
                    hint="write migrate(self, state) in the class, or restore version=none",
                    at=misfit.at,
                ) from None
        return out


def _check_default(shape: Shape, default: object, where: str, name: str) -> None:
    try:
        shape.take(default)
        if shape.wire is not None:
            shape.wire(default)
    except Misfit as misfit:
        raise BadConfig(f"{where}: its default {misfit.text}", hint=misfit.hint, at=name) from None
    except BadPayload as error:
        raise BadConfig(
            f"{where}: its default is no type of the schema: {error.text}",
            hint=f"name it _{name} and make it in on_start",
            at=name,
        ) from None


def _annotations(cls: type) -> dict[str, object]:
    """The annotations written in this very class."""
    if sys.version_info >= (3, 14):
        import annotationlib

        return annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    return inspect.get_annotations(cls)


def _is_class_var(annotation: object) -> bool:
    if isinstance(annotation, str):
        return annotation.replace("typing.", "").startswith(("ClassVar", "t.ClassVar"))
    return "ClassVar" in repr(annotation).partition("[")[0]


def _is_config(annotation: object) -> bool:
    return any(isinstance(mark, ConfigMark) for mark in getattr(annotation, "__metadata__", ()))


def _is_atom(value: object) -> bool:
    return value is MISSING or isinstance(value, (str, int, float, bytes, type(None)))
