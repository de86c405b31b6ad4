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

from mypy_extensions import i32, mypyc_attr

from dan9.base.address import SCHEME
from dan9.base.binding import NOTHING
from dan9.base.errors import Dan9Error, to_form
from dan9.base.forms import wire_of
from dan9.kernel.message import ANSWERED, FOREVER, KEYWORDS, NO_ARGS, ONE_ARG, Ask, Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from dan9.base.binding import Binding
    from dan9.base.shape import Take
    from dan9.kernel.cell import Cell
    from dan9.kernel.message import Verb
    from dan9.kernel.registry import Registry
    from dan9.kernel.scheduler import Scheduler

__all__ = ["CallbackReply", "WireReply", "Wires"]

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
        self.binding: Binding = verb.signature.binding
        self.wire: Take | None = verb.signature.reply.wire

    def take(self, payload: dict[str, Any]) -> tuple[i32, object]:
        """Return the checked arguments as a message has them: their shape, and one object."""
        # Most messages have one key or none: they need no dict, and no call by names.
        value = self.binding.alone(payload)
        if value is not NOTHING:
            return ONE_ARG, value
        checked = self.binding.bind(payload)
        return KEYWORDS if checked else NO_ARGS, checked


@mypyc_attr(acyclic=True)
class WireReply(Listener):
    """Takes the end of an ask to a wire, in wire form, once."""

    def __init__(self) -> None:
        self.wire: Take | None = None

    def answer(self, ok: bool, value: Any) -> None:
        """Take True and the reply, or False and the error form."""
        raise NotImplementedError

    def ended(self, ask: Ask) -> None:
        """Hear of the ask's end from the kernel."""
        if ask.state == ANSWERED:
            value = ask.result_
            wire = self.wire
            if wire is not None:
                try:
                    value = wire(value)
                except Exception as failure:
                    self.fail(ask, failure)
                    return
            self.answer(True, value)
        else:
            self.fail(ask, ask.failure())

    def fail(self, ask: Ask, error: BaseException) -> None:
        """Take an error."""
        self.answer(False, to_form(error, address=ask.cell.address, message=ask.verb.type))


class CallbackReply(WireReply):
    """Hands it to a callback."""

    def __init__(self, callback: Callable[[bool, Any], object]) -> None:
        super().__init__()
        self.callback = callback

    def answer(self, ok: bool, value: Any) -> None:
        """Call back."""
        self.callback(ok, value)


@mypyc_attr(allow_interpreted_subclasses=True)
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
        self.is_held = False

    def parts(
        self, to: str, type_: str, payload: dict[str, Any]
    ) -> tuple[Cell, Verb, i32, object, Take | None]:
        """Return the receiver, the verb, the checked arguments and what converts the reply.

        Arguments are as a message has them.

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
                    shape, args = way.take(payload)
                    return cell, way.verb, shape, args, way.wire
                del ways[type_]
                self.kept -= 1
        cell, verb, checked = self.find(to, type_, payload)
        # An own loop has no signature: its replies are converted by what they are.
        wire = wire_of if verb.function is None else verb.signature.reply.wire
        # A path may be bound anew, and an own loop has no table to look into.
        if verb.function is not None and to[:1] != "/":
            if self.kept >= _MOST:
                self.ways.clear()
                self.kept = 0
            registry = self.registry
            way = _Way(cell, verb, not to.startswith(SCHEME), registry.serial, registry.count)
            self.ways.setdefault(to, {})[type_] = way
            self.kept += 1
        return cell, verb, KEYWORDS, checked, wire

    def hold(self) -> None:
        """Begin a turn for what is handed over until `turn`.

        Not if somebody waits for a turn already: who asks gets in line, or every piece
        from every client would make a turn of its own before the loop hears anybody else.
        """
        scheduler = self.scheduler
        self.is_held = not scheduler.wanted and not scheduler.in_turn
        if self.is_held:
            scheduler.begin_turn()

    def ask(
        self,
        sender: str,
        to: str,
        type_: str,
        payload: dict[str, Any],
        reply: WireReply,
        timeout_s: float | None = -1.0,
        message_id: str | None = None,
    ) -> Any:  # an Ask; a fake has something else that can be cancelled
        """Ask for a client.

        Args:
            sender: Who asks.
            to: Address, bare name or namespace path.
            type_: The message type.
            payload: As it came.
            reply: Gets the answer, or the refusal.
            timeout_s: Negative is the message's own, None is for ever.
            message_id: Names the message across retries.

        Returns:
            What `cancel()` may be called on; None if the answer was given already.
        """
        try:
            cell, verb, shape, args, reply.wire = self.parts(to, type_, payload)
        except Dan9Error as error:
            reply.answer(False, to_form(error, message=type_))
            return None
        ask = Ask(cell, verb, shape, args, FOREVER if timeout_s is None else timeout_s)
        if message_id is not None:
            ask.own_id = message_id
        ask.origin = sender
        self.scheduler.submit_inside(ask)
        if ask.state >= ANSWERED:
            reply.ended(ask)
            return None
        ask.listener = reply
        return ask

    def turn(self) -> None:
        """Let the node work on what was handed over since `hold`, for a millisecond or so."""
        if self.is_held:
            self.scheduler.run_turn()
