"""Monitoring: how every daemon of the node fares, now and for the last month.

No daemon has to do anything for it. Once an interval the kernel says who has changed, and
only their figures are read; while nothing changes the interval grows tenfold, so that an
idle node stays idle. Whoever asks gets a sample of that moment first.

Minutes are kept in memory, days and weeks in a file of its own in the state directory
(`historyfile.py`); `sampling.py` decides what is kept, `alerts.py` when a number is worth
a message. This module asks the kernel, keeps time, and answers.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal

from dan9.base.address import SCHEME, Pattern
from dan9.base.duration import Duration, Time
from dan9.base.errors import (
    AddressInUse,
    BadConfig,
    BadPayload,
    Dan9Error,
    NotFound,
    PermissionRefused,
    Refused,
    UnknownDaemon,
)
from dan9.base.events import DaemonStopped, Event
from dan9.base.forms import nearest
from dan9.base.reasons import Reason
from dan9.daemons.alerts import Alert, AlertBoard, AlertRule
from dan9.daemons.dashboard import DaemonRow, NodeFacts, dashboard, table
from dan9.daemons.metricserver import MetricServer
from dan9.daemons.monitoring_replies import AggregateRow, AlertRow, Served, Snapshot
from dan9.daemons.past import Past
from dan9.daemons.prometheus import CONTENT_TYPE, Exposition
from dan9.daemons.sampling import Book, aggregate
from dan9.daemons.series import Point, thin
from dan9.kernel.cell import STATE_NAMES
from dan9.kernel.daemon import Config, Daemon, on
from dan9.kernel.kernel import current_message

__all__ = ["Monitoring"]

_IDLE_FACTOR = 10
_CLIENTS = f"{SCHEME}client/"
"""Connections come and go with every command: they have no past, and no series anywhere."""
_AT_ONCE = 1_000
"""Daemons whose figures are read at one time: some 30 ms, so that the node is not held."""
_BETWEEN_S = 0.05
_BREATH = 200
"""Daemons between two breaths that others get while a long reply is made."""


class Monitoring(Daemon, type="monitoring", checkpoint="on-change"):
    """Samples every daemon's metrics; keeps history, draws tables, raises alerts."""

    collect_interval: Config[Duration] = 1.0
    """Seconds between samples while anything changes."""
    history_size: Config[int] = 300
    """Samples of a daemon that are kept in memory."""
    max_series: Config[int] = 2000
    """Series kept on disk, the sums of groups included; 0: none."""
    max_disk: Config[int] = 256_000_000
    """Bytes that the history on disk may take."""

    alert_rules: dict[str, Alert] = {}
    count: int = 0
    """Alerts ever asked for; part of the next one's id."""

    async def on_start(self) -> None:
        """Open the past and begin to sample."""
        if not self.collect_interval >= 0.01 or self.history_size < 1 or self.max_series < 0:
            raise BadConfig(
                "collect-interval, history-size and max-series make no sense",
                hint="10ms or more, 1 or more, 0 or more",
                at="collect-interval",
            )
        self._started = self.clock.monotonic()
        self._mark = self._samples = 0
        self._interval = self.collect_interval
        self._is_virtual = bool(getattr(self.system.clock, "is_virtual", False))
        path = None
        if self.system.state_dir is not None and self.max_series:
            path = Path(self.system.state_dir) / "history.db"
        self._book = Book(
            self.collect_interval * self.history_size,
            self.max_series if path is not None else 0,
            self.collect_interval / 2,
        )
        self._past = Past(self._book, path, self.max_disk, self._blocking, self.log)
        await self._past.open(self.clock.now())
        for alert in self.alert_rules.values():
            if alert.target.startswith(_CLIENTS):
                alert.target = ""  # the number is somebody else's in this life
        self._board = AlertBoard(self.alert_rules)
        self._alert_due: Any = None
        self._server = MetricServer(self._exposition, CONTENT_TYPE)
        self._alarm: Any = None
        self._ended: list[str] = []
        self._backlog: dict[str, None] = {}
        self._unsubscribe = self.system.subscribe_events(self._heard, DaemonStopped)
        self._plan()

    async def on_stop(self, reason: Reason) -> None:
        """Keep what has been gathered."""
        for handle in (self._alarm, self._alert_due):
            if handle is not None:
                handle.cancel()
        self._unsubscribe()
        await self._server.close()
        await self._past.close(self.clock.now())

    def on_status(self, daemon_name: str | None = None) -> dict[str, object]:
        """Add the figures of monitoring itself, or give the status of another daemon."""
        if daemon_name is not None:
            return self.system.status_of(self._resolved(daemon_name))
        return self._own_figures()

    # -- now ----------------------------------------------------------------------------------

    @on(concurrent=True)
    async def snapshot(self, pattern: str = "**", limit: int = 1000) -> Snapshot:
        """Return time, the node's figures, and state and metrics of each daemon that fits.

        Errors: bad-address bad-payload.
        """
        if limit < 0:
            raise BadPayload(f"limit={limit}", hint="0 or more", at="limit")
        self._sample()
        addresses = self.system.addresses(pattern)
        found: dict[str, dict[str, Any]] = {}
        async for address in _breathing(addresses[:limit]):
            with suppress(UnknownDaemon):
                found[address] = {
                    "state": self.system.state_of(address),
                    **self.system.metrics_of(address),
                    "rate": self._rate(address),
                }
        node = self._node()
        return {
            "time": node.time,
            "node": {
                "name": node.name,
                "uptime": node.uptime_s,
                "daemons": sum(node.states.values()),
                "states": node.states,
                "handled": node.handled,
                "rate": node.rate,
                "queued": node.queued,
                "dead_letters": node.dead_letters,
                "alerts": list(node.alerts),
            },
            "daemons": found,
            "omitted": max(0, len(addresses) - limit),
        }

    @on
    def dashboard(
        self,
        width: int = 100,
        color: bool = False,
        limit: int = 20,
        pattern: str = "**",
        sort: Literal["rate", "handled", "mailbox", "busy", "failed", "address"] = "rate",
    ) -> str:
        """Return the node and its busiest daemons as text. Errors: bad-address bad-payload."""
        _check_size(width, limit)
        self._sample()
        addresses = self._busiest(pattern, sort)
        rows = [self._row(address) for address in addresses[:limit]]
        return dashboard(self._node(), rows, width=width, color=color, of=len(addresses))

    @on
    def metrics_table(
        self,
        metric_name: str,
        pattern: str = "**",
        limit: int = 50,
        width: int = 100,
        color: bool = False,
    ) -> str:
        """Return one metric of every daemon that has it as text, the largest first.

        Errors: not-found bad-address bad-payload.
        """
        _check_size(width, limit)
        self._sample()
        metric = metric_name.replace("_", "-")
        found: list[tuple[float, str]] = []
        for address in self.system.addresses(pattern):
            figures = self._book.figures.get(address)
            if figures is not None:
                value = figures.value(metric_name)
                if value is None:
                    value = figures.value(metric)
                if value is not None:
                    found.append((value, address))
        if not found:
            near = nearest(metric_name, self._metric_names(pattern))
            raise NotFound(
                f"no daemon has a metric {metric_name!r}",
                hint=f"did you mean {near}?" if near else "`dan9 metrics ADDRESS` lists them",
            )
        found.sort(key=lambda entry: (-entry[0], entry[1]))
        rows = [(address.removeprefix(SCHEME), f"{value:,.6g}") for value, address in found[:limit]]
        text = table(("daemon", metric_name), rows, width=width, color=color)
        return text if len(found) <= limit else f"{text}… and {len(found) - limit} more\n"

    # -- before -------------------------------------------------------------------------------

    @on(concurrent=True)
    async def history(
        self,
        daemon_name: str,
        metric_name: str | None = None,
        since: Time | None = None,
        limit: int = 1000,
    ) -> dict[str, list[list[float]]]:
        """Return the past as metric → [[time, value], …], oldest first.

        A value holds until the next one. `since` is a time (default: what is in memory);
        older values are coarser: 10 s for a day, 60 s for a month. Of more than `limit` points
        some are left out, evenly. `d9://type/group/*` is the sum of daemons that have no series
        of their own. Errors: unknown-daemon ambiguous-name not-found bad-payload.
        """
        if limit < 1:
            raise BadPayload(f"limit={limit}", hint="1 or more", at="limit")
        found = await self._points(daemon_name, metric_name, since)
        return {
            metric: [[when, value] for when, value in thin(points, limit)]
            for metric, points in found.items()
        }

    @on(concurrent=True)
    async def aggregate(
        self, daemon_name: str, metric_name: str, since: Time | None = None
    ) -> AggregateRow:
        """Return count, sum, average, min, max, p50, p95 and p99 of a metric's past values.

        Errors: unknown-daemon ambiguous-name not-found.
        """
        [points] = (await self._points(daemon_name, metric_name, since)).values()
        return aggregate([value for _, value in points])

    # -- alerts -------------------------------------------------------------------------------

    @on(concurrent=True)
    async def alert(
        self,
        metric_name: str,
        above: float | None = None,
        below: float | None = None,
        for_: Duration = 0.0,
        target: str = "",
        daemon_name: str = "**",
        clear: float | None = None,
        type: str = "alert",
    ) -> str:
        """Tell `target` (default: the asker) when a metric is beyond a threshold; reply an id.

        It fires when a daemon that fits `daemon_name` (an address, a name or a pattern) has
        been beyond it for `for`, and is cleared when it has been back beyond `clear`
        (default: a tenth nearer) for as long. Told: alert-id, daemon, metric, value, threshold,
        change ("firing" or "cleared"), since; a target that was a connection and is gone is
        told nothing, the log is. Errors: bad-payload bad-address.
        """
        rule = AlertRule(above, below, clear, for_).check()
        pattern = daemon_name if "*" in daemon_name else self._resolved(daemon_name)
        Pattern(pattern)
        message = current_message()
        if not target and message is not None:
            target = message.sender
        if not metric_name or not type:
            raise BadPayload("metric-name or type is empty", at="metric-name")
        self._sample()
        names = self._metric_names(pattern)
        if metric_name not in names and metric_name.replace("_", "-") in names:
            metric_name = metric_name.replace("_", "-")
        self.count += 1
        made = Alert(f"a{self.count}", metric_name, pattern, rule, target, type)
        self.alert_rules[made.id] = made
        now = self.clock.monotonic()
        async for address in _breathing(list(self._book.figures)):
            self._board.observe(address, self._book.figures[address].metrics, now)
        self._after_alerts()
        if metric_name not in names:
            near = nearest(metric_name, names)
            hint = f"; did you mean {near}?" if near else ""
            self.log.warning(
                "alert %s: %s has no metric %r so far%s", made.id, pattern, metric_name, hint
            )
        return made.id

    @on
    def alerts(self) -> list[AlertRow]:
        """Return the alerts, and for which daemons each is rising, firing or falling."""
        return [
            {
                "alert_id": each.id,
                "metric": each.metric,
                "daemon": each.daemon,
                "above": each.rule.above,
                "below": each.rule.below,
                "clear": each.rule.clear,
                "for": each.rule.hold_s,
                "target": each.target,
                "type": each.type,
                "states": {
                    address: state.phase
                    for (alert_id, address), state in self._board.states.items()
                    if alert_id == each.id
                },
            }
            for each in self.alert_rules.values()
        ]

    @on
    def unalert(self, alert_id: str) -> str:
        """Watch for it no more. Errors: not-found."""
        if alert_id not in self.alert_rules:
            raise NotFound(f"there is no alert {alert_id!r}", hint="`alerts` lists them")
        self._board.drop(alert_id)
        return alert_id

    @on(concurrent=True)
    async def announce(self) -> int:
        """Tell the targets of alerts what has changed. Monitoring tells itself so."""
        told = 0
        behind = self.clock.now() - self.clock.monotonic()
        for news in self._board.take_news():
            alert = news.alert
            facts = {
                "alert_id": alert.id,
                "daemon": news.daemon,
                "metric": alert.metric,
                "value": news.value,
                "threshold": alert.rule.threshold,
                "change": news.change,
                "since": news.since + behind,
            }
            self.log.warning(
                "alert %s: %s of %s is %g (%s)",
                alert.id, alert.metric, news.daemon, news.value, news.change,
            )  # fmt: skip
            try:
                if alert.target:
                    await self.send(alert.target, alert.type, payload=facts)
                    told += 1
            except Dan9Error as error:
                if isinstance(error, UnknownDaemon) and alert.target.startswith(_CLIENTS):
                    alert.target = ""  # a command that has ended, or a connection that is gone
                    self.log.info("alert %s is only logged from now on: %s", alert.id, error.text)
                    continue
                self.log.error(  # noqa: TRY400 (its text says everything)
                    "alert %s could not tell %s: %s", alert.id, alert.target, error.text
                )
        return told

    # -- Prometheus ---------------------------------------------------------------------------

    @on(concurrent=True, timeout_s=30.0)
    async def prometheus(self, pattern: str = "**") -> str:
        """Return every metric in Prometheus's text format. Errors: bad-address."""
        return await self._exposition(pattern)

    @on(concurrent=True)
    async def serve(self, port: int = 0, host: str = "127.0.0.1") -> Served:
        """Serve the metrics over HTTP, on the loopback only; reply host, port and url.

        Errors: address-in-use permission bad-payload.
        """
        try:
            is_loopback = ip_address(host).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback or not 0 <= port <= 65535:
            raise BadPayload(
                f"{host}:{port} is not served",
                hint="the loopback only, as 127.0.0.1; a reverse proxy can add the rest",
                at="host" if not is_loopback else "port",
            )
        if self._server.port and port in {0, self._server.port}:
            port = self._server.port
        else:
            await self._server.close()
            try:
                port = await self._server.start(host, port)
            except OSError as error:
                raise _refusal_to_listen(error, host, port) from error
        shown = f"[{host}]" if ":" in host else host
        return {"host": host, "port": port, "url": f"http://{shown}:{port}/metrics"}

    @on(concurrent=True)
    async def unserve(self) -> bool:
        """Serve no more; reply whether it did."""
        served = self._server.port != 0
        await self._server.close()
        return served

    # -- sampling -------------------------------------------------------------------------------

    def _plan(self) -> None:
        at = self.clock.monotonic() + self._interval
        self._alarm = self.system.call_on(self._d9_cell, at, self._tick)

    def _tick(self) -> None:
        """Take a sample, and take the next one later if nothing has changed."""
        changed = self._sample()
        if self._backlog:  # a great many at once: the others get their turn in between
            self._interval = _BETWEEN_S
        elif changed:
            self._interval = self.collect_interval
        else:
            self._interval = min(self._interval * 2, self.collect_interval * _IDLE_FACTOR)
        self._plan()

    def _sample(self) -> bool:
        """Read the figures of whoever has changed; True if anybody had."""
        for address in self._ended:
            self._forget(address)
        self._ended.clear()
        now = self.clock.now()
        if not self._backlog:
            self._book.tick(now)
        self._mark, changed = self.system.changed_since(self._mark)
        own = self.address
        others = [
            address for address in changed if address != own and not address.startswith(_CLIENTS)
        ]
        self._backlog.update(dict.fromkeys(others))
        self._backlog.update(dict.fromkeys(self._book.fallen_silent(changed)))
        if own in changed:
            self._backlog[own] = None
        wanted = list(self._backlog)[:_AT_ONCE]
        for address in wanted:
            del self._backlog[address]
            try:
                metrics = self.system.metrics_of(address)
            except UnknownDaemon:
                self._forget(address)
                continue
            self._book.add(address, metrics, now)
        self._samples += 1
        if self.alert_rules:
            at = self.clock.monotonic()
            for address in wanted:
                figures = self._book.figures.get(address)
                if figures is not None and self._is_up(address):
                    self._board.observe(address, figures.metrics, at)
            self._after_alerts()
        self._past.store(now)
        return bool(others)

    def _heard(self, event: Event) -> None:
        self._ended.append(event.address)

    def _forget(self, address: str) -> None:
        """The daemon has ended, unless it is back already."""
        if self._is_up(address):
            return
        try:
            self.system.state_of(address)
        except UnknownDaemon:
            self._book.gone(address)
        self._board.gone(address)

    def _is_up(self, address: str) -> bool:
        try:
            return self.system.state_of(address) not in {"stopped", "failed", "created"}
        except UnknownDaemon:
            return False

    def _after_alerts(self) -> None:
        """Tell what is to be told, and wake up when the next hold time ends."""
        if self._board.news:
            with suppress(Refused):  # a full mailbox: the next sample tries again
                self.announce.tell()
        if self._alert_due is not None:
            self._alert_due.cancel()
            self._alert_due = None
        deadline = self._board.deadline
        if deadline is not None:
            self._alert_due = self.system.call_on(self._d9_cell, deadline, self._hold_times)

    def _hold_times(self) -> None:
        self._alert_due = None
        self._board.pass_time(self.clock.monotonic() + 1e-6)
        self._after_alerts()

    # -- what is shown ---------------------------------------------------------------------------

    def _rate(self, address: str) -> float:
        figures = self._book.figures.get(address)
        return figures.rate if figures is not None else 0.0

    def _busiest(self, pattern: str, sort: str) -> list[str]:
        addresses = self.system.addresses(pattern)
        if sort == "address":
            return sorted(addresses)
        key = {"mailbox": "mailbox-depth"}.get(sort, sort)

        def rank(address: str) -> tuple[float, str]:
            figures = self._book.figures.get(address)
            return (-(figures.value(key) or 0.0) if figures is not None else 0.0, address)

        return sorted(addresses, key=rank)

    def _row(self, address: str) -> DaemonRow:
        figures = self._book.figures.get(address)
        metrics = figures.metrics if figures is not None else {}
        return DaemonRow(
            address,
            self.system.state_of(address),
            self.system.metrics_of(address).get("uptime", 0.0),
            metrics.get("handled", 0.0),
            metrics.get("rate", 0.0),
            metrics.get("mailbox-depth", 0.0),
            metrics.get("busy", 0.0),
            metrics.get("handler-p99", 0.0),
            metrics.get("failed", 0.0),
            metrics.get("restarts", 0.0),
        )

    def _node(self) -> NodeFacts:
        states: dict[str, int] = {}
        handled = queued = 0
        for cell in self.system.registry.cells():  # 10,000 in 5 ms; by address it is 100
            state = STATE_NAMES[cell.state]
            states[state] = states.get(state, 0) + 1
            handled += cell.handled
            queued += cell.depth
        alerts = [
            f"{alert.metric} of {address.removeprefix(SCHEME)} is {state.value:g} "
            f"({'above' if alert.rule.above is not None else 'below'} {alert.rule.threshold:g})"
            for alert, address, state in self._board.firing()
        ]
        return NodeFacts(
            self.system.name,
            self.clock.now(),
            self.clock.monotonic() - self._started,
            states,
            int(self._book.ended) + handled,
            self._book.rate,
            queued,
            _dead_letters(self.system),
            alerts,
        )

    def _metric_names(self, pattern: str) -> list[str]:
        """Return the metrics that the daemons that fit have now."""
        fits = Pattern(pattern).matches
        shapes = {each.names: None for address, each in self._book.figures.items() if fits(address)}
        return list(dict.fromkeys(name for names in shapes for name in names))

    def _own_figures(self) -> dict[str, object]:
        figures: dict[str, object] = {
            "samples": self._samples,
            "daemons": len(self._book.figures),
            "history_bytes": self._book.recent.bytes,
            "series": len(self._book.roster.ids),
            "series_summed": self._book.roster.summed,
            "alerts": len(self.alert_rules),
            "served_at": self._server.port,
        }
        if self._past.path is not None:
            figures["disk"] = {"path": str(self._past.path), "trouble": self._past.trouble}
        return figures

    async def _exposition(self, pattern: str = "**") -> str:
        self._sample()
        exposition = Exposition()
        addresses = self.system.addresses(pattern)
        async for address in _breathing([a for a in addresses if not a.startswith(_CLIENTS)]):
            with suppress(UnknownDaemon):
                state = self.system.state_of(address)
                metrics = self.system.metrics_of(address)
                exposition.add_daemon(
                    address,
                    metrics,
                    self.system.metric_kinds_of(address),
                    histograms=self.system.histograms_of(address),
                    is_up=state in {"running", "suspended"},
                )
        labels = {"node": self.system.name}
        exposition.add("dead-letters", "counter", labels, _dead_letters(self.system))
        exposition.add("messages-handled", "counter", labels, self._node().handled)
        return exposition.text()

    # -- the past --------------------------------------------------------------------------------

    async def _points(
        self, name: str, metric: str | None, since: float | None
    ) -> dict[str, list[Point]]:
        """Return the past of one metric of a daemon, or of all of them."""
        self._sample()
        address = self._resolved(name)
        recent = self._book.past(address)
        names = dict.fromkeys([*recent, *await self._past.metrics(address)])
        now = self.clock.now()
        return {
            each: await self._past.points(address, each, recent.get(each, []), since, now)
            for each in self._named(names, metric, address)
        }

    def _resolved(self, name: str) -> str:
        """Return the address meant; one that is no more is taken as it stands."""
        if "*" in name:
            return name
        try:
            return str(self.system.resolve(name))
        except UnknownDaemon:
            if name.startswith(SCHEME) and self._past.knows(name):
                return name
            raise

    @staticmethod
    def _named(names: Iterable[str], metric: str | None, address: str) -> list[str]:
        if metric is None:
            return list(names)
        for name in names:
            if name in {metric, metric.replace("_", "-")}:
                return [name]
        near = nearest(metric, names)
        raise NotFound(
            f"there is no history of {metric!r} of {address}",
            hint=f"did you mean {near}?" if near else "leave metric-name out for all",
        )

    async def _blocking(self, call: Callable[[], Any]) -> Any:
        """Run a blocking call off the loop; in place where time is virtual."""
        return call() if self._is_virtual else await asyncio.to_thread(call)


async def _breathing(addresses: list[str]) -> Any:
    """Yield the addresses, and let others run now and then."""
    for number, address in enumerate(addresses):
        if number % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
        yield address


def _check_size(width: int, limit: int) -> None:
    if not 20 <= width <= 1000:
        raise BadPayload(f"width={width}", hint="20 to 1000", at="width")
    if limit < 0:
        raise BadPayload(f"limit={limit}", hint="0 or more", at="limit")


def _dead_letters(system: Any) -> int:
    letters = getattr(system, "dead_letters", None)
    return int(getattr(letters, "total", 0))


def _refusal_to_listen(error: OSError, host: str, port: int) -> Refused:
    text = f"{host}:{port}: {os.strerror(error.errno or errno.EIO)}"
    if error.errno == errno.EADDRINUSE:
        return AddressInUse(text, hint="port=0 takes a free one", at="port")
    if error.errno in {errno.EACCES, errno.EPERM}:
        return PermissionRefused(text, hint="a port above 1023 needs no privilege", at="port")
    return BadPayload(text, at="host")
