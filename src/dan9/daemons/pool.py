"""A pool: a population of up to 10**12 cycles in step, and jobs of which `size` run at once.

A cycle is an address, `d9://cycle/<pool>/<number>`, that answers by the handlers of the
pool's cycle class. Until somebody speaks to it, it is a number; then it has an instance of
its own, which is let go when its state is the default again (`population.py`). So 10**12 is
a count of addresses and of steps, not of code that runs.

A message to a cycle's address gets a cell of the kernel for as long as it is queued or in
hand; `tell-cycle` runs a plain handler in place and needs none while nothing is queued.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import operator
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

from dan9.base.address import SCHEME
from dan9.base.errors import (
    AddressInUse,
    BadConfig,
    BadPayload,
    Corrupt,
    Dan9Error,
    NotFound,
    Refused,
    UnknownDaemon,
)
from dan9.base.reasons import Reason
from dan9.base.shape import Misfit
from dan9.daemons.population import MOST, Population
from dan9.kernel.cell import CLOSED, HELD, RUNNING, Behaviour, Cell
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.links import Down
from dan9.kernel.message import ORDINARY, Verb

__all__ = ["Pool", "Stepped", "Synced"]


class Synced(TypedDict):
    """How many cycles there were, and are."""

    previous: int
    now: int


class Stepped(TypedDict):
    """How many cycles have a state of their own after a step; how many were woken before it."""

    active: int
    woken: int


class Waiting(TypedDict):
    """A job that is a message and has not begun."""

    target: str
    type: str
    payload: dict[str, Any]


class Pool(Daemon, type="pool"):
    """Keeps a population of cycles in step, and runs jobs, a limited number at once."""

    size: Config[int] = 100
    """How many jobs run at once; the others wait their turn."""
    cycle: Config[Any] = None
    """The class of the cycles, or `module:Class`."""

    population: dict[str, Any] = {}
    """What is saved of the cycles; see `_census`."""
    _saved: dict[str, Any]
    jobs: dict[str, Waiting] = {}
    """Jobs that wait their turn; those that are functions do not survive a restart."""
    named: int = 0
    """How many jobs have been given a name."""

    async def on_start(self) -> None:
        """Begin with the cycles and the waiting jobs of an earlier life, or without."""
        if self.size < 1:
            raise BadConfig(f"size is {self.size}", hint="1 or more", at="size")
        self._cls = _class_of(self.cycle)
        if self._cls is not None:
            self.cycle = f"{self._cls.__module__}:{self._cls.__qualname__}"
        step, is_closed = _step_of(self._cls)
        fields = self._cls._d9_fields if self._cls is not None else None
        state = fields.state if fields is not None else {}
        plain = dict(self._cls._d9_fields.fresh()) if self._cls is not None else {}
        self._fresh = bool(plain)
        self._defaults = {
            name: plain[name] if name in plain else getattr(self._cls, name, None) for name in state
        }
        self._people = Population(self._default_test(), step, is_closed=is_closed)
        self._woken_at_step = 0
        self._verbs: dict[str, Verb] = {}
        self._jobs: dict[str, Callable[[Daemon], Awaitable[object]]] = {}  # queued
        self._running: dict[str, str] = {}  # address: job
        self._done = self._failed = 0
        self._home: Any = None
        if self._cls is not None:
            self._settle_in(self._cls)
        self._wake_again(self._saved)
        for job, one in self.jobs.items():
            self._jobs[job] = functools.partial(_ask, one["target"], one["type"], one["payload"])
        await self._begin_jobs()

    async def on_stop(self, reason: Reason) -> None:
        """Free the cycles' addresses; what is queued there becomes dead letters."""
        if self._home is None:
            return
        for cell in list(self._home.names.values()):
            cell.gate |= CLOSED | HELD
            self.system.lifecycle._bury_queue(cell, "stopped")
            self.system.registry.remove(cell)
        self.system.registry.homes.pop(f"cycle/{self.name}", None)

    def on_status(self) -> dict[str, object]:
        """Add the population and the jobs, apart."""
        people = self._people
        return {
            "population": {
                "count": people.count,
                "active": len(people.active),
                "epoch": people.epoch,
                "woken": people.woken,
                "released": people.released,
            },
            "jobs": {
                "size": self.size,
                "running": list(self._running.values()),
                "queued": list(self._jobs),
                "done": self._done,
                "failed": self._failed,
            },
        }

    # -- cycles -------------------------------------------------------------------------------

    @on
    def sync_cycles(self, count: int) -> Synced:
        """Let cycles 0 … count-1 exist, from none to 10**12. Errors: bad-payload.

        Up costs nothing; down, what there are active cycles. A cycle beyond the new count
        loses its state; messages queued for it become dead letters.
        """
        if not 0 <= count <= MOST:
            raise BadPayload(f"count is {count}", hint="from 0 to 10**12", at="payload.count")
        if count and self._cls is None:
            raise BadPayload("the pool has no cycle class", hint="spawn it with cycle=", at="cycle")
        before = self._people.sync(count)
        if count < before and self._home is not None:
            for name, cell in list(self._home.names.items()):
                if int(name) >= count:
                    self._close(cell, "not-running")
        return {"previous": before, "now": count}

    @on
    def tell_cycle(self, cycle: int, type: str, payload: dict[str, Any] | None = None) -> None:
        """Tell one cycle a message; the first gives it a state.

        Errors: unknown-daemon (there is no such cycle), unknown-message, bad-payload, and
        what the cycle's handler refuses.
        """
        verb = self._verbs.get(type) or self._verb(type)
        people = self._people
        if not 0 <= cycle < people.count:
            raise self._no_cycle(cycle)
        if verb.is_async or verb.concurrent != 1 or str(cycle) in self._home.names:
            self.tell(f"{self._home.prefix}{cycle}", type, payload=payload or {})
            return
        arguments = verb.signature.bind(payload or {})
        instance = people.active.get(cycle)
        if instance is None:
            instance = people.wake(cycle, self._make)
        instance._d9_cell = Cell(self._home, str(cycle))
        try:
            verb.source(instance, **arguments)  # type: ignore[operator]
        except Refused:
            raise
        except Exception:
            people.active.pop(cycle, None)
            raise
        finally:
            del instance._d9_cell
            people.rest(cycle)

    @on
    def step(self, ticks: int = 1) -> Stepped:
        """Let all cycles take steps; reply how many are active then, and were woken before.

        Costs the active ones; with none active, any number of steps costs nothing. A class
        with a method `step(self, n)` steps any n at once; with `tick(self)` only, n steps
        cost n for each cycle that stays active. Errors: bad-payload.
        """
        if ticks < 0:
            raise BadPayload(f"ticks is {ticks}", hint="0 or more", at="payload.ticks")
        woken = self._people.woken - self._woken_at_step
        self._people.step(ticks)
        self._woken_at_step = self._people.woken
        return {"active": len(self._people.active), "woken": woken}

    @on
    def total(self, field: str) -> int | float:
        """Return the exact sum of a field over all cycles. Errors: not-found bad-payload.

        Those without a state count by the class's `default_total(first, last)`, the sum over
        first … last-1, or else by the field's default.
        """
        name = field.replace("-", "_")
        if name not in self._defaults:
            raise NotFound(
                f"cycles have no field {field!r}",
                hint="they have " + (", ".join(self._defaults) or "none"),
                at="field",
            )
        default = self._defaults[name]
        if isinstance(default, bool) or not isinstance(default, int | float):
            raise BadPayload(f"{field} is no number", hint="only numbers can be summed", at="field")
        own = getattr(self._cls, "default_total", None)
        closed = own or (lambda first, last: default * (last - first))
        value: Any = self._people.total(lambda state: getattr(state, name), closed)
        assert isinstance(value, int | float)
        return value

    # -- jobs ---------------------------------------------------------------------------------

    @on
    async def spawn_cycle(
        self,
        target: Any,
        type: str = "",
        payload: dict[str, Any] | None = None,
    ) -> str:
        """Run a job in a daemon of its own; reply its name. At most `size` run at once.

        The job asks `target` a message and ends with its answer; in Python, `target` may be
        a function or a coroutine function instead. Errors: bad-payload.
        """
        if not (callable(target) or (isinstance(target, str) and target and type)):
            raise BadPayload(
                "a job is a target and a type", hint="whom to ask what?", at="payload.target"
            )
        self.named += 1
        job = f"{self.name[:40]}-{self.named}"
        if callable(target):
            self._jobs[job] = functools.partial(_call, target)
        else:
            payload = payload or {}
            self._jobs[job] = functools.partial(_ask, target, type, payload)
            self.jobs[job] = {"target": target, "type": type, "payload": payload}
        await self._begin_jobs()
        return job

    @on
    async def drop_cycle(self, job: str) -> str:
        """Let a job not begin, or end it now; reply which it was: "queued" or "running".

        Errors: not-found.
        """
        if self._jobs.pop(job, None) is not None:
            self.jobs.pop(job, None)
            return "queued"
        for address, name in self._running.items():
            if name == job:
                await self.system.kill(address)
                return "running"
        raise NotFound(f"no job {job!r} is queued or running", hint="`status` lists them", at="job")

    async def on_down(self, down: Down) -> None:
        """A job has ended: the next may begin."""
        if self._running.pop(down.address, None) is None:
            return
        if down.reason.is_normal:
            self._done += 1
        else:
            self._failed += 1
        await self._begin_jobs()

    async def _begin_jobs(self) -> None:
        while self._jobs and len(self._running) < self.size:
            job = next(iter(self._jobs))
            body = self._jobs.pop(job)
            self.jobs.pop(job, None)  # what has begun does not begin again

            async def main(daemon: Daemon, body: Any = body) -> None:
                await body(daemon)

            main.__signature__ = _ONE  # type: ignore[attr-defined]  # `body` is bound
            function: Any = main
            ref = await self.spawn(function, job, group=self.name, restart="temporary")
            self._running[str(ref.address)] = job
            self.system.monitor(ref)

    # -- what is saved -------------------------------------------------------------------------

    def _census(self) -> dict[str, Any]:
        """Return the population: of each cycle that is active, what is not as by default."""
        people = self._people
        fields = self._cls._d9_fields.state if self._cls is not None else {}
        wires = [(name, field.shape.wire, self._defaults[name]) for name, field in fields.items()]
        states: dict[str, dict[str, Any]] = {}
        for number, instance in people.active.items():
            states[str(number)] = own = {}
            for name, wire, default in wires:
                value = getattr(instance, name)
                if value != default:
                    own[name] = value if wire is None else wire(value)
        return {"count": people.count, "epoch": people.epoch, "states": states}

    def _wake_again(self, saved: dict[str, Any]) -> None:
        """Have the population that was saved.

        Raises:
            Corrupt: The cycle class has other fields now, or there is none.
        """
        if not saved:
            return
        if saved["count"] and self._cls is None:
            raise Corrupt("there are cycles, and no cycle class any more", hint="give cycle=")
        self._people.sync(saved["count"])
        self._people.epoch = saved["epoch"]
        for number, own in saved["states"].items():
            instance = self._people.wake(int(number), self._make)
            for name, value in own.items():
                try:
                    field = self._cls._d9_fields.state[name]  # type: ignore[union-attr]
                    setattr(instance, name, field.shape.take(value))
                except (KeyError, Misfit):
                    raise Corrupt(
                        f"cycle {number} of {self.address} was saved with {name}={value!r}",
                        hint="does cycle= name another class? `restore version=none` starts afresh",
                    ) from None
        self._woken_at_step = self._people.woken

    # -- the inside of cycles ---------------------------------------------------------------------

    def _settle_in(self, cls: type[Daemon]) -> None:
        """Have the addresses of cycles answer: a home whose names are made when asked for."""
        registry = self.system.registry
        key = f"cycle/{self.name}"
        if key in registry.homes and registry.homes[key].make is not None:
            raise AddressInUse(
                f"another pool's cycles have the addresses {SCHEME}{key}/…",
                hint="give the pool another name",
                address=self.address,
            )
        given = cls._d9_behaviour
        own = Behaviour(cls, "cycle")
        for verb in given.order:
            copy = self._copied(verb)
            own.order.append(copy)
            own.verbs[copy.type] = copy
            own.names[copy.name] = copy
        own.limit, own.policy, own.options = given.limit, given.policy, dict(given.options)
        own.fields = given.fields
        self._home = registry.home(own, "cycle", self.name)
        self._home.make = self._cell_for

    def _copied(self, verb: Verb) -> Verb:
        """Return a verb whose function lets the cycle rest afterwards."""
        function = verb.function
        assert function is not None

        def plain(instance: Any, *args: Any, **kwargs: Any) -> object:
            try:
                return function(instance, *args, **kwargs)
            except Refused:
                raise
            except Exception:
                self._people.active.pop(int(instance.name), None)
                raise
            finally:
                self._rest_soon(instance._d9_cell)

        async def later(instance: Any, *args: Any, **kwargs: Any) -> object:
            try:
                return await function(instance, *args, **kwargs)  # type: ignore[misc]
            except Refused:
                raise
            except Exception:
                self._people.active.pop(int(instance.name), None)
                raise
            finally:
                self._rest_soon(instance._d9_cell)

        copy = Verb(
            verb.type,
            verb.name,
            later if verb.is_async else plain,
            verb.is_async,
            verb.kind,
            verb.concurrent,
            verb.cancellable,
            verb.timeout_s,
            verb.index,
        )
        copy.source, copy.takes_timeout = verb.source, verb.takes_timeout
        return copy

    def _cell_for(self, name: str) -> Cell | None:
        """Return a cell for a cycle that is spoken to; None if there is no such cycle."""
        if not name.isdecimal() or str(int(name)) != name or int(name) >= self._people.count:
            return None
        cell = Cell(self._home, name)
        registry = self.system.registry
        registry.serial += 1
        cell.serial = registry.serial
        registry.count += 1
        cell.gate = 0
        cell.state = RUNNING
        cell.started_at = self.system.scheduler.time()
        cell.chill().unsupervised = True
        cell.instance = instance = self._people.wake(int(name), self._make)
        instance._d9_cell = cell
        self._home.names[name] = cell
        self._rest_soon(cell)
        return cell

    def _rest_soon(self, cell: Cell) -> None:
        self.system.scheduler.call_soon(self._rest, cell, None)

    def _rest(self, cell: Any) -> None:
        """Let a cycle's cell go if nothing is queued or in hand; its state, if it is default."""
        busy = cell.head is not None or cell.hand is not None
        if busy or (cell.cold is not None and cell.cold.hands):
            return
        if self._home.names.pop(cell.name, None) is None:
            return
        self.system.registry.count -= 1
        cell.gate |= CLOSED | HELD
        instance = cell.instance
        if instance is not None and "_d9_cell" not in getattr(instance, "__dict__", {}):
            del instance._d9_cell
        self._people.rest(int(cell.name))

    def _close(self, cell: Cell, reason: str) -> None:
        cell.gate |= CLOSED | HELD
        self.system.lifecycle._bury_queue(cell, reason)
        if self._home.names.pop(cell.name, None) is not None:
            self.system.registry.count -= 1

    def _make(self) -> Any:
        assert self._cls is not None
        instance = object.__new__(self._cls)
        if self._fresh:
            for name, value in self._cls._d9_fields.fresh().items():
                setattr(instance, name, value)
        return instance

    def _default_test(self) -> Callable[[Any], bool]:
        """Return whether a state is the default: asked for every active cycle at every step."""
        pairs = list(self._defaults.items())
        if len(pairs) == 1:
            name, default = pairs[0]
            value_of = operator.attrgetter(name)
            return lambda instance: bool(value_of(instance) == default)
        return lambda instance: all(getattr(instance, name) == value for name, value in pairs)

    def _verb(self, type_: str) -> Verb:
        if self._home is None:
            raise self._no_cycle(0)
        behaviour: Behaviour = self._home.behaviour
        verb = behaviour.verbs.get(type_) or behaviour.verbs.get(type_.replace("_", "-"))
        if verb is None or verb.kind != ORDINARY:
            any_cell = Cell(self._home, "0")
            verb = self.system.verb_of(any_cell, type_)
            raise BadPayload(f"{type_} is a message about a daemon", at="payload.type")
        self._verbs[type_] = verb
        return verb

    def _no_cycle(self, cycle: int) -> Dan9Error:
        return UnknownDaemon(
            f"there is no cycle {cycle}",
            hint=f"there are {self._people.count}; `sync-cycles` makes more",
            address=f"d9://cycle/{self.name}/{cycle}",
        )


