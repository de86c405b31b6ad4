"""Probes and sequencers: see what arrives, force an order; never by delays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from dan9.kernel.daemon import Daemon
from dan9.kernel.message import Message

__all__ = ["Probe", "Sequencer"]


class Probe(Daemon, type="probe"):
    """A daemon that takes any message, keeps it, and answers what it was told to.

    `Probe.of(system, ref)` gives the live object behind the ref: tests may look inside.

    Attributes:
        seen: (type, payload) of every message, in order.
        answers: What to reply, by message type; a callable gets the payload; an exception is
            the refusal; None otherwise.
    """

    async def main(self) -> None:
        """Take and answer messages until stopped."""
        self._setup()
        async for message in self.inbox():
            self._take(message)

    def _setup(self) -> None:
        if not hasattr(self, "_seen"):
            self._seen: list[tuple[str, dict[str, object]]] = []
            self._answers: dict[str, object] = {}
            self._changed = asyncio.Event()

    def _take(self, message: Message) -> None:
        self._seen.append((message.type, message.payload))
        self._changed.set()
        answer = self._answers.get(message.type)
        if isinstance(answer, BaseException):
            message.refuse(answer)
        elif callable(answer):
            message.reply(answer(message.payload))
        else:
            message.reply(answer)

    @staticmethod
    def of(ref: object) -> Probe:
        """Return the probe behind a ref."""
        probe: Probe = ref._d9_cell.instance  # type: ignore[attr-defined]
        probe._setup()
        return probe

    @property
    def seen(self) -> list[tuple[str, dict[str, object]]]:
        """(type, payload) of every message so far."""
        self._setup()
        return self._seen

    def answer(self, type_: str, value: object) -> None:
        """Answer messages of this type with a value, a function of the payload, or an error."""
        self._setup()
        self._answers[type_] = value

    async def wait_for(self, count: int) -> list[tuple[str, dict[str, object]]]:
        """Wait until `count` messages were seen in all; return them."""
        self._setup()
        while len(self._seen) < count:
            self._changed.clear()
            await self._changed.wait()
        return self._seen


class Sequencer:
    """Lets parts of several coroutines run in a fixed order, as trio's does.

    Example:
        `async with turn(0): …` in one, `async with turn(1): …` in another.
    """

    def __init__(self) -> None:
        self._next = 0
        self._events: dict[int, asyncio.Event] = {}

    @asynccontextmanager
    async def __call__(self, position: int) -> AsyncIterator[None]:
        """Wait for `position` to come up; the next one may go when the block ends."""
        if position != self._next:
            event = self._events.setdefault(position, asyncio.Event())
            await event.wait()
        try:
            yield
        finally:
            self._next = position + 1
            event = self._events.setdefault(self._next, asyncio.Event())
            event.set()
