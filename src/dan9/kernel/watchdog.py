"""The watchdog: names whatever holds the node for longer than a tenth of a second.

A sync handler blocks every daemon of its node. A thread looks every 20 ms whether
the scheduler has got on; if it has not for `LIMIT_S`, to within half a look, it takes the
stack of what is running and, when that is over, a `SlowStep` is emitted. While nothing
runs the thread is parked: an idle node has no watchdog to feed.

The thread is started below Python's `threading`, so that its existence does not
switch on the check of threads that every tell would otherwise pay for.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from _thread import allocate_lock, start_new_thread
from typing import TYPE_CHECKING

from dan9.base.events import SlowStep

if TYPE_CHECKING:
    from dan9.kernel.kernel import System

__all__ = ["Watchdog"]

LIMIT_S = 0.1
LOOK_S = 0.02
CLOSE_LOOK_S = 0.005
IDLE_LOOKS = 3


class Watchdog:
    """Watches one system's scheduler. `start` and `stop` belong to the loop's thread."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._scheduler = system.scheduler
        self._work = allocate_lock()
        self._pause = allocate_lock()
        self._is_stopped: bool = True

    def start(self) -> None:
        """Begin to watch."""
        if not self._is_stopped:
            return
        self._is_stopped = False
        self._work.acquire()
        self._pause.acquire()
        self._scheduler.is_watched = False
        start_new_thread(self._run, ())

    def stop(self) -> None:
        """Let the thread end by itself, soon."""
        if not self._is_stopped:
            self._is_stopped = True
            self.wake()
            if self._pause.locked():
                self._pause.release()

    def wake(self) -> None:
        """Look again: a turn has begun after rest."""
        self._scheduler.is_watched = True
        if self._work.locked():
            self._work.release()

    def _run(self) -> None:
        while not self._is_stopped:
            self._work.acquire()
            self._watch()

    def _watch(self) -> None:
        """Look until the scheduler has rested for a while."""
        scheduler = self._scheduler
        clock = scheduler.monotonic
        idle = 0
        seen = (-1, -1, -1)
        since = clock()
        stack = ""
        what = ("", "")
        while not self._is_stopped:
            self._pause.acquire(timeout=CLOSE_LOOK_S if stack else LOOK_S)
            mark = (int(scheduler.turns), int(scheduler.steps), int(scheduler.handled))
            now = clock()
            is_over = mark != seen or not scheduler.in_turn
            if stack and is_over:
                self._report(what, now - since, stack)
                stack = ""
            if mark != seen:
                seen, since, idle = mark, now, 0
            elif not is_over:
                if not stack and now - since >= LIMIT_S / 2:
                    stack, what = self._look()
            else:
                idle += 1
                if idle >= IDLE_LOOKS:
                    scheduler.is_watched = False
                    return

    def _look(self) -> tuple[str, tuple[str, str]]:
        """Return the stack of the loop's thread and what it handles."""
        scheduler = self._scheduler
        cell, message = scheduler.current_cell, scheduler.current
        frame = sys._current_frames().get(scheduler.thread)
        lines = traceback.format_stack(frame)[-12:] if frame is not None else []
        address = cell.address if cell is not None else ""
        return "".join(lines) or "(gone)", (address, message.type if message is not None else "")

    def _report(self, what: tuple[str, str], took_s: float, stack: str) -> None:
        system = self._system
        if took_s < LIMIT_S - LOOK_S / 2:
            return
        event = SlowStep(system.clock.now(), what[0], what[1], took_s, stack)
        loop = self._scheduler.loop
        if loop is not None and not loop.is_closed():
            with contextlib.suppress(RuntimeError):  # the loop may close meanwhile
                loop.call_soon_threadsafe(system.slow_step, event)
