"""Saying things by name: find the receiver, check the payload, send.

Typed refs do not come this way; it serves what is known at run time only: names,
addresses, paths, and clients on a wire.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import Any, TypeVar

from dan9.base.address import is_pattern, kebab
from dan9.base.duration import parse_duration
from dan9.base.errors import (
    BadPayload,
    Dan9Error,
    MailboxFull,
    NotAllowed,
    UnknownDaemon,
    UnknownMessage,
    to_form,
)
from dan9.base.forms import plain_of
from dan9.kernel.cell import Cell
from dan9.kernel.daemon import Daemon
from dan9.kernel.finding import Finding
from dan9.kernel.message import IN_HAND, KEYWORDS, ORDINARY, Ask, Message, Verb
from dan9.kernel.ref import Ref
from dan9.kernel.wires import CallbackReply, Wires

__all__ = ["Speaking"]

D = TypeVar("D", bound=Daemon)


def _timeout(value: float | str | None) -> float:
    """Return a deadline in seconds: negative the default, infinite none."""
    if value is None:
        return float("inf")
    if isinstance(value, str):
        return parse_duration(value)
    if math.isnan(value):
        raise BadPayload("nan is no deadline", at="timeout_s")
    return float(value)


def _merged(
    verb: Verb, payload: Mapping[str, Any] | None, fields: dict[str, Any] | None
) -> Mapping[str, Any]:
    """Put the payload and the keywords of a call together.

    `payload=` is the payload as a map, unless the message has a key of that name and
    others are given as keywords: then it is that key, as in a timer's `schedule`. A
    keyword's trailing underscore (`for_=`) is Python's need and is dropped.
    """
    if fields and verb.function is not None:
        fields = {key.removesuffix("_") or key: value for key, value in fields.items()}
    if payload is None:
        return fields or {}
    if not fields:
        return payload
    has_key = verb.function is not None and any(
        parameter.key == "payload" for parameter in verb.signature.parameters
    )
    return {**fields, "payload": payload} if has_key else {**payload, **fields}


class Speaking(Finding):
    """`ask`, `tell` and `send` by name, and refs."""

    # -- by name

    def message_parts(
        self,
        target: object,
        type_: str,
        payload: Mapping[str, Any] | None,
        viewer: Cell | None = None,
        fields: dict[str, Any] | None = None,
    ) -> tuple[Cell, Verb, dict[str, Any]]:
        """Find the receiver and the verb and check the payload."""
        rest = ""
        if isinstance(target, str) and target.startswith("/"):
            address, rest = self._resolve_path(target, viewer)
            cell = self.registry.find(address)
        else:
            cell = self.cell_of(target, viewer)
        only = target._d9_only if isinstance(target, Ref) else None
        if only is not None and kebab(type_) not in only:
            raise NotAllowed(
                f"this ref to {cell.address} does not allow {type_!r}",
                address=cell.address,
                message=type_,
            )
        verb = self.verb_of(cell, type_)
        payload = _merged(verb, payload, fields)
        if rest and verb.function is not None and verb.kind == ORDINARY:
            # What every daemon answers is about the daemon, wherever the path goes on to.
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
                verb = Verb(type_, type_, None, False, index=len(behaviour.order))
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
        type: str,
        /,
        *,
        timeout_s: float | str | None = -1.0,
        message_id: str | None = None,
        payload: Mapping[str, Any] | None = None,
        viewer: Cell | None = None,
        **fields: Any,
    ) -> Any:
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
        cell, verb, kwargs = self.message_parts(address, type, payload, viewer, fields)
        ask = Ask(cell, verb, KEYWORDS, kwargs, _timeout(timeout_s))
        ask.own_id = message_id
        value = await ask
        if verb.function is None:
            return plain_of(value)
        if verb.signature.needs_conversion:
            return verb.signature.plain(value)
        return value

    def tell(
        self,
        address: object,
        type: str,
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
        if isinstance(address, str) and is_pattern(address):
            for message in self._to_all(address, type, payload, fields):
                try:
                    self.scheduler.tell(message)
                except MailboxFull:
                    self.scheduler.sent += 1
                    self.scheduler.turn_away(message, "mailbox-full")
            return
        cell, verb, kwargs = self.message_parts(address, type, payload, viewer, fields)
        message = Message(cell, verb, KEYWORDS, kwargs)
        message.own_id = message_id
        self.scheduler.tell(message)

    def _to_all(
        self,
        pattern: str,
        type: str,
        payload: Mapping[str, Any] | None,
        fields: dict[str, Any] | None,
    ) -> Iterator[Message]:
        """Make the messages of a tell to a pattern, for all who know the type."""
        for cell in list(self.registry.cells(pattern)):
            try:
                verb = self.verb_of(cell, type)
            except UnknownMessage:
                continue
            given = dict(_merged(verb, payload, fields))
            kwargs = given if verb.function is None else verb.signature.bind(given)
            yield Message(cell, verb, KEYWORDS, kwargs)

    async def send(
        self,
        address: object,
        type: str,
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
        cell, verb, kwargs = self.message_parts(address, type, payload, viewer, fields)
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

    # -- from a wire

    @cached_property
    def wires(self) -> Wires:
        """What clients at wires ask of this system."""
        return Wires(self.scheduler, self.registry, self.message_parts)

    def wire_ask(
        self,
        sender: str,
        to: str,
        type: str,
        payload: dict[str, Any],
        callback: Callable[[bool, Any], object],
        timeout_s: float | None = -1.0,
        message_id: str | None = None,
    ) -> Ask | None:
        """Ask for a client; `callback(ok, value or error form)` is called once.

        Returns what `cancel()` may be called on; None if the answer was given already.
        """
        reply = CallbackReply(callback)
        ask: Ask | None = self.wires.ask(sender, to, type, payload, reply, timeout_s, message_id)
        return ask

    def wire_tell(
        self,
        sender: str,
        to: str,
        type: str,
        payload: dict[str, Any],
        *,
        message_id: str | None = None,
    ) -> None:
        """Tell for a client; a full mailbox makes a dead letter.

        Raises:
            Refused: UnknownDaemon, UnknownMessage, BadPayload.
        """
        if is_pattern(to):
            for message in self._to_all(to, type, payload, None):
                message.origin = sender
                self.scheduler.tell_inside(message)
            return
        cell, verb, shape, args, _ = self.wires.parts(to, type, payload)
        message = Message(cell, verb, shape, args)
        message.own_id = message_id
        message.origin = sender
        self.scheduler.tell_inside(message)

    def wire_send(
        self,
        sender: str,
        to: str,
        type: str,
        payload: dict[str, Any],
        callback: Callable[[bool, object], object],
        timeout_s: float | None = -1.0,
        message_id: str | None = None,
    ) -> Ask | None:
        """Send for a client: `callback(True, None)` once the message is queued or journalled."""
        try:
            cell, verb, shape, args, _ = self.wires.parts(to, type, payload)
        except Dan9Error as error:
            callback(False, to_form(error, message=type))
            return None
        ticket = Ask(cell, verb, KEYWORDS, {}, _timeout(timeout_s))
        message = Message(cell, verb, shape, args)
        message.own_id = message_id
        message.origin = sender
        ticket.carries = message
        self.scheduler.submit_carried(ticket)
        reply = CallbackReply(callback)
        if ticket.done():
            reply.ended(ticket)
            return None
        ticket.listener = reply
        return ticket
