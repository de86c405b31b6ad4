"""A daemon's own metrics: what they are called, what kind they are, and that they last."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dan9
from dan9.base.errors import BadPayload, Conflict, Corrupt, NotSupported
from dan9.base.histogram import Histogram
from dan9.kernel import metrics
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system
from dan9.testing.memory_store import MemoryStore


class Shop(Daemon, type="shop"):
    """Counts what it does."""

    sold: int = 0

    async def on_start(self) -> None:
        """Metrics may be set before the first message."""
        dan9.gauge("shelves", 3)

    @on
    def sell(self, took: float = 0.5, by: float = 1) -> None:
        """Use each kind once."""
        self.sold += 1
        dan9.count("sales", by)
        dan9.gauge("queue_length", 7 - self.sold)
        dan9.observe("service-time", took)

    @on
    def use(self, kind: str, name: str, value: float) -> None:
        """Use a metric as one kind or another."""
        {"count": dan9.count, "gauge": dan9.gauge, "observe": dan9.observe}[kind](name, value)

    @on(thread=True)
    def elsewhere(self) -> None:
        """Count in a worker thread."""
        dan9.count("sales")


def test_each_kind_is_shown_by_metrics() -> None:
    """A counter adds up, a gauge is the last value, a histogram its percentiles."""

    async def main() -> None:
        async with system() as sim:
            shop = await sim.spawn(Shop, "s")
            for took in (0.1, 0.2, 4.0):
                await shop.sell(took, by=2)
            found = sim.metrics_of("s")
            assert (found["sales"], found["queue-length"], found["shelves"]) == (6, 4, 3)
            assert (found["service-time-total"], found["service-time-sum"]) == (3, 4.3)
            assert 0.17 <= found["service-time-p50"] <= 0.25
            assert found["service-time-p99"] == 4.0
            assert sim.metric_kinds_of("s") == {
                "shelves": "gauge",
                "sales": "counter",
                "queue-length": "gauge",
                "service-time": "histogram",
            }
            assert await sim.ask("s", "get-metric", name="service-time-total") == 3
            assert sim.histograms_of("s")["service-time"].count == 3
            await shop.elsewhere()
            assert sim.metrics_of("s")["sales"] == 7

    run(main)


def test_all_kinds_are_saved_beside_the_state() -> None:
    """A restart keeps values, kinds and buckets."""

    async def main() -> None:
        async with system(store=MemoryStore()) as sim:
            shop = await sim.spawn(Shop, "s")
            for took in (0.1, 4.0):
                await shop.sell(took)
            before, kinds = sim.metrics_of("s"), sim.metric_kinds_of("s")
            await sim.ask("s", "checkpoint")
            await sim.ask("s", "restart")
            after = sim.metrics_of("s")
            own = {"sales", "queue-length", "shelves"}
            own |= {f"service-time-{part}" for part in ("p50", "p99", "sum", "total")}
            assert {name: after[name] for name in own} == {name: before[name] for name in own}
            assert sim.metric_kinds_of("s") == kinds
            await shop.sell(0.1)
            assert sim.metrics_of("s")["service-time-total"] == 3

    run(main)


@pytest.mark.parametrize(
    ("kind", "name", "value", "error"),
    [
        ("count", "jobs", -1, BadPayload),
        ("gauge", "handled", 1, BadPayload),
        ("gauge", "mailbox_depth", 1, BadPayload),
        ("count", "", 1, BadPayload),
        ("count", "two words", 1, BadPayload),
        ("gauge", "sales", 1, Conflict),
        ("observe", "sales", 1, Conflict),
        ("count", "shelves", 1, Conflict),
        ("gauge", "service-time-p50", 1, Conflict),
        ("count", "service-time-total", 1, Conflict),
    ],
)
def test_what_cannot_be_is_refused(
    kind: str, name: str, value: float, error: type[Exception]
) -> None:
    """By its name, and nothing is changed."""

    async def main() -> None:
        async with system() as sim:
            shop = await sim.spawn(Shop, "s")
            await shop.sell()
            before = sim.metric_kinds_of("s")
            with pytest.raises(error):
                await shop.use(kind, name, value)
            assert sim.metric_kinds_of("s") == before

    run(main)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "much", None])
def test_what_is_no_number_is_refused(value: Any) -> None:
    """Whatever the kind."""

    async def main() -> None:
        async with system() as sim:
            await sim.spawn(Shop, "s")
            for call in (metrics.add, metrics.note, metrics.put):
                with pytest.raises(BadPayload, match="cannot be"):
                    call(sim.cell_of("s"), "x", value)

    run(main)


@pytest.mark.parametrize("call", [dan9.count, dan9.gauge, dan9.observe])
def test_outside_of_a_daemon_there_is_nobody_to_count_for(call: Any) -> None:
    """The hint says what to do instead."""
    with pytest.raises(NotSupported, match="set-metric"):
        call("x", 1)


def test_set_metric_sets_gauges_and_sets_counters_right() -> None:
    """From outside too; a histogram and the kernel's own are not to be set."""

    async def main() -> None:
        async with system() as sim:
            shop = await sim.spawn(Shop, "s")
            await shop.sell()
            assert await sim.ask("s", "set-metric", name="sales", value=40) == 40
            await shop.sell()
            assert sim.metrics_of("s")["sales"] == 41
            await sim.ask("s", "set-metric", name="mood", value=-2.5)
            assert sim.metric_kinds_of("s")["mood"] == "gauge"
            for name in ("service-time", "handled"):
                with pytest.raises(BadPayload):
                    await sim.ask("s", "set-metric", name=name, value=1)

    run(main)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgspec.msgpack.encode(5),
        msgspec.msgpack.encode({"values": {"a": "b"}}),
        msgspec.msgpack.encode({"values": {}, "histograms": {"a": [1, 2]}}),
        msgspec.msgpack.encode({"values": {}, "histograms": {"a": [1, 2, 3, 0, {"x": 1}]}}),
        msgspec.msgpack.encode({"values": {}, "histograms": {"a": [1, 2, 3, 0, {"4": -1}]}}),
        msgspec.msgpack.encode({"values": {}, "histograms": 3}),
    ],
)
def test_metrics_that_were_not_saved_so_are_corrupt(data: bytes) -> None:
    """They are never taken for none."""

    async def main() -> None:
        async with system() as sim:
            await sim.spawn(Shop, "s")
            with pytest.raises(Corrupt):
                metrics.unpack(sim.cell_of("s"), data)

    run(main)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50))
