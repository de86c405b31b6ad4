"""Links and monitors: how one daemon hears of another's end.

A monitor is one-way: the watcher is told `Down(address, reason)`. A link is two-way:
the abnormal end of one ends the other with the same reason (OTP, "Error Handling").
"""

from __future__ import annotations

from dataclasses import dataclass

from dan9.base.reasons import Reason
from dan9.kernel.cell import Cell

__all__ = ["Down", "add_monitor", "drop_link", "drop_monitor", "link"]


@dataclass(frozen=True, slots=True)
class Down:
    """A monitored daemon has ended.

    Attributes:
        address: Whose end it was.
        reason: Why; kind `noproc` if it was not there to begin with.
        monitor: The id that `monitor` gave.
    """

    address: str
    reason: Reason
    monitor: int = 0


def add_monitor(watcher: Cell, target: Cell, number: int) -> None:
    """Have `watcher` told when `target` ends."""
    cold = target.chill()
    if cold.monitors is None:
        cold.monitors = {}
    cold.monitors[number] = watcher
    own = watcher.chill()
    if own.watching is None:
        own.watching = {}
    own.watching[number] = target


def drop_monitor(watcher: Cell, number: int) -> bool:
    """Take a monitor back; False if there is none of that number."""
    own = watcher.cold
    if own is None or own.watching is None:
        return False
    target = own.watching.pop(number, None)
    if target is None:
        return False
    if target.cold is not None and target.cold.monitors is not None:
        target.cold.monitors.pop(number, None)
    return True


def link(one: Cell, other: Cell) -> None:
    """Tie two daemons' fates; linking twice, or to oneself, changes nothing."""
    if one is other:
        return
    for near, far in ((one, other), (other, one)):
        cold = near.chill()
        if cold.links is None:
            cold.links = []
        if far not in cold.links:
            cold.links.append(far)


def drop_link(one: Cell, other: Cell) -> None:
    """Untie them."""
    for near, far in ((one, other), (other, one)):
        if near.cold is not None and near.cold.links and far in near.cold.links:
            near.cold.links.remove(far)
