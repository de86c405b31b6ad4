"""The monitoring daemon: now, before, alerts, Prometheus."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dan9.base.errors import (
    AddressInUse,
    BadAddress,
    BadConfig,
    BadPayload,
    Dan9Error,
    NotFound,
    UnknownDaemon,
)
from dan9.daemons.historyfile import HistoryFile
from dan9.daemons.logging import Logging
from dan9.daemons.monitoring import Monitoring
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Worker(Daemon, type="worker"):
    """Does something, so that there is something to see."""

    @on
    def work(self, amount: float = 1.0) -> None:
        self._d9_set_metric("level", amount)
        self._d9_count("done-total")


class Watcher(Daemon, type="watcher"):
    """Is told of alerts."""

    heard: list[dict[str, Any]] = []

    @on
    def alert(self, /, **facts: Any) -> None:
        self.heard.append({**facts, "at": round(self.clock.monotonic(), 3)})

    @on
    def told(self) -> list[dict[str, Any]]:
        return self.heard


async def watched(sim: System, **config: Any) -> tuple[Monitoring, Worker]:
    """Return monitoring and somebody to watch."""
    monitoring = await sim.spawn(Monitoring, "monitoring", group="system", **config)
    return monitoring, await sim.spawn(Worker, "w")


async def busy(worker: Worker, seconds: int, rate: int = 10) -> None:
    """Let the worker work so many times a second."""
    for _ in range(seconds * rate):
        await asyncio.sleep(1 / rate)
        await worker.work()


def test_a_snapshot_has_the_node_and_every_daemon() -> None:
    """Counts, states, metrics and rates."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            await busy(worker, 5)
            shot = await monitoring.snapshot()
            assert shot["time"] == sim.clock.now()
            assert shot["node"]["name"] == "test"
            assert shot["node"]["states"]["running"] == shot["node"]["daemons"]
            assert shot["node"]["handled"] >= 50
            found = shot["daemons"]["d9://worker/default/w"]
            assert (found["state"], found["handled"], found["work-count"]) == ("running", 50, 50)
            assert found["level"] == 1.0
            assert 9 <= found["rate"] <= 11
            some = await monitoring.snapshot("d9://worker/**", limit=0)
            assert (some["daemons"], some["omitted"]) == ({}, 1)

    run(main)


def test_history_has_a_point_a_second_while_something_changes() -> None:
    """And none while nothing does, but the one that says so."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            begin = sim.clock.now()
            await busy(worker, 5)
            await asyncio.sleep(200)
            history = await monitoring.history("w", "handled")
            points = [(round(when - begin, 3), value) for when, value in history["handled"]]
            assert [value for _, value in points[:5]] == [9.0, 19.0, 29.0, 39.0, 49.0]
            assert points[-1][1] == 50.0
            assert len(points) <= 8
            rates = (await monitoring.history("w", "rate"))["rate"]
            assert rates[-1][1] == 0.0
            assert set(await monitoring.history("w")) >= {"handled", "rate", "busy", "level"}
            later = await monitoring.history("w", "handled", since=begin + 4.5)
            assert all(when >= begin + 4.5 for when, _ in later["handled"])
            assert len((await monitoring.history("w", "handled", limit=2))["handled"]) == 2

    run(main)


def test_the_rate_of_who_wakes_up_is_that_of_the_moment() -> None:
    """Not of the hour that it had been silent; and it is zero when that is over."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            other = await sim.spawn(Worker, "other")
            for second in range(400):
                await other.work()  # the node is not idle meanwhile
                for _ in range(10 if 300 <= second < 303 else 0):
                    await worker.work()
                await asyncio.sleep(1)
            rates = [rate for _, rate in (await monitoring.history("w", "rate"))["rate"]]
            assert rates[-4:] == [10.0, 10.0, 10.0, 0.0]
            await asyncio.sleep(20)
            assert (await monitoring.snapshot())["node"]["rate"] == 0.0  # and no residue

    run(main)


