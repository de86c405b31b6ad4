"""What a supervisor decides when a child has ended: values in, values out.

Prior art: OTP's supervisor (restart types, strategies, intensity) and suture's
backoff. Chosen here: both. Intensity is counted per supervisor and ends it; backoff is
per child and only slows it down. The default supervision has backoff and no
intensity, so that one bad daemon never takes its neighbours down.

Nothing here reads a clock or starts anything; `supervisor.py` does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from dan9.base.reasons import Reason

__all__ = [
    "RESTARTS",
    "STRATEGIES",
    "Backoff",
    "Restart",
    "RestartWindow",
    "Strategy",
    "Streak",
    "affected",
    "wants_restart",
]

Restart: TypeAlias = Literal["permanent", "transient", "temporary"]
Strategy: TypeAlias = Literal["one_for_one", "one_for_all", "rest_for_one"]
RESTARTS: tuple[str, ...] = get_args(Restart)
STRATEGIES: tuple[str, ...] = get_args(Strategy)


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before the next restart of a child that keeps ending.

    Attributes:
        first_s: The first pause; 0 restarts at once.
        factor: Each further pause is this many times the last.
        max_s: The longest pause.
        jitter: A pause is drawn from ±this share of it, so that children that fell
            together do not come back together.
        healthy_s: After so long in health the next end counts as the first again.
        give_up_after: After so many restarts in a row the child is failed; 0: never.
    """

    first_s: float = 0.1
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.2
    healthy_s: float = 60.0
    give_up_after: int = 10

    def pause(self, in_a_row: int, draw: float) -> float:
        """Return the pause before restart number `in_a_row` (1 is the first), in seconds.

        Args:
            in_a_row: How many restarts in a row this one makes.
            draw: A number of [0, 1) that decides the jitter.
        """
        # A float overflows at 2**1024; a child that fell so often has long reached the cap.
        exponent = min(in_a_row - 1, 64)
        plain = min(self.first_s * self.factor**exponent, self.max_s)
        return plain * (1.0 + self.jitter * (2.0 * draw - 1.0))


class Streak:
    """How many times in a row one child has ended without a period of health between."""

    __slots__ = ("count", "up_since")

    def __init__(self) -> None:
        self.count = 0
        self.up_since: float | None = None

    def came_up(self, now: float) -> None:
        """Note that the child is ready."""
        self.up_since = now

    def ended(self, now: float, backoff: Backoff) -> bool:
        """Count an end; False when the child is to be given up."""
        if self.up_since is not None and now - self.up_since >= backoff.healthy_s:
            self.count = 0
        self.up_since = None
        self.count += 1
        return not backoff.give_up_after or self.count <= backoff.give_up_after


class RestartWindow:
    """Counts the restarts of one supervisor: more than `intensity` within `period_s` is too many.

    The boundary belongs to the period, as in OTP: two restarts exactly `period_s`
    apart are within it.
    """

    __slots__ = ("intensity", "period_s", "times")

    def __init__(self, intensity: int, period_s: float) -> None:
        self.intensity = intensity
        self.period_s = period_s
        self.times: deque[float] = deque()

    def allows(self, now: float) -> bool:
        """Count one restart; False when it is one too many."""
        times = self.times
        times.append(now)
        while times and times[0] < now - self.period_s:
            times.popleft()
        return len(times) <= self.intensity


def wants_restart(restart: str, reason: Reason) -> bool:
    """True if a child of this restart type is to be restarted after this end."""
    if restart == "permanent":
        return True
    return restart == "transient" and not reason.is_normal


def affected(strategy: str, children: Sequence[str], ended: str) -> list[str]:
    """Return the children that are restarted with `ended`, itself included, in order of start.

    Args:
        strategy: One of `STRATEGIES`.
        children: All children in order of start.
        ended: The one that ended.
    """
    if strategy == "one_for_one":
        return [ended]
    if strategy == "one_for_all":
        return list(children)
    return list(children[children.index(ended) :])
