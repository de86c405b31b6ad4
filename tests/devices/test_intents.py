"""The state machine: which touches are taps, presses, drags, swipes, pinches and turns."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.devices.intents import THRESHOLDS, Sample, Tracker, interpret


def path(start, end, t0, t1, pointer=0, steps=20, ease=None):
    """Return samples along a line, and the lift at its end."""
    out = []
    for n in range(steps + 1):
        share = n / steps
        way = share if ease is None else ease(share)
        x = start[0] + way * (end[0] - start[0])
        y = start[1] + way * (end[1] - start[1])
        out.append(Sample(t0 + share * (t1 - t0), x, y, 1.0, pointer))
    out.append(Sample(t1, end[0], end[1], 0.0, pointer, contact=False))
    return out


def tap(t, x=50.0, y=30.0, duration=0.08, pointer=0, slip=0.2):
    """Return the samples of a tap."""
    return path((x, y), (x + slip, y), t, t + duration, pointer, 4)


def meaning(*groups):
    """Return the intents of the episodes in these samples."""
    tracker = Tracker()
    for sample in sorted((s for group in groups for s in group), key=lambda s: s.t):
        tracker.feed(sample)
    return [interpret(one) for one in tracker.episodes()]


def only(*groups):
    """Return the intent of the one episode in these samples."""
    (intent,) = meaning(*groups)
    return intent


def test_nothing_means_nothing():
    """Without a touch there is no intent."""
    assert interpret([]).name == "none"


def test_a_short_touch_in_place_is_a_tap():
    """Down and up within 180 ms and 1.3 mm is a tap, surer the shorter."""
    assert only(tap(0)).name == "tap"
    assert only(tap(0, duration=0.03)).confidence > only(tap(0, duration=0.17)).confidence


@pytest.mark.parametrize(("duration", "slip"), [(0.19, 0.0), (0.25, 0.3)])
def test_a_longer_touch_is_no_tap(duration, slip):
    """Between a tap and a press there is nothing, with both as candidates."""
    intent = only(tap(0, duration=duration, slip=slip))
    assert intent.name == "none"
    assert {name for name, _ in intent.candidates} == {"tap", "long-press"}


def test_the_threshold_is_part_of_the_tap():
    """A touch of just 180 ms and 1.3 mm is still one."""
    assert only(tap(0, x=0.0, duration=0.18, slip=1.3)).name == "tap"


def test_two_taps_in_time_and_place_are_a_double_tap():
    """Two taps 200 ms apart are one gesture; 400 ms apart they are two; far apart none."""
    assert only(tap(0), tap(0.28)).name == "double-tap"
    assert [one.name for one in meaning(tap(0), tap(0.48))] == ["tap", "tap"]
    assert only(tap(0), tap(0.28, x=90.0)).name == "tap"


def test_a_long_touch_in_place_is_a_press():
    """From 500 ms on a touch in place is a long press."""
    assert only(tap(0, duration=0.6)).name == "long-press"
    assert only(tap(0, duration=0.5)).name == "long-press"


@pytest.mark.parametrize(
    ("end", "direction"),
    [((90, 32), "right"), ((10, 28), "left"), ((52, 70), "down"), ((48, -10), "up")],
)
def test_a_finger_still_moving_when_it_lifts_swipes(end, direction):
    """A swipe has the direction of its way, whatever shape recognisers would say."""
    intent = only(path((50, 30), end, 0, 0.2))
    assert (intent.name, intent.direction) == ("swipe", direction)
    assert intent.detail["speed-mm-s"] == pytest.approx(math.dist((50, 30), end) / 0.2, rel=0.01)


def test_a_finger_that_came_to_rest_dragged():
    """Slowing down to a stop, resting before the lift, or a tap before: all are drags."""
    slow = path((50, 30), (90, 30), 0, 1.2, steps=120, ease=lambda s: 1 - (1 - s) ** 3)
    assert only(slow).name == "drag"
    rested = [*path((50, 30), (90, 30), 0, 0.3)[:-1], Sample(0.4, 90, 30, 0, contact=False)]
    assert only(rested).name == "drag"
    assert only(tap(0), path((50, 30), (90, 30), 0.2, 0.5)).name == "drag"


def test_a_drag_is_locked_for_a_moment():
    """A tap, a drag, and a finger that goes on within 300 ms are one drag; later a swipe."""
    first = path((50, 30), (70, 30), 0.2, 0.5)
    on = path((30, 30), (60, 30), 0.75, 0.95)
    intent = only(tap(0), first, on)
    assert (intent.name, intent.direction) == ("drag", "right")
    assert intent.detail["duration-s"] == pytest.approx(0.75)
    later = path((30, 30), (60, 30), 0.85, 1.05)
    assert [one.name for one in meaning(tap(0), first, later)] == ["drag", "swipe"]
    assert only(path((50, 30), (70, 30), 0.2, 0.5), on).name == "swipe"


def test_a_press_that_then_moves_drags():
    """Whoever rested half a second first wants to move something."""
    held = [Sample(0.0, 50, 30, 1), Sample(0.55, 50, 30, 1), *path((50, 30), (90, 30), 0.56, 0.8)]
    assert only(held).name == "drag"


@pytest.mark.parametrize(("factor", "direction"), [(2.0, "out"), (0.5, "in")])
def test_fingers_apart_or_together_pinch(factor, direction):
    """A pinch has its scale, and says in or out."""
    a = path((40, 30), (50 - 10 * factor, 30), 0, 0.4, 0)
    b = path((60, 30), (50 + 10 * factor, 30), 0, 0.4, 1)
    intent = only(a, b)
    assert (intent.name, intent.direction, intent.fingers) == ("pinch", direction, 2)
    assert intent.detail["scale"] == pytest.approx(factor)


@pytest.mark.parametrize("degrees", [40.0, -40.0, 200.0, 400.0])
def test_fingers_around_each_other_rotate(degrees):
    """A turn has its angle, over more than half a turn too, as a clock's hands go on a screen."""
    a, b = [], []
    for n in range(81):
        angle = math.radians(degrees) * n / 80
        dx, dy = 12 * math.cos(angle), 12 * math.sin(angle)
        a.append(Sample(n / 100, 50 + dx, 30 + dy, 1, 0))
        b.append(Sample(n / 100, 50 - dx, 30 - dy, 1, 1))
    intent = only(a, b)
    assert intent.name == "rotate"
    assert intent.direction == ("clockwise" if degrees > 0 else "counterclockwise")
    assert intent.detail["angle-deg"] == pytest.approx(degrees)


