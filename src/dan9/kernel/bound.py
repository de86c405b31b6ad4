"""Bound messages: what a ref's attributes are.

A ref has an address, the local mailbox behind it and the class's behaviour table,
never an instance. Its attributes are the daemon's messages: `await ref.add(2)` asks,
`ref.add.tell(2)` tells, `await ref.add.send(2)` tells and waits for room,
`await ref.add.within(1.0)(2)` asks with a deadline of its own. Type checkers see the
class itself.

`Bound` is compiled and kept in the ref's `__dict__` from its first use, so that
Python finds it there without calling anything: 250 ns a hop against 1,039 through
`__getattr__` every time. Its positional parameters have names that no handler uses:
mypyc lets a keyword of the same name clash even with a positional-only parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from dan9.base.duration import parse_duration
from dan9.base.errors import NotAllowed
from dan9.kernel.message import MIXED, NO_ARGS, ONE_ARG, TUPLE_ARGS, Ask, Message

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell
    from dan9.kernel.message import Verb

__all__ = ["Bound", "pack"]


@final
class _Missing:
    pass


_MISSING: Final = _Missing()


def pack(args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[int, object]:
    """Return the shape and the one object that carry these arguments."""
    if kwargs:
        return MIXED, (args, kwargs)
    if not args:
        return NO_ARGS, None
    if len(args) == 1:
        return ONE_ARG, args[0]
    return TUPLE_ARGS, args


@final
class Bound:
    """One message of one daemon, ready to be said."""

    __slots__ = (
        "cell",
        "timeout_s",
        "verb",
    )

    def __init__(self, cell: Cell, verb: Verb, timeout_s: float = -1.0) -> None:
        self.cell = cell
        self.verb = verb
        self.timeout_s = timeout_s

    def __call__(self, _1: object = _MISSING, *rest: object, **kw: object) -> Ask:
        """Ask: await the result for the reply."""
        if not rest and not kw:
            shape = NO_ARGS if _1 is _MISSING else ONE_ARG
            return Ask(self.cell, self.verb, shape, _1, self.timeout_s)
        return Ask(self.cell, self.verb, *packed(_1, rest, kw), self.timeout_s)

    def tell(self, _1: object = _MISSING, *rest: object, **kw: object) -> None:
        """Tell: send and go on.

        Raises:
            MailboxFull: There is no room.
        """
        cell = self.cell
        if not rest and not kw:
            shape = NO_ARGS if _1 is _MISSING else ONE_ARG
            cell.home.scheduler.tell(Message(cell, self.verb, shape, _1))
        else:
            cell.home.scheduler.tell(Message(cell, self.verb, *packed(_1, rest, kw)))

    def send(self, *args: object, **kw: object) -> Ask:
        """Tell and wait for room: await the result."""
        ticket = Ask(self.cell, self.verb, NO_ARGS, None, self.timeout_s)
        ticket.carries = Message(self.cell, self.verb, *pack(args, kw))
        return ticket

    def within(self, timeout_s: float | str | None) -> Bound:
        """Return the same message with a deadline of its own: seconds, or text such as "250ms"."""
        seconds = float("inf") if timeout_s is None else parse_duration(timeout_s)
        return Bound(self.cell, self.verb, seconds)

    def __repr__(self) -> str:
        return f"<{self.verb.type} of {self.cell.address}>"


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


def packed(first: object, rest: tuple[object, ...], kw: dict[str, object]) -> tuple[int, object]:
    """Return shape and carrier of the arguments of a call."""
    return pack(rest if first is _MISSING else (first, *rest), kw)
