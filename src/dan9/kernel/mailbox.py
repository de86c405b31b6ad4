"""A daemon's mailbox: its messages, oldest first, linked through their own `next`.

It has no record of its own: head, tail and depth are in the cell, so an empty mailbox costs
nothing. Taking the oldest and appending one are written out where every message passes
(`Scheduler.run_cell` and `enqueue`, `Bound.tell`); here is what the other paths share. Whether
a message may enter, and what becomes of one that may not, the scheduler decides.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dan9.kernel.message import ORDINARY

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell
    from dan9.kernel.message import Message

__all__ = ["append", "clear", "pop", "pop_ordinary", "put_back", "queued"]


def append(cell: Cell, message: Message) -> None:
    """Put a message at the end."""
    message.next = None
    tail = cell.tail
    if tail is None:
        cell.head = message
    else:
        tail.next = message
    cell.tail = message
    cell.depth += 1
    cold = cell.cold
    if cold is not None and cell.depth > cold.high_water:
        cold.high_water = cell.depth


def put_back(cell: Cell, message: Message) -> None:
    """Put a message at the head: its turn had come before."""
    message.next = cell.head
    cell.head = message
    if cell.tail is None:
        cell.tail = message
    cell.depth += 1


def pop(cell: Cell) -> Message | None:
    """Take the oldest message."""
    message = cell.head
    if message is None:
        return None
    following = message.next
    cell.head = following
    if following is None:
        cell.tail = None
    else:
        message.next = None
    cell.depth -= 1
    return message


def pop_ordinary(cell: Cell) -> Message | None:
    """Take the oldest message that the limit applies to."""
    before: Message | None = None
    message = cell.head
    while message is not None and message.verb.kind != ORDINARY:
        before = message
        message = message.next
    if message is None:
        return None
    if before is None:
        return pop(cell)
    before.next = message.next
    if message.next is None:
        cell.tail = before
    message.next = None
    cell.depth -= 1
    return message


def clear(cell: Cell) -> list[Message]:
    """Take all messages, oldest first."""
    messages = list(queued(cell))
    cell.head = cell.tail = None
    cell.depth = 0
    for message in messages:
        message.next = None
    return messages


def queued(cell: Cell) -> Iterator[Message]:
    """Iterate over the messages, oldest first; nothing may enter or leave meanwhile."""
    message = cell.head
    while message is not None:
        yield message
        message = message.next
