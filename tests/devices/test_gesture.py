"""The gesture device: points in, intents and shapes out, by message, recording and live."""

import asyncio
import math
import os
import struct

import pytest

from benchmarks.stroke_data import SHAPES, users
from dan9.base.errors import BadPayload, NotFound
from dan9.devices.gesture import GestureDevice
from dan9.testing import run, system

HEADER = "N: pad\nA: 00 0 6000 0 0 60\nA: 01 0 4000 0 0 60\n"


def with_pad(test, **config):
    """Run `test(system, pad)` in virtual time."""

    async def main():
        async with system(copy=False) as world:
            await test(world, await world.spawn(GestureDevice, "pad", **config))

    run(main)


async def draw(pad, points, t=0.0, hz=100, pointer=0):
    """Draw points at a rate and lift; return the time after."""
    for x, y in points:
        await pad.record(float(x), float(y), 1.0, t=t, pointer=pointer)
        t += 1 / hz
    await pad.record(*map(float, points[-1]), 0.0, t=t, pointer=pointer, contact=False)
    return t


def line(x0, y0, x1, y1, steps=20):
    """Return points along a line."""
    return [(x0 + (x1 - x0) * n / steps, y0 + (y1 - y0) * n / steps) for n in range(steps + 1)]


def evemu(*contacts):
    """Return a recording of contacts: (start s, end s, x, y, dx, dy) in the pad's units."""
    lines = []
    for number, (start, end, x, y, dx, dy) in enumerate(contacts):
        lines.append(f"E: {start:.6f} 0003 0039 {number}")
        steps = max(2, int((end - start) * 80))
        for n in range(steps + 1):
            t = start + (end - start) * n / steps
            lines.append(f"E: {t:.6f} 0003 0035 {int(x + dx * n / steps)}")
            lines.append(f"E: {t:.6f} 0003 0036 {int(y + dy * n / steps)}")
            lines.append(f"E: {t:.6f} 0000 0000 0")
        lines += [f"E: {end:.6f} 0003 0039 -1", f"E: {end:.6f} 0000 0000 0"]
    return HEADER + "\n".join(lines) + "\n"


def test_one_point_that_says_its_velocity_is_a_swipe():
    """A pad that knows velocity and direction needs no history."""

    async def test(world, pad):
        assert (await pad.recognize())["intent"] == "none"
        await pad.record(100, 200, 5, 15, [1, 0])
        found = await pad.recognize()
        assert (found["intent"], found["direction"]) == ("swipe", "right")
        assert found["candidates"][0] == {"intent": "swipe", "confidence": found["confidence"]}

    with_pad(test)


def test_points_become_intents():
    """A line at speed is a swipe, a touch a tap, two a double tap; clear forgets them."""

    async def test(world, pad):
        t = await draw(pad, line(10, 30, 60, 32), 0.0)
        assert (await pad.recognize())["intent"] == "swipe"
        t = await draw(pad, [(10, 10)] * 6, t + 2)
        assert (await pad.recognize())["intent"] == "tap"
        t = await draw(pad, [(10, 10)] * 6, t + 0.2)
        assert (await pad.recognize())["intent"] == "double-tap"
        assert [one["intent"] for one in await pad.intents()] == ["swipe", "double-tap"]
        assert await pad.clear() == 3
        assert (await pad.recognize())["intent"] == "none"
        assert (await pad.history(1))[0]["type"] == "intent"

    with_pad(test)


def test_units_of_the_pad_are_converted():
    """With a resolution 600 units are 10 mm; with a width thresholds are hundredths of it."""

    async def test(world, pad):
        await draw(pad, [(100 + n * 10, 100) for n in range(8)])  # 70 units: 1.17 mm
        found = await pad.recognize()
        assert (found["intent"], found["unit"]) == ("tap", "mm")

    with_pad(test, resolution=60.0)

    async def by_width(world, pad):
        await draw(pad, [(100 + n * 10, 100) for n in range(8)])
        found = await pad.recognize()
        assert (found["intent"], found["unit"]) == ("tap", "percent-of-width")

    with_pad(by_width, width=6000.0)


