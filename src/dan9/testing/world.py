"""A world of its own for a system: virtual time, a seed, faults, an event log, invariants.

Everything that chance decides in a world is drawn from the seed: the order in which
what is runnable runs, ids, jitter, which messages the faults strike. The event log
names no memory address and no object, so that two runs of one seed can be compared byte
for byte. At every step of the scheduler the world checks that no message was lost:
sent + duplicated = handled + in hand + dead + queued, per daemon and in sum.
"""

from __future__ import annotations

import asyncio
import random
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from dan9.base.address import Pattern
from dan9.base.events import Event, LogEntry, event_form
from dan9.kernel import mailbox
from dan9.kernel.cell import CLOSED, PAUSED, RUNNING, Cell
from dan9.kernel.clock import VirtualClock
from dan9.kernel.kernel import System
from dan9.kernel.message import ORDINARY, Message
from dan9.testing.faults import (
    ClockJump,
    Crash,
    Delay,
    Drop,
    Duplicate,
    Fault,
    FullMailbox,
    Hold,
    SlowHandler,
)
from dan9.testing.invariants import Invariants

if TYPE_CHECKING:
    from dan9.base.ports import Store

__all__ = ["FaultInjected", "World", "run_world", "world"]

T = TypeVar("T")

PATIENCE_S = 3600.0
"""How long, in virtual time, a system may take to come down."""


class FaultInjected(Exception):
    """The crash that a fault plan asked for."""


