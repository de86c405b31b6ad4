"""Persistence: saves the state of daemons when their policies say so, and gives it back.

The store (SQLite, or memory in tests) is the system's; this daemon decides what goes in,
and when. Daemons that changed are captured between two of their messages and committed
together: what changes within one interval of coalescing is one transaction, and one
checkpoint-all is one transaction, however many daemons it holds.

Nothing polls: a daemon that handled nothing is not looked at, one whose encoding is the
same as what is stored is not written. What could not be written stays changed, is tried
again, and an alarm says so until it is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from dan9.base.address import SCHEME
from dan9.base.duration import Duration
from dan9.base.errors import BadPayload, Dan9Error, NotFound, NotSupported, Refused, UnknownDaemon
from dan9.base.events import SaveFailed
from dan9.base.ports import Alarm, StatePolicy, Version
from dan9.base.reasons import Reason
from dan9.daemons.stateform import from_form, to_form
from dan9.daemons.statepolicy import MAX_KEEP, Rule, Shown, effective, shown
from dan9.daemons.statesaver import Saver, answered
from dan9.kernel.daemon import Config, Daemon, on

__all__ = ["Persistence"]

T = TypeVar("T")
_STEP = 1_000  # daemons looked at before the loop does something else
_ITS_OWN = object()


class Persistence(Daemon, type="persistence", checkpoint="on-change"):
    """Saves and restores the state of daemons; what it acknowledged survives the loss of power."""

    state_directory: Config[str] = ""
    """Where the state lies, read by whoever opens the store; empty: the system's own directory."""
    checkpoint_interval: Config[Duration] = 300.0
    """Seconds between checkpoints of a daemon that handled a message since; 0: never by time."""
    coalesce: Config[Duration] = 0.1
    """Seconds between two saves on change, at least."""
    versions: Config[int] = 3
    """Versions kept of each daemon, unless its policy says otherwise."""

    rules: dict[str, Rule] = {}
    """What `policy` was told, by address."""

    async def on_start(self) -> None:
        """Take over the policies of all daemons, those that come later too."""
        self._policies: dict[tuple[object, ...], StatePolicy] = {}
        self._intervals: dict[float, Any] = {}
        self._is_collecting = self.system.store is not None
        self._saver = Saver(self, self._policy_of, self.coalesce)
        self._alarm = Alarm("ok", "")
        system: Any = self.system
        system.state_policy = self._policy_of
        system.on_dirty = self._saver.on_dirty
        store: Any = system.store
        if store is None:
            return
        store.on_alarm = self._on_alarm
        if store.alarm.state != "ok":
            self._on_alarm(store.alarm)
        for number, address in enumerate(system.addresses()):
            self._apply(address)
            if number % _STEP == _STEP - 1:
                await asyncio.sleep(0)

    async def on_stop(self, reason: Reason) -> None:
        """Save what changed and wait until it is saved."""
        system: Any = self.system
        system.on_dirty = None
        self._is_collecting = False
        for handle in self._intervals.values():
            handle.cancel()
        self._intervals.clear()
        try:
            await self._saver.close()
        except Refused as refusal:
            self.log.critical("states that changed last are not saved: %s", refusal)

    def on_status(self) -> dict[str, object]:
        """Say whether the disk takes writes, and what waits to be saved."""
        system: Any = self.system
        store = system.store
        disk = getattr(store, "disk", None)
        return {
            "saving": "no store" if store is None else self._alarm.state,
            "alarm": self._alarm.text,
            "changed": len(self._saver.changed),
            "commits": getattr(store, "groups", 0),
            "directory": "" if disk is None else str(disk.path.parent),
        }

    # ---- messages -----------------------------------------------------------

    @on(concurrent=True)
    async def save(self, daemon_name: str) -> dict[str, Any]:
        """Save a daemon's state now; replies when the disk has it: version, bytes, when.

        Errors: unknown-daemon, not-supported (no state, no store), no-space, read-only,
        disk-failed.
        """
        self._store()
        return await self._ask(self._running(daemon_name), "checkpoint")

    @on(concurrent=True)
    async def load(self, daemon_name: str, version: int | str = "latest") -> dict[str, Any]:
        """Give a daemon a saved state: a version, `latest`, or `none` to start afresh.

        One that does not run is started with it.

        Errors: unknown-daemon, not-found, corrupt, not-supported, bad-payload.
        """
        self._store()
        if isinstance(version, str) and version not in {"latest", "none"}:
            if not version.isdecimal():
                raise BadPayload(
                    f"version is {version!r}", hint="a number, latest or none", at="version"
                )
            version = int(version)
        return await self._ask(self._running(daemon_name), "restore", version=version)

    @on(concurrent=True, timeout_s=60.0)
    async def checkpoint_all(self, wait: Duration = 5.0) -> dict[str, Any]:
        """Save every daemon that changed, in one transaction.

        A daemon with a message in hand is waited for, `wait` seconds at most; one that takes
        longer is saved by itself as soon as it can be.
        Replies snapshot (its number; 0 if nothing had changed), saved, unchanged, busy (daemons
        not waited for), bytes, when. Errors: not-supported, no-space, read-only, disk-failed.
        """
        self._store()
        system: Any = self.system
        wanted: dict[str, None] = {}
        for part in system.dirty_parts():
            wanted.update(dict.fromkeys(part))
            await asyncio.sleep(0)
        wanted.update(self._saver.changed)
        self._saver.changed.clear()
        batch = await self._saver.save(wanted, snapshot=True, wait_s=wait)
        return {
            "snapshot": batch.snapshot,
            "saved": len(batch.points),
            "unchanged": batch.unchanged,
            "busy": batch.busy,
            "bytes": batch.size_bytes,
            "when": self.clock.now(),
        }

    @on(concurrent=True)
    async def list_(self, daemon_name: str | None = None) -> list[dict[str, Any]]:
        """Return the saved versions of one daemon, or of all: address, version, bytes, when.

        Errors: not-found, not-supported.
        """
        store = self._store()
        if daemon_name is None:
            return await self._apart(lambda: [_row(each) for each in store.versions()])
        address = await self._stored_address(daemon_name)
        return [_row(version) for version in store.versions(address)]

    @on(concurrent=True)
    async def delete(self, daemon_name: str, keep: int) -> dict[str, Any]:
        """Forget all but the newest `keep` saved versions of a daemon; 0: all.

        Errors: not-found, not-supported, bad-payload, no-space, read-only, disk-failed.
        """
        store = self._store()
        if not 0 <= keep <= MAX_KEEP:
            raise BadPayload(f"keep is {keep}", hint=f"0 to {MAX_KEEP}", at="keep")
        address = await self._stored_address(daemon_name)
        before = len(store.versions(address))
        await answered(lambda done: store.delete(address, keep, done))
        self._saver.forget(address)
        return {"address": address, "deleted": before - len(store.versions(address))}

    @on
    async def policy(
        self,
        daemon_name: str,
        interval: Duration | None = None,
        on_stop: bool | None = None,
        on_change: bool | None = None,
        keep: int | None = None,
        reset: bool = False,
    ) -> Shown:
        """Say when a daemon's state is saved; what is left out stays. Replies the policy in force.

        `interval` 0: never by time. `keep` 0: neither saved nor restored. `reset` first
        forgets what was said before. An address that nobody has yet may be named.
        Errors: unknown-daemon, bad-payload, bad-address.
        """
        if keep is not None and not 0 <= keep <= MAX_KEEP:
            raise BadPayload(f"keep is {keep}", hint=f"0 to {MAX_KEEP}", at="keep")
        address = self._named(daemon_name)
        rule = Rule(interval, on_stop, on_change, keep)
        before = self.rules.get(address, Rule())
        after = rule if reset else rule.over(before)
        if after != before:
            self._set_rule(address, after)
            system: Any = self.system
            try:
                await system.save(self.address)
            except Refused:
                self._set_rule(address, before)  # what was refused is not in force
                raise
        return shown(address, self._policy_of(address))

    @on(concurrent=True, timeout_s=600.0)
    async def verify(self, daemon_name: str | None = None) -> dict[str, Any]:
        """Read everything stored (of one daemon) and report what is not as it was written.

        Replies checked and faults: address, version, fault. Errors: not-found, not-supported.
        """
        store = self._store()
        address = None if daemon_name is None else await self._stored_address(daemon_name)
        faults = await self._apart(lambda: store.verify(address))
        checked = await self._apart(lambda: store.versions(address))
        return {
            "checked": len(checked),
            "faults": [
                {"address": fault.address, "version": fault.version, "fault": fault.fault}
                for fault in faults
            ],
        }

    @on(concurrent=True)
    async def export(self, daemon_name: str, version: int | None = None) -> dict[str, Any]:
        """Return a saved state as plain data that JSON can hold; `import` takes it back.

        Errors: not-found, corrupt, not-supported.
        """
        store = self._store()
        address = await self._stored_address(daemon_name)
        checkpoint = store.load(address, version)
        if checkpoint is None:
            raise NotFound(
                f"version {version} of {address} is not stored",
                hint=f"stored: {', '.join(str(v.version) for v in store.versions(address))}",
                address=address,
                at="version",
            )
        return to_form(checkpoint)

    @on(concurrent=True)
    async def import_(self, data: dict[str, Any], daemon_name: str | None = None) -> dict[str, Any]:
        """Save exported data as the newest version of a daemon; `load` then gives it to it.

        Errors: bad-payload, bad-address, not-supported, no-space, read-only, disk-failed.
        """
        store = self._store()
        address = None if daemon_name is None else self._named(daemon_name)
        checkpoint = from_form(data, address=address, when=self.clock.now())
        owner = self._named(checkpoint.address)
        checkpoint = checkpoint._replace(address=owner)
        receipt: list[Any] = []
        keep = max(1, self._policy_of(owner).keep)
        await answered(lambda done: receipt.append(store.save([checkpoint], done, keep=keep)))
        return {
            "address": owner,
            "version": receipt[0].versions[0],
            "bytes": len(checkpoint.blob),
            "when": checkpoint.when,
        }

    @on(concurrent=True, timeout_s=600.0)
    async def compact(self) -> None:
        """Give the disk back what deleted states held. Saving waits meanwhile.

        Errors: not-supported, no-space, read-only, disk-failed.
        """
        store = self._store()
        await answered(store.compact)

    @on(concurrent=True, timeout_s=600.0)
    async def backup(self, path: str) -> dict[str, Any]:
        """Write a copy of everything stored to a new file, whole or not at all.

        Errors: bad-payload, no-space, permission, disk-failed, not-supported.
        """
        store = self._store()
        if not hasattr(store, "backup"):
            raise NotSupported("this store is no file", hint="back up a node that has a state file")
        target = Path(path)
        if not target.is_absolute():
            raise BadPayload(
                f"{path!r} is no absolute path", hint="the node has another directory", at="path"
            )
        size = await self._apart(lambda: store.backup(target))
        return {"path": path, "bytes": size}

    @on(concurrent=True)
    async def collect(self, interval: Duration) -> int:
        """Save the daemons with this interval that handled a message since; told by itself."""
        system: Any = self.system
        if system.store is None:
            return 0
        saved = 0
        for part in system.dirty_parts():
            due = [a for a in part if self._policy_of(a).interval == interval]
            try:
                saved += len((await self._saver.save(due)).points)
            except Refused:
                break  # said by the alarm; what was not saved is tried again
            await asyncio.sleep(0)
        return saved

    # ---- policies -------------------------------------------------------------

    def _policy_of(self, address: str, option: object = _ITS_OWN) -> StatePolicy:
        """Return the policy of a daemon; `option`: its class's keyword, if that is at hand."""
        rule = self.rules.get(address)
        if option is _ITS_OWN:
            system: Any = self.system
            try:
                option = system.options_of(address).get("checkpoint")
            except Dan9Error:
                option = None  # nobody has this address yet
        # Few policies, many daemons: the address matters only by its group.
        key = (rule, option, address.split("/", 4)[3:4] == ["system"])
        policy = self._policies.get(key)
        if policy is None:
            policy = self._policies[key] = effective(
                address, rule, option, interval=self.checkpoint_interval, keep=self.versions
            )
            interval = policy.interval
            if interval is not None and policy.keep and interval not in self._intervals:
                self._plan(interval)
        return policy

    def _set_rule(self, address: str, rule: Rule) -> None:
        if rule == Rule():
            self.rules.pop(address, None)
        else:
            self.rules[address] = rule
        self._apply(address)

    def _apply(self, address: str) -> None:
        """Let the kernel say when this daemon changes; of those to come it asks for the policy."""
        policy = self._policy_of(address)
        system: Any = self.system
        with suppress(Dan9Error):  # nobody has this address yet
            system.watch_dirty(address, policy.on_change and policy.keep > 0)

    def _plan(self, interval: float) -> None:
        """Collect once an interval has passed, and so on."""
        if not self._is_collecting:
            return
        system: Any = self.system

        def tell() -> None:
            self._plan(interval)
            try:
                self.tell(self.address, "collect", interval=interval)
            except Refused as refusal:
                self.log.warning("not collected: %s", refusal)

        self._intervals[interval] = system.call_at(self.clock.monotonic() + interval, tell)

    # ---- alarms and names -------------------------------------------------------

    async def _apart(self, work: Callable[[], T]) -> T:
        """Run blocking work off the loop; inline where there is only one thread."""
        system: Any = self.system
        if system.scheduler.one_thread:
            return work()
        return await asyncio.to_thread(work)

    def _on_alarm(self, alarm: Alarm) -> None:
        self._alarm = alarm
        system: Any = self.system
        if alarm.state == "ok":
            self._alarm = Alarm("ok", "")
            self.log.warning("state is being saved again (%d writes were refused)", alarm.failed)
            self._saver.try_now()
            return
        self.log.critical("%s", alarm.text)
        system.emit(SaveFailed(self.clock.now(), self.address, alarm.text))

    def _store(self) -> Any:
        system: Any = self.system
        if system.store is None:
            raise NotSupported(
                "this system keeps no state: it has no store",
                hint="start it with a state directory (`dan9 up`)",
            )
        return system.store

    def _running(self, name: str) -> str:
        system: Any = self.system
        return str(system.resolve(name))

    def _named(self, name: str) -> str:
        """Return the address; one that nobody has yet is taken as it is written."""
        system: Any = self.system
        try:
            return str(system.resolve(name))
        except UnknownDaemon:
            if name.startswith(SCHEME):
                return name
            raise

    async def _stored_address(self, name: str) -> str:
        """Return the address of which something is stored; the daemon need not run."""
        store = self._store()
        try:
            address = self._named(name)
        except UnknownDaemon:
            ending = "/" + name
            found = {v.address for v in await self._apart(store.versions)}
            fits = sorted(address for address in found if address.endswith(ending))
            if len(fits) != 1:
                raise
            address = fits[0]
        if not store.versions(address):
            raise NotFound(
                f"nothing is stored of {address}",
                hint=f"`save daemon-name={name}` saves it now",
                address=address,
            )
        return address

    async def _ask(self, address: str, message: str, **payload: Any) -> dict[str, Any]:
        reply: Mapping[str, Any] = await self.ask(address, message, payload=payload)
        return {"address": address, **reply}


def _row(version: Version) -> dict[str, Any]:
    return {
        "address": version.address,
        "version": version.version,
        "bytes": version.size_bytes,
        "when": version.when,
        "schema": version.schema,
        "snapshot": version.snapshot,
    }
