"""Trains of gears: exact, and equal to a loop over every tick."""

from __future__ import annotations

import random  # noqa: TID251 (seeded, of its own)
import time  # noqa: TID251 (bounds are part of the promise)
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dan9.antikythera.gear import Event, Gear, GearRecord, ratio_of
from dan9.antikythera.train import Firing, Train
from dan9.base.errors import BadPayload, Conflict, Exists, NotFound

Spec = tuple[list[tuple[Fraction, int]], list[tuple[int, int]]]
"""Gears as (ratio, parent; -1: none), events as (gear, interval)."""


def build(spec: Spec) -> Train:
    """Make the train that a spec means."""
    train = Train()
    gears, events = spec
    for number, (ratio, parent) in enumerate(gears):
        train.add(Gear(f"g{number}", ratio, None if parent < 0 else f"g{parent}"))
    for number, (gear, interval) in enumerate(events):
        train.on(f"g{gear}", f"e{number}", interval)
    return train


def naive(spec: Spec, ticks: int) -> list[tuple[int, str, str, int]]:
    """Turn tick by tick: what a loop would tell, in order. Knows nothing of heaps or lcms."""
    gears, events = spec
    rates: list[Fraction] = []
    for ratio, parent in gears:
        rates.append((Fraction(1) if parent < 0 else rates[parent]) / ratio)
    turns = [Fraction(0) for _ in gears]
    told = []
    for tick in range(1, ticks + 1):
        found = []
        for gear, rate in enumerate(rates):
            before, after = turns[gear], turns[gear] + abs(rate)
            turns[gear] = after
            for number, (on, interval) in enumerate(events):
                if on != gear:
                    continue
                for turn in range(int(before) + 1, int(after) + 1):
                    if turn % interval == 0:
                        instant = tick - 1 + (turn - before) / abs(rate)
                        found.append((instant, -abs(rate), gear, number, turn))
        told += [
            (tick, f"g{gear}", f"e{number}", turn) for _, _, gear, number, turn in sorted(found)
        ]
    return told


def shown(firings: list[Firing]) -> list[tuple[int, str, str, int]]:
    """Return firings as `naive` tells them."""
    return [(one.tick, one.event.gear, one.event.name, one.turns) for one in firings]


ratios = st.fractions(min_value=Fraction(1, 6), max_value=40, max_denominator=12).flatmap(
    lambda ratio: st.sampled_from([ratio, -ratio])
)


@st.composite
def specs(draw: st.DrawFn) -> Spec:
    """Draw a train of up to six gears and eight events."""
    count = draw(st.integers(1, 6))
    gears = [(draw(ratios), draw(st.integers(-1, number - 1))) for number in range(count)]
    pairs = st.tuples(st.integers(0, count - 1), st.integers(1, 5))
    return gears, draw(st.lists(pairs, max_size=8))


@settings(max_examples=100, deadline=None)
@given(specs(), st.lists(st.integers(0, 40), max_size=6))
def test_equal_to_a_loop_over_ticks(spec: Spec, pieces: list[int]) -> None:
    """However the way is cut into pieces, the same events are told at the same ticks in order."""
    train = build(spec)
    told: list[Firing] = []
    for ticks in pieces:
        train.advance(ticks, told.append)
    assert train.now == sum(pieces)
    assert shown(told) == naive(spec, sum(pieces))


def test_equal_to_a_loop_over_ticks_in_a_thousand_trains() -> None:
    """The same on 1,000 seeded trains, coarser and finer than the tick."""
    draw = random.Random(9)
    fired = 0
    for _ in range(1000):
        gears = []
        for number in range(draw.randint(1, 5)):
            ratio = Fraction(draw.randint(1, 30), draw.randint(1, 12)) * draw.choice((1, -1))
            gears.append((ratio, draw.randint(-1, number - 1)))
        events = [
            (draw.randrange(len(gears)), draw.randint(1, 4)) for _ in range(draw.randint(1, 5))
        ]
        spec = gears, events
        told: list[Firing] = []
        build(spec).advance(24, told.append)
        assert shown(told) == naive(spec, 24)
        fired += len(told)
    assert fired > 10_000


