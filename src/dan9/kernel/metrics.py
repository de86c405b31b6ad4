"""A daemon's own metrics: counters, gauges and histograms.

Inside a handler or a hook, `count("jobs")`, `gauge("queue-length", 7)` and
`observe("latency", 0.02)` belong to the daemon that runs. They are functions and no
methods, because every name on a daemon that is not reserved is its author's.

The kind is what the first use says, and does not change. All are shown by `metrics`, kept in
monitoring's history, exported to Prometheus as what they are, and saved beside the state.
"""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from dan9.base.errors import BadPayload, Conflict, Corrupt, NotSupported
from dan9.base.histogram import Histogram

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell, Cold

__all__ = [
    "DERIVED",
    "add",
    "count",
    "gauge",
    "kinds_of",
    "note",
    "observe",
    "own_of",
    "pack",
    "put",
    "unpack",
]

KERNELS: Final = frozenset(
    (
        *("handled", "refused", "failed", "restarts", "uptime", "busy", "up", "rate"),
        *("mailbox-depth", "mailbox-high", "handler-p50", "handler-p99"),
    )
)
"""Metrics that every daemon has, kept by the kernel and by monitoring."""

DERIVED: Final = ("p50", "p99", "sum", "total")
"""What a histogram is shown as: NAME-p50, NAME-p99, the sum of its values and their number."""


def count(name: str, by: float = 1) -> None:
    """Add to a counter of the running daemon. It starts at 0 and only rises.

    Raises:
        BadPayload: `by` is negative or no finite number, or the name is not to be had.
        Conflict: The metric is of another kind.
        NotSupported: No daemon runs here.
    """
    add(_running("count"), name, by)


def gauge(name: str, value: float) -> None:
    """Set a gauge of the running daemon: a number that rises and falls.

    Raises:
        BadPayload: The value is no finite number, or the name is not to be had.
        Conflict: The metric is of another kind.
        NotSupported: No daemon runs here.
    """
    note(_running("gauge"), name, value)


def observe(name: str, value: float) -> None:
    """Put a value into a histogram of the running daemon: how long, how large, how many.

    It is shown as `NAME-p50`, `NAME-p99`, `NAME-sum` and `NAME-total`, the number of values.
    Percentiles are known to within 13 % over any magnitude.

    Raises:
        BadPayload: The value is no finite number, or the name is not to be had.
        Conflict: The metric is of another kind.
        NotSupported: No daemon runs here.
    """
    cell = _running("observe")
    _check(cell, name, value)
    name = _claim(cell.chill(), name, "histogram")
    histograms = cell.chill().own_histograms
    if histograms is None:
        histograms = cell.chill().own_histograms = {}
    found = histograms.get(name)
    if found is None:
        found = histograms[name] = Histogram()
    found.add(float(value))


def _nobody() -> Cell | None:
    return None


find_cell: Callable[[], Cell | None] = _nobody
"""Says whose handler or hook runs here. The kernel sets it."""


def _running(call: str) -> Cell:
    cell = find_cell()
    if cell is None:
        raise NotSupported(
            f"{call}() was called where no daemon runs",
            hint="call it in a handler or a hook; from outside, tell the daemon set-metric",
        )
    return cell


# -- of a given daemon


def add(cell: Cell, name: str, by: float) -> None:
    """Add to a counter; see `count`."""
    _check(cell, name, by)
    if by < 0:
        raise BadPayload(
            f"{cell.address} counts {name!r} by {by!r}",
            hint="a counter only rises; what falls too is a gauge",
            at="by",
        )
    cold = cell.chill()
    name = _claim(cold, name, "counter")
    cold.own_metrics[name] = cold.own_metrics.get(name, 0) + by


def note(cell: Cell, name: str, value: float) -> None:
    """Set a gauge; see `gauge`."""
    _check(cell, name, value)
    cold = cell.chill()
    name = _claim(cold, name, "gauge")
    cold.own_metrics[name] = value


def put(cell: Cell, name: str, value: float) -> float:
    """Set a metric from outside: a gauge, or a counter that is set right. Returns the value.

    Raises:
        BadPayload: The name is the kernel's or a histogram's, the value no finite number.
    """
    _check(cell, name, value)
    cold = cell.chill()
    name = name.replace("_", "-")
    if _kinds(cold).get(name) == "histogram":
        raise BadPayload(
            f"{name!r} of {cell.address} is a histogram", hint="only observe() fills it", at="name"
        )
    if name not in _kinds(cold):
        _claim(cold, name, "gauge")
    cold.own_metrics[name] = value
    return value


