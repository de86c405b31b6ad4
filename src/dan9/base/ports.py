"""What the kernel needs from the world, as Protocols: clock, store, journal, transport.

The kernel imports nothing but this; boot injects what implements it. Two things
hold for every port that reaches a disk:

- **Writing never blocks and never lies.** A write returns at once; its `done` is
  called later, once, on the loop, with an error or None. None means that the
  medium has it: it survives the loss of power. Order of calls is order of commits.
- **Reading is plain.** A read is a look-up of some 10-20 µs in the page cache and
  returns its value, so that a daemon can be restored without becoming async. It
  sees what was committed, nothing less and nothing more.

A callback rather than a future, because the kernel turns thousands of
acknowledgements a turn into mailbox entries, and a future each costs ten times as
much as the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

__all__ = [
    "DEFAULT_POLICY",
    "Alarm",
    "Checkpoint",
    "Clock",
    "Done",
    "Entry",
    "Journal",
    "Known",
    "Receipt",
    "Seen",
    "StatePolicy",
    "Store",
    "Transport",
    "Version",
]

Done: TypeAlias = Callable[[Exception | None], None]
"""Called once, on the loop: None means durable, an error means not acknowledged."""


class Checkpoint(NamedTuple):
    """The encoded state of one daemon at one moment.

    A named tuple, because restoring a node makes 100,000 of them and a frozen dataclass takes
    1 µs more each.

    Attributes:
        address: Whose state it is.
        schema: The id of the shape of the state, as its class gives it; the store
            keeps it and compares nothing.
        blob: The encoded state.
        when: Wall time of the capture, UTC seconds since 1970.
        codec: How `blob` and `metrics` are encoded.
        metrics: The daemon's own metrics, encoded; empty if it has none.
        version: 1, 2, 3 … per address. Given by the store; 0 in what is to be saved.
        snapshot: The checkpoint-all that this belongs to; 0 for a single one.
    """

    address: str
    schema: str
    blob: bytes
    when: float
    codec: str = "msgpack"
    metrics: bytes = b""
    version: int = 0
    snapshot: int = 0


@dataclass(frozen=True, slots=True)
class Version:
    """One stored checkpoint, without its state.

    Attributes:
        address: Whose state it is.
        version: Its number.
        schema: The id of the shape of the state.
        when: Wall time of the capture.
        size_bytes: Length of the encoded state.
        snapshot: The checkpoint-all it belongs to; 0 for a single one.
        fault: What is wrong with the row; empty if it is intact or was not checked.
    """

    address: str
    version: int
    schema: str
    when: float
    size_bytes: int
    snapshot: int = 0
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A change in what the store can do.

    Attributes:
        state: `ok`, `degraded` (writes fail, and may succeed again) or `read-only`.
        text: What happened and what it means for what is saved, in one line.
        failed: Writes refused since the trouble began.
    """

    state: str
    text: str
    failed: int = 0


@dataclass(frozen=True, slots=True)
class StatePolicy:
    """When the state of a daemon is saved.

    Attributes:
        interval: Seconds between checkpoints of a daemon that handled a message
            since the last one; None: never by time.
        on_stop: Save when it stops in good order.
        on_change: Save after a message that changed the state, coalesced.
        keep: How many versions are kept. 0: nothing is saved and nothing restored.
    """

    interval: float | None = 300.0
    on_stop: bool = True
    on_change: bool = False
    keep: int = 3


DEFAULT_POLICY = StatePolicy()


class Receipt(Protocol):
    """What a save became; complete when its `done` is called with None."""

    versions: list[int]
    """The version given to each checkpoint, in the order they were handed in."""
    snapshot: int
    """The number of the checkpoint-all; 0 for a single save."""


