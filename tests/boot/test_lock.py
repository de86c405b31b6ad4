"""The node's lock: one holder at a time, gone with its process."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import dan9.base
from dan9.base.errors import AddressInUse, NoSpace, PermissionRefused, ReadOnly, Refused
from dan9.boot.lock import NodeLock, open_own


def test_a_second_node_of_the_name_is_refused(tmp_path: Path) -> None:
    """The refusal names the process that has it."""
    first = NodeLock.take(tmp_path / "home", "home")
    with pytest.raises(AddressInUse) as caught:
        NodeLock.take(tmp_path / "home", "home")
    assert caught.value.text == "a node named home runs already"
    assert caught.value.at == f"process {os.getpid()}"
    first.release()
    first.release()
    NodeLock.take(tmp_path / "home", "home").release()


def test_the_folder_is_private(tmp_path: Path) -> None:
    """Nobody else looks into a node's state."""
    lock = NodeLock.take(tmp_path / "a" / "home", "home")
    assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700
    assert lock.path.stat().st_mode & 0o777 == 0o600
    lock.release()


def test_a_killed_process_leaves_no_lock(tmp_path: Path) -> None:
    """The operating system gives the lock back, whatever became of its holder."""
    program = (
        "import sys, pathlib; from dan9.boot.lock import NodeLock;"
        "lock = NodeLock.take(pathlib.Path(sys.argv[1]), 'home'); print('held', flush=True);"
        "sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(dan9.base.__file__).parents[2])},
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(AddressInUse):
            NodeLock.take(tmp_path, "home")
        holder.send_signal(signal.SIGKILL)
    NodeLock.take(tmp_path, "home").release()


@pytest.mark.parametrize(
    ("number", "cls"),
    [(errno.EROFS, ReadOnly), (errno.EACCES, PermissionRefused), (errno.ENOSPC, NoSpace)],
)
def test_a_folder_that_cannot_be_written_is_a_named_refusal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, cls: type[Refused]
) -> None:
    """With the file's path, and where to name another folder."""

    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("dan9.boot.lock.os.open", refuse)
    for make in (lambda: NodeLock.take(tmp_path, "x"), lambda: open_own(tmp_path / "lock", 0)):
        with pytest.raises(cls) as caught:
            make()
        assert str(tmp_path / "lock") in caught.value.text
        assert "state-dir" in caught.value.hint
