"""Where nodes are, and which one is meant."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from dan9.base.errors import BadAddress, BadConfig, NoNode, PermissionRefused
from dan9.edge.discovery import (
    choose_socket,
    find_nodes,
    is_live,
    private_directory,
    reachable,
    socket_path,
    state_dir,
)


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """A user's environment with nothing in it."""
    (tmp_path / "run" / "dan9").mkdir(parents=True, exist_ok=True)
    return {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path / "home")}


def listening(path: str) -> socket.socket:
    """A socket that listens, as a node's does."""
    found = socket.socket(socket.AF_UNIX)
    with reachable(path) as short:
        found.bind(short)
    found.listen()
    return found


def test_a_name_has_a_socket_and_a_state_folder(environ: dict[str, str]) -> None:
    """The runtime directory first; state where XDG says."""
    run, home = environ["XDG_RUNTIME_DIR"], environ["HOME"]
    assert socket_path("home", environ) == f"{run}/dan9/home.sock"
    assert state_dir("home", environ) == f"{home}/.local/state/dan9/home"
    assert state_dir("home", {**environ, "XDG_STATE_HOME": "/s"}) == "/s/dan9/home"


@pytest.mark.parametrize("runtime", ["", "relative", "/nowhere/at/all"])
def test_without_a_runtime_directory_the_socket_is_beside_the_state(
    environ: dict[str, str], runtime: str
) -> None:
    """Ssh without logind, containers, cron."""
    environ["XDG_RUNTIME_DIR"] = runtime
    assert socket_path("home", environ) == f"{environ['HOME']}/.local/state/dan9/home.sock"


def test_a_name_is_a_segment() -> None:
    """No name leads out of the folder."""
    for wrong in ("../x", "", "A b"):
        with pytest.raises(BadAddress):
            socket_path(wrong)


def test_nodes_that_listen_are_found(environ: dict[str, str]) -> None:
    """Stale sockets, other files and empty folders are passed over."""
    assert find_nodes(environ) == []
    with listening(socket_path("one", environ)), listening(socket_path("two", environ)):
        stale = socket.socket(socket.AF_UNIX)
        stale.bind(socket_path("stale", environ))
        stale.close()
        Path(socket_path("x", environ)).with_name("note.txt").write_text("")
        assert [node.name for node in find_nodes(environ)] == ["one", "two"]
        assert not is_live(socket_path("stale", environ))


def test_the_one_node_that_runs_is_meant(environ: dict[str, str]) -> None:
    """Nothing need be named."""
    path = socket_path("home", environ)
    with listening(path):
        assert choose_socket(None, environ) == path


def test_what_is_named_counts(environ: dict[str, str]) -> None:
    """The argument, then DAN9_SOCKET; a word is a name, a slash makes a path."""
    environ["DAN9_SOCKET"] = "/tmp/other.sock"
    assert choose_socket(None, environ) == "/tmp/other.sock"
    assert choose_socket("lab", environ) == socket_path("lab", environ)
    assert choose_socket("./x.sock", environ) == "./x.sock"


def test_no_node_says_how_to_start_one(environ: dict[str, str]) -> None:
    """The hint is a command."""
    with pytest.raises(NoNode, match="no node runs") as caught:
        choose_socket(None, environ)
    assert "dan9 up" in caught.value.hint


def test_several_nodes_are_listed(environ: dict[str, str]) -> None:
    """Nobody guesses which was meant."""
    with listening(socket_path("one", environ)), listening(socket_path("two", environ)):
        with pytest.raises(NoNode, match="several nodes run: one, two") as caught:
            choose_socket(None, environ)
        assert caught.value.chain == ("one", "two")


def test_a_long_path_is_reached_all_the_same(tmp_path: Path) -> None:
    """Socket addresses hold 107 bytes; homes may be deeper."""
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    path = str(folder / "node.sock")
    with listening(path):
        assert is_live(path)
    with pytest.raises(BadConfig, match="too long"), reachable(str(folder / ("n" * 130))):
        pass


def test_the_folder_is_private(tmp_path: Path) -> None:
    """It is made so, and mended if it is not."""
    path = tmp_path / "a" / "b"
    private_directory(str(path))
    path.chmod(0o755)
    private_directory(str(path))
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    """A file in the way is named."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionRefused, match="Not a directory"):
        private_directory(str(tmp_path / "file" / "b"))


def test_another_users_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket in it could be exchanged under our feet."""
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.raises(PermissionRefused, match="belongs to user"):
        private_directory(str(tmp_path))
