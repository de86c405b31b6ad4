"""What happens to messages and daemons, and who hears of it: events, logs, dead letters, taps."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from dan9.base.copying import copy_payload, copy_reply
from dan9.base.duration import parse_duration
from dan9.base.errors import BadPayload, Dan9Error, MailboxFull
from dan9.base.events import DeadLetter, Event, LogEntry, MailboxHigh, MailboxNormal, SlowStep
from dan9.kernel import log as logs
from dan9.kernel.cell import CROWDED, WATCHED, Cell
from dan9.kernel.core import Core
from dan9.kernel.lifecycle import describe_error
from dan9.kernel.message import KEYWORDS, ORDINARY, Ask, Message
from dan9.kernel.scheduler import DEFERRED

__all__ = ["Watching"]


@lru_cache(maxsize=1024)
def _timeout_key(source: object) -> tuple[int, object]:
    """Return where a handler's parameter `timeout` stands among its arguments, and its default.

    Kept, because reading a signature takes longer than the ask that it is read for.
    """
    parameters = inspect.signature(source).parameters  # type: ignore[arg-type]
    timeout = parameters["timeout"]
    if timeout.kind is inspect.Parameter.KEYWORD_ONLY:
        return sys.maxsize, timeout.default
    return list(parameters).index("timeout") - 1, timeout.default  # the first is self


class Watching(Core):
    """Events, logs, dead letters, and the hooks of watched cells."""

    # -- what happened

    @property
    def wants_events(self) -> bool:
        """True if anybody listens to events."""
        return bool(self._event_sinks)

    def wants(self, kind: type[Event]) -> bool:
        """True if anybody listens to events of this class: making one takes a microsecond."""
        return bool(self._listeners(kind))

    def _listeners(self, kind: type[Event]) -> tuple[Callable[[Event], None], ...]:
        found = self._listening.get(kind)
        if found is None:
            heard: list[Callable[[Event], None]] = []
            for number, callback in self._event_sinks.items():
                kinds = self._event_kinds.get(number)
                if kinds is None or issubclass(kind, kinds):
                    heard.append(callback)
            found = self._listening[kind] = tuple(heard)
        return found

    def subscribe_events(
        self, callback: Callable[[Event], None], *kinds: type[Event]
    ) -> Callable[[], None]:
        """Call `callback(event)` for every event of these classes; returns how to stop that.

        Args:
            callback: Is called on the loop.
            kinds: Classes of events; none: all of them.
        """
        number = self.next_number()
        self._event_sinks[number] = callback
        if kinds:
            self._event_kinds[number] = kinds
        self._listening.clear()
        self.registry.is_quiet = False

        def unsubscribe() -> None:
            self._event_sinks.pop(number, None)
            self._event_kinds.pop(number, None)
            self._listening.clear()

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Tell the listeners; one that raises is logged and stays."""
        for callback in self._listeners(type(event)):
            try:
                callback(event)
            except Exception as error:
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

    def slow_step(self, event: SlowStep) -> None:
        """Keep and tell what held the node for too long."""
        self.slow_steps.append(event)
        self.emit(event)
        self.logger(event.address or "kernel").warning(
            "%s held the node for %.0f ms: run blocking code with @on(thread=True)",
            event.message or "a step",
            event.took_s * 1000,
        )

    def bury(self, message: Message, reason: str) -> None:
        """Keep a dead letter and tell its asker."""
        if self.state.lost(message):
            return
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
        cell = message.cell
        if message.journalled and self.journal is not None:
            self.state.buried(cell, message, reason)
        # Whoever waits for an answer hears of it, and so does a `send` that waits for room;
        # one that waits for the journal is acknowledged by it.
        waits = message if isinstance(message, Ask) else message.room_of
        if waits is message.room_of and message.journalled and not reason.startswith("dropped"):
            return
        if waits is not None and not waits.done() and reason != "expired":
            error: Dan9Error = self.lifecycle.not_running(cell, message)
            if reason.startswith("dropped"):
                error = MailboxFull(
                    f"{message.recipient} dropped {message.type!r}: its mailbox was full",
                    address=message.recipient,
                    message=message.type,
                )
            if reason != "not-allowed":
                self.scheduler.reply_error(waits, error)

    def dead_entry(self, cell: Cell, entry: Any, reason: str) -> None:
        """Keep a dead letter of a journal entry."""
        letter = DeadLetter(
            self.clock.now(), cell.address, entry.sender, entry.type, {}, entry.id, reason
        )
        self.dead_letters.add(letter)
        self.emit(letter)

    def mailbox_high(self, cell: Cell) -> None:
        """Say once that a mailbox is full."""
        cold = cell.chill()
        cold.high_water = max(cold.high_water, int(cell.depth))
        if not cell.gate & CROWDED:
            cell.gate |= CROWDED
            now = self.clock.now()
            self.emit(MailboxHigh(now, cell.address, int(cell.depth), int(cell.limit)))

    def mailbox_normal(self, cell: Cell) -> None:
        """Say that a mailbox that was full is half empty again."""
        now = self.clock.now()
        self.emit(MailboxNormal(now, cell.address, int(cell.depth), int(cell.limit)))

    # -- hooks of watched cells

    @property
    def is_watching(self) -> bool:
        """True if every daemon is watched: a test world, a tap, or `copy=True`."""
        return (
            self.copying
            or bool(self.taps)
            or self.on_incoming is not None
            or self.on_handling is not None
            or self.on_handled is not None
        )

    def reconsider_watch(self, cell: Cell) -> None:
        """Set or clear the gate's WATCHED bit as somebody needs it."""
        cold = cell.cold
        if self.is_watching or (cold is not None and (cold.dirty_watch or cold.durable)):
            cell.gate |= WATCHED
        else:
            cell.gate &= ~WATCHED

    def reconsider_all(self) -> None:
        """Do so for every daemon: a tap or a hook came or went."""
        is_heard = self.is_watching or bool(self._event_sinks)
        self.registry.is_quiet = not is_heard and self.store is None
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
        args, kwargs = message.arguments()
        message.args = copy_payload(message.verb.signature, args, kwargs)
        message.shape = KEYWORDS

    def after_handling(self, cell: Cell, message: Message, value: object) -> object:
        """See a watched daemon's reply."""
        if self.on_handled is not None:
            self.on_handled(cell, message)
        cold = cell.cold
        if cold is not None:
            if cold.dirty_watch and message.verb.kind == ORDINARY:
                self.state.handled(cell)
            if cold.durable and message.journalled and self.journal is not None:
                self.state.commit(cell, message, value, None)
                return DEFERRED
        if self.copying and message.verb.source is not None:
            try:
                return copy_reply(message.verb.signature, value)
            except Dan9Error as error:
                self.scheduler.reply_error(message, error)
                return DEFERRED
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
        place, given = _timeout_key(ask.verb.source)
        if "timeout" in kwargs:
            given = kwargs["timeout"]
        elif place < len(args):
            given = args[place]
        if given is None:
            return float("inf")
        return parse_duration(given) + 1.0 if isinstance(given, (int, float, str)) else -1.0

    def allowed(self, cell: Cell, message: Message) -> Dan9Error | None:
        """Return why this sender may not say this to a guarded daemon, or None."""
        cold = cell.chill()
        if cold.allow is None or message.origin is cell:
            return None
        sender = message.sender
        error: Dan9Error | None = cold.allow.refusal(cell.address, sender, message.type)  # type: ignore[attr-defined]
        if error is not None:
            cold.refused += 1
            self.logger_of(cell).warning("not allowed: %s from %s", message.type, sender)
        return error