def _take_in(pool: Pool, saved: dict[str, Any]) -> None:
    pool._saved = saved


# Read when it is saved: writing it down at every message would cost more than the message.
Pool.population = property(Pool._census, _take_in)  # type: ignore[assignment]


def _class_of(given: object) -> type[Daemon] | None:
    """Return the class of the cycles."""
    if isinstance(given, str):
        module, _, name = given.partition(":")
        try:
            given = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise BadConfig(f"{given!r}: {error}", hint="as module:Class", at="cycle") from None
    if given is None or (isinstance(given, type) and issubclass(given, Daemon)):
        return given
    raise BadConfig(f"cycle is {given!r}", hint="a Daemon class, or module:Class", at="cycle")


def _step_of(cls: type[Daemon] | None) -> tuple[Callable[[Any, int], object] | None, bool]:
    """Return how a cycle steps, and whether any number of steps is one call."""
    closed: Any = getattr(cls, "step", None)
    if closed is not None:
        return getattr(closed, "function", closed), True
    single: Any = getattr(cls, "tick", None)
    if single is not None:
        function = getattr(single, "function", single)
        return (lambda state, _: function(state)), False
    return None, True


_ONE = inspect.Signature([inspect.Parameter("daemon", inspect.Parameter.POSITIONAL_ONLY)])


async def _call(function: Callable[[], object], _: Daemon) -> None:
    """Run a job that is a function."""
    value = function()
    if inspect.isawaitable(value):
        await value


async def _ask(target: str, type_: str, payload: dict[str, Any], daemon: Daemon) -> None:
    """Run a job that is a message."""
    await daemon.ask(target, type_, payload=payload, timeout_s=None)
