"""Events as plain maps."""

from __future__ import annotations

import dataclasses
import json

import pytest

from dan9.base import events

NO_EVENTS = {"LogEntry", "event_form"}


@pytest.mark.parametrize("name", [name for name in events.__all__ if name not in NO_EVENTS])
def test_every_event_is_frozen_and_prints_as_json(name: str) -> None:
    """Each record can be made from time and address, cannot be changed, and is plain."""
    record = getattr(events, name)(1.0, "d9://a/b/c")
    with pytest.raises(dataclasses.FrozenInstanceError):
        record.time = 2.0
    form = events.event_form(record)
    assert json.loads(json.dumps(form)) == form
    assert form["time"] == 1.0


def test_a_log_entry_is_frozen_and_shares_nothing_with_others() -> None:
    """Its fields are its own, also where none were given."""
    entry = events.LogEntry(1.0, "info", "a", "b")
    with pytest.raises(AttributeError):
        entry.time = 2.0  # type: ignore[misc]
    assert entry.fields == {}
    assert entry.fields is not events.LogEntry(1.0, "info", "a", "b").fields


def test_a_dead_letter_keeps_its_facts() -> None:
    """Everything that is known of the message is in the form."""
    letter = events.DeadLetter(
        2.0, "d9://a/b/c", "d9://x/y/z", "add", {"by": 1}, "m-1", "stopped", "", 1.0
    )
    assert events.event_form(letter) == {
        "event": "dead-letter",
        "time": 2.0,
        "address": "d9://a/b/c",
        "sender": "d9://x/y/z",
        "type": "add",
        "payload": {"by": 1},
        "id": "m-1",
        "reason": "stopped",
        "text": "",
        "sent": 1.0,
    }
