"""Where nodes are: sockets and state folders by name, and which of them live.

A node `home` listens at `$XDG_RUNTIME_DIR/dan9/home.sock`; without a runtime directory,
at `~/.local/state/dan9/home.sock`. Its state is in `$XDG_STATE_HOME/dan9/home/`.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from dan9.base.address import segment
from dan9.base.errors import BadConfig, NoNode, PermissionRefused

__all__ = [
    "Node",
    "choose_socket",
    "find_nodes",
    "is_live",
    "private_directory",
    "reachable",
    "socket_path",
    "state_dir",
]

_LONGEST = 107
"""Bytes that sun_path holds, on Linux, beside its closing zero."""


class Node(NamedTuple):
    """A node that listens."""

    name: str
    path: str


def _state_home(environ: Mapping[str, str]) -> str:
    given = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(given):
        return given
    home = environ.get("HOME") or os.path.expanduser("~")
    return os.path.join(home, ".local", "state")


def socket_directories(environ: Mapping[str, str] | None = None) -> list[str]:
    """Return where sockets may be, the preferred place first."""
    environ = os.environ if environ is None else environ
    fallback = os.path.join(_state_home(environ), "dan9")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if os.path.isabs(runtime) and os.path.isdir(runtime):
        return [os.path.join(runtime, "dan9"), fallback]
    return [fallback]


def socket_path(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Return where the node of this name listens, or would."""
    segment(name, "node's name")
    return os.path.join(socket_directories(environ)[0], f"{name}.sock")


def state_dir(name: str, environ: Mapping[str, str] | None = None) -> str:
    """Return the folder of the node's state; it may not exist yet."""
    segment(name, "node's name")
    return os.path.join(_state_home(os.environ if environ is None else environ), "dan9", name)


def find_nodes(environ: Mapping[str, str] | None = None) -> list[Node]:
    """Return the nodes of this user that listen, by name; stale sockets are passed over."""
    found: dict[str, Node] = {}
    for directory in socket_directories(environ):
        try:
            names = os.listdir(directory)
        except OSError:
            continue
        for entry in names:
            name, dot, kind = entry.rpartition(".")
            path = os.path.join(directory, entry)
            if dot and kind == "sock" and name not in found and is_live(path):
                found[name] = Node(name, path)
    return [found[name] for name in sorted(found)]


def choose_socket(name_or_path: str | None, environ: Mapping[str, str] | None = None) -> str:
    """Return the socket that a caller means.

    What is given counts first, then DAN9_SOCKET, then the one node that runs. A word
    without a slash is a node's name.

    Raises:
        NoNode: None runs, or several do and none was named.
    """
    environ = os.environ if environ is None else environ
    given = name_or_path or environ.get("DAN9_SOCKET", "")
    if given:
        return given if "/" in given else socket_path(given, environ)
    nodes = find_nodes(environ)
    if len(nodes) == 1:
        return nodes[0].path
    if nodes:
        names = ", ".join(node.name for node in nodes)
        raise NoNode(
            f"several nodes run: {names}",
            hint=f"name one: --socket {nodes[0].name}, or DAN9_SOCKET={nodes[0].path}",
            chain=tuple(node.name for node in nodes),
        )
    raise NoNode("no node runs", hint="start one: dan9 up --detach")


def is_live(path: str) -> bool:
    """True if something accepts connections at the path (or is too busy to, just now)."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            with reachable(path) as short:
                probe.connect(short)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


@contextmanager
def reachable(path: str) -> Iterator[str]:
    """Give a name for the path that fits into a socket address, for bind and connect.

    A path of more than 107 bytes is reached through a descriptor of its folder.
    """
    if len(os.fsencode(path)) <= _LONGEST:
        yield path
        return
    directory, name = os.path.split(path)
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        short = f"/proc/self/fd/{descriptor}/{name}"
        if len(os.fsencode(short)) > _LONGEST:
            raise BadConfig(f"the socket's name {name!r} is too long", hint="use a shorter name")
        yield short
    finally:
        os.close(descriptor)


def private_directory(
    path: str, *, hint: str = "set XDG_RUNTIME_DIR to a folder of your own"
) -> None:
    """Make a folder that only this user can enter, or see that it is one.

    Args:
        path: The folder.
        hint: What to do if it cannot be had.

    Raises:
        PermissionRefused: It is another user's, or cannot be made.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        found = os.stat(path)
        if found.st_uid != os.geteuid():
            raise PermissionRefused(
                f"{path} belongs to user {found.st_uid}",
                hint=hint,
                at=path,
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            os.chmod(path, 0o700)
    except OSError as error:
        what = os.strerror(error.errno) if error.errno else str(error)
        if error.errno == errno.ENOTDIR:
            hint = f"remove the file that stands in the way of {path}"
        raise PermissionRefused(f"cannot make {path}: {what}", hint=hint, at=path) from None
