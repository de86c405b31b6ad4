"""The socket's file: private, recovered when stale, refused when live."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path
from typing import Any

import pytest

from dan9.base.errors import AddressInUse, NotAllowed, PermissionRefused
from dan9.edge import server as server_module
from dan9.edge.client import Client
from dan9.edge.server import listen

pytestmark = pytest.mark.real


def test_the_socket_is_private_and_goes_with_the_node(run_edge: Any) -> None:
    """0600 in a folder of 0700; removed at the end."""
    kept = []

    async def main(edge: Any) -> None:
        kept.append(edge.path)
        assert stat.S_IMODE(os.stat(edge.path).st_mode) == 0o600
        assert stat.S_IMODE(os.stat(os.path.dirname(edge.path)).st_mode) == 0o700

    run_edge(main)
    assert not os.path.exists(kept[0])


def test_a_stale_socket_is_taken_over(tmp_path: Path) -> None:
    """What a killed node left behind does not keep the next one from starting."""
    path = str(tmp_path / "node.sock")
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(path)
    dead.close()
    with listen(path) as found:
        assert found.getsockname() == path


def test_a_live_socket_is_refused(tmp_path: Path) -> None:
    """Two nodes of one name would steal each other's clients."""
    path = str(tmp_path / "node.sock")
    with listen(path), pytest.raises(AddressInUse, match="a node listens at") as caught:
        listen(path)
    assert "dan9 down" in caught.value.hint


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    """Nobody's file is deleted."""
    path = tmp_path / "node.sock"
    path.write_text("mine")
    with pytest.raises(AddressInUse, match="is no socket"):
        listen(str(path))
    assert path.read_text() == "mine"


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """The refusal has the path and the reason."""
    (tmp_path / "file").write_text("")
    with pytest.raises(PermissionRefused, match="cannot make"):
        listen(str(tmp_path / "file" / "node.sock"))


def test_a_socket_that_another_node_has_taken_is_not_removed(run_edge: Any) -> None:
    """At the end a node removes its own file only."""

    async def main(edge: Any) -> None:
        os.unlink(edge.path)
        with listen(edge.path):
            await edge.server.stop()
            kept.append(Path(edge.path).exists())  # noqa: ASYNC240  (a test may look)

    kept: list[bool] = []
    run_edge(main)
    assert kept == [True]


def test_another_user_is_refused_by_the_kernels_word(
    run_edge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even where the file's mode would let him in."""

    async def main(edge: Any) -> None:
        monkeypatch.setattr(server_module, "_peer", lambda transport: os.geteuid() + 1)
        with pytest.raises(NotAllowed, match="belongs to user"):
            await asyncio.to_thread(Client, edge.path)
        assert edge.reception.visits == []

    run_edge(main)
