"""Signatures: what one message takes and replies, read off its handler.

The handler's annotations are the only declaration there is. From them come the
check of what arrives from outside (`bind`), the forms in which a reply goes out
(`plain`, `wire`), JSON Schemas (`describe`, help, forms, reference pages) and the payload
of a call made in Python (`payload_of`). Python's own binding of arguments checks local
typed calls, so nothing here is on their path but `payload_of`.

Spelling: keys are kebab-case outside and have underscores inside; at the top level of a
payload both are taken, one at a time. A trailing underscore of a parameter (`for_`) is Python's
need, not the message's: the key is `for`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, final

from dan9.base import arguments, forms
from dan9.base.address import kebab
from dan9.base.annotation import resolve, shape_of
from dan9.base.binding import Binding, Key
from dan9.base.errors import BadConfig, BadPayload
from dan9.base.fields import CONFIG, Config, ConfigMark, Field, Fields
from dan9.base.shape import Misfit, SchemaDraft, Shape

__all__ = ["CONFIG", "Config", "ConfigMark", "Field", "Fields", "Parameter", "Signature"]

REQUIRED: Final = inspect.Parameter.empty
_VAR_POSITIONAL: Final = 0x04
_VAR_KEYWORD: Final = 0x08


@dataclass(frozen=True, slots=True)
class Parameter:
    """One key of a message.

    Attributes:
        name: The parameter's name in Python, `for_`.
        key: The key on a wire, `for`.
        shape: What it takes.
        default: Its default, or `REQUIRED`.
        keyword_only: It stands behind a `*`.
        doc: Its line in the docstring's `Args`.
    """

    name: str
    key: str
    shape: Shape
    default: object
    keyword_only: bool
    doc: str

    @property
    def required(self) -> bool:
        """True if the payload must have the key."""
        return self.default is REQUIRED


@final
class Signature:
    """What one message takes and replies. Make it with `Signature.of`.

    Attributes:
        type: The message type, `read-chunk`.
        doc, summary: The handler's docstring, and its first line.
        parameters: The keys, in the order of the parameters.
        takes_fields: The handler has `**fields`: other keys reach it untouched.
        needs_conversion: `plain` may have to change a reply; False lets callers skip it.
    """

    __slots__ = (
        "_fields_take",
        "_instance",
        "_names",
        "binding",
        "doc",
        "needs_conversion",
        "parameters",
        "plain",
        "reply",
        "summary",
        "takes_fields",
        "type",
        "wire",
    )

    type: str
    doc: str
    summary: str
    parameters: tuple[Parameter, ...]
    takes_fields: bool
    needs_conversion: bool
    binding: Binding
    plain: Callable[[Any], Any]
    """Give a reply as a by-name ask in Python gets it: plain data, underscores."""
    wire: Callable[[Any], Any]
    """Give a reply as it crosses a wire: record keys in kebab-case, finite, 64 bits."""

    @classmethod
    def of(
        cls,
        function: Callable[..., object],
        *,
        type: str,
        localns: Mapping[str, object] | None = None,
        bound: bool = True,
    ) -> Signature:
        """Read the signature of a handler.

        Args:
            function: The handler as written in its class.
            type: The message type.
            localns: Names that annotations may use beside those of the module.
            bound: The first parameter is `self`, and no key.

        Raises:
            BadConfig: `*args`, a positional-only parameter, two parameters of one key, or an
                annotation that cannot be resolved or contradicts the data forms.
        """
        return cls(function, type, localns, bound)

    def __init__(
        self,
        function: Callable[..., object],
        type_: str,
        localns: Mapping[str, object] | None,
        bound: bool,
    ) -> None:
        target = inspect.unwrap(function)
        where = f"{getattr(target, '__qualname__', type_)}()"
        names, defaults, keyword_only, rest = _parameters(target, where)
        hints = resolve(target, getattr(target, "__annotations__", {}), where, localns)
        doc = inspect.cleandoc(function.__doc__ or "")
        said = _argument_docs(doc)
        self.type = type_
        self.doc = doc
        self.summary = doc.partition("\n")[0]
        self._instance = names.pop(0) if bound and names else ""
        self.takes_fields = rest is not None
        self.parameters = tuple(
            Parameter(
                name,
                kebab(_key(name)),
                shape_of(hints.get(name, Any), f"{where} {name}"),
                defaults.get(name, REQUIRED),
                name in keyword_only,
                said.get(name, ""),
            )
            for name in names
        )
        keys: dict[str, Key] = {}
        for parameter in self.parameters:
            entry = Key(parameter.name, parameter.shape)
            for key in {parameter.key: 0, _key(parameter.name): 0}:
                if key in keys:
                    raise BadConfig(
                        f"{where}: two parameters are the key {key!r}", hint="rename one", at=key
                    )
                keys[key] = entry
        required = tuple(p.name for p in self.parameters if p.required)
        self._names = tuple(p.name for p in self.parameters if not p.keyword_only)
        self.binding = Binding(self, keys, required, _key(self._names[0]) if self._names else "")
        self._fields_take = shape_of(hints.get(rest, Any), where).take if rest else None
        self.reply = shape_of(hints.get("return", Any), f"{where} reply")
        self.needs_conversion = self.reply.plain is not None
        self.plain = self.reply.plain or _same
        self.wire = self.reply.wire or _same

    def bind(self, payload: Mapping[str, object]) -> dict[str, object]:
        """Check a payload from outside; return keyword arguments under their Python names.

        Keys that the payload leaves out stay out: the handler has its defaults.

        Raises:
            BadPayload: An unknown, missing or doubly spelt key, or a value that does not
                fit; `at` is the path of the key.
        """
        return self.binding.bind(payload if isinstance(payload, dict) else dict(payload))

    def payload_of(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> dict[str, object]:
        """Return the payload of a call made in Python: parameters as keys, defaults left out.

        Raises:
            TypeError: The call does not fit the handler, in the words of Python.
        """
        names = self._names
        if len(args) > len(names):
            raise TypeError(
                f"{self.type}() takes {len(names)} positional arguments but {len(args)} were given"
            )
        payload: dict[str, object] = {}
        for name, value in zip(names, args, strict=False):
            payload[name[:-1] if name[-1] == "_" else name] = value
        for name, value in kwargs.items():
            key = _key(name)
            known = self.binding.keys.get(key)
            if known is None and self._fields_take is None:
                raise TypeError(f"{self.type}() got an unexpected keyword argument {name!r}")
            if key in payload:
                raise TypeError(f"{self.type}() got multiple values for argument {name!r}")
            payload[key if known else name] = value
        for name in self.binding.required:
            if _key(name) not in payload:
                raise TypeError(f"{self.type}() missing a required argument: {name!r}")
        return payload

    def payload_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the payload; its keys are in kebab-case."""
        draft = SchemaDraft()
        properties: dict[str, Any] = {}
        for parameter in self.parameters:
            body = parameter.shape.schema(draft)
            if not parameter.required:
                body = {**body, "default": _default_form(parameter)}
            if parameter.doc:
                body = {**body, "description": parameter.doc}
            properties[parameter.key] = body
        schema: dict[str, Any] = {"type": "object", "properties": properties}
        required = [parameter.key for parameter in self.parameters if parameter.required]
        if required:
            schema["required"] = required
        schema["additionalProperties"] = self.takes_fields
        return draft.finish(schema)

    def reply_schema(self) -> dict[str, Any]:
        """Return the JSON Schema of the reply; keys of records are in kebab-case."""
        draft = SchemaDraft()
        return draft.finish(self.reply.schema(draft))

    def arguments_from_text(
        self, pairs: Iterable[str], *, read: Callable[[str], bytes] | None = None
    ) -> dict[str, object]:
        """Turn `key=value` words into a payload; see `base.arguments`."""
        return arguments.arguments_from_text(pairs, self.payload_schema(), read=read)

    # What `Binding` has to say.

    def rest(self, key: Any, value: object, out: dict[str, object]) -> None:
        """Keep a key that is no parameter for `**fields`, or refuse it."""
        if not isinstance(key, str):
            raise BadPayload(
                f"{self.type}: {key!r} is no key: keys are text", message=self.type, at=str(key)
            )
        taken = key == self._instance or any(key == p.name for p in self.parameters)
        if self._fields_take is not None and not taken:
            out[key] = self._fields_take(value)
            return
        near = forms.nearest(key, self.binding.keys)
        keys = ", ".join(parameter.key for parameter in self.parameters)
        hint = f"did you mean {kebab(near)}?" if near else f"it takes {keys or 'no keys'}"
        raise BadPayload(f"{self.type} has no key {key}", hint=hint, message=self.type, at=key)

    def doubled(self, key: str) -> BadPayload:
        """Return the refusal of a key that is given in both spellings."""
        return BadPayload(
            f"{self.type}: the key {key} is given in both spellings",
            hint="give it once",
            message=self.type,
            at=key,
        )

    def too_deep(self, key: str) -> BadPayload:
        """Return the refusal of a value that no recursion gets to the end of."""
        return BadPayload(f"{self.type}: {key} is nested too deep", message=self.type, at=key)

    def missing(self, name: str) -> BadPayload:
        """Return the refusal of a payload without a key."""
        parameter = next(p for p in self.parameters if p.name == name)
        return BadPayload(
            f"{self.type} needs the key {parameter.key}",
            hint=f"give {parameter.key}: {parameter.shape.says}",
            message=self.type,
            at=parameter.key,
        )

    def misfit(self, key: str, misfit: Misfit) -> BadPayload:
        """Return the refusal of a value that does not fit."""
        at = misfit.under(key).at
        return BadPayload(
            f"{self.type}: {at} {misfit.text}", hint=misfit.hint, message=self.type, at=at
        )

    def __repr__(self) -> str:
        return f"Signature({self.type}: {', '.join(p.key for p in self.parameters)})"


