"""Sources: what evemu and the kernel say becomes samples, and what is no recording is refused."""

import io
import os
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import Corrupt, NotFound, NotSupported, PermissionRefused
from dan9.devices.intents import Sample, Tracker, interpret
from dan9.devices.slots import Pad
from dan9.devices.source import (
    INPUT_EVENT,
    EvdevSource,
    EvemuSource,
    JsonSource,
    open_source,
)

HEADER = """# EVEMU 1.2
N: SynPS/2 Synaptics TouchPad
A: 00 1472 5472 0 0 60
A: 01 1408 4448 0 0 85
A: 35 1472 5472 0 0 0
A: 36 1408 4448 0 0 0
"""

TAP_B = """E: 100.000000 0003 0039 0007\t# EV_ABS / ABS_MT_TRACKING_ID 7
E: 100.000000 0003 0035 3000
E: 100.000000 0003 0036 2000
E: 100.000000 0003 003a 40
E: 100.000000 0001 014a 0001
E: 100.000000 0000 0000 0000\t# ------------ SYN_REPORT (0) ----------
E: 100.050000 0003 0035 3006
E: 100.050000 0000 0000 0000
E: 100.090000 0003 0039 -001
E: 100.090000 0001 014a 0000
E: 100.090000 0000 0000 0000
"""


def contacts(source):
    """Return the contacts in a source's samples."""
    tracker = Tracker()
    for sample in source:
        tracker.feed(sample)
    return tracker.contacts


def test_a_recording_with_slots_gives_millimetres():
    """Slots, tracking ids and the old axes' resolution become one contact in millimetres."""
    source = EvemuSource((HEADER + TAP_B).splitlines())
    assert source.pad.name == "SynPS/2 Synaptics TouchPad"
    assert source.pad.knows_millimetres
    assert source.pad.scale == (60.0, 85.0)
    (contact,) = contacts(source)
    assert contact.start == 0.0
    assert contact.duration == pytest.approx(0.09)
    assert contact.movement == pytest.approx(0.1)
    assert contact.samples[0].z == 40
    assert interpret([contact]).name == "tap"


def test_two_slots_are_two_fingers():
    """Each slot is a finger, and its pointer changes with each touch."""
    lines = """E: 0.0 0003 002f 0
E: 0.0 0003 0039 1
E: 0.0 0003 0035 1500
E: 0.0 0003 0036 1500
E: 0.0 0003 002f 1
E: 0.0 0003 0039 2
E: 0.0 0003 0035 4000
E: 0.0 0003 0036 1500
E: 0.0 0000 0000 0
E: 0.05 0003 0039 -1
E: 0.05 0003 002f 0
E: 0.05 0003 0039 -1
E: 0.05 0000 0000 0
E: 0.2 0003 0039 3
E: 0.2 0000 0000 0
E: 0.25 0003 0039 -1
E: 0.25 0000 0000 0
"""
    found = contacts(EvemuSource((HEADER + lines).splitlines()))
    assert len({one.pointer for one in found}) == 3
    assert interpret(found[:2]).fingers == 2


def test_a_pad_of_one_finger_is_read_by_its_button():
    """A pad that knows no slots touches by BTN_TOUCH."""
    lines = """E: 1.00 0001 014a 1
E: 1.00 0003 0000 100
E: 1.00 0003 0001 200
E: 1.00 0003 0018 30
E: 1.00 0000 0000 0
E: 1.08 0001 014a 0
E: 1.08 0000 0000 0
"""
    (contact,) = contacts(EvemuSource(lines.splitlines()))
    assert (contact.samples[0].x, contact.duration) == (100.0, pytest.approx(0.08))


def test_protocol_a_reports_fingers_by_their_place():
    """Without tracking ids, the fingers of a report are those it lists."""
    lines = """E: 0.0 0003 0035 10
E: 0.0 0003 0036 10
E: 0.0 0000 0002 0
E: 0.0 0003 0035 50
E: 0.0 0003 0036 10
E: 0.0 0000 0002 0
E: 0.0 0000 0000 0
E: 0.1 0003 0035 11
E: 0.1 0003 0036 10
E: 0.1 0000 0002 0
E: 0.1 0000 0000 0
E: 0.2 0000 0002 0
E: 0.2 0000 0000 0
"""
    found = contacts(EvemuSource(lines.splitlines()))
    assert [one.samples[0].x for one in found] == [10, 50]
    assert [one.end for one in found] == [0.2, 0.1]


