"""The verbs against a real node, each as a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import ROOT, Shell

SYSTEM = ("filesystem", "logging", "monitoring", "namespace", "network", "persistence", "process")


def test_ps_lists_every_system_daemon(node: Shell) -> None:
    """With address, type, state, mailbox and handled."""
    rows = {row["name"]: row for row in node("ps", "d9://*/system/*", "--json").json}
    assert set(SYSTEM) | {"timer", "node"} <= set(rows)
    assert {row["state"] for row in rows.values()} == {"running"}
    row = rows["filesystem"]
    assert (row["address"], row["type"], row["mailbox"]) == (
        "d9://filesystem/system/filesystem",
        "filesystem",
        0,
    )
    assert isinstance(row["handled"], int)


def test_ps_takes_a_pattern(node: Shell) -> None:
    """Only what fits is listed, aligned under a heading."""
    lines = node.well("ps", "d9://timer/**").splitlines()
    assert [line.split()[0] for line in lines] == ["ADDRESS", "d9://timer/system/timer"]


def test_tree_has_the_system_under_its_supervisors(node: Shell) -> None:
    """Each daemon stands once."""
    out = node.well("tree")
    assert out.count("d9://filesystem/system/filesystem") == 1
    assert "─ d9://" in out


def test_plain_dan9_is_the_tree_and_three_hints(node: Shell) -> None:
    """What one sees first."""
    out = node.well()
    tree, _, hints = out.partition("\n\n")
    assert "d9://filesystem/system/filesystem" in tree
    assert len(hints.strip().splitlines()) == 3


def test_a_file_of_this_machine_is_read(node: Shell) -> None:
    """By bare name, as text; the pipe gets it unchanged."""
    (node.cwd / "hello").write_text("hello\nworld\n")
    path = str(node.cwd / "hello")
    assert node.well("send", "filesystem", "read", f"path={path}") == "hello\nworld\n"
    reply = node.here("send", "filesystem", "read", f"path={path}", "--json")
    assert reply.json == "hello\nworld\n"


def test_a_command_is_run(node: Shell) -> None:
    """Arguments are JSON where the schema says list."""
    reply = node.here("send", "process", "run", "command=echo", 'args=["-n", "hi"]', "--json").json
    assert (reply["code"], reply["stdout"]) == (0, "hi")


def test_the_three_forms_of_a_value(node: Shell) -> None:
    """key=value, key:=JSON and key=@file; or the payload as a whole."""
    target = node.cwd / "written"
    source = node.cwd / "source"
    source.write_text("from a file")
    for words, expected in (
        (("content=plain",), "plain"),
        (('content:="as JSON"',), "as JSON"),
        ((f"content=@{source}",), "from a file"),
    ):
        node.well("send", "filesystem", "write", f"path={target}", *words)
        assert target.read_text() == expected
    whole = f'{{"path": "{target}", "content": "whole"}}'
    assert node.here("send", "filesystem", "write", "--json", whole).status == 0
    assert target.read_text() == "whole"


def test_describe_shows_what_can_be_said(node: Shell) -> None:
    """Made from the handlers: types, keys, replies."""
    out = node.well("describe", "filesystem")
    assert out.startswith("d9://filesystem/system/filesystem\n")
    assert "\nread path:" in out
    types = [
        message["type"]
        for message in node.here("describe", "filesystem", "--json").json["messages"]
    ]
    assert {"read", "write", "list", "stat", "ping", "status"} <= set(types)


def test_status_of_one_of_several_and_of_the_node(node: Shell) -> None:
    """One gives a map, a pattern a list, nothing the node itself."""
    one = node.here("status", "timer", "--json").json
    assert (one["address"], one["state"]) == ("d9://timer/system/timer", "running")
    several = node.here("status", "d9://*/system/*", "--json").json
    assert {row["address"] for row in several} >= {"d9://timer/system/timer"}
    own = node.here("status", "--json").json
    assert own["node"] == "home"
    assert own["pid"] == node.lock_holder("home")
    assert "d9://timer/system/timer" in node.well("status", "d9://*/system/*")


def test_metrics_count_what_was_handled(node: Shell) -> None:
    """`<type>-count` grows by what was sent."""
    path = str(node.cwd)
    before = node.here("metrics", "filesystem", "--json").json.get("stat-count", 0)
    node.well("send", "filesystem", "stat", f"path={path}")
    assert node.here("metrics", "filesystem", "--json").json["stat-count"] == before + 1


def test_log_entries_are_written_and_shown(node: Shell) -> None:
    """`tell` says nothing; `logs` filters by source, level, text and number."""
    assert node.well("tell", "logging", "write", "level=info", "source=me", "text=hello") == ""
    node.well("tell", "logging", "write", "level=error", "source=me", "text=goodbye")
    out = node.well("logs", "--source", "me")
    assert [line.split(" ", 1)[1] for line in out.splitlines()] == [
        "info     me: hello",
        "error    me: goodbye",
    ]
    (entry,) = node.here("logs", "--source", "me", "--level", "error", "--json").json
    assert entry["text"] == "goodbye"
    (entry,) = node.here("logs", "--source", "me", "--contains", "hell", "--json").json
    assert entry["text"] == "hello"


def test_logs_follow(node: Shell) -> None:
    """With -f entries come as they are written, one JSON document a line."""
    with node.start("logs", "-f", "--source", "fresh", "--json") as following:
        assert following.stdout is not None
        try:
            node.well("tell", "logging", "write", "level=info", "source=fresh", "text=one")
            while '"text":"one"' not in following.stdout.readline():
                node.well("tell", "logging", "write", "level=info", "source=fresh", "text=one")
        finally:
            following.terminate()


def test_a_class_of_ones_own_is_run(node: Shell) -> None:
    """From the caller's directory; then asked, shown, suspended, stopped, started."""
    (node.cwd / "examples").mkdir(exist_ok=True)
    source = (ROOT / "examples" / "counter.py").read_text()
    (node.cwd / "examples" / "counter.py").write_text(source)
    out = node.well("run", "examples.counter:Counter", "c1", "--group", "demo", "total=1")
    assert out == "d9://counter/demo/c1  running\n"
    assert node.well("send", "d9://counter/demo/c1", "add", "by=2") == "3\n"
    assert node.here("status", "c1", "--json").json["state"] == "running"
    assert node.well("suspend", "c1") == "d9://counter/demo/c1  suspended\n"
    assert node.well("resume", "c1") == "d9://counter/demo/c1  running\n"
    assert node.well("stop", "c*") == "d9://counter/demo/c1  stopped\n"
    done = node.here("send", "c1", "add", "by=2")
    assert done.status == 1
    assert done.err.startswith("dan9: ")
    assert node.well("start", "c1") == "d9://counter/demo/c1  running\n"
    assert node.well("restart", "c1") == "d9://counter/demo/c1  running\n"
    node.well("stop", "c1")