def test_shapes_are_taught_and_found():
    """What was taught is found with confidence and runners-up; lines stay swipes."""

    async def test(world, pad):
        teacher = users(5, 1)[0]
        for name in ("star", "circle", "v", "triangle"):
            strokes = [[list(point) for point in teacher.draw(name)] for _ in range(3)]
            counts = await pad.train(name, strokes)
        assert counts == {"star": 3, "circle": 3, "v": 3, "triangle": 3}
        t = await draw(pad, teacher.draw("star"), 0.0)
        found = await pad.recognize()
        assert found["intent"] == "star"
        assert found["confidence"] > 0.9
        names = [one["intent"] for one in found["candidates"]]
        assert {"circle", "v", "triangle"} < set(names)
        t = await draw(pad, line(0, 0, 0, 80), t + 1)
        assert (await pad.recognize())["direction"] == "down"
        assert await pad.forget("star") == 3
        await draw(pad, teacher.draw("star"), t + 1)
        assert (await pad.recognize())["intent"] != "star"
        with pytest.raises(NotFound):
            await pad.forget("star")

    with_pad(test)


def test_shapes_of_several_strokes_are_found():
    """A cross drawn in two strokes, half a second apart, is a cross."""

    async def test(world, pad):
        cross = [[[0, 0], [30, 30]], [[30, 0], [0, 30]]]
        plus = [[[15, 0], [15, 30]], [[0, 15], [30, 15]]]
        await pad.train("cross", cross, together=True)
        await pad.train("plus", plus, together=True)
        t = await draw(pad, line(100, 100, 130, 131))
        await draw(pad, line(130, 101, 99, 130), t + 0.5)
        found = await pad.recognize()
        assert (found["intent"], found["detail"]["strokes"]) == ("cross", 2)

    with_pad(test, confidence=0.5)


def test_what_was_taught_survives_a_restart():
    """Shapes are state: a device that starts with them knows them."""

    async def test(world, pad):
        await pad.train("v", [[list(map(float, point)) for point in SHAPES["v"]]])
        saved = [{"name": "v", "strokes": [[list(p) for p in SHAPES["v"]]], "together": False}]
        other = await world.spawn(GestureDevice, "other", shapes=saved)
        await draw(other, [(x * 40, y * 40) for x, y in SHAPES["v"]])
        assert (await other.recognize())["intent"] == "v"

    with_pad(test)


def test_wrong_points_and_shapes_are_refused():
    """Times that run backwards, directions and strokes that are none: refused by key."""

    async def test(world, pad):
        await pad.record(1, 1, t=5.0)
        with pytest.raises(BadPayload) as caught:
            await pad.record(1, 1, t=4.0)
        assert caught.value.at == "payload.t"
        for direction in ([], [0, 0], [1], [1, math.inf]):
            with pytest.raises(BadPayload):
                await pad.record(1, 1, direction=direction, t=6.0)
        for name, strokes in (
            ("", [[[0, 0], [1, 1]]]),
            ("swipe", [[[0, 0], [1, 1]]]),
            ("x", []),
            ("x", [[]]),
            ("x", [[[1, 1]]]),
            ("x", [[[0], [1]]]),
            ("x", [[[0, 0], [1, 1]], [[1, 1]]]),
        ):
            with pytest.raises(BadPayload):
                await pad.train(name, strokes)
        assert (await world.ask("pad", "status"))["shapes"] == []

    with_pad(test)


