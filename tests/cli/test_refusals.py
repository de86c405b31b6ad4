"""Every bad input: one line that says what, where and what to do next, and its exit status."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.cli.conftest import Shell


def line_of(node: Shell, *words: str, status: int = 1) -> str:
    """Run a command that must be refused; return its one line."""
    done = node(*words) if "up" in words else node.here(*words)
    assert done.status == status, done
    assert done.out == ""
    assert done.err.count("\n") == 1, done.err
    assert done.err.startswith("dan9: ")
    assert "Traceback" not in done.err
    return done.err.removeprefix("dan9: ").rstrip("\n")


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        # a wrong address
        (("status", "d9://a/b/c/d"), ["d9://a/b/c/d", "an address is d9://type/group/name"]),
        (("send", "d9:/x", "say"), ["'d9:/x' is no address, an address is d9://type/group/name"]),
        (("status", "d9://A/b/c"), ["'A'", "use 1 to 63 of"]),
        (("ps", "D9!*"), ["'D9!*' is no pattern", "d9://timer/**"]),
        # an unknown daemon
        (("status", "nobody"), ["no daemon 'nobody'"]),
        (("status", "d9://filesystem/system/filesystm"), ["filesystm"]),
        (("stop", "nobody-*"), ["no daemon fits 'nobody-*'", "dan9 ps"]),
        (("status", "/no/such/path"), ["'/no'", "dan9 ls /"]),
        (("tell", "nobody", "knock"), ["no daemon 'nobody'"]),
        # an unknown message
        (("tell", "filesystem", "rea"), ["rea", "read"]),
        (("send", "filesystem", "rea", "path=/"), ["rea", "read"]),
        # a wrong, missing or doubled key, a payload of the wrong type
        (("send", "filesystem", "read", "pth=/"), ["pth", "path"]),
        (("send", "filesystem", "read"), ["path"]),
        (("send", "filesystem", "read", "path=/", "offset=x"), ["offset", "JSON"]),
        (("send", "filesystem", "read", "path=/", 'offset:="x"'), ["offset"]),
        (("send", "filesystem", "read", "path=/", "path=/"), ["path is given twice"]),
        (("send", "filesystem", "read", "path"), ["'path' is no key=value", "key=value"]),
        (("send", "filesystem", "read", "path=@/no/file"), ["cannot read /no/file"]),
        (("send", "filesystem", "read", "--payload", "{"), ["the payload is no JSON"]),
        (("send", "filesystem", "read", "--payload", "[]"), ["the payload is no JSON object"]),
        (("send", "filesystem", "read", "a=1", "--payload", "{}"), ["both key=value and"]),
        # what the world refuses
        (("send", "filesystem", "read", "path=/no/such/file"), ["/no/such/file"]),
        (("send", "filesystem", "read", "path=/../etc/passwd"), ["..", "root"]),
        (("send", "process", "run", "command=no-such-command-at-all"), ["no-such-command-at-all"]),
        (("send", "timer", "cancel", "task-id=nothing"), ["nothing"]),
        (("run", "no_such_module:Counter", "x"), ["no module 'no_such_module'"]),
        (("run", "json:JSONDecoder", "x"), ["json:JSONDecoder is no daemon class"]),
        (("run", "counter", "x"), ["'counter' is no module:Class"]),
    ],
)
def test_refused(node: Shell, words: tuple[str, ...], parts: list[str]) -> None:
    """Exit status 1, one line, and it names what was wrong."""
    line = line_of(node, *words)
    for part in parts:
        assert part in line, line


def test_a_timeout_that_is_none(node: Shell) -> None:
    """Is wrong use, like every option that makes no sense."""
    line = line_of(node, "status", "filesystem", "--timeout", "soon", status=2)
    assert line.startswith("--timeout: 'soon' is no duration")


def test_a_payload_as_json_does_not_ask_for_json(node: Shell) -> None:
    """Only a bare --json does."""
    words = ("send", "filesystem", "read", "--json", '{"path": "/no/such/file"}')
    assert "/no/such/file" in line_of(node, *words)
    assert node.here(*words, "--json").json["error"]["code"] == "not-found"


def test_a_port_in_use(node: Shell) -> None:
    """Is said so, with the port."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = line_of(node, "send", "network", "listen", f"port={port}")
    assert str(port) in line


