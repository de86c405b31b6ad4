"""Pipes and what comes out of them: windows, lines, frames."""

import asyncio
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import Closed
from dan9.daemons.process_child import LINE_BYTES, QUEUED_LINES, Child, Kept, Lines, Stdin, Wiring
from dan9.daemons.process_helper import Frames, pack
from dan9.daemons.process_rules import Ended
from dan9.testing import run

CHUNKS = st.lists(st.binary(max_size=40), max_size=20)


@given(CHUNKS, st.integers(1, 50))
def test_a_window_keeps_the_newest_bytes(chunks, limit):
    """Whatever the chunks, the end of their sum is kept."""
    kept = Kept(limit)
    for chunk in chunks:
        kept.add(chunk)
    whole = b"".join(chunks)
    assert kept.bytes() == whole[-limit:]
    assert kept.truncated == (len(whole) > limit)


@given(CHUNKS, st.integers(1, 50))
def test_a_brief_window_keeps_the_first_bytes(chunks, limit):
    """With `first` it is the beginning."""
    kept = Kept(limit, first=True)
    for chunk in chunks:
        kept.add(chunk)
    whole = b"".join(chunks)
    assert kept.bytes() == whole[:limit]
    assert kept.truncated == (len(whole) > limit)


@given(
    st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))),
    st.data(),
)
def test_lines_do_not_depend_on_the_chunks(lines, data):
    """However the bytes are cut, the same lines come out."""
    whole = "".join(f"{line}\n" for line in lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    cutter = Lines()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        got += cutter.feed(whole[start:end])
    assert got + cutter.flush() == lines


def test_line_ends_and_wrong_bytes():
    """CRLF is a line end, what is no UTF-8 is marked, the last line needs no end."""
    cutter = Lines()
    assert cutter.feed(b"a\r\n\r\nb\xff\nc") == ["a", "", "b\ufffd"]
    assert cutter.flush() == ["c"]
    assert cutter.flush() == []


def test_an_endless_line_comes_in_pieces():
    """A line without end never fills memory."""
    cutter = Lines()
    pieces = cutter.feed(b"x" * (LINE_BYTES * 2 + 5)) + cutter.flush()
    assert [len(piece) for piece in pieces] == [LINE_BYTES, LINE_BYTES, 5]


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.binary() | st.none())), st.data())
def test_frames_do_not_depend_on_the_chunks(messages, data):
    """However the bytes are cut, the same messages come out."""
    whole = b"".join(pack(message) for message in messages)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)))))
    frames = Frames()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
        got += frames.feed(whole[start:end])
    assert got == messages


def child_of(**options):
    """Return a child of no process, and the writing end of its output."""
    wiring = Wiring(stdin=False)
    theirs_in, theirs_out, theirs_err = wiring.theirs
    os.close(theirs_in)
    os.close(theirs_err)
    options.setdefault("kept_bytes", 1000)
    return Child(1, ["x"], wiring, **options), theirs_out


@pytest.mark.real
def test_a_full_queue_stops_the_pipe_and_loses_nothing():
    """While nobody takes lines the writer is held; then every line comes, in order."""

    async def main():
        child, out = child_of()
        child.listen()
        child.flow()
        os.set_blocking(out, False)
        loop = asyncio.get_running_loop()
        total = 200_000
        text = b"".join(b"%d\n" % number for number in range(total))
        left = memoryview(text)
        done = loop.create_future()

        def write():
            nonlocal left
            if left:
                left = left[os.write(out, left) :]
            else:
                loop.remove_writer(out)
                os.close(out)
                done.set_result(None)

        loop.add_writer(out, write)
        assert await child.next_line() == ("stdout", "0")
        held = len(left)
        for number in range(1, total):
            assert len(child.lines) < QUEUED_LINES + 70_000 / 2
            assert await child.next_line() == ("stdout", str(number))
        await done
        assert held > len(text) / 2
        child.finish(Ended(0, None, 0.0, 0))
        assert await child.next_line() is None
        child.close()

    run(main, real=True)


@pytest.mark.real
def test_before_it_flows_the_oldest_lines_give_way():
    """A process that is not ready yet is never held; what was lost is counted."""

    async def main():
        child, out = child_of()
        child.listen()
        os.write(out, b"x\n" * (QUEUED_LINES + 10))
        os.close(out)
        child.finish(Ended(0, None, 0.0, 0))
        await child.ending()
        assert len(child.lines) == QUEUED_LINES
        assert child.take_dropped() == 10
        assert child.take_dropped() == 0
        child.close()

    run(main, real=True)


@pytest.mark.real
def test_writes_wait_for_a_reader_and_keep_their_order():
    """Two writes larger than the pipe arrive whole, one after the other."""

    async def main():
        reader, writer = os.pipe()
        stdin = Stdin(writer)
        first = asyncio.ensure_future(stdin.write(b"a" * 300_000))
        second = asyncio.ensure_future(stdin.write(b"b" * 300_000))
        await asyncio.sleep(0)
        assert not first.done()
        got = bytearray()
        while len(got) < 600_000:
            got += await asyncio.to_thread(os.read, reader, 65536)
        assert (await first, await second) == (300_000, 300_000)
        assert got == b"a" * 300_000 + b"b" * 300_000
        os.close(reader)
        with pytest.raises(Closed, match="reads its standard input no more"):
            await stdin.write(b"c")
        with pytest.raises(Closed):
            await stdin.write(b"d")

    run(main, real=True)


@pytest.mark.real
def test_closing_wakes_a_writer_that_waits():
    """A write that meets a closed pipe is refused, not left waiting."""

    async def main():
        reader, writer = os.pipe()
        stdin = Stdin(writer)
        waiting = asyncio.ensure_future(stdin.write(b"a" * 300_000))
        await asyncio.sleep(0)
        stdin.close()
        with pytest.raises(Closed):
            await waiting
        os.close(reader)

    run(main, real=True)