def _same(value: Any) -> Any:
    return value


def _key(name: str) -> str:
    """The name as the message has it: one trailing underscore dropped."""
    return name[:-1] if name[-1:] == "_" and len(name) > 1 else name


def _parameters(
    function: Any, where: str
) -> tuple[list[str], dict[str, object], frozenset[str], str | None]:
    """Names in order, defaults, keyword-only names, name of `**fields`.

    Read off the code object where there is one: `inspect.signature` takes ten times as long,
    and a node makes some 150 of these before it is ready.
    """
    code = getattr(function, "__code__", None)
    if code is None:
        return _inspected(function, where)
    if code.co_flags & _VAR_POSITIONAL:
        raise BadConfig(f"{where} has *args: a message has named keys", hint="name each, or a list")
    if code.co_posonlyargcount > 1:
        raise BadConfig(f"{where} has positional-only parameters", hint="a message has named keys")
    positional = list(code.co_varnames[: code.co_argcount])
    total = code.co_argcount + code.co_kwonlyargcount
    keyword_only = code.co_varnames[code.co_argcount : total]
    given = function.__defaults__ or ()
    defaults = dict(zip(positional[len(positional) - len(given) :], given, strict=True))
    defaults.update(function.__kwdefaults__ or {})
    rest = code.co_varnames[total] if code.co_flags & _VAR_KEYWORD else None
    return [*positional, *keyword_only], defaults, frozenset(keyword_only), rest