class World:
    """A system in virtual time under a seed.

    Args:
        seed: Decides everything that is left to chance.
        faults: What goes wrong.
        check: Check the invariants at every step.
        record: Keep the event log.
        store: Where state is kept, if anywhere.

    Attributes:
        system: The system.
        clock: Its virtual clock.
        log: One line an event, in order.
        struck: How often each kind of fault struck.
        steps: How many steps the scheduler made.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        faults: Iterable[Fault] = (),
        name: str = "world",
        check: bool = True,
        record: bool = True,
        copy: bool = True,
        store: Store | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self.seed = seed
        self.clock = clock if clock is not None else VirtualClock()
        self.system = System(
            name,
            daemons="none",
            socket=False,
            clock=self.clock,
            seed=seed,
            copy=copy,
            store=store,
            shuffle=True,
        )
        self.log: list[str] = []
        self.struck: Counter[str] = Counter()
        self.steps = 0
        self._record = record
        self._checks = check
        self._random = random.Random(f"faults {seed}")
        self._faults = [(fault, Pattern(fault.who)) for fault in faults]
        self._seen: Counter[tuple[int, str]] = Counter()
        self._fits: dict[tuple[int, Cell], bool] = {}
        self._held: list[Message] = []
        self._slowed: set[int] = set()
        self._after: dict[int, Crash] = {}
        system = self.system
        self.invariants = Invariants(system, seed)
        system.on_incoming = self._incoming
        system.on_handling = self._handling
        system.on_handled = self._handled
        if check:
            system.on_step = self._step
        if record:
            system.subscribe_events(self._event)

    # -- faults by hand ------------------------------------------------------------------

    def release(self) -> int:
        """Let the held messages go on; return how many there were."""
        held, self._held = self._held, []
        for message in held:
            self._arrive(message)
        return len(held)

    def crash(self, address: str, text: str = "by hand") -> None:
        """Crash a daemon now."""
        cell = self.system.cell_of(address)
        self.system.lifecycle.crashed(cell, None, FaultInjected(text))

    async def quiet(self) -> None:
        """Wait until nothing is runnable: what was to happen now has happened."""
        scheduler = self.system.scheduler
        while scheduler.run_first is not None or scheduler.control or scheduler.wanted:  # noqa: ASYNC110
            await asyncio.sleep(0)  # an event would cost the scheduler a check at every turn
        self.invariants.at_rest()

    async def end(self) -> None:
        """Take the system down; one that does not come down is a breach, not a test that hangs."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self.system.down()
        except TimeoutError:
            self.invariants.broken(f"the system was not down after {PATIENCE_S:g} s")

    def _loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """An exception in one of the kernel's callbacks is a breach."""
        error = context.get("exception")
        if error is not None and "callback" in context.get("message", ""):
            trace = "".join(traceback.format_exception(error))
            self.invariants.broken(f"the kernel raised in a callback:\n{trace}")
        else:
            loop.default_exception_handler(context)

    # -- what the kernel shows us --------------------------------------------------------

    def _note(self, text: str) -> None:
        if self._record:
            self.log.append(f"{self.clock.monotonic():.9f} {text}")

    def _event(self, event: Event) -> None:
        form = event_form(event)
        form.pop("trace", None)  # file paths differ between machines
        form.pop("stack", None)
        name = form.pop("event")
        self._note(f"{name} " + " ".join(f"{key}={form[key]!r}" for key in sorted(form)))

    def log_entry(self, entry: LogEntry) -> None:
        """Keep a log entry among the events: `system.log_sink = world.log_entry`."""
        self._note(f"log {entry.level} {entry.source} {entry.text}")

    def _incoming(self, cell: Cell, message: Message) -> bool:
        self._note(f"queue {message.id} {message.type} {message.sender} -> {cell.address}")
        if message.verb.kind != ORDINARY:
            return True
        for fault, pattern in self._faults:
            if isinstance(fault, (Crash, SlowHandler)) or not self._strikes(
                fault, pattern, cell, message
            ):
                continue
            self._struck(fault, message)
            if isinstance(fault, Drop):
                self.system.scheduler.bury(message, "dropped-by-fault")
                return False
            if isinstance(fault, Duplicate):
                self._duplicate(cell, message)
            elif isinstance(fault, Delay):
                self._hold(cell, message)
                self._later(fault.seconds, lambda message=message: self._arrive(message))  # type: ignore[misc]
                return False
            elif isinstance(fault, Hold):
                self._hold(cell, message)
                self._held.append(message)
                return False
            elif isinstance(fault, FullMailbox):
                self._fill(cell, fault.seconds)
            elif isinstance(fault, ClockJump):
                self.clock.shift_wall(fault.seconds)
        return True

    def _handling(self, cell: Cell, message: Message) -> bool:
        if message.verb.kind == ORDINARY:
            for fault, pattern in self._faults:
                if isinstance(fault, Crash) and self._strikes(fault, pattern, cell, message):
                    self._struck(fault, message)
                    if not self._crash(fault, cell, message):
                        return False
                elif (
                    isinstance(fault, SlowHandler)
                    and message.serial not in self._slowed
                    and self._strikes(fault, pattern, cell, message)
                ):
                    self._struck(fault, message)
                    self._slowed.add(message.serial)
                    mailbox.put_back(cell, message)
                    cell.gate |= PAUSED
                    self._later(fault.seconds, lambda: self._go_on(cell))
                    return False
        if self._checks:
            self.invariants.handling(cell, message)
        self._note(f"handle {message.id} {message.type} {cell.address}")
        return True

    def _handled(self, cell: Cell, message: Message) -> None:
        self._note(f"done {message.id} {message.type} {cell.address}")
        fault = self._after.pop(message.serial, None)
        if fault is not None:
            error = FaultInjected(f"after {message.type}")
            instance = cell.instance

            def crash(_: object) -> None:
                if cell.instance is instance and cell.state == RUNNING:
                    self.system.lifecycle.crashed(cell, None, error)

            self.system.scheduler.call_soon(crash, None, None)

    def _step(self) -> None:
        self.steps += 1
        self.invariants.steps = self.steps
        self.invariants.check()

    def check(self) -> None:
        """Check the invariants now.

        Raises:
            BrokenPromise: One does not hold; LostMessages if a message was lost.
        """
        self.invariants.steps = self.steps
        self.invariants.check()
        if self.invariants.breach is not None:
            raise self.invariants.breach

    # -- doing it ------------------------------------------------------------------------

    def _strikes(self, fault: Fault, pattern: Pattern, cell: Cell, message: Message) -> bool:
        if self.struck[fault.kind] >= fault.most or cell.home.group == "system":
            return False
        if fault.type and fault.type != message.type:
            return False
        known = (id(fault), cell)
        fits = self._fits.get(known)
        if fits is None:
            fits = self._fits[known] = pattern.matches(cell.address)
        if not fits:
            return False
        if fault.nth:
            key = (id(fault), cell.address)
            self._seen[key] += 1
            return self._seen[key] == fault.nth
        return self._random.random() < fault.chance

    def _struck(self, fault: Fault, message: Message) -> None:
        self.struck[fault.kind] += 1
        self._note(f"fault {fault.kind} {message.id} {message.recipient}")

    def _crash(self, fault: Crash, cell: Cell, message: Message) -> bool:
        """Crash before, while or after; False if the message is not handled now."""
        error = FaultInjected(f"{fault.at} {message.type}")
        if fault.at == "before":
            mailbox.put_back(cell, message)
            self.system.lifecycle.crashed(cell, None, error)
            return False
        if fault.at == "while":
            self.system.scheduler.count_handled(cell, message.verb)
            self.system.lifecycle.crashed(cell, message, error)
            return False
        self._after[message.serial] = fault
        return True

    def _go_on(self, cell: Cell) -> None:
        cell.gate &= ~PAUSED
        self.system.scheduler.make_runnable(cell)

    def _duplicate(self, cell: Cell, message: Message) -> None:
        scheduler = self.system.scheduler
        again = Message(cell, message.verb, message.shape, message.args)
        again.origin = message.origin
        again.serial = message.serial
        again.sent_at = message.sent_at
        again.own_id = message.own_id
        scheduler.duplicated += 1
        cell.chill().received += 1
        scheduler.link(cell, again)

    def _hold(self, cell: Cell, message: Message) -> None:
        self.system.held += 1
        cell.chill().received -= 1
        self.invariants.delayed(message)

    def _arrive(self, message: Message) -> None:
        """Let a message that was kept back come in now."""
        self.system.held -= 1
        scheduler = self.system.scheduler
        cell = self.system.current_cell_of(message.cell)
        message.cell = cell
        cell.chill().received += 1
        if cell.gate & CLOSED:
            scheduler.bury(message, "not-running")
            return
        scheduler.link(cell, message)

    def _fill(self, cell: Cell, seconds: float) -> None:
        cold = cell.chill()
        before = cell.limit
        cell.limit = 1

        def drain() -> None:
            cell.limit = before
            if cold.room is not None:
                self.system.scheduler.let_in(cell)

        self._later(seconds, drain)

    def _later(self, seconds: float, callback: Callable[[], object]) -> None:
        scheduler = self.system.scheduler
        scheduler.call_at(scheduler.time() + seconds, callback)


