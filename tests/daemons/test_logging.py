"""The logging daemon: what goes in, what is shown, followed and written."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import BadConfig, BadPayload, DaemonFailed, Dan9Error, NotFound
from dan9.base.events import LogEntry
from dan9.daemons.logfile import LogFile
from dan9.daemons.logflow import Inflow
from dan9.daemons.logging import Logging
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.log import LogHub, log_info
from dan9.testing import run, system


class Worker(Daemon, type="worker"):
    """Says things, and crashes if asked."""

    @on
    def say(self, level: str, text: str) -> None:
        self.log.log(level, text, size=len(text))

    @on
    def crash(self) -> None:
        raise RuntimeError("on purpose")


class Reader(Daemon, type="reader"):
    """Follows the log."""

    got: list[dict[str, Any]] = []
    slow: bool = False

    @on
    async def begin(self, level: str | None = None, source: str | None = None) -> str:
        return str(await self.ask("logging", "follow", level=level, source=source, limit=4))

    @on
    async def entry(self, /, **fields: Any) -> None:
        self.got.append(fields)
        if self.slow:
            await self.sleep(10)

    @on
    def told(self) -> list[dict[str, Any]]:
        return self.got


def texts(entries: list[dict[str, Any]]) -> list[str]:
    """Return the texts of entries."""
    return [entry["text"] for entry in entries]


def test_what_a_daemon_says_is_shown_with_its_facts() -> None:
    """Time, level, source, text and fields."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            worker = await sim.spawn(Worker, "w")
            await asyncio.sleep(5)
            await worker.say("info", "hello")
            assert await log.display(limit=1) == [
                {
                    "time": sim.clock.now(),
                    "level": "info",
                    "source": "d9://worker/default/w",
                    "text": "hello",
                    "fields": {"size": 5},
                    "trace": "",
                }
            ]

    run(main)


def test_display_filters_by_level_source_time_and_text() -> None:
    """The last that fit, oldest first."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            for second, (level, source, text) in enumerate(
                [
                    ("info", "a", "one"),
                    ("warning", "b", "Two"),
                    ("error", "b.c", "three"),
                    ("info", "a", "four"),
                ]
            ):
                await asyncio.sleep(1)
                assert await log.write(level, source, text, nth=second)  # type: ignore[arg-type]
            begin = sim.clock.now()
            assert texts(await log.display()) == ["one", "Two", "three", "four"]
            assert texts(await log.display(limit=2)) == ["three", "four"]
            assert texts(await log.display(limit=0)) == []
            assert texts(await log.display("warning")) == ["Two", "three"]
            assert texts(await log.display(source="b")) == ["Two", "three"]
            assert texts(await log.display(source="*")) == ["one", "Two", "three", "four"]
            assert texts(await log.display(contains="TWO")) == ["Two"]
            assert texts(await log.display(contains="nth=2")) == ["three"]
            assert texts(await log.display(since=begin - 1)) == ["three", "four"]
            assert texts(await log.display(until=begin - 2)) == ["one", "Two"]

    run(main)


def test_a_wrong_request_is_refused() -> None:
    """Levels and limits that are none; what is not there."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            for type_, payload in (
                ("display", {"level": "loud"}),
                ("display", {"limit": -1}),
                ("display", {"since": "then"}),
                ("write", {"level": "loud", "text": "x"}),
                ("set-level", {"level": "loud"}),
                ("write-file", {"filepath": ""}),
                ("follow", {"limit": 0}),
            ):
                with pytest.raises(BadPayload):
                    await sim.ask("logging", type_, payload=payload)
            with pytest.raises(NotFound):
                await log.unfollow("entry-99")

    run(main)


@pytest.mark.parametrize(
    "config",
    [
        {"buffer_size": 0},
        {"flood": 0.0},
        {"flood": -1.0},
        {"file": "x.log", "rotate": {"size": "big"}},
        {"file": "x.log", "rotate": {"keep": -1}},
        {"file": "x.log", "rotate": {"colour": 1}},
    ],
)
def test_a_wrong_configuration_is_refused_at_the_start(config: dict[str, Any]) -> None:
    """With the key that is wrong."""

    async def main() -> None:
        async with system() as sim:
            with pytest.raises((BadConfig, Dan9Error)):
                await sim.spawn(Logging, "logging", group="system", **config)

    run(main)