def _inspected(
    function: Any, where: str
) -> tuple[list[str], dict[str, object], frozenset[str], str | None]:
    """The same for callables without a code object: compiled ones, partials."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise BadConfig(f"{where} has no signature that can be read") from None
    if any(p.kind is p.VAR_POSITIONAL for p in found):
        raise BadConfig(f"{where} has *args: a message has named keys", hint="name each, or a list")
    rest = next((p.name for p in found if p.kind is p.VAR_KEYWORD), None)
    named = [p for p in found if p.kind is not p.VAR_KEYWORD]
    return (
        [p.name for p in named],
        {p.name: p.default for p in named if p.default is not p.empty},
        frozenset(p.name for p in named if p.kind is p.KEYWORD_ONLY),
        rest,
    )


def _default_form(parameter: Parameter) -> object:
    convert = parameter.shape.wire or forms.wire_of
    try:
        return forms.json_form(convert(parameter.default))
    except (BadPayload, TypeError, AttributeError):
        return repr(parameter.default)  # a sentinel of the handler's own


_SECTION = re.compile(r"(Args|Arguments|Parameters):\s*\Z")
_ENTRY = re.compile(r"(\w+)(?:\s*\([^)]*\))?:\s*(.*)")


def _argument_docs(doc: str) -> dict[str, str]:
    """The lines of a Google `Args:` section, by parameter."""
    found: dict[str, str] = {}
    inside, indent, name = False, 0, ""
    for line in doc.splitlines():
        text = line.strip()
        depth = len(line) - len(line.lstrip())
        if _SECTION.match(line):
            inside, indent, name = True, 0, ""
        elif not inside or not text:
            continue
        elif depth == 0:
            inside = False
        else:
            indent = indent or depth
            entry = _ENTRY.match(text) if depth == indent else None
            if entry is not None:
                name, found[entry[1]] = entry[1], entry[2]
            elif name:
                found[name] = f"{found[name]} {text}"
    return found
