"""When a number is worth waking somebody: thresholds, hold times, hysteresis. Pure.

An alert fires when a value has been beyond its threshold for `hold_s` without a break,
and is cleared when it has been back beyond `clear` for as long. Between the two lines
nothing happens, so that a value which trembles on the threshold tells nobody twice.

    ok ──beyond──> rising ──held──> firing ──back──> falling ──held──> ok
          <──not beyond──┘              <──beyond──┘
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from dan9.base.address import Pattern
from dan9.base.errors import BadPayload

__all__ = ["Alert", "AlertBoard", "AlertRule", "AlertState", "Change", "News", "Phase"]

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


@dataclass(slots=True)
class Alert:
    """An alert as it was asked for.

    Attributes:
        id: Its name.
        metric: Which metric.
        daemon: A pattern over addresses.
        rule: When it fires and when it is over.
        target: Who is told.
        type: With which message.
    """

    id: str
    metric: str
    daemon: str
    rule: AlertRule
    target: str
    type: str = "alert"


@dataclass(frozen=True, slots=True)
class News:
    """One alert has changed for one daemon; `since` is when its phase began."""

    alert: Alert
    daemon: str
    value: float
    change: Change
    since: float


class AlertBoard:
    """All alerts for all daemons: give it samples and time, then take the news.

    Args:
        alerts: The alerts by id; the caller's own dict.
    """

    def __init__(self, alerts: dict[str, Alert]) -> None:
        self.alerts = alerts
        self.states: dict[tuple[str, str], AlertState] = {}
        """By alert and daemon; only those that are not `ok`."""
        self.news: list[News] = []
        self._patterns: dict[str, Callable[[str], bool]] = {}

    def observe(self, address: str, metrics: Mapping[str, float], now: float) -> None:
        """Hold one daemon's sample against every alert that concerns it."""
        for alert in self.alerts.values():
            value = metrics.get(alert.metric)
            if value is not None and self._fits(alert, address):
                self._observe(alert, address, value, now)

    def pass_time(self, now: float) -> None:
        """Let hold times end."""
        for (alert_id, address), state in list(self.states.items()):
            change = state.pass_time(now)
            if change is not None:
                self._note(self.alerts[alert_id], address, state, change)
            if state.phase == "ok":
                del self.states[alert_id, address]

    def gone(self, address: str) -> None:
        """A daemon has ended: what fired for it is over."""
        for key in [key for key in self.states if key[1] == address]:
            state = self.states.pop(key)
            if state.phase in {"firing", "falling"}:
                self._note(self.alerts[key[0]], address, state, "cleared")

    def drop(self, alert_id: str) -> None:
        """Forget an alert, without a word."""
        del self.alerts[alert_id]
        for key in [key for key in self.states if key[0] == alert_id]:
            del self.states[key]

    def firing(self) -> Iterator[tuple[Alert, str, AlertState]]:
        """Yield what fires, for whom."""
        for (alert_id, address), state in self.states.items():
            if state.phase in {"firing", "falling"}:
                yield self.alerts[alert_id], address, state

    @property
    def deadline(self) -> float | None:
        """When `pass_time` has something to say; None: never."""
        return min(
            (state.deadline for state in self.states.values() if state.deadline is not None),
            default=None,
        )

    def take_news(self) -> list[News]:
        """Return what has changed since the last time."""
        news, self.news = self.news, []
        return news

    def _observe(self, alert: Alert, address: str, value: float, now: float) -> None:
        key = (alert.id, address)
        state = self.states.get(key)
        if state is None:
            if not alert.rule.is_beyond(value):
                return
            state = self.states[key] = AlertState(alert.rule)
        change = state.observe(value, now)
        if change is not None:
            self._note(alert, address, state, change)
        if state.phase == "ok":
            del self.states[key]

    def _note(self, alert: Alert, address: str, state: AlertState, change: Change) -> None:
        self.news.append(News(alert, address, state.value, change, state.since))

    def _fits(self, alert: Alert, address: str) -> bool:
        fits = self._patterns.get(alert.daemon)
        if fits is None:
            fits = self._patterns[alert.daemon] = Pattern(alert.daemon).matches
        return fits(address)
