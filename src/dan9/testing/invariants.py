"""What holds at every step of every system, whatever befell it.

A world calls `Invariants` at its hooks; the first breach ends the run and says the seed. They are
written against what a user was promised (`docs/explanation/supervision.md`), never
against how the kernel does it, so that a change of the kernel needs no change here:

- no message is lost or made up, per daemon and in sum;
- who has a message and may handle it is in the run queue, once; who waits for room is let in;
- from one sender to one receiver messages are handled in the order they were sent,
  unless a fault delayed one or its handler is concurrent;
- an ask that expired is not handled;
- a daemon starts only when it is down: one end, one restart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dan9.base.events import (
    DaemonCrashed,
    DaemonRestarted,
    DaemonStarted,
    DaemonStopped,
    Event,
)
from dan9.kernel.cell import BUSY, HELD, NOT_RUNNABLE, OWN_LOOP, QUEUED, RUNNING, Cell, Runnable
from dan9.kernel.message import ORDINARY, PENDING, Ask, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dan9.kernel.hand import Hand
    from dan9.kernel.kernel import System

__all__ = ["BrokenPromise", "Invariants", "LostMessages"]


class BrokenPromise(AssertionError):
    """Dan9 did not keep a promise: a bug in Dan9, with the seed that shows it."""


class LostMessages(BrokenPromise):
    """A message was lost or made up."""


class Invariants:
    """Checks one system.

    Args:
        system: The system.
        seed: Its seed, for the text of a breach.
    """

    def __init__(self, system: System, seed: int) -> None:
        self.system = system
        self.seed = seed
        self.steps = 0
        self._up: dict[str, bool] = {}
        self._last: dict[tuple[str, Cell], int] = {}
        self._delayed: set[int] = set()
        self.breach: BrokenPromise | None = None
        self.on_breach: Callable[[], object] | None = None
        system.subscribe_events(self.event)

    def broken(self, text: str, *, lost: bool = False) -> None:
        """Note a breach; the first one counts.

        Nothing is raised here: the kernel's hooks are called from the event loop, where an
        exception would only be logged and might break what it was to watch.
        """
        if self.breach is None:
            error = LostMessages if lost else BrokenPromise
            self.breach = error(f"seed {self.seed}, step {self.steps}: {text}")
            if self.on_breach is not None:
                self.on_breach()

    # -- messages ------------------------------------------------------------------------

    def delayed(self, message: Message) -> None:
        """Note that a fault lets others overtake this message."""
        self._delayed.add(message.serial)

    def handling(self, cell: Cell, message: Message) -> None:
        """See a message that is about to be handled."""
        if isinstance(message, Ask) and (
            message.state != PENDING or message.until <= self.system.scheduler.time()
        ):
            self.broken(f"{message.type!r} of {cell.address} was handled after it had expired")
        if message.verb.kind != ORDINARY or message.verb.concurrent != 1:
            return
        serial = message.serial
        if serial in self._delayed:
            return
        key = (message.sender, cell)
        last = self._last.get(key, 0)
        if serial < last:
            self.broken(
                f"{cell.address} handled message {serial} of {message.sender} after message {last}"
            )
        self._last[key] = serial

    # -- lives ---------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """See a daemon begin or end."""
        if isinstance(event, (DaemonStarted, DaemonRestarted)):
            if self._up.get(event.address):
                self.broken(f"{event.address} was started while it ran")
            self._up[event.address] = True
        elif isinstance(event, (DaemonCrashed, DaemonStopped)):
            self._up[event.address] = False

    # -- at every step -------------------------------------------------------------------

    def check(self) -> None:
        """Check every daemon, and the sum."""
        if self.breach is not None:
            return
        system = self.system
        queued = in_hand = 0
        for cell in self._cells():
            cold = cell.cold
            depth = int(cell.depth)
            gate = cell.gate
            hand = cell.hand
            here = 1 if hand is not None and hand.message is not None else 0
            if cell.head is not None and not gate & NOT_RUNNABLE:
                self.broken(f"{cell.address} has messages and nobody wakes it up")
            if gate & BUSY and hand is None:
                self.broken(f"{cell.address} is busy with nothing")
            if cold is not None:
                depth += cold.set_aside
                if cold.taken is not None:
                    here += 1
                for other in cold.hands or ():
                    if other.message is not None and other.message is not cold.taken:
                        here += 1
                whole = cell.handled + here + cold.dead + depth
                if cold.received != whole:
                    self.broken(
                        f"{cell.address} received {cold.received}: handled {cell.handled}, in "
                        f"hand {here}, dead {cold.dead}, queued {depth}",
                        lost=True,
                    )
                if cold.room is not None and cell.depth < cell.limit:
                    self.broken(f"{cell.address} has room and lets nobody in")
                if (
                    gate & OWN_LOOP
                    and not gate & HELD
                    and cell.head is not None
                    and cold.inbox_waiter is not None
                ):
                    self.broken(f"the loop of {cell.address} is not told of its messages")
            elif cell.handled or depth or here:
                self.broken(f"{cell.address} handled what it did not receive", lost=True)
            queued += depth
            in_hand += here
        scheduler = system.scheduler
        self._check_queue(scheduler.run_first)
        sent = scheduler.sent + scheduler.duplicated
        queued += len(scheduler.control) + system.held
        if sent != scheduler.handled + scheduler.dead + queued + in_hand:
            self.broken(
                f"sent {sent}: handled {scheduler.handled}, in hand {in_hand}, dead "
                f"{scheduler.dead}, queued {queued}",
                lost=True,
            )
        if system.dead_letters.total < scheduler.dead:
            self.broken(f"{scheduler.dead} dead, {system.dead_letters.total} letters", lost=True)

    def _check_queue(self, runnable: Runnable | None) -> None:
        """Check that nobody is in the run queue twice: it would cost another his turn."""
        seen: set[int] = set()
        while runnable is not None:
            if id(runnable) in seen:
                self.broken(f"{runnable!r} is in the run queue twice")
                return
            seen.add(id(runnable))
            runnable = runnable.run_next

    def at_rest(self) -> None:
        """Check that nobody was forgotten; call it when nothing is runnable."""
        if self.system.scheduler.run_first is not None:
            return
        for cell in self._cells():
            if cell.gate & QUEUED:
                self.broken(f"{cell.address} waits to run and is not in the run queue")
            if cell.state == RUNNING and cell.cold is not None and cell.cold.set_aside:
                running = cell.cold.running or {}
                for type_, waiting in (cell.cold.backlog or {}).items():
                    if waiting and not running.get(type_):
                        self.broken(f"{cell.address} has set {type_!r} aside for nothing")
            for hand in _hands(cell):
                waits = hand.waits
                if hand.queued or (waits is not None and waits.done()):  # type: ignore[attr-defined]
                    self.broken(f"{hand.get_name()} is not resumed")

    def _cells(self) -> Iterator[Cell]:
        for home in self.system.registry.homes.values():
            yield from home.names.values()


def _hands(cell: Cell) -> list[Hand]:
    cold = cell.cold
    hands = list(cold.hands or ()) if cold is not None else []
    return [*hands, cell.hand] if cell.hand is not None else hands