def test_with_json_the_error_is_a_document_too(node: Shell) -> None:
    """Its form is that of the wire; the line is on standard error still."""
    done = node.here("send", "filesystem", "read", "path=/no/such/file", "--json")
    assert done.status == 1
    assert done.json["error"]["code"] == "not-found"
    assert done.err.startswith("dan9: ")


def test_a_deadline_that_passes(node: Shell) -> None:
    """Has an exit status of its own."""
    words = ("send", "process", "run", "command=sleep", 'args=["60"]', "--timeout", "0.2")
    line = line_of(node, *words, status=4)
    assert "0.2 s" in line


def test_a_name_that_two_daemons_have(node: Shell) -> None:
    """Both are named."""
    (node.cwd / "twins.py").write_text("from dan9 import Daemon\nclass Twin(Daemon): pass\n")
    for group in ("left", "right"):
        node.well("run", "twins:Twin", "twin", "--group", group)
    line = line_of(node, "status", "twin")
    assert "d9://twin/left/twin" in line
    assert "d9://twin/right/twin" in line
    line = line_of(node, "run", "twins:Twin", "twin", "--group", "left")
    assert "d9://twin/left/twin" in line
    node.well("stop", "d9://twin/**")


def test_a_name_that_is_taken_by_one_that_is_stopped(node: Shell) -> None:
    """The hint is of the command line, and true: a stopped daemon keeps its name."""
    (node.cwd / "keeper.py").write_text(
        "from dan9 import Daemon\n\nclass Keeper(Daemon):\n    pass\n"
    )
    node.well("run", "keeper:Keeper", "taken")
    node.well("stop", "taken")
    line = line_of(node, "run", "keeper:Keeper", "taken")
    assert "d9://keeper/default/taken is taken, `dan9 status d9://keeper" in line


def test_no_node(shell: Shell) -> None:
    """Exit status 3, and how to start one; `dan9` alone says where the verbs are."""
    assert line_of(shell, "ps", status=3) == "no node runs, start one: dan9 up --detach"
    assert line_of(shell, status=3).endswith("dan9 up --detach; dan9 --help lists the verbs")
    line = line_of(shell, "ps", "--socket", str(shell.folder / "nothing.sock"), status=3)
    assert "nothing.sock" in line


def test_several_nodes(shell: Shell) -> None:
    """Exit status 3, and they are listed."""
    (shell.cwd / "dan9.toml").write_text('[system]\ndaemons = "none"\n')
    for name in ("one", "two"):
        said = shell.well("up", "--detach", "--name", name)
    assert said.endswith("one runs too: name the one you mean, dan9 ps --socket two\n")
    line = line_of(shell, "ps", status=3)
    assert "one, two" in line
    assert "--socket one" in line
    shell.well("ps", "--socket", "two")


def test_a_broken_configuration(shell: Shell) -> None:
    """All faults at once, each with file, line and key; nothing was started."""
    (shell.cwd / "dan9.toml").write_text(
        '[system]\nnam = "x"\n[daemon.filesystem]\nrot = "/"\n[daemon.a]\nrun = "no_module:A"\n'
    )
    for words in (("up",), ("up", "--detach")):
        done = shell(*words)
        assert done.status == 1
        assert done.out == ""
        lines = done.err.splitlines()
        assert [line.split(": ")[1:3] for line in lines] == [
            ["dan9.toml:2", "system.nam"],
            ["dan9.toml:4", "daemon.filesystem.rot"],
            ["dan9.toml:6", "daemon.a.run"],
        ]
    assert line_of(shell, "ps", status=3).startswith("no node runs")


def test_a_configuration_that_is_not_there(shell: Shell) -> None:
    """Is named."""
    assert line_of(shell, "up", "-c", "no.toml") == (
        "no configuration no.toml, check the path after -c"
    )


def test_a_folder_that_cannot_be_written(shell: Shell) -> None:
    """Is named, before anything else has started."""
    blocked = shell.folder / "state"
    blocked.rmdir()
    Path(blocked).write_text("a file stands here")
    for words in (("up",), ("up", "--detach")):
        assert str(blocked) in line_of(shell, *words)


def test_new_makes_a_folder_once(shell: Shell) -> None:
    """A second time it would overwrite somebody's work."""
    shell.well("new", "garden")
    assert "garden is there already" in line_of(shell, "new", "garden")
    assert "'Garden' is no name" in line_of(shell, "new", "Garden")