def test_recordings_of_evemu_are_replayed(tmp_path):
    """Taps of 24 to 124 ms are taps, drags are none, and each recording stands by itself."""
    taps = [evemu((1, 1 + ms / 1000, 3000, 2000, 12, 0)) for ms in (24, 40, 66, 90, 108, 124)]
    drags = [
        evemu((1, 1.5, 1000, 2000, 2400, 100)),
        evemu((1, 3.4, 1000, 2000, 4000, 1000)),
        evemu((1, 5.8, 1000, 2000, 300, 1500)),
    ]

    async def test(world, pad):
        path = tmp_path / "one.evemu"
        for text in taps:
            path.write_text(text)
            await pad.replay(str(path))
            assert (await pad.recognize())["intent"] == "tap"
        for text in drags:
            path.write_text(text)
            await pad.replay(str(path))
            assert (await pad.recognize())["intent"] in {"drag", "swipe"}
        path.write_text(evemu((1, 1.08, 3000, 2000, 0, 0), (1.2, 1.29, 3010, 2000, 0, 0)))
        await pad.replay(str(path))
        assert (await pad.recognize())["intent"] == "double-tap"
        assert (await pad.recognize())["unit"] == "mm"
        assert len(await pad.intents()) == 10

    with_pad(test)


def test_pads_without_a_resolution_may_slip_within_a_tap(tmp_path):
    """A coarse pad's tap may move by hundredths of the width, which the reply says."""
    header = HEADER.replace(" 60\n", "\n")
    slip = (0, 0.07, 3000, 2000, 100, -330)  # 5.7 % of 6000

    async def test(world, pad):
        (tmp_path / "a.evemu").write_text(header + evemu(slip).removeprefix(HEADER))
        await pad.replay(str(tmp_path / "a.evemu"))
        found = await pad.recognize()
        assert (found["intent"], found["unit"]) == ("tap", "percent-of-width")
        (tmp_path / "b.evemu").write_text(evemu(slip))
        await pad.replay(str(tmp_path / "b.evemu"))
        found = await pad.recognize()
        assert (found["intent"], found["unit"]) == ("swipe", "mm")

    with_pad(test)


def test_events_without_a_header_find_their_description(tmp_path):
    """Old recordings hold events alone: the file beside them, the configuration, or a guess."""
    events = evemu((0, 0.07, 3000, 2000, 50, 0)).removeprefix(HEADER)  # 0.83 mm at 60 a mm
    (tmp_path / "Some Pad.tap.events").write_text(events)

    async def guessed(world, pad):
        await pad.replay(str(tmp_path / "Some Pad.tap.events"))
        found = await pad.recognize()
        assert (found["intent"], found["unit"]) == ("tap", "percent-of-width")

    with_pad(guessed)

    async def configured(world, pad):
        await pad.replay(str(tmp_path / "Some Pad.tap.events"))
        found = await pad.recognize()
        assert (found["detail"]["distance-mm"], found["unit"]) == (pytest.approx(0.625), "mm")

    with_pad(configured, resolution=80.0)

    async def described(world, pad):
        (tmp_path / "Some.desc").write_text(HEADER.replace("60", "10"))
        (tmp_path / "Some Pad.device").write_text(HEADER)
        (tmp_path / "Some Pad 2.device").write_text(HEADER.replace("60", "20"))
        await pad.replay(str(tmp_path / "Some Pad.tap.events"))
        found = await pad.recognize()
        assert (found["detail"]["distance-mm"], found["unit"]) == (pytest.approx(5 / 6), "mm")

    with_pad(described, resolution=80.0)


def test_its_own_recording_gives_the_same_intents(tmp_path):
    """Touches that were recorded and replayed mean what they meant."""
    path = str(tmp_path / "own.jsonl")

    async def test(world, pad):
        await pad.record_to(path)
        for x, y in line(10, 30, 60, 32):
            await pad.record(x, y, 1.0)
            await world.sleep(0.01)
        await pad.record(60, 32, 0.0)
        before = await pad.recognize()
        await pad.record_to()
        other = await world.spawn(GestureDevice, "other")
        await other.replay(path)
        after = await other.recognize()
        assert after["intent"] == before["intent"] == "swipe"
        speeds = [one["detail"]["speed-mm-s"] for one in (before, after)]
        assert speeds[0] == pytest.approx(speeds[1], rel=0.01)

    with_pad(test)