WAIT_S = 2.0
"""How long a world in which nothing can happen waits for threads and sockets, in real time."""


@asynccontextmanager
async def world(seed: int = 0, **options: Any) -> AsyncIterator[World]:
    """A world in the running loop, which must be a virtual clock's: see `run_world`."""
    loop: Any = asyncio.get_running_loop()
    options.setdefault("clock", loop.virtual_clock)
    loop._selector.patience_s = options.pop("wait_s", WAIT_S)
    made = World(seed, **options)
    invariants = made.invariants
    loop.set_exception_handler(made._loop_error)
    invariants.on_breach = asyncio.current_task().cancel  # type: ignore[union-attr]
    await made.system.up()
    try:
        try:
            yield made
            await made.quiet()
        except BaseException as error:
            if invariants.breach is not None:
                raise invariants.breach from None
            error.add_note(f"dan9 seed: {seed}")
            raise
    finally:
        invariants.on_breach = None
        await made.end()
        loop.set_exception_handler(None)
    if invariants.breach is not None:
        raise invariants.breach


def run_world(
    body: Callable[[World], Coroutine[Any, Any, T]], seed: int = 0, **options: Any
) -> tuple[T, World]:
    """Run `body(world)` in a world of its own; return its value and the world.

    An exception carries the seed in its notes.
    """
    clock = VirtualClock()
    kept: list[World] = []

    async def main() -> T:
        async with world(seed, clock=clock, **options) as made:
            kept.append(made)
            return await body(made)

    value: T = clock.run(main())
    return value, kept[0]
