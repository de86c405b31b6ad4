"""The node as a daemon: what is true of all daemons together, and of the process they live in.

Whatever the command line does to a system as a whole it does by a message to
`d9://system/system/node`, so that scripts, consoles and other daemons can do the same.
What needs more than the kernel (importing a class, reading dan9.toml, ending the
process) is the business of whoever booted the node: a `Host`, which boot sets as
`system.host`. A system without one refuses those messages and answers the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from dan9.base.address import Address, Pattern, kebab
from dan9.base.errors import NotFound, NotSupported
from dan9.base.events import DeadLetter, Event, event_form
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import current_message
from dan9.kernel.message import Message
from dan9.kernel.subscription import Subscription

__all__ = ["Branch", "Check", "Host", "Letter", "NodeDaemon", "Row", "nest"]

_PERSISTENCE = "d9://persistence/system/persistence"


@dataclass(frozen=True, slots=True)
class Row:
    """One daemon in a list."""

    address: str
    name: str
    type: str
    state: str
    mailbox: int
    handled: int
    refused: int
    failed: int
    restarts: int
    uptime: float
    supervisor: str


@dataclass(frozen=True, slots=True)
class Branch:
    """One daemon in the tree of who supervises whom."""

    address: str
    state: str
    restarts: int = 0
    children: list[Branch] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Letter:
    """One dead letter; times in UTC seconds since 1970."""

    time: float
    address: str
    type: str
    reason: str
    text: str
    sender: str
    sent: float
    id: str


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at: whether it is well, and what to do if not."""

    check: str
    ok: bool
    text: str
    hint: str = ""


class Host(Protocol):
    """What booted this node, and can do what the kernel cannot."""

    async def spawn_target(
        self, target: str, name: str, group: str, path: str, config: Mapping[str, object]
    ) -> str:
        """Import `module:Class` and start it; return its address."""

    def fields_of(self, target: str, path: str) -> dict[str, Any]:
        """Return the JSON Schema of what a class can be configured with."""

    async def reload(self, path: str | None) -> list[dict[str, str]]:
        """Apply a changed configuration; return what was done to whom."""

    def request_stop(self, *, drain: bool) -> None:
        """Have the node end in good order, after the message in hand."""

    def facts(self) -> dict[str, object]:
        """Return name, pid, socket, folders: what `status` adds."""

    def checks(self) -> list[Check]:
        """Look at the process and its surroundings."""