class Store(Protocol):
    """Keeps the last `keep` checkpoints of every address."""

    def save(
        self,
        checkpoints: Sequence[Checkpoint],
        done: Done | None = None,
        *,
        keep: int | Sequence[int] = 3,
        snapshot: bool = False,
    ) -> Receipt:
        """Commit all of these, or none, in one transaction.

        Never blocks; callable from any thread. `version` is given by the store.

        Args:
            checkpoints: What is to be saved.
            done: Called when the medium has it, or has not.
            keep: How many versions of each address stay; one number for all, or one each.
            snapshot: This is a checkpoint-all: it gets a number.

        Errors in `done`: NoSpace, ReadOnly, DiskFailed (a Refused), Closed.
        """

    def load(self, address: str, version: int | None = None) -> Checkpoint | None:
        """Return a committed checkpoint (None: the latest), or None if there is none.

        Raises:
            Corrupt: The row is torn, altered or belongs to another address. An older
                version is never put in its place; the hint names the intact ones.
        """

    def versions(self, address: str | None = None) -> list[Version]:
        """Return what is stored of one address, or of all, oldest first."""

    def delete(self, address: str, keep: int, done: Done | None = None) -> None:
        """Forget all but the newest `keep` versions; 0 forgets the address's state."""

    def verify(self, address: str | None = None) -> list[Version]:
        """Read every row and return those whose `fault` says something. Blocks: use a thread."""

    def close(self) -> None:
        """Commit what was accepted, then close. Blocks until then; a second call does nothing."""


class Known(Enum):
    """What the journal knows of a message id."""

    NEW = "new"
    """Never seen, or forgotten."""
    PENDING = "pending"
    """Accepted, its effects not yet committed."""
    HANDLED = "handled"
    """Its effects are committed; the reply is kept."""
    DEAD = "dead"
    """Given up (poison, expired, discarded)."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of an id; `reply` holds the encoded answer of a handled one."""

    known: Known
    reply: bytes = b""


@dataclass(frozen=True, slots=True)
class Entry:
    """A message to a durable daemon, as the journal keeps it.

    Attributes:
        address: The receiver.
        id: The message id; (address, id) is unique.
        type: The message type.
        payload: The encoded payload; whatever else the kernel wants back goes in here too.
        when: Wall time at which it was accepted.
        sender: Who sent it.
        deliveries: How often it was given to the handler, the coming time included;
            the journal counts, 1 in what is appended.
    """

    address: str
    id: str
    type: str
    payload: bytes
    when: float
    sender: str = ""
    deliveries: int = 1


class Journal(Protocol):
    """Makes the effects of a message on a state happen exactly once per message id.

    The life of an entry: `append` (a `send`: acknowledged when done) → the handler →
    `handled` (new state, reply and id in one transaction; the reply is sent when done).
    An ask needs no `append`: its acknowledgement is its reply, so that one commit is
    all it costs. Ids are remembered for 24 h or 100,000 a daemon.

    After a failed commit an address is fenced: every `handled` of it fails with the same
    error until `pending` is called, because what is in memory may hold effects that
    were refused. The kernel treats a failed `handled` as a crash of the daemon.
    """

    def seen(self, address: str, message_id: str) -> Seen:
        """Return what is known of the id, those on their way to the disk included.

        An id whose `handled` is not yet committed is PENDING.
        """

    def append(self, entry: Entry, done: Done | None = None) -> None:
        """Accept a message. Call `seen` first: a known id is a Conflict in `done`."""

    def handled(
        self,
        entry: Entry,
        checkpoint: Checkpoint | None,
        reply: bytes = b"",
        done: Done | None = None,
        *,
        keep: int = 3,
    ) -> None:
        """Commit the new state (None: unchanged), the id and the reply in one transaction.

        The entry may be one that was never appended. An id handled before is a Conflict.
        """

    def bury(self, entry: Entry, reason: str, done: Done | None = None) -> None:
        """Give the message up (`poison`, `expired` …): it is not delivered again."""

    def redelivered(self, entry: Entry, done: Done | None = None) -> None:
        """Count one more delivery. Wait for `done` before the handler sees it again."""

    def pending(self, address: str) -> list[Entry]:
        """Return what was appended and neither handled nor buried, in order of acceptance.

        `deliveries` is the number of times it was already begun.
        """


@runtime_checkable
class Clock(Protocol):
    """Time, wall and monotonic. Only the kernel's clocks implement it."""

    def now(self) -> float:
        """Return UTC seconds since 1970."""

    def monotonic(self) -> float:
        """Return seconds that never jump, for intervals."""


class Transport(Protocol):
    """Carries frames between nodes."""

    def send(self, node: str, frame: bytes) -> None:
        """Hand a frame over for a node; never blocks, at most once, in order per node.

        Raises:
            Unreachable: No way to the node is known.
        """

    def listen(self, on_frame: Callable[[str, bytes], None]) -> None:
        """Name the function that gets (node, frame) for everything that arrives."""

    def close(self) -> None:
        """Stop sending and receiving."""
