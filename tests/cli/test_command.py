"""From words to a verb: what is understood, and the one line for what is not."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path

import pytest

import dan9
from dan9.base.errors import AskCycle, BadAddress, Dan9Error, NoNode, NotFound, TimedOut
from dan9.cli import main
from dan9.cli.command import WrongUse, error_line, parse
from dan9.cli.verbs import VERBS


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_its_functions(name: str) -> None:
    """What the table names by text is there: a call of two arguments, a printer of two."""
    for text in (VERBS[name].call, VERBS[name].show):
        module, _, function = text.partition(":")
        found = getattr(importlib.import_module(f"dan9.cli.{module}"), function)
        assert len(inspect.signature(found).parameters) == 2


@pytest.mark.parametrize("name", VERBS)
def test_every_verb_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`dan9 VERB --help` ends well and names the common options."""
    assert main([name, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"dan9 {name}" in out
    assert "--json" in out
    assert "--socket" in out


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """In one line."""
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dan9 {dan9.__version__}\n"


def test_help_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    """`dan9 --help` has a line for each."""
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n  {name} " in out for name in VERBS)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pss"], "dan9: no verb 'pss', did you mean ps? see dan9 --help\n"),
        (["frobnicate"], "dan9: no verb 'frobnicate', see dan9 --help\n"),
        (["--json"], "dan9: no verb is given, see dan9 --help\n"),
        (
            ["describe"],
            "dan9: the following arguments are required: address, see dan9 describe --help\n",
        ),
        (
            ["send"],
            "dan9: the following arguments are required: address, type, see dan9 send --help\n",
        ),
        (["ps", "--frob"], "dan9: unrecognized arguments: --frob, see dan9 ps --help\n"),
        (["ps", "a", "b"], "dan9: unrecognized arguments: b, see dan9 ps --help\n"),
        (
            ["logs", "--limit", "many"],
            "dan9: argument -n/--limit: invalid int value: 'many', see dan9 logs --help\n",
        ),
    ],
)
def test_wrong_use_is_one_line_and_status_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that makes no sense says so, and what to type instead."""
    assert main(words) == 2
    assert capsys.readouterr() == ("", expected)


def test_options_may_stand_anywhere() -> None:
    """Before the verb, among the key=value words, at the end."""
    for words in (
        ["--socket", "s", "--json", "send", "a", "t", "x=1", "y=-2"],
        ["send", "--socket", "s", "a", "--json", "t", "x=1", "y=-2"],
        ["send", "a", "t", "x=1", "--socket", "s", "y=-2", "--json"],
    ):
        verb, args = parse(words)
        assert verb.name == "send"
        assert (args.address, args.type, args.pairs) == ("a", "t", ["x=1", "y=-2"])
        assert (args.socket, args.json, args.payload) == ("s", True, None)


def test_json_with_a_map_is_the_payload() -> None:
    """`--json '{…}'` of a message is its payload; alone it asks for JSON."""
    _, args = parse(["send", "a", "t", "--json", '{"by": 2}', "--json"])
    assert (args.payload, args.json) == ('{"by": 2}', True)
    _, args = parse(["send", "a", "t", "--json"])
    assert (args.payload, args.json) == (None, True)
    with pytest.raises(WrongUse):
        parse(["ps", "--json", '{"by": 2}', "x"])


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Dan9Error("it broke"), "it broke"),
        (
            NotFound("no file /x", hint="check the path", address="d9://f/s/f", message="read"),
            "no file /x, d9://f/s/f read, check the path",
        ),
        (TimedOut("d9://a/b/c: no reply", address="d9://a/b/c"), "d9://a/b/c: no reply"),
        (AskCycle("a cycle", chain=("d9://a", "d9://b")), "a cycle, d9://a > d9://b"),
        (NotFound("two\nlines\x1b[2J"), "two lines\\x1b[2J"),
        (NoNode(), "no-node"),
        (
            BadAddress("'d9:/x' is no address", hint="it is d9://t/g/n", message="say"),
            "'d9:/x' is no address, it is d9://t/g/n",
        ),
    ],
)
def test_an_error_is_one_line(error: Dan9Error, expected: str) -> None:
    """What, where, what to do next; nothing that moves the cursor."""
    assert error_line(error) == expected


@pytest.mark.parametrize("name", VERBS)
def test_the_reference_page_has_every_verb_and_option(name: str) -> None:
    """What the table takes stands in its row of the page."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "commands.md"
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    (row,) = (line for line in rows if f"`{name}`" in line.split("|")[1])
    for option in VERBS[name].options:
        spellings = [one for one in option.names if one.startswith("-")]
        assert not spellings or any(f"{one}" in row for one in spellings), (name, spellings)


def test_main_stays_a_function_once_it_was_called() -> None:
    """No module of the package has its name: an import would put the module in its place."""
    importlib.import_module("dan9.cli.command")
    assert callable(importlib.import_module("dan9.cli").main)
