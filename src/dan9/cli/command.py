"""From words to a verb, from a verb to an exit status.

Exit statuses: 0 done; 1 refused or failed; 2 wrong use; 3 no node, or several and none
named; 4 timed out; 130 interrupted. An error is one line on standard error: what,
where, what to do next. With `--json` standard output has the error's form as well, because a
program that reads it should not have to parse prose.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from dan9.base.errors import BadPayload, Dan9Error, NoNode, TimedOut, to_form
from dan9.cli.show import clean, json_line, page_for
from dan9.cli.verbs import HINTS, VERBS, Verb

__all__ = ["error_line", "parse", "run"]

DONE, FAILED, WRONG_USE, NO_NODE, TIMED_OUT, INTERRUPTED = 0, 1, 2, 3, 4, 130


class WrongUse(Exception):
    """The words make no command; the text says why, the hint what to type instead."""

    def __init__(self, text: str, hint: str) -> None:
        super().__init__(text)
        self.hint = hint


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # argparse counts `key=value ...` as required where options may stand among them.
        raise WrongUse(message.replace(", key=value", ""), f"see {self.prog} --help")


def run(words: list[str]) -> int:
    """Run one command line; return its exit status. Never raises."""
    try:
        return _run(words)
    except SystemExit as error:  # argparse after --help
        return int(error.code or 0)
    except WrongUse as error:
        _say(f"{error}, {error.hint}")
        return WRONG_USE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our pipe has gone (as `| head` does): no error, and nothing more to
        # write, not even by the interpreter's own flush at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except Dan9Error as error:
        return _refuse(error, as_json=False)
    except OSError as error:
        # What the operating system refuses to the command itself: a directory that cannot
        # be made, a file that cannot be read.
        where = f", {error.filename}" if error.filename else ""
        _say(f"{error.strerror or error}{where}, check the path and its permissions")
        return FAILED
    except Exception as error:
        # The last boundary: whatever it is, it is a bug of ours, and still one line.
        if os.environ.get("DAN9_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}"
        _say(f"a bug in dan9, {clean(what)}, DAN9_DEBUG=1 shows where; please report it")
        return FAILED


def _run(words: list[str]) -> int:
    if not words:
        return _overview()
    if words[0] in {"-h", "--help", "help"}:
        print("\n".join(_help()))
        return DONE
    if words[0] in {"-V", "--version"}:
        from dan9 import __version__

        print(f"dan9 {__version__}")
        return DONE
    verb, args = parse(words)
    try:
        return _do(verb, args)
    except Dan9Error as error:
        return _refuse(error, as_json=args.json)


def parse(words: list[str]) -> tuple[Verb, argparse.Namespace]:
    """Parse a command line.

    Raises:
        WrongUse: No such verb, or its arguments are wrong.
    """
    before, rest = _leading_options(words)
    if not rest:
        raise WrongUse("no verb is given", "see dan9 --help")
    name = rest[0]
    verb = VERBS.get(name)
    if verb is None:
        from dan9.base.forms import nearest

        near = nearest(name, VERBS)
        hint = f"did you mean {near}? see dan9 --help" if near else "see dan9 --help"
        raise WrongUse(f"no verb {clean(name)!r}", hint)
    parser = _parser(verb)
    # Intermixed, so that options may stand among the key=value words.
    return verb, parser.parse_intermixed_args([*before, *_payload_words(verb, rest[1:])])


def _leading_options(words: list[str]) -> tuple[list[str], list[str]]:
    """Split off the common options that stand before the verb."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        at += 2 if words[at] in {"--socket", "--timeout"} else 1
    return words[:at], words[at:]


def _payload_words(verb: Verb, words: list[str]) -> list[str]:
    """Read `--json '{…}'` as the payload where the verb takes one; a bare --json asks for JSON."""
    if not any("--payload" in option.names for option in verb.options):
        return words
    out: list[str] = []
    for word in words:
        if out and out[-1] == "--json" and word.lstrip().startswith("{"):
            out[-1] = "--payload"
        out.append(word)
    return out


