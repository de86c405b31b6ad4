"""What a bound message does when it is said.

A ref's attributes are the daemon's messages, each a `Bound` (`native.py`): `await ref.add(2)`
asks, `ref.add.tell(2)` tells, `await ref.add.send(2)` tells and waits for room,
`await ref.add.within(1.0)(2)` asks with a deadline of its own. `Bound` packs the arguments;
here is what becomes of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from mypy_extensions import i32

from dan9.base.duration import parse_duration
from dan9.base.errors import NotAllowed
from dan9.kernel.message import MIXED, NO_ARGS, ONE_ARG, TUPLE_ARGS, Ask, Message

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell
    from dan9.kernel.message import Verb

__all__ = ["Forbidden", "ask", "description", "pack", "seconds", "send", "tell"]


def pack(args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[int, object]:
    """Return the shape and the one object that carry these arguments."""
    if kwargs:
        return MIXED, (args, kwargs)
    if not args:
        return NO_ARGS, None
    if len(args) == 1:
        return ONE_ARG, args[0]
    return TUPLE_ARGS, args


def ask(cell: Cell, verb: Verb, shape: i32, args: object, timeout_s: float) -> Ask:
    """Ask: await the result for the reply."""
    return Ask(cell, verb, shape, args, timeout_s)


def tell(cell: Cell, verb: Verb, shape: i32, args: object) -> None:
    """Tell: send and go on.

    Raises:
        MailboxFull: There is no room.
    """
    cell.home.scheduler.tell(Message(cell, verb, shape, args))


def send(cell: Cell, verb: Verb, shape: i32, args: object, timeout_s: float) -> Ask:
    """Tell and wait for room: await the result."""
    ticket = Ask(cell, verb, NO_ARGS, None, timeout_s)
    ticket.carries = Message(cell, verb, shape, args)
    return ticket


def seconds(timeout: float | str | None) -> float:
    """Return a deadline in seconds: of a number, text such as "250ms", or None for none."""
    return float("inf") if timeout is None else parse_duration(timeout)


def description(cell: Cell, verb: Verb) -> str:
    """Return what a bound message is, for people."""
    return f"<{verb.type} of {cell.address}>"


@final
class Forbidden:
    """A message that a narrowed ref does not let through."""

    def __init__(self, address: str, type_: str) -> None:
        self.address = address
        self.type_ = type_

    def __call__(self, *args: object, **kw: object) -> object:
        """Refuse."""
        raise NotAllowed(
            f"this ref to {self.address} does not allow {self.type_!r}",
            hint="ask whoever gave you the ref for a wider one",
            address=self.address,
            message=self.type_,
        )

    def tell(self, *args: object, **kw: object) -> None:
        """Refuse."""
        self()

    def send(self, *args: object, **kw: object) -> object:
        """Refuse."""
        return self()

    def within(self, timeout_s: float | None) -> Forbidden:
        """Return itself."""
        return self
