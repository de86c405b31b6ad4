"""The helper and the node's link to it."""

import asyncio
import os
import socket
import subprocess
import sys

import pytest

from dan9.daemons import process_helper
from dan9.daemons.process_child import Wiring
from dan9.daemons.process_helper import Cgroup, Frames, descendants, pack
from dan9.daemons.process_link import HelperLink, Order, StartFailed
from dan9.testing import run


def order(*argv):
    """Return an order to run this here."""
    return Order(argv, dict(os.environ), "/", {})


@pytest.mark.real
def test_it_imports_next_to_nothing():
    """What it costs in memory is decided here: no typing, no pathlib, no json, no asyncio."""
    program = f"exec(open({process_helper.__file__!r}).read()); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"__name__ = ''; {program}"],
        capture_output=True,
        text=True,
        check=True,
    )
    heavy = {"typing", "pathlib", "json", "asyncio", "subprocess", "dataclasses", "re", "inspect"}
    assert not set(done.stdout.split()) & heavy


@pytest.mark.real
def test_an_unknown_request_is_answered():
    """A node of another version hears an error, not silence."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        helper = subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                process_helper.__file__,
                str(theirs.fileno()),
                str(os.getpid()),
            ],
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        ours.sendall(pack({"id": 7, "op": "dance"}))
        assert Frames().feed(ours.recv(65536)) == [{"id": 7, "error": ["op", 0], "op": "dance"}]
    assert helper.wait() == 0


@pytest.mark.real
def test_a_start_that_nobody_waits_for_leaves_no_process():
    """Cancelled between request and reply: what was started is ended and not mentioned."""

    async def main():
        exits = []
        link = HelperLink(lambda *exit_: exits.append(exit_), lambda: None, mark="test")
        wiring = Wiring(stdin=False)
        first = asyncio.ensure_future(link.spawn(order("sleep", "1000"), wiring.theirs))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        wiring.close()
        second = Wiring(stdin=False)
        with pytest.raises(StartFailed, match="exec"):
            await link.spawn(order("nonesuch"), second.theirs)
        second.close()
        while descendants(link.pid):
            await link.signal(0, 0, "all")
        assert exits == []
        await link.close()
        assert link.pid is None

    run(main, real=True)


def test_limits_go_to_a_control_group_of_their_own(tmp_path):
    """Where the controllers are delegated, memory and processes are held for the whole tree."""
    (tmp_path / "all").mkdir()
    group = Cgroup.__new__(Cgroup)
    group.path, group._leaves = str(tmp_path), 0
    limits = {"memory": [1024, 1024], "processes": [5, 5], "files": [9, 9]}
    assert group.place({}) == group.place(limits) == f"{tmp_path}/all", "no controllers, no leaf"
    (tmp_path / "all" / "memory.max").touch()
    leaf = group.place(limits)
    assert leaf not in {"", f"{tmp_path}/all"}
    with open(f"{leaf}/memory.max") as memory, open(f"{leaf}/pids.max") as pids:
        assert (memory.read(), pids.read()) == ("1024", "5")
    assert group.place({"files": [9, 9]}) == f"{tmp_path}/all"
    group.path = ""
    assert group.place(limits) == "", "no group at all: resource limits alone"