def own_of(cold: Cold) -> dict[str, float]:
    """Return the metrics as numbers by name, histograms as what they are shown as."""
    found = dict(cold.own_metrics)
    for name, histogram in (cold.own_histograms or {}).items():
        found[f"{name}-p50"] = histogram.percentile(0.5)
        found[f"{name}-p99"] = histogram.percentile(0.99)
        found[f"{name}-sum"] = histogram.sum
        found[f"{name}-total"] = histogram.count
    return found


def kinds_of(cold: Cold) -> dict[str, str]:
    """Return the kind of each metric by name."""
    return {**dict.fromkeys(cold.own_metrics, "gauge"), **_kinds(cold)}


# -- beside the state


def pack(cold: Cold) -> bytes:
    """Return the metrics as msgpack; empty if there are none."""
    if not cold.own_metrics and not cold.own_histograms:
        return b""
    import msgspec

    form: dict[str, Any] = {"values": cold.own_metrics}
    counters = [name for name, kind in _kinds(cold).items() if kind == "counter"]
    if counters:
        form["counters"] = counters
    if cold.own_histograms:
        form["histograms"] = {name: each.form() for name, each in cold.own_histograms.items()}
    return msgspec.msgpack.encode(form)


def unpack(cell: Cell, data: bytes) -> None:
    """Take up the metrics that `pack` stored.

    Raises:
        Corrupt: The bytes are no such thing.
    """
    import msgspec

    try:
        form = msgspec.msgpack.decode(data)
        values = msgspec.convert(form["values"], dict[str, float])
        counters = msgspec.convert(form.get("counters", []), list[str])
        histograms = {
            str(name): Histogram.of_form(each)
            for name, each in dict(form.get("histograms", {})).items()
        }
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise Corrupt(
            f"the saved metrics of {cell.address}: {error}",
            hint="restore an older version, or version=none to start afresh",
        ) from None
    cold = cell.chill()
    cold.own_metrics = values
    cold.own_kinds = {
        **dict.fromkeys(values, "gauge"),
        **dict.fromkeys(counters, "counter"),
        **dict.fromkeys(histograms, "histogram"),
    }
    cold.own_histograms = histograms or None


# -- names and kinds


def _kinds(cold: Cold) -> dict[str, str]:
    if cold.own_kinds is None:
        cold.own_kinds = {}
    return cold.own_kinds


def _check(cell: Cell, name: object, value: object) -> None:
    if not isinstance(name, str) or not isinstance(value, (int, float)) or not isfinite(value):
        raise BadPayload(
            f"the metric {name!r} of {cell.address} cannot be {value!r}",
            hint="a name, and a finite number",
            at="value",
        )


def _claim(cold: Cold, name: str, kind: str) -> str:
    """Return the name as it is kept, after the first use of it has said what it is."""
    kinds = _kinds(cold)
    known = kinds.get(name)
    if known == kind:
        return name
    if known is None:
        name = name.replace("_", "-")
        known = kinds.get(name)
    if known is None:
        _check_name(kinds, name, kind)
        kinds[name] = kind
    elif known != kind:
        raise Conflict(
            f"the metric {name!r} is a {known}, not a {kind}",
            hint="the first use of a name says what it is; take another name",
        )
    return name


def _check_name(kinds: dict[str, str], name: str, kind: str) -> None:
    if not name or not name.isprintable() or " " in name:
        raise BadPayload(
            f"{name!r} is no name of a metric", hint="as jobs or queue-length", at="name"
        )
    if name in KERNELS:
        raise BadPayload(
            f"the kernel itself keeps the metric {name!r}", hint="take another name", at="name"
        )
    shown = {f"{name}-{part}" for part in DERIVED} if kind == "histogram" else set()
    base, _, part = name.rpartition("-")
    taken = shown & kinds.keys()
    if taken or (part in DERIVED and kinds.get(base) == "histogram"):
        raise Conflict(
            f"the metric {name!r} would be shown under the name of another one",
            hint=f"a histogram is shown as NAME-{', NAME-'.join(DERIVED)}",
        )
