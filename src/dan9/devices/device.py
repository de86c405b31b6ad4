"""A device as a daemon: events come in, a driver handles them, a recording keeps them.

A device without a driver counts and keeps what happens to it, which is what a test or a
rehearsal wants. Whatever reaches it as `event` can be recorded to a file and replayed later, at
the speed it had or as fast as it goes; a replayed event is handled like any other.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final, TypedDict

from dan9.base.errors import BadPayload, NotFound
from dan9.base.reasons import Reason
from dan9.devices.driver import Driver, Event, hand_over, load_driver
from dan9.devices.recording import Recorded, Recorder, read_recording
from dan9.kernel.daemon import Config, Daemon, on

__all__ = ["Device", "Happened", "Recording", "VirtualDevice"]

KEPT: Final = 1_000
"""Events kept in memory for `history`."""


class Recording(TypedDict):
    """Reply of `record` and `replay`."""

    recording: str
    events: int


class Happened(TypedDict):
    """One event in the reply of `history`."""

    type: str
    data: dict[str, Any]
    when: float


class Device(Daemon):
    """Hands events to a driver and replays recordings: what all devices have in common."""

    kind: Config[str] = "virtual"
    """What sort of device it stands for; shown, and told to nobody else."""
    driver: Config[str] = ""
    """The driver to attach at the start, as `module:Class`; empty: none."""
    events: int = 0
    """Events handled, replayed ones included."""
    settings: dict[str, Any] = {}
    """What `calibrate` was told."""

    async def on_start(self) -> None:
        """Attach the configured driver."""
        self._driver: Driver | None = load_driver(self.driver) if self.driver else None
        self._recorder: Recorder | None = None
        self._past: deque[Happened] = deque(maxlen=KEPT)

    async def on_stop(self, reason: Reason) -> None:
        """End a recording that is under way."""
        del reason
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None

    def on_status(self) -> dict[str, object]:
        """Add the driver, the recording and the number of events."""
        return {
            "kind": self.kind,
            "driver": "" if self._driver is None else type(self._driver).__name__,
            "recording": "" if self._recorder is None else self._recorder.path,
            "events": self.events,
        }

    @on
    async def event(self, event_type: str, data: dict[str, Any] | None = None) -> Any:
        """Let something happen; reply what the driver says, None without one.

        Args:
            event_type: What happened.
            data: The rest.

        Errors: whatever the driver refuses. A driver that raises anything else has crashed
        the device, and its supervisor decides.
        """
        return await self._happen(event_type, data or {})

    @on
    def attach(self, driver: Any) -> str:
        """Give the device a driver, in place of the one it has; reply the driver's class.

        Args:
            driver: An object with a method `handle(event)`, or `module:Class`.

        Errors: bad-payload, not-found.
        """
        self._driver = load_driver(driver)
        return type(self._driver).__name__

    @on
    def detach(self) -> str:
        """Take the driver away; reply its class, empty if there was none."""
        driver, self._driver = self._driver, None
        return "" if driver is None else type(driver).__name__

    @on
    def calibrate(self, /, **settings: Any) -> dict[str, Any]:
        """Change settings; reply all of them. Drivers read them as they like."""
        self.settings = {**self.settings, **self._checked(settings)}
        return self.settings

    @on
    def history(self, limit: int = 20) -> list[Happened]:
        """Return the last events, oldest first."""
        if limit < 0:
            raise BadPayload(f"limit is {limit}", at="payload.limit", hint="0 or more")
        return list(self._past)[len(self._past) - min(limit, len(self._past)) :]

    @on(concurrent=True, cancellable=True, timeout_s=None)
    async def replay(self, recording: str, speed: float | None = None) -> Recording:
        """Let the events of a recording happen again; reply when all have.

        Args:
            recording: The file.
            speed: 1: as it was; 2: twice as fast; None: as fast as it goes.

        Errors: not-found, permission, corrupt, bad-payload.
        """
        if speed is not None and not 0 < speed < float("inf"):
            raise BadPayload(f"speed is {speed:g}", at="payload.speed", hint="more than 0, or none")
        count = 0
        at = 0.0
        for one in self._events_of(recording):
            if speed is not None and one.t > at:
                await self.sleep((one.t - at) / speed)
                at = one.t
            await self._again(one.type, one.data, one.t)
            count += 1
            if count % 100 == 0:
                await asyncio.sleep(0)  # others have messages too
        return {"recording": recording, "events": count}

    # -- for devices that derive from this one -----------------------------------------------

    async def _happen(self, kind: str, data: dict[str, Any]) -> Any:
        now = self.clock.now()
        if self._recorder is not None:
            self._recorder.write(kind, data, now)
        self.events += 1
        self._past.append({"type": kind, "data": data, "when": now})
        if self._driver is None:
            return None
        return await hand_over(self._driver, Event(kind, data, now, self.address))

    def _events_of(self, recording: str) -> list[Recorded]:
        return list(read_recording(recording))

    async def _again(self, kind: str, data: dict[str, Any], t: float) -> None:
        del t
        await self._happen(kind, data)

    def _checked(self, settings: dict[str, Any]) -> dict[str, Any]:
        return settings

    def _record(self, recording: str | None) -> Recording:
        before = self._recorder
        if recording is None and before is None:
            raise NotFound("nothing is being recorded", hint="name a file to begin")
        made = None if recording is None else Recorder(recording, self.address, self.clock.now())
        if before is not None:
            before.close()
        self._recorder = made
        if made is not None:
            return {"recording": made.path, "events": 0}
        assert before is not None
        return {"recording": before.path, "events": before.events}


class VirtualDevice(Device, type="device"):
    """Stands for any device: hands events to a driver, records and replays them."""

    @on
    def record(self, recording: str | None = None) -> Recording:
        """Record all events from now on to a file; without one, end the recording.

        Errors: not-found (the folder; or nothing is being recorded), permission.
        """
        return self._record(recording)
