"""The class that users write: `Daemon`, and the marks `@on`, `@every` and `@cron`.

Methods are messages. `@on` is a descriptor generic over the method's parameters, so
that a checker sees `await ref.add(2)` as the handler's return type and a forgotten
await as an error. A class is checked when it is made: reserved names, fields, handlers.

Interpreted on purpose, as users' classes are: this module runs when classes are made,
not when messages are.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextvars import copy_context
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Concatenate,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    overload,
)

from dan9.base.address import kebab, segment
from dan9.base.duration import parse_duration
from dan9.base.errors import BadConfig
from dan9.base.fields import Config, Fields
from dan9.kernel import metrics
from dan9.kernel.bound import pack
from dan9.kernel.cell import POLICIES, Behaviour
from dan9.kernel.message import CONTROL, ORDINARY, PRIORITY, Message, Verb
from dan9.kernel.parking import sleep_of

if TYPE_CHECKING:
    from dan9.base.ports import Clock
    from dan9.base.reasons import Reason
    from dan9.kernel.cell import Cell
    from dan9.kernel.kernel import System
    from dan9.kernel.links import Down
    from dan9.kernel.log import Logger
    from dan9.kernel.ref import Ref

__all__ = ["RESERVED", "Config", "Daemon", "cron", "every", "on"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)
D = TypeVar("D", bound="Daemon")

UNIVERSAL = (
    "ping",
    "describe",
    "status",
    "metrics",
    "get_metric",
    "set_metric",
    "start",
    "stop",
    "restart",
    "suspend",
    "resume",
    "checkpoint",
    "restore",
)
RESERVED = frozenset(
    (
        "address",
        "name",
        "group",
        "system",
        "log",
        "clock",
        "ref",
        "ask",
        "tell",
        "send",
        "spawn",
        "sleep",
        "inbox",
        "main",
        "dispatch",
        "only",
        *UNIVERSAL,
    )
)
HOOKS = frozenset(("on_start", "on_stop", "on_down", "on_status"))


class BoundHandler(Protocol[P, R_co]):
    """A handler as seen through a ref: call it to ask."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Ask."""

    def tell(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Send and go on."""

    def send(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, None]:
        """Send, waiting for room."""

    def within(self, timeout_s: float | str | None) -> Callable[P, Coroutine[Any, Any, R_co]]:
        """Ask with a deadline of its own."""


class Handler(Generic[P, R_co]):
    """What `@on` makes of a method."""

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        concurrent: int | bool = 1,
        thread: bool = False,
        timeout_s: float | None = -1.0,
        cancellable: bool = False,
        kind: int = ORDINARY,
    ) -> None:
        if not callable(function):
            raise BadConfig(f"@on takes a method, not {function!r}", hint="write @on or @on(…)")
        self.function = function
        self.name = function.__name__
        self.type = kebab(self.name.removesuffix("_") if self.name != "_" else self.name)
        if concurrent is True:
            concurrent = 0
        elif concurrent is False:
            concurrent = 1
        if concurrent < 0:
            raise BadConfig(
                f"@on(concurrent={concurrent}) on {self.name}", hint="True, or 1 and up"
            )
        if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
            raise BadConfig(
                f"the handler {self.name} is a generator",
                hint="reply with a list, or send the parts as messages",
            )
        if thread and inspect.iscoroutinefunction(function):
            raise BadConfig(
                f"@on(thread=True) on the coroutine {self.name}", hint="make it a plain def"
            )
        self.concurrent = concurrent
        self.thread = thread
        self.timeout_s = float("inf") if timeout_s is None else parse_duration_or(timeout_s)
        self.cancellable = cancellable
        self.kind = kind
        self.every_s: float | None = None
        self.cron: tuple[str, str] | None = None
        functools.update_wrapper(self, function)

    def verb(self) -> Verb:
        """Return the entry of the behaviour table."""
        function = _threaded(self.function) if self.thread else self.function
        is_async = self.thread or inspect.iscoroutinefunction(self.function)
        verb = Verb(
            self.type,
            self.name,
            function,
            is_async,
            self.kind,
            self.concurrent,
            self.cancellable,
            self.timeout_s,
        )
        verb.source = self.function
        verb.takes_timeout = (
            self.timeout_s < 0 and "timeout" in inspect.signature(self.function).parameters
        )
        return verb

    @overload
    def __get__(self, instance: None, owner: type) -> Handler[P, R_co]: ...
    @overload
    def __get__(self, instance: object, owner: type) -> BoundHandler[P, R_co]: ...
    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        return InPlace(self, instance)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the plain function: `super().add(2)` and `Counter.add(self, 2)` work."""
        return self.function(*args, **kwargs)


class InPlace:
    """A handler as seen by the daemon itself: calling it runs it here, no message."""

    __slots__ = ("handler", "instance")

    def __init__(self, handler: Handler[Any, Any], instance: object) -> None:
        self.handler = handler
        self.instance = instance

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the handler in place."""
        value = self.handler.function(self.instance, *args, **kwargs)
        return await value if inspect.isawaitable(value) else value

    def tell(self, *args: object, **kwargs: object) -> None:
        """Queue the message to oneself."""
        cell: Cell = self.instance._d9_cell  # type: ignore[attr-defined]
        shape, packed = pack(args, kwargs)
        verb = cell.home.behaviour.names[self.handler.name]
        cell.home.scheduler.tell(Message(cell, verb, shape, packed))


def parse_duration_or(value: float | str) -> float:
    """Return seconds; negative numbers mean "the default" and pass."""
    if isinstance(value, (int, float)) and value < 0:
        return -1.0
    return parse_duration(value)


# Two of these are for handlers with **fields, which might hold a `self` for all mypy knows,
# so that those with Concatenate do not fit. It calls them unreachable all the same.
@overload
def on(  # type: ignore[overload-overlap]
    function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R_co]], /
) -> Handler[P, R_co]: ...
@overload
def on(  # type: ignore[overload-cannot-match]
    function: Callable[..., Coroutine[Any, Any, R_co]], /
) -> Handler[..., R_co]: ...
@overload
def on(function: Callable[Concatenate[Any, P], R_co], /) -> Handler[P, R_co]: ...
@overload
def on(  # type: ignore[overload-cannot-match]
    function: Callable[..., R_co], /
) -> Handler[..., R_co]: ...
@overload
def on(
    *,
    concurrent: int | bool = ...,
    thread: bool = ...,
    timeout_s: float | str | None = ...,
    cancellable: bool = ...,
) -> _Mark: ...
def on(function: Any = None, /, **options: Any) -> Any:
    """Make a method a message.

    The type is the method's name in kebab-case, one trailing underscore dropped; the
    payload's schema comes from the signature.

    Args:
        function: The method, when used without parentheses.
        concurrent: How many of this message may be in hand at once. 1: one at a time, as
            all others; n: up to n, while the daemon goes on; True: no limit.
        thread: The method is blocking code: run it off the loop.
        timeout_s: Default deadline of an ask of this message; None: wait for ever.
        cancellable: End the handler when its asker gives up.
    """
    if function is not None:
        return Handler(function, **options)
    return functools.partial(_marked, options)


class _Mark(Protocol):
    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[Concatenate[Any, P], Coroutine[Any, Any, R_co]], /
    ) -> Handler[P, R_co]: ...
    @overload
    def __call__(  # type: ignore[overload-cannot-match]
        self, function: Callable[..., Coroutine[Any, Any, R_co]], /
    ) -> Handler[..., R_co]: ...
    @overload
    def __call__(self, function: Callable[Concatenate[Any, P], R_co], /) -> Handler[P, R_co]: ...
    @overload
    def __call__(  # type: ignore[overload-cannot-match]
        self, function: Callable[..., R_co], /
    ) -> Handler[..., R_co]: ...


def _marked(options: dict[str, Any], function: Callable[..., Any]) -> Handler[Any, Any]:
    return Handler(function, **options)


def every(interval: float | str) -> Callable[[Callable[[D], Any]], Handler[[], None]]:
    """Make a method a message that the daemon tells itself every `interval`.

    The first comes after one interval. At most one is queued; late ones coalesce; a
    suspended daemon tells itself nothing.

    Args:
        interval: Seconds, or text such as "30s".
    """
    seconds = parse_duration(interval)
    if seconds <= 0:
        raise BadConfig("@every needs more than 0 seconds", hint='as in @every("30s")')

    def mark(function: Any) -> Handler[[], None]:
        handler = function if isinstance(function, Handler) else Handler(function)
        handler.every_s = seconds
        return handler

    return mark


def cron(
    expression: str, *, timezone: str = "UTC"
) -> Callable[[Callable[[D], Any]], Handler[[], None]]:
    """Make a method a message that the daemon tells itself as a crontab line says."""
    from dan9.base.schedule import Cron

    Cron(expression, timezone)  # a wrong expression is heard of now

    def mark(function: Any) -> Handler[[], None]:
        handler = function if isinstance(function, Handler) else Handler(function)
        handler.cron = (expression, timezone)
        return handler

    return mark


def _threaded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Run a blocking method off the loop; inline where there is only one thread."""

    @functools.wraps(function)
    async def run(self: Daemon, *args: object, **kwargs: object) -> object:
        scheduler = self._d9_cell.home.scheduler
        if scheduler.one_thread:
            return function(self, *args, **kwargs)
        context = copy_context()
        began: list[bool] = []

        def call() -> object:
            began.append(True)
            return context.run(function, self, *args, **kwargs)

        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(None, call)
        except asyncio.CancelledError:
            if began:  # a thread cannot be killed
                what = f"the thread of {function.__name__} did not end: abandoned"
                self.system.warn(self._d9_cell, what)
            raise

    return run


def _universal(kind: int) -> _Mark:
    """Mark a message that every daemon answers."""
    return functools.partial(_marked, {"kind": kind})


class Daemon:
    """A supervised, addressable, typed process that one sends messages to.

    Derive from it; mark methods with `@on`. Annotated public fields are its state,
    `Config[...]` fields its configuration; make private attributes in `on_start`. A field may
    have the name of an option of `spawn` (`allow`, `policy`): the keyword stays the option, the
    field is set in a map, `spawn(Gate, "g", {"allow": 3})`.

    Class keywords:
        type: The address's first segment; the class's name in kebab-case by default.
        mailbox: How many messages may be queued (10,000).
        policy: What happens to one more: `wait`, `refuse`, `drop-oldest`, `drop-newest`.
        shutdown_s: How long stopping may take before it is killed (5).
        restart: `permanent`, `transient` or `temporary`.
        checkpoint: `on-change`, `on-stop`, `never`, or an interval; default as persistence says.
        durable: Acknowledge messages after the journal has them.
    """

    __slots__ = ("__weakref__", "_d9_cell")
    __d9_ref__: ClassVar[bool] = True  # base.annotation: a parameter of this type takes an address

    _d9_cell: Cell
    _d9_behaviour: ClassVar[Behaviour]
    _d9_fields: ClassVar[Fields]

    def __init_subclass__(cls, **options: Any) -> None:
        plain = {
            key: options.pop(key)
            for key in tuple(options)
            if key
            in (
                "type",
                "mailbox",
                "policy",
                "shutdown_s",
                "restart",
                "checkpoint",
                "durable",
                "level",
            )
        }
        super().__init_subclass__(**options)
        _make_behaviour(cls, plain)

    # -- what a daemon has at hand -----------------------------------------------------------

    @property
    def address(self) -> str:
        """This daemon's address."""
        return self._d9_cell.address

    @property
    def name(self) -> str:
        """This daemon's name."""
        return self._d9_cell.name

    @property
    def group(self) -> str:
        """This daemon's group."""
        return self._d9_cell.home.group

    @property
    def system(self) -> System:
        """The system that it lives in."""
        return self._d9_cell.home.scheduler.ports.system  # type: ignore[attr-defined, no-any-return]

    @property
    def log(self) -> Logger:
        """The log, with this daemon as the source."""
        return self.system.logger_of(self._d9_cell)

    @property
    def clock(self) -> Clock:
        """The clock of this daemon's subtree."""
        return self.system.clock_of(self._d9_cell)

    def ref(self, cls: type[D], address: str) -> D:
        """Return a typed ref to another daemon."""
        return self.system.ref(cls, address)

    def ask(
        self,
        address: object,
        type: str,
        /,
        *,
        timeout_s: float | str | None = -1.0,
        message_id: str | None = None,
        payload: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Coroutine[Any, Any, Any]:
        """Ask by name; the reply is plain data. See `System.ask`."""
        return self.system.ask(
            address,
            type,
            timeout_s=timeout_s,
            message_id=message_id,
            payload=payload,
            viewer=self._d9_cell,
            **fields,
        )

    def tell(
        self,
        address: object,
        type: str,
        /,
        *,
        message_id: str | None = None,
        payload: dict[str, Any] | None = None,
        **fields: Any,
    ) -> None:
        """Tell by name. See `System.tell`."""
        self.system.tell(
            address,
            type,
            message_id=message_id,
            payload=payload,
            viewer=self._d9_cell,
            **fields,
        )

    def send(
        self,
        address: object,
        type: str,
        /,
        *,
        timeout_s: float | str | None = -1.0,
        message_id: str | None = None,
        payload: dict[str, Any] | None = None,
        **fields: Any,
    ) -> Coroutine[Any, Any, None]:
        """Tell by name and wait for room. See `System.send`."""
        return self.system.send(
            address,
            type,
            timeout_s=timeout_s,
            message_id=message_id,
            payload=payload,
            viewer=self._d9_cell,
            **fields,
        )

    @overload
    def spawn(
        self, cls: type[D], name: str, config_: Mapping[str, Any] | None = None, **options: Any
    ) -> Coroutine[Any, Any, D]: ...
    @overload
    def spawn(
        self,
        cls: Callable[..., Coroutine[Any, Any, Any]],
        name: str,
        config_: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Coroutine[Any, Any, Ref]: ...
    def spawn(
        self, cls: Any, name: str, config_: Mapping[str, Any] | None = None, **options: Any
    ) -> Any:
        """Spawn a child: this daemon supervises it and takes it along. See `System.spawn`."""
        options.setdefault("group", self.group)
        options.setdefault("supervisor", self._d9_cell)
        return self.system.spawn(cls, name, config_, **options)

    def sleep(self, duration: float | str) -> Coroutine[Any, Any, None]:
        """Sleep on this daemon's clock; seconds or text such as "30s"."""
        return sleep_of(self._d9_cell, duration)  # type: ignore[return-value]

    def inbox(self) -> AsyncIterator[Message]:
        """Iterate over the messages, in a daemon with a `main` of its own."""
        from dan9.kernel.inbox import Inbox

        return Inbox(self._d9_cell)

    async def dispatch(self, message: Message) -> None:
        """Run the handler of a message that the own loop took; replies by itself."""
        from dan9.kernel.inbox import dispatch

        await dispatch(self, message)

    def _d9_count(self, name: str, by: float = 1) -> None:
        """Add to a metric of one's own."""
        metrics.add(self._d9_cell, name, by)

    def _d9_set_metric(self, name: str, value: float) -> None:
        """Set a metric of one's own."""
        metrics.note(self._d9_cell, name, value)

    # -- hooks -----------------------------------------------------------------------------------

    async def on_start(self) -> None:
        """Make private attributes and whatever it takes; ready when this returns."""

    async def on_stop(self, reason: Reason) -> None:
        """Let go of whatever was taken; also called after a crash."""

    async def on_down(self, down: Down) -> None:
        """Hear that a daemon it monitors has ended."""

    def on_status(self) -> dict[str, object]:
        """Return keys to add to `status`; parameters of an override are optional keys of it."""
        return {}

    def _d9_suspended(self) -> None:
        """Hear of `suspend`; for system daemons that hold more than messages."""

    def _d9_resumed(self) -> None:
        """Hear of `resume`, which is said to a running daemon too."""

    # -- what every daemon answers -----------------------------------------------------------------
    #
    # Those of kind CONTROL are answered by the kernel, out of band, also when no
    # incarnation runs; their bodies serve a daemon that calls them on itself.

    @_universal(PRIORITY)
    def ping(self) -> str:
        """Answer "pong" from the mailbox: proof of liveness."""
        return "pong"

    @_universal(PRIORITY)
    def get_metric(self, name: str) -> float:
        """Return one metric. Errors: not-found."""
        return self.system.metric_of(self._d9_cell, name)

    @_universal(PRIORITY)
    def set_metric(self, name: str, value: float) -> float:
        """Set a metric of the daemon's own; it is saved beside the state."""
        return metrics.put(self._d9_cell, name, value)

    @_universal(PRIORITY)
    async def checkpoint(self) -> dict[str, Any]:
        """Save the state now. Replies version, bytes, when. Errors: not-supported no-space."""
        return await self.system.save_state(self._d9_cell)

    @_universal(PRIORITY)
    async def restore(self, version: int | str = "latest") -> dict[str, Any]:
        """Load a saved state (a version, `latest`, or `none` to start afresh).

        Replies version, bytes, when. Errors: not-found corrupt not-supported.
        """
        return await self.system.load_state(self._d9_cell, version)

    @_universal(CONTROL)
    def describe(self) -> dict[str, Any]:
        """Return what the daemon can be told: address, doc, messages with their schemas."""
        return self.system.describe_of(self._d9_cell)

    @_universal(CONTROL)
    def status(self, **keys: Any) -> dict[str, Any]:
        """Return who it is, its state, counts, mailbox, supervisor, configuration.

        Keys are for the daemon's own `on_status`, if it takes any. Errors: bad-payload.
        """
        return self.system.status_of(self._d9_cell, **keys)

    @_universal(CONTROL)
    def metrics(self) -> dict[str, float]:
        """Return every metric by name."""
        return self.system.metrics_of(self._d9_cell)

    @_universal(CONTROL)
    async def start(self) -> str:
        """Start a daemon that is created, stopped or failed. Replies the state."""
        return await self.system.start_cell(self._d9_cell)

    @_universal(CONTROL)
    async def stop(self, reason: str = "normal", drain: bool = False) -> str:
        """Finish the message in hand and end; with drain handle the queue first."""
        return await self.system.stop_cell(self._d9_cell, reason, drain=drain)

    @_universal(CONTROL)
    async def restart(self) -> str:
        """Stop and start anew; mailbox, refs and address stay. Replies the state."""
        return await self.system.restart_cell(self._d9_cell)

    @_universal(CONTROL)
    def suspend(self) -> str:
        """Queue messages and handle only control messages, until `resume`."""
        return self.system.suspend_cell(self._d9_cell)

    @_universal(CONTROL)
    def resume(self) -> str:
        """Handle messages again. Replies the state."""
        return self.system.resume_cell(self._d9_cell)

    def __repr__(self) -> str:
        cell = getattr(self, "_d9_cell", None)
        return f"<{type(self).__name__} {cell.address if cell else 'unborn'}>"


def _make_behaviour(cls: type[Daemon], options: dict[str, Any]) -> None:
    """Check a Daemon class and give it its table of verbs."""
    given = options.pop("type", None)
    type_name = segment(kebab(cls.__name__) if given is None else given, "type")
    behaviour = Behaviour(cls, type_name)
    inherited: Behaviour | None = getattr(cls, "_d9_behaviour", None)
    merged = {**(inherited.options if inherited else {}), **options}
    behaviour.options = merged
    _apply(cls, behaviour, merged)
    handlers = _handlers(cls)
    for index, handler in enumerate(handlers.values()):
        verb = handler.verb()
        verb.index = index
        behaviour.order.append(verb)
        behaviour.verbs[verb.type] = verb
        behaviour.names[handler.name] = verb
        if handler.every_s is not None:
            behaviour.every.append((handler.every_s, verb))
        if handler.cron is not None:
            behaviour.crons.append((handler.cron[0], handler.cron[1], verb))
    cls._d9_behaviour = behaviour
    cls._d9_fields = Fields.of(cls, stop_at=Daemon, handlers=handlers)
    behaviour.fields = cls._d9_fields
    behaviour.has_main = "main" in dir(cls)
    behaviour.has_init = cls.__init__ is not object.__init__
    _check_shape(cls, behaviour)
    behaviour.has_mutable = bool(cls._d9_fields.fresh()) or bool(cls._d9_fields.required)
    behaviour.has_on_stop = cls.on_stop is not Daemon.on_stop
    behaviour.has_state = bool(cls._d9_fields.state)
    behaviour.plain_start = (
        cls.on_start is Daemon.on_start
        and not behaviour.has_main
        and not behaviour.every
        and not behaviour.crons
        and not behaviour.has_init
    )
    behaviour.is_quick = (
        behaviour.plain_start and not behaviour.has_mutable and not behaviour.durable
    )


def _apply(cls: type, behaviour: Behaviour, options: dict[str, Any]) -> None:
    """Read the class keywords."""
    if "mailbox" in options:
        if not isinstance(options["mailbox"], int) or options["mailbox"] < 1:
            raise BadConfig(f"{cls.__name__}: mailbox={options['mailbox']!r}", hint="1 or more")
        behaviour.limit = options["mailbox"]
    if "policy" in options:
        if options["policy"] not in POLICIES:
            raise BadConfig(
                f"{cls.__name__}: policy={options['policy']!r}",
                hint="one of " + ", ".join(POLICIES),
            )
        behaviour.policy = POLICIES.index(options["policy"])
    if "shutdown_s" in options:
        behaviour.shutdown_s = parse_duration(options["shutdown_s"])
    behaviour.durable = bool(options.get("durable", False))


def _handlers(cls: type[Daemon]) -> dict[str, Handler[Any, Any]]:
    """Collect and check the handlers, base classes first."""
    found: dict[str, Handler[Any, Any]] = {}
    types: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if base is object:
            continue
        is_core = base.__module__ == __name__ and base.__name__ == "Daemon"
        for name, value in vars(base).items():
            if not is_core:
                _check_name(cls, base, name, value)
            if isinstance(value, Handler):
                if value.name != name and value.function.__name__ != name:
                    value.name = name
                found[name] = value
            elif name in found:
                raise BadConfig(
                    f"{base.__name__}.{name} hides a handler", hint="mark it with @on again"
                )
    for name, handler in found.items():
        if handler.type in types:
            raise BadConfig(
                f"{cls.__name__}.{name} and .{types[handler.type]} are both "
                f"the message {handler.type!r}",
                hint="rename one",
            )
        types[handler.type] = name
    return found


def _check_shape(cls: type[Daemon], behaviour: Behaviour) -> None:
    """Refuse an `__init__` that wants arguments, and an own loop that is to be durable."""
    if behaviour.has_init:
        try:
            inspect.signature(cls.__init__).bind(None)
        except TypeError as error:
            raise BadConfig(
                f"{cls.__name__}.__init__ takes no arguments: {error}",
                hint="declare `x: Config[int]` and spawn with x=…; make attributes in on_start",
            ) from None
    if behaviour.has_main and behaviour.durable:
        raise BadConfig(
            f"{cls.__name__} has an own loop and cannot be durable",
            hint="the journal follows handlers: drop main(), or durable=True",
        )


def _check_name(cls: type, base: type, name: str, value: object) -> None:
    """Refuse names that are Dan9's."""
    if name == "main" and inspect.iscoroutinefunction(value):
        return
    if name == "migrate" and inspect.isfunction(value):
        return
    is_hook = name.startswith("on_")
    if name in RESERVED or name == "migrate" or (is_hook and name not in HOOKS):
        hint = "rename it"
        if is_hook:
            hint = "names on_… are hooks: " + ", ".join(sorted(HOOKS))
        elif name == "migrate":
            hint = "it turns old state into new: a plain `def migrate(self, state)`"
        elif name == "main":
            hint = "an own loop is `async def main(self)`"
        raise BadConfig(
            f"{base.__name__}.{name} is a reserved name", hint=hint, at=f"{cls.__name__}.{name}"
        )
    if name in HOOKS and isinstance(value, Handler):
        raise BadConfig(f"{base.__name__}.{name} is a hook, not a message", hint="drop @on")
