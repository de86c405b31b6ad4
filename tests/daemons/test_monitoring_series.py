"""History: what is kept, for how long, and that it comes back as it went in."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.daemons.series import Recent, Roster, Tier, pack, thin, unpack


def fed(recent: Recent, address: str, samples: list[tuple[float, dict[str, float]]]) -> Recent:
    """Add samples, each with the one before it."""
    before: dict[str, float] | None = None
    for when, metrics in samples:
        recent.add(address, when, metrics, before)
        before = metrics
    return recent


def test_samples_come_back_in_order_and_only_those_asked_for() -> None:
    """One metric, since a time; what never changed takes no room."""
    samples = [(float(s), {"handled": s * 2.0, "busy": 0.5}) for s in range(10)]
    recent = fed(Recent(span_s=100), "d", samples)
    assert recent.points("d", "handled", since=7) == [(7.0, 14.0), (8.0, 16.0), (9.0, 18.0)]
    assert recent.points("d", "busy", since=8, constant=0.5) == [(8.0, 0.5), (9.0, 0.5)]
    assert recent.points("d", "unknown") == []
    assert recent.points("other", "handled") == []
    assert recent.metrics("d") == ("handled",)
    assert recent.values == 20


def test_a_metric_that_appears_later_has_no_past() -> None:
    """Rows before it have no value for it, rows without it none either."""
    recent = fed(
        Recent(),
        "d",
        [
            (1.0, {"a": 1.0}),
            (2.0, {"a": 2.0, "b": 20.0}),
            (3.0, {"b": 30.0}),
            (4.0, {"b": 40.0, "a": 4.0}),
        ],
    )
    assert recent.points("d", "a") == [(1.0, 1.0), (2.0, 2.0), (4.0, 4.0)]
    assert recent.points("d", "b") == [(2.0, 20.0), (3.0, 30.0), (4.0, 40.0)]


def test_a_metric_that_begins_to_change_keeps_the_value_it_had() -> None:
    """And so does what never changed, once nobody else would know."""
    recent = fed(Recent(), "d", [(1.0, {"a": 5.0, "b": 7.0}), (2.0, {"a": 6.0, "b": 7.0})])
    assert recent.points("d", "a") == [(1.0, 5.0), (2.0, 6.0)]
    recent.keep("d", {"a": 6.0, "b": 7.0})
    assert recent.points("d", "b") == [(1.0, 7.0), (2.0, 7.0)]


def test_a_second_sample_of_one_moment_replaces_the_first() -> None:
    """Whoever asks often does not lengthen the history."""
    recent = fed(Recent(), "d", [(1.0, {"a": 1.0}), (2.0, {"a": 2.0}), (2.0, {"a": 3.0})])
    assert recent.points("d", "a") == [(1.0, 1.0), (2.0, 3.0)]


def test_old_rows_go_and_the_count_stays_right() -> None:
    """Neither a busy nor a silent daemon keeps more than the span."""
    recent = Recent(span_s=10)
    recent.add("silent", 0.0, {"a": 1.0})
    fed(recent, "busy", [(float(second), {"a": float(second)}) for second in range(1000)])
    assert len(recent.points("busy", "a")) <= 14
    recent.forget(before=990.0)
    assert len(recent) == 1
    assert recent.points("busy", "a")[0][0] == 990.0
    assert recent.values == 2 * len(recent.points("busy", "a"))


def test_memory_has_a_bound_whatever_comes() -> None:
    """Past the bound the longest track loses its older half."""
    recent = Recent(span_s=1e9, max_values=1000)
    for second in range(5000):
        now, before = float(second), float(second - 3)
        recent.add(f"d{second % 3}", now, {"a": now, "b": 2.0}, {"a": before, "b": 2.0})
    assert recent.values <= 1000
    assert recent.points("d0", "a")[-1][0] == 4998.0


@given(
    st.dictionaries(
        st.integers(0, 29), st.integers(-(2**52), 2**52).map(float), min_size=1, max_size=30
    )
)
def test_whole_numbers_survive_packing_exactly(points: dict[int, float]) -> None:
    """Counters of any size come back as they were."""
    assert unpack(pack(points, 30), 30) == points


@given(st.dictionaries(st.integers(0, 59), st.floats(width=32), min_size=1, max_size=60))
def test_floats_survive_packing_to_single_precision(points: dict[int, float]) -> None:
    """Gauges of any kind come back, infinities as the largest number."""
    back = unpack(pack(points, 60), 60)
    assert set(back) == set(points)
    for slot, value in points.items():
        single = struct.unpack("<f", struct.pack("<f", max(-3.4e38, min(3.4e38, value))))[0]
        assert back[slot] == single or value != value  # noqa: PLR0124 (not a number)


def test_counters_pack_into_about_two_bytes_a_point() -> None:
    """A full hour of a counter takes less than three bytes a point."""
    points = {slot: 1e6 + slot * 137 + slot % 7 for slot in range(60)}
    assert len(pack(points, 60)) < 3 * 60


@pytest.mark.parametrize(
    "blob", [b"", b"p", b"x123456", b"z1234junk", b"p\xff\xff\xff\xffi\x80", b"p\x03\0\0\0f12"]
)
def test_foreign_bytes_are_refused(blob: bytes) -> None:
    """Torn and foreign chunks are a ValueError, never wrong numbers."""
    with pytest.raises(ValueError):
        unpack(blob, 30)


def test_chunks_are_emitted_when_their_time_is_over() -> None:
    """Thirty steps of ten seconds make a chunk; flush emits the rest."""
    out: list[tuple[int, int, dict[int, float]]] = []
    tier = Tier(10, 30, lambda series, start, blob: out.append((series, start, unpack(blob, 30))))
    for when in range(0, 320, 10):
        tier.add(float(when), {1: float(when)} if when != 50 else {})
    assert [(series, start, len(points)) for series, start, points in out] == [(1, 0, 29)]
    assert tier.points(1) == [(300.0, 300.0), (310.0, 310.0)]
    tier.flush()
    assert out[-1] == (1, 300, {0: 300.0, 1: 310.0})
    assert len(tier) == 0


def test_past_the_limit_daemons_are_summed_by_group() -> None:
    """Nothing is left out of the totals, and a daemon that ends leaves its sum."""
    roster = Roster(limit=10, reserve=6)
    for number in range(50):
        group = "even" if number % 2 == 0 else "odd"
        list(roster.settle(f"d9://w/{group}/n{number}", {"handled": 10.0}))
    assert len(roster.ids) == 6
    even = roster.ids["d9://w/even/*", "handled"]
    assert dict(roster.settle("d9://w/even/n48", {"handled": 15.0})) == {even: 23 * 10.0 + 5}
    roster.gone("d9://w/even/n48")
    assert dict(roster.settle("d9://w/even/n46", {"handled": 10.0})) == {even: 220.0}


def test_the_roster_never_outgrows_its_limit_by_much() -> None:
    """A thousand groups end in one sum over everything."""
    roster = Roster(limit=20, reserve=5)
    for number in range(1000):
        list(roster.settle(f"d9://w/g{number}/n", {"handled": 1.0}))
    assert len(roster.ids) <= 21
    everything = roster.ids["d9://**", "handled"]
    assert dict(roster.settle("d9://w/g999/n", {"handled": 1.0})) == {everything: 980.0}


def test_series_of_an_earlier_run_keep_their_ids() -> None:
    """What is on disk goes on under its number."""
    roster = Roster()
    roster.load({("d9://a/b/c", "handled"): 7})
    assert list(roster.settle("d9://a/b/c", {"handled": 1.0, "failed": 0.0})) == [
        (7, 1.0),
        (8, 0.0),
    ]


@given(st.integers(0, 500), st.integers(1, 100))
def test_thinning_keeps_the_last_point(count: int, limit: int) -> None:
    """At most so many, rising, the last one among them."""
    points = [(float(index), 0.0) for index in range(count)]
    kept = thin(points, limit)
    assert len(kept) == min(count, limit)
    assert kept == sorted(set(kept))
    assert kept[-1:] == points[-1:]
