"""Why a daemon ended: exit reasons are values, as in OTP.

`normal`, `shutdown` and `stopped` are the good ends; `crashed`, `killed` and
`failed-to-start` are not. Restart types decide by that line alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

__all__ = ["CRASHED", "KILLED", "NORMAL", "SHUTDOWN", "Reason"]


@dataclass(frozen=True, slots=True)
class Reason:
    """An exit reason.

    Attributes:
        kind: One word: `normal`, `shutdown`, `crashed`, `killed`,
            `failed-to-start`, `noproc`, or a word of the one who stopped it.
        text: What happened, in one line; empty for the good ends.
        trace: The traceback as text when a handler crashed.
    """

    kind: str
    text: str = ""
    trace: str = ""

    good_kinds: ClassVar[frozenset[str]] = frozenset({"normal", "shutdown", "stopped"})

    @property
    def is_normal(self) -> bool:
        """True for the ends after which a transient child is not restarted."""
        return self.kind in self.good_kinds

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


NORMAL = Reason("normal")
SHUTDOWN = Reason("shutdown")
KILLED = Reason("killed")
CRASHED = "crashed"