def test_a_histogram_s_form_and_back(values: list[float]) -> None:
    """Nothing is lost, through JSON too."""
    histogram = Histogram()
    histogram.extend(values)
    form = msgspec.json.decode(msgspec.json.encode(histogram.form()))
    again = Histogram.of_form(form)
    assert again.buckets() == histogram.buckets()
    assert (again.count, again.sum) == (histogram.count, histogram.sum)
    assert again.percentile(0.9) == histogram.percentile(0.9)


def test_changed_since_sees_what_no_message_tells() -> None:
    """A metric set, a histogram filled, a depth or state changed; and only once a mark."""

    async def main() -> None:
        async with system() as sim:
            await sim.spawn(Shop, "s")
            await sim.spawn(Shop, "t")
            mark, _ = sim.changed_since(0)
            same, none = sim.changed_since(mark)
            assert none == []
            await sim.ask("s", "suspend")
            later, changed = sim.changed_since(same)
            assert changed == ["d9://shop/default/s"]
            metrics.note(sim.cell_of("t"), "mood", 1)
            _, changed = sim.changed_since(later)
            assert changed == ["d9://shop/default/t"]
            assert sorted(sim.changed_since(mark)[1]) == [
                "d9://shop/default/s",
                "d9://shop/default/t",
            ]
            before = len(sim._changed_at)
            await sim.spawn(Shop, "u", restart="temporary")
            sim.changed_since(0)
            await sim.kill("u")
            sim.changed_since(0)
            assert len(sim._changed_at) == before

    run(main)