def test_levels_are_set_live_for_all_and_for_a_source() -> None:
    """`default` takes back."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system", min_level="warning")
            worker = await sim.spawn(Worker, "w")
            await worker.say("info", "too quiet")
            assert await log.set_level("debug", "w") == {
                "min_level": "warning",
                "levels": {"w": "debug"},
            }
            await worker.say("debug", "now")
            assert not await log.write("info", "other", "too quiet")
            await log.set_level("default", "w")
            await worker.say("info", "quiet again")
            await log.set_level("info")
            await worker.say("info", "heard")
            assert (await log.set_level("default"))["min_level"] == "warning"
            await worker.say("info", "quiet once more")
            assert texts(await log.display()) == ["now", "heard"]

    run(main)


def test_the_buffer_keeps_the_newest() -> None:
    """And `clear` empties it; the counts go on."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system", buffer_size=3)
            for number in range(10):
                log_info("me", "line %d", number)
            assert texts(await log.display()) == ["line 7", "line 8", "line 9"]
            assert await log.clear() == 3
            assert await log.display() == []
            stats = await log.stats()
            assert (stats["entries"], stats["buffered"]) == (10, 0)
            assert stats["by_level"]["info"] == 10

    run(main)


def test_long_entries_do_not_fill_the_memory() -> None:
    """The buffer has a bound in bytes beside that in entries; the newest is always there."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system", buffer_bytes=1_000_000)
            for number in range(50):
                log_info("me", "%d", number, body="x" * 30_000, parts=["y" * 100] * 20)
            stats = await log.stats()
            assert 900_000 < stats["buffer_bytes"] <= 1_000_000
            shown = texts(await log.display(limit=100))
            assert shown == [str(number) for number in range(50 - len(shown), 50)]
            assert 20 < len(shown) < 34
            assert await log.clear() == len(shown)
            assert (await log.stats())["buffer_bytes"] == 0

    run(main)


def test_the_kernel_s_events_are_entries() -> None:
    """A crash with its traceback, the restart after it, a dead letter."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            worker = await sim.spawn(Worker, "w")
            with pytest.raises(DaemonFailed):
                await worker.crash()
            await asyncio.sleep(1)
            entries = await log.display(source="w")
            assert [(e["level"], e["text"].split(":")[0]) for e in entries][:2] == [
                ("error", "crashed"),
                ("warning", "restarted"),
            ]
            assert "on purpose" in entries[0]["trace"]
            assert entries[0]["fields"] == {"message": "crash"}

    run(main)


