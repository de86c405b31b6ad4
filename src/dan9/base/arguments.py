"""The command line's `key=value` words, turned into a payload by the message's JSON Schema.

The command line knows a message only by what `describe` said of it, so this works
from the schema and not from the signature: a value is text wherever the schema
allows text, else it is JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from dan9.base.address import kebab
from dan9.base.errors import BadPayload

__all__ = ["allows_text", "arguments_from_text"]


def arguments_from_text(
    pairs: Iterable[str],
    schema: Mapping[str, Any] | None = None,
    *,
    read: Callable[[str], bytes] | None = None,
) -> dict[str, object]:
    """Turn `key=value`, `key:=JSON` and `key=@file` into a payload.

    Args:
        pairs: The words of the command line.
        schema: The JSON Schema of the message's payload, as `describe` gives it;
            without one every value is text. A value is text wherever the schema
            allows text, else it is read as JSON.
        read: Reads a file for `key=@file`; without one that form is refused.

    Raises:
        BadPayload: A word is no such pair, a key comes twice, a value should be
            JSON and is not; `at` names the key.
    """
    properties: Mapping[str, Any] = (schema or {}).get("properties", {})
    payload: dict[str, object] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        as_json = key.endswith(":")
        key = key[:-1] if as_json else key
        if not equals or not key:
            raise BadPayload(
                f"{pair!r} is no key=value", hint="write key=value, key:=JSON or key=@file", at=pair
            )
        if key in payload:
            raise BadPayload(f"the key {key} is given twice", hint="give it once", at=key)
        shape = properties.get(key) or properties.get(kebab(key)) or {}
        if as_json:
            payload[key] = _json(key, value)
        elif value.startswith("@"):
            payload[key] = _file(key, value[1:], shape, read)
        elif allows_text(shape, schema or {}):
            payload[key] = value
        else:
            payload[key] = _json(key, value)
    return payload


def allows_text(schema: Mapping[str, Any], root: Mapping[str, Any]) -> bool:
    """True if a JSON Schema lets text pass; one that says nothing lets all pass."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return allows_text(root.get("$defs", {}).get(name, {}), root)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return any(allows_text(one, root) for one in schema[several])
    if "enum" in schema:
        return any(isinstance(value, str) for value in schema["enum"])
    kind = schema.get("type")
    return kind is None or kind == "string" or (isinstance(kind, list) and "string" in kind)


def _json(key: str, text: str) -> object:
    import json

    def refuse(constant: str) -> object:
        raise ValueError(f"{constant} is no number for a wire")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise BadPayload(
            f"{key}: {text[:80]!r} is not JSON{_why(error)}",
            hint=f"{key} is no text: write it as JSON, as 3, true, null, '[\"a\"]'",
            at=key,
        ) from None


def _why(error: Exception) -> str:
    """Say what JSON lacks, unless it is plainly a word and no JSON at all."""
    return "" if str(error).endswith("(char 0)") else f": {error}"


def _file(
    key: str, path: str, schema: Mapping[str, Any], read: Callable[[str], bytes] | None
) -> object:
    if read is None:
        raise BadPayload(f"{key}: files are not read here", hint=f"write {key}=value", at=key)
    try:
        content = read(path)
    except OSError as error:
        raise BadPayload(
            f"{key}: cannot read {path}: {error.strerror or error}", hint="check the path", at=key
        ) from None
    if schema.get("contentEncoding") == "base64":
        return content
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return content
    return text if allows_text(schema, {}) else _json(key, text)
