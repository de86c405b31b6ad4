"""Addresses, cycles and devices: who is called what, a trillion of them, and things to touch.

`python examples/address_device.py`. A router gives a gear a second address; a pool brings up a
trillion cycles, two of which are spoken to; a pad tells what was done to it, a clockwork ticks,
and a swarm calibrates its sensors at once.
"""

from __future__ import annotations

import asyncio

from dan9 import Daemon, System, on
from dan9.antikythera import Antikythera, Gear
from dan9.daemons.pool import Pool
from dan9.devices import ClockworkDevice, GestureDevice, Sensor
from dan9.egregore import Swarm


class Cell(Daemon):
    """A cycle: grows when it is fed, and starves back to nothing."""

    food: int = 0

    @on
    def feed(self, by: int = 1) -> int:
        """Give it food."""
        self.food += by
        return self.food

    def step(self, n: int) -> None:
        """Eat one a step, however many steps at once."""
        self.food = max(0, self.food - n)


class Lamp:
    """A driver: any object with one method."""

    def handle(self, event: object) -> str:
        """Answer an event."""
        return f"the lamp hears {getattr(event, 'type', event)}"


async def addresses(system: System) -> None:
    """Give a daemon a second address, and find it by pattern."""
    gears = await system.spawn(Antikythera, "gears")
    await gears.register_gear(Gear("year", 525_600))
    uri = "d9://scheduler/year-gear"
    print("registered:", await system.ask("router", "register", uri=uri, target="gears"))
    found = await system.ask("router", "resolve", uri=uri)
    print("resolved:", found["address"], found["state"])
    told = await system.ask(
        "router", "send", target_uri="d9://scheduler/**", type="advance", payload={"ticks": 60}
    )
    await gears.ping()  # after what was told
    status = await system.ask("gears", "status")
    print(f"sent to d9://scheduler/**: {told} told, the gears stand at {status['total-ticks']}")


async def cycles(system: System) -> None:
    """Bring up a trillion cycles; those that nobody has spoken to cost nothing."""
    pool = await system.spawn(Pool, "cells", cycle=Cell)
    print("cycles:", (await pool.sync_cycles(10**12))["now"])
    await system.ask("d9://cycle/cells/999999999999", "feed", by=5)
    await system.ask("d9://cycle/cells/42", "feed", by=2)
    for steps in (1, 3, 10**9):
        active = (await pool.step(steps))["active"]
        print(f"   after {steps} steps: {active} have food, {await pool.total('food')} in all")


async def devices(system: System) -> None:
    """Touch a pad, tick a clockwork, and calibrate a swarm of sensors."""
    pad = await system.spawn(GestureDevice, "touchpad")
    for n in range(11):
        await pad.record(10.0 + 4 * n, 20.0, z=5.0, t=n / 100)
    await pad.record(50.0, 20.0, t=0.105, contact=False)
    seen = await pad.recognize()
    print(f"the pad: {seen['intent']} {seen['direction']}")
    await pad.attach(Lamp())
    print(await pad.event("switch"))

    clockwork = await system.spawn(ClockworkDevice, "mechanism")
    await clockwork.add_gear("seconds", 60)
    await clockwork.add_gear("minutes", 60, "seconds")
    await clockwork.add_gear("hours", 24, "minutes")
    await clockwork.tick(10**6)
    for gear in await clockwork.read():
        print(f"   {gear['name']}: {gear['turns']} turns, at {gear['angle_deg']:.0f}°")

    swarm = await system.spawn(Swarm, "device-controllers")
    for name, value in (("temp-sensor", 21.456), ("pressure-sensor", 1013.27)):
        await swarm.add(await system.spawn(Sensor, name, source=value))
    print("calibrated:", await swarm.broadcast("calibrate", {"precision": 1}))
    replies = (await swarm.broadcast("read", gather=True))["replies"]
    print("read:", [reply["value"] for reply in replies.values()])


async def main() -> None:
    """Show the three."""
    async with System("devices", daemons=["router"], socket=False) as system:
        await addresses(system)
        await cycles(system)
        await devices(system)


if __name__ == "__main__":
    asyncio.run(main())
