"""Hierarchy: work is split over the workers, and the results become one.

Each worker has one item in hand and takes the next when it has answered: the slow do not
hold the fast. An item whose worker fell goes back to the others. A result enters the
reduction when its reply came, and only the first: exactly once, though the work may be begun
more often. A worker that is a hierarchy gets as many items as it has members; one that is another
egregore has its members do each item in its own way.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from dan9.base.errors import BadPayload, Dan9Error, MailboxFull, NotRunning, Refused, TimedOut
from dan9.egregore.core import Egregore, Pattern, described
from dan9.kernel.daemon import Config

__all__ = ["Hierarchy", "HierarchyPattern", "ItemFailed"]

_REST_S = 0.05  # between looks at a worker that is being restarted, while there is work
_NOBODY_S = 10.0  # without any worker for so long, the work is given up


class ItemFailed(Refused):
    """An item brought down every worker that took it up."""

    code = "item-failed"


def _sum(results: list[Any]) -> Any:
    total: Any = 0
    for result in results:
        total += result
    return total


def _merge(results: list[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for result in results:
        if not isinstance(result, dict):
            raise BadPayload(f"{result!r} cannot be merged", hint="workers must reply maps")
        merged.update(result)
    return merged


REDUCE: dict[str, Callable[[list[Any]], Any]] = {"list": list, "sum": _sum, "merge": _merge}


class _Job:
    """Items on their way to results."""

    def __init__(
        self, type_: str, items: list[Any], rest: dict[str, Any], timeout_s: float | None
    ) -> None:
        self.type = type_
        self.timeout_s = timeout_s
        self.items = items
        self.rest = rest
        self.queue = deque(range(len(items)))
        self.results: dict[int, Any] = {}
        self.attempts: dict[int, int] = {}
        self.error: Dan9Error | None = None
        self.bug: BaseException | None = None
        self.done = asyncio.Event()
        self.returned = asyncio.Event()
        self.workers: dict[str, asyncio.Task[None]] = {}
        if not items:
            self.done.set()

    def give_back(self, numbers: list[int]) -> None:
        """Put items back at the head of the queue; whoever is idle hears of it."""
        self.queue.extendleft(
            number
            for number in reversed(numbers)
            if number not in self.results and number not in self.queue
        )
        self.returned.set()
        self.returned = asyncio.Event()


class HierarchyPattern(Pattern):
    """Splits items over the workers, or gives the whole to one that is idle."""

    def __init__(self, owner: Egregore) -> None:
        super().__init__(owner)
        self.jobs: list[_Job] = []
        self.busy: dict[str, int] = {}

    async def broadcast(self, type_: str, payload: dict[str, Any], options: dict[str, Any]) -> Any:
        """Return the reduced results, or the one worker's reply."""
        if "items" not in payload:
            return await self._delegate(type_, payload, options["timeout"])
        reduce = REDUCE.get(options["reduce"])
        if reduce is None:
            raise BadPayload(
                f"reduce is {options['reduce']!r}",
                hint="one of " + ", ".join(REDUCE),
                at="payload.reduce",
            )
        items = payload["items"]
        if not isinstance(items, list):
            raise BadPayload("items is no list", at="payload.items")
        rest = {key: value for key, value in payload.items() if key != "items"}
        job = _Job(type_, items, rest, options["timeout"])
        if not self.owner._members and items:
            raise NotRunning("the hierarchy has no workers", hint="add some")
        self.jobs.append(job)
        try:
            for member in list(self.owner._members):
                self._hire(job, member)
            await job.done.wait()
        finally:
            self.jobs.remove(job)
            for task in list(job.workers.values()):
                task.cancel()
            await asyncio.gather(*job.workers.values(), return_exceptions=True)
        if job.error is not None:
            raise job.error
        if job.bug is not None:
            raise job.bug
        return reduce([job.results[number] for number in range(len(items))])

    def joined(self, member: str) -> None:
        """A worker that joins takes part in what is under way."""
        for job in self.jobs:
            self._hire(job, member)

    def left(self, member: str) -> None:
        """Without any worker left, work is given up."""
        if not self.owner._members:
            for job in self.jobs:
                self._fail(job, NotRunning("the last worker has left", hint="add some"))

    def status(self) -> dict[str, object]:
        """Add the items that wait and those in hand."""
        return {
            "items-waiting": sum(len(job.queue) for job in self.jobs),
            "items-in-hand": sum(self.busy.values()),
        }

    def _hire(self, job: _Job, member: str) -> None:
        if member not in job.workers:
            task = job.workers[member] = asyncio.ensure_future(self._work(job, member))
            task.add_done_callback(lambda done: self._ended(job, done))

    @staticmethod
    def _ended(job: _Job, task: asyncio.Task[None]) -> None:
        """A bug in here must not leave the asker waiting."""
        if not task.cancelled() and task.exception() is not None:
            job.bug = task.exception()
            job.done.set()

    async def _work(self, job: _Job, member: str) -> None:
        """Have one worker take item after item."""
        owner = self.owner
        down_s = 0.0
        while not job.done.is_set() and member in owner._members:
            if not owner.runs(member):
                down_s = down_s + _REST_S if not owner.running() else 0.0
                if down_s > _NOBODY_S:
                    self._fail(job, NotRunning("no worker has run for 10 s"))
                await asyncio.sleep(_REST_S)
                continue
            down_s = 0.0
            if job.queue:
                await self._one(job, member)
            else:
                await job.returned.wait()

    async def _one(self, job: _Job, member: str) -> None:
        owner = self.owner
        # One that is a hierarchy itself takes as many items as it has members.
        cell = owner._members[member]
        group = cell.instance if isinstance(cell.instance, Egregore) else None
        is_tree = group is not None and group.archetype == "hierarchy"
        size = max(1, len(group._members)) if group is not None and is_tree else 1
        numbers = [job.queue.popleft() for _ in range(min(size, len(job.queue)))]
        items = [job.items[number] for number in numbers]
        say = {**job.rest, "items": items} if is_tree else {**job.rest, "item": items[0]}
        self.busy[member] = self.busy.get(member, 0) + len(numbers)
        results: list[Any] | None = None
        try:
            type_ = job.type
            limit = None
            if group is None:
                limit = self._limit(member, type_, job.timeout_s)
            else:
                say = {"type": type_, "payload": say, "timeout": job.timeout_s}
                type_ = "broadcast"
            reply = await owner.ask(member, type_, payload=say, timeout_s=limit)
            results = reply if is_tree else [reply]
        except (NotRunning, MailboxFull):
            pass  # nobody took it up
        except TimedOut as error:
            self._again(job, numbers, error)
        except Refused as error:
            self._fail(job, error)
        except Dan9Error as error:
            self._again(job, numbers, error)
        finally:
            self.busy[member] -= len(numbers)
            if results is None:
                job.give_back(numbers)
        if results is None:
            await asyncio.sleep(_REST_S)  # another worker may be better off
            return
        for number, result in zip(numbers, results, strict=True):
            job.results.setdefault(number, result)
        if len(job.results) == len(job.items):
            job.done.set()

    def _limit(self, member: str, type_: str, timeout_s: float | None) -> float | None:
        """Return how long one item may take: what the worker's handler says, if it does."""
        verb = self.owner.system.verb_of(self.owner._members[member], type_)
        return timeout_s if verb.timeout_s < 0 and not verb.takes_timeout else -1.0

    def _again(self, job: _Job, numbers: list[int], error: Dan9Error) -> None:
        """Count an attempt that failed; an item that fells worker after worker is given up."""
        for number in numbers:
            attempts = job.attempts[number] = job.attempts.get(number, 0) + 1
            limit = getattr(self.owner, "attempts", 10)
            if attempts >= limit:
                text = f"item {number} failed {attempts} times, last: {described(error)}"
                self._fail(job, ItemFailed(text, hint="raise attempts, or mend the item"))

    def _fail(self, job: _Job, error: Dan9Error) -> None:
        job.error = job.error or error
        job.done.set()

    async def _delegate(self, type_: str, payload: dict[str, Any], timeout_s: float | None) -> Any:
        """Give the whole to a worker that is idle, or else the least busy; again if it falls."""
        owner = self.owner
        attempts = 0
        while True:
            running = owner.running()
            if not running:
                attempts += 1
                if attempts * _REST_S > _NOBODY_S or not owner._members:
                    raise NotRunning("the hierarchy has no worker that runs", hint="add some")
                await asyncio.sleep(_REST_S)
                continue
            member = min(running, key=lambda one: self.busy.get(one, 0))
            self.busy[member] = self.busy.get(member, 0) + 1
            try:
                limit = self._limit(member, type_, timeout_s)
                return await owner.ask(member, type_, payload=payload, timeout_s=limit)
            except Refused as error:
                if not isinstance(error, NotRunning):
                    raise
            except Dan9Error as error:
                attempts += 1
                if attempts >= getattr(owner, "attempts", 10):
                    text = f"{type_} failed {attempts} times, last: {described(error)}"
                    raise ItemFailed(text) from None
            finally:
                self.busy[member] -= 1


class Hierarchy(Egregore, type="egregore"):
    """An egregore that splits work over its members and reduces what they answer."""

    archetype: Config[str] = "hierarchy"
    attempts: Config[int] = 10
    """How often an item may bring a worker down before it is given up."""
