"""Mailboxes and their four policies against a model: who gets in, who is told, in which order."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, rule
from world_machine import WorldMachine

from dan9 import Daemon, MailboxFull, on

LIMIT = 3


class Reader(Daemon):
    """Reads one at a time, when it is let."""

    async def on_start(self) -> None:
        """Have read nothing."""
        self._read: list[int] = []
        self._gate = asyncio.Semaphore(0)

    @on
    async def take(self, number: int) -> int:
        """Read one."""
        await self._gate.acquire()
        self._read.append(number)
        return number


class Mailboxes(WorldMachine):
    """What is queued, read, dropped and refused is what the model says."""

    @initialize(policy=st.sampled_from(["wait", "refuse", "drop-oldest", "drop-newest"]))
    def begin(self, policy: str) -> None:
        """Start one reader."""
        self.policy = policy
        self.reader: Any = self.do(
            self.world.system.spawn(Reader, "r", mailbox=LIMIT, policy=policy)
        )
        self.next = 0
        self.hand: int | None = None
        self.queue: list[int] = []
        self.room: list[int] = []
        self.read: list[int] = []
        self.asks: dict[int, asyncio.Task[Any]] = {}
        self.fates: dict[int, str] = {}
        self.dropped = 0

    def _arrive(self, number: int, *, waits: bool) -> bool:
        """Say what the model makes of one more; False: the sender is told `MailboxFull`."""
        if self.hand is None:
            self.hand = number
        elif len(self.queue) < LIMIT and not self.room:
            self.queue.append(number)
        elif self.policy == "drop-newest":
            self._drop(number)
        elif self.policy == "drop-oldest":
            self._drop(self.queue.pop(0))
            self.queue.append(number)
        elif self.policy == "wait" and waits:
            self.room.append(number)
        else:
            self.fates[number] = "full"
            return False
        return True

    def _drop(self, number: int) -> None:
        self.dropped += 1
        self.fates[number] = "full"

    @rule()
    def tell(self) -> None:
        """Tell one."""
        self.next += 1
        expected = self._arrive(self.next, waits=False)
        try:
            self.call(lambda: self.reader.take.tell(self.next))
            told = True
        except MailboxFull:
            told = False
        assert told == expected
        self.settle()

    @rule(send=st.booleans())
    def ask(self, send: bool) -> None:
        """Ask one, or send it."""
        self.next += 1
        number = self.next
        self._arrive(number, waits=True)
        bound = self.reader.take
        ask = bound.within(None).send(number) if send else bound.within(None)(number)
        task = self.call(lambda: self.loop.create_task(ask))
        self.asks[number] = task
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.settle()

    @rule(count=st.integers(1, 3))
    def reads(self, count: int) -> None:
        """Let it read some."""
        for _ in range(count):
            if self.hand is None:
                return
            self.read.append(self.hand)
            self.fates[self.hand] = "read"
            self.hand = self.queue.pop(0) if self.queue else None
            if self.room:
                self.queue.append(self.room.pop(0))
            self.call(self.instance("r")._gate.release)
            self.settle()

    @rule(index=st.integers(0, 5))
    def gives_up(self, index: int) -> None:
        """One who waits for room gives up."""
        if not self.room:
            return
        number = self.room.pop(index % len(self.room))
        task = self.asks.pop(number)
        self.call(task.cancel)
        self.fates.pop(number, None)
        self.settle()

    @invariant()
    def agrees(self) -> None:
        """Read, queued and dropped are the model's, and so is every answer."""
        if not hasattr(self, "reader"):
            return
        cell = self.cell("r")
        assert self.instance("r")._read == self.read
        assert cell.depth == len(self.queue)
        reasons: Counter[str] = self.world.system.dead_letters.by_reason
        assert reasons.total() == self.dropped
        for number, task in self.asks.items():
            if number in self.room:
                assert not task.done()
            elif self.fates.get(number) == "full":
                assert task.done()
            elif self.fates.get(number) == "read":
                assert task.done()
                assert task.exception() is None


TestMailboxes = Mailboxes.TestCase
TestMailboxes.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
