"""Rows of the ledger: what they are checked by, and what may become one.

A checksum covers a row's content *and* where it belongs, because a row that is intact but
somebody else's is as wrong as a torn one.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import Any

from dan9.base.errors import BadPayload, Conflict
from dan9.base.ports import Checkpoint, Entry, Known

__all__ = [
    "check_checkpoint",
    "check_entry",
    "check_save",
    "check_step",
    "conflict",
    "is_intact",
    "state_of",
    "sum_of_entry",
    "sum_of_state",
]


def _sum(head: str, body: bytes, more: bytes = b"") -> int:
    """Return a CRC-32: it need not resist an enemy, and blake2b took 2 us more a state."""
    crc32 = zlib.crc32
    return crc32(more, crc32(body, crc32(head.encode("utf-8", "surrogatepass"))))


def sum_of_state(checkpoint: Checkpoint, version: int, snapshot: int) -> int:
    """Return the checksum of a row: its content and where it belongs."""
    blob = checkpoint.blob
    return _sum(
        f"{checkpoint.address}\0{version}\0{snapshot}\0{float(checkpoint.when)!r}\0"
        f"{checkpoint.schema}\0{checkpoint.codec}\0{len(blob)}\0",
        blob,
        checkpoint.metrics,
    )


def state_of(address: str, row: Sequence[Any]) -> tuple[Checkpoint | None, str]:
    """Return the checkpoint in a row, and what is wrong with it ("": nothing)."""
    _, version, snapshot, when, schema, codec, checksum, metrics, blob = row
    if not (
        isinstance(version, int)
        and isinstance(snapshot, int)
        and isinstance(when, float)
        and isinstance(schema, str)
        and isinstance(codec, str)
        and isinstance(blob, bytes)
        and isinstance(metrics, bytes)
    ):
        return None, "a column has the wrong type"
    checkpoint = Checkpoint(address, schema, blob, when, codec, metrics, version, snapshot)
    if sum_of_state(checkpoint, version, snapshot) != checksum:
        return checkpoint, "the checksum does not fit"
    return checkpoint, ""


def sum_of_entry(
    address: str, id_: str, status: int, type_: str, sender: str, wall: float, body: bytes
) -> int:
    """Return the checksum of a journal entry."""
    head = f"{address}\0{id_}\0{status}\0{type_}\0{sender}\0{float(wall)!r}\0"
    return _sum(head, body)


def is_intact(address: str | None, row: Sequence[Any], checksum: object) -> bool:
    """True if a journal entry is as it was written."""
    id_, status, type_, sender, wall, body = row
    fits = isinstance(wall, float) and isinstance(body, bytes) and status in {0, 1, 2}
    return fits and checksum == sum_of_entry(
        str(address), str(id_), status, str(type_), str(sender), wall, body
    )


def check_save(checkpoints: Sequence[Checkpoint], keep: int | Sequence[int]) -> list[int]:
    """Refuse all if one is to be refused; return how many versions each keeps.

    100,000 take 15 ms, on the loop.

    Raises:
        BadPayload: As `check_checkpoint`.
    """
    for each in checkpoints:
        if (
            type(each.blob) is not bytes
            or type(each.metrics) is not bytes
            or not math.isfinite(each.when)
        ):
            check_checkpoint(each)
    return [keep] * len(checkpoints) if isinstance(keep, int) else list(keep)


def check_checkpoint(checkpoint: Checkpoint) -> None:
    """Refuse what the tables could not hold, before it stands in a group with others.

    Raises:
        BadPayload: The time is no number, or the state is not bytes.
    """
    if not math.isfinite(checkpoint.when):
        raise BadPayload("the time of a checkpoint is no number", at="when")
    if (type(checkpoint.blob), type(checkpoint.metrics)) != (bytes, bytes):
        raise BadPayload(
            f"the state of {checkpoint.address} is not encoded",
            hint="blob and metrics are bytes",
            at="blob",
        )


def check_step(entry: Entry, checkpoint: Checkpoint | None) -> None:
    """Refuse what either table could not hold.

    Raises:
        BadPayload: As `check_entry` and `check_checkpoint`.
    """
    check_entry(entry)
    if checkpoint is not None:
        check_checkpoint(checkpoint)


def conflict(entry: Entry, known: Known) -> Conflict:
    """Return the refusal of a message whose id was settled before."""
    return Conflict(
        f"message {entry.id} is {known.value} already",
        hint="ask `seen` first: a handled message has its reply there",
        address=entry.address,
        message=entry.type,
    )


def check_entry(entry: Entry) -> None:
    """Refuse what the journal could not hold.

    Raises:
        BadPayload: The time is no number, the payload not bytes, or the id empty.
    """
    if not math.isfinite(entry.when):
        raise BadPayload("the time of an entry is no number", at="when")
    if not isinstance(entry.payload, bytes):
        raise BadPayload("the payload is not encoded", hint="it is bytes", at="payload")
    if not entry.id:
        raise BadPayload("the message has no id", at="id")
