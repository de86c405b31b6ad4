"""What can go wrong, on purpose: faults under a seed.

Prior art: turmoil (crash, hold, release, partition) and FoundationDB's simulation. A
plan is a list of faults; each names whom it strikes by a pattern and when, either exactly
("the third message") or by chance, drawn from the world's seed. What was struck is
recorded, so that a run can say which faults it survived.

A dropped message is a dead letter, a duplicated one is counted as such, one held back
counts as queued: conservation holds under every fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dan9.base.duration import parse_duration
from dan9.base.errors import BadConfig

__all__ = [
    "ClockJump",
    "Crash",
    "Delay",
    "Drop",
    "Duplicate",
    "Fault",
    "FullMailbox",
    "Hold",
    "SlowHandler",
    "parse_faults",
]


@dataclass(frozen=True, slots=True)
class Fault:
    """Whom and when.

    Attributes:
        who: Pattern of the daemons that it may strike.
        type: Message type; empty for all.
        nth: Strike at the n-th message of each daemon (1 is the first); 0: by chance.
        chance: Probability per message, if `nth` is 0.
        most: How often at the most, over all daemons.
    """

    who: str = "**"
    type: str = ""
    nth: int = 0
    chance: float = 0.0
    most: int = 1_000_000

    def __post_init__(self) -> None:
        if not 0.0 <= self.chance <= 1.0:
            raise BadConfig(f"chance={self.chance}", hint="from 0 to 1")
        if self.nth < 0:
            raise BadConfig(f"nth={self.nth}", hint="1 is the first message, 0 leaves it to chance")

    @property
    def kind(self) -> str:
        """The fault's name, as in the report."""
        return type(self).__name__.lower()


@dataclass(frozen=True, slots=True)
class Crash(Fault):
    """The daemon crashes before, while or after it handles the message."""

    at: Literal["before", "while", "after"] = "while"

    @property
    def kind(self) -> str:
        """The fault's name, as in the report."""
        return f"crash-{self.at}"


@dataclass(frozen=True, slots=True)
class Drop(Fault):
    """The message gets lost on its way."""


@dataclass(frozen=True, slots=True)
class Duplicate(Fault):
    """The message arrives twice, with the same id."""


@dataclass(frozen=True, slots=True)
class Delay(Fault):
    """The message arrives `seconds` later; others overtake it."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Hold(Fault):
    """The message is kept back until `World.release`."""


@dataclass(frozen=True, slots=True)
class SlowHandler(Fault):
    """The daemon takes `seconds` longer over the message."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class FullMailbox(Fault):
    """The daemon's mailbox has no more room, for `seconds`."""

    seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class ClockJump(Fault):
    """The wall clock jumps by `seconds` (back, if negative)."""

    seconds: float = 3600.0


_KINDS: dict[str, type[Fault]] = {
    "crash": Crash,
    "drop": Drop,
    "duplicate": Duplicate,
    "delay": Delay,
    "slow": SlowHandler,
    "full": FullMailbox,
    "jump": ClockJump,
}


def parse_faults(text: str) -> list[Fault]:
    """Read `crash:0.01,delay:0.02:5s,drop:0.001` as the command line gives it.

    Each part is `kind:chance`, then the seconds for those that last, then a pattern.

    Raises:
        BadConfig: An unknown kind, or a part of another form.
    """
    faults: list[Fault] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        kind, *rest = part.split(":", 3)
        cls = _KINDS.get(kind)
        if cls is None:
            raise BadConfig(f"unknown fault {kind!r}", hint="one of " + " ".join(_KINDS), at=part)
        try:
            options: dict[str, object] = {"chance": float(rest[0]) if rest else 0.01}
        except ValueError:
            raise BadConfig(f"{rest[0]!r} is no chance", hint="as in crash:0.01", at=part) from None
        for extra in rest[1:]:
            if extra[:1].isdigit():
                options["seconds"] = parse_duration(extra)
            else:
                options["who"] = extra
        try:
            faults.append(cls(**options))  # type: ignore[arg-type]
        except TypeError:
            raise BadConfig(f"{kind} takes no seconds", hint="as in crash:0.01", at=part) from None
    return faults
