"""Asks that would wait for themselves: a asks b, which waits for a (DESIGN 3.4, RULES 16).

Who waits on whom is in the cells: each says what the handler that blocks it awaits. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dan9.base.errors import AskCycle
from dan9.kernel.message import CONTROL, ORDINARY, PENDING, Ask, Gather

if TYPE_CHECKING:
    from dan9.kernel.cell import Cell

__all__ = ["closes_cycle", "cycle_error"]

DEEPEST: Final = 1_000
"""How far waits are followed."""


def closes_cycle(ask: Ask, asker: Cell) -> bool:
    """True if the receiver waits, through daemons that all block, for the asker."""
    if ask.cell is asker:
        return ask.verb.concurrent == 1 and ask.verb.kind == ORDINARY
    return ask.verb.kind != CONTROL and _reaches(ask.cell, asker, 0)


def _reaches(cell: Cell, goal: Cell, depth: int) -> bool:
    """Follow who waits on whom."""
    if cell is goal:
        return True
    waits = cell.waits
    if waits is None or depth > DEEPEST:
        return False
    if isinstance(waits, Ask):
        return waits.state == PENDING and _reaches(waits.cell, goal, depth + 1)
    if isinstance(waits, Gather):
        for ask in waits.asks:
            if ask.state == PENDING and _reaches(ask.cell, goal, depth + 1):
                return True
    return False


def cycle_error(ask: Ask, asker: Cell) -> AskCycle:
    """Return the refusal, with the chain."""
    chain = [asker.address]
    cell = ask.cell
    while cell is not asker and len(chain) < DEEPEST:
        chain.append(cell.address)
        waits = cell.waits
        following: Cell | None = None
        if isinstance(waits, Ask):
            following = waits.cell
        elif isinstance(waits, Gather):
            for one in waits.asks:
                if one.state == PENDING and _reaches(one.cell, asker, 0):
                    following = one.cell
                    break
        if following is None:
            break
        cell = following
    chain.append(asker.address)
    return AskCycle(
        f"{ask.verb.type!r} to {ask.cell.address} would wait for itself: " + " → ".join(chain),
        hint="tell instead of ask, or make the waiting handler @on(concurrent=True)",
        address=ask.cell.address,
        message=ask.verb.type,
        chain=tuple(chain),
    )
