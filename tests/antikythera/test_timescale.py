"""Time scales and conversions, exact; a subtree's clock."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from dan9 import Daemon, every
from dan9.antikythera import Gear, TimeScale, Train, convert, unit_s
from dan9.base.errors import BadPayload
from dan9.testing import run, system


@pytest.mark.parametrize(
    ("model", "real", "factor"),
    [("year", "day", 365), ("day", "hour", 24), ("hour", "minute", 60), ("week", "day", 7)],
)
def test_factors(model: str, real: str, factor: int) -> None:
    """A year in a day is 365 times as fast, and so on."""
    assert TimeScale(model, real).factor == factor


def test_there_and_back_is_exact() -> None:
    """What is converted both ways is what it was."""
    scale = TimeScale("years", "days")
    assert scale.to_real(3600) == Fraction(3600, 365)
    assert scale.to_model(scale.to_real(Fraction(1, 7))) == Fraction(1, 7)
    assert convert(1, "year", "hours") == 8760
    assert convert(Fraction(1, 2), "century", "decades") == 5
    assert unit_s("centuries") == unit_s("century")


def test_no_unit_no_scale() -> None:
    """Unknown units and scales of nothing are refused."""
    with pytest.raises(BadPayload, match="fortnight"):
        TimeScale("fortnight", "day")
    with pytest.raises(BadPayload, match="time scale of 0"):
        TimeScale("day", "hour", 0)


def test_a_gear_makes_a_scale() -> None:
    """A gear of 144 ticks of 100 ms whose turn is a day: 6,000 times as fast."""
    train = Train()
    train.add(Gear("day", 144))
    assert TimeScale.of_gear(train, "day", "day").factor == 6000


class Hourly(Daemon):
    """Counts its hours."""

    hours: list[float] = []

    @every("1h")
    def strike(self) -> None:
        self.hours.append(round(self.system.clock.monotonic(), 6))


def test_a_subtree_lives_on_a_scale() -> None:
    """On the scale of a day in an hour, an hourly message comes every 150 s."""

    async def main() -> None:
        async with system() as sim:
            clock = TimeScale("day", "hour").clock(sim.clock)
            ref = await sim.spawn(Hourly, "h", clock=clock)
            await asyncio.sleep(500)
            assert ref._d9_cell.instance.hours == [150.0, 300.0, 450.0]

    run(main)
