"""Hears of it when somebody sets the wall clock or the machine wakes up, without polling.

Linux has a timer for that: one on CLOCK_REALTIME with TFD_TIMER_CANCEL_ON_SET becomes
readable when that clock is changed by a jump; waking up from a sleep is one (timerfd_create(2)).
Elsewhere there is nothing like it, and whoever needs to know must look now and then.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

__all__ = ["ClockWatch"]

_CLOCK_REALTIME = 0
_ABSTIME_AND_CANCEL_ON_SET = 1 | 2
_FAR_FUTURE_S = 1 << 40


class ClockWatch:
    """Calls back when the wall clock has jumped.

    Args:
        on_jump: Called on the loop, some moments after the jump.
    """

    def __init__(self, on_jump: Callable[[], None]) -> None:
        self._on_jump = on_jump
        self._handle = -1
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def is_watching(self) -> bool:
        """True if jumps are heard of."""
        return self._handle >= 0

    def start(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Begin; False if this machine has no such timer."""
        if self.is_watching:
            return True
        if not sys.platform.startswith("linux"):
            return False
        try:
            self._handle = _library().timerfd_create(
                _CLOCK_REALTIME, os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
            )
            if self._handle < 0 or not self._arm():
                self.close()
                return False
            loop.add_reader(self._handle, self._readable)
        except (OSError, AttributeError, NotImplementedError, ImportError):
            self.close()
            return False
        self._loop = loop
        return True

    def close(self) -> None:
        """Hear of nothing any more."""
        if self._loop is not None and self._handle >= 0:
            self._loop.remove_reader(self._handle)
        if self._handle >= 0:
            os.close(self._handle)
        self._handle = -1
        self._loop = None

    def _readable(self) -> None:
        with suppress(OSError):  # ECANCELED says that the clock has jumped
            os.read(self._handle, 8)
        self._arm()
        self._on_jump()

    def _arm(self) -> bool:
        import ctypes

        # struct itimerspec: interval and first expiry, each seconds and nanoseconds
        spec = (ctypes.c_long * 4)(0, 0, _FAR_FUTURE_S, 0)
        done = _library().timerfd_settime(
            self._handle, _ABSTIME_AND_CANCEL_ON_SET, ctypes.byref(spec), None
        )
        return bool(done == 0)


def _library() -> Any:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
