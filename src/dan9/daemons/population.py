"""A population of cycles, most of them numbers only. Pure: it knows no daemons.

A cycle that nobody has spoken to is a number; its state is the default. One that is spoken
to is given a state of its own, and when that is the default again it is let go. So a
population of 10**12 costs what its active cycles cost.

- `sync` up is a comparison; down it looks at the active ones only.
- `step(n)` steps the active ones. With a closed form a cycle steps n at once; without, k steps
  cost k for each cycle that stays active. With nothing active, k steps are one addition.
- A dictionary keeps the room it once needed, and to look through it takes as long as it did
  then: so it is made anew when most of it is let go.
- Sums are the closed form over all, corrected by the active ones: exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["MOST", "Population"]

MOST = 10**12
"""How many cycles there may be."""


class Population:
    """Cycles 0 … count-1, in step.

    Args:
        is_default: True if a state is the default one.
        step: Make one state take n steps.
        is_closed: Whether `step` takes any n at once.
    """

    def __init__(
        self,
        is_default: Callable[[Any], bool],
        step: Callable[[Any, int], object] | None = None,
        *,
        is_closed: bool = True,
    ) -> None:
        self.count = 0
        self.epoch = 0
        self.active: dict[int, Any] = {}
        self.woken = 0
        self.released = 0
        self._is_default = is_default
        self._step = step
        self._is_closed = is_closed

    def sync(self, count: int) -> int:
        """Let cycles 0 … count-1 exist; return how many there were."""
        before, self.count = self.count, count
        if count < before:
            self.active = {n: state for n, state in self.active.items() if n < count}
        return before

    def wake(self, number: int, make: Callable[[], Any]) -> Any:
        """Return the state of a cycle, made if it had none."""
        state = self.active.get(number)
        if state is None:
            state = self.active[number] = make()
            self.woken += 1
        return state

    def rest(self, number: int) -> bool:
        """Let a cycle go if its state is the default again; True if it was let go."""
        state = self.active.get(number)
        if state is None or not self._is_default(state):
            return False
        del self.active[number]
        if not self.active:
            self.active = {}
        self.released += 1
        return True

    def step(self, ticks: int = 1) -> int:
        """Let all take `ticks` steps; return how many states were stepped."""
        stepped = 0
        left = ticks
        while left > 0 and self.active and self._step is not None:
            n = left if self._is_closed else 1
            step, is_default, active = self._step, self._is_default, self.active
            done = []
            for number, state in active.items():
                step(state, n)
                if is_default(state):
                    done.append(number)
            stepped += len(active)
            if 2 * len(done) > len(active):
                gone = set(done)
                self.active = {n: state for n, state in active.items() if n not in gone}
            else:
                for number in done:
                    del active[number]
            self.released += len(done)
            left -= n
        self.epoch += ticks
        return stepped

    def total(self, value: Callable[[Any], Any], default: Callable[[int, int], Any]) -> Any:
        """Return the sum over all cycles.

        Args:
            value: What an active cycle's state counts for.
            default: The sum over cycles first … last-1 as if all had the default state.
        """
        out = default(0, self.count)
        for number, state in self.active.items():
            out += value(state) - default(number, number + 1)
        return out
