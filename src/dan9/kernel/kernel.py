"""`System`: one kernel with its daemons, as seen from outside.

A system lives in a running asyncio loop, one thread, and owns its registry, its
scheduler and its clock; several may live in one process. There is no current system at
module level.
"""

from __future__ import annotations

import asyncio
import difflib
import inspect
import os
import random
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, TypeVar

from dan9.base.address import SCHEME, is_pattern, kebab, segment
from dan9.base.duration import parse_duration
from dan9.base.errors import (
    BadAddress,
    BadConfig,
    BadPayload,
    DaemonFailed,
    Dan9Error,
    MailboxFull,
    NotAllowed,
    NotFound,
    NotRunning,
    UnknownDaemon,
    UnknownMessage,
    to_form,
)
from dan9.base.events import DaemonSpawned, DeadLetter, Event, MailboxHigh
from dan9.base.reasons import NORMAL, SHUTDOWN, Reason
from dan9.kernel import links
from dan9.kernel import log as logs
from dan9.kernel.cell import (
    CLOSED,
    CREATED,
    FAILED,
    GUARDED,
    HELD,
    POLICIES,
    RUNNING,
    STATE_NAMES,
    STOPPED,
    STOPPING,
    WATCHED,
    Behaviour,
    Cell,
)
from dan9.kernel.clock import SystemClock, VirtualClock
from dan9.kernel.control import Control
from dan9.kernel.daemon import Daemon
from dan9.kernel.deadletters import DeadLetters
from dan9.kernel.lifecycle import Lifecycle, describe_error
from dan9.kernel.message import CONTROL, IN_HAND, KEYWORDS, Ask, Gather, Message, Verb
from dan9.kernel.ref import Ref
from dan9.kernel.registry import Registry
from dan9.kernel.scheduler import DEFERRED, Parking, Ports, Scheduler
from dan9.kernel.state import State
from dan9.kernel.supervisor import ChildSpec, Supervision, Supervisor

if TYPE_CHECKING:
    from pathlib import Path

    from dan9.base.events import LogEntry
    from dan9.base.ports import Clock, Journal, Store
    from dan9.kernel.hand import Hand

__all__ = ["System", "current_message", "gather"]

D = TypeVar("D", bound=Daemon)
T = TypeVar("T")

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

    def allowed(self, cell: Cell, message: Message) -> Dan9Error | None:
        return self.system.allowed(cell, message)

    def incoming(self, cell: Cell, message: Message) -> bool:
        return self.system.incoming(cell, message)

    def handling(self, cell: Cell, message: Message) -> bool:
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

    def settled(self, cell: Cell) -> None:
        self.system.lifecycle.settled(cell)

    def stepped(self) -> None:
        hook = self.system.on_step
        if hook is not None:
            hook()

    def timeout_of(self, ask: Ask) -> float:
        return self.system.timeout_of(ask)

    def journalled(self, message: Message) -> bool:
        return message.journalled


