"""The dashboard as text: aligned, within its width, plain unless colour is asked for."""

from __future__ import annotations

import re

import pytest

from dan9.daemons.dashboard import DaemonRow, NodeFacts, _brief, _number, _span, dashboard, table

ROWS = [
    DaemonRow("d9://worker/demo/w1", "running", 90061, 1_234_567, 1200, 3, 0.5, 0.0031, 0, 1),
    DaemonRow("d9://worker/demo/a-rather-long-name-for-a-worker", "failed", 5, 7, failed=2),
]
NODE = NodeFacts(
    "home",
    1_735_689_600.0,
    3725,
    {"running": 1, "failed": 1},
    1_234_574,
    1200,
    3,
    4,
    ["rate of w1 above 1000 for 30s"],
)


def test_the_dashboard_shows_node_alerts_and_daemons() -> None:
    """Every fact has its place, columns are aligned."""
    assert dashboard(NODE, ROWS, width=100).splitlines() == [
        "home  2025-01-01T00:00:00.000Z  up 1h 2m",
        "2 daemons (1 failed, 1 running)  1.2M handled  1,200/s  3 queued  4 dead letters",
        "ALERT  rate of w1 above 1000 for 30s",
        "",
        f"{'daemon':28}  state       up  handled  rate/s  queue   busy    p99  failed  restarts",
        f"{'worker/demo/w1':28}  running  1d 1h     1.2M   1,200      3  50.0%  3.1ms       0         1",  # noqa: E501
        "…ther-long-name-for-a-worker  failed      5s        7       0      0   0.0%      -       2         0",  # noqa: E501
    ]


@pytest.mark.parametrize("width", [80, 100, 200])
def test_rows_stay_within_the_width(width: int) -> None:
    """The address gives way first, from its left end."""
    for line in dashboard(NODE, ROWS, width=width).splitlines()[4:]:
        assert len(line) <= width
    assert "long-name-for-a-worker" in dashboard(NODE, ROWS, width=100)


def test_plain_text_has_no_escape_and_colour_changes_no_word() -> None:
    """What a terminal shows in colour a pipe shows in the same words."""
    plain = dashboard(NODE, ROWS)
    coloured = dashboard(NODE, ROWS, color=True)
    assert "\x1b" not in plain
    assert "\x1b[31m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == plain


def test_daemons_that_are_not_shown_are_counted() -> None:
    """A node of thousands says how many are left out."""
    node = NodeFacts("big", 0.0, 0.0, {"running": 1000})
    assert dashboard(node, ROWS).endswith("… and 998 more\n")


def test_a_node_without_daemons_has_a_dashboard() -> None:
    """Heads without rows."""
    assert "0 daemons (none)" in dashboard(NodeFacts("empty", 0.0, 0.0), [])


def test_a_table_aligns_numbers_to_the_right() -> None:
    """The first column to the left."""
    assert table(["daemon", "value"], [["a", "1"], ["bb", "1,000"]]) == (
        "daemon        value\na                 1\nbb            1,000\n"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (61, "1m 1s"), (3600, "1h"), (90000, "1d 1h")]
)
def test_spans_have_two_units(seconds: float, text: str) -> None:
    """The two largest."""
    assert _span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "-"), (2e-9, "2ns"), (1.25e-5, "12.5µs"), (0.0034, "3.4ms"), (2, "2s")],
)
def test_short_times_have_their_unit(seconds: float, text: str) -> None:
    """Three digits are enough."""
    assert _brief(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (12345, "12,345"), (0.5, "0.5"), (0.01, "0.01"), (2.5e6, "2.5M"), (-3e9, "-3.0G")],
)
def test_numbers_are_short(value: float, text: str) -> None:
    """Thousands have commas, millions a letter."""
    assert _number(value) == text
