"""History: what is kept, for how long, and that it comes back as it went in."""

from __future__ import annotations

import struct
from math import sin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.daemons.series import Recent, Roster, Tier, pack, thin, unpack


def fed(recent: Recent, address: str, samples: list[tuple[float, dict[str, float]]]) -> Recent:
    """Add samples."""
    for when, metrics in samples:
        recent.add(address, when, tuple(metrics), list(metrics.values()))
    return recent


def test_samples_come_back_in_order() -> None:
    """Every metric of every sample, exactly, of this daemon only."""
    samples = [(float(s), {"handled": s * 2.0, "busy": 0.1 * s}) for s in range(10)]
    recent = fed(fed(Recent(span_s=100), "d", samples), "e", samples[9:])
    assert list(recent.rows("d")) == samples
    assert list(recent.rows("e")) == samples[9:]
    assert list(recent.rows("other")) == []
    assert ("d" in recent, "e" in recent, "other" in recent) == (True, True, False)


def test_daemons_with_other_metrics_share_a_block() -> None:
    """Each gets its own names back, however they come and go."""
    recent = Recent(step_s=10)
    for number in range(30):
        names = {f"m{index}": float(index) for index in range(number % 4)}
        fed(recent, f"d{number}", [(1.0 + number / 100, names)])
    fed(recent, "later", [(100.0, {"a": 1.0})])  # the block is packed now
    for number in range(30):
        [(when, found)] = recent.rows(f"d{number}")
        assert when == 1.0 + number / 100
        assert found == {f"m{index}": float(index) for index in range(number % 4)}


def test_who_asks_often_does_not_lengthen_the_history() -> None:
    """Within a step the later sample replaces the earlier one."""
    recent = fed(Recent(step_s=0.5), "d", [(1.0 + n / 100, {"a": float(n)}) for n in range(100)])
    assert [values["a"] for _, values in recent.rows("d")] == [49.0, 99.0]


def test_a_clock_that_is_set_back_begins_a_new_block() -> None:
    """Nothing is replaced by it."""
    recent = fed(Recent(), "d", [(100.0, {"a": 1.0}), (50.0, {"a": 2.0}), (51.0, {"a": 3.0})])
    assert [values["a"] for _, values in recent.rows("d")] == [1.0, 2.0, 3.0]


def test_old_rows_go() -> None:
    """Neither a busy nor a silent daemon keeps more than the span; nothing is left over."""
    recent = Recent(span_s=10)
    fed(recent, "silent", [(0.0, {"a": 1.0})])
    fed(recent, "busy", [(float(second), {"a": float(second)}) for second in range(1000)])
    assert "silent" not in recent
    assert [when for when, _ in recent.rows("busy")] == [float(s) for s in range(988, 1000)]
    recent.forget(before=1e9)
    assert recent.bytes == 0


def test_memory_has_a_bound_whatever_comes() -> None:
    """Past it the oldest go, and the newest are there."""
    recent = Recent(span_s=1e9, max_bytes=20_000)
    for second in range(500):
        for number in range(20):
            fed(
                recent,
                f"d{second * 20 + number}",
                [(float(second), {"a": sin(second * 20 + number)})],
            )
        assert recent.bytes <= 20_000
    assert "d9999" in recent
    assert "d0" not in recent
    assert recent.bytes > 15_000


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


def named(number: int, group: str = "g") -> str:
    """Return an address."""
    return f"d9://w/{group}/n{number}"


def test_past_the_limit_daemons_are_in_the_sums_of_their_group() -> None:
    """A place of its own for the first, one sum for all others of a group."""
    roster = Roster(limit=20, reserve=10)
    sums = [roster.place(named(n, "even" if n % 2 == 0 else "odd"), ["handled"]) for n in range(50)]
    assert sums[:10] == [None] * 10
    assert (sums[10] is sums[12], sums[11] is sums[13], sums[10] is sums[11]) == (True, True, False)
    assert list(roster.sums) == ["d9://w/even/*", "d9://w/odd/*"]
    assert roster.summed == 40
    roster.gone(named(49, "odd"))
    assert roster.summed == 39


@pytest.mark.parametrize("metrics", [1, 3, 40])
def test_the_roster_never_outgrows_its_limit(metrics: int) -> None:
    """A thousand groups end in one sum over everything; metrics that have no place are not kept."""
    roster = Roster(limit=60, reserve=20)
    names = [f"m{index}" for index in range(metrics)]
    for number in range(1000):
        address = named(number, f"g{number}")
        sums = roster.place(address, names)
        for group in [address] if sums is None else roster.sums:
            for name in names:
                roster.series(group, name)
    assert len(roster.ids) <= 60
    assert "d9://**" in roster.sums
    assert ("d9://**", "m0") in roster.ids


def test_who_is_there_to_stay_takes_the_place_of_who_is_gone_longest() -> None:
    """Who has only just come does not; who comes back finds his series again."""
    roster = Roster(limit=12, reserve=2)
    for number in range(10):
        assert roster.place(named(number), ["handled"]) is None
    kept = roster.ids[named(3), "handled"]
    roster.gone(named(4))
    roster.gone(named(3))
    assert roster.place(named(10), ["handled"]) is not None
    assert roster.settle(named(10), ["handled"])
    assert roster.place(named(3), ["handled"]) is None
    assert roster.ids[named(3), "handled"] == kept
    assert (named(4), "handled") not in roster.ids
    assert roster.given_up == [5]
    assert roster.ids[named(10), "handled"] == 11
    assert not roster.settle(named(11), ["handled"])


def test_series_of_an_earlier_run_keep_their_ids() -> None:
    """What is on disk goes on under its number, and no number is used again."""
    roster = Roster()
    roster.load({("d9://a/b/c", "handled"): 7}, 20)
    assert roster.place("d9://a/b/c", ["handled", "failed"]) is None
    assert roster.series("d9://a/b/c", "handled") == 7
    assert roster.series("d9://a/b/c", "failed") == 20
    assert roster.fresh == [(20, "d9://a/b/c", "failed")]


@given(st.integers(0, 500), st.integers(1, 100))
def test_thinning_keeps_the_last_point(count: int, limit: int) -> None:
    """At most so many, rising, the last one among them."""
    points = [(float(index), 0.0) for index in range(count)]
    kept = thin(points, limit)
    assert len(kept) == min(count, limit)
    assert kept == sorted(set(kept))
    assert kept[-1:] == points[-1:]
