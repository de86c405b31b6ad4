"""The inbox of a daemon with a loop of its own, and `dispatch`.

`async for message in self.inbox()` gives the messages in order; the loop ends when
the daemon is to stop. A message is in hand until the next one is asked for: then it
counts as handled. One that the loop does not answer is answered by its deadline.
"""

from __future__ import annotations

import asyncio
import inspect
from typing import TYPE_CHECKING

from dan9.base.errors import Refused
from dan9.kernel.cell import HELD
from dan9.kernel.message import IN_HAND, Message
from dan9.kernel.native import CoroutineHand
from dan9.kernel.parking import Parking

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell
    from dan9.kernel.daemon import Daemon

__all__ = ["Inbox", "dispatch", "let_go"]


class Inbox:
    """An asynchronous iterator over one daemon's messages."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell

    def __aiter__(self) -> Inbox:
        return self

    async def __anext__(self) -> Message:
        cell = self._cell
        scheduler = cell.home.scheduler
        cold = cell.chill()
        let_go(cell)
        while True:
            stopping = cold.stopping
            if stopping is not None and not (stopping.drain and cell.head is not None):  # type: ignore[attr-defined]
                raise StopAsyncIteration
            message = None if cell.gate & HELD else scheduler.take(cell)
            if message is not None:
                cold.taken = message
                hand = scheduler.current_hand
                if hand is not None and hand.cell is cell:
                    hand.message = message
                    scheduler.current = message
                # A new holder for each: tasks of an earlier message keep theirs.
                IN_HAND.set(CoroutineHand(cell, message, None, None))
                return message
            hand = scheduler.current_hand
            if hand is not None and hand.cell is cell:
                hand.message = None  # nothing is in hand between two messages
            parking = Parking(scheduler)
            cold.inbox_waiter = parking
            await parking


def let_go(cell: Cell) -> None:
    """Count the message that the loop had in hand as handled."""
    cold = cell.cold
    if cold is None or cold.taken is None:
        return
    message = cold.taken
    cold.taken = None
    cell.home.scheduler.count_handled(cell, message.verb)


async def dispatch(daemon: Daemon, message: Message) -> None:
    """Run the handler of a message and answer it.

    A refusal is an answer; any other exception leaves `main` and is a crash.
    """
    verb = message.verb
    cell = message.cell
    scheduler = cell.home.scheduler
    if verb.function is None:
        message.refuse(scheduler.unknown(cell, verb.type))
        return
    args, kwargs = message.arguments()
    try:
        value = verb.function(daemon, *args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
    except asyncio.CancelledError:
        raise
    except Refused as error:
        scheduler.ports.refused(cell, message, error)
        message.refuse(error)
    except TypeError as error:
        refusal = scheduler.ports.bad_call(cell, message, error)
        if refusal is None:
            raise
        scheduler.ports.refused(cell, message, refusal)
        message.refuse(refusal)
    else:
        message.reply(value)
