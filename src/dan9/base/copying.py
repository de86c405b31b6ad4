"""A payload or reply as it would arrive over a wire: encoded, decoded, checked.

Local messages pass by reference and neither side may change what it sent. A system
made with `copy=True` sends every payload and reply through here instead, so that a
program that breaks this rule, or relies on what no wire carries, fails in its tests.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dan9.base.errors import BadPayload
from dan9.base.shape import Misfit

if TYPE_CHECKING:
    from dan9.base.schema import Signature

__all__ = ["copy_payload", "copy_reply"]


def _through(value: object) -> object:
    import msgspec

    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def copy_payload(
    signature: Signature, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> dict[str, object]:
    """Return keyword arguments as if they had come over a wire.

    Raises:
        TypeError: The call does not fit the handler.
        BadPayload: A value has no data form, or does not fit.
    """
    payload = signature.payload_of(args, kwargs)
    shapes = {
        parameter.key.replace("-", "_"): parameter.shape for parameter in signature.parameters
    }
    out: dict[str, object] = {}
    for key, value in payload.items():
        shape = shapes.get(key)
        out[key] = value if shape is None or shape.wire is None else shape.wire(value)
    try:
        return signature.bind(_through(out))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadPayload):
            raise
        raise BadPayload(
            f"{signature.type}: the payload cannot cross a wire: {error}", message=signature.type
        ) from None


def copy_reply(signature: Signature, value: object) -> object:
    """Return a reply as if it had come over a wire.

    Raises:
        BadPayload: It has no data form, or is not what the handler's annotation says.
    """
    try:
        return signature.reply.take(_through(signature.wire(value)))
    except Misfit as misfit:
        raise BadPayload(
            f"{signature.type}: the reply{misfit.at} {misfit.text}",
            hint="the handler's return annotation says otherwise",
            message=signature.type,
        ) from None
    except (TypeError, ValueError, OverflowError) as error:
        if isinstance(error, BadPayload):
            raise
        raise BadPayload(
            f"{signature.type}: the reply cannot cross a wire: {error}", message=signature.type
        ) from None
