"""Payloads against the keys of a message: the part of a signature that every ask from a wire runs.

It is apart from `schema` because it is compiled; what is wrong with a payload is said there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from dan9.base.shape import Misfit

if TYPE_CHECKING:
    from dan9.base.schema import Signature
    from dan9.base.shape import Shape

__all__ = ["NOTHING", "Binding", "Key"]

NOTHING: Final = object()
"""What no value is."""


@final
class Key:
    """One spelling of a parameter: its name in Python, and what it takes."""

    def __init__(self, name: str, shape: Shape) -> None:
        self.name = name
        self.take = shape.take
        # A class that no value has says that every value must be looked at.
        self.exact: object = shape.exact if shape.exact is not None else NOTHING


@final
class Binding:
    """Checks the payloads of one message.

    Args:
        signature: Says what is wrong.
        keys: What each key takes, in both spellings.
        required: The names that must be there.
        first: The key of the first parameter, if it may be given by position.
    """

    def __init__(
        self, signature: Signature, keys: dict[str, Key], required: tuple[str, ...], first: str
    ) -> None:
        self.signature = signature
        self.keys = keys
        self.required = required
        key = keys.get(first)
        is_enough = key is not None and all(name == key.name for name in required)
        self.first = first
        self.alone_key: Key | None = key if is_enough else None

    def alone(self, payload: dict[Any, object]) -> object:
        """Return the checked value of a payload that is the first parameter and nothing else.

        `NOTHING` of any other payload, and of a value that does not fit: `bind` says more.
        """
        key = self.alone_key
        if key is None or len(payload) != 1:
            return NOTHING
        value = payload.get(self.first, NOTHING)
        if value is NOTHING or type(value) is key.exact:
            return value
        try:
            return key.take(value)
        except (Misfit, RecursionError):
            return NOTHING

    def bind(self, payload: dict[Any, object]) -> dict[str, object]:
        """Return keyword arguments under their Python names; see `Signature.bind`."""
        out: dict[str, object] = {}
        keys = self.keys
        key: Any = ""
        try:
            for key, value in payload.items():
                entry = keys.get(key)
                if entry is None:
                    self.signature.rest(key, value, out)
                elif entry.name in out:
                    raise self.signature.doubled(key)
                elif type(value) is entry.exact:
                    out[entry.name] = value
                else:
                    out[entry.name] = entry.take(value)
        except Misfit as misfit:
            raise self.signature.misfit(str(key), misfit) from None
        except RecursionError:
            raise self.signature.too_deep(str(key)) from None
        for name in self.required:
            if name not in out:
                raise self.signature.missing(name)
        return out
