"""Loggers, levels, patterns, and the flood that is stopped at its source."""

from __future__ import annotations

import logging
import threading

import pytest

from dan9.base.errors import BadPayload
from dan9.base.events import LogEntry
from dan9.kernel import log
from dan9.kernel.log import LogHub, log_info, source_matches


class Watch:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


def collecting() -> tuple[LogHub, list[LogEntry], Watch]:
    """Return a hub, what it was told, and its clock."""
    watch = Watch()
    hub = LogHub(watch)
    seen: list[LogEntry] = []
    hub.sink = seen.append
    return hub, seen, watch


def test_an_entry_says_when_who_what_and_the_facts() -> None:
    """Text is filled in, keywords are fields."""
    hub, seen, _ = collecting()
    hub.logger("d9://a/b/c").info("read %d bytes of %s", 5, "x", path="/x", size=5)
    assert seen == [
        LogEntry(100.0, "info", "d9://a/b/c", "read 5 bytes of x", {"path": "/x", "size": 5})
    ]


def test_levels_are_changed_live_and_by_source() -> None:
    """The most specific pattern wins, and holds from the next call on."""
    hub, seen, _ = collecting()
    quiet, loud = hub.logger("d9://a/b/quiet"), hub.logger("d9://a/b/loud")
    hub.set_levels("warning", {"d9://a/**": "info", "loud": "debug", "d9://a/b/quiet": "error"})
    loud.debug("loud")
    quiet.warning("not heard")
    hub.logger("d9://a/x/y").info("heard")
    hub.logger("elsewhere").info("not heard")
    assert [entry.text for entry in seen] == ["heard"]
    hub.set_levels("debug")
    loud.debug("now")
    assert seen[-1].text == "now"


@pytest.mark.parametrize(
    ("pattern", "source", "fits"),
    [
        ("worker-1", "d9://worker/demo/worker-1", True),
        ("worker-1", "worker-1", True),
        ("worker-1", "d9://worker/demo/worker-11", False),
        ("worker-*", "d9://worker/demo/worker-11", True),
        ("httpx", "httpx._client", True),
        ("httpx", "httpx2", False),
        ("d9://worker/**", "d9://worker/demo/w", True),
        ("worker/*/w", "d9://worker/demo/w", True),
        ("d9://*/w", "d9://worker/demo/w", False),
        ("**", "anything at all\n", True),
        ("a.b", "axb", False),
    ],
)
def test_patterns_name_sources(pattern: str, source: str, fits: bool) -> None:
    """Whole sources, names of daemons, dotted prefixes and stars."""
    assert source_matches(pattern, source) is fits


def test_a_wrong_level_is_refused_and_changes_nothing() -> None:
    """The old levels hold after a refusal."""
    hub, seen, _ = collecting()
    with pytest.raises(BadPayload) as caught:
        hub.set_levels("loud")
    assert caught.value.at == "level"
    with pytest.raises(BadPayload):
        hub.set_levels("debug", {"x": "verbose"})
    hub.logger("x").debug("still filtered")
    assert seen == []
    with pytest.raises(BadPayload):
        hub.logger("x").log("verbose", "no")


def test_arguments_that_do_not_fit_are_shown_and_do_not_raise() -> None:
    """A wrong format string costs its form, not the caller."""
    hub, seen, _ = collecting()
    hub.logger("x").info("%d files", "many")
    hub.logger("x").info("50%", 1)

    class Broken:
        def __repr__(self) -> str:
            raise RuntimeError

    hub.logger("x").info("%s", Broken())
    assert [entry.text for entry in seen] == [
        "%d files ('many',)",
        "50% (1,)",
        "%s (its arguments cannot be shown)",
    ]


def test_what_is_no_text_is_said_all_the_same() -> None:
    """An exception, a number, a map of arguments, fields that are called as parameters are."""
    hub, seen, _ = collecting()
    hub.logger("x").info(ValueError("no"))  # type: ignore[arg-type]
    hub.logger("x").info(5)  # type: ignore[arg-type]
    hub.logger("x").info("%(a)s of %(b)s", {"a": 1, "b": 2})
    hub.logger("x").log("info", "y", text="t", level="l", self="s", source="o")
    assert [entry.text for entry in seen] == ["ValueError('no')", "5", "1 of 2", "y"]
    assert seen[-1].fields == {"text": "t", "level": "l", "self": "s", "source": "o"}
    hub.logger("half \ud800").info("\udcff", path="\udcff")
    assert (seen[-1].source, seen[-1].text) == ("half \\ud800", "\\udcff")
    assert seen[-1].fields == {"path": "\\udcff"}


