"""The Prometheus text, read back by prometheus_client's own parser."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from dan9.base.histogram import Histogram
from dan9.daemons.prometheus import Exposition


def parsed(
    exposition: Exposition,
) -> dict[str, tuple[str, list[tuple[str, dict[str, str], float]]]]:
    """Return family → (kind, samples)."""
    return {
        family.name: (
            family.type,
            [(sample.name, sample.labels, sample.value) for sample in family.samples],
        )
        for family in text_string_to_metric_families(exposition.text())
    }


def test_a_daemon_s_metrics_are_read_back() -> None:
    """Counters, gauges, messages by type and up, with the address as labels."""
    exposition = Exposition()
    exposition.add_daemon(
        "d9://filesystem/system/fs",
        {"handled": 5, "read-count": 3, "busy": 0.25, "bytes-read": 10.0},
        {"bytes-read": "counter"},
    )
    exposition.add_daemon("d9://worker/demo/w", {"handled": 7}, is_up=False)
    found = parsed(exposition)
    fs = {"type": "filesystem", "group": "system", "name": "fs"}
    worker = {"type": "worker", "group": "demo", "name": "w"}
    assert found["dan9_handled"] == (
        "counter",
        [("dan9_handled_total", fs, 5.0), ("dan9_handled_total", worker, 7.0)],
    )
    assert found["dan9_messages"][1] == [("dan9_messages_total", {**fs, "message": "read"}, 3.0)]
    assert found["dan9_busy"] == ("gauge", [("dan9_busy", fs, 0.25)])
    assert found["dan9_bytes_read"][0] == "counter"
    assert [value for _, _, value in found["dan9_up"][1]] == [1.0, 0.0]


def test_a_gauge_that_is_called_total_is_no_counter() -> None:
    """Its name would be that of a counter beside it."""
    exposition = Exposition()
    exposition.add_daemon("x", {"a": 1.0, "a-total": 2.0}, {"a": "counter"})
    found = parsed(exposition)
    assert found["dan9_a"] == ("counter", [("dan9_a_total", {"name": "x"}, 1.0)])
    assert found["dan9_a_total_gauge"][0] == "gauge"


def test_a_histogram_has_rising_buckets_that_end_at_infinity() -> None:
    """As the format demands: le, sum and count agree."""
    histogram = Histogram()
    histogram.extend([0.001, 0.002, 0.5])
    exposition = Exposition()
    exposition.add_histogram("handler-seconds", {"name": "x"}, histogram)
    kind, samples = parsed(exposition)["dan9_handler_seconds"]
    assert kind == "histogram"
    counts = [value for name, _, value in samples if name.endswith("_bucket")]
    assert counts == sorted(counts)
    assert counts[-1] == 3.0
    assert samples[-1][2] == 3.0


def test_an_empty_exposition_is_an_empty_text() -> None:
    """Nothing to say is valid too."""
    assert Exposition().text() == ""


@given(
    st.dictionaries(st.text(min_size=1, max_size=12), st.floats(), min_size=1, max_size=8),
    st.dictionaries(st.text(min_size=1, max_size=12), st.sampled_from(["counter", "gauge"])),
    st.text(max_size=10),
)
def test_whatever_the_names_the_parser_accepts_it(
    metrics: dict[str, float], kinds: dict[str, str], name: str
) -> None:
    """Any metric name, value and label makes a text with one sample for each metric."""
    exposition = Exposition()
    exposition.add_daemon(name, metrics, kinds)
    samples = [s for _, found in parsed(exposition).values() for s in found]
    assert len(samples) == len(metrics) + 1
    assert all(labels["name"] == name for _, labels, _ in samples)
