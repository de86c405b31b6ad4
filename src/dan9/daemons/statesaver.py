"""Captures states and commits what differs: the work behind the persistence daemon.

What changes within one interval of coalescing is one transaction. What could not be
written stays changed and is tried again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from dan9.base.errors import Refused
from dan9.base.ports import Checkpoint, StatePolicy
from dan9.kernel.daemon import Daemon

__all__ = ["Batch", "Saver", "answered"]

_RETRY_S = 1.0  # after a failed save, doubling up to:
_RETRY_MAX_S = 60.0
_CHUNK = 200  # daemons captured before the loop does something else
_STEP = 2_000  # daemons noted as stored at one time
_REMEMBERED = 200_000  # daemons of which we know what is stored; more are written once too often


class Batch:
    """What is saved together."""

    __slots__ = ("busy", "keeps", "points", "size_bytes", "snapshot", "sums", "unchanged")

    def __init__(self) -> None:
        self.points: list[Checkpoint] = []
        self.keeps: list[int] = []
        self.sums: list[tuple[str, int, int]] = []
        """Address and hashes of each point."""
        self.size_bytes = 0
        """Length of the states, encoded."""
        self.unchanged = 0
        self.busy = 0
        """Daemons that had a message in hand for too long."""
        self.snapshot = 0

    def add(self, point: Checkpoint, keep: int, state: int, numbers: int) -> None:
        """Take a state in, with its hashes."""
        self.points.append(point)
        self.keeps.append(keep)
        self.sums.append((point.address, state, numbers))
        self.size_bytes += len(point.blob)


class Saver:
    """Saves the states of daemons.

    Args:
        owner: The persistence daemon: its clock, log, metrics and system.
        policy_of: Says how many versions an address keeps.
        coalesce: Seconds between two saves on change, at least.
    """

    def __init__(
        self, owner: Daemon, policy_of: Callable[[str], StatePolicy], coalesce: float
    ) -> None:
        self._owner = owner
        self._policy_of = policy_of
        self._coalesce = coalesce
        self.changed: dict[str, None] = {}
        """Daemons that wait to be saved."""
        self._stored: dict[str, tuple[int, int, int]] = {}  # hashes of state and metrics, version
        self._flush_at: Any = None
        self._flushes: set[asyncio.Task[None]] = set()
        self._flushed = owner.clock.monotonic() - coalesce
        self._retry_s = _RETRY_S

    def forget(self, address: str) -> None:
        """Hear that what is stored of an address has changed."""
        self._stored.pop(address, None)

    def try_now(self) -> None:
        """Save what waits at once: the disk takes writes again."""
        if self.changed and self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_in(0.0)

    async def close(self) -> None:
        """Save what waits; raises what the store refuses with."""
        if self._flush_at is not None:
            self._flush_at.cancel()
        if self._flushes:
            await asyncio.wait(self._flushes)
        waiting = [address for address in self.changed if address != self._owner.address]
        system: Any = self._owner.system
        if waiting and system.store is not None:
            self.changed.clear()
            await self.save(waiting)

    def on_dirty(self, address: str) -> None:
        """Hear that a watched daemon changed."""
        self.changed[address] = None
        if self._flush_at is None:
            self._flush_in(max(0.0, self._flushed + self._coalesce - self._owner.clock.monotonic()))

    def _flush_in(self, delay: float) -> None:
        system: Any = self._owner.system
        self._flush_at = system.call_at(self._owner.clock.monotonic() + delay, self._flush)

    def _flush(self) -> None:
        self._flush_at = None
        self._flushed = self._owner.clock.monotonic()
        changed, self.changed = self.changed, {}
        flush = asyncio.get_running_loop().create_task(self._save_changed(changed))
        self._flushes.add(flush)
        flush.add_done_callback(self._flushes.discard)

    async def _save_changed(self, changed: Iterable[str]) -> None:
        with suppress(Refused):  # said by the alarm; what was not saved is tried again
            await self.save(changed, metrics=False)

    def _again(self, addresses: Iterable[str]) -> None:
        """Keep what could not be saved, and try again later."""
        self.changed.update(dict.fromkeys(addresses))
        if self._flush_at is None and self.changed:
            self._flush_in(self._retry_s)
            self._retry_s = min(2 * self._retry_s, _RETRY_MAX_S)

    # ---- capturing and committing -----------------------------------------------

    async def save(
        self,
        addresses: Iterable[str],
        *,
        snapshot: bool = False,
        metrics: bool = True,
        wait_s: float = 0.0,
    ) -> Batch:
        """Capture and commit; return what was saved when the disk has it.

        Args:
            addresses: Whose states.
            snapshot: This is a checkpoint-all.
            metrics: Other metrics with the same state are a difference too.
            wait_s: How long to wait for daemons with a message in hand. The states of those
                that take longer are committed by themselves when they come.

        Raises:
            Refused: What the store refuses with.
        """
        batch = Batch()
        states = _States(self._capture_failed, self._commit)
        capture = self._owner.system.capture
        todo = list(addresses)
        for start in range(0, len(todo), _CHUNK):
            for address in todo[start : start + _CHUNK]:
                states.missing += 1
                capture(address, states.take)
            self._sort(states.taken(), batch, metrics=metrics)
            if start + _CHUNK < len(todo):
                await asyncio.sleep(0)
        if states.missing and wait_s:
            await states.wait(wait_s)
            self._sort(states.taken(), batch, metrics=metrics)
        batch.busy = states.close()
        await answered(lambda done: self._write(batch, done, snapshot=snapshot))
        return batch

    def _capture_failed(self, error: Exception) -> None:
        self._owner.log.error("a state cannot be saved: %s", error)
        self._owner._d9_count("not-encoded")

    def _commit(self, point: Checkpoint) -> None:
        """Save one state by itself."""
        batch = Batch()
        self._sort([point], batch)
        self._write(batch, None)

    def _sort(self, points: list[Checkpoint], batch: Batch, *, metrics: bool = True) -> None:
        """Put into the batch what is to be written.

        Args:
            points: What was captured.
            batch: What is saved together.
            metrics: Other metrics with the same state are a difference too.
        """
        for point in points:
            keep = self._policy_of(point.address).keep
            state, numbers = _sums(point)
            if keep and not self._is_stored(point, state, numbers, metrics=metrics):
                batch.add(point, keep, state, numbers)
            else:
                batch.unchanged += 1

    def _write(
        self,
        batch: Batch,
        done: Callable[[Exception | None], None] | None,
        *,
        snapshot: bool = False,
    ) -> None:
        """Hand a batch to the store; remember what it became."""
        self._owner._d9_count("unchanged", batch.unchanged)
        system: Any = self._owner.system
        if not batch.points or system.store is None:
            if done is not None:
                done(None)
            return

        def written(error: Exception | None) -> None:
            if error is None:
                self._retry_s = _RETRY_S
                self._remember(batch.sums, receipt.versions)
                self._owner._d9_count("saved", len(batch.points))
                self._owner._d9_count("bytes-saved", batch.size_bytes)
            else:
                self._owner._d9_count("not-saved", len(batch.points))
                self._again(point.address for point in batch.points)
            batch.snapshot = receipt.snapshot
            if done is not None:
                done(error)

        receipt = system.store.save(batch.points, written, keep=batch.keeps, snapshot=snapshot)

    def _remember(
        self, sums: list[tuple[str, int, int]], versions: list[int], start: int = 0
    ) -> None:
        """Note what is stored now; of many in several steps, so that the node is not held.

        Until that is done a state may be written once more than it has to be.
        """
        end = start + _STEP
        for (address, state, numbers), version in zip(
            sums[start:end], versions[start:end], strict=True
        ):
            known = self._stored.get(address)
            if known is None or known[2] < version:  # not saved again meanwhile
                self._stored[address] = (state, numbers, version)
        if len(self._stored) > _REMEMBERED:
            self._stored.clear()
        if end < len(sums):
            system: Any = self._owner.system
            now = self._owner.clock.monotonic()
            system.call_at(now, lambda: self._remember(sums, versions, end))

    def _is_stored(self, point: Checkpoint, state: int, numbers: int, *, metrics: bool) -> bool:
        """True if the newest stored version is this very state."""
        known = self._stored.get(point.address)
        if known is None:
            return False
        # One's own metrics count the saves: each save would ask for the next.
        metrics = metrics and point.address != self._owner.address
        if state != known[0] or (metrics and numbers != known[1]):
            return False
        # Others save too: the daemon itself when it is told `checkpoint`, the
        # kernel when it stops. The version says whether ours is still the newest.
        store = self._owner.system.store
        versions = store.versions(point.address) if store is not None else []
        return bool(versions) and versions[-1].version == known[2]


class _States:
    """The states of one saving, as they come in.

    Args:
        failed: Is told of a state that could not be captured.
        late: Is given a state that comes after `close`.
    """

    def __init__(
        self, failed: Callable[[Exception], None], late: Callable[[Checkpoint], None]
    ) -> None:
        self.missing = 0
        """Daemons that were asked and have not answered."""
        self._failed = failed
        self._late = late
        self._here: list[Checkpoint] = []
        self._is_closed = False
        self._all_here: asyncio.Future[None] | None = None

    def take(self, point: Checkpoint | None, error: Exception | None) -> None:
        """Take what a daemon answers."""
        self.missing -= 1
        if error is not None:
            self._failed(error)
        elif point is not None and self._is_closed:
            self._late(point)
        elif point is not None:
            self._here.append(point)
        waits = self._all_here
        if waits is not None and not self.missing and not waits.done():
            waits.set_result(None)

    def taken(self) -> list[Checkpoint]:
        """Return what has come since the last call."""
        here, self._here = self._here, []
        return here

    async def wait(self, limit_s: float) -> None:
        """Wait until all have answered, but not for longer."""
        self._all_here = asyncio.get_running_loop().create_future()
        await asyncio.wait([self._all_here], timeout=limit_s)

    def close(self) -> int:
        """Count no more in; return how many are missing."""
        self._is_closed = True
        return self.missing


async def answered(work: Callable[[Callable[[Exception | None], None]], object]) -> None:
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


def _sums(point: Checkpoint) -> tuple[int, int]:
    return hash((point.blob, point.schema)), hash(point.metrics)
