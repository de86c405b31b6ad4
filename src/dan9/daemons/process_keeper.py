"""Keep jobs going: start them, see them ready, pass on what they say, start them again.

A job is found under two numbers: the pid that its asker was told, for as long as the job
lasts, and that of the process which runs now.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any

from dan9.base.errors import Refused
from dan9.daemons.process_child import Child
from dan9.daemons.process_family import Family
from dan9.daemons.process_job import Job
from dan9.daemons.process_link import Order
from dan9.daemons.process_ready import ReadyWatch
from dan9.kernel.daemon import Daemon

__all__ = ["Keeper"]

KILL_GRACE_S = 2.0
"""What a process gets between TERM and KILL when nobody said how long."""


class Keeper:
    """Start and tend processes for one daemon.

    Args:
        daemon: Whose clock, log, metrics and chance are used.
        family: Where the processes are.
        kept_bytes: How much of each output of a job is kept.
    """

    def __init__(self, daemon: Daemon, family: Family, kept_bytes: int) -> None:
        self._daemon = daemon
        self._family = family
        self._kept_bytes = kept_bytes
        self._jobs: dict[int, Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def job(self, pid: int) -> Job | None:
        """Return the job that this pid names, if any."""
        return self._jobs.get(pid)

    def forget(self, pid: int) -> None:
        """A process is no longer known; its job is, as long as it goes on."""
        job = self._jobs.get(pid)
        if job is not None and (job.closed or pid != job.first):
            del self._jobs[pid]

    async def start(self, order: Order, **how: Any) -> Child:
        """Start one process; see `Family.start`."""
        child = await self._family.start(order, now=self._daemon.clock.now(), **how)
        self._daemon._d9_count("started")
        return child

    async def launch(self, job: Job) -> Child:
        """Start a job's process; return it when it is ready.

        Raises:
            Refused: It did not start, or did not become ready and was ended.
        """
        watch = ReadyWatch(job.ready, job.order.cwd) if job.ready is not None else None
        order = job.order
        try:
            if watch is not None:
                order = order.with_env(await watch.prepare())
            child = await self.start(
                order,
                stdin=job.stdin != b"",
                kept_bytes=self._kept_bytes,
                attach=lambda child: self._attach(job, child, watch),
            )
            if job.stdin and child.stdin is not None:
                self.task(child.stdin.finish(job.stdin))
            if watch is not None:
                await self._see_ready(job, child, watch)
        finally:
            if watch is not None:
                watch.close()
        job.up(self._daemon.clock.monotonic())
        if job.lines is not None:
            child.flow()
        self.task(self._tend(job, child))
        return child

    def end(self, pid: int) -> None:
        """End a job for good, in the background."""
        job = self._jobs.get(pid)
        if job is not None:
            job.stop()
            if job.child is not None:
                pid = job.child.pid
        self.task(self._family.end(pid, signal.SIGTERM, KILL_GRACE_S))

    def task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Do something in the background; a failure is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def close(self) -> None:
        """Let go of everything that is done in the background."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _attach(self, job: Job, child: Child, watch: ReadyWatch | None) -> None:
        if job.child is not None and job.child.pid != job.first:
            self._jobs.pop(job.child.pid, None)
        job.begin(child)
        self._jobs[child.pid] = job
        if watch is not None:
            watch.attach(child)

    async def _see_ready(self, job: Job, child: Child, watch: ReadyWatch) -> None:
        try:
            await watch.ready(child, job.ready_within)
        except BaseException:
            self.task(self._family.end(child.pid, signal.SIGTERM, KILL_GRACE_S))
            raise

    async def _tend(self, job: Job, child: Child) -> None:
        """Deliver what a process prints and its end; start it again if that is its way."""
        daemon = self._daemon
        try:
            ended = await job.deliver(child)
            while (
                pause_s := job.next_start(
                    ended, daemon.clock.monotonic(), daemon.system.random.random()
                )
            ) is not None:
                daemon.log.warning(
                    "%s %s; starting again in %.1f s", child.argv[0], ended, pause_s, pid=child.pid
                )
                await daemon.sleep(pause_s)
                if job.stopped:
                    break
                try:
                    await self.launch(job)
                except Refused as refusal:
                    daemon.log.warning("%s does not start again: %s", child.argv[0], refusal)
                else:
                    daemon._d9_count("restarted")
                    return
        finally:
            if job.child is child:
                job.between = False
        job.close()
        if self._family.get(job.first) is None:
            self._jobs.pop(job.first, None)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._daemon.log.error("a task of the process daemon failed: %s", error)