def test_aggregate_is_exact() -> None:
    """Over the values of a metric of one's own."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            for amount in (3.0, 1.0, 2.0, 4.0):
                await worker.work(amount)
                await asyncio.sleep(1)
            assert await monitoring.aggregate("w", "level") == {
                "count": 4,
                "sum": 10.0,
                "average": 2.5,
                "min": 1.0,
                "max": 4.0,
                "p50": 2.0,
                "p95": 4.0,
                "p99": 4.0,
            }
            nothing = await monitoring.aggregate("w", "level", since=sim.clock.now() + 100)
            assert (nothing["count"], nothing["average"]) == (0, None)

    run(main)


def test_what_is_asked_wrongly_is_refused() -> None:
    """Unknown daemons and metrics, sizes that are none."""

    async def main() -> None:
        async with system() as sim:
            await watched(sim)
            for type_, payload, error in (
                ("history", {"daemon-name": "nobody"}, UnknownDaemon),
                ("history", {"daemon-name": "d9://no/such/daemon"}, UnknownDaemon),
                ("history", {"daemon-name": "w", "metric-name": "no"}, NotFound),
                ("history", {"daemon-name": "w", "limit": 0}, BadPayload),
                ("history", {"daemon-name": "w", "since": "once"}, BadPayload),
                ("aggregate", {"daemon-name": "w", "metric-name": "no"}, NotFound),
                ("metrics-table", {"metric-name": "no"}, NotFound),
                ("dashboard", {"width": 3}, BadPayload),
                ("dashboard", {"limit": -1}, BadPayload),
                ("dashboard", {"pattern": "!"}, BadAddress),
                ("snapshot", {"limit": -1}, BadPayload),
                ("alert", {"metric-name": "rate"}, BadPayload),
                ("alert", {"metric-name": "", "above": 1}, BadPayload),
                ("alert", {"metric-name": "rate", "above": 1, "clear": 2}, BadPayload),
                ("alert", {"metric-name": "rate", "above": 1, "daemon-name": "x"}, UnknownDaemon),
                ("alert", {"metric-name": "rate", "above": 1, "for": "long"}, BadPayload),
                ("unalert", {"alert-id": "a9"}, NotFound),
                ("serve", {"host": "0.0.0.0"}, BadPayload),
                ("serve", {"host": "example.org"}, BadPayload),
                ("serve", {"port": 99999}, BadPayload),
            ):
                with pytest.raises(error):
                    await sim.ask("monitoring", type_, payload=payload)
            assert (await sim.ask("monitoring", "status"))["failed"] == 0

    run(main)


@pytest.mark.parametrize(
    "config", [{"collect_interval": 0.0}, {"history_size": 0}, {"max_series": -1}]
)
def test_a_wrong_configuration_is_refused(config: dict[str, Any]) -> None:
    """At the start."""

    async def main() -> None:
        async with system() as sim:
            with pytest.raises((BadConfig, Dan9Error)):
                await watched(sim, **config)

    run(main)


def test_the_dashboard_and_the_table_are_text() -> None:
    """The busiest first."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            await busy(worker, 3)
            lines = (await monitoring.dashboard(width=120)).splitlines()
            assert lines[0].startswith("test  2000-01-01T00:00:03.")
            assert lines[4].split()[:3] == ["worker/default/w", "running", "3s"]
            assert all(len(line) <= 120 for line in lines)
            assert "\x1b[" in await monitoring.dashboard(color=True)
            assert "and" in (await monitoring.dashboard(limit=1)).splitlines()[-1]
            table = (await monitoring.metrics_table("handled")).splitlines()
            assert table[0].split() == ["daemon", "handled"]
            assert table[1].split() == ["worker/default/w", "30"]

    run(main)