def test_stop_of_everything_spares_the_system(node: Shell) -> None:
    """A pattern means one's own daemons unless it says system."""
    node.here("stop", "**")
    assert {row["state"] for row in node.here("ps", "d9://*/system/*", "--json").json} == {
        "running"
    }


def test_the_namespace(node: Shell) -> None:
    """Bind a name, list it, speak to it, take it away."""
    node.well("bind", "/srv/clock", "timer")
    assert "clock" in node.well("ls", "/srv")
    assert "clock' d9://timer/system/timer" in node.well("ns")
    assert any("clock" in line for line in node.here("ns", "--json").json)
    assert node.here("status", "/srv/clock", "--json").json["address"] == "d9://timer/system/timer"
    node.well("unbind", "/srv/clock")
    assert "clock" not in node.well("ls", "/srv")


def test_checkpoint_and_restore(node: Shell) -> None:
    """A state that was saved comes back."""
    (node.cwd / "kept.py").write_text(
        "from dan9 import Daemon, on\n"
        "class Kept(Daemon):\n"
        "    total: int = 0\n"
        "    @on\n"
        "    def add(self, by: int) -> int:\n"
        "        self.total += by\n"
        "        return self.total\n"
    )
    node.well("run", "kept:Kept", "kept")
    node.well("send", "kept", "add", "by=5")
    assert node.here("checkpoint", "kept", "--json").json["version"] == 1
    node.well("send", "kept", "add", "by=5")
    node.well("restore", "kept")
    assert node.well("send", "kept", "add", "by=0") == "5\n"
    node.well("restore", "kept", "--version", "none")
    assert node.well("send", "kept", "add", "by=0") == "0\n"
    rows = node.here("checkpoint", "**", "--json").json  # those without state are passed over
    assert "d9://kept/default/kept" in [row["address"] for row in rows]
    policy = node.here("send", "persistence", "policy", "daemon-name=kept", "on-change=true")
    assert "on-change" in policy.out
    node.well("stop", "kept")


