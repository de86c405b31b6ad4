"""A daemon that waits to be started again can be stopped, and does not hold the system up."""

from __future__ import annotations

import pytest

from dan9.base.errors import DaemonFailed
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system


class Fragile(Daemon):
    """Breaks when told to."""

    @on
    def crash(self) -> None:
        raise RuntimeError("it broke")

    @on
    def fine(self) -> str:
        return "fine"


def test_the_system_goes_down_while_a_daemon_waits_for_its_restart() -> None:
    """Leaving the block ends, at once."""

    async def main() -> None:
        async with system() as s:
            ref = await s.spawn(Fragile, "f1")
            with pytest.raises(DaemonFailed):
                await ref.crash()
            assert s.state_of("d9://fragile/default/f1") == "starting"

    run(main)


def test_a_stop_between_two_incarnations_is_kept() -> None:
    """It is not restarted; a later start works, and a later crash is restarted again."""

    async def main() -> None:
        async with system() as s:
            ref = await s.spawn(Fragile, "f1")
            address = "d9://fragile/default/f1"
            for _ in range(2):
                with pytest.raises(DaemonFailed):
                    await ref.crash()
                assert await s.ask(address, "stop") == "stopped"
                await s.sleep("60s")
                assert s.state_of(address) == "stopped"
                assert await s.ask(address, "start") == "running"
            with pytest.raises(DaemonFailed):
                await ref.crash()
            await s.sleep("60s")
            assert await ref.fine() == "fine"

    run(main)


def test_a_system_goes_down_while_a_child_waits_for_its_restart():
    """A parent that stops takes a child along that is between two incarnations."""

    class Kid(Daemon):
        async def main(self) -> None:
            raise RuntimeError("at once")

    class Parent(Daemon):
        async def on_start(self) -> None:
            await self.spawn(Kid, "kid")

    async def main():
        async with system() as s:
            await s.spawn(Parent, "parent")
            await s.sleep("0.01s")
            assert s.state_of("kid") == "starting"
        return s.clock.monotonic()

    assert run(main) < 1.0
