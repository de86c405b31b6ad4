"""Asks from a wire: the way to a handler found once, the answer handed over on the spot.

A client repeats itself: the same message to the same daemon, ten thousand times a second. So what
its text leads to (the cell, the verb, what checks the payload) is kept, and believed only
while the daemon still has its name: two look-ups instead of parsing and searching. A
bare name means whoever alone has it, so it is kept only until any daemon comes or goes.

The answer does not pass through the event loop: it is handed over inside the scheduler's
turn that made it, and leaves in the write that ends the turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from dan9.base.address import SCHEME
from dan9.base.errors import to_form
from dan9.base.forms import wire_of
from dan9.kernel.message import ANSWERED, KEYWORDS, Ask

if TYPE_CHECKING:
    from collections.abc import Callable

    from dan9.kernel.cell import Cell
    from dan9.kernel.message import Verb
    from dan9.kernel.registry import Registry
    from dan9.kernel.scheduler import Scheduler

__all__ = ["WireReply", "Wires"]

_MOST: Final = 4096  # ways kept; clients choose the texts, so there must be an end


@final
class _Way:
    """Where the text of an address and of a message type lead to."""

    def __init__(self, cell: Cell, verb: Verb, is_name: bool, serial: int, count: int) -> None:
        self.cell = cell
        self.verb = verb
        self.is_name = is_name
        self.serial = serial
        self.count = count
        self.bind: Callable[[dict[str, object]], dict[str, object]] = verb.signature.bind


@final
class WireReply:
    """Gives the end of an ask to a wire, in wire form. Called with the ask."""

    def __init__(self, verb: Verb, callback: Callable[[bool, object], object]) -> None:
        self.verb = verb
        self.callback = callback

    def __call__(self, ask: Ask) -> None:
        """Call back, once; it must not raise, because a turn is under way."""
        if ask.state == ANSWERED:
            value = ask.result_
            try:
                # An own loop has no signature: its replies are converted by what they are.
                verb = self.verb
                value = wire_of(value) if verb.function is None else verb.signature.wire(value)
            except Exception as failure:
                self.fail(ask, failure)
                return
            self.callback(True, value)
            return
        self.fail(ask, ask.failure())

    def fail(self, ask: Ask, error: BaseException) -> None:
        """Call back with an error."""
        self.callback(False, to_form(error, address=ask.cell.address, message=ask.verb.type))


@final
class Wires:
    """What clients at wires ask of one system.

    Args:
        scheduler: The system's.
        registry: The system's.
        find: `(to, type, payload)` to the cell, the verb and the checked payload; refuses
            with what is wrong.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        registry: Registry,
        find: Callable[[str, str, dict[str, Any]], tuple[Cell, Verb, dict[str, Any]]],
    ) -> None:
        self.scheduler = scheduler
        self.registry = registry
        self.find = find
        self.ways: dict[str, dict[str, _Way]] = {}
        self.kept = 0

    def parts(self, to: str, type_: str, payload: dict[str, Any]) -> tuple[Cell, Verb, object]:
        """Return the receiver, the verb and the checked payload.

        Raises:
            Refused: BadAddress, UnknownDaemon, UnknownMessage, BadPayload.
        """
        ways = self.ways.get(to)
        if ways is not None:
            way = ways.get(type_)
            if way is not None:
                cell = way.cell
                if way.is_name:
                    registry = self.registry
                    is_there = way.serial == registry.serial and way.count == registry.count
                else:
                    is_there = cell.home.names.get(cell.name) is cell
                if is_there:
                    return cell, way.verb, way.bind(payload)
                del ways[type_]
                self.kept -= 1
        cell, verb, checked = self.find(to, type_, payload)
        # A path may be bound anew, and an own loop has no table to look into.
        if verb.function is not None and to[:1] != "/":
            if self.kept >= _MOST:
                self.ways.clear()
                self.kept = 0
            registry = self.registry
            way = _Way(cell, verb, not to.startswith(SCHEME), registry.serial, registry.count)
            self.ways.setdefault(to, {})[type_] = way
            self.kept += 1
        return cell, verb, checked

    def ask(
        self,
        sender: str,
        to: str,
        type_: str,
        payload: dict[str, Any],
        timeout_s: float,
        message_id: str | None,
        callback: Callable[[bool, object], object],
    ) -> Ask | None:
        """Ask; `callback(ok, value or error form)` is called once, inside the turn that answers.

        Returns what `cancel()` may be called on; None if the answer was given already.
        """
        cell, verb, checked = self.parts(to, type_, payload)
        ask = Ask(cell, verb, KEYWORDS, checked, timeout_s)
        if message_id is not None:
            ask.own_id = message_id
        ask.origin = sender
        self.scheduler.submit(ask)
        reply = WireReply(verb, callback)
        if ask.state >= ANSWERED:
            reply(ask)
            return None
        ask.direct = reply
        return ask
