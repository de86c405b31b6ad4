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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from dan9.base.address import SCHEME
from dan9.base.duration import Duration
from dan9.base.errors import BadPayload, Dan9Error, NotFound, NotSupported, Refused, UnknownDaemon
from dan9.base.events import DaemonStarted, Event, SaveFailed
from dan9.base.ports import Alarm, Checkpoint, StatePolicy, Version
from dan9.base.reasons import Reason
from dan9.daemons.stateform import from_form, to_form
from dan9.daemons.statepolicy import MAX_KEEP, Rule, effective, shown
from dan9.kernel.daemon import Config, Daemon, on

__all__ = ["Persistence"]

T = TypeVar("T")
_RETRY_S = 1.0  # after a failed save, doubling up to:
_RETRY_MAX_S = 60.0
_CHUNK = 200  # daemons captured before the loop does something else


class _Batch:
    """What is saved together."""

    __slots__ = ("keeps", "points", "snapshot", "unchanged")

    def __init__(self) -> None:
        self.points: list[Checkpoint] = []
        self.keeps: list[int] = []
        self.unchanged = 0
        self.snapshot = 0

    @property
    def size_bytes(self) -> int:
        """Length of the states, encoded."""
        return sum(len(point.blob) for point in self.points)


class Persistence(Daemon, type="persistence", checkpoint="on-change"):
    """Saves and restores the state of daemons; what it acknowledged survives the loss of power."""

    state_directory: Config[str] = ""
    """Where the state lies; empty: the system's own state directory."""
    checkpoint_interval: Config[Duration] = 300.0
    """Seconds between checkpoints of a daemon that handled a message since; 0: never by time."""
    coalesce: Config[Duration] = 0.1
    """Seconds between two saves on change, at least."""
    keep: Config[int] = 3
    """Versions kept of each daemon, unless its policy says otherwise."""

    rules: dict[str, Rule] = {}
    """What `policy` was told, by address."""

    async def on_start(self) -> None:
        """Take over the policies of all daemons, those that come later too."""
        self._policies: dict[tuple[object, ...], StatePolicy] = {}
        self._watched: set[str] = set()
        self._changed: dict[str, None] = {}
        self._stored: dict[str, tuple[int, int, int]] = {}  # hashes of state and metrics, version
        self._intervals: dict[float, Any] = {}
        self._flush_at: Any = None
        self._flushed = self.clock.monotonic() - self.coalesce
        self._retry_s = _RETRY_S
        self._alarm = Alarm("ok", "")
        system: Any = self.system
        system.state_policy = self._policy_of
        system.on_dirty = self._on_dirty
        store: Any = system.store
        if store is not None:
            store.on_alarm = self._on_alarm
            if store.alarm.state != "ok":
                self._on_alarm(store.alarm)
        self._unsubscribe = system.subscribe_events(self._on_event)
        for address in system.addresses():
            self._apply(address)

    async def on_stop(self, reason: Reason) -> None:
        """Save what changed and wait until it is saved."""
        self._unsubscribe()
        system: Any = self.system
        system.on_dirty = None
        for handle in (*self._intervals.values(), self._flush_at):
            if handle is not None:
                handle.cancel()
        self._intervals.clear()
        changed = [address for address in self._changed if address != self.address]
        if changed and system.store is not None:
            self._changed.clear()
            try:
                await self._save(changed)
            except Refused as refusal:
                self.log.critical("%d changed states are not saved: %s", len(changed), refusal)

    def on_status(self) -> dict[str, object]:
        """Say whether the disk takes writes, and what waits to be saved."""
        system: Any = self.system
        store = system.store
        return {
            "saving": "no store" if store is None else self._alarm.state,
            "alarm": self._alarm.text,
            "changed": len(self._changed),
            "commits": getattr(store, "groups", 0),
            "directory": str(getattr(getattr(store, "disk", None), "path", "")),
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
        """Give a running daemon a saved state: a version, `latest`, or `none` to start afresh.

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
    async def checkpoint_all(self) -> dict[str, Any]:
        """Save every daemon that changed, in one transaction.

        Replies snapshot (its number; 0 if nothing had changed), saved, unchanged, bytes, when.
        Errors: not-supported, no-space, read-only, disk-failed.
        """
        self._store()
        system: Any = self.system
        wanted = dict.fromkeys((*system.dirty(), *self._changed))
        self._changed.clear()
        batch = await self._save(wanted, snapshot=True)
        return {
            "snapshot": batch.snapshot,
            "saved": len(batch.points),
            "unchanged": batch.unchanged,
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
            return [_row(version) for version in await self._apart(store.versions)]
        address = await self._stored_address(daemon_name)
        return [_row(version) for version in store.versions(address)]

    @on(concurrent=True)
    async def delete(self, daemon_name: str, keep: int = 0) -> dict[str, Any]:
        """Forget all but the newest `keep` saved versions of a daemon.

        Errors: not-found, not-supported, bad-payload, no-space, read-only, disk-failed.
        """
        store = self._store()
        if not 0 <= keep <= MAX_KEEP:
            raise BadPayload(f"keep is {keep}", hint=f"0 to {MAX_KEEP}", at="keep")
        address = await self._stored_address(daemon_name)
        before = len(store.versions(address))
        await self._done(lambda done: store.delete(address, keep, done))
        self._stored.pop(address, None)
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
    ) -> dict[str, Any]:
        """Say when a daemon's state is saved; what is left out stays. Replies the policy in force.

        `interval` 0: never by time. `keep` 0: neither saved nor restored. `reset` first
        forgets what was said before. An address that nobody has yet may be named.
        Errors: unknown-daemon, bad-payload, bad-address.
        """
        if keep is not None and not 0 <= keep <= MAX_KEEP:
            raise BadPayload(f"keep is {keep}", hint=f"0 to {MAX_KEEP}", at="keep")
        address = self._named(daemon_name)
        rule = Rule(interval, on_stop, on_change, keep)
        before = None if reset else self.rules.get(address)
        after = rule.over(before) if before is not None else rule
        if after != self.rules.get(address, Rule()):
            if after == Rule():
                del self.rules[address]
            else:
                self.rules[address] = after
            self._apply(address)
            system: Any = self.system
            await system.save(self.address)
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
        checkpoint = replace(checkpoint, address=owner)
        receipt: list[Any] = []
        keep = max(1, self._policy_of(owner).keep)
        await self._done(lambda done: receipt.append(store.save([checkpoint], done, keep=keep)))
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
        await self._done(store.compact)

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
        due = [a for a in system.dirty() if self._policy_of(a).interval == interval]
        saved = 0
        for start in range(0, len(due), _CHUNK):
            try:
                saved += len((await self._save(due[start : start + _CHUNK])).points)
            except Refused:
                break  # said by the alarm; what was not saved is tried again
        return saved

    # ---- policies -------------------------------------------------------------

    def _policy_of(self, address: str) -> StatePolicy:
        rule = self.rules.get(address)
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
                address, rule, option, interval=self.checkpoint_interval, keep=self.keep
            )
        return policy

    def _apply(self, address: str) -> None:
        """Let the kernel say when this daemon changes, and see to its interval."""
        system: Any = self.system
        if system.store is None:
            return
        policy = self._policy_of(address)
        if policy.on_change or address in self._watched:
            try:
                system.watch_dirty(address, policy.on_change and policy.keep > 0)
            except Dan9Error:
                return  # nobody has this address yet
            self._watched.add(address)
        if policy.interval is not None and policy.keep and policy.interval not in self._intervals:
            self._plan(policy.interval)

    def _plan(self, interval: float) -> None:
        system: Any = self.system

        def tell() -> None:
            self._plan(interval)
            try:
                self.tell(self.address, "collect", interval=interval)
            except Refused as refusal:
                self.log.warning("not collected: %s", refusal)

        self._intervals[interval] = system.call_at(self.clock.monotonic() + interval, tell)

    def _on_event(self, event: Event) -> None:
        if isinstance(event, DaemonStarted):
            self._apply(event.address)

    # ---- saving on change -----------------------------------------------------

    def _on_dirty(self, address: str) -> None:
        self._changed[address] = None
        if self._flush_at is None:
            self._flush_in(max(0.0, self._flushed + self.coalesce - self.clock.monotonic()))

    def _flush_in(self, delay: float) -> None:
        system: Any = self.system
        self._flush_at = system.call_at(self.clock.monotonic() + delay, self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        self._flushed = self.clock.monotonic()
        changed, self._changed = self._changed, {}
        self._capture(changed, lambda points: self._commit(points, metrics=False))

    def _again(self, addresses: Iterable[str]) -> None:
        """Keep what could not be saved, and try again later."""
        self._changed.update(dict.fromkeys(addresses))
        if self._flush_at is None and self._changed:
            self._flush_in(self._retry_s)
            self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    # ---- capturing and committing -----------------------------------------------

    def _capture(self, addresses: Iterable[str], then: Callable[[list[Checkpoint]], None]) -> None:
        """Take the state of each between two of its messages; `then` gets what there is."""
        system: Any = self.system
        points: list[Checkpoint] = []
        waiting = 1

        def taken(point: Checkpoint | None, error: Exception | None) -> None:
            nonlocal waiting
            if point is not None:
                points.append(point)
            elif error is not None:
                self.log.error("a state cannot be saved: %s", error)
                self._d9_count("not-encoded")
            waiting -= 1
            if not waiting:
                then(points)

        for address in addresses:
            waiting += 1
            system.capture(address, taken)
        taken(None, None)

    def _commit(self, points: list[Checkpoint], *, metrics: bool = True) -> None:
        """Save what differs from what is stored, in one transaction."""
        batch = _Batch()
        self._sort(points, batch, metrics=metrics)
        self._write(batch, None)

    def _sort(self, points: list[Checkpoint], batch: _Batch, *, metrics: bool = True) -> None:
        """Put into the batch what is to be written.

        Args:
            points: What was captured.
            batch: What is saved together.
            metrics: Other metrics with the same state are a difference too.
        """
        for point in points:
            keep = self._policy_of(point.address).keep
            if keep and not self._is_stored(point, metrics=metrics):
                batch.points.append(point)
                batch.keeps.append(keep)
            else:
                batch.unchanged += 1

    def _write(
        self,
        batch: _Batch,
        done: Callable[[Exception | None], None] | None,
        *,
        snapshot: bool = False,
    ) -> None:
        """Hand a batch to the store; remember what it became."""
        self._d9_count("unchanged", batch.unchanged)
        system: Any = self.system
        if not batch.points or system.store is None:
            if done is not None:
                done(None)
            return

        def answered(error: Exception | None) -> None:
            if error is None:
                self._retry_s = _RETRY_S
                for point, version in zip(batch.points, receipt.versions, strict=True):
                    self._stored[point.address] = (*_sums(point), version)
                self._d9_count("saved", len(batch.points))
                self._d9_count("bytes-saved", batch.size_bytes)
            else:
                self._d9_count("not-saved", len(batch.points))
                self._again(point.address for point in batch.points)
            batch.snapshot = receipt.snapshot
            if done is not None:
                done(error)

        receipt = system.store.save(batch.points, answered, keep=batch.keeps, snapshot=snapshot)

    def _is_stored(self, point: Checkpoint, *, metrics: bool) -> bool:
        """True if the newest stored version is this very state."""
        known = self._stored.get(point.address)
        if known is None:
            return False
        state, numbers = _sums(point)
        # One's own metrics count the saves: each save would ask for the next.
        metrics = metrics and point.address != self.address
        if state != known[0] or (metrics and numbers != known[1]):
            return False
        # Others save too: the daemon itself when it is told `checkpoint`, the
        # kernel when it stops. The version says whether ours is still the newest.
        versions = self._store().versions(point.address)
        return bool(versions) and versions[-1].version == known[2]

    async def _save(self, addresses: Iterable[str], *, snapshot: bool = False) -> _Batch:
        """Capture and commit; return what was saved when the disk has it."""
        loop = asyncio.get_running_loop()
        batch = _Batch()
        todo = list(addresses)
        for start in range(0, len(todo), _CHUNK):
            captured: asyncio.Future[list[Checkpoint]] = loop.create_future()
            self._capture(todo[start : start + _CHUNK], captured.set_result)
            self._sort(await captured, batch)
            await asyncio.sleep(0)
        await self._done(lambda done: self._write(batch, done, snapshot=snapshot))
        return batch

    async def _done(self, work: Callable[[Callable[[Exception | None], None]], object]) -> None:
        """Hand a write to the store and wait until it is answered."""
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def done(error: Exception | None) -> None:
            if answer.done():
                return
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(None)

        work(done)
        await answer

    async def _apart(self, work: Callable[[], T]) -> T:
        """Run blocking work off the loop; inline where there is only one thread."""
        system: Any = self.system
        if system.scheduler.one_thread:
            return work()
        return await asyncio.to_thread(work)

    # ---- alarms and names -------------------------------------------------------

    def _on_alarm(self, alarm: Alarm) -> None:
        self._alarm = alarm
        system: Any = self.system
        if alarm.state == "ok":
            self.log.warning("state is being saved again (%d writes were refused)", alarm.failed)
            if self._changed and self._flush_at is not None:
                self._flush_at.cancel()
                self._flush_in(0.0)
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


def _sums(point: Checkpoint) -> tuple[int, int]:
    return hash((point.blob, point.schema)), hash(point.metrics)


def _row(version: Version) -> dict[str, Any]:
    return {
        "address": version.address,
        "version": version.version,
        "bytes": version.size_bytes,
        "when": version.when,
        "schema": version.schema,
        "snapshot": version.snapshot,
    }