def test_two_fingers_along_swipe_or_drag():
    """Two fingers the same way swipe; slowly they drag, as scrolling does."""
    fast = only(path((40, 30), (40, 60), 0, 0.2, 0), path((60, 30), (60, 60), 0, 0.2, 1))
    assert (fast.name, fast.direction, fast.fingers) == ("swipe", "down", 2)
    slow = only(path((40, 30), (40, 36), 0, 1.5, 0, 100), path((60, 30), (60, 36), 0, 1.5, 1, 100))
    assert (slow.name, slow.fingers) == ("drag", 2)


def test_several_fingers_tap():
    """Two fingers down and up at once are a tap of two fingers."""
    intent = only(tap(0, x=40), tap(0.01, x=60, pointer=1))
    assert (intent.name, intent.fingers) == ("tap", 2)


def test_two_fingers_that_rest_mean_nothing():
    """Below 1.5 mm two fingers have not set out."""
    a, b = path((40, 30), (40.5, 30), 0, 1, 0), path((60, 30), (60.5, 30), 0, 1, 1)
    assert only(a, b).name == "none"


def test_a_device_that_never_lifts_is_understood_by_its_pauses():
    """Pauses of 0.1 to 0.4 s are lifts; a longer one at the same place is a hold."""
    touches = [Sample(t, 50, 30) for t in (0.0, 0.05, 0.25, 0.3)]
    assert only(touches).name == "double-tap"
    assert only([Sample(0.0, 50, 30), Sample(0.7, 50, 30)]).name == "long-press"


def test_pressure_that_falls_to_nothing_lifts():
    """A pad that reports pressure lifts by it."""
    touches = [Sample(0.0, 50, 30, 5), Sample(0.05, 50, 30, 5), Sample(0.06, 50, 30, 0)]
    assert only(touches).name == "tap"


def test_the_devices_own_velocity_is_believed():
    """One point with velocity and direction is a swipe that way."""
    intent = only([Sample(0.0, 100, 200, 5, velocity=15.0, direction=(1.0, 0.0))])
    assert (intent.name, intent.direction) == ("swipe", "right")


def test_velocity_ignores_what_was_before_a_stop():
    """The slope is taken over the last 100 ms only, and a late sample does not upset it."""
    fast_then_slow = [
        *[Sample(n / 100, n * 3.0, 0, 1) for n in range(10)],
        *[Sample(0.2 + n / 100, 27 + n * 0.01, 0, 1) for n in range(12)],
    ]
    tracker = Tracker()
    for sample in fast_then_slow:
        tracker.feed(sample)
    assert math.hypot(*tracker.contacts[0].velocity()) == pytest.approx(1.0, abs=0.05)


def test_every_threshold_has_a_unit_and_a_source():
    """No number decides without saying what it is and where it comes from."""
    for one in THRESHOLDS.values():
        assert one.value > 0
        assert one.unit in {"s", "mm", "mm/s", "% of width"}
        assert one.source


@given(
    st.lists(
        st.tuples(
            st.floats(0, 0.5),
            st.floats(-200, 200),
            st.floats(-200, 200),
            st.floats(0, 3),
            st.integers(0, 3),
            st.booleans(),
        ),
        max_size=60,
    )
)
def test_no_touches_break_it(steps):
    """Whatever a pad reports, each episode has one known intent and a confidence within 0 and 1."""
    tracker, t = Tracker(), 0.0
    for step, x, y, z, pointer, contact in steps:
        t += step
        tracker.feed(Sample(t, x, y, z, pointer, contact))
    episodes = tracker.episodes()
    assert sum(map(len, episodes)) == len(tracker.contacts)
    for one in episodes:
        intent = interpret(one)
        assert 0 <= intent.confidence <= 1
        assert intent.fingers >= 1


@given(
    st.floats(0, math.tau),
    st.floats(30, 400),
    st.floats(8, 60),
)
def test_a_line_drawn_at_speed_is_a_swipe_in_its_direction(angle, speed, length):
    """In any direction, at any swiping speed, the direction is the way's larger part."""
    dx, dy = math.cos(angle) * length, math.sin(angle) * length
    seconds = length / speed
    intent = only(path((0, 0), (dx, dy), 0, seconds, steps=max(3, int(seconds * 100))))
    assert intent.name == "swipe"
    across, along = ("right" if dx > 0 else "left"), ("down" if dy > 0 else "up")
    expected = across if abs(dx) >= abs(dy) else along
    assert intent.direction == expected