class System:
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
        daemons: str | list[str] = "none",
        config: object = None,
        socket: bool = False,
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
            from pathlib import Path  # noqa: PLC0415  (import dan9 stays light)

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
        self.on_step: Callable[[], None] | None = None
        self.on_handling: Callable[[Cell, Message], bool] | None = None
        self.on_incoming: Callable[[Cell, Message], bool] | None = None
        self.taps: dict[int, Callable[[Message], None]] = {}
        self._event_sinks: dict[int, Callable[[Event], None]] = {}
        self._numbers = 0
        self._foreign_verbs: dict[str, Verb] = {}
        self._changed_at: dict[Cell, tuple[int, ...]] = {}
        self._change_mark = 0
        self._root: Cell | None = None
        self._closing: AsyncExitStack | None = None
        self._exits: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.is_up = False
        self.started_at = 0.0

    # -- beginning and end ---------------------------------------------------------------------------

    async def __aenter__(self) -> System:
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
        self.started_at = scheduler.time()
        logs.find_hub = _current_hub
        _LIVE.append(self)
        self.is_up = True
        root = self._add(_Root, "kernel", "system")
        self._root = root
        root.chill().unsupervised = True
        self.lifecycle.begin(root)
        await self._spawn_supervisor()
        if self.wanted != "none" or self.wants_socket or self.config is not None:
            import importlib  # noqa: PLC0415

            # Boot lies above the kernel and is the only one who knows the system daemons.
            boot = importlib.import_module("dan9.boot")
            try:
                await boot.start(self)
            except BaseException:
                await self.down()
                raise

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
            if cell.gate == 0 and cell.cold is None and not cell.home.behaviour.has_on_stop:
                if cell.head is None and self.store is None:
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
        _LIVE.remove(self)
        scheduler = self.scheduler
        scheduler.timers.clear()
        armed: Any = scheduler.timer_armed
        if armed is not None:
            armed.cancel()

    # -- spawning ---------------------------------------------------------------------------------------

    def _add(self, cls: type[Daemon], name: str, group: str) -> Cell:
        behaviour = cls._d9_behaviour  # noqa: SLF001
        home = self.registry.home(behaviour, behaviour.type_name, group)
        cell = self.registry.add(home, name)
        if self.copying or self.on_incoming is not None or self.taps:
            cell.gate |= WATCHED
        if behaviour.durable:
            cell.chill().durable = True
            cell.gate |= WATCHED
        return cell

    async def spawn(
        self,
        cls: type[D] | Callable[..., Any],
        name: str,
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
    ) -> D:
        """Make a daemon, start it, and return a ref when it is ready.

        Args:
            cls: A Daemon class, or a coroutine function (`async def f(daemon)`).
            name: Its name; (type, group, name) is unique.
            group: Its group.
            start: False: leave it in state `created` until it is told `start`.
            supervisor: The daemon whose child it is; None: `d9://supervisor/system/user`;
                False: nobody's.
            restart: permanent, transient or temporary; None: the class's.
            spec: Restart type and backoff together.
            mailbox, policy: The mailbox's limit and what happens to one more message.
            clock: The clock of it and its children.
            allow: Who may say what: `[{"from": PATTERN, "messages": [...]}]`.
            keep: Keep trying even if the very first start fails.
            config: Configuration and initial state.

        Raises:
            AddressInUse: The address is taken.
            BadConfig: A configuration that the class does not have or that does not fit.
            DaemonFailed: Its `on_start` raised; the name is free again.
        """
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
        behaviour: Behaviour = daemon_class._d9_behaviour  # noqa: SLF001
        fields = daemon_class._d9_fields  # noqa: SLF001
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
        if self.wants_events:
            self.emit(DaemonSpawned(self.clock.now(), cell.address, self.supervisor_of(cell)))
        if start:
            parking = self.lifecycle.begin(cell)
            if parking is not None:
                await parking
        del behaviour
        return Ref(cell)  # type: ignore[return-value]

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
            cold.limit = mailbox
        if policy is not None:
            if policy not in POLICIES:
                raise BadConfig(
                    f"policy={policy!r}", hint="one of " + ", ".join(POLICIES), at="policy"
                )
            cold.policy = POLICIES.index(policy)
        if clock is not None:
            cold.clock = clock
        if allow is not None:
            from dan9.kernel.access import Rules  # noqa: PLC0415  (few daemons are guarded)

            cold.allow = Rules(allow)
            cell.gate |= GUARDED

    async def get_or_spawn(self, cls: type[D], name: str, **options: Any) -> D:
        """Return the daemon of this address, or spawn it; atomic."""
        group = options.get("group", "default")
        behaviour: Behaviour = cls._d9_behaviour  # noqa: SLF001
        cell = self.registry.get(f"{SCHEME}{behaviour.type_name}/{group}/{name}")
        if cell is not None:
            return Ref(cell)  # type: ignore[return-value]
        return await self.spawn(cls, name, **options)

    def forget(self, cell: Cell) -> None:
        """Free a daemon's name."""
        self.registry.remove(cell)
        cell.gate |= CLOSED | HELD

    # -- finding ----------------------------------------------------------------------------------------

    def ref(self, cls: type[D] | str, address: str | None = None) -> D:
        """Return a ref: `ref(Counter, "d9://counter/demo/c1")`, typed as Counter."""
        text = cls if isinstance(cls, str) else address
        if text is None:
            raise BadAddress("ref takes a class and an address", hint="ref(Counter, 'c1')")
        cell = self.cell_of(text)
        if not isinstance(cls, str) and not issubclass(cell.home.behaviour.cls, cls):
            raise BadAddress(
                f"{cell.address} is a {cell.home.behaviour.cls.__name__}, not a {cls.__name__}",
                hint="use ask by name, or the right class",
            )
        return Ref(cell)  # type: ignore[return-value]

    def cell_of(self, target: object, viewer: Cell | None = None) -> Cell:
        """Return the cell that a ref, an address, a bare name or a path means."""
        if isinstance(target, Ref):
            return self.current_cell_of(target._d9_cell)  # noqa: SLF001
        if isinstance(target, Daemon):
            return target._d9_cell  # noqa: SLF001
        if isinstance(target, Cell):
            return target
        if not isinstance(target, str):
            raise BadAddress(f"{target!r} is no address", hint="an address is d9://type/group/name")
        if target.startswith("/"):
            return self.registry.find(self._resolve_path(target, viewer)[0])
        return self.registry.find(target)

    def _resolve_path(self, path: str, viewer: Cell | None) -> tuple[str, str]:
        if self.path_resolver is None:
            raise UnknownDaemon(
                f"{path} is a namespace path and no namespace daemon runs",
                hint="start the system with the namespace daemon, or use an address",
            )
        return self.path_resolver(path, viewer.address if viewer is not None else self.outside)

    def resolve(self, text: str) -> str:
        """Return the address that an address, a bare name or a path means."""
        return self.cell_of(text).address

    def current_cell_of(self, cell: Cell) -> Cell:
        """Return who lives at a cell's address now: itself, or who took its freed name."""
        if cell.gate & CLOSED:
            other = self.registry.get(cell.address)
            if other is not None:
                return other
        return cell

    def addresses(self, pattern: str = "**") -> list[str]:
        """Return the addresses that a pattern fits, in order of spawning."""
        cells = sorted(self.registry.cells(pattern), key=lambda cell: cell.serial)
        return [cell.address for cell in cells]

    def next_number(self) -> int:
        """Return 1, 2, 3 …: unique in this run."""
        self._numbers += 1
        return self._numbers

    # -- by name ------------------------------------------------------------------------------------------

    def message_parts(
        self, target: object, type_: str, payload: Mapping[str, Any], viewer: Cell | None
    ) -> tuple[Cell, Verb, dict[str, Any]]:
        """Find the receiver and the verb and check the payload."""
        rest = ""
        if isinstance(target, str) and target.startswith("/"):
            address, rest = self._resolve_path(target, viewer)
            cell = self.registry.find(address)
        else:
            cell = self.cell_of(target, viewer)
        if isinstance(target, Ref) and target._d9_only is not None:  # noqa: SLF001
            getattr(target, "only")  # noqa: B009
            if kebab(type_) not in target._d9_only:  # noqa: SLF001
                raise NotAllowed(
                    f"this ref to {cell.address} does not allow {type_!r}",
                    address=cell.address,
                    message=type_,
                )
        verb = self.verb_of(cell, type_)
        if rest and verb.function is not None:
            payload = self._with_path(verb, payload, rest)
        if verb.function is None:
            return cell, verb, self._path_for_loop(payload, rest)
        return cell, verb, verb.signature.bind(payload)

    @staticmethod
    def _path_for_loop(payload: Mapping[str, Any], rest: str) -> dict[str, Any]:
        """Tell an own loop, which has no signature, what is left of the path."""
        if rest in ("", "/"):
            return dict(payload)
        if "path" in payload:
            raise BadPayload(
                "the path is given twice: in the target and as the key path",
                hint="leave one out",
                at="path",
            )
        return {**payload, "path": rest}

    def _with_path(self, verb: Verb, payload: Mapping[str, Any], rest: str) -> dict[str, Any]:
        if not any(parameter.key == "path" for parameter in verb.signature.parameters):
            if rest == "/":
                return dict(payload)
            raise BadPayload(
                f"{verb.type!r} takes no path, and {rest} is left of the one given", at="path"
            )
        if "path" in payload:
            if rest == "/":  # nothing was left: the payload's path is the only one
                return dict(payload)
            raise BadPayload(
                "the path is given twice: in the target and as the key path",
                hint="leave one out",
                at="path",
            )
        return {**payload, "path": rest}

    def verb_of(self, cell: Cell, type_: str) -> Verb:
        """Return the verb of a message type; for an own loop, of any type.

        Raises:
            UnknownMessage: The daemon has no such message; the hint names the nearest.
        """
        behaviour = cell.home.behaviour
        verb = behaviour.verbs.get(type_)
        if verb is None:
            verb = behaviour.verbs.get(type_.replace("_", "-"))
        if verb is not None:
            return verb
        if behaviour.has_main:
            verb = self._foreign_verbs.get(type_)
            if verb is None:
                verb = Verb(type_, type_, None, False, index=len(behaviour.order))  # noqa: FBT003
                self._foreign_verbs[type_] = verb
            return verb
        near = difflib.get_close_matches(type_, behaviour.verbs, 1)
        hint = f"did you mean {near[0]}?" if near else f"`dan9 describe {cell.name}` lists them"
        raise UnknownMessage(
            f"{cell.address} knows no message {type_!r}",
            hint=hint,
            address=cell.address,
            message=type_,
        )

    async def ask(
        self,
        address: object,
        type: str,  # noqa: A002
        /,
        *,
        timeout_s: float | str | None = -1.0,
        message_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
        viewer: Cell | None = None,
        **fields: Any,
    ) -> Any:  # noqa: ANN401  (by name, the reply's type is known at run time only)
        """Ask by name; the reply is plain data.

        Args:
            address: An address, a bare name, a namespace path, or a ref.
            type: The message type.
            timeout_s: The deadline; seconds or text; None: none; left out: the message's.
            message_id: The same id again is the same message, for a durable daemon.
            payload: The payload as a map, instead of or beside keywords.
            viewer: The daemon whose view of the namespace counts.
            fields: The payload.

        Raises:
            Refused: A named refusal; UnknownDaemon, UnknownMessage and BadPayload among them.
            TimedOut: No reply in time.
            DaemonFailed: The handler crashed.
        """
        given = fields if payload is None else {**payload, **fields}
        cell, verb, kwargs = self.message_parts(address, type, given, viewer)
        ask = Ask(cell, verb, KEYWORDS, kwargs, _timeout(timeout_s))
        ask.own_id = message_id
        value = await ask
        if verb.function is not None and verb.signature.needs_conversion:
            return verb.signature.plain(value)
        return value

    def tell(
        self,
        address: object,
        type: str,  # noqa: A002
        /,
        *,
        message_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
        viewer: Cell | None = None,
        **fields: Any,
    ) -> None:
        """Tell by name; to a pattern: everyone it fits. Safe from any thread.

        Raises:
            MailboxFull: The receiver has no room.
            Refused: UnknownDaemon, UnknownMessage, BadPayload.
        """
        given = fields if payload is None else {**payload, **fields}
        if isinstance(address, str) and is_pattern(address):
            for cell in list(self.registry.cells(address)):
                try:
                    verb = self.verb_of(cell, type)
                except UnknownMessage:
                    continue
                kwargs = given if verb.function is None else verb.signature.bind(given)
                message = Message(cell, verb, KEYWORDS, dict(kwargs))
                try:
                    self.scheduler.tell(message)
                except MailboxFull:
                    self.scheduler.sent += 1
                    self.scheduler.bury(message, "mailbox-full")
            return
        cell, verb, kwargs = self.message_parts(address, type, given, viewer)
        message = Message(cell, verb, KEYWORDS, kwargs)
        message.own_id = message_id
        self.scheduler.tell(message)

    async def send(
        self,
        address: object,
        type: str,  # noqa: A002
        /,
        *,
        timeout_s: float | str | None = -1.0,
        message_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
        viewer: Cell | None = None,
        **fields: Any,
    ) -> None:
        """Tell by name and wait for room; to a durable daemon: until the journal has it.

        Raises:
            TimedOut: No room in time.
        """
        given = fields if payload is None else {**payload, **fields}
        cell, verb, kwargs = self.message_parts(address, type, given, viewer)
        ticket = Ask(cell, verb, KEYWORDS, {}, _timeout(timeout_s))
        message = Message(cell, verb, KEYWORDS, kwargs)
        message.own_id = message_id
        ticket.carries = message
        await ticket

    def start_ask(
        self,
        target: object,
        type_: str,
        payload: dict[str, Any],
        *,
        sender: Cell | None = None,
        timeout_s: float = float("inf"),
    ) -> Ask | None:
        """Send an ask without awaiting it; None if there is nobody."""
        try:
            cell, verb, kwargs = self.message_parts(target, type_, payload, sender)
        except (UnknownDaemon, UnknownMessage):
            return None
        ask = Ask(cell, verb, KEYWORDS, kwargs, timeout_s)
        ask.origin = sender
        before = self.scheduler.current, self.scheduler.current_cell
        self.scheduler.current, self.scheduler.current_cell = None, sender
        token = IN_HAND.set(None)
        try:
            self.scheduler.submit(ask)
        finally:
            IN_HAND.reset(token)
            self.scheduler.current, self.scheduler.current_cell = before
        return ask

    # -- from a wire ----------------------------------------------------------------------------------------

    def wire_ask(
        self,
        sender: str,
        to: str,
        type: str,  # noqa: A002
        payload: dict[str, Any],
        *,
        timeout_s: float | None = -1.0,
        message_id: str | None = None,
        callback: Callable[[bool, object], None],
    ) -> Ask | None:
        """Ask for a client; `callback(ok, value or error form)` is called once.

        Returns what `cancel()` may be called on; None if the answer was given already.
        """
        try:
            cell, verb, kwargs = self.message_parts(to, type, payload, None)
        except Dan9Error as error:
            callback(False, to_form(error, message=type))  # noqa: FBT003
            return None
        ask = Ask(cell, verb, KEYWORDS, kwargs, _timeout(timeout_s))
        ask.own_id = message_id
        ask.origin = sender
        self.scheduler.submit(ask)
        if ask.done():
            self._wire_reply(ask, verb, callback)
            return None
        ask.add_done_callback(lambda done: self._wire_reply(done, verb, callback))
        return ask

    def _wire_reply(self, ask: Ask, verb: Verb, callback: Callable[[bool, object], None]) -> None:
        error = ask.exception()
        if error is None:
            value = ask.result()
            try:
                if verb.function is not None:
                    value = verb.signature.wire(value)
            except Dan9Error as failure:
                error = failure
            else:
                callback(True, value)  # noqa: FBT003
                return
        callback(False, to_form(error, address=ask.recipient, message=ask.type))  # noqa: FBT003

    def wire_tell(
        self,
        sender: str,
        to: str,
        type: str,  # noqa: A002
        payload: dict[str, Any],
        *,
        message_id: str | None = None,
    ) -> None:
        """Tell for a client; a full mailbox makes a dead letter.

        Raises:
            Refused: UnknownDaemon, UnknownMessage, BadPayload.
        """
        if is_pattern(to):
            self.tell(to, type, payload=payload)
            return
        cell, verb, kwargs = self.message_parts(to, type, payload, None)
        message = Message(cell, verb, KEYWORDS, kwargs)
        message.own_id = message_id
        message.origin = sender
        self.scheduler.tell_inside(message)

    def wire_send(
        self,
        sender: str,
        to: str,
        type: str,  # noqa: A002
        payload: dict[str, Any],
        *,
        timeout_s: float | None = -1.0,
        message_id: str | None = None,
        callback: Callable[[bool, object], None],
    ) -> Ask | None:
        """Send for a client: `callback(True, None)` once the message is queued or journalled."""
        try:
            cell, verb, kwargs = self.message_parts(to, type, payload, None)
        except Dan9Error as error:
            callback(False, to_form(error, message=type))  # noqa: FBT003
            return None
        ticket = Ask(cell, verb, KEYWORDS, {}, _timeout(timeout_s))
        message = Message(cell, verb, KEYWORDS, kwargs)
        message.own_id = message_id
        message.origin = sender
        ticket.carries = message
        self.scheduler.submit_carried(ticket)

        def answer(done: Ask) -> None:
            error = done.exception()
            if error is None:
                callback(True, None)  # noqa: FBT003
            else:
                callback(False, to_form(error, address=cell.address, message=type))  # noqa: FBT003

        if ticket.done():
            answer(ticket)
            return None
        ticket.add_done_callback(answer)
        return ticket

    # -- time -------------------------------------------------------------------------------------------------

    def clock_of(self, cell: Cell) -> Clock:
        """Return the clock of a daemon: its subtree's, or the system's."""
        cold = cell.cold
        if cold is not None and cold.clock is not None:
            return cold.clock  # type: ignore[return-value]
        return self.clock

    async def sleep(self, duration: float | str, *, cell: Cell | None = None) -> None:
        """Sleep; seconds or text, on the clock of the daemon's subtree."""
        seconds = parse_duration(duration)
        if cell is not None and cell.cold is not None and cell.cold.clock is not None:
            seconds = cell.cold.clock.to_base_s(seconds)  # type: ignore[attr-defined]
        await self.pause(seconds)

    async def pause(self, seconds: float) -> None:
        """Sleep on the system's clock."""
        parking = Parking(self.scheduler)
        timer = self.scheduler.call_at(self.scheduler.time() + seconds, parking.release)
        parking.on_cancel = lambda: self.scheduler.cancel_timer(timer)
        await parking

    def call_at(self, when: float, callback: Callable[[], object]) -> TimerHandle:
        """Call `callback()` at a moment of the system's monotonic clock."""
        return TimerHandle(self.scheduler, self.scheduler.call_at(when, callback))

    def schedule_own(self, cell: Cell) -> None:
        """Set the timers of a daemon's `@every` and `@cron` messages."""
        behaviour = cell.home.behaviour
        for seconds, verb in behaviour.every:
            rate = getattr(self.clock_of(cell), "rate", 1.0)
            _Repeater(self, cell, verb, seconds / rate).plan()
        for expression, timezone, verb in behaviour.crons:
            _CronRepeater(self, cell, verb, expression, timezone).plan()

    # -- links and monitors -----------------------------------------------------------------------------------

    def _watcher(self, watcher: object) -> Cell:
        if watcher is not None:
            return self.cell_of(watcher)
        cell = self.scheduler.current_cell
        if cell is None:
            message = IN_HAND.get()
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

    def on_end_of(self, address: str, callback: Callable[[], None], *, owner: Cell | None = None) -> object:
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

    # -- what happened ------------------------------------------------------------------------------------------

    @property
    def wants_events(self) -> bool:
        """True if anybody listens to events."""
        return bool(self._event_sinks)

    def subscribe_events(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Call `callback(event)` for every event; returns how to stop that."""
        number = self.next_number()
        self._event_sinks[number] = callback

        def unsubscribe() -> None:
            self._event_sinks.pop(number, None)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tell the listeners; one that raises is logged and stays."""
        for callback in list(self._event_sinks.values()):
            try:
                callback(event)
            except Exception as error:  # noqa: BLE001  (a listener is a plug-in)
                self.logger("kernel").error("an event listener raised %s", describe_error(error))

    def logger(self, source: str) -> logs.Logger:
        """Return the log with `source` as who speaks."""
        return self.log_hub.logger(source)

    def logger_of(self, cell: Cell) -> logs.Logger:
        """Return a daemon's log."""
        return self.log_hub.logger(cell.address)

    def warn(self, cell: Cell, text: str) -> None:
        """Log a warning with a daemon as its source."""
        self.logger_of(cell).warning("%s", text)

    @property
    def log_sink(self) -> Callable[[LogEntry], None] | None:
        """Who collects log entries; None: the standard `logging`."""
        return self.log_hub.sink

    @log_sink.setter
    def log_sink(self, sink: Callable[[LogEntry], None] | None) -> None:
        self.log_hub.sink = sink

    def bury(self, message: Message, reason: str) -> None:
        """Keep a dead letter and tell its asker."""
        now = self.clock.now()
        try:
            payload = message.payload
        except (TypeError, Dan9Error):
            payload = {"arguments": repr(message.args)}
        letter = DeadLetter(
            now,
            message.recipient,
            message.sender,
            message.type,
            payload,
            message.id,
            reason,
            "",
            message.timestamp,
        )
        self.dead_letters.add(letter)
        if self.wants_events:
            self.emit(letter)
        if isinstance(message, Ask) and not message.done() and reason != "expired":
            error: Dan9Error = self.lifecycle.not_running(message.cell, message)
            if reason.startswith("dropped"):
                error = MailboxFull(
                    f"{message.recipient} dropped {message.type!r}: its mailbox was full",
                    address=message.recipient,
                    message=message.type,
                )
            if reason != "not-allowed":
                self.scheduler.reply_error(message, error)

    def dead_entry(self, cell: Cell, entry: Any, reason: str) -> None:  # noqa: ANN401
        """Keep a dead letter of a journal entry."""
        letter = DeadLetter(
            self.clock.now(), cell.address, entry.sender, entry.type, {}, entry.id, reason
        )
        self.dead_letters.add(letter)
        self.emit(letter)

    def mailbox_high(self, cell: Cell) -> None:
        """Say once that a mailbox is full."""
        cold = cell.chill()
        if cold.high_water < cell.depth:
            cold.high_water = int(cell.depth)
            self.emit(
                MailboxHigh(self.clock.now(), cell.address, int(cell.depth), int(cell.limit))
            )

    # -- hooks of watched cells -----------------------------------------------------------------------------------

    def reconsider_watch(self, cell: Cell) -> None:
        """Set or clear the gate's WATCHED bit as somebody needs it."""
        cold = cell.cold
        if (
            self.copying
            or self.on_incoming is not None
            or self.on_handling is not None
            or self.taps
            or (cold is not None and (cold.dirty_watch or cold.durable))
        ):
            cell.gate |= WATCHED
        else:
            cell.gate &= ~WATCHED

    def reconsider_all(self) -> None:
        """Do so for every daemon: a tap or a hook came or went."""
        for cell in self.registry.cells():
            self.reconsider_watch(cell)

    def tap(self, callback: Callable[[Message], None]) -> Callable[[], None]:
        """Show every message to `callback` as it is queued; returns how to stop that."""
        number = self.next_number()
        self.taps[number] = callback
        self.reconsider_all()

        def untap() -> None:
            self.taps.pop(number, None)
            self.reconsider_all()

        return untap

    def incoming(self, cell: Cell, message: Message) -> bool:
        """See a message to a watched daemon."""
        if self.copying:
            try:
                self._copy_in(message)
            except TypeError:
                pass  # the arguments do not bind: handling will say so
            except Dan9Error as error:
                self.scheduler.count_handled(cell, message.verb)
                self.scheduler.reply_error(message, error)
                return False
        for callback in list(self.taps.values()):
            callback(message)
        cold = cell.cold
        if cold is not None and cold.durable and not self.state.accept(cell, message):
            self.scheduler.handled += 1
            cold.received -= 1
            return False
        return True if self.on_incoming is None else self.on_incoming(cell, message)

    def _copy_in(self, message: Message) -> None:
        """Pass a payload through encode and decode."""
        if message.verb.function is None or message.verb.source is None:
            return
        from dan9.base.copying import copy_payload  # noqa: PLC0415

        args, kwargs = message.arguments()
        message.args = copy_payload(message.verb.signature, args, kwargs)
        message.shape = KEYWORDS

    def after_handling(self, cell: Cell, message: Message, value: object) -> object:
        """See a watched daemon's reply."""
        cold = cell.cold
        if cold is not None:
            if cold.dirty_watch and message.verb.kind == 0:
                self.state.handled(cell)
            if cold.durable and message.journalled and self.journal is not None:
                self.state.commit(cell, message, value, None)
                return DEFERRED
        if self.copying and message.verb.source is not None:
            from dan9.base.copying import copy_reply  # noqa: PLC0415

            return copy_reply(message.verb.signature, value)
        return value

    def after_refusal(self, cell: Cell, message: Message, error: Dan9Error) -> bool:
        """Count a refusal; True if its answer waits for a commit."""
        cold = cell.chill()
        cold.refused += 1
        if not isinstance(message, Ask):
            self.logger_of(cell).warning(
                "refused %s from %s: %s", message.type, message.sender, str(error)
            )
        if not error.address:
            error.address = cell.address
        if not error.message:
            error.message = message.type
        if cold.durable and message.journalled and self.journal is not None:
            self.state.commit(cell, message, None, error)
            return True
        return False

    def bad_call(self, cell: Cell, message: Message, error: TypeError) -> Dan9Error | None:
        """Return the refusal if the caller's arguments did not bind."""
        if error.__traceback__ is not None and error.__traceback__.tb_next is not None:
            inner = error.__traceback__.tb_next
            if inner.tb_frame.f_code.co_filename != __file__:
                return None
        source = message.verb.source
        if source is None:
            return None
        args, kwargs = message.arguments()
        try:
            inspect.signature(source).bind(None, *args, **kwargs)  # type: ignore[arg-type]
        except TypeError as mismatch:
            return BadPayload(
                f"{message.type}: {mismatch}",
                hint=f"`dan9 describe {cell.name}` shows what it takes",
                address=cell.address,
                message=message.type,
            )
        return None

    def timeout_of(self, ask: Ask) -> float:
        """Return the deadline of an ask whose payload has a key `timeout`: that and a second."""
        args, kwargs = ask.arguments()
        parameters = inspect.signature(ask.verb.source).parameters  # type: ignore[arg-type]
        try:
            bound = inspect.signature(ask.verb.source).bind_partial(None, *args, **kwargs)  # type: ignore[arg-type]
        except TypeError:
            return ask.verb.timeout_s
        given = bound.arguments.get("timeout", parameters["timeout"].default)
        if given is None:
            return float("inf")
        return parse_duration(given) + 1.0 if isinstance(given, (int, float, str)) else -1.0

    def allowed(self, cell: Cell, message: Message) -> Dan9Error | None:
        """Return why this sender may not say this to a guarded daemon, or None."""
        cold = cell.chill()
        if cold.allow is None or message.origin is cell:
            return None
        sender = message.sender if message.origin is not None else self._stamped(message)
        error: Dan9Error | None = cold.allow.refusal(cell.address, sender, message.type)  # type: ignore[attr-defined]
        if error is not None:
            cold.refused += 1
            self.logger_of(cell).warning("not allowed: %s from %s", message.type, sender)
        return error

    def _stamped(self, message: Message) -> str:
        return message.sender

    # -- what can be known of a daemon ------------------------------------------------------------------------------

    def state_of(self, address: str) -> str:
        """Return the name of a daemon's state."""
        return STATE_NAMES[self.cell_of(address).state]

    def supervisor_of(self, cell: Cell) -> str:
        """Return the address of a daemon's supervisor; empty if it has none."""
        cold = cell.cold
        if cold is not None:
            if cold.parent is not None:
                return cold.parent.address
            if cold.unsupervised:
                return ""
        return f"{SCHEME}supervisor/system/user"

    def status_of(self, target: object) -> dict[str, Any]:
        """Return a daemon's status; see the message `status`."""
        return self.status_of_cell(self.cell_of(target))

    def status_of_cell(self, cell: Cell) -> dict[str, Any]:
        """Return who it is, what it does and how it fares."""
        cold = cell.cold
        running = cell.instance is not None and cell.started_at >= 0
        status: dict[str, Any] = {
            "name": cell.name,
            "type": cell.home.type_name,
            "group": cell.home.group,
            "address": cell.address,
            "state": STATE_NAMES[cell.state],
            "uptime": self.scheduler.monotonic() - cell.started_at if running else 0.0,
            "mailbox": {"depth": int(cell.depth), "limit": int(cell.limit)},
            "handled": int(cell.handled),
            "refused": cold.refused if cold is not None else 0,
            "failed": cold.failed if cold is not None else 0,
            "restarts": cold.restarts if cold is not None else 0,
            "supervisor": self.supervisor_of(cell),
            "last-error": cold.last_error if cold is not None else "",
            "config": {},
        }
        instance: Any = cell.instance
        if instance is not None:
            fields: Any = cell.home.behaviour.fields
            status["config"] = fields.show(instance, config=True, wire=True)
            for key, value in instance.on_status().items():
                status.setdefault(kebab(key), value)
        return status

    def describe_of(self, target: object) -> dict[str, Any]:
        """Return what a daemon can be told, generated from its handlers."""
        cell = self.cell_of(target)
        behaviour = cell.home.behaviour
        messages = [
            {
                "type": verb.type,
                "doc": verb.signature.doc,
                "payload": verb.signature.payload_schema(),
                "reply": verb.signature.reply_schema(),
            }
            for verb in sorted(behaviour.order, key=lambda verb: (verb.kind != 0, verb.index))
        ]
        doc = inspect.cleandoc(behaviour.cls.__doc__ or "")
        return {"address": cell.address, "doc": doc, "messages": messages}

    def counts_of(self, cell: Cell) -> dict[str, int]:
        """Return how many messages of each type a daemon has handled."""
        cold = cell.cold
        if cold is not None and cold.counts is not None:
            counts = cold.counts
            found = {verb.type: counts[verb.index] for verb in cell.home.behaviour.order}
            found["other"] = counts[len(cell.home.behaviour.order)]
            return {type_: count for type_, count in found.items() if count}
        if cell.only_verb is not None and cell.handled:
            return {cell.only_verb.type: int(cell.handled)}
        return {}

    def metrics_of(self, target: object) -> dict[str, float]:
        """Return every metric of a daemon by name."""
        return self.metrics_of_cell(self.cell_of(target))

    def metrics_of_cell(self, cell: Cell) -> dict[str, float]:
        """Return counts, mailbox, times and the daemon's own metrics."""
        cold = cell.cold
        found: dict[str, float] = {
            f"{type_}-count": count for type_, count in self.counts_of(cell).items()
        }
        uptime = self.scheduler.monotonic() - cell.started_at if cell.started_at >= 0 else 0.0
        found.update(
            {
                "handled": int(cell.handled),
                "refused": cold.refused if cold is not None else 0,
                "failed": cold.failed if cold is not None else 0,
                "mailbox-depth": int(cell.depth),
                "mailbox-high": cold.high_water if cold is not None else 0,
                "restarts": cold.restarts if cold is not None else 0,
                "uptime": uptime,
                "busy": 0.0,
            }
        )
        times = self.scheduler.times.get(cell)
        if times is not None:
            found["handler-p50"] = times.percentile(0.5)
            found["handler-p99"] = times.percentile(0.99)
            if uptime > 0:
                found["busy"] = min(1.0, times.total_s / uptime)
        if cold is not None:
            found.update(cold.own_metrics)
        return found

    def metric_of(self, cell: Cell, name: str) -> float:
        """Return one metric.

        Raises:
            NotFound: There is none of that name.
        """
        found = self.metrics_of_cell(cell)
        key = name if name in found else name.replace("_", "-")
        if key not in found:
            near = difflib.get_close_matches(name, found, 1)
            raise NotFound(
                f"{cell.address} has no metric {name!r}",
                hint=f"did you mean {near[0]}?" if near else "`metrics` lists them",
            )
        return found[key]

    def changed_since(self, mark: int) -> tuple[int, list[str]]:
        """Return a new mark and the addresses of daemons that changed after `mark` (0: all)."""
        self._change_mark += 1
        now = self._change_mark
        changed: list[str] = []
        seen = self._changed_at
        fresh: dict[Cell, tuple[int, ...]] = {}
        for cell in self.registry.cells():
            cold = cell.cold
            own = hash(tuple(cold.own_metrics.items())) if cold is not None else 0
            print_ = (int(cell.handled), int(cell.depth), int(cell.state), own)
            before = seen.get(cell)
            if before is None or before[1:] != print_:
                fresh[cell] = (now, *print_)
                changed.append(cell.address)
            else:
                fresh[cell] = before
                if before[0] > mark:
                    changed.append(cell.address)
        self._changed_at = fresh
        return now, changed

    def waits(self) -> list[dict[str, Any]]:
        """Return who waits on whom and since when: [{address, message, on, since}]."""
        now = self.scheduler.monotonic()
        found: list[dict[str, Any]] = []
        for cell in self.registry.cells():
            hands: list[Hand] = list((cell.cold.hands if cell.cold is not None else None) or ())
            if cell.hand is not None:
                hands.append(cell.hand)
            for hand in hands:
                found.append(self._waiting(cell, hand, now))
        return found

    def _waiting(self, cell: Cell, hand: Hand, now: float) -> dict[str, Any]:
        on = "the event loop"
        waits = hand.waits
        if isinstance(waits, Ask):
            on = f"{waits.type!r} of {waits.recipient}"
        elif isinstance(waits, Gather):
            out = sum(not ask.done() for ask in waits.asks)
            on = f"{out} asks"
        elif isinstance(waits, Parking):
            on = "a timer or its inbox"
        message = hand.message
        return {
            "address": cell.address,
            "message": message.type if message is not None else "(hook or own loop)",
            "from": message.sender if message is not None else "",
            "on": on,
            "since-s": now - message.sent_at if message is not None else 0.0,
            "blocking": hand.blocking,
        }

    def conservation(self) -> dict[str, int]:
        """Return sent, handled, dead, queued and in hand; the first is the sum of the rest."""
        queued = in_hand = 0
        for cell in self.registry.cells():
            cold = cell.cold
            queued += int(cell.depth)
            if cold is not None:
                queued += cold.set_aside
                in_hand += cold.taken is not None
                in_hand += sum(hand.message is not None and cold.taken is not hand.message for hand in cold.hands or ())
            in_hand += cell.hand is not None and cell.hand.message is not None
        scheduler = self.scheduler
        return {
            "sent": scheduler.sent + scheduler.duplicated,
            "handled": scheduler.handled,
            "dead": scheduler.dead,
            "queued": queued + len(scheduler.control),
            "in-hand": in_hand,
        }

    # -- what daemons do to themselves ---------------------------------------------------------------------------------

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

    # -- persistence's hooks -----------------------------------------------------------------------------------------------

    def dirty(self) -> list[str]:
        """Return running daemons with state that handled a message since their last capture."""
        return [
            cell.address
            for cell in self.registry.cells()
            if cell.home.behaviour.has_state and cell.state == RUNNING and self.state.is_dirty(cell)
        ]

    def capture(
        self, address: str, then: Callable[[Any, Exception | None], None]
    ) -> None:
        """Encode a daemon's state between two messages; `then(checkpoint, error)`."""
        try:
            cell = self.cell_of(address)
        except Dan9Error:
            then(None, None)
            return
        self.state.capture(cell, then)

    def watch_dirty(self, address: str, wanted: bool) -> None:  # noqa: FBT001
        """Call `on_dirty(address)` when the daemon goes from clean to dirty."""
        self.state.watch_dirty(self.cell_of(address), wanted=wanted)

    @property
    def state_policy(self) -> Callable[[str], Any] | None:
        """Who says when a daemon's state is saved; None: the default policy."""
        return self.state.policy

    @state_policy.setter
    def state_policy(self, policy: Callable[[str], Any] | None) -> None:
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


class TimerHandle:
    """A timer that can be taken back."""

    __slots__ = ("_key", "_scheduler")

    def __init__(self, scheduler: Scheduler, key: int) -> None:
        self._scheduler = scheduler
        self._key = key

    def cancel(self) -> bool:
        """Take it back; False if it has fired."""
        return self._scheduler.cancel_timer(self._key)


class _EndWatch:
    """One callback for the end of a daemon."""

    __slots__ = ("callback", "cell")

    def __init__(self, cell: Cell, callback: Callable[[], None]) -> None:
        self.cell = cell
        self.callback = callback

    def __call__(self, _: object) -> None:
        self.callback()


class _Repeater:
    """Tells a daemon one of its own messages every so often, at most one at a time.

    The n-th is due at start + n·interval, so that it never drifts; those that came due
    while one was queued or the daemon suspended coalesce.
    """

    def __init__(self, system: System, cell: Cell, verb: Verb, seconds: float) -> None:
        self.system = system
        self.cell = cell
        self.verb = verb
        self.seconds = seconds
        self.start = system.scheduler.time()
        self.count = 0
        self.queued: Message | None = None
        self.timer = 0

    def next_at(self) -> float:
        """Return when the next one is due."""
        now = self.system.scheduler.time()
        self.count = max(self.count + 1, int((now - self.start) / self.seconds + 1e-9) + 1)
        return self.start + self.count * self.seconds

    def plan(self) -> None:
        """Set the timer of the next one."""
        cold = self.cell.chill()
        if cold.timers is None:
            cold.timers = []
        elif self.timer in cold.timers:
            cold.timers.remove(self.timer)
        self.timer = self.system.scheduler.call_at(self.next_at(), self.fire)
        cold.timers.append(self.timer)

    def fire(self) -> None:
        """Tell it, unless the last one is still queued."""
        self.plan()
        if self.cell.state != RUNNING or self._is_queued():
            return
        message = Message(self.cell, self.verb, 0, None)
        message.origin = self.cell
        self.queued = message
        try:
            self.system.scheduler.tell(message)
        except MailboxFull:
            self.queued = None

    def _is_queued(self) -> bool:
        waiting = self.cell.head
        while waiting is not None:
            if waiting is self.queued:
                return True
            waiting = waiting.next
        return False


class _CronRepeater(_Repeater):
    """The same by a crontab line, on the wall clock."""

    def __init__(
        self, system: System, cell: Cell, verb: Verb, expression: str, timezone: str
    ) -> None:
        from dan9.base.schedule import Cron  # noqa: PLC0415

        super().__init__(system, cell, verb, 60.0)
        self.cron = Cron(expression, timezone)

    def next_at(self) -> float:
        """Return when the crontab line is due next."""
        clock = self.system.clock
        now = clock.now()
        following = self.cron.after(now)
        return clock.monotonic() + (following - now if following is not None else 1e9)


def _timeout(value: float | str | None) -> float:
    """Return a deadline in seconds: negative the default, infinite none."""
    if value is None:
        return float("inf")
    if isinstance(value, str):
        return parse_duration(value)
    if value != value:
        raise BadPayload("nan is no deadline", at="timeout_s")
    return float(value)


def gather(*asks: object, return_errors: bool = False) -> Gather:
    """Wait for many asks at once: `results = await gather(a.add(1), b.add(2))`.

    All are sent before the first reply is awaited; one wake-up for all of them, which is
    what makes it several times faster than `asyncio.gather`.

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
    return IN_HAND.get()


def _current_hub() -> logs.LogHub | None:
    """Return where log entries of the running handler go."""
    message = current_message()
    if message is not None:
        return message.cell.home.scheduler.ports.system.log_hub  # type: ignore[attr-defined, no-any-return]
    return _LIVE[0].log_hub if len(_LIVE) == 1 else None


