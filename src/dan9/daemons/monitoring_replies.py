"""What monitoring replies, key by key."""

from __future__ import annotations

from typing import Any, TypedDict

__all__ = ["AggregateRow", "AlertRow", "NodeRow", "Served", "Snapshot"]


class NodeRow(TypedDict):
    """The node in the reply of `snapshot`."""

    name: str
    uptime: float
    daemons: int
    states: dict[str, int]
    handled: float
    rate: float
    queued: float
    dead_letters: int
    alerts: list[str]


class Snapshot(TypedDict):
    """Reply of `snapshot`: state and metrics of each daemon by address."""

    time: float
    node: NodeRow
    daemons: dict[str, dict[str, Any]]
    omitted: int


class AggregateRow(TypedDict):
    """Reply of `aggregate`; None where there is no value."""

    count: int
    sum: float
    average: float | None
    min: float | None
    max: float | None
    p50: float | None
    p95: float | None
    p99: float | None


# `for` is a key, and a keyword of Python.
AlertRow = TypedDict(
    "AlertRow",
    {
        "alert_id": str,
        "metric": str,
        "daemon": str,
        "above": float | None,
        "below": float | None,
        "clear": float | None,
        "for": float,
        "target": str,
        "type": str,
        "states": dict[str, str],
    },
)
"""One alert in the reply of `alerts`; `states` has a phase for each daemon concerned."""


class Served(TypedDict):
    """Reply of `serve`."""

    host: str
    port: int
    url: str