def test_python_s_logging_and_warnings_flow_in_and_nothing_is_left_behind() -> None:
    """While the daemon lives; afterwards Python's logging is as it was."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, warnings.showwarning)

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            logging.getLogger("lib.part").warning("from %s", "python")
            try:
                raise KeyError("gone")
            except KeyError:
                logging.getLogger("lib").exception("failed")
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                logging.captureWarnings(True)
                warnings.warn("old thing", DeprecationWarning, stacklevel=1)
            found = await log.display(source="lib")
            assert [(e["level"], e["source"]) for e in found] == [
                ("warning", "lib.part"),
                ("error", "lib"),
            ]
            assert found[0]["text"] == "from python"
            assert "KeyError" in found[1]["trace"]
            [warning] = await log.display(source="py.warnings")
            assert warning["text"].endswith("DeprecationWarning: old thing")
            assert "warnings.warn(" in warning["trace"]

    run(main)
    assert (list(root.handlers), root.level, warnings.showwarning) == before


def test_two_systems_in_one_process_both_take_in_and_the_last_puts_back() -> None:
    """Whichever of them ends first."""
    root = logging.getLogger()
    before = (list(root.handlers), root.level, warnings.showwarning)
    heard: dict[str, list[LogEntry]] = {"one": [], "two": []}
    inflows = []
    for name, least in (("one", 20), ("two", 10)):
        hub = LogHub(VirtualClock())
        hub.set_levels("debug")
        hub.sink = heard[name].append
        inflows.append(Inflow(hub))
        inflows[-1].open(least)
    is_ours = root.handlers == inflows  # pytest has handlers of its own there
    logging.getLogger("lib").error("both")
    inflows[0].close()
    logging.getLogger("lib").error("two")
    assert root.level == (10 if is_ours else before[1])
    inflows[1].close()
    inflows[1].close()
    logging.getLogger("lib").error("nobody")
    assert {name: [e.text for e in entries] for name, entries in heard.items()} == {
        "one": ["both"],
        "two": ["both", "two"],
    }
    assert (list(root.handlers), root.level, warnings.showwarning) == before


def test_a_record_whose_arguments_do_not_fit_is_shown_all_the_same() -> None:
    """Somebody else's wrong call costs its form; unknown levels count as the next lower."""
    seen: list[LogEntry] = []
    hub = LogHub(VirtualClock())
    hub.sink = seen.append
    inflow = Inflow(hub)
    for level, text, args in ((35, "%d", ("no number",)), (60, "worst", ())):
        inflow.emit(logging.LogRecord("lib", level, "x.py", 1, text, args, None))
    assert [(entry.level, entry.text) for entry in seen] == [
        ("warning", "'%d' ('no number',)"),
        ("critical", "worst"),
    ]


def test_entries_flow_out_to_python_s_logging_and_not_back_in(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As loggers `dan9.<source>`, once each."""

    async def main() -> int:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system", give_python=True)
            worker = await sim.spawn(Worker, "w")
            with caplog.at_level(logging.INFO):
                await worker.say("info", "out")
            return len(await log.display(contains="out"))

    assert run(main) == 1
    assert [(r.name, r.message) for r in caplog.records if r.message == "out"] == [
        ("dan9.worker.default.w", "out")
    ]


def test_a_follower_gets_what_fits_and_hears_what_it_was_too_slow_for() -> None:
    """At most `limit` unanswered; the next entry says how many were dropped."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            reader = await sim.spawn(Reader, "r", slow=True)
            worker = await sim.spawn(Worker, "w")
            follow_id = await reader.begin("warning", "w")
            for number in range(10):
                await worker.say("warning", f"w{number}")
                await worker.say("info", "not wanted")
            await asyncio.sleep(100)
            await worker.say("error", "last")
            await asyncio.sleep(100)
            got = await reader.told()
            assert texts(got) == ["w0", "w1", "w2", "w3", "last"]
            assert [entry.get("dropped") for entry in got] == [None] * 4 + [6]
            assert (await log.stats())["followers"] == 1
            await log.unfollow(follow_id)
            await worker.say("error", "unheard")
            await asyncio.sleep(1)
            assert len(await reader.told()) == 5

    run(main)


def test_a_follower_that_ends_is_forgotten() -> None:
    """Its subscription ends with it."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            reader = await sim.spawn(Reader, "r")
            await reader.begin()
            await sim.ask("r", "stop")
            await asyncio.sleep(1)
            assert (await log.stats())["followers"] == 0

    run(main)


def test_a_file_is_written_rotated_and_flushed(tmp_path: Path) -> None:
    """Every entry in order, over all files, as JSON lines."""
    path = tmp_path / "app.log"

    async def main() -> dict[str, Any]:
        async with system() as sim:
            log = await sim.spawn(
                Logging,
                "logging",
                group="system",
                file=str(path),
                form="json",
                rotate={"size": 1000, "keep": 99},
            )
            for number in range(100):
                log_info("me", "line %d", number)
            assert await log.flush() == 0
            return (await log.stats())["file"]  # type: ignore[no-any-return]

    figures = run(main)
    assert figures["written"] == 100
    assert figures["rotations"] > 3
    names = sorted(
        tmp_path.iterdir(), key=lambda p: -int(p.suffix[1:]) if p.suffix != ".log" else 0
    )
    lines = [json.loads(line) for name in names for line in name.read_text().splitlines()]
    assert [line["text"] for line in lines[:100]] == [f"line {n}" for n in range(100)]
    assert all(name.stat().st_size <= 1000 for name in names)


def test_a_file_turns_over_by_age(tmp_path: Path) -> None:
    """A day is a day of its first entry; a quiet log turns over when something is said."""
    path = tmp_path / "app.log"

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(
                Logging, "logging", group="system", file=str(path), rotate={"age": "1d", "keep": 2}
            )
            for hour in range(0, 100, 10):
                log_info("me", "hour %d", hour)
                await asyncio.sleep(36_000)
            assert await log.flush() == 0

    run(main)
    hours = {
        name: [
            line.split()[-1] for line in (tmp_path / name).read_text().splitlines() if "me:" in line
        ]
        for name in ("app.log", "app.log.1", "app.log.2")
    }
    assert hours == {
        "app.log": ["90"],
        "app.log.1": ["60", "70", "80"],
        "app.log.2": ["30", "40", "50"],
    }
    assert not (tmp_path / "app.log.3").exists()


def test_what_waits_is_written_when_the_node_goes_down(tmp_path: Path) -> None:
    """Also the last word."""
    path = tmp_path / "app.log"

    async def main() -> None:
        async with system() as sim:
            await sim.spawn(Logging, "logging", group="system", file=str(path))
            log_info("me", "last words")

    run(main)
    assert "INFO     me: last words\n" in path.read_text()


def test_a_full_disk_stops_nobody_and_is_said_once() -> None:
    """Daemons go on, the buffer goes on, the count is honest."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(
                Logging, "logging", group="system", file="/dev/full", rotate={"keep": 0}
            )
            worker = await sim.spawn(Worker, "w")
            for number in range(10):
                await worker.say("info", f"line {number}")
                await log.flush()
            stats = await log.stats()
            assert stats["file"]["written"] == 0
            assert stats["file"]["unwritten"] == stats["entries"]
            assert "No space left" in stats["file"]["trouble"]
            assert len(await log.display(contains="is not being written")) == 1
            assert (await sim.ask("logging", "status"))["restarts"] == 0
            assert len(await log.display(source="w")) == 10

    run(main)


