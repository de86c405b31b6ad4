"""`up` and `down`: a node's process, in the foreground or left running.

`up --detach` forks before anything heavy is imported, so that no second interpreter
starts: the child makes itself the leader of a session, sends what it prints to `node.log`, and says
through a pipe that it is ready or why it is not. The parent only waits for that word.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from dan9.base.errors import Closed, Dan9Error, NotFound, TimedOut, from_form, to_form
from dan9.cli.session import NODE, Session
from dan9.cli.show import json_line, page_for
from dan9.edge.discovery import find_nodes

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["config_of", "down", "up"]

_READY_S = 30
"""How long `up --detach` waits for a node whose own daemons take their time."""

_DOWN_S = 60
"""How long `down` waits for the queues to drain, unless --timeout says."""


def up(session: Session, args: Namespace) -> Iterator[object]:
    """Start a node; in the foreground return when it has ended."""
    config = config_of(args.config)
    if args.detach:
        _show(_detach(session, args, config), as_json=args.json)
        return iter(())
    run_node = _node_runner()
    session.status = run_node(
        name=args.name, config=config, on_ready=lambda facts: _show(facts, as_json=args.json)
    )
    return iter(())


def _node_runner() -> Callable[..., int]:
    """Import what runs a node, unless half of it would be of another version."""
    from dan9.boot.freshness import refuse_stale

    refuse_stale()
    from dan9.boot.running import run_node

    return run_node


def config_of(given: str | None) -> Path | None:
    """Return the configuration to read: the one given, `./dan9.toml`, the user's own, or none.

    Raises:
        NotFound: The one given is not there.
    """
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise NotFound(f"no configuration {given}", hint="check the path after -c")
        return path.resolve()
    home = os.environ.get("XDG_CONFIG_HOME", "")
    own = Path(home) if home.startswith("/") else Path.home() / ".config"
    for path in (Path("dan9.toml"), own / "dan9" / "dan9.toml"):
        if path.is_file():
            return path.resolve()
    return None


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json_line(facts), flush=True)
        return
    page = page_for(sys.stdout)
    hint = "dan9 down stops it" if facts.get("detached") else "Ctrl-C stops it"
    others = [node.name for node in find_nodes() if node.name != facts["node"]]
    if others:
        those = f"{', '.join(others)} {'runs' if len(others) == 1 else 'run'} too"
        hint = f"{those}: name the one you mean, dan9 ps --socket {facts['node']}"
    print(
        f"{page.paint(facts['node'], 'bold')} is {page.state('running')} with"
        f" {facts['daemons']} daemons at {facts['socket']}; {hint}",
        flush=True,
    )


# ---------------------------------------------------------------- in the background


def _detach(session: Session, args: Namespace, config: Path | None) -> dict[str, Any]:
    """Fork the node; return its facts once it is ready.

    Raises:
        Dan9Error: Why it is not.
    """
    reader, writer = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _be_the_node(writer, args.name, config)
    os.close(writer)
    with (
        os.fdopen(reader, "rb") as pipe,
        _alarm(session.timeout_s or _READY_S, "the node to be ready"),
    ):
        word = pipe.readline()
    if not word:
        raise Closed(
            "the node ended before it was ready", hint="run dan9 up without --detach to see why"
        )
    import msgspec

    said = msgspec.json.decode(word)
    if "error" in said:
        error = from_form(said)
        if said.get("lines"):
            error.lines = said["lines"]  # type: ignore[attr-defined]  # for main, see its _refuse
        raise error
    facts: dict[str, Any] = said
    return facts


def _be_the_node(writer: int, name: str | None, config: Path | None) -> NoReturn:
    """Run the node in the forked child; never returns to the parent's code."""
    status = 1
    told = False

    def say(word: dict[str, Any]) -> None:
        nonlocal told
        if not told:
            told = True
            os.write(writer, json_line(word).encode() + b"\n")
            os.close(writer)

    try:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        status = _node_runner()(
            name=name,
            config=config,
            on_ready=lambda facts: say({**facts, "detached": True}),
            log_output=True,
        )
    except Dan9Error as error:
        word: dict[str, Any] = to_form(error)
        if getattr(error, "lines", None):
            word["lines"] = error.lines  # type: ignore[attr-defined]
        say(word)
    except BaseException as error:
        # The last boundary of the process: the parent and the log must hear of it.
        import traceback

        traceback.print_exc()
        form: dict[str, Any] = to_form(error)
        form["error"]["hint"] = "node.log has the traceback, dan9 up shows it here"
        say(form)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def down(session: Session, args: Namespace) -> None:
    """End the node; return when its process has ended.

    Raises:
        TimedOut: It still drains.
    """
    client = session.client
    # A handle of the process itself, taken before it can end: no polling, and no other
    # process can be taken for it.
    process = os.pidfd_open(client.pid)
    try:
        with contextlib.suppress(Closed):
            session.ask(NODE, "shutdown", drain=not args.now)
        seconds = session.timeout_s or _DOWN_S
        waiter = select.poll()
        waiter.register(process, select.POLLIN)
        if not waiter.poll(seconds * 1000):
            raise TimedOut(
                f"the node {client.node} (process {client.pid}) still ends after {seconds:g} s",
                hint="wait, or kill the process: nothing acknowledged is lost",
                timeout_s=seconds,
            )
    finally:
        os.close(process)


@contextlib.contextmanager
def _alarm(seconds: float, what: str) -> Iterator[None]:
    """Raise TimedOut from a blocking call of the operating system."""

    def ring(number: int, frame: object) -> NoReturn:  # noqa: ARG001  (a signal handler's form)
        raise TimedOut(
            f"waited {seconds:g} s for {what}", hint="--timeout waits longer", timeout_s=seconds
        )

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
