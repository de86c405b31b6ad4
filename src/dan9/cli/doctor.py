"""`dan9 doctor`: is this machine fit for a node, and is the node well?"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dan9.base.errors import BadConfig, Dan9Error, NoNode
from dan9.boot.freshness import refuse_stale
from dan9.cli.session import Session

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["doctor"]


def doctor(session: Session, args: Namespace) -> list[dict[str, Any]]:  # noqa: ARG001  (see verbs)
    """Check the installation, the folders and, if one runs, the node."""
    rows = [_python(), _kernel(), _loop(), *_folders(), _reaper()]
    try:
        rows += session.node("doctor")
    except NoNode as error:
        several = bool(error.chain)
        rows.append(_row("node", not several, error.text, error.hint))
    except Dan9Error as error:
        rows.append(_row("node", ok=False, text=error.text, hint=error.hint))
    session.status = 0 if all(row["ok"] for row in rows) else 1
    return rows


def _row(check: str, ok: bool, text: str, hint: str = "") -> dict[str, Any]:
    return {"check": check, "ok": ok, "text": text, "hint": hint}


def _python() -> dict[str, Any]:
    version = ".".join(map(str, sys.version_info[:3]))
    return _row("python", sys.version_info >= (3, 11), version, "Dan9 needs 3.11 or later")


def _kernel() -> dict[str, Any]:
    spec = find_spec("dan9.kernel.scheduler")
    compiled = spec is not None and str(spec.origin).endswith(".so")
    text = "compiled" if compiled else "uncompiled: everything works, 4 to 8 times slower"
    try:
        refuse_stale()
    except BadConfig as error:
        return _row("kernel", ok=False, text=error.text, hint=error.hint)
    return _row("kernel", ok=True, text=text)


def _loop() -> dict[str, Any]:
    has = find_spec("uvloop") is not None
    return _row("event loop", ok=True, text="uvloop" if has else "asyncio's own; uvloop is faster")


def _folders() -> list[dict[str, Any]]:
    from dan9.edge.discovery import socket_path, state_dir

    folders = {"sockets": Path(socket_path("any")).parent, "state": Path(state_dir("any")).parent}
    return [_folder(check, folder) for check, folder in folders.items()]


def _folder(check: str, folder: Path) -> dict[str, Any]:
    there = next(one for one in (folder, *folder.parents) if one.exists())
    ok = os.access(there, os.W_OK | os.X_OK) and there.is_dir()
    text = f"{folder}" if ok else f"{there} cannot be written"
    return _row(check, ok, text, f"make {there} writable, or set XDG_RUNTIME_DIR, XDG_STATE_HOME")


def _reaper() -> dict[str, Any]:
    ok = sys.platform == "linux"
    text = "no child outlives its node" if ok else f"not to be had on {sys.platform}"
    return _row("children", ok, text, "Dan9 needs Linux to keep processes from being left behind")
