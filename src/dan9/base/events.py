"""What happened: records that the kernel emits and anyone may look at.

Each is in the past tense, frozen, and says when (`time`, UTC seconds since 1970) and
to whom (`address`). An event is a fact, not a request: whoever receives one may
count it, print it or keep it, and changes nothing by doing so.

`LogEntry` is the one record here that people write themselves; it lies here because
every layer logs and none may import the daemon that collects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from msgspec import Struct

from dan9.base.address import kebab

__all__ = [
    "DaemonCrashed",
    "DaemonFailed",
    "DaemonRestarted",
    "DaemonResumed",
    "DaemonSpawned",
    "DaemonStarted",
    "DaemonStopped",
    "DaemonSuspended",
    "DeadLetter",
    "Event",
    "LogEntry",
    "MailboxHigh",
    "MailboxNormal",
    "RestartIntensityReached",
    "SaveFailed",
    "SlowStep",
    "StateRestored",
    "event_form",
]


class LogEntry(Struct, frozen=True, omit_defaults=True):
    """One line of the log, before anybody has formatted it.

    A Struct, for there are many: it is made in a sixth of the time that a frozen dataclass
    takes, and encoded without a step between.

    Attributes:
        time: UTC seconds since 1970.
        level: `debug`, `info`, `warning`, `error` or `critical`.
        source: Who says it: an address, or any text for code that is no daemon.
        text: The message, its arguments already filled in.
        fields: What a program would look for; values as in payloads.
        trace: A traceback as text, or empty.
    """

    time: float
    level: str
    source: str
    text: str
    fields: Mapping[str, object] = {}
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Event:
    """What every event says: when, and to whom."""

    time: float
    address: str


@dataclass(frozen=True, slots=True)
class DaemonSpawned(Event):
    """The daemon exists: it has an address, but has not started."""

    supervisor: str = ""


@dataclass(frozen=True, slots=True)
class DaemonStarted(Event):
    """The daemon is ready: `on_start` has returned. `took_s` is how long that was."""

    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DaemonStopped(Event):
    """The daemon ended in good order. `reason` is the reason's kind and text."""

    reason: str = "normal"


@dataclass(frozen=True, slots=True)
class DaemonCrashed(Event):
    """An exception that is no refusal left the daemon.

    Attributes:
        reason: The exception in one line.
        trace: The traceback as text.
        message: The type of the message in hand, if there was one.
    """

    reason: str = ""
    trace: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class DaemonRestarted(Event):
    """A new incarnation is ready. `restarts` counts them; `after_s` was the pause before it."""

    restarts: int = 1
    after_s: float = 0.0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class DaemonFailed(Event):
    """The supervisor has given the daemon up; it stays down until somebody starts it."""

    reason: str = ""
    restarts: int = 0


@dataclass(frozen=True, slots=True)
class DaemonSuspended(Event):
    """The daemon queues its messages and handles none but control messages."""


@dataclass(frozen=True, slots=True)
class DaemonResumed(Event):
    """The daemon handles its messages again."""


@dataclass(frozen=True, slots=True)
class RestartIntensityReached(Event):
    """The supervisor at `address` gave up: `restarts` within `period_s`."""

    restarts: int = 0
    period_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DeadLetter(Event):
    """A message that reached nobody; `address` is whom it was meant for.

    Attributes:
        sender: The address of the sender, as the node stamped it.
        type: The message type.
        payload: The payload, as it was sent.
        id: The message id.
        reason: One word: `unknown-daemon`, `not-running`, `stopped`, `mailbox-full`,
            `dropped-oldest`, `dropped-newest`, `expired`, `unknown-message`,
            `bad-payload`, `poison`, `crashed`, `killed`, `not-allowed`.
        text: What a reader should know beyond that word; often empty.
        sent: When it was sent, UTC seconds since 1970.
    """

    sender: str = ""
    type: str = ""
    payload: Mapping[str, object] = field(default_factory=dict)
    id: str = ""
    reason: str = ""
    text: str = ""
    sent: float = 0.0


@dataclass(frozen=True, slots=True)
class MailboxHigh(Event):
    """The mailbox rose to its high-water mark (`depth` of `limit`)."""

    depth: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class MailboxNormal(Event):
    """The mailbox that was high has fallen below half of its mark again."""

    depth: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class SlowStep(Event):
    """One step of a handler held the node for `took_s` seconds; `stack` shows where."""

    message: str = ""
    took_s: float = 0.0
    stack: str = ""


@dataclass(frozen=True, slots=True)
class StateRestored(Event):
    """The daemon has its state of `version` back."""

    version: int = 0


@dataclass(frozen=True, slots=True)
class SaveFailed(Event):
    """A state could not be saved; what was acknowledged before is still safe."""

    reason: str = ""


def event_form(event: Event) -> dict[str, object]:
    """Return the record as a plain map; `event` is its name in kebab-case.

    Example:
        `DaemonStarted(1.0, "d9://a/b/c")` gives
        `{"event": "daemon-started", "time": 1.0, "address": "d9://a/b/c", "took_s": 0.0}`.
    """
    form: dict[str, object] = {"event": kebab(type(event).__name__)}
    for each in fields(event):
        value = getattr(event, each.name)
        form[each.name] = dict(value) if isinstance(value, Mapping) else value
    return form