def test_a_disk_that_hangs_keeps_nothing_from_followers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network file system that does not answer holds its thread, not the log."""
    hangs = threading.Event()
    write = LogFile.write

    def hanging(self: LogFile, entries: Any, now: float) -> int:
        assert hangs.wait(20)
        return write(self, entries, now)

    monkeypatch.setattr(LogFile, "write", hanging)

    async def main() -> None:
        async with system(clock=None) as sim:
            log = await sim.spawn(
                Logging, "logging", group="system", file=str(tmp_path / "x.log"), take_python=False
            )
            reader = await sim.spawn(Reader, "r")
            await reader.begin(source="me")
            try:
                for number in range(3):
                    log_info("me", "line %d", number)
                    while len(await reader.told()) <= number:
                        pass  # each ask is a turn for the others
                assert texts(await log.display(source="me")) == ["line 0", "line 1", "line 2"]
                assert (await log.stats())["file"]["written"] == 0
            finally:
                hangs.set()
            assert await log.flush() == 0
            assert (await log.stats())["file"]["written"] >= 3

    run(main, real=True)


def test_an_entry_that_cannot_be_encoded_harms_nobody(tmp_path: Path) -> None:
    """What holds itself, what is no number, half characters: shown, sent and written."""
    path = tmp_path / "app.log"

    async def main() -> list[dict[str, Any]]:
        async with system() as sim:
            await sim.spawn(Logging, "logging", group="system", file=str(path), form="json")
            ring: list[object] = []
            ring.append(ring)
            log_info("me", "odd \udcff", ring=ring, ratio=float("nan"), big=2**70, path="\udcff")
            found = await sim.ask("logging", "display", source="me")
            assert await sim.ask("logging", "flush") == 0
            assert (await sim.ask("logging", "status"))["failed"] == 0
            return found  # type: ignore[no-any-return]

    [entry] = run(main)
    [line] = [
        line for line in map(json.loads, path.read_text().splitlines()) if line["source"] == "me"
    ]
    assert line == {key: value for key, value in entry.items() if value}
    assert (line["fields"]["ratio"], line["fields"]["big"]) == ("nan", str(2**70))


def test_write_file_writes_what_the_buffer_holds(tmp_path: Path) -> None:
    """In place of what was there; refusals have names."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            log_info("a", "one")
            log_info("b", "two")
            path = tmp_path / "out.log"
            path.write_text("old")
            reply = await log.write_file(str(path), source="b")
            assert reply == {"path": str(path), "entries": 1, "bytes": path.stat().st_size}
            assert path.read_text().endswith("INFO     b: two\n")
            assert sorted(tmp_path.iterdir()) == [path]  # noqa: ASYNC240 (virtual time)
            await log.write_file(str(path), form="json")
            assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == [
                "one",
                "two",
            ]
            for target, code in (
                (tmp_path, "is-a-directory"),
                (tmp_path / "no" / "folder", "not-found"),
                (path / "below", "not-found"),
            ):
                with pytest.raises(Dan9Error) as caught:
                    await log.write_file(str(target))
                assert caught.value.code == code

    run(main)


