"""A checkpoint as plain data and back: what `export` replies and `import` takes.

Bytes stay bytes here; whoever prints JSON writes them as `{"$bytes": …}`, and whoever
reads JSON makes bytes of that, as in every payload.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from dan9.base.errors import BadPayload, Corrupt
from dan9.base.ports import Checkpoint

__all__ = ["FORM", "from_form", "to_form"]

FORM = "dan9-state-1"


def to_form(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return a checkpoint as plain data.

    Raises:
        Corrupt: The state is not in a coding that this Dan9 reads.
    """
    return {
        "form": FORM,
        "address": checkpoint.address,
        "version": checkpoint.version,
        "snapshot": checkpoint.snapshot,
        "when": checkpoint.when,
        "schema": checkpoint.schema,
        "state": _decode(checkpoint, checkpoint.blob),
        "metrics": _decode(checkpoint, checkpoint.metrics) if checkpoint.metrics else {},
    }


def from_form(form: Mapping[str, object], *, address: str | None, when: float) -> Checkpoint:
    """Return the checkpoint that a form describes, to be saved as a new version.

    Args:
        form: What `to_form` returned, perhaps edited.
        address: Whose it becomes; None: as the form says.
        when: The time it is stamped with.

    Raises:
        BadPayload: It is no such form; `at` names the key.
    """
    if form.get("form") != FORM:
        raise BadPayload(
            f"the data is no exported state: form is {form.get('form')!r}",
            hint=f"it begins as `export` gave it: form={FORM!r}",
            at="data.form",
        )
    owner = address if address is not None else form.get("address")
    schema, metrics = form.get("schema"), form.get("metrics", {})
    for key, value, kind in (
        ("address", owner, str),
        ("schema", schema, str),
        ("state", form.get("state"), dict),
        ("metrics", metrics, dict),
    ):
        if not isinstance(value, kind):
            raise BadPayload(
                f"{key} is {type(value).__name__}",
                hint=f"it is {'text' if kind is str else 'a map'}, as `export` gave it",
                at=f"data.{key}",
            )
    return Checkpoint(
        address=str(owner),
        schema=str(schema),
        blob=_encode(form["state"], "data.state"),
        when=when,
        metrics=_encode(metrics, "data.metrics") if metrics else b"",
    )


def _decode(checkpoint: Checkpoint, blob: bytes) -> object:
    if checkpoint.codec != "msgpack":
        raise Corrupt(
            f"the state of {checkpoint.address} is coded as {checkpoint.codec}",
            hint="a later Dan9 wrote it",
            address=checkpoint.address,
        )
    try:
        return msgspec.msgpack.decode(blob)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Corrupt(
            f"the state of {checkpoint.address} cannot be decoded: {error}",
            address=checkpoint.address,
        ) from None


def _encode(value: object, at: str) -> bytes:
    try:
        return msgspec.msgpack.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadPayload(f"{at} cannot be stored: {error}", at=at) from None
