"""What a supervisor decides, as pure values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from dan9.base.reasons import NORMAL, SHUTDOWN, Reason
from dan9.kernel.restart import Backoff, RestartWindow, Streak, affected, wants_restart


@pytest.mark.parametrize(
    ("restart", "reason", "expected"),
    [
        ("permanent", NORMAL, True),
        ("permanent", SHUTDOWN, True),
        ("permanent", Reason("crashed"), True),
        ("transient", NORMAL, False),
        ("transient", SHUTDOWN, False),
        ("transient", Reason("crashed"), True),
        ("temporary", NORMAL, False),
        ("temporary", SHUTDOWN, False),
        ("temporary", Reason("crashed"), False),
    ],
)
def test_restart_types(restart, reason, expected):
    """Permanent always, transient after an abnormal end, temporary never."""
    assert wants_restart(restart, reason) is expected


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [("one_for_one", ["b"]), ("one_for_all", ["a", "b", "c"]), ("rest_for_one", ["b", "c"])],
)
def test_strategies(strategy, expected):
    """Who is restarted with the one that ended, in order of start."""
    assert affected(strategy, ["a", "b", "c"], "b") == expected


def test_intensity_edge():
    """`intensity` restarts within the period are allowed, one more is not; the boundary counts."""
    window = RestartWindow(3, 5.0)
    assert [window.allows(t) for t in (0.0, 1.0, 2.0)] == [True, True, True]
    assert not window.allows(5.0), "the fourth, exactly five seconds after the first"
    sliding = RestartWindow(3, 5.0)
    assert [sliding.allows(t) for t in (0.0, 1.0, 2.0, 5.1, 6.1, 7.1)] == [True] * 6


@given(st.integers(1, 200), st.floats(0, 1, exclude_max=True))
def test_backoff_doubles_up_to_its_cap_with_jitter(in_a_row, draw):
    """A pause is within ±20 % of 0.1 s doubled, and never above 36 s."""
    pause = Backoff().pause(in_a_row, draw)
    plain = min(0.1 * 2.0 ** min(in_a_row - 1, 64), 30.0)
    assert plain * 0.8 <= pause <= plain * 1.2


def test_a_streak_is_forgotten_after_health():
    """Sixty seconds of health make the next end the first again; eleven in a row are too many."""
    streak, backoff = Streak(), Backoff()
    for _ in range(10):
        streak.came_up(0.0)
        assert streak.ended(1.0, backoff)
    streak.came_up(0.0)
    assert not streak.ended(59.9, backoff)
    streak.came_up(100.0)
    assert streak.ended(160.0, backoff)
    assert streak.count == 1


class RestartIntensity(RuleBasedStateMachine):
    """A supervisor gives up at crash intensity + 1 within the period, never before."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.crashes, self.running = 0.0, [], True
        self.window = RestartWindow(3, 5.0)

    @rule(seconds=st.sampled_from([0.0, 0.1, 4.9, 5.0, 5.1]))
    def time_passes(self, seconds):
        self.now += seconds

    @precondition(lambda self: self.running)
    @rule()
    def child_crashes(self):
        self.crashes.append(self.now)
        expected = sum(t >= self.now - 5.0 for t in self.crashes) <= 3
        self.running = self.window.allows(self.now)
        assert self.running == expected


TestRestartIntensity = RestartIntensity.TestCase
