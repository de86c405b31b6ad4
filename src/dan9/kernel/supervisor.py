"""Supervision: children started in order, restarted as decided, stopped in reverse.

`restart.py` decides; here it is done. Every daemon that spawns children supervises
them (one_for_one, backoff, no intensity) and takes them along when it ends. A
`Supervisor` declares more: specs, a strategy, an intensity. One that gives up
ends itself, and its own supervisor decides: failures escalate upward only.

Source: Erlang/OTP, "Supervisor Behaviour" and `supervisor.erl`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from dan9.base.address import SCHEME
from dan9.base.errors import BadConfig, Corrupt, RestartIntensityExceeded
from dan9.base.events import DaemonFailed as DaemonFailedEvent
from dan9.base.events import RestartIntensityReached
from dan9.base.reasons import SHUTDOWN, Reason
from dan9.kernel.cell import CREATED, FAILED, STARTING, STOPPED, Cell
from dan9.kernel.daemon import Config, Daemon
from dan9.kernel.parking import Parking
from dan9.kernel.restart import (
    RESTARTS,
    STRATEGIES,
    Backoff,
    RestartWindow,
    Streak,
    affected,
    wants_restart,
)

if TYPE_CHECKING:
    from dan9.kernel.kernel import System

__all__ = ["ChildSpec", "Supervision", "Supervisor", "spawn_child"]

DEFAULT_BACKOFF = Backoff()


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """What a supervisor knows of a child before it runs.

    Attributes:
        cls: The Daemon class, or a coroutine function.
        name: The child's name; unique among its siblings.
        group: Its group.
        config: Its configuration and initial state.
        restart: `permanent` (always), `transient` (after an abnormal end), `temporary` (never).
        backoff: The pause before each restart.
        shutdown_s: How long stopping may take before it is killed; None: the class's.
        options: What else `System.spawn` takes: mailbox, policy, clock, allow, keep.
    """

    cls: Any
    name: str
    group: str = "default"
    config: dict[str, Any] = field(default_factory=dict)
    restart: str = "permanent"
    backoff: Backoff = DEFAULT_BACKOFF
    shutdown_s: float | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.restart not in RESTARTS:
            raise BadConfig(
                f"restart={self.restart!r} of {self.name}", hint="one of " + ", ".join(RESTARTS)
            )


@dataclass(slots=True)
class Rules:
    """How one supervisor treats its children."""

    strategy: str = "one_for_one"
    window: RestartWindow | None = None
    healing: bool = False
    fallen: list[tuple[Cell, Reason]] = field(default_factory=list)  # ended while healing


DEFAULT_RULES = Rules()


class Supervision:
    """Does what supervisors decide, for all daemons of one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.scheduler = system.scheduler
        self.is_going_down = False
        self.restarting: set[Cell] = set()  # by command: their names stay taken

    # -- who belongs to whom -------------------------------------------------------------

    def adopt(self, parent: Cell, child: Cell) -> None:
        """Make `child` a child of `parent`."""
        cold = parent.chill()
        if cold.children is None:
            cold.children = {}
        cold.children[child.address] = child
        child.chill().parent = parent

    def spec_of(self, cell: Cell) -> ChildSpec | None:
        """Return the spec of a child if it differs from the default."""
        return cell.cold.spec if cell.cold is not None else None  # type: ignore[return-value]

    def restart_of(self, cell: Cell) -> str:
        """Return the restart type of a daemon."""
        spec = self.spec_of(cell)
        if spec is not None:
            return spec.restart
        return str(cell.home.behaviour.options.get("restart", "permanent"))

    def shutdown_of(self, cell: Cell) -> float:
        """Return how long stopping a daemon may take: its child spec's word, or its class's."""
        spec = self.spec_of(cell)
        if spec is not None and spec.shutdown_s is not None:
            return spec.shutdown_s
        return cell.home.behaviour.shutdown_s

    def rules_of(self, parent: Cell | None) -> Rules:
        """Return how this parent treats its children."""
        if parent is None or parent.cold is None or parent.cold.supervision is None:
            return DEFAULT_RULES
        return parent.cold.supervision  # type: ignore[return-value]

    def forget(self, cell: Cell) -> None:
        """Drop a child's spec: its name is free."""
        self.forget_restart(cell)
        self.system.lifecycle._bury_queue(cell, "not-running")
        cold = cell.cold
        if cold is not None and cold.parent is not None:
            siblings = cold.parent.cold.children if cold.parent.cold is not None else None
            if siblings is not None:
                siblings.pop(cell.address, None)
        self.system.forget(cell)

    def forget_restart(self, cell: Cell) -> None:
        """Take back a restart that is due."""
        cold = cell.cold
        if cold is not None and cold.pending is not None:
            cold.pending.cancel()
            cold.pending = None
        rules = self.rules_of(cold.parent) if cold is not None else DEFAULT_RULES
        rules.fallen = [entry for entry in rules.fallen if entry[0] is not cell]

    # -- what happens when a child ends --------------------------------------------------

    def exited(self, cell: Cell, reason: Reason) -> None:
        """Decide about a child that has ended, and do it."""
        cold = cell.chill()
        parent = cold.parent
        restart = self.restart_of(cell)
        if self.is_going_down or cold.commanded:
            cold.commanded = False
            if (restart == "temporary" or cold.unsupervised) and cell not in self.restarting:
                self.forget(cell)
            return
        if parent is not None and parent.cold is not None and parent.cold.stopping is not None:
            return
        rules = self.rules_of(parent)
        if restart == "temporary" or cold.unsupervised:
            self.forget(cell)
            return
        if cell in self.system.state.unloadable:  # trying again would read the same
            self.system.state.unloadable.discard(cell)
            self.give_up(cell, reason)
            return
        if rules.healing:
            rules.fallen.append((cell, reason))  # the healing in progress sees to it
            return
        if reason.kind == "failed-to-start" and cell.started_at < 0 and not cold.keep:
            self.forget(cell)
            return
        if not wants_restart(restart, reason):
            self.system.lifecycle._bury_queue(cell, "not-running")
            return
        if rules.window is not None and not rules.window.allows(self.scheduler.time()):
            self.escalate(parent, rules, reason)
            return
        pause_s = self.pause_before(cell, rules)
        if pause_s is None:
            self.give_up(cell, reason)
            return
        cold.restarts += 1
        if rules.strategy == "one_for_one":
            self.restart_after(cell, pause_s)
        else:
            assert parent is not None
            rules.healing = True
            self.system.run(self.heal(parent, rules, cell, pause_s))

    def pause_before(self, cell: Cell, rules: Rules) -> float | None:
        """Return the pause before the next restart; None if the child is to be given up."""
        spec = self.spec_of(cell)
        backoff = spec.backoff if spec is not None else DEFAULT_BACKOFF
        cold = cell.chill()
        if cold.streak is None:
            streak = cold.streak = Streak()
            if cell.started_at >= 0:
                streak.up_since = cell.started_at
        else:
            streak = cold.streak  # type: ignore[assignment]
        if not streak.ended(self.scheduler.time(), backoff):
            return None
        return backoff.pause(streak.count, self.system.random.random())

    def restart_after(self, cell: Cell, pause_s: float) -> None:
        """Start a child again after a pause; until then it takes no messages."""
        cell.state = STARTING
        if pause_s <= 0:
            self.start_again(cell)
            return
        cold = cell.chill()
        cold.pending = self.scheduler.call_at(
            self.scheduler.time() + pause_s, lambda: self.start_again(cell)
        )

    def start_again(self, cell: Cell) -> Parking | None:
        """Begin a new incarnation now."""
        cell.chill().pending = None
        return self.system.lifecycle.begin(cell)

    def give_up(self, cell: Cell, reason: Reason) -> None:
        """Leave a child down until somebody starts it."""
        cold = cell.chill()
        cell.state = FAILED
        self.system.lifecycle._bury_queue(cell, "not-running")
        if self.system.wants_events:
            self.system.emit(
                DaemonFailedEvent(self.system.clock.now(), cell.address, str(reason), cold.restarts)
            )

    def escalate(self, parent: Cell | None, rules: Rules, reason: Reason) -> None:
        """Give up a whole supervisor: its children stop, then it ends."""
        assert parent is not None
        assert rules.window is not None
        error = RestartIntensityExceeded(
            parent.address, rules.window.intensity + 1, rules.window.period_s
        )
        rules.window.times.clear()
        if self.system.wants_events:
            self.system.emit(
                RestartIntensityReached(
                    self.system.clock.now(), parent.address, error.restarts, error.period_s
                )
            )
        parent.chill().last_error = str(error)
        self.system.lifecycle.fail(parent, Reason("restart-intensity", str(error), reason.trace))

    async def heal(self, parent: Cell, rules: Rules, ended: Cell, pause_s: float) -> None:
        """Restart the children that the strategy names, in order, once they are all down."""
        lifecycle = self.system.lifecycle
        try:
            while True:
                children = parent.chill().children or {}
                names = affected(rules.strategy, list(children), ended.address)
                group = [children[name] for name in names if name in children]
                for child in reversed(group):
                    if child.state not in (STOPPED, FAILED, CREATED):
                        await lifecycle.stop(child, SHUTDOWN)
                if pause_s > 0:
                    await self.system.sleep(pause_s)
                if self._is_leaving(parent):
                    return
                failed = await self.start_in_order(parent, group)
                if failed is None:
                    failed = self._next_fallen(rules)
                if failed is None:
                    return
                if rules.window is not None and not rules.window.allows(self.scheduler.time()):
                    rules.healing = False
                    self.escalate(parent, rules, Reason("failed-to-start"))
                    return
                again = self.pause_before(failed, rules)
                if again is None:
                    self.give_up(failed, Reason("failed-to-start"))
                    return
                failed.chill().restarts += 1
                ended, pause_s = failed, again
        finally:
            rules.healing = False
            rules.fallen.clear()

    def _next_fallen(self, rules: Rules) -> Cell | None:
        """Return a child that ended while its siblings were restarted and is to come back."""
        while rules.fallen:
            cell, reason = rules.fallen.pop(0)
            if cell.state not in (STOPPED, FAILED):
                continue
            if wants_restart(self.restart_of(cell), reason):
                return cell
            self.system.lifecycle._bury_queue(cell, "not-running")
        return None

    async def start_in_order(self, parent: Cell, group: list[Cell]) -> Cell | None:
        """Start children one after another, each when the one before is ready.

        Returns the one that failed, or None. Temporary children that ended are forgotten.
        """
        for child in group:
            if self._is_leaving(parent):
                return None
            if child.started_at >= 0 and self.restart_of(child) == "temporary":
                self.forget(child)
                continue
            if child.state not in (STOPPED, FAILED, CREATED):
                continue  # an operator was faster
            parking = self.start_again(child)
            if parking is not None:
                try:
                    await parking
                except Exception:
                    return child
            # A child may fall while its siblings start.
            if child.state in (STOPPED, FAILED):
                return child
        return None

    def _is_leaving(self, parent: Cell) -> bool:
        return parent.cold is None or parent.cold.stopping is not None or parent.instance is None

    # -- stopping ------------------------------------------------------------------------

    async def stop_children(self, parent: Cell, *, drain: bool = False) -> None:
        """Stop a daemon's children in reverse order of start, and forget them."""
        cold = parent.cold
        if cold is None or not cold.children:
            return
        for child in reversed(list(cold.children.values())):
            self.forget_restart(child)
            await self.system.lifecycle.stop(child, SHUTDOWN, drain=drain)
            self.forget(child)