def test_fingers_without_a_name_are_told_apart_by_where_they_are():
    """When the first in the list lifts, the second does not jump into its place."""
    lines = """E: 0.0 0003 0035 10
E: 0.0 0003 0036 10
E: 0.0 0000 0002 0
E: 0.0 0003 0035 50
E: 0.0 0003 0036 10
E: 0.0 0000 0002 0
E: 0.0 0000 0000 0
E: 0.1 0003 0035 51
E: 0.1 0003 0036 10
E: 0.1 0000 0002 0
E: 0.1 0000 0000 0
E: 0.2 0003 0035 52
E: 0.2 0003 0036 10
E: 0.2 0000 0002 0
E: 0.2 0003 0035 90
E: 0.2 0003 0036 10
E: 0.2 0000 0002 0
E: 0.2 0000 0000 0
E: 0.3 0000 0002 0
E: 0.3 0000 0000 0
"""
    found = contacts(EvemuSource(lines.splitlines()))
    assert [(one.start, one.end) for one in found] == [(0.0, 0.1), (0.0, 0.3), (0.2, 0.3)]
    assert [one.movement for one in found] == [0.0, 2.0, 0.0]


def test_a_pad_may_count_more_fingers_than_it_places():
    """Three fingers on a pad of two slots, one of them never placed, tap with three."""
    lines = """E: 0.0 0003 0039 1
E: 0.0 0003 0035 1500
E: 0.0 0003 0036 1500
E: 0.0 0003 002f 1
E: 0.0 0003 0039 2
E: 0.0 0001 014e 1
E: 0.0 0000 0000 0
E: 0.1 0003 0039 -1
E: 0.1 0003 002f 0
E: 0.1 0003 0039 -1
E: 0.1 0001 014e 0
E: 0.1 0000 0000 0
E: 1.0 0003 0039 3
E: 1.0 0001 0145 1
E: 1.0 0000 0000 0
E: 1.1 0003 0039 -1
E: 1.1 0000 0000 0
"""
    found = contacts(EvemuSource((HEADER + lines).splitlines()))
    assert [interpret([one]).name for one in found] == ["tap", "tap"]
    assert [interpret([one]).fingers for one in found] == [3, 1]


def test_a_pad_without_resolution_is_measured_by_its_width():
    """Hundredths of the width stand in for millimetres, and the pad says so."""
    header = HEADER.replace(" 60\n", "\n").replace(" 85\n", "\n")
    source = EvemuSource((header + TAP_B).splitlines())
    assert not source.pad.knows_millimetres
    assert source.pad.scale == (40.0, 40.0)


@pytest.mark.parametrize(
    "line", ["E: x 0003 0035 1", "E: 1.0 0003", "E: 1.0 zz 0035 1", "E:", "E: 1.0 0003 0035 1.5"]
)
def test_a_torn_event_names_its_line(line):
    """A line that begins as an event and is none is refused by its number."""
    with pytest.raises(Corrupt) as caught:
        list(EvemuSource((HEADER + TAP_B + line).splitlines()))
    assert caught.value.at == f"line {len((HEADER + TAP_B).splitlines()) + 1}"


def test_a_torn_axis_names_its_line():
    """An A: line that is none is refused too."""
    with pytest.raises(Corrupt, match="line 1"):
        EvemuSource(["A: 00 x 5"])


def test_the_kernels_bytes_are_read_however_they_are_cut():
    """Events split anywhere between reads give the same samples as a recording."""
    events = [
        (3, 0x39, 7), (3, 0x35, 3000), (3, 0x36, 2000), (0, 0, 0), (3, 0x39, -1), (0, 0, 0)
    ]  # fmt: skip
    data = b"".join(INPUT_EVENT.pack(1, n * 1000, *event) for n, event in enumerate(events))
    whole = list(EvdevSource(io.BytesIO(data), Pad(resolution=(60, 85))))
    assert [sample.contact for sample in whole] == [True, False]
    assert whole[0].x == 50.0
    for cut in (1, 7, 24, 25, 100):
        source = EvdevSource(io.BytesIO(), Pad(resolution=(60, 85)))
        pieces = [data[at : at + cut] for at in range(0, len(data), cut)]
        assert [sample for piece in pieces for sample in source.feed(piece)] == whole


@given(st.binary(max_size=500))
def test_no_bytes_break_the_reader(data):
    """Whatever comes from a device, samples come out or nothing."""
    for sample in EvdevSource(io.BytesIO(data)):
        assert isinstance(sample, Sample)


def test_our_own_recordings_are_read():
    """Lines of JSON give samples with all that they say; a line that is none is named."""
    lines = [
        '{"recording": 1}',
        '{"t": 0, "type": "touch", "data": {"x": 1, "y": 2, "direction": [1, 0], "velocity": 3}}',
        "",
    ]
    (sample,) = JsonSource(lines)
    assert (sample.x, sample.velocity, sample.direction) == (1.0, 3, (1.0, 0.0))
    for bad in ("{", "[]", '{"t": 1}', '{"t": 1, "data": {"x": "a", "y": 1}}'):
        with pytest.raises(Corrupt, match="line 4"):
            list(JsonSource([*lines, bad]))