def test_a_flood_is_limited_and_its_count_is_said() -> None:
    """One source does not silence another; a second later the log says how many are missing."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system", flood=5.0)
            for number in range(50):
                log_info("noisy", "line %d", number)
            log_info("calm", "heard")
            await asyncio.sleep(2)
            noisy = await log.display(source="noisy", limit=100)
            assert len(noisy) == 6
            assert noisy[-1]["fields"] == {"dropped": 45}
            assert noisy[-1]["time"] == sim.clock.now() - 1
            assert texts(await log.display(source="calm")) == ["heard"]
            assert (await log.stats())["dropped"] == 45
            assert not await log.write("debug", "noisy", "unwanted")

    run(main)


def test_entries_from_threads_arrive(tmp_path: Path) -> None:
    """Every one of them, in the buffer and in the file."""
    path = tmp_path / "app.log"

    async def main() -> None:
        async with system(clock=None) as sim:
            log = await sim.spawn(Logging, "logging", group="system", file=str(path), flood=None)

            def chatter(name: str) -> None:
                for number in range(200):
                    sim.log_hub.logger(name).info("line %d", number)

            threads = [threading.Thread(target=chatter, args=(f"t{n}",)) for n in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                await asyncio.to_thread(thread.join)
            await log.flush()
            assert (await log.stats())["file"]["written"] == 800

    run(main, real=True)
    assert len(path.read_text().splitlines()) >= 800


def test_the_log_is_shown_while_threads_write() -> None:
    """Looking at the buffer and adding to it do not meet half way."""
    before = sys.getswitchinterval()

    async def main() -> None:
        async with system(clock=None) as sim:
            log = await sim.spawn(Logging, "logging", group="system", flood=None, buffer_size=500)
            is_over = threading.Event()

            def chatter() -> None:
                while not is_over.is_set():
                    sim.log_hub.logger("t").info("line")

            thread = threading.Thread(target=chatter)
            thread.start()
            try:
                for _ in range(200):
                    await log.display(contains="nowhere")
            finally:
                is_over.set()
                await asyncio.to_thread(thread.join)
            assert (await sim.ask("logging", "status"))["failed"] == 0

    try:
        sys.setswitchinterval(1e-5)
        run(main, real=True)
    finally:
        sys.setswitchinterval(before)


def test_a_long_text_is_cut_and_says_so() -> None:
    """Sixty-four thousand characters are enough."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            log_info("me", "x" * 100_000)
            [entry] = await log.display()
            assert len(entry["text"]) < 66_000
            assert entry["text"].endswith("more characters)")

    run(main)


def test_write_without_a_source_is_the_sender_s() -> None:
    """Who tells the log something is its source unless he says otherwise."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            await sim.ask("logging", "write", level="info", text="100% %s", path="/x")
            [entry] = await log.display()
            assert entry["source"].startswith("d9://client/")
            assert entry["text"] == "100% %s"
            assert entry["fields"] == {"path": "/x"}

    run(main)