def test_dead_letters_are_listed(node: Shell) -> None:
    """With whom they were meant for and why they did not get there."""
    (node.cwd / "gone.py").write_text(
        "from dan9 import Daemon, on\n"
        "class Gone(Daemon):\n"
        "    @on\n"
        "    def knock(self) -> None: ...\n"
    )
    node.well("run", "gone:Gone")
    node.well("stop", "gone")
    node.here("send", "gone", "knock")
    letter = node.here("dead", "--json").json[-1]
    assert (letter["address"], letter["type"]) == ("d9://gone/default/gone", "knock")
    assert letter["reason"] in {"not-running", "stopped"}
    assert "d9://gone/default/gone" in node.well("dead")


def test_timers_are_listed(node: Shell) -> None:
    """Until they are cancelled."""
    task = node.well("send", "timer", "schedule", "delay=1h", "target=timer", "type=ping").strip()
    assert task in node.well("timers")
    node.well("send", "timer", "cancel", f"task-id={task}")


def test_the_dashboard_is_plain_in_a_pipe(node: Shell) -> None:
    """The node, and a row for each daemon that fits, in the order asked for."""
    lines = node.well("dashboard", "d9://*/system/*", "--sort", "address", "-n", "3").splitlines()
    assert " daemons (" in lines[1]
    assert [line.split()[1] for line in lines if line.startswith("filesystem/")] == ["running"]
    assert "\x1b" not in "".join(lines)
    assert lines[-1].startswith("… and ")


def test_explain(node: Shell) -> None:
    """Says at least who and in which state."""
    assert node.here("explain", "timer", "--json").json["state"] == "running"


def test_watch_shows_messages_as_they_pass(node: Shell) -> None:
    """One JSON document a line."""
    with node.start("watch", "d9://timer/**", "--json") as watching:
        assert watching.stdout is not None
        try:
            line = ""
            # Asked again because nothing says when the watch has begun.
            import threading

            ended = threading.Event()

            def knock() -> None:
                while not ended.is_set():
                    node.well("send", "timer", "ping")

            knocking = threading.Thread(target=knock)
            knocking.start()
            line = watching.stdout.readline()
            ended.set()
            knocking.join()
            assert '"recipient":"d9://timer/system/timer"' in line
        finally:
            watching.terminate()


def test_doctor_finds_the_node_well(node: Shell) -> None:
    """Every check has a name and a word."""
    rows = node.here("doctor", "--json").json
    assert {"python", "sockets", "daemons"} <= {row["check"] for row in rows}


@pytest.mark.parametrize("how", ["option", "name", "environment"])
def test_the_node_may_be_named(node: Shell, how: str) -> None:
    """By its socket or its name, on the command line or in the environment."""
    socket = str(Path(node.env["XDG_RUNTIME_DIR"]) / "dan9" / "home.sock")
    words = {"option": ("--socket", socket), "name": ("--socket", "home"), "environment": ()}[how]
    env = {"DAN9_SOCKET": socket} if how == "environment" else {}
    assert "timer" in node.well("ps", *words, **env)
