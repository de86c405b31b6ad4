"""The dashboard and the tables of monitoring, as text. Pure.

Columns are aligned and as wide as what is in them; the daemon's address gives way
first when there is no room. Colour only underlines what the words say already, and only
if it is asked for, so that a pipe gets plain text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dan9.base.address import SCHEME
from dan9.daemons.logfile import iso_time

__all__ = ["DaemonRow", "NodeFacts", "dashboard", "table"]

_COLOURS = {"bad": "\x1b[31m", "odd": "\x1b[33m", "head": "\x1b[1m", "dim": "\x1b[2m"}
_END = "\x1b[0m"
_STATE_COLOURS = {
    "failed": "bad",
    "stopping": "odd",
    "starting": "odd",
    "suspended": "odd",
    "stopped": "dim",
    "created": "dim",
}
_MIN_ADDRESS = 12
_HEAD = (
    "daemon", "state", "up", "handled", "rate/s", "queue", "busy", "p99", "failed", "restarts"
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DaemonRow:
    """What the dashboard says of one daemon."""

    address: str
    state: str
    uptime_s: float = 0.0
    handled: float = 0.0
    rate: float = 0.0
    mailbox: float = 0.0
    busy: float = 0.0
    p99_s: float = 0.0
    failed: float = 0.0
    restarts: float = 0.0


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the dashboard says of the node.

    Attributes:
        name: The system's name.
        time: UTC seconds since 1970.
        uptime_s: Seconds since the node's monitoring began.
        states: How many daemons are in each state.
        handled: Messages handled in all.
        rate: Messages handled in a second, in all.
        queued: Messages that wait, in all.
        dead_letters: Messages that reached nobody.
        alerts: One line for each alert that is firing.
    """

    name: str
    time: float
    uptime_s: float
    states: dict[str, int] = field(default_factory=dict)
    handled: float = 0.0
    rate: float = 0.0
    queued: float = 0.0
    dead_letters: int = 0
    alerts: Sequence[str] = ()


def dashboard(
    node: NodeFacts,
    rows: Sequence[DaemonRow],
    *,
    width: int = 100,
    color: bool = False,
    of: int | None = None,
) -> str:
    """Return the dashboard: the node in two lines, alerts, and a row for each daemon.

    `of` says how many daemons there were to choose from, if not all of the node.
    """
    total = sum(node.states.values())
    states = ", ".join(f"{count} {state}" for state, count in sorted(node.states.items()) if count)
    title = f"{node.name}  {iso_time(node.time)}  up {_span(node.uptime_s)}"
    counts = [
        f"{total} daemons ({states or 'none'})",
        f"{_number(node.handled)} handled",
        f"{_number(node.rate)}/s",
        f"{_number(node.queued)} queued",
        f"{node.dead_letters} dead letters",
    ]
    lines = [_painted(title, "head", color), "  ".join(counts)]
    lines += [_painted(f"ALERT  {text}", "bad", color) for text in node.alerts]
    lines.append("")
    body = [
        [
            row.address.removeprefix(SCHEME),
            row.state,
            _span(row.uptime_s),
            _number(row.handled),
            _number(row.rate),
            _number(row.mailbox),
            f"{row.busy * 100:.1f}%",
            _brief(row.p99_s),
            _number(row.failed),
            _number(row.restarts),
        ]
        for row in rows
    ]
    colours = [_STATE_COLOURS.get(row.state, "bad" if row.failed else "") for row in rows]
    lines += _aligned(_HEAD, body, width, color, colours, left=2)
    hidden = (total if of is None else of) - len(rows)
    if hidden > 0:
        lines.append(_painted(f"… and {hidden} more", "dim", color))
    return "\n".join(lines) + "\n"


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], *, width: int = 100, color: bool = False
) -> str:
    """Return rows under their heads: the first column to the left, the others to the right."""
    return "\n".join(_aligned(head, rows, width, color, [""] * len(rows), left=1)) + "\n"


def _aligned(
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int,
    color: bool,
    colours: Sequence[str],
    left: int,
) -> list[str]:
    """Align the columns; shorten the first so that a row fits into `width`."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    rest = sum(widths[1:])
    gaps = len(widths) - 1
    gap = 2 if rest + 2 * gaps + _MIN_ADDRESS <= width else 1
    widths[0] = max(_MIN_ADDRESS, min(widths[0], width - rest - gap * gaps))

    def line(cells: Sequence[str]) -> str:
        parts: list[str] = []
        for at, (cell, room) in enumerate(zip(cells, widths, strict=True)):
            text = cell if len(cell) <= room else "…" + cell[-(room - 1) :]
            parts.append(text.ljust(room) if at < left else text.rjust(room))
        return (" " * gap).join(parts).rstrip()

    painted = [_painted(line(head), "head", color)]
    for cells, colour in zip(rows, colours, strict=True):
        painted.append(_painted(line(cells), colour, color))
    return painted


def _painted(text: str, colour: str, color: bool) -> str:
    return f"{_COLOURS[colour]}{text}{_END}" if color and colour else text


def _span(seconds: float) -> str:
    """Return a duration in its two largest units: `3d 4h`, `5m 2s`, `12s`."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        if len(parts) == 2:
            break
    return " ".join(parts)


def _brief(seconds: float) -> str:
    """Return a short time with its unit: `12µs`, `3.4ms`, `1.2s`."""
    if seconds <= 0:
        return "-"
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds / 1e-9:.3g}ns"


def _number(value: float) -> str:
    """Return a count as one reads it: `7`, `0.5`, `12,345`, `1.2M`."""
    if abs(value) >= 1e6:
        for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6)):
            if abs(value) >= size:
                return f"{value / size:.1f}{unit}"
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 0.1 else f"{value:.2g}"