def _parser(verb: Verb) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"dan9 {verb.name}",
        description=f"{verb.summary[:1].upper()}{verb.summary[1:]}. {verb.detail}".strip(),
        allow_abbrev=False,
        formatter_class=_formatter,
    )
    for option in verb.options:
        parser.add_argument(*option.names, **option.settings)
    parser.add_argument("--json", action="store_true", help="one JSON document, nothing else")
    parser.add_argument("--socket", metavar="PATH|NAME", help="which node, by its socket or name")
    parser.add_argument("--timeout", metavar="S", help="how long to wait, as 5 or 2m")
    return parser


def _formatter(prog: str) -> argparse.HelpFormatter:
    """Return argparse's formatter with its width given: else it imports shutil, for 5 ms."""
    try:
        columns = os.get_terminal_size(sys.stdout.fileno()).columns
    except (OSError, ValueError):
        columns = 100
    return argparse.HelpFormatter(prog, width=max(40, columns - 2))


def _do(verb: Verb, args: argparse.Namespace) -> int:
    from dan9.cli.session import Session

    try:
        session = Session(socket=args.socket, timeout=args.timeout)
    except BadPayload as error:
        raise WrongUse(f"--timeout: {error.text}", error.hint) from None
    with session:
        value = _named(verb.call)(session, args)
        if isinstance(value, Iterator):
            for one in value:
                _print(verb, one, as_json=args.json)
        else:
            _print(verb, value, as_json=args.json)
    for refusal in session.errors:
        _say(error_line(refusal))
    return session.status


def _print(verb: Verb, value: object, *, as_json: bool) -> None:
    if as_json:
        print(json_line(value), flush=True)
        return
    for line in _named(verb.show)(page_for(sys.stdout), value):
        print(line)
    sys.stdout.flush()


def _named(text: str) -> Callable[..., Any]:
    module, _, function = text.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(f"dan9.cli.{module}"), function)
    return found


def _overview() -> int:
    """Print the tree and three hints: what plain `dan9` does."""
    from dan9.cli.look import tree
    from dan9.cli.session import Session

    page = page_for(sys.stdout)
    with Session() as session:
        try:
            lines = page.tree(tree(session, argparse.Namespace()))
        except NoNode as error:
            # Whoever types nothing but `dan9` may not know yet that there are verbs.
            error.hint += "; dan9 --help lists the verbs"
            raise
    print("\n".join([*lines, "", *(page.paint(hint, "dim") for hint in HINTS)]))
    return DONE


def _help() -> list[str]:
    width = max(map(len, VERBS))
    return [
        "usage: dan9 VERB [ARGUMENTS] [--json] [--socket PATH|NAME] [--timeout S]",
        "",
        *(f"  {verb.name.ljust(width)}  {verb.summary}" for verb in VERBS.values()),
        "",
        "dan9 VERB --help says more; plain dan9 shows the tree of the running node.",
    ]


def _refuse(error: Dan9Error, *, as_json: bool) -> int:
    if as_json:
        print(json_line(to_form(error)))
    for line in getattr(error, "lines", None) or [error_line(error)]:
        _say(line)
    if isinstance(error, NoNode):
        return NO_NODE
    if isinstance(error, TimedOut):
        return TIMED_OUT
    return FAILED


def error_line(error: Dan9Error) -> str:
    """Return an error as one line: what, where, what to do next."""
    parts = [error.text or error.code]
    # A message's type alone says nothing to whoever has just typed it.
    where = f"{error.address} {error.message}".strip() if error.address else ""
    if error.address in error.text:
        where = ""
    if error.chain and not all(one in error.text for one in error.chain):
        where = f"{where} {' > '.join(error.chain)}".strip()
    parts += [part for part in (where, error.hint) if part]
    return ", ".join(clean(" ".join(part.split())) for part in parts)


def _say(text: str) -> None:
    print(f"dan9: {text}", file=sys.stderr)