def test_an_alert_fires_after_its_hold_time_and_is_cleared_after_it() -> None:
    """The target is told twice, to the second, with all the facts."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            watcher = await sim.spawn(Watcher, "watcher")
            alert_id = await sim.ask(
                "monitoring",
                "alert",
                payload={
                    "metric-name": "level",
                    "above": 100,
                    "for": "30s",
                    "target": "watcher",
                    "daemon-name": "w",
                },
            )
            await worker.work(150.0)
            await asyncio.sleep(20)
            assert await watcher.told() == []
            states = (await monitoring.alerts())[0]["states"]
            assert states == {"d9://worker/default/w": "rising"}
            await asyncio.sleep(20)
            [fired] = await watcher.told()
            assert fired["at"] == 31.0
            assert fired["change"] == "firing"
            assert (fired["alert_id"], fired["daemon"]) == (alert_id, "d9://worker/default/w")
            assert (fired["metric"], fired["value"], fired["threshold"]) == ("level", 150.0, 100)
            assert "ALERT  level of worker/default/w is 150" in await monitoring.dashboard()
            await worker.work(95.0)
            await asyncio.sleep(60)
            assert len(await watcher.told()) == 1
            await worker.work(80.0)
            await asyncio.sleep(60)
            assert [entry["change"] for entry in await watcher.told()] == ["firing", "cleared"]
            assert (await monitoring.alerts())[0]["states"] == {}

    run(main)


def test_an_alert_holds_at_once_for_what_is_beyond_already() -> None:
    """And is cleared when its daemon is gone; a dropped alert says nothing more."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            watcher = await sim.spawn(Watcher, "watcher")
            await worker.work(5.0)
            await asyncio.sleep(2)
            first = await monitoring.alert("level", above=1.0, target="watcher")
            second = await monitoring.alert("level", above=1.0, target="watcher")
            await asyncio.sleep(0.1)
            assert [entry["alert_id"] for entry in await watcher.told()] == [first, second]
            assert await monitoring.unalert(second) == second
            await sim.ask("w", "stop")
            await asyncio.sleep(20)
            told = await watcher.told()
            assert [(e["alert_id"], e["change"]) for e in told[2:]] == [(first, "cleared")]

    run(main)


def test_an_alert_whose_target_does_not_know_it_harms_nobody() -> None:
    """Monitoring goes on."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            await monitoring.alert("level", above=1.0, target="w")
            await monitoring.alert("level", above=1.0, target="nobody")
            await worker.work(5.0)
            await asyncio.sleep(5)
            status = await sim.ask("monitoring", "status")
            assert (status["restarts"], status["alerts"]) == (0, 2)

    run(main)


def test_an_alert_for_who_is_gone_is_logged_and_a_misspelt_one_is_warned_of() -> None:
    """Whoever asks from the command line is gone at once; names may have underscores."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            log = await sim.spawn(Logging, "logging", group="system")
            await worker.work(5.0)
            gone = "d9://client/test/99"
            alert = await monitoring.alert("work_count", above=1.0, daemon_name="w", target=gone)
            await monitoring.alert("lvl", above=1.0, daemon_name="w", target="w")
            await worker.work(5.0)
            await asyncio.sleep(5)
            texts = [entry["text"] for entry in await log.display("info", "monitoring")]
            assert texts[0] == (
                "alert a2: d9://worker/default/w has no metric 'lvl' so far; did you mean level?"
            )
            assert texts[1] == f"alert {alert}: work-count of d9://worker/default/w is 2 (firing)"
            assert texts[2].startswith(f"alert {alert} is only logged from now on: ")
            assert len(texts) == 3
            assert (await monitoring.alerts())[0]["target"] == ""

    run(main)


def test_alerts_are_kept_over_a_restart_but_not_for_connections_of_before() -> None:
    """Another connection may have that number now."""

    async def main() -> None:
        async with system(store=MemoryStore()) as sim:
            monitoring, worker = await watched(sim)
            watcher = await sim.spawn(Watcher, "watcher")
            await monitoring.alert("level", above=1.0, target="watcher")
            await monitoring.alert("level", above=1.0, target="d9://client/test/99")
            await sim.ask("monitoring", "restart")
            await asyncio.sleep(1)
            assert [row["target"] for row in await monitoring.alerts()] == ["watcher", ""]
            await worker.work(5.0)
            await asyncio.sleep(5)
            assert [entry["alert_id"] for entry in await watcher.told()] == ["a1"]
            assert await monitoring.alert("level", above=1.0, target="watcher") == "a3"

    run(main)


