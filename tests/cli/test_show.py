"""How values look: aligned, in colour only where asked for, and the same data as JSON."""

from __future__ import annotations

import io
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.cli import printers
from dan9.cli.show import Page, clean, json_line, page_for, value_lines

PLAIN = Page()


def test_a_table_is_aligned_and_numbers_stand_right() -> None:
    """Columns are as wide as their widest cell; a missing cell is blank."""
    rows = [{"name": "a", "count": 5}, {"name": "longer", "count": 12345}, {"name": "b"}]
    assert PLAIN.table(rows, ["name", "count"]) == [
        "NAME    COUNT",
        "a           5",
        "longer  12345",
        "b",
    ]


def test_a_tree_is_drawn() -> None:
    """Each daemon stands under its supervisor."""
    nodes = [
        {
            "address": "d9://supervisor/system/user",
            "state": "running",
            "children": [
                {"address": "d9://a/b/c", "state": "running", "children": []},
                {
                    "address": "d9://a/b/d",
                    "state": "failed",
                    "restarts": 2,
                    "children": [{"address": "d9://a/b/e", "state": "stopped", "restarts": 1}],
                },
            ],
        }
    ]
    assert PLAIN.tree(nodes) == [
        "d9://supervisor/system/user  running",
        "├─ d9://a/b/c  running",
        "└─ d9://a/b/d  failed, 2 restarts",
        "   └─ d9://a/b/e  stopped, 1 restart",
    ]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        ("one\ntwo\n", ["one", "two"]),
        (3, ["3"]),
        (True, ["yes"]),
        (0.1, ["0.1"]),
        (1234567.25, ["1234567.25"]),
        (b"\x00\xff", ["2 bytes: 00 ff"]),
        ([], []),
        ([1, "a", None], ["1", "a", "-"]),
        ({}, ["(nothing)"]),
        ({"a": 1, "long": [1, {"b": None}]}, ["a     1", 'long  [1,{"b":null}]']),
        (
            {"uptime": 3600.0, "mailbox": {"depth": 1, "limit": 9}},
            ["uptime   1h", "mailbox  1 of 9"],
        ),
        ({"stdout": "a\nb\n"}, ["stdout  a", "        b"]),
        ([{"a": 1}, {"b": "x"}], ["A  B", "1", "   x"]),
        ([{"when": 1.5}], ["WHEN", "1970-01-01T00:00:01.500Z"]),
    ],
)
def test_any_reply_has_lines(value: object, expected: list[str]) -> None:
    """Text as it is, maps as facts, lists of maps as tables."""
    assert value_lines(PLAIN, value) == expected


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never in a pipe, never with NO_COLOR, never on a dumb terminal."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert page_for(Terminal()).state("running") == "\x1b[32mrunning\x1b[0m"
    assert page_for(io.StringIO()).state("running") == "running"
    monkeypatch.setenv("TERM", "dumb")
    assert page_for(Terminal()).state("running") == "running"
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    assert page_for(Terminal()).state("running") == "running"


def test_colour_does_not_change_the_alignment() -> None:
    """Without its codes a coloured table is the plain one."""
    rows = [{"state": "running", "x": 1}, {"state": "failed", "x": 22}]
    coloured = Page(colour=True).table(rows, ["state", "x"])
    assert [strip(line) for line in coloured] == PLAIN.table(rows, ["state", "x"])


def strip(line: str) -> str:
    """Take the colour codes out."""
    import re

    return re.sub(r"\x1b\[\d+m", "", line)


REPLIES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.text()
    | st.binary(max_size=9)
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
)


@given(REPLIES)
def test_every_reply_prints_and_is_one_line_of_json(reply: object) -> None:
    """No reply breaks a printer, no line holds a control character, JSON is one document."""
    for line in printers.value(PLAIN, reply) if not isinstance(reply, str) else []:
        assert line.isprintable() or "\t" in line
    text = json_line(reply)
    assert "\n" not in text
    json.loads(text)


def test_control_characters_are_shown_not_obeyed() -> None:
    """What a daemon replies cannot move the cursor or change the title."""
    assert clean("a\x1b]0;evil\x07é\tb") == "a\\x1b]0;evil\\x07é\tb"


def test_a_text_reply_is_printed_as_it_is_but_for_escapes() -> None:
    """A file's lines come out as lines."""
    assert value_lines(PLAIN, "a\n\nb\x1b[2J") == ["a", "", "b\\x1b[2J"]
    assert value_lines(Page(is_raw=True), "b\x1b[2J") == ["b\x1b[2J"]


def test_describe_shows_what_to_type() -> None:
    """Required keys with their kind, the others with their default, then what comes back."""
    reply = {
        "address": "d9://filesystem/system/filesystem",
        "doc": "Files below one root.",
        "messages": [
            {
                "type": "read",
                "doc": "Read a file.\n\nErrors: not-found.",
                "payload": {
                    "type": "object",
                    "required": ["path"],
                    "properties": {
                        "path": {"type": "string"},
                        "length": {
                            "anyOf": [{"type": "integer"}, {"type": "null"}],
                            "default": None,
                        },
                        "mode": {"enum": ["a", "b"]},
                        "of": {"$ref": "#/$defs/Thing"},
                        "tags": {"type": "array", "items": {"type": "string"}},
                    },
                    "$defs": {"Thing": {"type": "object"}},
                },
                "reply": {"type": "string", "contentEncoding": "base64"},
            },
            {"type": "log", "payload": {"additionalProperties": True}, "reply": {}},
        ],
    }
    assert printers.describe(PLAIN, reply) == [
        "d9://filesystem/system/filesystem",
        "    Files below one root.",
        "",
        "read path:text length=null [mode:a|b] [of:map] [tags:[text]] → bytes",
        "    Read a file.",
        "",
        "    Errors: not-found.",
        "",
        "log [key=value …] → any",
    ]


def test_log_entries_are_lines() -> None:
    """When, level, who, what, the fields; a traceback is indented below."""
    entry = {
        "time": 0.25,
        "level": "error",
        "source": "me",
        "text": "broke",
        "fields": {"n": 1},
        "trace": "Traceback\n  x",
    }
    assert printers.logs(PLAIN, [entry]) == [
        "1970-01-01T00:00:00.250Z error    me: broke n=1\n    Traceback\n      x",
    ]
    assert printers.logs(PLAIN, {"dropped": 3}) == ["… 3 entries were dropped"]
    late = printers.logs(PLAIN, {**entry, "dropped": 3, "trace": ""})
    assert late == ["… 3 entries were dropped\n1970-01-01T00:00:00.250Z error    me: broke n=1"]


def test_events_are_lines() -> None:
    """A message with its route, an event with its facts."""
    message = {"time": 0, "sender": "a", "recipient": "b", "type": "read", "payload": {"x": 1}}
    assert printers.events(PLAIN, message) == ['1970-01-01T00:00:00.000Z a → b read {"x":1}']
    assert printers.events(PLAIN, {**message, "dropped": 2}) == [
        "… 2 were dropped",
        '1970-01-01T00:00:00.000Z a → b read {"x":1}',
    ]
    event = {"event": "daemon-started", "time": 0, "address": "d9://a/b/c", "took-s": 0.5}
    assert printers.events(PLAIN, event) == [
        "1970-01-01T00:00:00.000Z d9://a/b/c daemon-started took-s=0.5"
    ]


def test_the_dashboard_has_colours_on_a_terminal_only() -> None:
    """The same words with and without; what a daemon's name would smuggle in is shown."""
    text = (
        "home  2025-01-01T00:00:00.000Z  up 1h\n2 daemons (1 failed, 1 running)  7 handled\n"
        "ALERT  rate of w1 is 5\n\n"
        "daemon     state      up\nw/demo/w1  running  1d 1h\nw/demo/\x1b   failed      5s\n"
    )
    plain = printers.dashboard(PLAIN, text)
    assert plain == [line.replace("\x1b", "\\x1b") for line in text.splitlines()]
    painted = printers.dashboard(Page(colour=True), text)
    assert painted[2] == "\x1b[31mALERT  rate of w1 is 5\x1b[0m"
    assert painted[5] == "w/demo/w1  \x1b[32mrunning\x1b[0m  1d 1h"
    assert [re.sub(r"\x1b\[\d+m", "", line) for line in painted] == plain


def test_empty_lists_say_so() -> None:
    """An empty table would leave one wondering whether the command worked."""
    assert printers.dead(PLAIN, []) == ["no dead letters"]
    assert printers.timers(PLAIN, []) == ["no tasks are scheduled"]
    assert printers.ls(PLAIN, []) == ["(nothing is bound here)"]
    assert printers.reload(PLAIN, []) == ["nothing has changed"]


def test_explain_reads_as_sentences() -> None:
    """What is in hand and on whom it waits; of an idle daemon, that there is nothing."""
    idle = {"address": "d9://a/b/c", "state": "running", "uptime": 60.0, "supervisor": "d9://s/s/u"}
    assert printers.explain(PLAIN, idle) == [
        "d9://a/b/c  running for 1m under d9://s/s/u",
        "  nothing is in hand, nothing is queued",
    ]
    busy = {
        **idle,
        "state": "failed",
        "restarts": 10,
        "in-hand": [{"message": "add", "from": "d9://x", "on": "'read' of d9://y", "since-s": 2.0}],
        "waited-for-by": [{"address": "d9://z", "message": "sum", "since-s": 0.5}],
        "queued": 3,
        "last-error": "ValueError: no",
        "slow-steps": [{"time": 0.0, "message": "add", "took-s": 0.25}],
        "dead-letters": 2,
        "latest-dead-letter": "stopped",
    }
    assert printers.explain(PLAIN, busy) == [
        "d9://a/b/c  failed for 1m after 10 restarts under d9://s/s/u",
        "  in hand: add from d9://x, since 2s, waits for 'read' of d9://y",
        "  waited for by d9://z in sum, since 500ms",
        "  3 messages are queued",
        "  last error: ValueError: no",
        "  held the node for 250ms at 1970-01-01T00:00:00.000Z in add",
        "  2 dead letters, the latest: stopped",
    ]


def test_a_described_key_has_one_spelling() -> None:
    """The docstring's underscores become the hyphens that one types."""
    message = {
        "type": "mkdir",
        "doc": "Make it.\n\nArgs:\n    exist_ok: Be content.",
        "payload": {"properties": {"exist-ok": {"type": "boolean", "default": False}}},
    }
    lines = printers.describe(PLAIN, {"address": "d9://a/b/c", "messages": [message]})
    assert any(line.startswith("mkdir exist-ok=false") for line in lines)
    assert "        exist-ok: Be content." in lines
