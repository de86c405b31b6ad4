"""From an annotation to its shape: names resolved, aliases looked through, classes told apart.

An annotation that nothing from outside can fit (a callable, a lock) is *opaque*: legal for a
handler's parameter, which local callers may use, never for a field.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections import abc
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from dan9.base import atoms, containers
from dan9.base.duration import DurationMark, TimeMark
from dan9.base.errors import BadConfig
from dan9.base.shape import Shape

__all__ = ["resolve", "shape_of"]

_BY_MSGSPEC: Final = {("uuid", "UUID"), ("decimal", "Decimal"), ("datetime", "date")}


def resolve(
    owner: object,
    annotations: Mapping[str, object],
    where: str,
    localns: Mapping[str, object] | None = None,
) -> dict[str, object]:
    """Return annotations with their text evaluated (`from __future__ import annotations`).

    Raises:
        BadConfig: A name in one is not known where it was written.
    """
    module = sys.modules.get(getattr(owner, "__module__", "") or "")
    globalns = getattr(owner, "__globals__", None) or getattr(module, "__dict__", {})
    out: dict[str, object] = {}
    for name, annotation in annotations.items():
        if isinstance(annotation, typing.ForwardRef):
            annotation = annotation.__forward_arg__  # noqa: PLW2901  (text is handled next)
        if isinstance(annotation, str):
            out[name] = _evaluate(annotation, name, where, globalns, localns or {})
        else:
            out[name] = annotation
    return out


def _evaluate(
    text: str,
    name: str,
    where: str,
    globalns: dict[str, Any],
    localns: Mapping[str, object],
) -> object:
    try:
        # The text is the user's own source, compiled as part of the module it stands in.
        return eval(text, globalns, dict(localns))  # noqa: S307
    except Exception as error:
        what = "reply" if name == "return" else name
        raise BadConfig(
            f"{where}: the annotation of {what}, {text!r}, cannot be resolved: {error}",
            hint="import or define what it names at the head of its module, not for checkers only",
            at=what,
        ) from None


@lru_cache(maxsize=1024)
def _cached(annotation: object) -> Shape:
    return _build(annotation)


def shape_of(annotation: object, where: str = "") -> Shape:
    """Return the shape of an annotation whose names are resolved.

    Args:
        annotation: The annotation.
        where: Whose it is, for the error.

    Raises:
        BadConfig: The annotation contradicts the data forms, as `dict[int, str]` does.
    """
    try:
        try:
            return _cached(annotation)
        except TypeError:  # not hashable: a Literal or Annotated with a list in it
            return _build(annotation)
    except BadConfig as error:
        if not where:
            raise
        raise BadConfig(f"{where}: {error.text}", hint=error.hint, at=error.at) from None


def _build(annotation: Any) -> Shape:
    try:
        atom = atoms.ATOMS.get(annotation)
    except TypeError:
        atom = None
    if atom is not None:
        return atom
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _annotated(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return containers.union([shape_of(arg) for arg in typing.get_args(annotation)])
    if origin is typing.Literal:
        return containers.literal(typing.get_args(annotation))
    if origin in (typing.Required, typing.NotRequired, typing.Final, typing.ClassVar):
        return shape_of(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return shape_of(annotation.__supertype__)
    if isinstance(annotation, typing.TypeVar):
        return shape_of(annotation.__bound__ or Any)
    if hasattr(annotation, "__value__"):  # type X = … of Python 3.12
        return shape_of(annotation.__value__)
    if isinstance(annotation, (str, typing.ForwardRef)):
        raise BadConfig(f"the annotation {annotation!r} is not resolved")
    kind = origin or annotation
    if isinstance(kind, type):
        return _class(annotation, kind, typing.get_args(annotation))
    return atoms.opaque(annotation)


def _class(annotation: Any, kind: type, args: tuple[Any, ...]) -> Shape:
    if getattr(kind, "__d9_ref__", False):
        return atoms.REF
    if containers.is_record(kind):
        return containers.record(kind, shape_of)
    if issubclass(kind, enum.Enum):
        return containers.enumeration(kind)
    if issubclass(kind, tuple):
        if args and args[-1] is not ...:
            return containers.fixed([shape_of(arg) for arg in args])
        return containers.listing(tuple, _inner(args, 0))
    if kind in (list, abc.Sequence, abc.MutableSequence, abc.Iterable, abc.Collection):
        return containers.listing(list, _inner(args, 0))
    if kind in (set, frozenset, abc.Set, abc.MutableSet):
        return containers.listing(frozenset if kind is frozenset else set, _inner(args, 0))
    if kind in (dict, abc.Mapping, abc.MutableMapping):
        if args and not _is_text(args[0]):
            raise BadConfig(
                f"a map with keys of {getattr(args[0], '__name__', args[0])}: map keys are text",
                hint="use dict[str, …], or a list of records",
            )
        return containers.mapping(_inner(args, 1))
    named = atoms.named(kind)
    if named is not None:
        return named
    if (kind.__module__, kind.__name__) in _BY_MSGSPEC:
        return containers.by_msgspec(annotation, kind)
    return atoms.opaque(annotation)


def _inner(args: tuple[Any, ...], index: int) -> Shape:
    return shape_of(args[index]) if len(args) > index else atoms.ANY


def _is_text(annotation: Any) -> bool:
    if annotation in (str, Any):
        return True
    if isinstance(annotation, typing.NewType):
        return _is_text(annotation.__supertype__)
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is typing.Literal:
        return all(isinstance(arg, str) for arg in args)
    if isinstance(annotation, type) and issubclass(annotation, str):
        return True
    return isinstance(annotation, typing.TypeVar)


def _annotated(annotation: Any) -> Shape:
    base, *marks = typing.get_args(annotation)
    for mark in marks:
        cls = mark if isinstance(mark, type) else type(mark)
        if cls is DurationMark:
            return atoms.DURATION
        if cls is TimeMark:
            return atoms.TIME
        if cls.__module__.partition(".")[0] == "msgspec" and cls.__name__ == "Meta":
            return containers.constrained(shape_of(base), annotation)
    return shape_of(base)
