"""What the benchmarks make of their figures."""

import xml.etree.ElementTree as ET

import pytest

from benchmarks.contest import Ratio, Rounds, Workload, quartiles
from benchmarks.report import Row, markdown, number, plot, text


def rounds(**rates: list[float]) -> Rounds:
    """Runs of a second each with so many operations."""
    found = Rounds(Workload("w", "work", dict.fromkeys(rates, 1)))
    for name, values in rates.items():
        found.runs[name] = [
            {"operations": value, "cpu_s": 1.0, "wall_s": 2.0, "bytes_each": value}
            for value in values
        ]
    return found


def test_a_ratio_is_taken_within_each_round():
    """A round in which both were slow counts as much as one in which both were fast."""
    ratio = rounds(ours=[300.0, 30.0, 3.0], peer=[100.0, 10.0, 1.0]).ratio("ours", "peer")
    assert ratio == Ratio(3.0, 3.0, 3.0)


def test_who_did_not_run_has_no_ratio():
    """A peer that is not installed leaves the row without a figure."""
    found = rounds(ours=[1.0])
    assert found.ratio("ours", "peer") is None
    assert found.rate("peer") is None
    assert found.value("peer", "bytes_each") is None


def test_rates_are_by_cpu_second_unless_wall_is_asked_for():
    """The two figures of a run are not mixed up."""
    found = rounds(ours=[10.0])
    assert (found.rate("ours"), found.rate("ours", "wall_s")) == (10.0, 5.0)


def test_quartiles_lie_within_what_was_measured():
    """No quartile is better than the best round."""
    assert quartiles([1.0, 2.0]) == Ratio(1.5, 1.25, 1.75)
    assert quartiles([]) is None


@pytest.mark.parametrize(
    ("median", "is_bound", "verdict"),
    [
        (3.0, False, "aim"),
        (2.0, False, "aim"),
        (1.5, False, "must"),
        (0.9, False, "MISSED"),
        (0.9, True, "aim"),
        (1.0, True, "aim"),
        (2.5, True, "MISSED"),
    ],
)
def test_a_verdict_knows_which_side_is_good(median, is_bound, verdict):
    """A ratio is to be large, a bound small; the goal itself is reached."""
    must, aim = (2.0, 1.0) if is_bound else (1.0, 2.0)
    row = Row("r", Ratio(median, median, median), must, aim, is_bound=is_bound)
    assert row.verdict == verdict


def test_a_row_without_figure_or_goal_has_no_verdict():
    """What was skipped is neither reached nor missed, and says why."""
    skipped = Row("r", None, 1.0, note="pykka is not installed")
    assert not skipped.verdict
    assert not Row("r", Ratio(1, 1, 1)).verdict
    assert "not measured: pykka is not installed" in text([skipped])


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (1.234, "1.23"), (123.4, "123"), (12_345.0, "12.3 k"), (2_500_000.0, "2.5 M")],
)
def test_figures_have_three_digits(value, shown):
    """More would be noise."""
    assert number(value) == shown


def test_the_plot_is_well_formed_and_names_every_ratio():
    """A title with signs of XML in it does no harm."""
    rows = [
        Row("a < b & c", Ratio(1.5, 1.2, 1.9), 1.3, 1.7),
        Row("bytes", Ratio(300, 290, 310), 384, unit="B", is_bound=True),
    ]
    drawing = ET.fromstring(plot("t & t", rows))
    labels = [node.text for node in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert "a < b & c" in labels
    assert "bytes" not in labels
    assert markdown(rows).count("\n") == 4
