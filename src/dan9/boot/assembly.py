"""Puts a node together, in this order: lock, store, system daemons, dan9.toml's, socket.

The end is the reverse: nobody new is let in, daemons stop (latest first, queues
drained), the store closes, the lock is given back. The lock comes first and goes last,
so that whoever holds it may touch the state and replace the socket.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dan9.base.errors import AddressInUse, BadConfig
from dan9.boot.catalogue import NODE, SYSTEM
from dan9.boot.children import child_spec, supervisor_spec
from dan9.boot.host import NodeHost
from dan9.boot.importing import load_class
from dan9.boot.loading import load_manifest
from dan9.boot.lock import ELSEWHERE, NodeLock
from dan9.boot.manifest import DaemonPlan, Manifest
from dan9.kernel.supervisor import Supervisor

if TYPE_CHECKING:
    from dan9.kernel.kernel import System

__all__ = ["assemble"]

_SUPERVISOR = "d9://supervisor/system/system"


async def assemble(system: System) -> None:
    """Give a kernel that has just begun what its arguments ask for.

    Raises:
        AddressInUse: A node of this name runs.
        BadConfig: A daemon's name or the configuration is wrong; then nothing was started.
        Dan9Error: A daemon did not start. The kernel then stops what did.
    """
    manifest = _manifest_of(system.config)
    names = _wanted(system.wanted, manifest)
    host = NodeHost(system, manifest)
    system.host = host
    if system.wants_socket or "persistence" in names:
        _prepare_state(system, manifest, with_store="persistence" in names)
    await system.spawn(Supervisor, "system", group="system", supervisor=False)
    plans = {plan.name: plan for plan in manifest if plan.kind == "system"}
    for name in names:
        plan = plans.get(name) or DaemonPlan(name, "system", name, group="system")
        await host.spawn(child_spec(plan), supervisor=_SUPERVISOR)
    await system.spawn(load_class(NODE), "node", group="system", supervisor=_SUPERVISOR)
    await start_declared(host, manifest)
    if system.wants_socket:
        await _listen(system, host)


def _manifest_of(config: object) -> Manifest:
    if isinstance(config, Manifest):
        return config
    if config is None or isinstance(config, str | Path):
        return load_manifest(None if config is None else Path(config))
    raise BadConfig(f"config is {config!r}", hint="pass the path of a dan9.toml")


def _wanted(asked: str | list[str], manifest: Manifest) -> list[str]:
    """Return the system daemons to start, in the order of the catalogue.

    What the program asks for wins over what the file says, unless it asks for all.
    """
    chosen = manifest.system_daemons if asked == "all" else asked
    if chosen == "all":
        return list(SYSTEM)
    if chosen == "none":
        return []
    unknown = [name for name in chosen if name not in SYSTEM]
    if unknown:
        raise BadConfig(f"no system daemon {unknown[0]!r}", hint=f"there are: {', '.join(SYSTEM)}")
    return [name for name in SYSTEM if name in chosen]


def _prepare_state(system: System, manifest: Manifest, *, with_store: bool) -> None:
    """Take the name, and open the store."""
    from dan9.edge.discovery import private_directory, state_dir

    if system.state_dir is None:
        system.state_dir = Path(manifest.state_dir or state_dir(system.name))
    private_directory(str(system.state_dir), hint=ELSEWHERE)
    lock = NodeLock.take(system.state_dir, system.name)
    system.on_exit(lock.release)
    if with_store and system.store is None:
        from dan9.daemons.sqlite_store import SqliteStore

        loop = asyncio.get_running_loop()
        folder = _state_directory(system, manifest) or system.state_dir
        store = SqliteStore(folder / "state.db", post=loop.call_soon_threadsafe)
        system.store = store
        system.journal = store
        system.on_exit(asyncio.to_thread, store.close)


def _state_directory(system: System, manifest: Manifest) -> Path | None:
    """Return where persistence's configuration has the state lie, if it says so; ours from now on.

    Raises:
        AddressInUse: Another node keeps its state there.
    """
    told = [plan.fields.get("state_directory") for plan in manifest if plan.name == "persistence"]
    if not told or not told[0]:
        return None
    folder = Path(str(told[0])).expanduser()
    if system.state_dir is not None and folder.resolve() == system.state_dir.resolve():
        return None
    try:
        lock = NodeLock.take(folder, system.name)
    except AddressInUse as error:
        raise AddressInUse(
            f"another node keeps its state in {folder}", hint="name another folder", at=error.at
        ) from None
    system.on_exit(lock.release)
    return folder


async def start_declared(host: NodeHost, manifest: Manifest) -> None:
    """Start what the configuration declares, each after those that it names.

    A supervisor starts when the first of its children is due: its children come in
    its own order, which the manifest's order respects.
    """
    supervisors = {plan.name: plan for plan in manifest.supervisors}
    begun: set[str] = set()

    def root_of(name: str) -> str | None:
        above = manifest.supervisor_of(name)
        while above is not None:
            name, above = above, manifest.supervisor_of(above)
        return name if name in supervisors else None

    for plan in manifest:
        await host.keep_policy(plan)
    for plan in manifest:
        if plan.kind == "system":
            continue
        root = root_of(plan.name)
        if root is None:
            await host.spawn(child_spec(plan))
        elif root not in begun:
            begun.add(root)
            await host.spawn(supervisor_spec(supervisors[root], manifest))
    for name, supervisor in supervisors.items():
        if root_of(name) == name and name not in begun:
            await host.spawn(supervisor_spec(supervisor, manifest))


async def _listen(system: System, host: NodeHost) -> None:
    """Open the socket, last: who gets in finds everything there."""
    from dan9 import __version__
    from dan9.edge.discovery import socket_path
    from dan9.edge.guest import KernelReception
    from dan9.edge.server import Server

    log = system.logger("edge")

    def say(level: str, text: str) -> None:
        getattr(log, level, log.info)("%s", text)

    path = socket_path(system.name)
    port: Any = system
    server = Server(port, path, KernelReception(system), build=__version__, log=say)
    await server.start()
    host.server = server
    host.socket_path = path
    system.on_exit(host.close_socket)
