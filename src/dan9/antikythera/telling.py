"""How firings reach daemons: a target is looked up once, for as long as nobody else can act.

Between two awaits of the mechanism no daemon comes, goes or is renamed, so what a target means
and what its handler takes stay as they were found; `forget` is called when others have had a
turn. A year of minute ticks tells 9,178 firings in a third of the time that it takes to look
each of them up (`python -m benchmarks gears`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from dan9.base.address import is_pattern
from dan9.base.errors import Dan9Error, MailboxFull
from dan9.base.shape import Misfit
from dan9.kernel.message import KEYWORDS, Ask, Message, Verb

if TYPE_CHECKING:
    from dan9.antikythera.gear import Event
    from dan9.antikythera.train import Firing
    from dan9.kernel.cell import Cell
    from dan9.kernel.daemon import Daemon

__all__ = ["Telling"]

ROOM_S: Final = 30.0
"""How long a firing waits for room in a full mailbox."""


class _Line(NamedTuple):
    """A handler that an event reaches, and what of a firing it takes: name, place, check."""

    cell: Cell
    verb: Verb
    arguments: dict[str, Any]
    varying: tuple[tuple[str, int, Callable[[Any], Any] | None], ...]


class Telling:
    """Tells daemons what has fallen.

    Args:
        daemon: Who tells.
        lost: Is called with event, target and reason for a firing that cannot be told.
    """

    def __init__(self, daemon: Daemon, lost: Callable[[Event, str, str], None]) -> None:
        self._system = daemon.system
        self._cell = daemon._d9_cell
        self._lost = lost
        self._lines: dict[int, list[_Line]] = {}

    def forget(self) -> None:
        """Look targets up anew: others have had a turn."""
        self._lines.clear()

    def tell(self, firing: Firing) -> list[Message]:
        """Tell a firing; return what found no room, for `wait_for_room`."""
        event = firing.event
        lines = self._lines.get(id(event))
        if lines is None:
            lines = self._look_up(firing)
        full = []
        tell = self._system.scheduler.tell
        for cell, verb, arguments, varying in lines:
            told = dict(arguments)
            try:
                for name, place, take in varying:
                    told[name] = firing[place] if take is None else take(firing[place])
                tell(Message(cell, verb, KEYWORDS, told))
            except MailboxFull:
                full.append(Message(cell, verb, KEYWORDS, told))
            except (Dan9Error, Misfit) as error:
                self._lost(event, cell.address, error.text)
        return full

    async def wait_for_room(self, event: Event, message: Message) -> None:
        """Send what found no room as soon as there is some."""
        self.forget()
        ticket = Ask(message.cell, message.verb, KEYWORDS, {}, ROOM_S)
        ticket.carries = message
        try:
            await ticket
        except Dan9Error as error:
            self._lost(event, message.cell.address, error.text)

    def _look_up(self, firing: Firing) -> list[_Line]:
        """Find whom an event is told, and what of a firing each takes."""
        event = firing.event
        targets = [event.target]
        if is_pattern(event.target):
            targets = self._system.addresses(event.target)
        lines = []
        for target in targets:
            try:
                lines.append(self._line(target, firing))
            except Dan9Error as error:
                self._lost(event, target, error.text)
        if len(lines) == len(targets):  # who was lost is looked up, and counted, each time
            self._lines[id(event)] = lines
        return lines

    def _line(self, target: str, firing: Firing) -> _Line:
        event = firing.event
        told = {
            "tick": firing.tick,
            "turns": firing.turns,
            "gear": event.gear,
            "event": event.name,
        }
        verb = self._system.verb_of(self._system.cell_of(target, self._cell), event.type)
        takes: dict[str, tuple[str, Callable[[Any], Any] | None]] = {
            key: (key, None) for key in told
        }
        if verb.function is not None:
            if not verb.signature.takes_fields:
                takes = {}
            takes |= {one.key: (one.name, one.shape.take) for one in verb.signature.parameters}
        told = {key: value for key, value in told.items() if key in takes}
        cell, verb, arguments = self._system.message_parts(
            target, event.type, {**told, **event.payload}, self._cell
        )
        varying = [
            (*takes[key][:1], place, takes[key][1])
            for key, place in (("tick", 0), ("turns", 2))
            if key in told and key not in event.payload
        ]
        return _Line(cell, verb, arguments, tuple(varying))
