"""When a daemon's state is saved: rules as values, and who overrules whom.

From weak to strong: the default (on stop, and every `checkpoint_interval` if a message was
handled since), system daemons (on every change), the class's keyword `checkpoint=`, and
what was told with `policy` or stands in dan9.toml, key by key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from dan9.base.address import Address
from dan9.base.duration import parse_duration
from dan9.base.errors import BadPayload
from dan9.base.ports import StatePolicy

__all__ = ["MAX_KEEP", "NEVER", "Rule", "Shown", "effective", "shown"]

MAX_KEEP = 1_000
NEVER = StatePolicy(interval=None, on_stop=False, on_change=False, keep=0)


@dataclass(frozen=True, slots=True)
class Rule:
    """What was said about one daemon; None: nothing, so the weaker rule holds.

    Attributes:
        interval: Seconds; 0: never by time.
        on_stop: Save when it stops in good order.
        on_change: Save after a change, coalesced.
        keep: Versions kept; 0: neither save nor restore.
    """

    interval: float | None = None
    on_stop: bool | None = None
    on_change: bool | None = None
    keep: int | None = None

    def over(self, weaker: Rule) -> Rule:
        """Return both together; what this one says wins."""
        return Rule(
            weaker.interval if self.interval is None else self.interval,
            weaker.on_stop if self.on_stop is None else self.on_stop,
            weaker.on_change if self.on_change is None else self.on_change,
            weaker.keep if self.keep is None else self.keep,
        )


class Shown(TypedDict):
    """A policy in force; `interval` in seconds, None: never by time."""

    address: str
    interval: float | None
    on_stop: bool
    on_change: bool
    keep: int


def declared(option: object) -> Rule:
    """Read a class's `checkpoint=` keyword.

    Raises:
        BadPayload: It is none of `on-change`, `on-stop`, `never` or a duration.
    """
    if option is None:
        return Rule()
    if option == "on-change":
        return Rule(on_change=True)
    if option == "on-stop":
        return Rule(interval=0.0, on_stop=True, on_change=False)
    if option == "never":
        return Rule(interval=0.0, on_stop=False, on_change=False, keep=0)
    if isinstance(option, str | int | float) and not isinstance(option, bool):
        return Rule(interval=parse_duration(option))
    raise BadPayload(
        f"checkpoint={option!r}", hint="on-change, on-stop, never or an interval", at="checkpoint"
    )


def effective(
    address: str, told: Rule | None, option: object, *, interval: float, keep: int
) -> StatePolicy:
    """Return the policy of one daemon.

    Args:
        address: Whose.
        told: What `policy` was told of it.
        option: The keyword of its class.
        interval: The default interval, in seconds; 0: never by time.
        keep: The default number of versions.
    """
    rule = Rule(
        interval, on_stop=True, on_change=Address.parse(address).group == "system", keep=keep
    )
    rule = declared(option).over(rule)
    if told is not None:
        rule = told.over(rule)
    return StatePolicy(
        rule.interval or None, bool(rule.on_stop), bool(rule.on_change), rule.keep or 0
    )


def shown(address: str, policy: StatePolicy) -> Shown:
    """Return a policy as a reply."""
    return {
        "address": address,
        "interval": policy.interval,
        "on_stop": policy.on_stop,
        "on_change": policy.on_change,
        "keep": policy.keep,
    }
