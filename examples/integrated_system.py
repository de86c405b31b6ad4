"""Persistence, monitoring, logging and a timer around one worker, over two lives.

`python examples/integrated_system.py`. A worker does batches because the timer tells it to; a
second task saves everybody, a third has the dashboard drawn again and again, a fourth is
called off. Then the node goes down, time
passes, and a second life finds everything as it was and makes good what was missed. It runs
in virtual time, so every run prints the same.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from dan9 import Daemon, System, VirtualClock, log_info, on
from dan9.testing.memory_store import MemoryStore

DAEMONS = ["persistence", "logging", "monitoring", "timer"]


class Worker(Daemon, checkpoint="on-change"):
    """Does batches, and knows how many after any restart."""

    batches: int = 0

    @on
    def process(self, batch: str) -> int:
        """Do one batch; the reply is how many there were."""
        self.batches += 1
        self.log.info("batch %s is number %d", batch, self.batches)
        if batch == "once":
            self.log.warning("that was an extra one", batch=batch)
        return self.batches


class Screen(Daemon):
    """Draws the dashboard when the timer says so."""

    @on
    async def draw(self) -> None:
        """Ask monitoring for the dashboard of our own daemons, and print it."""
        text = await self.ask("monitoring", "dashboard", pattern="d9://*/demo/*", width=88)
        print("\n".join(f"    {line}".rstrip() for line in text.splitlines()))


async def schedule(system: System, type_: str, **task: Any) -> str:
    """Ask the timer for a task."""
    return str(await system.ask("timer", type_, payload=task))


async def show_log(system: System, source: str, limit: int = 3) -> None:
    """Print the last lines of the log about a source."""
    for entry in await system.ask("logging", "display", source=source, limit=limit):
        print(f"    {entry['level']:<8} {entry['text']}")


async def first_life(clock: VirtualClock, store: MemoryStore) -> None:
    """Set everything up and work for five minutes."""
    async with System(
        "integrated", daemons=DAEMONS, socket=False, store=store, clock=clock, seed=7
    ) as system:
        worker = await system.spawn(Worker, "worker", group="demo")
        await system.spawn(Screen, "screen", group="demo")
        log_info("system", "the integrated system has started")
        await schedule(
            system,
            "schedule-repeating",
            interval="30s",
            target="worker",
            type="process",
            payload={"batch": "regular"},
        )
        await schedule(
            system,
            "schedule",
            delay="10s",
            target="worker",
            type="process",
            payload={"batch": "once"},
        )
        await schedule(
            system,
            "schedule-repeating",
            interval="5m",
            target="persistence",
            type="checkpoint-all",
        )
        await schedule(system, "schedule-repeating", interval="145s", target="screen", type="draw")
        extra = {"target": "worker", "type": "process", "payload": {"batch": "extra"}}
        cleanup = await schedule(system, "schedule", delay="60s", **extra)
        await system.ask("timer", "cancel", task_id=cleanup)
        await asyncio.sleep(301)
        stats = await system.ask("timer", "stats")
        print(f"  timer: {stats['active']} tasks, {stats['fired']} firings")
        for task in await system.ask("timer", "list"):
            due = task["next"] - clock.now()
            print(
                f"    {task['target']} {task['type']} in {due:.0f} s, fired {task['fired']} times"
            )
        print("  warnings:")
        for entry in await system.ask("logging", "display", level="warning", limit=10):
            print(f"    {entry['source']}: {entry['text']} {entry['fields']}")
        print("  log:")
        await show_log(system, "worker")
        await show_log(system, "system")
        status = await system.ask("worker", "status")
        print(f"  worker: {status['handled']} messages, {await worker.process('by-hand')} batches")


async def second_life(clock: VirtualClock, store: MemoryStore) -> None:
    """Find everything as it was."""
    async with System(
        "integrated", daemons=DAEMONS, socket=False, store=store, clock=clock, seed=8
    ) as system:
        await system.spawn(Worker, "worker", group="demo")
        await system.spawn(Screen, "screen", group="demo")
        await asyncio.sleep(1)
        stats = await system.ask("timer", "stats")
        print(f"  timer: {stats['active']} tasks, {stats['missed']} firings were missed for good")
        versions = await system.ask("persistence", "list", daemon_name="worker")
        print(f"  worker: {len(versions)} versions of its state are kept")
        print("  log:")
        await show_log(system, "worker", 1)


def main() -> int:
    """Live twice."""
    store = MemoryStore()  # in virtual time nothing waits for a disk
    clock = VirtualClock()
    print("the first life")
    clock.run(first_life(clock, store))
    later = VirtualClock(clock.now() + 3600)
    print("the second life, an hour later")
    later.run(second_life(later, store))
    return 0


if __name__ == "__main__":
    sys.exit(main())
