"""What the parts of a `System` share: the attributes, declared once.

`System` is one object with one interface and four concerns, each in a file of its
own: saying things by name (`speaking.py`), what happens to messages and who hears of it
(`watching.py`), what can be known of a daemon (`insight.py`), and the rest (`kernel.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import deque
    from pathlib import Path
    from random import Random

    from dan9.base.events import Event, SlowStep
    from dan9.base.ports import Clock, Journal, Store
    from dan9.kernel.cell import Cell
    from dan9.kernel.control import Control
    from dan9.kernel.deadletters import DeadLetters
    from dan9.kernel.lifecycle import Lifecycle
    from dan9.kernel.log import LogHub
    from dan9.kernel.message import Message, Verb
    from dan9.kernel.registry import Registry
    from dan9.kernel.scheduler import Scheduler
    from dan9.kernel.state import State
    from dan9.kernel.supervisor import Supervision

__all__ = ["Core"]


class Core:
    """The attributes of a system."""

    name: str
    clock: Clock
    seed: int
    random: Random
    copying: bool
    store: Store | None
    journal: Journal | None
    state_dir: Path | None
    outside: str
    scheduler: Scheduler
    registry: Registry
    log_hub: LogHub
    lifecycle: Lifecycle
    supervision: Supervision
    state: State
    control: Control
    dead_letters: DeadLetters
    path_resolver: Callable[[str, str], tuple[str, str]] | None
    address_resolver: Callable[[str], Cell | None] | None
    on_step: Callable[[], None] | None
    on_handling: Callable[[Cell, Message], bool] | None
    on_incoming: Callable[[Cell, Message], bool] | None
    on_handled: Callable[[Cell, Message], None] | None
    held: int
    taps: dict[int, Callable[[Message], None]]
    _event_sinks: dict[int, Callable[[Event], None]]
    _event_kinds: dict[int, tuple[type[Event], ...]]
    _listening: dict[type[Event], tuple[Callable[[Event], None], ...]]
    slow_steps: deque[SlowStep]
    _numbers: int
    _foreign_verbs: dict[str, Verb]
    _changed_at: dict[Cell, tuple[int, ...]]
    _change_mark: int

    def next_number(self) -> int:
        """Return 1, 2, 3 …: unique in this run."""
        self._numbers += 1
        return self._numbers
