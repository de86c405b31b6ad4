"""A histogram of positive numbers in a handful of integers.

Prior art: HdrHistogram. Each power of two is divided into four buckets, so that any
percentile is known to within 13 % over every magnitude from nanoseconds to years,
and only buckets that were ever hit take room. That is what a person who asks "how
slow is it" needs; exact values would need them all to be kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import frexp, inf

__all__ = ["Histogram"]

_PARTS = 4


def _bound(index: int) -> float:
    """Return the upper end of a bucket."""
    exponent, part = divmod(index, _PARTS)
    return float((0.5 + (part + 1) / (2 * _PARTS)) * 2.0**exponent)


class Histogram:
    """Counts by magnitude, with the exact count, sum, least and greatest.

    Zero and negative numbers are counted in one bucket of their own below all others.
    """

    __slots__ = ("_counts", "_low", "count", "maximum", "minimum", "sum")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._low = 0
        self.count = 0
        self.sum = 0.0
        self.minimum = inf
        self.maximum = -inf

    def add(self, value: float) -> None:
        """Count one value."""
        self.count += 1
        self.sum += value
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)
        if value <= 0.0:
            self._low += 1
            return
        mantissa, exponent = frexp(value)
        index = exponent * _PARTS + int((mantissa - 0.5) * (2 * _PARTS))
        self._counts[index] = self._counts.get(index, 0) + 1

    def extend(self, values: Iterable[float]) -> None:
        """Count many."""
        for value in values:
            self.add(value)

    def merge(self, other: Histogram) -> None:
        """Take in all that the other has counted."""
        self.count += other.count
        self.sum += other.sum
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        self._low += other._low
        for index, count in other._counts.items():
            self._counts[index] = self._counts.get(index, 0) + count

    def form(self) -> list[object]:
        """Return everything as plain data; `of_form` takes it back."""
        counts = {str(index): count for index, count in self._counts.items()}
        return [self.sum, self.minimum, self.maximum, self._low, counts]

    @classmethod
    def of_form(cls, form: object) -> Histogram:
        """Return the histogram that `form` described.

        Raises:
            ValueError, TypeError: It is no such form.
        """
        if not isinstance(form, (list, tuple)) or len(form) != 5 or not isinstance(form[4], dict):
            raise ValueError("this is no histogram")
        found = cls()
        found.sum, found.minimum, found.maximum = (float(part) for part in form[:3])
        found._low = int(form[3])
        found._counts = {int(index): int(count) for index, count in form[4].items()}
        found.count = found._low + sum(found._counts.values())
        if found._low < 0 or any(count < 1 for count in found._counts.values()) or not found.count:
            raise ValueError("a histogram counts whole values")
        return found

    @property
    def mean(self) -> float:
        """The average, or 0.0 of nothing."""
        return self.sum / self.count if self.count else 0.0

    def percentile(self, share: float) -> float:
        """Return the value below which `share` (0 to 1) of the values lie; 0.0 of nothing.

        It is the upper end of the bucket, within the least and greatest value seen.
        """
        if not self.count:
            return 0.0
        wanted = share * self.count
        seen = self._low
        if seen >= wanted and seen:
            return min(self.minimum, 0.0)
        for index in sorted(self._counts):
            seen += self._counts[index]
            if seen >= wanted:
                return max(self.minimum, min(self.maximum, _bound(index)))
        return self.maximum

    def buckets(self) -> list[tuple[float, int]]:
        """Return (upper bound, values up to it), rising; without the one for infinity."""
        seen = self._low
        found = [(0.0, seen)] if seen else []
        for index in sorted(self._counts):
            seen += self._counts[index]
            found.append((_bound(index), seen))
        return found