def test_fields_are_as_they_were_when_they_were_said() -> None:
    """Whoever goes on changing a list does not change what the log says."""
    hub, seen, _ = collecting()
    jobs = ["a"]
    hub.logger("x").info("jobs", jobs=jobs)
    jobs.append("b")
    assert seen[0].fields == {"jobs": ["a"]}


def test_a_filtered_line_formats_nothing() -> None:
    """Arguments of a line nobody wants are not touched."""
    hub, seen, _ = collecting()

    class Touchy:
        def __str__(self) -> str:
            raise AssertionError("formatted")

    hub.logger("x").debug("%s", Touchy())
    assert seen == []
    assert not hub.logger("x").is_enabled("debug")
    assert hub.logger("x").is_enabled("info")


def test_an_exception_carries_its_traceback() -> None:
    """`exception` is an error with the trace of what is in hand."""
    hub, seen, _ = collecting()
    try:
        raise KeyError("gone")
    except KeyError:
        hub.logger("x").exception("could not")
        hub.logger("x").warning("as Python has it", exc_info=True, part=1)
    hub.logger("x").error("later", exc_info=KeyError("lost"))
    hub.logger("x").error("none", exc_info=True)
    assert seen[0].level == "error"
    assert "KeyError: 'gone'" in seen[0].trace
    assert "KeyError: 'gone'" in seen[1].trace
    assert seen[1].fields == {"part": 1}
    assert "KeyError: 'lost'" in seen[2].trace
    assert (seen[3].trace, seen[3].fields) == ("", {})


def test_a_flood_is_dropped_at_the_source_and_counted() -> None:
    """Written and dropped add up to what was said, and the log says how many are missing."""
    hub, seen, watch = collecting()
    drops: list[int] = []
    hub.on_drop = lambda: drops.append(1)
    hub.set_rate(10)
    logger = hub.logger("noisy")
    for number in range(100):
        logger.info("line %d", number)
    hub.logger("other").info("unharmed")
    assert [entry.source for entry in seen] == ["noisy"] * 10 + ["other"]
    assert hub.dropped == 90
    assert drops == [1]
    watch.at += 1.0
    logger.info("again")
    assert seen[-2].text == "90 entries were dropped: more than 10 a second"
    assert seen[-2].fields == {"dropped": 90}
    assert seen[-1].text == "again"


@pytest.mark.timeout(5)
def test_what_is_said_while_a_drop_is_noted_does_not_hang() -> None:
    """A warning of the garbage collector may come at any moment, and is an entry."""
    hub, seen, _ = collecting()
    hub.set_rate(1)
    hub.on_drop = lambda: hub.logger("py.warnings").warning("unclosed")
    hub.logger("x").info("one")
    hub.logger("x").info("two")
    assert [entry.text for entry in seen] == ["one", "unclosed"]


def test_drops_are_said_even_when_the_source_falls_silent() -> None:
    """`say_drops` writes the count without waiting for another line."""
    hub, seen, _ = collecting()
    hub.set_rate(1)
    hub.logger("x").info("one")
    hub.logger("x").info("two")
    hub.say_drops()
    hub.say_drops()
    assert [entry.fields.get("dropped") for entry in seen] == [None, 1]


def test_no_entry_is_miscounted_across_threads() -> None:
    """Four threads in a flood: written and dropped add up exactly."""
    hub, seen, _ = collecting()
    hub.set_rate(100)
    logger = hub.logger("x")

    def flood() -> None:
        for _ in range(500):
            logger.info("x")

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = sum(entry.fields.get("dropped", 0) for entry in seen)  # type: ignore[misc]
    written = sum(1 for entry in seen if "dropped" not in entry.fields)
    hub.say_drops()
    said = sum(int(str(entry.fields.get("dropped", 0))) for entry in seen)
    assert written + said == 2000


def test_without_a_collector_entries_go_to_the_standard_logging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A library that nobody configured logs as every library does."""
    hub = LogHub(Watch())
    with caplog.at_level(logging.INFO, logger="dan9"):
        hub.logger("d9://a/b/c").info("hello %s", "you")
    assert caplog.messages == ["d9://a/b/c: hello you"]


def test_module_functions_find_the_hub(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`log_info` uses the hub there is, and the standard logging when there is none."""
    hub, seen, _ = collecting()
    monkeypatch.setattr(log, "find_hub", lambda: hub)
    log_info("worker-1", "started %s", "well", job=3)
    log.log_debug("worker-1", "filtered")
    log.log_error("worker-1", "wrong")
    assert [(e.level, e.source, e.text) for e in seen] == [
        ("info", "worker-1", "started well"),
        ("error", "worker-1", "wrong"),
    ]
    monkeypatch.setattr(log, "find_hub", lambda: None)
    log.log_warning("worker-2", "nobody %s", "there")
    log.log_critical("worker-2", "still")
    assert caplog.messages == ["worker-2: nobody there", "worker-2: still"]
