"""Frames survive any cutting of the stream; what is no frame ends it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import WireError
from dan9.base.frame import FrameReader, frame

BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


@given(BODIES, st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_frames_come_back_however_the_stream_is_cut(bodies: list[bytes], cuts: list[int]) -> None:
    """The pieces that a socket gives do not matter."""
    stream = b"".join(map(frame, bodies))
    reader, found, position, turn = FrameReader(), [], 0, 0
    while position < len(stream):
        size = cuts[turn % len(cuts)]
        found += reader.feed(stream[position : position + size])
        position, turn = position + size, turn + 1
    assert [bytes(body) for body in found] == bodies
    assert not reader.is_half


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_kind_of_buffer_is_read(kind: type) -> None:
    """A socket may give bytes or fill a buffer."""
    stream = frame(b"one") + frame(b"two" * 1000)
    reader = FrameReader()
    found = reader.feed(kind(stream[:9])) + reader.feed(kind(stream[9:]))
    assert [bytes(body) for body in found] == [b"one", b"two" * 1000]


def test_a_half_frame_is_known_as_one() -> None:
    """The owner can end a connection that never finishes its frame."""
    reader = FrameReader()
    assert not reader.is_half
    assert reader.feed(b"\0\0") == []
    assert reader.is_half
    assert reader.feed(b"\0\x02a") == []
    assert reader.is_half
    assert reader.feed(b"b") == [b"ab"]
    assert not reader.is_half


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    """The announcement is enough: no memory is taken for it."""
    reader = FrameReader(max_frame_bytes=100)
    with pytest.raises(WireError, match="a frame of 101 bytes is over the limit of 100"):
        reader.feed(b"\0\0\0\x65")


def test_a_frame_of_nothing_is_refused() -> None:
    """Zero bytes hold no message."""
    with pytest.raises(WireError, match="0 bytes"):
        FrameReader().feed(b"\0\0\0\0")


def test_another_protocol_is_named_by_its_first_bytes() -> None:
    """An HTTP client on the wrong socket is told so."""
    with pytest.raises(WireError, match="began with 'POST'"):
        FrameReader().feed(b"POST / HTTP/1.1\r\n")


def test_good_frames_before_a_bad_one_are_given_first() -> None:
    """What was complete is answered; the next call raises."""
    reader = FrameReader(max_frame_bytes=10)
    assert reader.feed(frame(b"good") + b"\xff\xff\xff\xff") == [b"good"]
    assert isinstance(reader.failed, WireError)
    with pytest.raises(WireError, match="over the limit"):
        reader.feed(b"more")
