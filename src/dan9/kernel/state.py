"""What of a daemon outlives it: checkpoints, and the journal of durable ones.

The kernel encodes and decodes; a `Store` and a `Journal` (base/ports.py) keep. Saving
never blocks and never lies: a checkpoint is acknowledged when the store says that the
medium has it. Restoring is plain: a daemon is revived before its `on_start`, and one
whose state cannot be loaded fails rather than start empty.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dan9.base.errors import (
    Conflict,
    Dan9Error,
    NotFound,
    NotSupported,
    from_form,
    to_form,
)
from dan9.base.events import SaveFailed, StateRestored
from dan9.base.ports import DEFAULT_POLICY, Checkpoint, Entry, Known, StatePolicy
from dan9.kernel import mailbox, metrics
from dan9.kernel.cell import BUSY, HELD, PAUSED, SUSPENDED, Cell
from dan9.kernel.message import ANSWERED, KEYWORDS, PENDING, PRIORITY, Ask, Message, Verb
from dan9.kernel.parking import Parking

if TYPE_CHECKING:
    from dan9.base.fields import Fields
    from dan9.base.ports import Store
    from dan9.kernel.kernel import System

__all__ = ["State"]

MAX_DELIVERIES = 3
_NEVER = StatePolicy(interval=None, on_stop=False, on_change=False, keep=0)


class State:
    """Checkpoints and the journal, for all daemons of one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self.policy: Callable[[str, object], StatePolicy] | None = None
        """Says when a state is saved, by the address and its class's keyword `checkpoint`."""
        self.on_dirty: Callable[[str], None] | None = None
        self.unloadable: set[Cell] = set()  # their saved state could not be loaded
        self._chosen: dict[Cell, int | str] = {}  # the version to begin with, if not the latest
        self._is_named = False

    # -- policy ------------------------------------------------------------------------------

    def policy_of(self, cell: Cell) -> StatePolicy:
        """Return when this daemon's state is saved."""
        if self.system.store is None:
            return _NEVER
        if self.policy is not None:
            return self.policy(cell.address, cell.home.behaviour.options.get("checkpoint"))
        return DEFAULT_POLICY

    @staticmethod
    def is_kept(cell: Cell) -> bool:
        """True if there is something to save: state, or metrics of the daemon's own."""
        if cell.home.behaviour.has_state:
            return True
        cold = cell.cold
        return cold is not None and bool(cold.own_metrics or cold.own_histograms)

    def is_dirty(self, cell: Cell) -> bool:
        """True if the daemon has handled a message since its state was last captured."""
        cold = cell.cold
        base = cold.saved_at_handled if cold is not None else 0
        return cell.handled > max(base, 0)

    def _store(self, cell: Cell, done: str) -> Store:
        store = self.system.store
        if store is None:
            raise NotSupported(
                f"{cell.address} cannot be {done}: this system has no store",
                hint="start it with the persistence daemon and a state directory",
                address=cell.address,
            )
        return store

    # -- saving ------------------------------------------------------------------------------

    def encode(self, cell: Cell) -> Checkpoint | None:
        """Return the state as it is now, to be saved; None if the daemon has nothing to save."""
        if cell.instance is None or not self.is_kept(cell):
            return None
        fields: Fields = cell.home.behaviour.fields  # type: ignore[assignment]
        cold = cell.chill()
        blob = fields.snapshot(cell.instance)
        # The message that asks for the checkpoint is counted after it: it changes nothing.
        current = self.system.scheduler.current
        asks = current is not None and current.cell is cell and current.verb.kind == PRIORITY
        cold.saved_at_handled = int(cell.handled) + asks
        cold.dirty_said = False
        cold.last_blob = b""  # the newest that is stored is no longer what the journal last wrote
        return Checkpoint(
            cell.address,
            fields.schema_id,
            blob,
            self.system.clock.now(),
            metrics=metrics.pack(cold),
        )

    def capture(
        self, cell: Cell, then: Callable[[Checkpoint | None, Exception | None], None]
    ) -> None:
        """Encode between two messages: now if nothing is in hand, else in the mailbox's order.

        `then` is called once: with None if the daemon has nothing to save, or ends first.
        """
        blocked = BUSY | PAUSED if cell.state == SUSPENDED else BUSY | PAUSED | HELD
        if cell.instance is None or not self.is_kept(cell):
            then(None, None)
        elif cell.gate & blocked:
            message = Message(cell, _CAPTURE, KEYWORDS, {"then": then, "state": self})
            scheduler = cell.home.scheduler
            scheduler.stamp(message)
            scheduler.enqueue(message)
        else:
            self.capture_now(cell, then)

    def capture_now(
        self, cell: Cell, then: Callable[[Checkpoint | None, Exception | None], None]
    ) -> None:
        """Encode and hand over."""
        try:
            checkpoint = self.encode(cell)
        except Dan9Error as error:
            then(None, error)
            return
        then(checkpoint, None)

    @staticmethod
    def lost(message: Message) -> bool:
        """See what became a dead letter: True if it was a capture, which is nobody's message."""
        if message.verb is not _CAPTURE:
            return False
        then: Any = message.arguments()[1]["then"]
        then(None, None)
        return True

    async def save(self, cell: Cell) -> dict[str, Any]:
        """Commit the state; returns when the store has it."""
        store = self._store(cell, "saved")
        checkpoint = await self._captured(cell)
        if checkpoint is None:
            raise NotSupported(
                f"{cell.address} has no state to save",
                hint="annotated public fields of the class are its state",
                address=cell.address,
            )
        parking = Parking(cell.home.scheduler)
        keep = max(1, self.policy_of(cell).keep)
        store.save(
            [checkpoint],
            lambda error: parking.fail(error) if error else parking.release(),
            keep=keep,
        )
        try:
            await parking
        except Exception:
            cell.chill().saved_at_handled = -1
            raise
        versions = store.versions(cell.address)
        version = versions[-1].version if versions else 0
        return _about(checkpoint._replace(version=version))

    async def _captured(self, cell: Cell) -> Checkpoint | None:
        """Return the state between two messages; within one of its own: as it is now."""
        scheduler = cell.home.scheduler
        if scheduler.current_cell is cell:
            return self.encode(cell)
        parking = Parking(scheduler)
        self.capture(
            cell, lambda point, error: parking.fail(error) if error else parking.release(point)
        )
        return await parking  # type: ignore[return-value]

    async def save_at_end(self, cell: Cell, limit_s: float) -> None:
        """Save the state of a daemon that stopped in good order, if its policy says so."""
        store = self.system.store
        if store is None or not self.is_kept(cell) or not self.is_dirty(cell):
            return
        policy = self.policy_of(cell)
        if not policy.on_stop or policy.keep < 1:
            return
        try:
            checkpoint = self.encode(cell)
        except Dan9Error as error:
            self.failed(cell, error)
            return
        if checkpoint is None:
            return
        parking = Parking(cell.home.scheduler)

        def done(error: Exception | None) -> None:
            if error is not None:
                self.failed(cell, error)
            parking.release(True)

        store.save([checkpoint], done, keep=policy.keep)
        if not await self.system.lifecycle._within(parking, max(limit_s, 1.0)):
            self.system.warn(cell, "its last state was not saved in time")

    def failed(self, cell: Cell, error: Exception) -> None:
        """Say that a state was not saved."""
        self.system.emit(SaveFailed(self.system.clock.now(), cell.address, str(error)))
        self.system.warn(cell, f"its state could not be saved: {error}")

    # -- restoring ------------------------------------------------------------------------------

    def revive(self, cell: Cell) -> None:
        """Give a new incarnation its saved state, if there is one; watch it if need be.

        Metrics that it still has from the last incarnation are newer than the saved ones.

        Raises:
            Corrupt: There is one, and it cannot be loaded.
        """
        store = self.system.store
        if store is None:
            return
        policy = self.policy_of(cell)
        if policy.on_change and policy.keep:
            self.watch_dirty(cell, wanted=True)
        version = self._chosen.pop(cell, "latest")
        if version == "none" or policy.keep < 1:
            return
        try:
            checkpoint = store.load(cell.address, None if version == "latest" else int(version))
            if checkpoint is not None:
                cold = cell.cold
                is_newer = cold is not None and version == "latest" and bool(cold.own_kinds)
                self.fill(cell, checkpoint, with_metrics=not is_newer)
        except Exception:
            self.unloadable.add(cell)
            cell.instance = None  # it never began: it has no `on_stop` to run
            raise

    def choose(self, cell: Cell, version: int | str) -> dict[str, Any]:
        """Choose what the next incarnation of a daemon that does not run begins with."""
        found = self.nothing() if version == "none" else _about(self.find(cell, version))
        self._chosen[cell] = version
        return found

    def fill(self, cell: Cell, checkpoint: Checkpoint, *, with_metrics: bool = True) -> None:
        """Set the fields, and the metrics of the daemon's own, from a checkpoint."""
        fields: Fields = cell.home.behaviour.fields  # type: ignore[assignment]
        instance: Any = cell.instance
        migrate = getattr(instance, "migrate", None)
        values = fields.restore(checkpoint.blob, migrate)
        for name, value in values.items():
            setattr(instance, name, value)
        if checkpoint.metrics and with_metrics:
            metrics.unpack(cell, checkpoint.metrics)
        if cell.handled:  # else it is clean without saying so, and needs no cold record
            cell.chill().saved_at_handled = int(cell.handled)
        if self.system.wants(StateRestored):
            now = self.system.clock.now()
            self.system.emit(StateRestored(now, cell.address, checkpoint.version))

    async def load(self, cell: Cell, version: int | str) -> dict[str, Any]:
        """Load a version into the running incarnation; called in the daemon's own message."""
        if version == "none":
            await self.start_afresh(cell)
            return self.nothing()
        checkpoint = self.find(cell, version)
        self.fill(cell, checkpoint)
        return _about(checkpoint)

    def nothing(self) -> dict[str, Any]:
        """Return what `restore version=none` replies."""
        return {"version": 0, "bytes": 0, "when": self.system.clock.now()}

    async def start_afresh(self, cell: Cell) -> None:
        """Give the running incarnation the state it would begin with, and save that at once.

        Otherwise the state that one wanted to be rid of would be back after a crash. If it
        cannot be saved, the state stays as it was.
        """
        instance: Any = cell.instance
        fresh: Any = self.system.lifecycle.make(cell)
        names = cell.home.behaviour.fields.state  # type: ignore[attr-defined]
        before = {name: getattr(instance, name) for name in names}
        for name in names:
            setattr(instance, name, getattr(fresh, name))
        try:
            await self.save_afresh(cell)
        except BaseException:
            for name, value in before.items():
                setattr(instance, name, value)
            raise

    async def save_afresh(self, cell: Cell) -> None:
        """Save the state of a daemon that was told to start afresh, if it is one to be saved."""
        if cell.home.behaviour.has_state and self.policy_of(cell).keep:
            await self.save(cell)

    def find(self, cell: Cell, version: int | str) -> Checkpoint:
        """Return a stored version.

        Raises:
            NotFound: There is none of this number, or none at all.
            Corrupt: It is torn.
            NotSupported: The system has no store.
        """
        store = self._store(cell, "restored")
        wanted = None if version == "latest" else int(version)
        checkpoint = store.load(cell.address, wanted)
        if checkpoint is None:
            which = "no version" if wanted is None else f"no version {wanted}"
            raise NotFound(
                f"{which} of {cell.address} is stored",
                hint=f"`dan9 send persistence list daemon-name={cell.name}` lists what is",
                address=cell.address,
            )
        return checkpoint

    # -- change ------------------------------------------------------------------------------------

    def watch_dirty(self, cell: Cell, *, wanted: bool) -> None:
        """Call `on_dirty` when this daemon goes from clean to dirty, if it has state."""
        wanted = wanted and cell.home.behaviour.has_state
        if wanted or cell.cold is not None:
            cell.chill().dirty_watch = wanted
            self.system.reconsider_watch(cell)

    def handled(self, cell: Cell) -> None:
        """Hear of a handled message of a watched daemon."""
        cold = cell.chill()
        if cold.dirty_watch and self.on_dirty is not None and not cold.dirty_said:
            cold.dirty_said = True
            self.on_dirty(cell.address)

    # -- durable daemons ---------------------------------------------------------------------------

    def accept(self, cell: Cell, message: Message) -> bool:
        """See a message to a durable daemon before it is queued; False: it was answered.

        An id that was handled before is answered from the journal; one that is in hand
        is answered with the first of its id; a `send` is appended, and acknowledged
        when the journal has it.
        """
        journal = self.system.journal
        if journal is None or message.verb.kind == PRIORITY or message.journalled:
            return True
        if message.room_of is None and not isinstance(message, Ask):
            return True  # a tell: at most once, as ever
        if not self._is_named:
            self._name_run()
        in_hand = self._in_hand(cell)
        same = in_hand.get(message.id)
        if same is not None and not self._is_given_up(cell, same[0]):
            same.append(message)
            return False
        # The journal has no id that this life draws; lives in virtual time may share theirs.
        if message.own_id is not None or self.system.scheduler.one_thread:
            seen = journal.seen(cell.address, message.id)
            if seen.known is Known.PENDING:  # to be delivered again, or being committed
                in_hand.setdefault(message.id, []).append(message)
                return False
            if seen.known is Known.HANDLED:
                self._answer(message, seen.reply)
                return False
            if seen.known is not Known.NEW:
                self._refuse(
                    message, Conflict(f"message {message.id} was given up", hint="use a new id")
                )
                return False
        in_hand[message.id] = [message]
        message.journalled = True
        ticket = message.room_of
        if ticket is not None:
            journal.append(
                self.entry_of(message), lambda error: self._appended(message, ticket, error)
            )
        return True

    def _name_run(self) -> None:
        """Tell the ids of this life from those of an earlier one with the same seed.

        A journal remembers ids; one that came again would get an old reply. A world in
        virtual time stays a function of its seed and of what its store holds.
        """
        self._is_named = True
        scheduler = self.system.scheduler
        if not scheduler.one_thread:
            scheduler.run_id += os.urandom(4).hex()
        elif self.system.store is not None:
            latest = {row.address: row.version for row in self.system.store.versions()}
            if latest:
                scheduler.run_id += f".{sum(latest.values()):x}"

    @staticmethod
    def _is_given_up(cell: Cell, first: Message) -> bool:
        """True if the first of its id is an ask whose asker left before it was handled."""
        if not isinstance(first, Ask) or not first.done():
            return False
        cold = cell.chill()
        hands = [*(cold.hands or ()), *([cell.hand] if cell.hand is not None else ())]
        return cold.taken is not first and all(hand.message is not first for hand in hands)

    def _in_hand(self, cell: Cell) -> dict[str, list[Message]]:
        cold = cell.chill()
        if cold.ids_in_hand is None:
            cold.ids_in_hand = {}
        return cold.ids_in_hand

    def _refuse(self, message: Message, error: Exception) -> None:
        scheduler = message.cell.home.scheduler
        if message.room_of is not None:
            scheduler.reply_error(message.room_of, error)
        scheduler.reply_error(message, error)

    def abandon(self, cell: Cell) -> None:
        """The incarnation has ended: who repeated what was in hand hears of it.

        What is still queued stays known: the next incarnation handles it, once.
        """
        cold = cell.cold
        if cold is None or not cold.ids_in_hand:
            return
        queued = _queued(cell)
        known = cold.ids_in_hand
        cold.ids_in_hand = {id_: same for id_, same in known.items() if id_ in queued}
        for id_, same in known.items():
            for message in same if id_ not in queued else ():
                if not message.journalled:
                    self._refuse(message, self.system.lifecycle.not_running(cell, message))

    def buried(self, cell: Cell, message: Message, reason: str) -> None:
        """A message that the journal answers for became a dead letter.

        One that the mailbox's policy dropped is given up; what a stop left unhandled is
        delivered again when the daemon starts.
        """
        same = self._in_hand(cell).get(message.id)
        if same is not None and same[0] is message:
            del self._in_hand(cell)[message.id]
            for repeat in same[1:]:
                self._refuse(repeat, self.system.lifecycle.not_running(cell, message))
        if reason.startswith("dropped") and message.room_of is not None:
            journal = self.system.journal
            assert journal is not None
            journal.bury(self.entry_of(message), reason)

    def _appended(self, message: Message, ticket: Ask, error: Exception | None) -> None:
        scheduler = message.cell.home.scheduler
        if ticket.state == PENDING:
            if error is None:
                scheduler.settle(ticket, ANSWERED, None)
            else:
                scheduler.reply_error(ticket, error)

    def entry_of(self, message: Message) -> Entry:
        """Return a message as the journal keeps it."""
        import msgspec

        return Entry(
            message.cell.address,
            message.id,
            message.type,
            msgspec.msgpack.encode(message.payload, enc_hook=str),
            message.timestamp,
            message.sender,
        )

    def commit(self, cell: Cell, message: Message, value: object, error: Exception | None) -> None:
        """Commit what a durable handler did, then let the reply go."""
        import msgspec

        journal = self.system.journal
        assert journal is not None
        signature = message.verb.signature
        form: dict[str, object]
        form = {"ok": signature.wire(value)} if error is None else to_form(error)
        cold = cell.chill()
        written = cold.last_blob
        checkpoint = self.encode(cell)
        if checkpoint is not None:
            cold.last_blob = checkpoint.blob
            if checkpoint.blob == written:
                checkpoint = None

        def done(failure: Exception | None) -> None:
            same = self._in_hand(cell).pop(message.id, [message])
            for one in same:
                self._conclude(one, value, failure or error)
            if failure is not None:
                self.system.lifecycle.crashed(cell, None, failure)

        journal.handled(
            self.entry_of(message),
            checkpoint,
            msgspec.msgpack.encode(form),
            done,
            keep=max(1, self.policy_of(cell).keep),
        )

    def _conclude(self, message: Message, value: object, error: Exception | None) -> None:
        scheduler = message.cell.home.scheduler
        if error is not None:
            self._refuse(message, error)
            return
        ticket = message.room_of
        if ticket is not None and ticket.state == PENDING:
            scheduler.settle(ticket, ANSWERED, None)
        if isinstance(message, Ask) and message.state == PENDING:
            scheduler.settle(message, ANSWERED, value)

    def _answer(self, message: Message, reply: bytes) -> None:
        import msgspec

        scheduler = message.cell.home.scheduler
        if message.room_of is not None:
            scheduler.settle(message.room_of, ANSWERED, None)
            return
        form = msgspec.msgpack.decode(reply) if reply else {"ok": None}
        if not isinstance(message, Ask) or message.state != PENDING:
            return
        if "ok" in form:
            scheduler.settle(message, ANSWERED, form["ok"])
        else:
            scheduler.reply_error(message, from_form(form))

    def redeliver(self, cell: Cell) -> None:
        """Queue again what a durable daemon had accepted and not handled."""
        journal = self.system.journal
        if journal is None:
            return
        import msgspec

        scheduler = cell.home.scheduler
        if not self._is_named:
            self._name_run()
        queued = _queued(cell)  # by the last incarnation; they keep their place
        for entry in journal.pending(cell.address):
            if entry.id in queued:
                continue
            verb = cell.home.behaviour.verbs.get(entry.type)
            if verb is None:
                journal.bury(entry, "unknown-message")
                self.system.dead_entry(cell, entry, "unknown-message")
                continue
            kwargs = verb.signature.bind(msgspec.msgpack.decode(entry.payload))
            message = Message(cell, verb, KEYWORDS, kwargs)
            message.own_id = entry.id
            message.origin = entry.sender
            message.journalled = True
            message.entry = entry
            in_hand = self._in_hand(cell)
            in_hand[entry.id] = [message, *in_hand.get(entry.id, ())]
            scheduler.stamp(message)
            scheduler.sent += 1
            cell.chill().received += 1
            scheduler.link(cell, message)  # past the limit: it was accepted before

    def before(self, cell: Cell, message: Message) -> bool:
        """See a redelivered message about to be handled; False: not yet, or not any more.

        The delivery is counted in the journal before the handler sees it, and only then,
        so that messages that merely wait in the queue are never taken for poison.
        """
        journal = self.system.journal
        entry: Any = message.entry
        if journal is None or entry is None:
            return True
        scheduler = cell.home.scheduler
        if entry.deliveries >= MAX_DELIVERIES:
            journal.bury(entry, "poison")
            scheduler.bury(message, "poison")
            return False
        message.entry = None
        mailbox.put_back(cell, message)
        cell.gate |= PAUSED

        def counted(_: Exception | None) -> None:
            cell.gate &= ~PAUSED
            scheduler.make_runnable(cell)

        journal.redelivered(entry, counted)
        return False


def _about(checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what `restore` replies of a checkpoint."""
    return {
        "version": checkpoint.version,
        "bytes": len(checkpoint.blob),
        "when": checkpoint.when,
    }


def _queued(cell: Cell) -> set[str]:
    """Return the ids of the journal's messages in a mailbox."""
    return {message.id for message in mailbox.queued(cell) if message.journalled}


async def _capture(_: object, then: Any, state: State) -> None:
    message = state.system.scheduler.current
    assert message is not None
    state.capture_now(message.cell, then)


_CAPTURE = Verb("capture", "_capture", _capture, True, PRIORITY)
