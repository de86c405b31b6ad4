"""When a number is worth waking somebody: thresholds, hold times, hysteresis. Pure.

An alert fires when a value has been beyond its threshold for `hold_s` without a break,
and is cleared when it has been back beyond `clear` for as long. Between the two lines
nothing happens, so that a value which trembles on the threshold tells nobody twice.

    ok ──beyond──> rising ──held──> firing ──back──> falling ──held──> ok
          <──not beyond──┘              <──beyond──┘
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dan9.base.errors import BadPayload

__all__ = ["AlertRule", "AlertState", "Change", "Phase"]

Phase = Literal["ok", "rising", "firing", "falling"]
Change = Literal["firing", "cleared"]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """What to watch for.

    Attributes:
        above: Fires while the value is greater than this.
        below: Fires while the value is less than this; exactly one of the two is given.
        clear: The value at which it is over; by default a tenth nearer than the threshold.
        hold_s: How long it must last, seconds, before it fires and before it is over.
    """

    above: float | None = None
    below: float | None = None
    clear: float | None = None
    hold_s: float = 0.0

    def check(self) -> AlertRule:
        """Return the rule with `clear` filled in.

        Raises:
            BadPayload: Not exactly one threshold, or `clear` on the wrong side of it.
        """
        if (self.above is None) == (self.below is None):
            raise BadPayload(
                "an alert has one threshold", hint="give above=N or below=N", at="above"
            )
        if self.hold_s < 0:
            raise BadPayload("a hold time is not negative", hint="as 30s", at="for")
        threshold = self.threshold
        margin = abs(threshold) * 0.1
        clear = self.clear
        if clear is None:
            clear = threshold - margin if self.above is not None else threshold + margin
        if clear > threshold if self.above is not None else clear < threshold:
            raise BadPayload(
                f"clear={clear:g} lies beyond the threshold {threshold:g}",
                hint="it is the value at which the alert is over",
                at="clear",
            )
        return AlertRule(self.above, self.below, clear, self.hold_s)

    @property
    def threshold(self) -> float:
        """The value beyond which it fires."""
        return self.above if self.above is not None else self.below or 0.0

    def is_beyond(self, value: float) -> bool:
        """True if the value calls for the alert."""
        if self.above is not None:
            return value > self.above
        return value < (self.below or 0.0)

    def is_back(self, value: float) -> bool:
        """True if the value is far enough back for the alert to be over."""
        clear = self.clear if self.clear is not None else self.threshold
        return value <= clear if self.above is not None else value >= clear


class AlertState:
    """One rule for one daemon: give it values and time, it says what has changed."""

    __slots__ = ("phase", "rule", "since", "value")

    def __init__(self, rule: AlertRule) -> None:
        self.rule = rule
        self.phase: Phase = "ok"
        self.since = 0.0
        """When the phase began."""
        self.value = 0.0

    def observe(self, value: float, now: float) -> Change | None:
        """Take a new value; return what it means, if it means something now."""
        self.value = value
        if self.phase == "ok" and self.rule.is_beyond(value):
            self._enter("rising", now)
        elif self.phase == "rising" and not self.rule.is_beyond(value):
            self._enter("ok", now)
        elif self.phase == "firing" and self.rule.is_back(value):
            self._enter("falling", now)
        elif self.phase == "falling" and not self.rule.is_back(value):
            self._enter("firing", self.since)
        return self.pass_time(now)

    def pass_time(self, now: float) -> Change | None:
        """Let time pass; return what is due by now."""
        due = self.deadline
        if due is None or now < due:
            return None
        if self.phase == "rising":
            self._enter("firing", now)
            return "firing"
        self._enter("ok", now)
        return "cleared"

    @property
    def deadline(self) -> float | None:
        """When `pass_time` has something to say unless the value changes; None: never."""
        return self.since + self.rule.hold_s if self.phase in {"rising", "falling"} else None

    def _enter(self, phase: Phase, now: float) -> None:
        self.phase = phase
        self.since = now