@settings(max_examples=40, deadline=None)
@given(specs(), st.integers(1, 60), st.integers(1, 7))
def test_taking_in_portions_loses_nothing(spec: Spec, ticks: int, most: int) -> None:
    """`take` stops after so many firings, even within a tick, and goes on there."""
    train = build(spec)
    told: list[Firing] = []
    while portion := train.take(ticks, most):
        assert len(portion) <= most
        told += portion
    assert train.now == ticks
    assert shown(told) == naive(spec, ticks)


@settings(max_examples=25, deadline=None)
@given(specs(), st.integers(1, 60))
def test_a_saved_train_goes_on_where_it_stood(spec: Spec, ticks: int) -> None:
    """The records are all there is: a train made of them tells what the first would have."""
    train = build(spec)
    train.advance(ticks)
    again = Train(train.gears, train.now)
    told: list[Firing] = []
    again.advance(20, told.append)
    assert shown(told) == [one for one in naive(spec, ticks + 20) if one[0] > ticks]


def test_the_tick_told_is_the_ceiling_of_the_instant() -> None:
    """Two turns in three ticks: instants 3/2, 3, 9/2 are seen at ticks 2, 3, 5."""
    train = Train()
    train.add(Gear("g", "3/2"))
    train.on("g", "e")
    told: list[Firing] = []
    train.advance(5, told.append)
    assert [(one.tick, one.instant) for one in told] == [
        (2, Fraction(3, 2)),
        (3, Fraction(3)),
        (5, Fraction(9, 2)),
    ]


def test_order_is_instant_then_finer_then_registration() -> None:
    """At one instant the finer gear speaks first, then the older gear, then the older event."""
    train = Train()
    train.add(Gear("slow", 6))
    train.add(Gear("fast", 2))
    train.add(Gear("twin", -2))
    for gear, event in (("slow", "a"), ("twin", "b"), ("fast", "c"), ("fast", "d")):
        train.on(gear, event)
    told: list[Firing] = []
    train.advance(6, told.append)
    assert [one.event.name for one in told if one.tick == 6] == ["c", "d", "b", "a"]


def test_a_gear_and_an_event_count_from_when_they_came() -> None:
    """A gear turns from the tick it was put in; an event counts the turns after its own."""
    train = Train()
    train.add(Gear("a", 4))
    train.advance(3)
    train.add(Gear("b", 5))
    train.advance(3)  # tick 6: a has turned 1.5 times
    train.on("a", "e", 2)
    train.on("b", "f")
    told: list[Firing] = []
    train.advance(14, told.append)
    assert [(one.tick, one.event.name, one.turns) for one in told] == [
        (8, "f", 1),
        (12, "e", 3),
        (13, "f", 2),
        (18, "f", 3),
        (20, "e", 5),
    ]


def test_a_callback_may_change_the_train() -> None:
    """An event that takes itself away fires once; one that it adds is told from then on."""
    train = Train()
    train.add(Gear("g", 2))
    train.on("g", "first")
    told = []

    def note(firing: Firing) -> None:
        told.append((firing.tick, firing.event.name))
        if firing.event.name == "first":
            train.off("g", "first")
            train.on("g", "second", 2)

    assert train.advance(10, note) == 3
    assert told == [(2, "first"), (6, "second"), (10, "second")]


def test_gears_above_are_put_in_too() -> None:
    """A Gear brings its parents; what is there with other teeth is refused."""
    train = Train()
    hour = Gear("hour", 60, Gear("minute", 1))
    assert train.add(Gear("day", 24, hour)) == 3
    assert train.add(Gear("week", 7, Gear("day", 24, hour))) == 4
    assert train.rate("week") == Fraction(1, 60 * 24 * 7)
    with pytest.raises(Exists):
        train.add(Gear("year", 365, Gear("day", 25, hour)))
    with pytest.raises(Exists):
        train.add(hour)


