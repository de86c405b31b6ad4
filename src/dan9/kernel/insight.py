"""What can be known of a daemon: status, description, metrics, who waits on whom."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dan9.base.address import SCHEME, kebab
from dan9.base.errors import BadPayload, NotFound
from dan9.kernel import metrics
from dan9.kernel.cell import STATE_NAMES, Cell
from dan9.kernel.finding import Finding
from dan9.kernel.message import Ask, Gather
from dan9.kernel.parking import Parking

if TYPE_CHECKING:
    from dan9.base.histogram import Histogram
    from dan9.kernel.hand import Hand

__all__ = ["Insight"]


class Insight(Finding):
    """Answers about daemons, computed when asked."""

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

    def status_of(self, target: object, **keys: Any) -> dict[str, Any]:
        """Return a daemon's status; see the message `status`."""
        return self.status_of_cell(self.cell_of(target), **keys)

    def status_of_cell(self, cell: Cell, **keys: Any) -> dict[str, Any]:
        """Return who it is, what it does and how it fares.

        Raises:
            BadPayload: The daemon's `on_status` does not take these keys.
        """
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
            for key, value in _own_status(instance, keys).items():
                status[kebab(key)] = value
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
        order = cell.home.behaviour.order
        counts = list(cell.counts) if cell.counts is not None else [0] * (len(order) + 1)
        if cell.run_verb is not None:
            counts[cell.run_verb.index] += int(cell.handled - cell.run_from)
        found = {verb.type: counts[verb.index] for verb in order}
        found["other"] = counts[len(order)]
        return {type_: count for type_, count in found.items() if count}

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
        if cold is not None:
            times: Any = cold.samples
            if times is not None:
                found["handler-p50"] = times.percentile(0.5)
                found["handler-p99"] = times.percentile(0.99)
                if uptime > 0:
                    found["busy"] = min(1.0, cold.busy_s / uptime)
            found.update(metrics.own_of(cold))
        return found

    def metric_kinds_of(self, target: object) -> dict[str, str]:
        """Return which of a daemon's own metrics is a counter, a gauge or a histogram."""
        cold = self.cell_of(target).cold
        return {} if cold is None else metrics.kinds_of(cold)

    def histograms_of(self, target: object) -> dict[str, Histogram]:
        """Return a daemon's own histograms by name."""
        cold = self.cell_of(target).cold
        return dict(cold.own_histograms or {}) if cold is not None else {}

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
        was_last = mark >= now - 1  # the usual case: then older changes are of no interest
        changed: list[str] = []
        seen = self._changed_at
        found = 0
        tables = {id(home.names): home.names for home in self.registry.homes.values()}
        for names in tables.values():  # two homes may share one
            for cell in list(names.values()):
                found += 1
                # One number instead of four, because 10,000 of them are compared each second.
                handled: int = cell.handled
                depth: int = cell.depth
                print_ = (handled << 24) + (depth << 4) + int(cell.state)
                cold = cell.cold
                if cold is not None and (cold.own_metrics or cold.restarts):
                    print_ = hash((print_, cold.restarts, *cold.own_metrics.values()))
                if cold is not None and cold.own_histograms is not None:
                    print_ = hash((print_, *[each.count for each in cold.own_histograms.values()]))
                before = seen.get(cell)
                if before is None or before[1] != print_:
                    seen[cell] = (now, print_)
                elif was_last or before[0] <= mark:
                    continue
                changed.append(cell.address)
        if len(seen) > found:  # some have ended
            alive = set(self.registry.cells())
            self._changed_at = {cell: at for cell, at in seen.items() if cell in alive}
        return now, changed

    def dirty_parts(self, size: int = 5_000) -> Iterator[list[str]]:
        """Yield, part by part, daemons that handled a message since they were last saved.

        A part looks at `size` daemons; between two of them the node may do something else.
        """
        tables = {id(home.names): home.names for home in self.registry.homes.values()}
        for names in list(tables.values()):
            cells = list(names.values())
            for start in range(0, len(cells), size):
                yield self.registry.dirty(cells[start : start + size])

    def waits(self) -> list[dict[str, Any]]:
        """Return who waits on whom and since when: [{address, message, on, since}]."""
        now = self.scheduler.monotonic()
        found: list[dict[str, Any]] = []
        for cell in self.registry.cells():
            hands: list[Hand] = list((cell.cold.hands if cell.cold is not None else None) or ())
            if cell.hand is not None:
                hands.append(cell.hand)
            found.extend(self._waiting(cell, hand, now) for hand in hands)
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

    def explain(self, target: object) -> dict[str, Any]:
        """Return what a daemon is doing: what is in hand, on whom it waits, who waits on it."""
        cell = self.cell_of(target)
        waits = self.waits()
        about = repr(cell.address)[1:-1]
        return {
            "address": cell.address,
            "state": STATE_NAMES[cell.state],
            "in-hand": [wait for wait in waits if wait["address"] == cell.address],
            "waited-for-by": [wait for wait in waits if about in wait["on"]],
            "queued": int(cell.depth),
            "last-error": cell.cold.last_error if cell.cold is not None else "",
            "slow-steps": [
                {"time": step.time, "message": step.message, "took-s": step.took_s}
                for step in self.slow_steps
                if step.address == cell.address
            ],
        }

    def conservation(self) -> dict[str, int]:
        """Return sent, handled, dead, queued and in hand; the first is the sum of the rest."""
        queued = in_hand = 0
        for home in self.registry.homes.values():
            for cell in home.names.values():
                hand = cell.hand
                queued += cell.depth
                if hand is not None and hand.message is not None:
                    in_hand += 1
                cold = cell.cold
                if cold is None:
                    continue
                queued += cold.set_aside
                if cold.taken is not None:
                    in_hand += 1
                for other in cold.hands or ():
                    if other.message is not None and other.message is not cold.taken:
                        in_hand += 1
        scheduler = self.scheduler
        return {
            "sent": scheduler.sent + scheduler.duplicated,
            "handled": scheduler.handled,
            "dead": scheduler.dead,
            "queued": queued + len(scheduler.control) + self.held,
            "in-hand": in_hand,
        }


def _own_status(instance: Any, keys: dict[str, Any]) -> dict[str, object]:
    """Return what a daemon adds to its status."""
    if not keys:
        return instance.on_status()  # type: ignore[no-any-return]
    known = inspect.signature(instance.on_status).parameters
    named = {key.replace("-", "_"): value for key, value in keys.items()}
    for key in named:
        if key not in known:
            raise BadPayload(
                f"status: {instance.address} knows no key {kebab(key)}",
                hint="it takes " + (", ".join(kebab(name) for name in known) or "none"),
                message="status",
                at=kebab(key),
            )
    return instance.on_status(**named)  # type: ignore[no-any-return]
