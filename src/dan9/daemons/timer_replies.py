"""What the timer replies, key by key."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

__all__ = ["TaskRow", "TimerFigures"]


class TaskRow(TypedDict):
    """One task in the reply of `list`; times are UTC seconds since 1970."""

    task_id: str
    kind: str
    target: str
    type: str
    payload: dict[str, Any]
    next: float
    number: int
    fired: int
    lost: int
    missed: str
    created: float
    interval: NotRequired[float]
    expression: NotRequired[str]
    timezone: NotRequired[str]
    jitter: NotRequired[float]
    state: NotRequired[str]
    trouble: NotRequired[str]


class TimerFigures(TypedDict):
    """Reply of `stats`: counts, when the next firing is, seconds that firings were late."""

    active: int
    scheduled: int
    fired: int
    cancelled: int
    missed: int
    undeliverable: int
    next: float | None
    late_p50: float
    late_p99: float
