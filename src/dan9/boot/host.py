"""What the node's daemon asks of whoever booted it: classes, configuration, the end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dan9.base.errors import Dan9Error, NotSupported
from dan9.base.reasons import SHUTDOWN
from dan9.boot.children import address_of, child_spec
from dan9.boot.importing import load_class
from dan9.boot.loading import load_manifest
from dan9.boot.manifest import Change, DaemonPlan, Manifest, changes
from dan9.daemons.node import Check
from dan9.kernel.supervisor import spawn_child

if TYPE_CHECKING:
    from dan9.edge.server import Server
    from dan9.kernel.kernel import System
    from dan9.kernel.supervisor import ChildSpec

__all__ = ["NodeHost"]

_KERNEL = "d9://system/system/kernel"
_PERSISTENCE = "d9://persistence/system/persistence"
_DEFAULT = "d9://supervisor/system/user"


class NodeHost:
    """Implements `dan9.daemons.node.Host` for a booted system.

    Attributes:
        manifest: What is declared now.
        server, socket_path: The socket, once it listens.
        ending: Set when the node is to end; None in a program that ends by itself.
        drains: Whether the queues are handled before that.
    """

    def __init__(self, system: System, manifest: Manifest) -> None:
        self._system = system
        self.manifest = manifest
        self.server: Server | None = None
        self.socket_path: str | None = None
        self.ending: asyncio.Event | None = None
        self.drains = True
        self._reloading = asyncio.Lock()

    # -- what the node's daemon asks -------------------------------------------

    async def spawn_target(
        self, target: str, name: str, group: str, path: str, config: Mapping[str, object]
    ) -> str:
        """Import `module:Class` and start it; return its address."""
        cls = load_class(target, path)
        given: dict[str, Any] = cls._d9_fields.convert_all(config)
        ref: Any = await self._system.spawn(cls, name, given, group=group)
        return str(ref.address)

    def fields_of(self, target: str, path: str) -> dict[str, Any]:
        """Return the JSON Schema of what a class can be given: configuration and state."""
        fields = load_class(target, path)._d9_fields
        schema = fields.schema(config=True)
        state = fields.schema(config=False)
        properties = {**state["properties"], **schema["properties"]}
        definitions = {**state.get("$defs", {}), **schema.get("$defs", {})}
        return {**schema, "properties": properties, "$defs": definitions}

    async def reload(self, path: str | None) -> list[dict[str, str]]:
        """Apply a changed configuration; return what was done to whom, and its state after.

        One at a time: a second one compares with what the first has made.
        """
        async with self._reloading:
            return await self._reload(path)

    async def _reload(self, path: str | None) -> list[dict[str, str]]:
        source = path if path is not None else self.manifest.source
        if source is None:
            raise NotSupported(
                "the node was started without a configuration", hint="dan9 reload -c FILE"
            )
        new = load_manifest(Path(source))
        rows = [await self._apply(change) for change in changes(self.manifest, new)]
        if new.supervisors != self.manifest.supervisors:
            rows.append({"what": "kept until the next up", "address": "supervisors", "state": ""})
        self.manifest = new
        return rows

    async def _apply(self, change: Change) -> dict[str, str]:
        """Do one step; a daemon that fails to start is reported, and the rest goes on."""
        plan = change.plan
        address = address_of(plan)
        row = {"what": change.what, "address": address}
        supervisor: str | None = None
        try:
            if address in self._system.addresses():
                above = self._system.status_of(address)["supervisor"]
                supervisor = above if above != _DEFAULT else None
                await self._remove(address)
            if change.what == "remove" and plan.kind == "system":  # back to its defaults
                plan = DaemonPlan(plan.name, "system", plan.target, group="system")
            elif change.what == "remove":
                return {**row, "state": "gone"}
            await self.keep_policy(plan)
            await self.spawn(child_spec(plan), supervisor=supervisor)
        except Dan9Error as error:
            return {**row, "state": f"failed: {error.text}"}
        return {**row, "state": self._system.state_of(address)}

    async def _remove(self, address: str) -> None:
        """Stop a daemon and free its name."""
        cell = self._system.cell_of(address)
        self._system.supervision.forget_restart(cell)
        cell.chill().commanded = True
        await self._system.lifecycle.stop(cell, SHUTDOWN, drain=True)
        self._system.supervision.forget(cell)

    def request_stop(self, *, drain: bool) -> None:
        """Have the node end in good order.

        Raises:
            NotSupported: The system belongs to a program that has not asked for that.
        """
        if self.ending is None:
            raise NotSupported(
                "this system runs inside a program of its own", hint="end that program instead"
            )
        self.drains = drain
        # Later, so that the answer to the one who asked is on its way first.
        asyncio.get_running_loop().call_soon(self.ending.set)

    def facts(self) -> dict[str, object]:
        """Return name, pid, socket and folders."""
        folder = self._system.state_dir
        return {
            "node": self._system.name,
            "pid": os.getpid(),
            "socket": self.socket_path,
            "state-dir": None if folder is None else str(folder),
            "config-file": self.manifest.source,
        }

    def checks(self) -> list[Check]:
        """Look at the process's memory and open files."""
        import resource

        import psutil

        process = psutil.Process()
        memory = process.memory_info().rss / 2**20
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        used = process.num_fds()
        return [
            Check("memory", memory < 1024, f"{memory:.0f} MiB", "dan9 ps shows long mailboxes"),
            Check(
                "open files",
                used < soft * 0.8,
                f"{used} of {soft}",
                "raise the limit: ulimit -n, or LimitNOFILE in a unit",
            ),
        ]

    # -- what boot does --------------------------------------------------------

    async def spawn(self, spec: ChildSpec, *, supervisor: str | None = None) -> None:
        """Start a child spec; without a supervisor under the default one.

        That one is not named, because whoever has a parent is stopped with it, and the default
        supervisor is the first to start, so the last to stop.
        """
        await spawn_child(self._system, spec, supervisor)

    async def keep_policy(self, plan: DaemonPlan) -> None:
        """Tell persistence when to save a daemon, if the configuration says; before it starts."""
        if plan.save is None:
            return
        said = {
            "interval": plan.save.interval_s,
            "on_stop": plan.save.on_stop,
            "on_change": plan.save.on_change,
            "keep": plan.save.keep,
        }
        order = {key: value for key, value in said.items() if value is not None}
        await self._system.ask(
            _PERSISTENCE,
            "policy",
            payload={"daemon_name": address_of(plan), "reset": True, **order},
        )

    async def stop_all(self) -> None:
        """Stop every daemon, latest first, without handling its queue."""
        system = self._system
        system.supervision.is_going_down = True
        for address in reversed(system.addresses()):
            cell = system.cell_of(address)
            # The kernel's own daemon is what runs the stopping.
            if address != _KERNEL and (cell.cold is None or cell.cold.parent is None):
                await system.lifecycle.stop(cell, SHUTDOWN)

    async def close_socket(self) -> None:
        """Let nobody in any more, and take leave of those who are; twice is once."""
        server, self.server = self.server, None
        if server is not None:
            await server.stop()
