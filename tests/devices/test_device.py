"""Virtual devices: drivers, recordings, replays; sensors and their calibration."""

import json

import pytest

from dan9.base.errors import BadPayload, Corrupt, DaemonFailed, NotFound
from dan9.devices.device import VirtualDevice
from dan9.devices.driver import Event
from dan9.devices.sensor import Sensor
from dan9.egregore import Swarm
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system


class Lamp:
    """A driver: keeps what it was told and answers."""

    def __init__(self):
        self.told = []

    def handle(self, event: Event):
        self.told.append((event.type, event.data))
        return f"{event.type} done"


class SlowLamp(Lamp):
    async def handle(self, event: Event):
        return super().handle(event)


def in_system(test):
    """Run `test(system)` in virtual time."""

    async def main():
        async with system(copy=False) as world:
            await test(world)

    run(main)


def test_a_device_without_a_driver_keeps_what_happens():
    """Events are counted and remembered, and answered with nothing."""

    async def test(world):
        device = await world.spawn(VirtualDevice, "d1")
        assert await device.event("press", {"key": "a"}) is None
        await device.event("release")
        assert [one["type"] for one in await device.history()] == ["press", "release"]
        assert await device.history(0) == []
        status = await world.ask("d1", "status")
        assert (status["events"], status["driver"], status["kind"]) == (2, "", "virtual")
        with pytest.raises(BadPayload):
            await device.history(-1)

    in_system(test)


@pytest.mark.parametrize("kind", [Lamp, SlowLamp])
def test_a_driver_handles_and_answers(kind):
    """What a driver returns, sync or async, is the reply; detached, it hears nothing more."""

    async def test(world):
        device = await world.spawn(VirtualDevice, "d1")
        lamp = kind()
        assert await device.attach(lamp) == kind.__name__
        assert await device.event("on", {"level": 3}) == "on done"
        assert lamp.told == [("on", {"level": 3})]
        assert await device.detach() == kind.__name__
        assert await device.detach() == ""
        await device.event("off")
        assert len(lamp.told) == 1

    in_system(test)


def test_a_driver_may_be_named():
    """From outside a driver is `module:Class`; what is none is refused."""

    async def test(world):
        device = await world.spawn(VirtualDevice, "d1", driver="tests.devices.drivers:Echo")
        assert await device.event("x", {"a": 1}) == {"a": 1}
        for wrong, error in (
            ("nonsense", BadPayload),
            (":x", BadPayload),
            ("no.such.module:X", NotFound),
            ("tests.devices.drivers:Missing", NotFound),
            ("tests.devices.drivers:NoDriver", BadPayload),
            ("tests.devices.drivers:NeedsMore", BadPayload),
            (3, BadPayload),
            (object(), BadPayload),
        ):
            with pytest.raises(error):
                await device.attach(wrong)
        assert await device.event("still there") == {}

    in_system(test)


def test_a_recording_is_replayed_at_its_speed(tmp_path):
    """A replay lets the same events happen again, after the same times, or at once."""
    path = str(tmp_path / "r.jsonl")

    async def test(world):
        device = await world.spawn(VirtualDevice, "d1")
        await device.event("before")
        assert await device.record(path) == {"recording": path, "events": 0}
        await device.event("a", {"n": 1})
        await world.sleep(2.0)
        await device.event("b")
        assert await device.record() == {"recording": path, "events": 2}
        await device.event("after")
        lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
        assert lines[0]["device"] == "d9://device/default/d1"
        assert [(one["t"], one["type"]) for one in lines[1:]] == [(0, "a"), (2, "b")]

        other = await world.spawn(VirtualDevice, "d2")
        lamp = Lamp()
        await other.attach(lamp)
        before = world.clock.monotonic()
        assert (await other.replay(path, 2.0))["events"] == 2
        assert world.clock.monotonic() - before == pytest.approx(1.0)
        assert lamp.told == [("a", {"n": 1}), ("b", {})]
        await other.replay(path)
        assert world.clock.monotonic() - before == pytest.approx(1.0)

    in_system(test)


def test_recordings_that_are_none_are_refused(tmp_path):
    """Missing, foreign and torn recordings are named; a half line at the end is no harm."""
    good = '{"recording":1,"device":"d","started":0}\n{"t":0,"type":"a","data":{}}\n'

    async def test(world):
        device = await world.spawn(VirtualDevice, "d1")
        with pytest.raises(NotFound):
            await device.record()
        with pytest.raises(NotFound):
            await device.record(str(tmp_path / "no" / "such" / "folder"))
        with pytest.raises(NotFound):
            await device.replay(str(tmp_path / "none"))
        with pytest.raises(BadPayload):
            await device.replay("x", 0.0)
        for text in ("", "hello\n", '{"recording": 2}\n', "\xff", good + "[]\n", good + "{}\n"):
            (tmp_path / "bad").write_text(text, "latin-1")
            with pytest.raises(Corrupt):
                await device.replay(str(tmp_path / "bad"))
        (tmp_path / "torn").write_text(good + '{"t":1,"ty')
        assert (await device.replay(str(tmp_path / "torn")))["events"] == 1

    in_system(test)