class NodeDaemon(Daemon, type="system"):
    """Lists, explains and watches every daemon of this node, starts new ones and ends the node."""

    async def on_start(self) -> None:
        """Begin to listen for what nobody receives."""
        self._watches: dict[str, _Watch] = {}

    async def on_stop(self, reason: object) -> None:
        """End every watch."""
        for watch in list(self._watches.values()):
            watch.close()

    def on_status(self) -> dict[str, object]:
        """Add what is true of the process."""
        states: dict[str, int] = {}
        for address in self.system.addresses():
            state = self.system.state_of(address)
            states[state] = states.get(state, 0) + 1
        host = getattr(self.system, "host", None)
        return {**(host.facts() if host is not None else {}), "daemons": states}

    @on
    def ps(self, pattern: str = "**") -> list[Row]:
        """List the daemons whose address fits the pattern, supervisors before their children.

        Errors: bad-address.
        """
        Pattern(pattern)
        return [self._row(address) for address in self.system.addresses(pattern)]

    @on
    def tree(self) -> list[Branch]:
        """Nest every daemon under its supervisor."""
        return nest([self._row(address) for address in self.system.addresses()])

    @on
    def explain(self, address: str) -> dict[str, Any]:
        """Say what a daemon does, on whom it waits and who on it, since when, and why.

        Errors: unknown-daemon, ambiguous-name.
        """
        resolved = self.system.resolve(address)
        row = self._row(resolved)
        letters = [one for one in self.system.dead_letters.ring if one.address == resolved]
        return {
            **self.system.explain(resolved),
            "supervisor": row.supervisor,
            "restarts": row.restarts,
            "uptime": row.uptime,
            "dead-letters": len(letters),
            "latest-dead-letter": letters[-1].reason if letters else None,
        }

    @on
    def dead(self, limit: int = 50, address: str | None = None) -> list[Letter]:
        """List the latest messages that reached nobody, the last one last.

        Args:
            limit: How many.
            address: Only those meant for addresses that fit this pattern.
        """
        letters: Sequence[DeadLetter] = list(self.system.dead_letters.ring)
        if address is not None:
            pattern = Pattern(address)
            letters = [letter for letter in letters if pattern.matches(letter.address)]
        return [_letter(letter) for letter in letters[max(0, len(letters) - limit) :]]

    @on
    def resolve(self, text: str) -> str:
        """Return the address that a name or path stands for.

        Errors: unknown-daemon, ambiguous-name, bad-address.
        """
        return self.system.resolve(text)

    @on
    async def watch(self, pattern: str = "**", limit: int = 128) -> str:
        """Tell the sender every message and event of daemons that fit, as `event`; reply an id.

        A sender that does not keep up misses some and hears how many (`dropped`).

        Errors: bad-address.
        """
        message = current_message()
        subscriber = message.sender if message is not None else ""
        watch = _Watch(self, subscriber, Pattern(pattern), limit, self._watches.pop)
        self._watches[watch.id] = watch
        return watch.id

    @on
    def unwatch(self, watch_id: str) -> None:
        """End a watch.

        Errors: not-found.
        """
        watch = self._watches.pop(watch_id, None)
        if watch is None:
            raise NotFound(f"no watch {watch_id!r}", hint="use the id that watch replied")
        watch.close()

    @on(concurrent=True, timeout_s=60.0)  # a slow start must not hold up `ps`
    async def spawn_(
        self,
        target: str,
        name: str,
        group: str = "default",
        path: str = "",
        config: dict[str, Any] | None = None,
    ) -> Row:
        """Import a class and start a daemon of it; reply its row.

        Args:
            target: `module:Class`.
            name: The daemon's name.
            group: Its group.
            path: A folder to import from, before the others.
            config: Its configuration and first state.

        Errors: bad-config, address-in-use, bad-address.
        """
        address = await self._host().spawn_target(target, name, group, path, config or {})
        return self._row(address)

    @on
    def fields(self, target: str, path: str = "") -> dict[str, Any]:
        """Return the JSON Schema of what a class can be configured with.

        Errors: bad-config.
        """
        return self._host().fields_of(target, path)

    @on(concurrent=True, timeout_s=60.0)
    async def reload(self, path: str | None = None) -> list[dict[str, str]]:
        """Read the configuration again and apply what is different; reply what was done.

        Nothing is done if anything in the file is wrong.

        Errors: bad-config, not-found.
        """
        return await self._host().reload(path)

    @on
    def shutdown(self, drain: bool = True) -> None:
        """End the node in good order: queues first if `drain`, then daemons in reverse order."""
        self._host().request_stop(drain=drain)

    @on
    def doctor(self) -> list[Check]:
        """Look at the node's own health."""
        rows = [self._row(address) for address in self.system.addresses()]
        failed = [row.address for row in rows if row.state == "failed"]
        reasons = self.system.dead_letters.by_reason
        letters = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        host = getattr(self.system, "host", None)
        return [
            Check(
                "daemons",
                not failed,
                f"{len(failed)} failed: {', '.join(failed)}"
                if failed
                else f"{len(rows)}, none failed",
                "dan9 explain ADDRESS says why, dan9 start ADDRESS tries again",
            ),
            Check(
                "dead letters",
                # Most are how things go: a stopped daemon's queue, an asker who gave up. Poison
                # was promised to be handled, and is not.
                not reasons["poison"],
                f"messages that reached nobody: {letters}" if letters else "none",
                "dan9 dead lists them; a durable daemon failed at the poison three times",
            ),
            *self._saving(),
            *(host.checks() if host is not None else ()),
        ]

    def _saving(self) -> list[Check]:
        """See whether state reaches the disk, where somebody runs who saves it."""
        if not self.system.addresses(_PERSISTENCE):
            return []
        status = self.system.status_of(_PERSISTENCE)
        state = status.get("saving", status["state"])
        hint = "free some space or mend the disk; dan9 status persistence says how it goes on"
        return [Check("saving", state == "ok", status.get("alarm") or state, hint)]

    def _host(self) -> Host:
        host: Host | None = getattr(self.system, "host", None)
        if host is None:
            raise NotSupported(
                "this system runs inside a program of its own",
                hint="start and stop daemons there, or boot a node with dan9 up",
            )
        return host

    def _row(self, address: str) -> Row:
        """Return what the kernel counts; not `status`, to which a daemon adds what it likes."""
        system = self.system
        figures = system.metrics_of(address)
        state = system.state_of(address)
        whole = Address.parse(address)
        return Row(
            address=address,
            name=whole.name,
            type=whole.type,
            state=state,
            mailbox=int(figures["mailbox-depth"]),
            handled=int(figures["handled"]),
            refused=int(figures["refused"]),
            failed=int(figures["failed"]),
            restarts=int(figures["restarts"]),
            uptime=figures["uptime"] if state in {"running", "suspended"} else 0.0,
            supervisor=system.supervisor_of(system.cell_of(address)),
        )


