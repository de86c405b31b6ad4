"""Nobody is forgotten in the run queue, however daemons tell each other and themselves.

Worlds watch every daemon and handle one message a step. Here nobody watches, so that what
is tried is the short way, with its batches.
"""

import asyncio
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from dan9 import Daemon, System, VirtualClock, on
from dan9.kernel.wires import CallbackReply

KINDS = ("plain", "brief", "yielding", "concurrent")


class Teller(Daemon):
    """Tells what it is told to those it knows, a number of times."""

    heard: int = 0

    @on
    def meet(self, others: list) -> None:
        """Learn whom to tell, and how."""
        self.others = others

    def pass_on(self, left):
        self.heard += 1
        if left:
            for other in self.others:
                other.tell(left - 1)

    @on
    def plain(self, left: int) -> None:
        """Pass on from a plain handler."""
        self.pass_on(left)

    @on
    async def brief(self, left: int) -> None:
        """Pass on from a coroutine that ends at its first step."""
        self.pass_on(left)

    @on
    async def yielding(self, left: int) -> None:
        """Pass on, wait, and be in the way of the next message meanwhile."""
        self.pass_on(left)
        await self.sleep(0)

    @on(concurrent=True)
    async def concurrent(self, left: int) -> None:
        """Pass on beside others."""
        await self.sleep(0)
        self.pass_on(left)


links = st.lists(st.tuples(st.integers(0, 3), st.sampled_from(KINDS)), max_size=2)


@given(
    graph=st.lists(links, min_size=4, max_size=4),
    burst=st.integers(1, 70),
    left=st.integers(0, 4),
)
@settings(max_examples=60)
def test_every_message_is_handled(graph, burst, left):
    """What was told is handled before the system comes to rest, whoever tells whom."""

    async def main():
        async with System("rest", daemons="none", socket=False, seed=0, clock=clock) as system:
            refs = [await system.spawn(Teller, f"teller-{number}") for number in range(4)]
            for ref, known in zip(refs, graph, strict=True):
                await ref.meet([getattr(refs[to], kind) for to, kind in known])
            for _, ref in itertools.product(range(burst), refs):
                ref.plain.tell(left)
            await system.sleep(1.0)
            return system.conservation()

    def told(number, left):
        below = (told(to, left - 1) for to, _ in graph[number]) if left else ()
        return 1 + sum(below)

    clock = VirtualClock()
    found = clock.run(main())
    expected = burst * sum(told(number, left) for number in range(4))
    assert (found["queued"], found["in-hand"], found["dead"]) == (0, 0, 0)
    assert found["handled"] == expected + 4


def test_a_daemon_that_tells_itself_costs_nobody_his_turn():
    """One that is told by its own handler is not queued a second time at the batch's end."""

    async def main():
        async with System("own", daemons="none", socket=False, seed=0, clock=clock) as system:
            busy = [await system.spawn(Teller, f"busy-{number}") for number in range(3)]
            idle = [await system.spawn(Teller, f"idle-{number}") for number in range(3)]
            for ref in busy:
                await ref.meet([ref.plain, *(other.plain for other in idle)])
            for ref in idle:
                await ref.meet([])
            for _, ref in itertools.product(range(40), busy):
                ref.plain.tell(10)
            await system.sleep(1.0)
            return system.conservation()["handled"]

    clock = VirtualClock()
    assert clock.run(main()) == 6 + 3 * 40 * (11 + 10 * 3)


def test_what_an_askers_callback_raises_does_not_stop_the_daemon():
    """The loop hears of the error; what waits in the mailbox, and what comes later, is handled."""
    heard = []

    def raising(ok, value):
        raise LookupError("plain")

    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: heard.append(repr(context["exception"]))
        )
        async with System("own", daemons="none", socket=False, seed=0, clock=clock) as system:
            ref = await system.spawn(Teller, "teller")
            ask = ref.plain(0)
            ask.listener = CallbackReply(raising)
            ask.begin()
            for _ in range(40):
                ref.plain.tell(0)
            await system.sleep(1.0)
            ref.plain.tell(0)
            await system.sleep(1.0)
            return system.conservation()

    clock = VirtualClock()
    found = clock.run(main())
    assert heard == ["LookupError('plain')"]
    assert (found["handled"], found["queued"]) == (42, 0)
