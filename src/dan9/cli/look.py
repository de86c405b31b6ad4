"""The verbs that look and change nothing. Each returns plain data as a daemon gave them."""

from __future__ import annotations

from collections.abc import Iterator
from shutil import get_terminal_size
from typing import TYPE_CHECKING, Any

from dan9.cli.session import NODE, Session

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = [
    "dashboard",
    "dead",
    "describe",
    "explain",
    "logs",
    "ls",
    "metrics",
    "ns",
    "ps",
    "status",
    "timers",
    "tree",
    "watch",
]

_LOGGING = "d9://logging/system/logging"
_TIMER = "d9://timer/system/timer"
_MONITORING = "d9://monitoring/system/monitoring"
_NAMESPACE = "d9://namespace/system/namespace"


def ps(session: Session, args: Namespace) -> Any:
    """List the daemons that fit."""
    return session.node("ps", pattern=args.pattern)


def tree(session: Session, args: Namespace) -> Any:  # noqa: ARG001  (every verb has both)
    """Nest the daemons under their supervisors."""
    return session.node("tree")


def status(session: Session, args: Namespace) -> Any:
    """Ask one daemon, or each that fits, for its status; the node itself if none is named."""
    return _one_or_several(session, args.pattern or NODE, "status")


def metrics(session: Session, args: Namespace) -> Any:
    """Ask one daemon, or each that fits, for its figures."""
    return _one_or_several(session, args.pattern, "metrics")


def describe(session: Session, args: Namespace) -> Any:
    """Ask a daemon what can be said to it."""
    return session.ask(args.address, "describe")


def explain(session: Session, args: Namespace) -> Any:
    """Ask the node what it knows of a daemon from outside."""
    return session.node("explain", address=args.address)


def dead(session: Session, args: Namespace) -> Any:
    """List the latest dead letters."""
    return session.node("dead", limit=args.limit)


def dashboard(session: Session, args: Namespace) -> Any:
    """Ask for the node and its busiest daemons as text, as wide as the terminal."""
    width = min(max(get_terminal_size((100, 24)).columns, 60), 200)
    return session.ask(
        _MONITORING,
        "dashboard",
        width=width,
        pattern=args.pattern,
        sort=args.sort,
        limit=args.limit,
    )


def timers(session: Session, args: Namespace) -> Any:  # noqa: ARG001  (every verb has both)
    """List scheduled tasks."""
    return session.ask(_TIMER, "list")


def logs(session: Session, args: Namespace) -> Any:
    """Return the latest entries, or with --follow those and what comes."""
    return _following(session, args) if args.follow else _latest(session, args)


def _latest(session: Session, args: Namespace) -> list[Any]:
    since = None
    if args.since is not None:
        import time

        from dan9.base.duration import parse_duration

        since = time.time() - parse_duration(args.since)
    entries: list[Any] = session.ask(
        _LOGGING,
        "display",
        level=args.level,
        source=args.source,
        limit=args.limit,
        since=since,
        contains=args.contains,
    )
    return entries


def _following(session: Session, args: Namespace) -> Iterator[Any]:
    # Followed first and shown after, so that nothing falls between the two; what came
    # meanwhile is in both, and told once.
    session.ask(_LOGGING, "follow", level=args.level, source=args.source)
    latest = _latest(session, args)
    yield from latest
    for event in session.client.events():
        entry = event.payload
        if entry not in latest and (
            args.contains is None or args.contains in str(entry.get("text", ""))
        ):
            yield entry


def watch(session: Session, args: Namespace) -> Iterator[Any]:
    """Yield messages and events as they pass."""
    for payload in session.stream(NODE, "watch", pattern=args.pattern):
        lost = {"dropped": payload["dropped"]} if payload.get("dropped") else {}
        yield {**payload["event"], **lost}


def ls(session: Session, args: Namespace) -> Any:
    """List a place in the namespace."""
    return session.ask(_NAMESPACE, "list", path=args.path)


def ns(session: Session, args: Namespace) -> Any:  # noqa: ARG001  (every verb has both)
    """Return the namespace as the commands that would build it."""
    return session.ask(_NAMESPACE, "ns")


def _one_or_several(session: Session, pattern: str, type_: str) -> Any:
    """One address gives its reply as it is; a pattern gives a list, each with its address."""
    rows = session.each(pattern, type_)
    if "*" not in pattern:
        return rows[0]["reply"]
    return [{"address": row["address"], **row["reply"]} for row in rows]