def nest(rows: Sequence[Row]) -> list[Branch]:
    """Return the rows as trees, in their order; a supervisor that is not among them is no node."""
    branches = {row.address: Branch(row.address, row.state, row.restarts) for row in rows}
    roots = []
    for row in rows:
        above = branches.get(row.supervisor)
        if above is None or row.supervisor == row.address:
            roots.append(branches[row.address])
        else:
            above.children.append(branches[row.address])
    return roots


class _Watch:
    """One watcher. What passes is offered to it; what it does not keep up with is counted."""

    def __init__(
        self,
        node: NodeDaemon,
        subscriber: str,
        pattern: Pattern,
        limit: int,
        forget: Callable[[str, None], object],
    ) -> None:
        # To watch the watching would make each event the cause of the next.
        self._ignored = {node.address, subscriber}
        self._pattern = pattern
        self._forget = forget
        self._now = node.clock.now
        self._subscription = Subscription(
            node, subscriber, "event", limit=limit, overflow="drop", on_end=self._ended
        )
        self.id = self._subscription.id
        self._untap = node.system.tap(self._message)
        self._unsubscribe = node.system.subscribe_events(self._event)

    def close(self) -> None:
        """End it; the watcher hears no more."""
        self._subscription.close()

    def _ended(self) -> None:
        self._forget(self.id, None)
        self._untap()
        self._unsubscribe()

    def _message(self, message: Message) -> None:
        recipient, sender = message.recipient, message.sender
        if recipient in self._ignored or sender in self._ignored:
            return
        if self._pattern.matches(recipient):
            self._subscription.offer(
                event={
                    "event": "message",
                    "time": self._now(),
                    "sender": sender,
                    "recipient": recipient,
                    "type": message.type,
                    "payload": dict(message.payload),
                    "id": message.id,
                }
            )

    def _event(self, event: Event) -> None:
        if event.address not in self._ignored and self._pattern.matches(event.address):
            self._subscription.offer(event=_kebab_keys(event_form(event)))


def _letter(letter: DeadLetter) -> Letter:
    return Letter(
        time=letter.time,
        address=letter.address,
        type=letter.type,
        reason=letter.reason,
        text=letter.text,
        sender=letter.sender,
        sent=letter.sent,
        id=letter.id,
    )


def _kebab_keys(form: Mapping[str, Any]) -> dict[str, Any]:
    return {kebab(key): value for key, value in form.items()}
