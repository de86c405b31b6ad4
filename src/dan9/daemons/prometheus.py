"""Metrics in Prometheus's text format (version 0.0.4). Pure.

Names: `dan9_` and the metric's own, with what the format does not allow as `_`; counters
end in `_total`. Each sample carries the daemon's address taken apart (`type`, `group`,
`name`), so that a query can sum by any of them. All samples of one metric stand together
under its HELP and TYPE, as the format demands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isinf, isnan

from dan9.base.address import SCHEME
from dan9.base.histogram import Histogram
from dan9.kernel.metrics import DERIVED

__all__ = ["CONTENT_TYPE", "Exposition"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_NOT_ALLOWED = re.compile(r"[^a-zA-Z0-9_]")

HELP = {
    "handled": "Messages handled.",
    "refused": "Messages answered with a refusal.",
    "failed": "Messages whose handler crashed.",
    "restarts": "Restarts of the daemon.",
    "mailbox-depth": "Messages queued.",
    "mailbox-high": "Most messages ever queued at one time.",
    "busy": "Share of time in handlers.",
    "uptime": "Seconds since the daemon became ready.",
    "rate": "Messages handled in a second.",
    "handler-p50": "Median time in a handler, seconds.",
    "handler-p99": "Time in a handler that 99 of 100 stay under, seconds.",
    "up": "1 if the daemon is running.",
    "messages": "Messages handled, by type.",
}
_COUNTERS = frozenset({"handled", "refused", "failed", "restarts", "messages"})


class _Family:
    __slots__ = ("kind", "lines", "original")

    def __init__(self, kind: str, original: str) -> None:
        self.kind = kind
        self.original = original
        self.lines: list[str] = []


class Exposition:
    """Gathers samples, then gives the text.

    Two metrics whose names become the same in Prometheus, but differ in kind, are kept
    apart: the later one gets its kind as a suffix.
    """

    def __init__(self, prefix: str = "dan9") -> None:
        self._prefix = prefix
        self._families: dict[str, _Family] = {}
        self._kinds: dict[str, str] = {}  # a counter is known without its `_total`

    def add_daemon(
        self,
        address: str,
        metrics: Mapping[str, float],
        kinds: Mapping[str, str] | None = None,
        *,
        histograms: Mapping[str, Histogram] | None = None,
        is_up: bool = True,
    ) -> None:
        """Add all metrics of one daemon.

        `NAME-count` is the count of messages of a type. `kinds` says of own metrics
        whether they are a `counter`; others are gauges. A histogram comes with its buckets
        instead of what `metrics` makes of it.
        """
        made = {f"{name}-{part}" for name in histograms or () for part in DERIVED}
        labels = _labels(address)
        self.add("up", "gauge", labels, float(is_up))
        for name, histogram in (histograms or {}).items():
            self.add_histogram(name, labels, histogram)
        for metric, value in metrics.items():
            if metric in made:
                continue
            if metric.endswith("-count") and (kinds is None or metric not in kinds):
                message = metric.removesuffix("-count")
                self.add("messages", "counter", {**labels, "message": message}, value)
                continue
            kind = "counter" if metric in _COUNTERS else "gauge"
            if kinds is not None:
                kind = "counter" if kinds.get(metric, kind) == "counter" else "gauge"
            self.add(metric, kind, labels, value)

    def add(self, metric: str, kind: str, labels: Mapping[str, str], value: float) -> None:
        """Add one sample of a `counter` or `gauge`."""
        name, family = self._family(metric, kind)
        family.lines.append(f"{name}{_label_text(labels)} {_number(value)}\n")

    def add_histogram(self, metric: str, labels: Mapping[str, str], histogram: Histogram) -> None:
        """Add a histogram with its buckets, sum and count."""
        name, family = self._family(metric, "histogram")
        for bound, count in [*histogram.buckets(), (float("inf"), histogram.count)]:
            text = _label_text({**labels, "le": _number(bound)})
            family.lines.append(f"{name}_bucket{text} {count}\n")
        family.lines.append(f"{name}_sum{_label_text(labels)} {_number(histogram.sum)}\n")
        family.lines.append(f"{name}_count{_label_text(labels)} {histogram.count}\n")

    def text(self) -> str:
        """Return everything, families in the order of their names."""
        out: list[str] = []
        for name in sorted(self._families):
            family = self._families[name]
            meaning = HELP.get(family.original, f"The daemon's own metric {family.original}.")
            out.append(f"# HELP {name} {_help(meaning)}\n# TYPE {name} {family.kind}\n")
            out.extend(family.lines)
        return "".join(out)

    def _family(self, metric: str, kind: str) -> tuple[str, _Family]:
        base = f"{self._prefix}_{_NOT_ALLOWED.sub('_', metric)}"
        if kind == "counter":
            base = base.removesuffix("_total")
        elif base.endswith("_total"):  # only counters end so, and `a` may be one
            base = f"{base}_{kind}"
        while self._kinds.setdefault(base, kind) != kind:
            base = f"{base}_{kind}"
        name = f"{base}_total" if kind == "counter" else base
        family = self._families.get(name)
        if family is None:
            family = self._families[name] = _Family(kind, metric)
        return name, family


def _labels(address: str) -> dict[str, str]:
    parts = address.removeprefix(SCHEME).split("/")
    if address.startswith(SCHEME) and len(parts) == 3:
        return dict(zip(("type", "group", "name"), parts, strict=True))
    return {"name": address}


def _label_text(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{key}="{_label_value(value)}"' for key, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _label_value(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
