"""What a contest found, as text, Markdown, JSON and a plot.

The plot is SVG written by hand: bars of ratios on a logarithmic scale need no library.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from benchmarks.contest import Ratio, Rounds
from benchmarks.harness import table

__all__ = ["Row", "markdown", "plot", "text", "write"]


@dataclass(frozen=True, slots=True)
class Row:
    """One goal and what was measured.

    Attributes:
        title: What was compared.
        measured: Median and quartiles; None if it could not be measured.
        must, aim: The goals; 0 for none.
        unit: What stands behind the figures; a times sign for ratios.
        is_bound: Less is better.
        note: What to know about it.
        ours, theirs: The rates behind a ratio, per CPU second unless `unit` says otherwise.
    """

    title: str
    measured: Ratio | None
    must: float = 0.0
    aim: float = 0.0
    unit: str = "×"
    is_bound: bool = False
    note: str = ""
    ours: float | None = None
    theirs: float | None = None

    @property
    def verdict(self) -> str:
        """`aim`, `must`, `MISSED`, or nothing where there is no goal or no figure."""
        if self.measured is None or not (self.must or self.aim):
            return ""
        reached = self.measured.median
        for word, goal in (("aim", self.aim), ("must", self.must)):
            if goal and (reached <= goal if self.is_bound else reached >= goal):
                return word
        return "MISSED"


LEGEND = "times the peer, per CPU second, logarithmic; line: must, dashed: aim"
HEADS = ("against", "measured", "quartiles", "must", "aim", "verdict", "ours", "theirs")


def number(value: float | None, unit: str = "") -> str:
    """Set a figure with three digits that matter."""
    if value is None:
        return ""
    if value == 0:
        return ""
    if abs(value) >= 1e6 and unit != "B":
        return f"{value / 1e6:.3g} M{unit}"
    if abs(value) >= 1e4 and unit != "B":
        return f"{value / 1e3:.3g} k{unit}"
    return f"{value:.3g}{unit}" if abs(value) < 100 else f"{value:.0f}{unit}"


def cells(row: Row) -> list[str]:
    """Return the row's cells."""
    found = row.measured
    sign = "≤ " if row.is_bound else "≥ "
    return [
        row.title,
        number(found.median, row.unit) if found else f"not measured{row.note and ': '}{row.note}",
        f"{number(found.low)}–{number(found.high)}" if found else "",
        sign + number(row.must, row.unit) if row.must else "",
        sign + number(row.aim, row.unit) if row.aim else "",
        row.verdict,
        number(row.ours),
        number(row.theirs),
    ]


def text(rows: Sequence[Row]) -> str:
    """Return the table in plain text."""
    return table(HEADS, [cells(row) for row in rows])


def markdown(rows: Sequence[Row]) -> str:
    """Return the table in Markdown."""
    lines = [list(HEADS), ["---", *["---:"] * (len(HEADS) - 1)], *map(cells, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def plot(title: str, rows: Sequence[Row]) -> str:
    """Return an SVG: a bar for each ratio, whiskers for its quartiles, ticks for its goals."""
    shown = [row for row in rows if row.measured is not None and row.unit == "×"]
    left, width, line, top = 330, 520, 24, 56
    low = math.log10(min([0.5, *(row.measured.low for row in shown if row.measured)]))
    high = math.log10(max([10.0, *(row.measured.high for row in shown if row.measured)]) * 1.1)
    height = top + line * len(shown) + 40

    def x(ratio: float) -> float:
        return left + width * (math.log10(max(ratio, 1e-6)) - low) / (high - low)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 90} {height}">',
        '<g font-family="sans-serif" font-size="12">',
        f"<title>{escape(title)}</title>",
        f'<text x="12" y="22" font-size="15">{escape(title)}</text>',
        f'<text x="12" y="40" fill="#555">{LEGEND}</text>',
    ]
    bottom = top + line * len(shown)
    for decade in range(math.floor(low), math.ceil(high) + 1):
        for step in (1, 2, 5):
            value = step * 10.0**decade
            if not low <= math.log10(value) <= high:
                continue
            stroke = "#333" if value == 1 else "#ddd"
            at = f"{x(value):.1f}"
            out += [
                f'<path d="M{at} {top - 4}V{bottom}" stroke="{stroke}"/>',
                f'<text x="{at}" y="{bottom + 16}" text-anchor="middle">{value:g}×</text>',
            ]
    for index, row in enumerate(shown):
        assert row.measured is not None
        y = top + line * index
        colour = {"MISSED": "#c0504d", "must": "#7a9cc6", "aim": "#4f81bd"}.get(row.verdict, "#aaa")
        start, end = sorted((x(1.0), x(row.measured.median)))
        whisker = f"M{x(row.measured.low):.1f} {y + 10}H{x(row.measured.high):.1f}"
        out += [
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{escape(row.title)}</text>',
            f'<path d="M{start:.1f} {y + 10}H{end:.1f}" stroke="{colour}" stroke-width="15"/>',
            f'<path d="{whisker}" stroke="#222"/>',
            f'<text x="{left + width + 8}" y="{y + 14}">{number(row.measured.median, "×")}</text>',
        ]
        for goal, dash in ((row.must, ""), (row.aim, ' stroke-dasharray="3 2"')):
            if goal:
                out.append(
                    f'<path d="M{x(goal):.1f} {y}V{y + line - 3}" stroke="#000" '
                    f'stroke-width="2"{dash}/>'
                )
    out.append("</g></svg>")
    return "\n".join(out) + "\n"


def write(
    name: str, title: str, rows: Sequence[Row], rounds: Sequence[Rounds], folder: Path
) -> None:
    """Keep the table, every single run and the plot as NAME.md, NAME.json and NAME.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(markdown(rows), "utf-8")
    (folder / f"{name}.svg").write_text(plot(title, rows), "utf-8")
    document: dict[str, Any] = {
        "title": title,
        "python": sys.version,
        "machine": f"{platform.platform()}, {os.cpu_count()} cores",
        "rows": [{**dataclasses.asdict(row), "verdict": row.verdict} for row in rows],
        "workloads": {found.workload.name: found.runs for found in rounds},
    }
    (folder / f"{name}.json").write_text(json.dumps(document, indent=1), "utf-8")
