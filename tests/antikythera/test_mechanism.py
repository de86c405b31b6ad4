"""The real mechanism: its dials come out of the teeth exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest

from dan9.antikythera.mechanism import (
    ANOMALISTIC,
    ARBORS,
    DIALS,
    MESHES,
    TEETH,
    pin_and_slot,
    rates,
)


@pytest.mark.parametrize("dial", DIALS)
def test_dials(dial: str) -> None:
    """Each dial turns what the mechanism's builders meant, as an exact fraction."""
    assert rates()[dial] == DIALS[dial]


def test_what_the_dials_count() -> None:
    """Five turns of the calendar are 235 months, four of the Saros 223, one Exeligmos 669."""
    turning = rates()
    months = turning["moon"] - turning["year"]
    assert months == Fraction(235, 19)
    assert abs(5 / turning["metonic"]) * months == 235
    assert abs(4 / turning["saros"]) * months == 223
    assert abs(1 / turning["exeligmos"]) * months == 669
    assert turning["moon"] + turning["carrier"] == ANOMALISTIC


def test_every_wheel_has_its_place() -> None:
    """Each wheel sits on one arbor, and each mesh is of two wheels there are."""
    wheels = [wheel for arbor in ARBORS.values() for wheel in arbor]
    assert sorted(wheels) == sorted(TEETH)
    assert {wheel for one, other, _ in MESHES for wheel in (one, other)} <= set(TEETH)


def test_pin_and_slot() -> None:
    """It leads and lags by asin(1.1/9.6), keeps the turns, and is even at both ends."""
    swing = [pin_and_slot(step / 1000) - step / 1000 for step in range(-20_000, 20_000)]
    assert max(swing) == pytest.approx(math.asin(1.1 / 9.6), abs=1e-6)
    assert min(swing) == pytest.approx(-math.asin(1.1 / 9.6), abs=1e-6)
    assert pin_and_slot(0.0) == 0.0
    assert pin_and_slot(7 * math.tau) == pytest.approx(7 * math.tau)
