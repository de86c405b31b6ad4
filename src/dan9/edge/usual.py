"""The two frames that nearly all traffic is made of, without a Struct in between.

A usual ask has an id, a receiver, a type and a payload of few keys whose values hold no others,
and no word more. Compiled (`usual.c`) it is read in a third of the time of a decoder
that knows every frame, and what repeats itself, receivers, types and keys, is not made anew. Any
other frame is for that decoder, and so is all that is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from dan9.base.frame import HEADER
from dan9.base.linked import IS_COMPILED, load

__all__ = ["answer_head", "read_ask"]


def read_ask(body: bytes | bytearray) -> tuple[Any, Any, Any, Any] | None:
    """Return id, receiver, type and payload of a usual ask; None of any other frame."""
    del body
    return None


def answer_head(number: int, size: int) -> bytes:
    """Return what stands before the value in the frame of an answer.

    Args:
        number: The client's number for the request.
        size: Bytes of the encoded value, which follow.
    """
    head = b"\x82\xa2id" + msgspec.msgpack.encode(number) + b"\xa2ok"
    return HEADER.pack(len(head) + size) + head


if not TYPE_CHECKING and IS_COMPILED:
    _library = load("dan9.edge._usual")
    read_ask, answer_head = _library.read_ask, _library.answer_head
