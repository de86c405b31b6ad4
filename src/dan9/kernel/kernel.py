"""`System`: one kernel with its daemons, as seen from outside.

A system lives in a running asyncio loop, one thread, and owns its registry, its
scheduler and its clock; several may live in one process. There is no current system at
module level.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import random
import threading
import traceback
from collections import deque
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from dan9.base.address import SCHEME, segment
from dan9.base.duration import parse_duration
from dan9.base.errors import BadAddress, BadConfig, Dan9Error, UnknownDaemon
from dan9.base.events import DaemonSpawned, Event, SlowStep
from dan9.base.reasons import NORMAL, SHUTDOWN, Reason
from dan9.kernel import links, metrics
from dan9.kernel import log as logs
from dan9.kernel.access import Rules
from dan9.kernel.cell import (
    CLOSED,
    FAILED,
    GUARDED,
    HELD,
    POLICIES,
    STATE_NAMES,
    STOPPED,
    STOPPING,
    WATCHED,
    Behaviour,
    Cell,
)
from dan9.kernel.clock import ScaledClock, SystemClock
from dan9.kernel.control import Control
from dan9.kernel.daemon import Daemon
from dan9.kernel.deadletters import DeadLetters
from dan9.kernel.insight import Insight
from dan9.kernel.leap import Leap
from dan9.kernel.lifecycle import Lifecycle
from dan9.kernel.message import Ask, Gather, Message, Verb, message_in_context
from dan9.kernel.native import CoroutineHand
from dan9.kernel.parking import Sleep
from dan9.kernel.ref import Ref
from dan9.kernel.registry import Registry
from dan9.kernel.repeat import CronRepeater, Repeater
from dan9.kernel.scheduler import Ports, Scheduler
from dan9.kernel.spawning import spawning
from dan9.kernel.speaking import Speaking
from dan9.kernel.state import State
from dan9.kernel.supervisor import ChildSpec, Supervision, Supervisor
from dan9.kernel.timers import Timer
from dan9.kernel.watchdog import Watchdog
from dan9.kernel.watching import Watching

if TYPE_CHECKING:
    from pathlib import Path

    from dan9.base.ports import Clock, Journal, Store

__all__ = ["System", "current_message", "gather"]

D = TypeVar("D", bound=Daemon)

_PLAIN_OPTIONS = {"group", "supervisor"}
"""What a spawn may say and still be a mere allocation."""

_LIVE: list[System] = []
"""Systems running in this process, for `log_info` and its kin and `current_message` only."""


class _Root(Daemon, type="system"):
    """The kernel itself: what it runs on its own behalf runs as this daemon's."""


class _Function(Daemon, type="function"):
    """A coroutine function as a daemon: its body is the own loop."""

    async def main(self) -> None:
        """Run the function."""
        function = self._d9_cell.chill().tag
        assert callable(function)
        if inspect.signature(function).parameters:
            await function(self)
        else:
            await function()


class _KernelPorts(Ports):
    """The scheduler's slow paths, answered by the system."""

    def __init__(self) -> None:
        self.system: System = None  # type: ignore[assignment]

    def control(self, message: Message) -> None:
        self.system.control.answer(message)

    def crashed(self, cell: Cell, message: Message | None, error: BaseException) -> None:
        self.system.lifecycle.crashed(cell, message, error)

    def dead(self, message: Message, reason: str) -> None:
        self.system.bury(message, reason)

    def redirect(self, message: Message) -> Cell | None:
        return self.system.current_cell_of(message.cell)

    def answers_for(self, message: Message) -> bool:
        return self.system.control.answers_for(message)

    def allowed(self, cell: Cell, message: Message) -> Dan9Error | None:
        return self.system.allowed(cell, message)

    def incoming(self, cell: Cell, message: Message) -> bool:
        return self.system.incoming(cell, message)

    def handling(self, cell: Cell, message: Message) -> bool:
        if message.entry is not None and not self.system.state.before(cell, message):
            return False
        hook = self.system.on_handling
        return True if hook is None else hook(cell, message)

    def handled(self, cell: Cell, message: Message, value: object) -> object:
        return self.system.after_handling(cell, message, value)

    def refused(self, cell: Cell, message: Message, error: Dan9Error) -> bool:
        return self.system.after_refusal(cell, message, error)

    def bad_call(self, cell: Cell, message: Message, error: TypeError) -> Dan9Error | None:
        return self.system.bad_call(cell, message, error)

    def high_water(self, cell: Cell) -> None:
        self.system.mailbox_high(cell)

    def low_water(self, cell: Cell) -> None:
        self.system.mailbox_normal(cell)

    def settled(self, cell: Cell) -> None:
        self.system.lifecycle.settled(cell)

    def woken(self) -> None:
        self.system.watchdog.wake()

    def stepped(self) -> None:
        hook = self.system.on_step
        if hook is not None:
            hook()

    def timeout_of(self, ask: Ask) -> float:
        return self.system.timeout_of(ask)

    def journalled(self, message: Message) -> bool:
        return message.journalled