def test_connections_have_no_past_and_no_series() -> None:
    """Each command of the command line is one."""

    class Client(Daemon, type="client"):
        @on
        def work(self) -> None:
            pass

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            client = await sim.spawn(Client, "c")
            await client.work()
            await worker.work()
            await asyncio.sleep(2)
            assert "client" not in await monitoring.prometheus()
            assert await monitoring.history("c") == {}
            assert "d9://client/default/c" in (await monitoring.snapshot())["daemons"]

    run(main)


def test_names_that_are_nearly_right_are_met_half_way() -> None:
    """With the one that was meant."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            await worker.work()
            for ask in (
                monitoring.history("w", "lvl"),
                monitoring.aggregate("w", "lvl"),
                monitoring.metrics_table("lvl"),
            ):
                with pytest.raises(NotFound) as caught:
                    await ask
                assert caught.value.hint == "did you mean level?"

    run(main)


def test_an_idle_node_is_sampled_ever_more_seldom() -> None:
    """At most once in ten intervals; and at once again when somebody asks."""

    async def main() -> None:
        async with system() as sim:
            monitoring, _ = await watched(sim)
            await asyncio.sleep(1000)
            samples = (await sim.ask("monitoring", "status"))["samples"]
            assert samples <= 110
            await monitoring.snapshot()
            assert (await sim.ask("monitoring", "status"))["samples"] == samples + 1

    run(main)


def test_history_is_kept_across_restarts(tmp_path: Path) -> None:
    """Ten-second steps of a day, minutes of a month, under the same names."""

    async def live(clock: VirtualClock, hours: float, amount: float) -> dict[str, Any]:
        async with system(state_dir=tmp_path, clock=clock) as sim:
            monitoring, worker = await watched(sim)
            for _ in range(int(hours * 60)):
                await worker.work(amount)
                await asyncio.sleep(60)
            begin = clock.now() - 365 * 86400
            return await monitoring.history("w", "level", since=begin, limit=100_000)

    first = VirtualClock(1_700_000_000.0)
    run(lambda: live(first, 2, 1.0), clock=first)
    second = VirtualClock(first.now() + 3600)
    points = run(lambda: live(second, 1, 2.0), clock=second)["level"]
    assert points == sorted(points)
    old = [when for when, value in points if value == 1.0]
    new = [when for when, value in points if value == 2.0]
    assert old[0] < 1_700_000_100
    assert len(old) >= 110
    assert len(new) >= 55
    assert max(old) < first.now() <= min(new)


def test_a_daemon_that_is_gone_still_has_a_past() -> None:
    """By its whole address."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            temporary = await sim.spawn(Worker, "gone", restart="temporary")
            await temporary.work(7.0)
            await worker.work(1.0)
            await asyncio.sleep(2)
            await sim.ask("gone", "stop")
            await asyncio.sleep(10)
            past = await monitoring.history("d9://worker/default/gone", "level")
            assert [value for _, value in past["level"]][-1] == 7.0

    run(main)


def test_a_history_that_cannot_be_opened_is_said_and_monitoring_goes_on(tmp_path: Path) -> None:
    """There is memory still."""
    (tmp_path / "history.db").mkdir()

    async def main() -> None:
        async with system(state_dir=tmp_path) as sim:
            monitoring, worker = await watched(sim)
            await busy(worker, 2)
            assert (await monitoring.history("w", "handled"))["handled"]

    run(main)