def test_a_recording_is_opened_by_what_it_is(tmp_path):
    """evemu's text, JSON lines, neither, and nothing."""
    evemu, own, other = tmp_path / "a.evemu", tmp_path / "b.jsonl", tmp_path / "c.txt"
    evemu.write_text(HEADER + TAP_B)
    own.write_text('{"recording": 1}\n')
    other.write_text("hello")
    assert isinstance(open_source(str(evemu)), EvemuSource)
    assert isinstance(open_source(str(own)), JsonSource)
    with pytest.raises(Corrupt):
        open_source(str(other))
    with pytest.raises(NotFound):
        open_source(str(tmp_path / "none"))
    with pytest.raises(NotFound):
        open_source("/dev/input/event99")


def test_a_lifting_that_was_lost_is_noticed_by_the_next_touch():
    """After SYN_DROPPED a slot may be touched anew without having been told as lifted."""
    lines = """E: 0.0 0003 0039 1
E: 0.0 0003 0035 1500
E: 0.0 0003 0036 1500
E: 0.0 0000 0000 0
E: 0.1 0000 0003 0
E: 0.1 0000 0000 0
E: 0.4 0003 0039 2
E: 0.4 0003 0035 4000
E: 0.4 0000 0000 0
E: 0.5 0003 0039 -1
E: 0.5 0000 0000 0
"""
    first, second = contacts(EvemuSource((HEADER + lines).splitlines()))
    assert (first.start, first.end, second.start, second.end) == (0.0, 0.4, 0.4, 0.5)
    assert first.movement == 0.0


def test_what_is_no_file_or_may_not_be_read_is_refused(tmp_path, monkeypatch):
    """A folder, a pipe and a device are no recordings: reading them would never end."""
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    for path in (tmp_path, fifo, "/dev/zero"):
        with pytest.raises(NotFound, match="no file"):
            open_source(str(path))
    closed = tmp_path / "closed.events"
    closed.write_text(TAP_B)

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.read_text", deny)
        with pytest.raises(PermissionRefused):
            open_source(str(closed))
    with monkeypatch.context() as patch:  # a folder that may not be listed has no description
        patch.setattr("pathlib.Path.iterdir", deny)
        assert not open_source(str(closed)).pad.knows_millimetres


def test_a_torn_description_is_refused_by_its_line(tmp_path):
    """What lies beside a recording is read as strictly."""
    (tmp_path / "pad.tap.events").write_text(TAP_B)
    (tmp_path / "pad.desc").write_text("N: pad\nA: 35 0\n")
    with pytest.raises(Corrupt, match=r"pad\.desc, line 2"):
        open_source(str(tmp_path / "pad.tap.events"))


class FakeEvdev:
    """What we call of python-evdev."""

    class InputDevice:
        name = "A pad"
        closed = False

        def __init__(self, path):
            if "denied" in path:
                raise PermissionError(13, "Permission denied")
            if "none" in path:
                raise FileNotFoundError(2, "No such file or directory")

        def capabilities(self):
            info = SimpleNamespace(min=1472, max=5472, resolution=0)
            plain = SimpleNamespace(min=0, max=100, resolution=60)
            return {1: [330], 3: [(0x35, info), (0x36, info), (0, plain), (1, plain)]}

        def close(self):
            FakeEvdev.InputDevice.closed = True


def test_a_live_device_is_asked_what_its_axes_span(tmp_path, monkeypatch):
    """By python-evdev, which is closed again; what it refuses is refused by name.

    Many pads say their resolution for the old axes only.
    """
    monkeypatch.setitem(sys.modules, "evdev", FakeEvdev)
    path = tmp_path / "event0"
    path.write_bytes(INPUT_EVENT.pack(1, 0, 3, 0x35, 3000))
    source = EvdevSource.open(str(path))
    assert (source.pad.name, source.pad.resolution) == ("A pad", (60.0, 60.0))
    assert source.pad.span == (4000.0, 4000.0)
    assert FakeEvdev.InputDevice.closed
    assert list(source) == []
    source.stream.close()
    with pytest.raises(PermissionRefused, match="denied"):
        EvdevSource.open("/dev/input/denied")
    with pytest.raises(NotFound, match="no such file"):
        EvdevSource.open("/dev/input/none")
    monkeypatch.setitem(sys.modules, "evdev", None)
    with pytest.raises(NotSupported) as caught:
        EvdevSource.open(str(path))
    assert "dan9[evdev]" in caught.value.hint