def test_a_sensor_reads_its_source_calibrated():
    """A value is the raw one times gain plus offset, with unit and time."""

    async def test(world):
        sensor = await world.spawn(Sensor, "s1", unit="°C", source=20.0)
        assert (await sensor.read())["value"] == 20.0
        await sensor.calibrate(gain=1.8, offset=32, precision=1, note="Fahrenheit")
        reading = await sensor.read()
        assert (reading["value"], reading["unit"]) == (68.0, "°C")
        assert reading["when"] == world.clock.now()
        assert (await sensor.history())[-1]["type"] == "reading"
        for wrong in (
            {"gain": "much"},
            {"offset": True},
            {"gain": float("inf")},
            {"gain": 10**400},
            {"offset": [1]},
        ):
            with pytest.raises(BadPayload):
                await sensor.calibrate(**wrong)
        assert (await sensor.read())["value"] == 68.0
        # A shell writes text; it is the number that it says.
        assert await sensor.calibrate(gain="2", precision="0") == {
            "gain": 2.0,
            "offset": 32.0,
            "precision": 0,
            "note": "Fahrenheit",
        }
        assert (await sensor.read())["value"] == 72.0

    in_system(test)


def test_a_sensor_takes_files_daemons_and_callables(tmp_path):
    """Sources are numbers, files, other daemons and, from Python, what can be called."""
    (tmp_path / "temp").write_text("42.5\n")
    (tmp_path / "junk").write_text("warm")

    class Weather(Daemon, type="weather"):
        @on
        def outside(self) -> float:
            return -3.5

        @on
        def report(self) -> dict[str, float]:
            return {"value": 7.0}

    async def later():
        return 5

    async def test(world):
        await world.spawn(Weather, "w1")
        sensor = await world.spawn(Sensor, "s1")
        with pytest.raises(NotFound, match="no source"):
            await sensor.read()
        for source, value in (
            (f"file:{tmp_path}/temp", 42.5),
            ("ask:w1 outside", -3.5),
            ("ask:w1 report", 7.0),
            (lambda: 1.25, 1.25),
            (later, 5.0),
            ("12.5", 12.5),
            (3, 3.0),
        ):
            await sensor.set_source(source)
            assert (await sensor.read())["value"] == value
        for source, error in (
            (f"file:{tmp_path}/none", NotFound),
            (f"file:{tmp_path}/junk", Corrupt),
            ("ask:nobody outside", LookupError),
            (lambda: None, Corrupt),
        ):
            await sensor.set_source(source)
            with pytest.raises(error):
                await sensor.read()
        for wrong in ("", "file:", "ask:", "ask:w1", "http://x", True, float("nan"), None, []):
            with pytest.raises(BadPayload):
                await sensor.set_source(wrong)

    in_system(test)


def test_devices_are_spoken_to_from_outside():
    """By name, with plain data, a device answers as a daemon of any kind does."""

    async def main():
        async with system() as world:
            await world.spawn(Sensor, "s1", source=4.0)
            await world.ask("s1", "calibrate", precision="high")
            assert (await world.ask("s1", "read"))["value"] == 4.0
            assert await world.ask("s1", "event", event_type="x", data={"a": [1]}) is None
            assert await world.ask("s1", "set-source", source="5")

    run(main)


def test_what_is_no_file_is_no_recording(tmp_path):
    """A folder and a device are refused: reading /dev/zero would never end."""

    async def test(world):
        device = await world.spawn(VirtualDevice, "d1")
        for path in (str(tmp_path), "/dev/zero"):
            with pytest.raises(NotFound, match="no file"):
                await device.replay(path)

    in_system(test)


def test_devices_are_members_of_an_egregore():
    """A group makes its devices, heals them, and speaks to them at once; others join it."""

    async def main():
        async with system() as world:
            lamps = await world.spawn(Swarm, "lamps", member=VirtualDevice, count=3)
            heat = await world.spawn(Sensor, "heat", source=20.0)
            await lamps.add(heat)
            assert await lamps.broadcast("event", {"event_type": "on"}) == 4
            for member in (await world.ask("lamps", "status"))["members"]:
                past = await world.ask(member, "history")
                assert [one["type"] for one in past] == ["on"]
            attached = {"driver": "tests.devices.drivers:Echo"}
            await lamps.broadcast("attach", attached, gather=True)
            told = await lamps.broadcast(
                "event", {"event_type": "dim", "data": {"level": 3}}, gather=True
            )
            assert list(told["replies"].values()) == [{"level": 3}] * 4
            with pytest.raises(DaemonFailed):
                await world.ask(str(heat), "attach", driver="tests.devices.drivers:Broken")
                await world.ask(str(heat), "event", event_type="x")
            await world.sleep("10s")
            assert await lamps.broadcast("event", {"event_type": "off"}) == 4

    run(main)
