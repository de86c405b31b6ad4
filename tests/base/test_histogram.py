"""The histogram against exact percentiles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dan9.base.histogram import Histogram

values = st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=200)


def filled(numbers: list[float]) -> Histogram:
    """Return a histogram of these."""
    histogram = Histogram()
    histogram.extend(numbers)
    return histogram


def test_nothing_counted_is_all_zero() -> None:
    """An empty histogram answers zero instead of failing."""
    histogram = Histogram()
    assert (histogram.count, histogram.mean, histogram.percentile(0.99)) == (0, 0.0, 0.0)
    assert histogram.buckets() == []


@given(values, st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_within_a_bucket(numbers: list[float], share: float) -> None:
    """A percentile is never below the exact one and at most a quarter above it."""
    exact = sorted(numbers)[max(0, -(-int(share * 1000) * len(numbers) // 1000) - 1)]
    found = filled(numbers).percentile(share)
    assert exact * 0.999 <= found <= max(exact * 1.2501, min(numbers))


@given(values, values)
def test_merging_is_counting_both(left: list[float], right: list[float]) -> None:
    """The merged histogram answers as one that had counted everything."""
    merged, both = filled(left), filled(left + right)
    merged.merge(filled(right))
    assert merged.count == both.count
    assert merged.buckets() == both.buckets()
    assert merged.percentile(0.9) == both.percentile(0.9)


def test_zero_and_negative_numbers_have_their_own_bucket() -> None:
    """They count, and come first."""
    histogram = filled([-2.0, 0.0, 1.0])
    assert histogram.buckets()[0] == (0.0, 2)
    assert histogram.percentile(0.5) == -2.0
    assert histogram.percentile(1.0) == 1.0


@given(values)
def test_buckets_rise_to_the_count(numbers: list[float]) -> None:
    """Bounds and cumulative counts both rise, the last is the count."""
    buckets = filled(numbers).buckets()
    assert buckets[-1][1] == len(numbers)
    assert buckets == sorted(buckets)