class System(Speaking, Watching, Insight):
    """One runtime: `async with System("home") as system: …`.

    Args:
        name: The node's name; unique on the machine when it has a state directory.
        daemons: Which system daemons to start: "all", "none", or their names.
        config: What dan9.toml says, or its path.
        socket: Listen on the node's Unix socket.
        state_dir: Where state is kept; None: the default place if a system daemon needs it.
        clock: SystemClock, or a VirtualClock whose loop this runs in.
        seed: Decides whatever is left to chance; random unless given.
        copy: Pass every payload and reply through encode and decode.
        store, journal: Where state is kept; boot gives the persistence daemon's.
        shuffle: Draw the order of what is runnable by the seed (test worlds).

    Raises (on entering):
        AddressInUse: A system of this name runs on this machine.
    """

    def __init__(
        self,
        name: str = "default",
        *,
        daemons: str | list[str] = "all",
        config: object = None,
        socket: bool = True,
        state_dir: str | Path | None = None,
        clock: Clock | None = None,
        seed: int | None = None,
        copy: bool = False,
        store: Store | None = None,
        journal: Journal | None = None,
        shuffle: bool = False,
    ) -> None:
        self.name = segment(name, "system name")
        self.wanted = daemons
        self.config = config
        self.wants_socket = socket
        self.state_dir: Path | None = None
        if state_dir is not None:
            from pathlib import Path

            self.state_dir = Path(state_dir)
        self.clock: Clock = clock if clock is not None else SystemClock()
        self.seed = seed if seed is not None else int.from_bytes(os.urandom(8), "big")
        self.random = random.Random(self.seed)
        self.copying = copy
        self.store = store
        self.journal: Journal | None = journal
        if journal is None and hasattr(store, "handled"):
            self.journal = store  # type: ignore[assignment]
        ports = _KernelPorts()
        ports.system = self
        run_id = f"{self.random.getrandbits(40):010x}"
        self.outside = f"{SCHEME}client/{self.name}/0"
        self.scheduler = Scheduler(self.clock, ports, run_id, self.outside)
        if shuffle:
            self.scheduler.shuffle = random.Random(self.random.getrandbits(64))
        self.scheduler.one_thread = bool(getattr(self.clock, "is_virtual", False))
        self.registry = Registry(self.scheduler)
        self.log_hub = logs.LogHub(self.clock)
        self.lifecycle = Lifecycle(self)
        self.supervision = Supervision(self)
        self.state = State(self)
        self.control = Control(self)
        self.dead_letters = DeadLetters()
        self.path_resolver: Callable[[str, str], tuple[str, str]] | None = None
        self.address_resolver: Callable[[str], Cell | None] | None = None
        self.on_step: Callable[[], None] | None = None
        self.on_handling: Callable[[Cell, Message], bool] | None = None
        self.on_incoming: Callable[[Cell, Message], bool] | None = None
        self.on_handled: Callable[[Cell, Message], None] | None = None
        self.held = 0  # messages that a test world keeps back; they count as queued
        self.taps: dict[int, Callable[[Message], None]] = {}
        self._event_sinks: dict[int, Callable[[Event], None]] = {}
        self._event_kinds: dict[int, tuple[type[Event], ...]] = {}
        self._listening: dict[type[Event], tuple[Callable[[Event], None], ...]] = {}
        self.slow_steps: deque[SlowStep] = deque(maxlen=100)
        self.host: object = None  # boot keeps what it needs to end here
        self.watchdog = Watchdog(self)
        self._numbers = 0
        self._foreign_verbs: dict[str, Verb] = {}
        self._changed_at: dict[Cell, tuple[int, ...]] = {}
        self._change_mark = 0
        self._root: Cell | None = None
        self._exits: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.is_up = False
        self.started_at = 0.0

    # -- beginning and end

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.down()

    async def up(self) -> None:
        """Begin: bind to the running loop, start the supervisor and the system daemons."""
        loop = asyncio.get_running_loop()
        if self.scheduler.one_thread and getattr(loop, "virtual_clock", None) is None:
            raise RuntimeError(
                "a system under a VirtualClock must run in its loop: VirtualClock().run(main())"
            )
        scheduler = self.scheduler
        scheduler.loop = loop
        scheduler.thread = threading.get_ident()
        if getattr(loop, "virtual_clock", None) is self.clock:
            scheduler.leap = Leap(loop, self.clock)
        self._adopt_tasks(loop)
        self.started_at = scheduler.time()
        logs.find_hub = _current_hub
        metrics.find_cell = _current_cell
        _LIVE.append(self)
        self.is_up = True
        self.reconsider_all()
        if not scheduler.one_thread:
            self.watchdog.start()
        root = self._add(_Root, "kernel", "system")
        self._root = root
        root.chill().unsupervised = True
        scheduler.nobody = root
        self.lifecycle.begin(root)
        await self._spawn_supervisor()
        if self.wanted != "none" or self.wants_socket or self.config is not None:
            # Boot lies above the kernel and is the only one who knows the system daemons.
            boot = importlib.import_module("dan9.boot")
            try:
                await boot.start(self)
            except BaseException:
                await self.down()
                raise

    def _adopt_tasks(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let tasks that a handler starts know its message for as long as they live.

        An async handler's context has it already, and its hand must then not serve another
        message; a sync handler runs in no context of its own, so its tasks get one.
        """
        scheduler = self.scheduler
        before = loop.get_task_factory()

        def make(
            loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any
        ) -> asyncio.Future[Any]:
            hand = scheduler.current_hand
            if hand is not None:
                hand.kept = True
            elif scheduler.current is not None and options.get("context") is None:
                cell = scheduler.current_cell
                assert cell is not None
                options["context"] = CoroutineHand(cell, scheduler.current, None, None).context
            if before is not None:
                return before(loop, coroutine, **options)
            return asyncio.Task(coroutine, loop=loop, **options)

        loop.set_task_factory(make)
        self._exits.insert(0, (loop.set_task_factory, (before,)))

    async def _spawn_supervisor(self) -> None:
        cell = self._add(Supervisor, "user", "system")
        cell.chill().unsupervised = True
        parking = self.lifecycle.begin(cell)
        if parking is not None:
            await parking

    def on_exit(self, function: Callable[..., Any], *args: object) -> None:
        """Call a function, or await it, after the last daemon has stopped; latest first."""
        self._exits.append((function, args))

    async def down(self) -> None:
        """Drain and stop every daemon in reverse order of start."""
        if not self.is_up:
            return
        self.supervision.is_going_down = True
        cells = sorted(self.registry.cells(), key=lambda cell: cell.serial, reverse=True)
        for cell in cells:
            if cell is self._root or (cell.cold is not None and cell.cold.parent is not None):
                continue
            if self._ends_at_once(cell):
                cell.state = STOPPED
                cell.gate = CLOSED | HELD
                cell.instance = None
                continue
            await self.lifecycle.stop(cell, SHUTDOWN, drain=True)
        for function, args in reversed(self._exits):
            outcome = function(*args)
            if inspect.isawaitable(outcome):
                await outcome
        self.is_up = False
        self.watchdog.stop()
        _LIVE.remove(self)
        scheduler = self.scheduler
        scheduler.timers.clear()
        armed: Any = scheduler.timer_armed
        if armed is not None:
            armed.cancel()

    def _ends_at_once(self, cell: Cell) -> bool:
        """True if ending the daemon takes no code: nothing queued, in hand or to save."""
        return (
            cell.gate == 0
            and cell.cold is None
            and cell.head is None
            and self.store is None
            and not cell.home.behaviour.has_on_stop
        )

    # -- spawning

    def _add(self, cls: type[Daemon], name: str, group: str) -> Cell:
        behaviour = cls._d9_behaviour
        home = self.registry.home(behaviour, behaviour.type_name, group)
        cell = self.registry.add(home, name)
        if behaviour.durable:
            cell.chill().durable = True
        if self.is_watching or behaviour.durable:
            cell.gate |= WATCHED
        return cell

    @overload
    async def spawn(
        self, cls: type[D], name: str, config_: Mapping[str, Any] | None = None, **options: Any
    ) -> D: ...
    @overload
    async def spawn(
        self,
        cls: Callable[..., Coroutine[Any, Any, Any]],
        name: str,
        config_: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Ref: ...
    def spawn(
        self,
        cls: type[D] | Callable[..., Coroutine[Any, Any, Any]],
        name: str,
        config_: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Coroutine[Any, Any, D | Ref]:
        """Make a daemon, start it, and return a ref when it is ready.

        Args:
            cls: A Daemon class, or a coroutine function (`async def f(daemon)`).
            name: Its name; (type, group, name) is unique.
            config_: Configuration and initial state as a map: the only way to set a field that
                has the name of one of the options here.
            group: Its group; without one, `default`.
            start: False: leave it in state `created` until it is told `start`.
            supervisor: The daemon whose child it is; None: `d9://supervisor/system/user`;
                False: nobody's.
            restart: permanent, transient or temporary; None: the class's.
            spec: Restart type and backoff together.
            mailbox, policy: The mailbox's limit and what happens to one more message.
            clock: The clock of it and its children: a ScaledClock, or the system's own.
            allow: Who may say what: `[{"from": PATTERN, "messages": [...]}]`.
            keep: Keep trying even if the very first start fails.
            options: All others are configuration and initial state, one by one.

        Raises:
            AddressInUse: The address is taken.
            BadConfig: A configuration that the class does not have or that does not fit.
            DaemonFailed: Its `on_start` raised; the name is free again.
        """
        if not config_ and (not options or options.keys() <= _PLAIN_OPTIONS):
            group, supervisor = "default", None
            if options:
                group, supervisor = options.get("group", "default"), options.get("supervisor")
            if supervisor is None:
                return spawning(self, self.registry, cls, group, name)
            if isinstance(supervisor, Cell):
                return self._spawn_child(cls, name, group, supervisor)
        return self._spawn(cls, name, config_, **options)

    async def _spawn_child(
        self,
        cls: type[D] | Callable[..., Coroutine[Any, Any, Any]],
        name: str,
        group: str,
        parent: Cell,
    ) -> D | Ref:
        """Spawn with nothing but a place; who starts by code of its own has it before."""
        behaviour = getattr(cls, "_d9_behaviour", None)
        if not (self.registry.is_quiet and behaviour is not None and behaviour.is_quick):
            return await self._spawn(cls, name, None, group=group, supervisor=parent)
        ref: Ref = await spawning(self, self.registry, cls, group, name)
        self._place(ref._d9_cell, parent)
        return ref

    async def _spawn(
        self,
        cls: type[D] | Callable[..., Coroutine[Any, Any, Any]],
        name: str,
        given: Mapping[str, Any] | None,
        /,
        *,
        group: str = "default",
        start: bool = True,
        supervisor: object = None,
        restart: str | None = None,
        spec: ChildSpec | None = None,
        mailbox: int | None = None,
        policy: str | None = None,
        clock: Clock | None = None,
        allow: list[dict[str, Any]] | None = None,
        keep: bool = False,
        **config: Any,
    ) -> D | Ref:
        """Spawn with all that `spawn` takes."""
        function: object = None
        if not (isinstance(cls, type) and issubclass(cls, Daemon)):
            function = cls
            if not inspect.iscoroutinefunction(function):
                raise BadConfig(
                    f"{cls!r} is no Daemon class and no coroutine function",
                    hint="derive from dan9.Daemon, or write `async def f(daemon)`",
                )
            daemon_class: type[Daemon] = _Function
        else:
            daemon_class = cls
        if given:
            twice = ", ".join(sorted(given.keys() & config.keys()))
            if twice:
                raise BadConfig(f"{name}: given twice: {twice}", hint="in the map or by name")
            config = {**config, **given}
        fields = daemon_class._d9_fields
        if config or fields.required:
            config = fields.convert_all(config)
        cell = self._add(daemon_class, name, group)
        try:
            if supervisor is not None or self.scheduler.current_cell is not None:
                self._place(cell, supervisor)
            if config or restart or spec or mailbox or policy or clock or allow or keep or function:
                self._dress(cell, config, restart, spec, mailbox, policy, clock, allow)
                cold = cell.chill()
                cold.keep = keep
                cold.tag = function
        except BaseException:
            self.forget(cell)
            raise
        if self.wants(DaemonSpawned):
            self.emit(DaemonSpawned(self.clock.now(), cell.address, self.supervisor_of(cell)))
        if start:
            parking = self.lifecycle.begin(cell)
            if parking is not None:
                await parking
        return Ref(cell)

    def _place(self, cell: Cell, supervisor: object) -> None:
        """Put a new daemon under its supervisor."""
        if supervisor is False:
            cell.chill().unsupervised = True
            return
        if supervisor is None:
            return
        parent = supervisor if isinstance(supervisor, Cell) else self.cell_of(supervisor)
        self.supervision.adopt(parent, cell)
        if parent.cold is not None and parent.cold.clock is not None:
            cell.chill().clock = parent.cold.clock

    def _dress(
        self,
        cell: Cell,
        config: dict[str, Any],
        restart: str | None,
        spec: ChildSpec | None,
        mailbox: int | None,
        policy: str | None,
        clock: Clock | None,
        allow: list[dict[str, Any]] | None,
    ) -> None:
        """Give a new daemon what differs from its class."""
        cold = cell.chill()
        cold.config = config or None
        if spec is not None:
            cold.spec = spec
        elif restart is not None:
            cold.spec = ChildSpec(cell.home.behaviour.cls, cell.name, restart=restart)
        if mailbox is not None:
            if mailbox < 1:
                raise BadConfig(f"mailbox={mailbox}", hint="1 or more", at="mailbox")
            cell.limit = mailbox
        if policy is not None:
            if policy not in POLICIES:
                raise BadConfig(
                    f"policy={policy!r}", hint="one of " + ", ".join(POLICIES), at="policy"
                )
            cold.policy = POLICIES.index(policy)
        if clock is not None:
            cold.clock = None if clock is self.clock else clock
            if isinstance(clock, ScaledClock):
                clock.attach(self.call_at)
        if allow is not None:
            cold.allow = Rules(allow)
            cell.gate |= GUARDED

    async def get_or_spawn(
        self, cls: type[D], name: str, config_: Mapping[str, Any] | None = None, **options: Any
    ) -> D:
        """Return the daemon of this address, or spawn it; atomic."""
        group = options.get("group", "default")
        behaviour: Behaviour = cls._d9_behaviour
        cell = self.registry.get(f"{SCHEME}{behaviour.type_name}/{group}/{name}")
        if cell is not None:
            return Ref(cell)  # type: ignore[return-value]
        return await self.spawn(cls, name, config_, **options)

    def forget(self, cell: Cell) -> None:
        """Free a daemon's name."""
        self.registry.remove(cell)
        cell.gate |= CLOSED | HELD

    # -- time

    def clock_of(self, cell: Cell) -> Clock:
        """Return the clock of a daemon: its subtree's, or the system's."""
        cold = cell.cold
        if cold is not None and cold.clock is not None:
            return cold.clock  # type: ignore[return-value]
        return self.clock

    def sleep(self, duration: float | str) -> Coroutine[Any, Any, None]:
        """Sleep on the system's clock; seconds or text."""
        return Sleep(self.scheduler, parse_duration(duration))  # type: ignore[return-value]

    def call_at(self, when: float, callback: Callable[[], object] | Timer) -> Timer:
        """Call or fire something at a moment of the system's monotonic clock."""
        return self.scheduler.call_at(when, callback)

    def call_on(self, cell: Cell, when: float, callback: Callable[[], object] | Timer) -> Timer:
        """Call or fire something at a moment of a daemon's own clock."""
        cold = cell.cold
        if cold is None or cold.clock is None:
            return self.scheduler.call_at(when, callback)
        return cold.clock.call_at(when, callback)  # type: ignore[attr-defined, no-any-return]

    def schedule_own(self, cell: Cell) -> None:
        """Set the timers of a daemon's `@every` and `@cron` messages."""
        behaviour = cell.home.behaviour
        for seconds, verb in behaviour.every:
            Repeater(self, cell, verb, seconds).begin()
        for expression, timezone, verb in behaviour.crons:
            CronRepeater(self, cell, verb, expression, timezone).begin()

    # -- links and monitors

    def _watcher(self, watcher: object) -> Cell:
        if watcher is not None:
            return self.cell_of(watcher)
        cell = self.scheduler.current_cell
        if cell is None:
            message = message_in_context()
            cell = message.cell if message is not None else None
        if cell is None:
            raise BadAddress(
                "only a daemon can watch", hint="call it in a handler, or name the watcher"
            )
        return cell

    def monitor(self, target: object, watcher: object = None) -> int:
        """Have `watcher` (the daemon that calls) get `on_down` when `target` ends.

        Returns the monitor's id. A target that is not there is told as down at once.
        """
        cell = self._watcher(watcher)
        number = self.next_number()
        try:
            other = self.cell_of(target)
        except UnknownDaemon:
            other = None
        if other is None or other.state in (STOPPED, FAILED):
            address = other.address if other is not None else str(target)
            self.lifecycle.send_down(cell, links.Down(address, Reason("noproc"), number))
        else:
            links.add_monitor(cell, other, number)
        return number

    def demonitor(self, number: int, watcher: object = None) -> bool:
        """Take a monitor back; False if it had ended."""
        return links.drop_monitor(self._watcher(watcher), number)

    def link(self, one: object, other: object = None) -> None:
        """Tie the fates of two daemons (the one that calls, and `one`)."""
        links.link(self._watcher(other), self.cell_of(one))

    def unlink(self, one: object, other: object = None) -> None:
        """Untie them."""
        links.drop_link(self._watcher(other), self.cell_of(one))

    def on_end_of(
        self, address: str, callback: Callable[[], None], *, owner: Cell | None = None
    ) -> object:
        """Call `callback()` once when the daemon at `address` ends; at once if it is not there."""
        del owner
        try:
            cell = self.cell_of(address)
        except Dan9Error:
            self.scheduler.call_soon(lambda _: callback(), None, None)
            return None
        cold = cell.chill()
        if cold.on_end is None:
            cold.on_end = []
        entry = _EndWatch(cell, callback)
        cold.on_end.append(entry)
        return entry

    def forget_end_of(self, entry: object) -> None:
        """Take `on_end_of` back."""
        if isinstance(entry, _EndWatch) and entry.cell.cold is not None:
            entries = entry.cell.cold.on_end
            if entries is not None and entry in entries:
                entries.remove(entry)

    # -- what daemons do to themselves

    async def save_state(self, cell: Cell) -> dict[str, Any]:
        """Save a daemon's state; see the message `checkpoint`."""
        return await self.state.save(cell)

    async def load_state(self, cell: Cell, version: int | str) -> dict[str, Any]:
        """Load a daemon's state; see the message `restore`."""
        return await self.state.load(cell, version)

    async def start_cell(self, cell: Cell) -> str:
        """Start a daemon."""
        return await self.control.start(cell)

    async def stop_cell(self, cell: Cell, reason: str = "normal", *, drain: bool = False) -> str:
        """Stop a daemon; one that stops itself does not wait for its own end."""
        if self.scheduler.current_cell is cell:
            self.run(self.control.stop(cell, reason, drain))
            return STATE_NAMES[STOPPING]
        return await self.control.stop(cell, reason, drain)

    async def restart_cell(self, cell: Cell) -> str:
        """Restart a daemon."""
        if self.scheduler.current_cell is cell:
            self.run(self.control.restart(cell))
            return STATE_NAMES[STOPPING]
        return await self.control.restart(cell)

    def suspend_cell(self, cell: Cell) -> str:
        """Suspend a daemon."""
        return self.control.suspend(cell)

    def resume_cell(self, cell: Cell) -> str:
        """Resume a daemon."""
        return self.control.resume(cell)

    def finish(self, target: object, reason: Reason = NORMAL) -> None:
        """End a daemon for a reason of its own: a daemon whose work is done ends itself so.

        Its supervisor decides by the restart type, as after any end that nobody commanded.
        """
        self.lifecycle.finish(self.cell_of(target), reason)

    async def kill(self, target: object) -> None:
        """End a daemon now: what is in hand is cancelled; its supervisor decides."""
        await self.lifecycle.kill(self.cell_of(target))

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine on the kernel's own behalf."""
        root = self._root
        assert root is not None
        self.scheduler.start_hand(root, coroutine, self._ran)

    def _ran(self, _: object, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, asyncio.CancelledError):
            self.logger("kernel").error("%s", "".join(traceback.format_exception(error)))

    # -- persistence's hooks

    def dirty(self) -> list[str]:
        """Return the daemons that handled a message since they were last saved."""
        return [address for part in self.dirty_parts() for address in part]

    def capture(self, address: str, then: Callable[[Any, Exception | None], None]) -> None:
        """Encode a daemon's state between two messages; `then(checkpoint, error)`."""
        try:
            cell = self.cell_of(address)
        except Dan9Error:
            then(None, None)
            return
        self.state.capture(cell, then)

    def watch_dirty(self, address: str, wanted: bool) -> None:
        """Call `on_dirty(address)` when the daemon goes from clean to dirty."""
        self.state.watch_dirty(self.cell_of(address), wanted=wanted)

    @property
    def state_policy(self) -> Callable[[str, object], Any] | None:
        """Who says when a daemon's state is saved; None: the default policy."""
        return self.state.policy

    @state_policy.setter
    def state_policy(self, policy: Callable[[str, object], Any] | None) -> None:
        self.state.policy = policy

    @property
    def on_dirty(self) -> Callable[[str], None] | None:
        """Who hears of watched daemons that changed."""
        return self.state.on_dirty

    @on_dirty.setter
    def on_dirty(self, callback: Callable[[str], None] | None) -> None:
        self.state.on_dirty = callback

    def options_of(self, address: str) -> dict[str, object]:
        """Return the class keywords of a daemon (`checkpoint`, `restart`, …)."""
        return self.cell_of(address).home.behaviour.options

    def is_durable(self, address: str) -> bool:
        """True if the daemon acknowledges messages after the journal has them."""
        cold = self.cell_of(address).cold
        return cold is not None and cold.durable and self.journal is not None

    async def save(self, address: str) -> None:
        """Commit a daemon's state now; nothing without a store."""
        if self.store is not None:
            await self.state.save(self.cell_of(address))


class _EndWatch:
    """One callback for the end of a daemon."""

    __slots__ = ("callback", "cell")

    def __init__(self, cell: Cell, callback: Callable[[], None]) -> None:
        self.cell = cell
        self.callback = callback

    def __call__(self, _: object) -> None:
        self.callback()


def gather(*asks: object, return_errors: bool = False) -> Gather:
    """Wait for many asks at once.

    As in `results = await gather(a.add(1), b.add(2))`. All are sent before the first
    reply is awaited, and there is one wake-up for all of them, which is what makes it
    several times faster than `asyncio.gather`.

    Args:
        asks: What calling refs' messages returned.
        return_errors: Put errors among the results instead of raising the first.
    """
    flat: list[Ask] = []
    for ask in asks:
        flat.extend(ask) if isinstance(ask, list) else flat.append(ask)  # type: ignore[arg-type]
    for one in flat:
        if not isinstance(one, Ask):
            raise TypeError(f"gather takes asks such as ref.add(2), not {one!r}")
    return Gather(flat, return_errors)


def current_message() -> Message | None:
    """Return the message in hand: in a handler, or in a task or thread it started."""
    thread = threading.get_ident()
    for system in _LIVE:
        scheduler = system.scheduler
        if scheduler.thread == thread and scheduler.current is not None:
            return scheduler.current
    return message_in_context()


def _current_cell() -> Cell | None:
    """Return whose handler or hook runs here."""
    thread = threading.get_ident()
    for system in _LIVE:
        scheduler = system.scheduler
        if scheduler.thread == thread and scheduler.current_cell is not None:
            return scheduler.current_cell
    message = message_in_context()
    return None if message is None else message.cell


def _current_hub() -> logs.LogHub | None:
    """Return where log entries of the running handler go."""
    message = current_message()
    if message is not None:
        return message.cell.home.scheduler.ports.system.log_hub  # type: ignore[attr-defined, no-any-return]
    return _LIVE[0].log_hub if len(_LIVE) == 1 else None
