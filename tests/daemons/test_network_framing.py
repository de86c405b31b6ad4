"""Framing: where a piece of a stream ends, however it arrived."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import BadPayload, Closed
from dan9.daemons.network_framing import ByteQueue, Frame

LIMIT = 1 << 20


def frame(until=None, prefix=None, max_bytes=65_536):
    """Return a frame under the tests' limit."""
    return Frame.of(until, prefix, max_bytes, LIMIT)


def queue(*chunks):
    """Return a queue into which these chunks arrived."""
    made = ByteQueue()
    for chunk in chunks:
        made.feed(chunk)
    return made


def test_as_it_comes_gives_the_very_chunk_that_arrived():
    """A chunk that fits is handed on uncopied."""
    chunk = b"x" * 1000
    assert queue(chunk).take(frame()) is chunk


def test_as_it_comes_splits_what_is_longer_than_asked():
    """No piece exceeds max-bytes, and the rest comes next."""
    held = queue(b"abcdef", b"gh")
    assert [held.take(frame(max_bytes=4)) for _ in range(3)] == [b"abcd", b"ef", b"gh"]
    assert held.size == 0
    assert held.take(frame()) is None
    assert held.take(frame(), ended=True) == b""


def test_a_line_is_found_across_chunks():
    """A delimiter split over chunks ends the piece; the piece includes it."""
    held = queue(b"on", b"e\r", b"\ntwo\r\nthr")
    assert held.take(frame(until="\r\n")) == b"one\r\n"
    assert held.take(frame(until="\r\n")) == b"two\r\n"
    assert held.take(frame(until="\r\n")) is None
    assert held.take(frame(until="\r\n"), ended=True) == b"thr"
    assert held.take(frame(until="\r\n"), ended=True) == b""


def test_a_line_longer_than_allowed_is_refused_and_stays():
    """An endless line is refused by name instead of filling memory; its bytes remain."""
    held = queue(b"abcdef")
    with pytest.raises(BadPayload) as caught:
        held.take(frame(until="\n", max_bytes=5))
    assert caught.value.at == "payload.max-bytes"
    assert held.take(frame()) == b"abcdef"


def test_a_line_of_just_the_allowed_length_passes():
    """The limit counts the piece without its delimiter, even while half of that is missing."""
    held = queue(b"abcde\r")
    assert held.take(frame(until="\r\n", max_bytes=5)) is None
    held.feed(b"\n")
    assert held.take(frame(until="\r\n", max_bytes=5)) == b"abcde\r\n"


def test_a_count_waits_for_all_of_it():
    """An exact count gives just so many bytes, and says so when the stream ended before."""
    held = queue(b"abc")
    assert held.take(frame(until=4)) is None
    with pytest.raises(Closed, match="after 3 of 4 bytes"):
        held.take(frame(until=4), ended=True)
    held.feed(b"de")
    assert held.take(frame(until=4)) == b"abcd"
    assert held.take(frame()) == b"e"


def test_a_length_prefix_is_cut_off():
    """A prefixed piece comes without its prefix, empty ones included."""
    held = queue(b"\x00\x03ab", b"c\x00\x00\x00")
    assert held.take(frame(prefix=2)) == b"abc"
    assert held.take(frame(prefix=2)) == b""
    with pytest.raises(Closed):
        held.take(frame(prefix=2), ended=True)


def test_a_prefix_that_announces_too_much_is_refused_before_it_is_waited_for():
    """An announced gigabyte is refused at its fourth byte."""
    with pytest.raises(BadPayload, match="announces 1073741824 bytes"):
        queue(b"\x40\x00\x00\x00").take(frame(prefix=4))


@pytest.mark.parametrize(
    ("until", "prefix", "max_bytes"),
    [
        ("\n", 4, 10),
        ("", None, 10),
        (b"", None, 10),
        (0, None, 10),
        (-1, None, 10),
        (LIMIT + 1, None, 10),
        (True, None, 10),
        (None, 3, 10),
        (None, 0, 10),
        (None, None, 0),
        (None, None, LIMIT + 1),
    ],
)
def test_keys_that_make_no_frame_are_refused(until, prefix, max_bytes):
    """Contradictions, empty delimiters, odd widths and lengths out of bounds are bad payload."""
    with pytest.raises(BadPayload):
        frame(until, prefix, max_bytes)


@given(st.lists(st.binary(max_size=20), max_size=20), st.data())
def test_prefixed_pieces_survive_any_cutting(pieces, data):
    """However a stream is cut on its way, the pieces that went in come out."""
    stream = b"".join(len(piece).to_bytes(4, "big") + piece for piece in pieces)
    held, got, at = ByteQueue(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        held.feed(stream[at : at + step])
        at += step
        while (piece := held.take(frame(prefix=4))) is not None:
            got.append(piece)
    assert got == pieces
    assert held.size == 0


@given(st.lists(st.binary(min_size=1, max_size=8), max_size=12), st.data())
def test_lines_and_raw_reads_mix_without_losing_a_byte(chunks, data):
    """Whatever kinds of read follow each other, the bytes come out once and in order."""
    held, got = ByteQueue(), b""
    for chunk in chunks:
        held.feed(chunk)
        kind = data.draw(st.sampled_from([None, "\n", "ab", 3]))
        piece = held.take(frame(until=kind, max_bytes=LIMIT))
        got += piece or b""
        if piece and data.draw(st.booleans()):
            held.put_back(piece[1:])
            got = got[: len(got) - len(piece) + 1]
    while held.size:
        got += held.take(frame()) or b""
    assert got == b"".join(chunks)