def test_a_history_that_cannot_be_written_is_said_once_and_when_it_can_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs curves; nothing stops, and series that were new stay to be written."""
    write = HistoryFile.write
    is_full = True

    def refuse(self: HistoryFile, *parts: Any) -> None:
        if is_full:
            raise sqlite3.OperationalError("database or disk is full")
        write(self, *parts)

    monkeypatch.setattr(HistoryFile, "write", refuse)

    async def main() -> None:
        nonlocal is_full
        async with system(state_dir=tmp_path) as sim:
            monitoring, worker = await watched(sim)
            log = await sim.spawn(Logging, "logging", group="system")
            for minute in range(40):
                is_full = minute < 20
                await worker.work()
                await asyncio.sleep(60)
                if minute == 19:
                    status = await sim.ask("monitoring", "status")
                    assert "disk is full" in status["disk"]["trouble"]
            said = [(e["level"], e["text"]) for e in await log.display("warning", "monitoring")]
            assert said == [
                ("error", "the history is not being written: database or disk is full"),
                ("warning", "the history is being written again"),
            ]
            history = await monitoring.history("w", "work-count", since=sim.clock.now() - 1100)
            assert len(history["work-count"]) >= 15
            assert (await sim.ask("monitoring", "status"))["restarts"] == 0

    run(main)


def test_prometheus_text_is_what_the_parser_accepts() -> None:
    """Every daemon, and the node."""

    async def main() -> None:
        async with system() as sim:
            monitoring, worker = await watched(sim)
            await busy(worker, 1)
            text = await monitoring.prometheus()
            families = {f.name: f for f in text_string_to_metric_families(text)}
            handled = {s.labels["name"]: s.value for s in families["dan9_handled"].samples}
            assert handled["w"] == 10.0
            assert families["dan9_done"].type == "counter"
            assert families["dan9_level"].type == "gauge"
            assert {s.value for s in families["dan9_up"].samples} == {1.0}
            only = await monitoring.prometheus("d9://worker/**")
            assert "monitoring" not in only.replace("dan9_", "")

    run(main)


async def fetch(port: int, request: bytes) -> tuple[bytes, bytes]:
    """Send bytes, return the status line and the body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0], body


def test_metrics_are_served_over_http_on_request() -> None:
    """On the loopback; what is not asked properly gets the status that says so."""

    async def main() -> None:
        async with system(clock=None) as sim:
            monitoring, worker = await watched(sim)
            await worker.work()
            reply = await monitoring.serve()
            port = reply["port"]
            assert reply["url"] == f"http://127.0.0.1:{port}/metrics"
            assert (await monitoring.serve())["port"] == port
            status, body = await fetch(port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert status == b"HTTP/1.1 200 OK"
            names = {f.name for f in text_string_to_metric_families(body.decode())}
            assert "dan9_handled" in names
            assert (await fetch(port, b"HEAD /metrics HTTP/1.0\r\n\r\n")) == (status, b"")
            for request, code in (
                (b"GET / HTTP/1.1\r\n\r\n", b"404"),
                (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
                (b"nonsense\r\n\r\n", b"400"),
                (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", b"431"),
            ):
                status, _ = await fetch(port, request)
                assert code in status
            assert await monitoring.unserve()
            assert not await monitoring.unserve()
            with pytest.raises(ConnectionRefusedError):
                await fetch(port, b"")

    run(main, real=True)


def test_a_port_that_is_taken_is_refused_by_name() -> None:
    """With what to do."""

    async def main() -> None:
        async with system(clock=None) as sim:
            monitoring, _ = await watched(sim)
            taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
            port = taken.sockets[0].getsockname()[1]
            with pytest.raises(AddressInUse) as caught:
                await monitoring.serve(port)
            assert caught.value.hint
            taken.close()
            await taken.wait_closed()

    run(main, real=True)


def test_status_is_its_own_or_another_s() -> None:
    """With `daemon-name`, the status of that daemon."""

    async def main() -> None:
        async with system() as sim:
            _, worker = await watched(sim)
            await worker.work()
            own = await sim.ask("monitoring", "status")
            assert own["name"] == "monitoring"
            other = await sim.ask("monitoring", "status", daemon_name="w")
            assert (other["name"], other["handled"]) == ("w", 1)
            with pytest.raises(UnknownDaemon):
                await sim.ask("monitoring", "status", daemon_name="nobody")

    run(main)
