"""The clockwork device: gears that turn exactly, however many ticks."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.antikythera.gear import GearRecord
from dan9.base.errors import BadPayload, Conflict, Exists, NotFound
from dan9.devices.clockwork import ClockworkDevice
from dan9.testing import run, system


def with_clockwork(test):
    """Run `test(system, clockwork)`."""

    async def main():
        async with system() as world:
            await test(world, await world.spawn(ClockworkDevice, "c1"))

    run(main)


def test_a_clock_of_three_gears_carries():
    """Seconds drive minutes drive hours; each tells how often it came round."""

    async def test(world, clock):
        await clock.add_gear("minute", 60)
        await clock.add_gear("hour", 60, "minute")
        assert await clock.add_gear("day", 24, "hour") == 3
        assert await clock.tick() == {"minute": 0, "hour": 0, "day": 0}
        assert await clock.tick(59) == {"minute": 1, "hour": 0, "day": 0}
        assert await clock.tick(86_400 - 60) == {"minute": 1439, "hour": 24, "day": 1}
        assert await clock.tick(10**15) == {
            "minute": 10**15 // 60,
            "hour": 10**15 // 3600,
            "day": 10**15 // 86_400,
        }
        status = await world.ask("c1", "status")
        assert (status["ticks"], status["gears"]) == (86_400 + 10**15, 3)

    with_clockwork(test)


def test_fractions_and_backward_gears_stand_where_they_should():
    """The Moon under the year turns 254/19 times, and a negative ratio turns it back."""

    async def test(world, clock):
        await clock.add_gear("year", 365)
        await clock.add_gear("moon", Fraction(19, 254), "year")
        await clock.add_gear("back", -4, "year")
        await clock.tick(365)
        year, moon, back = await clock.read()
        assert year["turns"] == 1
        assert moon["turns"] == Fraction(254, 19)
        assert back["angle_deg"] == 270.0
        said = await world.ask("c1", "read")
        assert said[1]["turns"] in {Fraction(254, 19), "254/19"}

    with_clockwork(test)


def test_a_gear_begins_where_it_is_added():
    """A gear that is added later starts at rest."""

    async def test(world, clock):
        await clock.tick(30)
        await clock.add_gear("minute", 60)
        assert await clock.tick(59) == {"minute": 0}
        assert await clock.tick() == {"minute": 1}

    with_clockwork(test)


def test_gears_that_cannot_be_are_refused():
    """Ratios of nothing, names twice, parents and ticks that are not: refused by name."""

    async def test(world, clock):
        await clock.add_gear("a", 2)
        await clock.add_gear("b", "1/3", "a")
        for keys, error in (
            ({"name": "a", "ratio": 2}, Exists),
            ({"name": "", "ratio": 2}, BadPayload),
            ({"name": "c", "ratio": 0}, BadPayload),
            ({"name": "c", "ratio": "x"}, BadPayload),
            ({"name": "c", "ratio": "1/0"}, BadPayload),
            ({"name": "c", "ratio": 1, "parent": "z"}, NotFound),
        ):
            with pytest.raises(error):
                await world.ask("c1", "add-gear", payload=keys)
        with pytest.raises(BadPayload):
            await clock.tick(-1)
        with pytest.raises(Conflict, match="drives b"):
            await clock.remove_gear("a")
        assert await clock.remove_gear("b") == 1
        with pytest.raises(NotFound):
            await clock.remove_gear("b")

    with_clockwork(test)


def test_gears_are_state():
    """A checkpoint that is restored puts gears and ticks back where they were."""

    async def test(world, clock):
        await clock.add_gear("minute", 60)
        await clock.tick(90)
        again = await world.spawn(ClockworkDevice, "c2", gears=clock_state, ticks=90)
        assert (await again.read())[0]["turns"] == Fraction(3, 2)
        assert await again.tick(30) == {"minute": 1}

    clock_state = {"minute": GearRecord("minute", Fraction(60))}
    with_clockwork(test)


@given(
    st.lists(st.fractions(min_value=Fraction(1, 9), max_value=9), min_size=1, max_size=5),
    st.lists(st.integers(0, 10**6), min_size=1, max_size=6),
)
def test_ticks_add_up(ratios, steps):
    """Ticked in any pieces, a train stands where ticking once would leave it."""

    async def test(world, clock):
        await world.spawn(ClockworkDevice, "c2")
        names = [f"g{n}" for n in range(len(ratios))]
        for name, ratio, parent in zip(names, ratios, [None, *names], strict=False):
            await clock.add_gear(name, ratio, parent)
            await world.ask("c2", "add-gear", name=name, ratio=str(ratio), parent=parent)
        total = dict.fromkeys(names, 0)
        for step in steps:
            for name, count in (await clock.tick(step)).items():
                total[name] += count
        assert await world.ask("c2", "tick", ticks=sum(steps)) == total

    with_clockwork(test)
