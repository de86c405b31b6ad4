"""The record of one daemon, as small as its promises allow.

A daemon that waits has no task, no thread and no queue object: it is a `Cell` of
some 150 bytes, its instance, and an entry in the registry. What most daemons never
need (monitors, children, limits of their own) lives in a `Cold` record made on first use.
What daemons of one type and group share lives in their `Home`.

The gate says why a message may not simply be queued or handled; zero is the fast path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from mypy_extensions import i32, i64, mypyc_attr

if TYPE_CHECKING:
    from collections.abc import Callable

    from dan9.base.histogram import Histogram
    from dan9.kernel.hand import Hand
    from dan9.kernel.message import Message, Verb
    from dan9.kernel.scheduler import Scheduler
    from dan9.kernel.timers import Timer

__all__ = [
    "CREATED",
    "DROP_NEWEST",
    "DROP_OLDEST",
    "FAILED",
    "REFUSE",
    "RUNNING",
    "STARTING",
    "STATE_NAMES",
    "STOPPED",
    "STOPPING",
    "SUSPENDED",
    "WAIT",
    "Behaviour",
    "Cell",
    "Cold",
    "Home",
    "Runnable",
]

# States of a daemon.
CREATED: Final = 0
STARTING: Final = 1
RUNNING: Final = 2
SUSPENDED: Final = 3
STOPPING: Final = 4
STOPPED: Final = 5
FAILED: Final = 6
STATE_NAMES: Final = (
    "created",
    "starting",
    "running",
    "suspended",
    "stopping",
    "stopped",
    "failed",
)

# Bits of Cell.gate. The first group stops a message from being queued plainly ...
CLOSED: Final = 1  # no incarnation takes messages: dead letter
WATCHED: Final = 2  # counted and shown to hooks (test worlds, taps)
GUARDED: Final = 4  # `allow` rules restrict its callers
ENTRY: Final = CLOSED | WATCHED | GUARDED
# ... the second stops queued ones from being handled.
BUSY: Final = 16  # a handler that is not concurrent is in hand
HELD: Final = 32  # starting, suspended, stopping without drain
OWN_LOOP: Final = 64  # main() takes the messages itself
QUEUED: Final = 128  # in the run queue already
PAUSED: Final = 256  # the next message waits for the journal
# ... and one asks for a look whenever a message is taken.
CROWDED: Final = 512  # full, and not yet half empty again
# What outlives an incarnation.
KEPT: Final = WATCHED | GUARDED | QUEUED | CROWDED
NOT_RUNNABLE: Final = BUSY | HELD | OWN_LOOP | QUEUED | PAUSED
BLOCKED: Final = BUSY | HELD | OWN_LOOP | PAUSED
UNUSUAL: Final = ENTRY | CROWDED | OWN_LOOP  # a message to such a cell is not simply appended
OBSERVED: Final = WATCHED | CROWDED  # somebody looks when a message is taken

# Mailbox policies.
WAIT: Final = 0
REFUSE: Final = 1
DROP_OLDEST: Final = 2
DROP_NEWEST: Final = 3
POLICIES: Final = ("wait", "refuse", "drop-oldest", "drop-newest")


@mypyc_attr(allow_interpreted_subclasses=True)
class Runnable:
    """What the run queue holds: cells with messages, and hands to be resumed."""

    __slots__ = ("run_next",)

    def __init__(self) -> None:
        self.run_next: Runnable | None = None


@final
class Behaviour:
    """What one Daemon class can be told: its table of verbs, shared by all instances.

    Attributes:
        cls: The Daemon class.
        verbs: Message type (kebab-case) to verb.
        names: Python name to verb, for refs.
        plain_start: True when starting needs no code of the user's: no `on_start`, no
            `main`, no `@every`, so that spawning is a mere allocation.
    """

    def __init__(self, cls: type, type_name: str) -> None:
        self.cls = cls
        self.type_name = type_name
        self.verbs: dict[str, Verb] = {}
        self.names: dict[str, Verb] = {}
        self.order: list[Verb] = []
        self.plain_start = True
        self.is_quick = False  # spawning is a mere allocation
        self.last_home: Home | None = None
        self.has_main = False
        self.limit: i32 = 10_000
        self.policy: int = WAIT
        self.make: Callable[..., object] = cls
        self.fields: object = None
        self.every: list[tuple[float, Verb]] = []
        self.crons: list[tuple[str, str, Verb]] = []
        self.has_init = False
        self.has_mutable = False
        self.has_state = False
        self.has_on_stop = False
        self.durable = False
        self.shutdown_s: float = 5.0
        self.options: dict[str, object] = {}


@final
class Home:
    """What all daemons of one type and group in one system share."""

    def __init__(
        self, scheduler: Scheduler, behaviour: Behaviour, type_name: str, group: str
    ) -> None:
        self.scheduler = scheduler
        self.behaviour = behaviour
        self.type_name = type_name
        self.group = group
        self.prefix = f"d9://{type_name}/{group}/"
        self.names: dict[str, Cell] = {}
        self.make: Callable[[str], Cell | None] | None = None  # makes who is asked for, if it can

    def find(self, name: str) -> Cell | None:
        """Return who has a name, made if need be; None if there is nobody."""
        cell = self.names.get(name)
        if cell is None and self.make is not None:
            cell = self.make(name)
        return cell


@final
class Cold:
    """The seldom needed half of a cell."""

    def __init__(self) -> None:
        self.policy: int = -1
        self.high_water: int = 0
        self.received: int = 0  # counted in watched cells only
        self.dead: int = 0
        self.refused: int = 0
        self.failed: int = 0
        self.restarts: int = 0
        self.own_metrics: dict[str, float] = {}
        self.own_kinds: dict[str, str] | None = None  # what each of them is; see metrics.py
        self.own_histograms: dict[str, Histogram] | None = None
        self.busy_s: float = 0.0
        self.samples: Histogram | None = None  # handler times, of a sample
        self.config: dict[str, object] | None = None
        self.spec: object = None  # a ChildSpec that differs from the default
        self.parent: Cell | None = None
        self.supervision: object = None
        self.children: dict[str, Cell] | None = None
        self.monitors: dict[int, Cell] | None = None  # watchers of this daemon
        self.watching: dict[int, Cell] | None = None
        self.links: list[Cell] | None = None
        self.allow: object = None
        self.allowed: dict[str, object] | None = None
        self.hands: list[Hand] | None = None  # handlers in hand, concurrent ones included
        self.running: dict[str, int] | None = None  # concurrent handlers in hand, by type
        self.backlog: dict[str, list[Message]] | None = None  # over their concurrency
        self.set_aside: int = 0  # messages in the backlog
        self.room: list[Message] | None = None  # senders waiting for room
        self.inbox_waiter: object = None
        self.taken: Message | None = None  # what the own loop has in hand
        self.timers: list[Timer] | None = None
        self.on_end: list[Callable[[object], None]] | None = None
        self.last_error: str = ""
        self.stopping: object = None
        self.clock: object = None
        self.drives: Any = None  # the clocks of subtrees that go as it says
        self.streak: object = None  # restarts in a row
        self.pending: Timer | None = None  # the timer of a restart that is due
        self.saved_at_handled: int = -1
        self.dirty_watch = False
        self.dirty_said = False
        self.last_blob: bytes = b""
        self.ids_in_hand: dict[str, list[Message]] | None = None  # durable: id to its repeats
        self.commanded = False  # the end in progress was asked for: no restart
        self.unsupervised = False
        self.keep = False  # keep the spec even if the first start fails
        self.durable = False
        self.tag: object = None


@final
class Cell(Runnable):
    """One daemon: who it is, what waits for it, what it is doing."""

    __slots__ = (
        "cold",
        "counts",
        "depth",
        "gate",
        "hand",
        "handled",
        "head",
        "home",
        "instance",
        "limit",
        "name",
        "run_from",
        "run_verb",
        "serial",
        "started_at",
        "state",
        "tail",
    )

    def __init__(self, home: Home, name: str) -> None:
        self.run_next = None
        self.home = home
        self.name = name
        self.gate: i32 = CLOSED | HELD
        self.state: i32 = CREATED
        self.head: Message | None = None
        self.tail: Message | None = None
        self.depth: i32 = 0
        self.limit: i32 = home.behaviour.limit  # how many ordinary messages may be queued
        self.instance: object = None
        self.hand: Hand | None = None  # the handler that blocks it
        self.handled: i64 = 0
        # Counts by type, as runs: since `run_from` all handled were of `run_verb`; what was
        # before is in `counts`, by verb index, once there was a second type.
        self.run_verb: Verb | None = None
        self.run_from: i64 = 0
        self.counts: list[int] | None = None
        self.serial: i64 = 0
        self.started_at: float = -1.0  # when it last became ready; below 0: never
        self.cold: Cold | None = None

    @property
    def address(self) -> str:
        """The daemon's address, composed."""
        return self.home.prefix + self.name

    def chill(self) -> Cold:
        """Return the cold record, made if need be."""
        cold = self.cold
        if cold is None:
            cold = self.cold = Cold()
        return cold

    @property
    def waits(self) -> object:
        """The ask, gather or parking that its blocking handler awaits; None if none does."""
        hand = self.hand
        return None if hand is None else hand.waits

    @property
    def policy(self) -> int:
        """What happens to one more."""
        cold = self.cold
        if cold is not None and cold.policy >= 0:
            return cold.policy
        return self.home.behaviour.policy

    def __repr__(self) -> str:
        return f"<cell {self.address} {STATE_NAMES[self.state]}>"
