"""A store that is memory, with a disk's manners: for tests and virtual time.

It answers as `SqliteStore` does (one suite of contracts runs over both), without a
thread: what is written in one turn of the loop is one group, committed and acknowledged
in the next. A test can take the power away, make the disk fail, and tear a row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from dan9.base.errors import Closed, Corrupt, Dan9Error, Refused
from dan9.base.ports import Alarm, Checkpoint, Done, Entry, Known, Seen, Version
from dan9.daemons.ledger_rows import check_entry, check_save, check_step, conflict

__all__ = ["MemoryStore"]


@dataclass(slots=True)
class _Receipt:
    versions: list[int] = field(default_factory=list)
    snapshot: int = 0


@dataclass(slots=True)
class _Medium:
    """What survives the loss of power."""

    states: dict[str, list[Checkpoint]] = field(default_factory=dict)
    floors: dict[str, int] = field(default_factory=dict)
    journal: dict[tuple[str, str], tuple[Entry, Known, bytes]] = field(default_factory=dict)
    snapshots: int = 0
    torn: set[tuple[str, int]] = field(default_factory=set)


_Step = Callable[[_Medium], None]
_Request = tuple[_Step, Done | None, str, int, tuple[str, str] | None]


class MemoryStore:
    """Store and Journal in memory.

    Args:
        post: Runs a callable in the next turn of the loop; default: the running loop's
            `call_soon`. With `lambda call: call()` everything is committed at once.
        on_alarm: As in `SqliteStore`.
        ids: How many handled ids are remembered for one daemon.
    """

    def __init__(
        self,
        *,
        post: Callable[[Callable[[], object]], object] | None = None,
        on_alarm: Callable[[Alarm], None] | None = None,
        ids: int = 100_000,
    ) -> None:
        self.on_alarm = on_alarm
        self.alarm = Alarm("ok", "")
        self.ids = ids
        self.error: Dan9Error | None = None
        """While this is set, every commit fails with it."""
        self.groups = 0
        self.requests = 0
        self._post = post or (lambda call: asyncio.get_running_loop().call_soon(call))
        self._medium = _Medium()
        self._queue: list[_Request] = []
        self._lives: dict[str, int] = {}
        self._fenced: dict[str, tuple[int, Dan9Error]] = {}
        self._closed = False

    # ---- what a test may do to it -------------------------------------------

    def lose_power(self) -> None:
        """Forget what was not committed; nobody is told. The store goes on as if opened anew."""
        self._queue.clear()
        self._fenced.clear()

    def tear(self, address: str, version: int) -> None:
        """Make a stored checkpoint unreadable."""
        self._medium.torn.add((address, version))

    # ---- Store ------------------------------------------------------------

    def save(
        self,
        checkpoints: Sequence[Checkpoint],
        done: Done | None = None,
        *,
        keep: int | Sequence[int] = 3,
        snapshot: bool = False,
    ) -> _Receipt:
        """See `Store.save`."""
        keeps = check_save(checkpoints, keep)
        receipt = _Receipt()

        def step(medium: _Medium) -> None:
            if snapshot:
                medium.snapshots += 1
                receipt.snapshot = medium.snapshots
            receipt.versions = [
                _save(medium, checkpoint, kept, receipt.snapshot)
                for checkpoint, kept in zip(checkpoints, keeps, strict=True)
            ]

        self._submit(step, done)
        return receipt

    def load(self, address: str, version: int | None = None) -> Checkpoint | None:
        """See `Store.load`."""
        self._open()
        rows = self._medium.states.get(address, [])
        if version is not None:
            rows = [row for row in rows if row.version == version]
        if not rows:
            return None
        if (address, rows[-1].version) in self._medium.torn:
            raise Corrupt(
                f"version {rows[-1].version} of {address} is not what was saved: torn by a test",
                hint="restore version=none starts afresh",
                address=address,
                at=f"version {rows[-1].version}",
            )
        return rows[-1]

    def versions(self, address: str | None = None) -> list[Version]:
        """See `Store.versions`."""
        self._open()
        names = sorted(self._medium.states) if address is None else [address]
        return [
            Version(name, row.version, row.schema, row.when, len(row.blob), row.snapshot)
            for name in names
            for row in self._medium.states.get(name, [])
        ]

    def delete(self, address: str, keep: int, done: Done | None = None) -> None:
        """See `Store.delete`."""

        def step(medium: _Medium) -> None:
            rows = medium.states.get(address, [])
            if rows:
                medium.floors[address] = rows[-1].version
            medium.states[address] = rows[len(rows) - keep :] if keep < len(rows) else rows
            if keep == 0:
                medium.states.pop(address)

        self._submit(step, done)

    def verify(self, address: str | None = None) -> list[Version]:
        """See `Store.verify`."""
        return [
            replace(version, fault="torn by a test")
            for version in self.versions(address)
            if (version.address, version.version) in self._medium.torn
        ]

    def compact(self, done: Done | None = None) -> None:
        """Do nothing, in order."""
        self._submit(lambda _: None, done)

    def close(self) -> None:
        """See `Store.close`."""
        if not self._closed:
            self._commit()
            self._closed = True

    # ---- Journal ----------------------------------------------------------

    def seen(self, address: str, message_id: str) -> Seen:
        """See `Journal.seen`."""
        self._open()
        if any(request[4] == (address, message_id) for request in self._queue):
            return Seen(Known.PENDING)
        found = self._medium.journal.get((address, message_id))
        if found is None:
            return Seen(Known.NEW)
        return Seen(found[1], found[2] if found[1] is Known.HANDLED else b"")

    def append(self, entry: Entry, done: Done | None = None) -> None:
        """See `Journal.append`."""
        check_entry(entry)
        key = (entry.address, entry.id)

        def step(medium: _Medium) -> None:
            if key in medium.journal:
                raise conflict(entry, medium.journal[key][1])
            medium.journal[key] = (entry, Known.PENDING, b"")

        self._submit(step, done, key=key)

    def handled(
        self,
        entry: Entry,
        checkpoint: Checkpoint | None,
        reply: bytes = b"",
        done: Done | None = None,
        *,
        keep: int = 3,
    ) -> None:
        """See `Journal.handled`."""
        check_step(entry, checkpoint)

        def step(medium: _Medium) -> None:
            _settle(medium, entry, Known.HANDLED, reply)
            if checkpoint is not None:
                _save(medium, checkpoint, keep, 0)
            self._forget(medium, entry.address)

        life = self._lives.get(entry.address, 0)
        self._submit(step, done, entry.address, life, key=(entry.address, entry.id))

    def bury(self, entry: Entry, reason: str, done: Done | None = None) -> None:
        """See `Journal.bury`."""
        body = reason.encode()
        self._submit(
            lambda medium: _settle(medium, entry, Known.DEAD, body),
            done,
            key=(entry.address, entry.id),
        )

    def redelivered(self, entry: Entry, done: Done | None = None) -> None:
        """See `Journal.redelivered`."""
        key = (entry.address, entry.id)

        def step(medium: _Medium) -> None:
            held, known, reply = medium.journal.get(key, (entry, Known.NEW, b""))
            if known is Known.PENDING:
                more = replace(held, deliveries=held.deliveries + 1)
                medium.journal[key] = (more, known, reply)

        self._submit(step, done)

    def pending(self, address: str) -> list[Entry]:
        """See `Journal.pending`."""
        self._open()
        self._lives[address] = self._lives.get(address, 0) + 1
        return [
            entry
            for (owner, _), (entry, known, _) in self._medium.journal.items()
            if owner == address and known is Known.PENDING
        ]

    # ---- within -----------------------------------------------------------

    def _open(self) -> None:
        if self._closed:
            raise Closed("the store is closed", hint="the node is stopping")

    def _submit(
        self,
        step: _Step,
        done: Done | None,
        address: str = "",
        life: int = -1,
        key: tuple[str, str] | None = None,
    ) -> None:
        if self._closed:
            error = Closed("the store is closed", hint="the node is stopping")
            if done is not None:
                call = done
                self._post(lambda: call(error))
            return
        self._queue.append((step, done, address, life, key))
        if len(self._queue) == 1:
            self._post(self._commit)

    def _commit(self) -> None:
        group, self._queue = self._queue, []
        if not group:
            return
        outcomes: list[Dan9Error | None] = []
        for step, _, address, life, _ in group:
            outcome: Dan9Error | None = self.error
            fenced = self._fenced.get(address)
            if outcome is None and fenced is not None and life <= fenced[0]:
                outcome = fenced[1]
            if outcome is None:
                try:
                    step(self._medium)
                except Refused as refusal:
                    outcome = refusal
            if outcome is not None and life >= 0:
                self._fenced[address] = (life, outcome)
            outcomes.append(outcome)
        self._tell_alarm(len(group))
        if self.error is None:
            self.groups += 1
            self.requests += len(group)
        trouble: Exception | None = None
        for (_, done, _, _, _), outcome in zip(group, outcomes, strict=True):
            if done is not None:
                try:
                    done(outcome)
                except Exception as error:  # a caller's bug does not rob the others
                    trouble = trouble or error
        if trouble is not None:
            raise trouble

    def _tell_alarm(self, failed: int) -> None:
        state = "ok" if self.error is None else "degraded"
        changed = state != self.alarm.state
        if state == "ok":
            alarm = Alarm("ok", "the disk takes writes again" if changed else "")
        else:
            text = f"nothing is being saved: {self.error}"
            alarm = Alarm(state, text, self.alarm.failed + failed)
        self.alarm = alarm
        if changed and self.on_alarm is not None:
            self.on_alarm(alarm)

    def _forget(self, medium: _Medium, address: str) -> None:
        handled = (
            [
                key
                for key, held in medium.journal.items()
                if key[0] == address and held[1] is Known.HANDLED
            ]
            if len(medium.journal) > self.ids
            else []
        )
        for key in handled[: max(0, len(handled) - self.ids)]:
            del medium.journal[key]


def _save(medium: _Medium, checkpoint: Checkpoint, keep: int, snapshot: int) -> int:
    rows = medium.states.setdefault(checkpoint.address, [])
    latest = rows[-1].version if rows else medium.floors.get(checkpoint.address, 0)
    number = snapshot or checkpoint.snapshot
    rows.append(checkpoint._replace(version=latest + 1, snapshot=number))
    del rows[: max(0, len(rows) - max(keep, 1))]
    return latest + 1


def _settle(medium: _Medium, entry: Entry, known: Known, body: bytes) -> None:
    key = (entry.address, entry.id)
    held = medium.journal.get(key)
    if held is not None and held[1] is not Known.PENDING:
        raise conflict(entry, held[1])
    medium.journal[key] = (held[0] if held else entry, known, body)