def test_touches_with_times_of_their_own_are_replayed_by_them(tmp_path):
    """Two fingers that touched at one moment do so again, by the device's times."""
    path = str(tmp_path / "own.jsonl")

    async def test(world, pad):
        await pad.record_to(path)
        for n in range(21):
            for pointer, way in ((0, -1), (1, 1)):
                x = 50.0 + way * (10 + n)
                await pad.record(x, 30.0, 1.0, t=7.0 + n / 100, pointer=pointer)
        for pointer in (0, 1):
            await pad.record(0.0, 0.0, 0.0, t=7.21, pointer=pointer, contact=False)
        assert (await pad.recognize())["direction"] == "out"
        await pad.record_to()
        for _ in range(2):
            await pad.replay(path)
        found = await pad.intents()
        assert [(one["intent"], one["fingers"]) for one in found] == [("pinch", 2)] * 3

    with_pad(test)


def test_the_driver_hears_every_intent():
    """An intent that was recognised is an event for the driver."""

    class Listener:
        def __init__(self):
            self.heard = []

        def handle(self, event):
            if event.type == "intent":
                self.heard.append(event.data["intent"])

    async def test(world, pad):
        listener = Listener()
        await pad.attach(listener)
        await draw(pad, [(5, 5)] * 5)
        await pad.recognize()
        assert listener.heard == ["tap"]

    with_pad(test)


@pytest.mark.real
def test_live_touches_come_over_a_pipe_of_the_kernels_events(tmp_path):
    """Events of the kernel's form are read as they come, and the driver hears the intent."""
    fifo = tmp_path / "event0"
    os.mkfifo(fifo)
    event = struct.Struct("@llHHi")

    class Listener:
        def __init__(self):
            self.heard = asyncio.get_running_loop().create_future()

        def handle(self, event):
            if event.type == "intent" and not self.heard.done():
                self.heard.set_result(event.data["intent"])

    async def main():
        async with system(copy=False) as world:
            pad = await world.spawn(GestureDevice, "pad", resolution=60.0)
            listener = Listener()
            await pad.attach(listener)
            with pytest.raises(NotFound):
                await pad.set_source(str(tmp_path / "none"))
            assert await pad.set_source(str(fifo))
            with fifo.open("wb", buffering=0) as writer:
                touch = [(3, 0x39, 1), (3, 0x35, 3000), (3, 0x36, 2000), (0, 0, 0)]
                data = b"".join(event.pack(10, 0, *one) for one in touch)
                data += b"".join(event.pack(10, 80_000, *one) for one in ((3, 0x39, -1), (0, 0, 0)))
                writer.write(data[:50])
                writer.write(data[50:])
                assert await listener.heard == "tap"
            assert await pad.set_source("") == ""

    run(main, real=True)


def test_a_file_is_no_live_source(tmp_path):
    """It is refused with what to do instead; and a device is no recording."""
    recording = tmp_path / "tap.events"
    recording.write_text(evemu((0.0, 0.08, 3000, 2000, 0, 0)), "utf-8")

    async def test(world, pad):
        for path in (recording, tmp_path):
            with pytest.raises(BadPayload) as caught:
                await pad.set_source(str(path))
            assert "replay" in caught.value.hint
        with pytest.raises(NotFound):
            await pad.replay("/dev/null")
        assert (await world.ask("pad", "status"))["live"] is False

    with_pad(test)


def test_the_table_of_thresholds_is_shown():
    """Every number that decides is told with its unit and source."""

    async def test(world, pad):
        table = {one["name"]: one for one in await pad.thresholds()}
        assert table["tap-duration"]["value"] == 0.18
        assert "libinput" in table["tap-duration"]["source"]

    with_pad(test)
