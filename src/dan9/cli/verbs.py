"""Every verb: its words, the function that does it and the one that prints its value.

Functions are named by text and imported when their verb is used. A call returns plain
data, or an iterator of them (a stream: one line each); `None` means that there is
nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

__all__ = ["HINTS", "VERBS", "Option", "Verb"]


class Option(NamedTuple):
    """One argument of a verb: names and settings as argparse takes them."""

    names: tuple[str, ...]
    settings: Mapping[str, Any]


class Verb(NamedTuple):
    """One verb.

    Attributes:
        summary: What it does, one line, for `dan9 --help`.
        call: `module:function` below `dan9.cli`; takes the session and the arguments.
        show: `module:function` of its printer: the page and the value give lines.
        options: Its own arguments.
        detail: More for `dan9 VERB --help`.
    """

    name: str
    summary: str
    call: str
    show: str = "printers:value"
    options: tuple[Option, ...] = ()
    detail: str = ""


def _opt(*names: str, **settings: Any) -> Option:
    return Option(names, settings)


_TARGET = "an address, a bare name or a namespace path"
_PATTERN = f"{_TARGET}, or a pattern as 'd9://timer/**' or 'web-*'"
_ADDRESS = _opt("address", help=_TARGET)
_EACH = _opt("pattern", help=_PATTERN)
_PAIRS = _opt("pairs", nargs="*", metavar="key=value", help="key=value, key:=JSON or key=@file")
_PAYLOAD = _opt("--payload", metavar="JSON", help="the whole payload as JSON; --json '{…}' as well")
_CONFIG = _opt(
    "-c", "--config", metavar="FILE", help="the configuration, ./dan9.toml if there is one"
)
_PATH = _opt("path", help="a namespace path, as /srv/web")
_LIMIT = _opt("-n", "--limit", type=int, default=20, help="how many, the latest last")

_ALL: Final = (
    Verb(
        "up",
        "start a node",
        "node:up",
        options=(
            _CONFIG,
            _opt("--name", help="the node's name, over the file's"),
            _opt("--detach", "-d", action="store_true", help="leave it running in the background"),
        ),
    ),
    Verb(
        "down",
        "stop the node: queues are drained, daemons stopped in reverse order",
        "node:down",
        show="printers:nothing",
        options=(_opt("--now", action="store_true", help="do not drain the queues"),),
    ),
    Verb(
        "ps",
        "list daemons",
        "look:ps",
        "printers:ps",
        (_opt("pattern", nargs="?", default="**", help=_PATTERN),),
    ),
    Verb("tree", "show who supervises whom", "look:tree", "printers:tree"),
    Verb(
        "status",
        "show a daemon, or the node",
        "look:status",
        "printers:several",
        (_opt("pattern", nargs="?", help=_PATTERN),),
    ),
    Verb(
        "describe",
        "show what can be said to a daemon",
        "look:describe",
        "printers:describe",
        (_ADDRESS,),
    ),
    Verb(
        "send",
        "ask a daemon and print its reply",
        "act:send",
        options=(_ADDRESS, _opt("type", help="the message, see dan9 describe"), _PAIRS, _PAYLOAD),
        detail="A value is text wherever the message's schema allows text, else JSON.",
    ),
    Verb(
        "tell",
        "send a message and do not wait for a reply",
        "act:tell",
        show="printers:nothing",
        options=(
            _opt("address", help=_PATTERN),
            _opt("type", help="the message"),
            _PAIRS,
            _PAYLOAD,
        ),
    ),
    *(
        Verb(name, summary, f"act:{name}", "printers:states", (_EACH,))
        for name, summary in (
            ("start", "start daemons that are stopped or failed"),
            ("stop", "stop daemons; they stay down until they are started"),
            ("restart", "restart daemons"),
            ("suspend", "let daemons queue their messages and handle none"),
            ("resume", "let suspended daemons go on"),
        )
    ),
    Verb(
        "explain",
        "say what a daemon does, waits for, and why it is in its state",
        "look:explain",
        "printers:explain",
        options=(_ADDRESS,),
    ),
    Verb(
        "logs",
        "show the log",
        "look:logs",
        "printers:logs",
        (
            _opt("-f", "--follow", action="store_true", help="go on as entries come"),
            _opt("--level", help="this level and above: debug info warning error critical"),
            _opt("--source", help="only what this source wrote"),
            _opt("--since", help="not older than this, as 10m"),
            _opt("--contains", metavar="TEXT", help="only entries with this text"),
            _LIMIT,
        ),
    ),
    Verb("metrics", "show a daemon's figures", "look:metrics", "printers:several", (_EACH,)),
    Verb(
        "dashboard",
        "show the node and its busiest daemons",
        "look:dashboard",
        "printers:dashboard",
        (
            _opt("pattern", nargs="?", default="**", help=_PATTERN),
            _opt(
                "--sort",
                default="rate",
                choices=("rate", "handled", "mailbox", "busy", "failed", "address"),
                help="what counts as busy (default: rate)",
            ),
            _opt("-n", "--limit", type=int, default=20, help="how many daemons"),
        ),
    ),
    Verb("timers", "list scheduled tasks", "look:timers", "printers:timers"),
    Verb(
        "watch",
        "show messages as they pass",
        "look:watch",
        "printers:events",
        (_opt("pattern", nargs="?", default="**", help=_PATTERN),),
    ),
    Verb(
        "dead",
        "list dead letters: messages that reached nobody",
        "look:dead",
        "printers:dead",
        (_LIMIT,),
    ),
    Verb(
        "run",
        "start a daemon from a class of your own",
        "act:run",
        "printers:run",
        (
            _opt("target", metavar="module:Class", help="imported from this directory"),
            _opt("name", nargs="?", help="the daemon's name, the class's if not given"),
            _opt("--group", default="default", help="the group in its address"),
            _PAIRS,
        ),
    ),
    Verb(
        "ls",
        "list a place in the namespace",
        "look:ls",
        "printers:ls",
        (_opt("path", nargs="?", default="/", help="a namespace path"),),
    ),
    Verb("ns", "print the namespace, as the commands that build it", "look:ns"),
    *(
        Verb(
            name,
            summary,
            f"act:{name}",
            options=(
                _PATH,
                _opt("target", help=_TARGET),
                _opt(
                    "--before",
                    action="store_const",
                    const="before",
                    dest="order",
                    help="a union, searched first",
                ),
                _opt(
                    "--after",
                    action="store_const",
                    const="after",
                    dest="order",
                    help="a union, searched last",
                ),
                *(
                    (_opt("--create", action="store_true", help="new names are made here"),)
                    if name == "bind"
                    else ()
                ),
            ),
        )
        for name, summary in (
            ("bind", "bind a daemon to a namespace path"),
            ("mount", "mount a daemon's own tree at a namespace path"),
        )
    ),
    *(
        Verb(
            name,
            summary,
            f"act:{name}",
            options=(_PATH, _opt("target", nargs="?", help="only this one")),
        )
        for name, summary in (
            ("unbind", "undo a bind"),
            ("unmount", "undo a mount"),
        )
    ),
    Verb(
        "checkpoint",
        "save the state of daemons, of all if none is named",
        "act:checkpoint",
        "printers:several",
        (_opt("pattern", nargs="?", help=_PATTERN),),
    ),
    Verb(
        "restore",
        "go back to a saved state",
        "act:restore",
        options=(
            _ADDRESS,
            _opt("--version", help="which, the latest if not given; none starts afresh"),
        ),
    ),
    Verb("reload", "apply a changed dan9.toml", "act:reload", "printers:reload", (_CONFIG,)),
    Verb(
        "sim",
        "rehearse a system in virtual time, with faults, and say what happened",
        "sim:sim",
        "sim:lines",
        (
            _opt("file", help="a dan9.toml, or a Python file with `async def main(system)`"),
            _opt("--for", dest="for_", default="1d", metavar="TIME", help="how long, as 30d; 1d"),
            _opt("--seed", type=int, default=0, help="what decides whatever is left to chance; 0"),
            _opt("--faults", default="", help="as crash:0.01,delay:0.02:2s,drop:0.001"),
        ),
        "Filesystem, network and processes are played in memory; no node is needed.",
    ),
    Verb("doctor", "check the installation and the node", "doctor:doctor", "printers:doctor"),
    Verb(
        "new",
        "make a folder with a daemon, its configuration and its test",
        "new:new",
        "printers:new",
        (_opt("name", help="of the folder and the system"),),
    ),
)

VERBS: Final[Mapping[str, Verb]] = {verb.name: verb for verb in _ALL}

HINTS: Final = (
    "dan9 describe NAME   what can be said to a daemon",
    "dan9 logs -f         what they write",
    "dan9 --help          every verb",
)
