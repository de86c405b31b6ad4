"""A heart that beats, and a monitor that asks it how it is."""

from __future__ import annotations

from dan9 import Config, Daemon, every, on


class Heart(Daemon):
    """Beats once a second."""

    beats: int = 0

    @every("1s")
    def beat(self) -> None:
        """Beat."""
        self.beats += 1

    @on
    def pulse(self) -> int:
        """Return how often it has beaten."""
        return self.beats


class Monitor(Daemon):
    """Asks a heart for its pulse once a minute."""

    of: Config[str] = "d9://heart/default/heart"
    asked: int = 0
    missed: int = 0

    @every("1m")
    async def look(self) -> None:
        """Ask; a heart that does not answer is written down."""
        self.asked += 1
        try:
            await self.ask(self.of, "pulse", timeout_s=1.0)
        except Exception as error:
            self.missed += 1
            self.log.warning("no pulse: %s", error)