def test_ten_to_the_twelve_ticks_cost_what_fires() -> None:
    """1,350 firings among 10**12 ticks: milliseconds; the bound is twenty."""
    train = Train()
    train.add(Gear("a", 1_000_000_007))
    train.add(Gear("b", Fraction(8_571_428_571, 3)))
    train.on("a", "e")
    train.on("b", "f")
    begun = time.process_time()
    fired = train.advance(10**12)
    assert time.process_time() - begun < 0.020
    assert fired == 10**12 // 1_000_000_007 + 10**12 * 3 // 8_571_428_571 == 1349


def test_a_year_of_minutes_is_fast() -> None:
    """525,600 minute ticks with hourly, daily, weekly, yearly events: 9,178, under 50 ms."""
    train = Train()
    day = Gear("day", 24, Gear("hour", 60, Gear("minute", 1)))
    train.add(Gear("week", 7, day))
    train.add(Gear("year", 365, day))
    for gear in ("hour", "day", "week", "year"):
        train.on(gear, "e")
    begun = time.process_time()
    assert train.advance(525_600) == 8760 + 365 + 52 + 1
    assert time.process_time() - begun < 0.050


def test_a_million_million_million_years_do_not_drift() -> None:
    """Beyond any float: the Moon's turns in 19 * 10**30 years are 254 * 10**30."""
    train = Train()
    train.add(Gear("moon", "19/254"))
    train.advance(19 * 10**30)
    assert train.position("moon") == 254 * 10**30
    train.on("moon", "e", 10**29)
    assert train.next_tick() == 19 * 10**30 + -(-(19 * 10**29) // 254)


@pytest.mark.parametrize("value", [0, "0", "x", "1/0", 1.5, True, None, float("nan"), ""])
def test_no_ratio(value: object) -> None:
    """What is no ratio is refused, with a hint where the key was."""
    with pytest.raises(BadPayload) as caught:
        ratio_of(value)
    assert caught.value.hint
    assert caught.value.at == "payload.ratio"


def test_refusals() -> None:
    """Unknown gears and events, doubles, intervals below 1, driving gears, going back."""
    train = Train()
    train.add(Gear("a", 2))
    train.add(Gear("b", 2, "a"))
    train.on("a", "e")
    with pytest.raises(BadPayload):
        Gear("", 1)
    with pytest.raises(NotFound, match="no gear 'x'"):
        train.add(Gear("c", 2, "x"))
    with pytest.raises(NotFound):
        train.on("x", "e")
    with pytest.raises(NotFound, match="no event 'f'"):
        train.off("a", "f")
    with pytest.raises(Exists):
        train.on("a", "e")
    for interval in (0, -1, 1.5, True):
        with pytest.raises(BadPayload):
            train.on("a", "f", interval)  # type: ignore[arg-type]
    with pytest.raises(BadPayload):
        train.on("a", "")
    with pytest.raises(Conflict, match="a drives b"):
        train.remove("a")
    with pytest.raises(BadPayload):
        train.advance(-1)
    assert train.remove("b") == 0
    assert train.remove("a") == 1
    assert train.next_tick() is None


def test_a_denominator_beyond_reason_is_refused() -> None:
    """The event is not taken, and the train goes on as before."""
    train = Train()
    train.add(Gear("fine", Fraction(1, 2**2000 + 1)))
    train.add(Gear("finer", Fraction(1, 2**2200 + 7)))
    train.on("fine", "e", 2**2000)
    with pytest.raises(BadPayload, match="4096 bits"):
        train.on("finer", "e")
    assert train.advance(1) == 1


def test_deep_trains_need_no_deep_stack() -> None:
    """Ten thousand gears one under another."""
    gears = {"g0": GearRecord("g0", Fraction(1))}
    for number in range(1, 10_000):
        gears[f"g{number}"] = GearRecord(f"g{number}", Fraction(-1), f"g{number - 1}")
    assert Train(gears).rate("g9999") == -1


def test_events_are_plain_values() -> None:
    """An event holds what is told."""
    assert Event("g", "e", target="t", type="go").payload == {}
