"""What the node's daemon asks of whoever booted it: classes, configuration, the end."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dan9.base.errors import Dan9Error, NotSupported
from dan9.boot.children import address_of, child_spec
from dan9.boot.importing import load_class
from dan9.boot.loading import load_manifest
from dan9.boot.manifest import Change, changes
from dan9.daemons.node import Check

if TYPE_CHECKING:
    from dan9.boot.system import System

__all__ = ["NodeHost"]


class NodeHost:
    """Implements `dan9.daemons.node.Host` for a booted system."""

    def __init__(self, system: System) -> None:
        self._system = system

    async def spawn_target(
        self, target: str, name: str, group: str, path: str, config: Mapping[str, object]
    ) -> str:
        """Import `module:Class` and start it; return its address."""
        cls = load_class(target, path)
        given = cls._d9_fields.convert_all(config)
        ref: Any = await self._system.spawn(cls, name, group=group, **given)
        return str(ref.address)

    def fields_of(self, target: str, path: str) -> dict[str, Any]:
        """Return the JSON Schema of what a class can be configured with, state included."""
        fields = load_class(target, path)._d9_fields
        schema = fields.schema(config=True)
        state = fields.schema(config=False)
        properties = {**state["properties"], **schema["properties"]}
        definitions = {**state.get("$defs", {}), **schema.get("$defs", {})}
        return {**schema, "properties": properties, "$defs": definitions}

    async def reload(self, path: str | None) -> list[dict[str, str]]:
        """Apply a changed configuration; return what was done to whom, and its state after."""
        system = self._system
        source = Path(path) if path is not None else system.config_path
        if source is None:
            raise NotSupported(
                "the node was started without a configuration", hint="dan9 reload -c FILE"
            )
        new = load_manifest(source)
        rows = [await self._apply(change) for change in changes(system.manifest, new)]
        if new.supervisors != system.manifest.supervisors:
            rows.append({"what": "kept until the next up", "address": "supervisors", "state": ""})
        system.manifest, system.config_path = new, source
        return rows

    async def _apply(self, change: Change) -> dict[str, str]:
        """Do one step; a daemon that fails to start is reported, and the rest goes on."""
        plan = change.plan
        address = address_of(plan)
        row = {"what": change.what, "address": address}
        try:
            if change.what != "add":
                await self._system.remove(address)
            if change.what != "remove" or plan.kind == "system":
                await self._system.spawn_spec(child_spec(plan), after_change=True)
        except Dan9Error as error:
            return {**row, "state": f"failed: {error.text}"}
        state = "gone" if change.what == "remove" else self._system.state_of(address)
        return {**row, "state": state}

    def request_stop(self, *, drain: bool) -> None:
        """Have the node end in good order.

        Raises:
            NotSupported: The system belongs to a program that has not asked for that.
        """
        if self._system.ending is None:
            raise NotSupported(
                "this system runs inside a program of its own", hint="end that program instead"
            )
        self._system.drains = drain
        self._system.ending.set()

    def facts(self) -> dict[str, object]:
        """Return name, pid, socket and folders."""
        system = self._system
        return {
            "node": system.name,
            "pid": os.getpid(),
            "socket": system.socket_path,
            "state-dir": str(system.state_dir) if system.state_dir is not None else None,
            "config-file": str(system.config_path) if system.config_path is not None else None,
        }

    def checks(self) -> list[Check]:
        """Look at the process's memory and open files."""
        import resource

        import psutil

        process = psutil.Process()
        memory = process.memory_info().rss / 2**20
        soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
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