class Supervisor(Daemon, type="supervisor"):
    """Starts the children it declares, in order, and restarts them by its strategy.

    Declare children by a class attribute `children`, a sequence of `ChildSpec`, or spawn them
    with `supervisor=`. `strategy` is one_for_one, one_for_all or rest_for_one; with
    `intensity`, more than so many restarts within `period_s` end the supervisor itself
    (OTP's defaults would be 3 in 5 s; None counts nothing).
    """

    strategy: Config[str] = "one_for_one"
    intensity: Config[int | None] = None
    period_s: Config[float] = 5.0

    children: ClassVar[Sequence[ChildSpec]] = ()

    async def on_start(self) -> None:
        """Start the children in order; one that fails takes those before it down."""
        if self.strategy not in STRATEGIES:
            raise BadConfig(
                f"strategy={self.strategy!r} of {self.address}",
                hint="one of " + ", ".join(STRATEGIES),
            )
        window = None
        if self.intensity is not None:
            window = RestartWindow(self.intensity, self.period_s)
        cell = self._d9_cell
        cell.chill().supervision = Rules(self.strategy, window)
        for spec in self.children:
            await spawn_child(self.system, spec, cell)

    def on_status(self) -> dict[str, object]:
        """Add strategy and children."""
        cold = self._d9_cell.chill()
        return {"strategy": self.strategy, "children": list(cold.children or ())}


async def spawn_child(system: System, spec: ChildSpec, supervisor: object = None) -> None:
    """Start what a child spec says.

    A child whose saved state cannot be loaded is left `failed` and its siblings start without
    it: in a system that does not come up nobody could restore it.

    Raises:
        Dan9Error: As `System.spawn`.
    """
    try:
        await system.spawn(
            spec.cls,
            spec.name,
            spec.config,
            group=spec.group,
            supervisor=supervisor,
            spec=spec,
            **spec.options,
        )
    except Corrupt as error:
        type_name = spec.cls._d9_behaviour.type_name
        cell = system.registry.get(f"{SCHEME}{type_name}/{spec.group}/{spec.name}")
        if cell is None or cell.state != FAILED:
            raise
        system.logger_of(cell).critical("its saved state cannot be loaded: %s", error)
