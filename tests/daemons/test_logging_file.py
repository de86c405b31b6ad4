"""Lines of the log, and the file that turns itself over."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.events import LogEntry
from dan9.daemons.logfile import LogFile, iso_time, json_line, text_line, when_of
from dan9.kernel.clock import VirtualClock
from dan9.kernel.log import LogHub

NEW_YEAR = 1_735_689_600.0


def entry(text: str = "hello", time: float = NEW_YEAR, **fields: object) -> LogEntry:
    """Return an entry of source `me`."""
    return LogEntry(time, "info", "me", text, fields)


def said(source: str, text: str, /, **fields: object) -> LogEntry:
    """Return what a hub makes of what somebody says."""
    seen: list[LogEntry] = []
    hub = LogHub(VirtualClock(NEW_YEAR))
    hub.sink = seen.append
    hub.logger(source).error(text, **fields)
    return seen[0]


def lines_of(path: Path) -> list[str]:
    """Return the lines of a file."""
    return path.read_text().splitlines()


def test_a_line_says_when_how_bad_who_and_what() -> None:
    """Fields follow the text, quoted where they have to be."""
    line = text_line(entry("done", path="/a b", size=5, ok=True, quote='say "x"', part=[1, "a"]))
    assert line.decode() == (
        "2025-01-01T00:00:00.000Z INFO     me: done "
        'path="/a b" size=5 ok=true quote="say \\"x\\"" part=[1,"a"]\n'
    )


def test_a_line_break_cannot_forge_an_entry() -> None:
    """Control characters in text, source, fields and traces are escaped."""
    forged = LogEntry(
        NEW_YEAR, "info", "me\n", "a\r\nb\x1b[31m\u2028", {"k\n": "v\nw"}, "one\n two\x07"
    )
    line = text_line(forged).decode()
    assert line.splitlines()[1:] == ["    one", "     two\\x07"]
    assert line.splitlines()[0].endswith("me\\n: a\\r\\nb\\x1b[31m\\u2028 k\\n=v\\nw")


anything = st.text(st.characters())  # half characters too


@given(anything, anything, st.dictionaries(anything, anything, max_size=3))
def test_one_entry_is_one_line_whatever_it_holds(
    source: str, text: str, fields: dict[str, str]
) -> None:
    """Both forms are one line of UTF-8, and JSON gives the entry back."""
    made = said(source, text, **fields)
    for line in (text_line(made), json_line(made)):
        assert line.endswith(b"\n")
        assert line.count(b"\n") == 1
        line.decode()
    form = json.loads(json_line(made))
    assert form["text"] == text.encode("utf-8", "backslashreplace").decode()
    assert len(form.get("fields", {})) <= len(fields)


def test_fields_of_any_kind_are_shown_without_memory_addresses() -> None:
    """Objects are their text; one whose text fails is its type."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    made = said("me", "x", a=object(), b=Broken(), c={1: {2}}, d=b"raw")
    shown = json.loads(json_line(made))["fields"]
    assert shown == {"a": "<object object>", "b": "<Broken>", "c": {"1": [2]}, "d": "b'raw'"}
    assert text_line(made).endswith(
        b"""me: x a="<object object>" b=<Broken> c={"1":[2]} d=b'raw'\n"""
    )


def test_times_are_utc_with_milliseconds() -> None:
    """And can be read back from the first line of a file."""
    assert iso_time(NEW_YEAR + 0.25) == "2025-01-01T00:00:00.250Z"
    assert when_of(text_line(entry(time=NEW_YEAR + 0.25))) == NEW_YEAR + 0.25
    assert when_of(json_line(entry(time=NEW_YEAR + 0.25))) == NEW_YEAR + 0.25
    assert when_of(b"somebody else's file") is None
    assert when_of(b"9999-99-99T99:99Z ") is None


def test_the_file_turns_over_by_size_and_keeps_so_many(tmp_path: Path) -> None:
    """No file exceeds the size, the newest lines are in the file itself."""
    path = tmp_path / "logs" / "app.log"
    size = len(text_line(entry("line 00")))
    log = LogFile(path, max_bytes=3 * size, keep=2)
    log.write([entry(f"line {n:02}") for n in range(10)], NEW_YEAR)
    assert [line[-2:] for line in lines_of(path)] == ["09"]
    assert [line[-2:] for line in lines_of(tmp_path / "logs" / "app.log.1")] == ["06", "07", "08"]
    assert [line[-2:] for line in lines_of(tmp_path / "logs" / "app.log.2")] == ["03", "04", "05"]
    assert not (tmp_path / "logs" / "app.log.3").exists()
    assert log.rotations == 3


def test_the_file_turns_over_by_age_across_restarts(tmp_path: Path) -> None:
    """Age counts from the first line, also in a file that was there before."""
    path = tmp_path / "app.log"
    LogFile(path, max_age_s=3600).write([entry("old")], NEW_YEAR)
    again = LogFile(path, max_age_s=3600)
    again.write([entry("still", NEW_YEAR + 3599)], NEW_YEAR + 3599)
    again.write([entry("new", NEW_YEAR + 3600)], NEW_YEAR + 3600)
    assert [line.split()[-1] for line in lines_of(path)] == ["new"]
    assert [line.split()[-1] for line in lines_of(tmp_path / "app.log.1")] == ["old", "still"]


def test_nothing_is_kept_if_so_wished(tmp_path: Path) -> None:
    """`keep=0` starts the file afresh."""
    path = tmp_path / "app.log"
    log = LogFile(path, max_bytes=1, keep=0)
    log.write([entry("one"), entry("two")], NEW_YEAR)
    assert [line.split()[-1] for line in lines_of(path)] == ["two"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_moved_by_somebody_else_is_opened_again(tmp_path: Path) -> None:
    """What logrotate does is noticed at the next write."""
    path = tmp_path / "app.log"
    log = LogFile(path)
    log.write([entry("one")], NEW_YEAR)
    path.rename(tmp_path / "moved")
    log.write([entry("two")], NEW_YEAR)
    path.unlink()
    log.write([entry("three")], NEW_YEAR)
    assert [line.split()[-1] for line in lines_of(path)] == ["three"]


def test_a_torn_line_is_ended_before_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fills in the middle of a line costs that entry, and the count is right."""
    path = tmp_path / "app.log"
    log = LogFile(path)
    room = [len(text_line(entry("one"))) + 10]
    real = os.write

    def full(handle: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        part = real(handle, data[: room[0]])
        room[0] -= part
        return part

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space") as caught:
        log.write([entry("one"), entry("two"), entry("three")], NEW_YEAR)
    assert caught.value.written == 1  # type: ignore[attr-defined]
    room[0] = 10_000
    log.write([entry("four")], NEW_YEAR)
    assert lines_of(path)[0].endswith(" one")
    assert lines_of(path)[-1].endswith(" four")
    assert len(lines_of(path)) == 3


def test_a_full_device_is_an_error_with_nothing_written() -> None:
    """/dev/full says what a full disk says."""
    with pytest.raises(OSError, match="No space") as caught:
        LogFile("/dev/full", max_bytes=None).write([entry()], NEW_YEAR)
    assert caught.value.written == 0  # type: ignore[attr-defined]


def test_a_path_that_is_a_folder_is_an_error(tmp_path: Path) -> None:
    """The system's own word is passed on."""
    with pytest.raises(IsADirectoryError):
        LogFile(tmp_path).write([entry()], NEW_YEAR)
