"""Writes values as TOML, in shapes that a person might choose."""

from __future__ import annotations

import json


def toml(value: object, *, spread: bool) -> str:
    """Write one value as TOML; arrays over several lines if `spread`."""
    if isinstance(value, dict):
        return (
            "{"
            + ", ".join(f"{quoted(k)} = {toml(v, spread=False)}" for k, v in value.items())
            + "}"
        )
    if isinstance(value, list):
        gap = "\n  # a comment with ] and ,\n  " if spread else " "
        return "[" + ",".join(gap + toml(v, spread=spread) for v in value) + gap + "]"
    if isinstance(value, str):
        if spread and "\n" in value and "\\" not in value and '"' not in value:
            return f'"""{value}"""'
        return json.dumps(value)
    return json.dumps(value)


def quoted(key: str) -> str:
    """Write a key as TOML has it."""
    is_bare = key.isascii() and key.replace("-", "").replace("_", "").isalnum()
    return key if is_bare else json.dumps(key)
