"""Mailboxes: bounded, with four policies; order; control and priority messages; dead letters."""

import asyncio
import threading

import pytest

from dan9 import Daemon, MailboxFull, NotRunning, System, TimedOut, gather, on
from dan9.base.events import DeadLetter, MailboxHigh, MailboxNormal
from dan9.testing import Probe, run, system


class Slow(Daemon, mailbox=3):
    """Takes a second over each message."""

    seen: list[int] = []

    @on
    async def work(self, n: int) -> int:
        await self.sleep("1s")
        self.seen.append(n)
        return n

    @on
    def quick(self) -> list[int]:
        return self.seen


def test_tell_raises_when_there_is_no_room():
    """`tell` never waits: on a full mailbox it raises in the sender."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Slow, "s")
            ref.work.tell(0)
            await s.sleep("0.1s")  # 0 is in hand
            for n in (1, 2, 3):
                ref.work.tell(n)
            with pytest.raises(MailboxFull):
                ref.work.tell(4)
            await s.sleep("10s")
            assert await ref.quick() == [0, 1, 2, 3]

    run(main)


def test_send_and_ask_wait_for_room_within_their_deadline():
    """They get in as soon as there is room, in order; the loop is not blocked meanwhile."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Slow, "s")
            for n in range(8):
                await ref.work.send(n)
            assert s.clock.monotonic() == pytest.approx(4.0)
            with pytest.raises(TimedOut, match="had no room"):
                await ref.work.within(0.5)(99)
            await s.sleep("10s")
            assert await ref.quick() == list(range(8))

    run(main)


@pytest.mark.parametrize(
    ("policy", "kept", "reason"),
    [
        ("drop-oldest", [0, 3, 4, 5], "dropped-oldest"),
        ("drop-newest", [0, 1, 2, 3], "dropped-newest"),
    ],
)
def test_dropping_policies_make_dead_letters(policy, kept, reason):
    """What a full mailbox drops is a dead letter with its reason."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Slow, "s", policy=policy)
            ref.work.tell(0)
            await s.sleep("0.1s")
            for n in (1, 2, 3, 4, 5):
                ref.work.tell(n)
            await s.sleep("20s")
            assert await ref.quick() == kept
            assert s.dead_letters.by_reason[reason] == 2

    run(main)


def test_refuse_refuses_asks_too():
    """With `refuse` nobody waits."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Slow, "s", policy="refuse", mailbox=1)
            ref.work.tell(0)
            await s.sleep("0.1s")
            ref.work.tell(1)
            for say in (ref.work, ref.work.send):
                with pytest.raises(MailboxFull):
                    await say(2)

    run(main)


def test_control_messages_pass_a_full_mailbox():
    """status and stop of a flooded daemon answer at once; ping proves liveness in order."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Slow, "s")
            ref.work.tell(0)
            await s.sleep("0.1s")
            for n in (1, 2, 3):
                ref.work.tell(n)
            before = s.clock.monotonic()
            assert (await ref.status())["mailbox"] == {"depth": 3, "limit": 3}
            assert (await ref.metrics())["mailbox-depth"] == 3
            assert await ref.suspend() == "suspended"
            assert await ref.resume() == "running"
            assert s.clock.monotonic() == before
            assert await ref.ping() == "pong"
            assert s.clock.monotonic() == pytest.approx(4.0), "ping waits its turn"
            for n in (4, 5, 6):
                ref.work.tell(n)
            assert await ref.stop() == "stopped"
            assert s.dead_letters.by_reason["stopped"] >= 2

    run(main)


def test_order_is_kept_from_one_sender_to_one_receiver():
    """Tells, sends and asks of one sender arrive in the order they were said."""

    async def main():
        async with system() as s:
            probe = await s.spawn(Probe, "p")
            for n in range(50):
                probe.tell("tell", n=n)
                await probe.send("send", n=n)
            await probe.ask("end")
            seen = [(kind, payload.get("n")) for kind, payload in Probe.of(probe).seen]
            expected = [(kind, n) for n in range(50) for kind in ("tell", "send")]
            assert seen == [*expected, ("end", None)]

    run(main)


def test_a_suspended_daemon_queues_and_answers_only_control():
    """Nothing is handled until resume, then everything in order."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Slow, "s", mailbox=100)
            await ref.suspend()
            for n in range(3):
                ref.work.tell(n)
            with pytest.raises(TimedOut):
                await ref.quick.within(2.0)()
            assert (await ref.status())["state"] == "suspended"
            await ref.resume()
            await s.sleep("4s")
            assert await ref.quick() == [0, 1, 2]

    run(main)


def test_drain_handles_the_queue_first_and_plain_stop_does_not():
    """`stop(drain=True)` handles what is queued within shutdown_s."""

    class Patient(Slow, shutdown_s=30, mailbox=100):
        pass

    async def main(drain):
        async with system() as s:
            ref = await s.spawn(Patient, "p")
            done = []
            s.tap(lambda message: None)
            for n in range(4):
                ref.work.tell(n)
            await s.sleep("0.1s")
            await ref.stop(drain=drain)
            done.append(s.clock.monotonic())
            return done[0], s.dead_letters.by_reason["stopped"]

    assert run(lambda: main(drain=True)) == (pytest.approx(4.0), 0)
    assert run(lambda: main(drain=False)) == (pytest.approx(1.0), 3)


def test_what_outstays_shutdown_s_is_killed():
    """The coroutine is cancelled; its asker hears of it; the daemon ends."""

    class Stubborn(Daemon, shutdown_s=2.0):
        @on(timeout_s=None)
        async def hang(self) -> None:
            await self.sleep("1h")

    async def main():
        async with system() as s:
            ref = await s.spawn(Stubborn, "x")
            hanging = asyncio.create_task(ref.hang())
            await s.sleep("0.1s")
            assert await ref.stop() == "stopped"
            assert s.clock.monotonic() == pytest.approx(2.1)
            with pytest.raises(NotRunning):
                await hanging

    run(main)


def test_dead_letters_say_who_what_and_why():
    """A message to nobody is kept with its reason, counted, and an event."""

    async def main():
        async with system() as s:
            events = []
            s.subscribe_events(lambda e: events.append(e) if isinstance(e, DeadLetter) else None)
            ref = await s.spawn(Slow, "s")
            await ref.stop()
            ref.work.tell(7)
            letter = s.dead_letters.last(1)[0]
            assert letter == events[-1]
            assert (letter.reason, letter.type, letter.payload) == ("not-running", "work", {"n": 7})
            assert letter.address == "d9://slow/default/s"
            assert letter.sender.startswith("d9://client/")

    run(main)


def test_a_mailbox_that_fills_up_is_an_event():
    """The high-water mark is told once, not per message; so is the return to normal."""

    async def main():
        async with system() as s:
            seen = []
            marks = (MailboxHigh, MailboxNormal)
            s.subscribe_events(lambda e: seen.append(e) if isinstance(e, marks) else None)
            ref = await s.spawn(Slow, "s", policy="drop-newest")
            for n in range(10):
                ref.work.tell(n)
            await s.sleep("10s")
            assert [(type(e), e.depth, e.limit) for e in seen] == [
                (MailboxHigh, 3, 3),
                (MailboxNormal, 1, 3),
            ]

    run(main)


def test_concurrent_handlers_run_side_by_side_up_to_n():
    """@on(concurrent=2) lets two be in hand; the rest wait, and others are not held up."""

    class Pool(Daemon):
        now: int = 0
        most: int = 0

        @on(concurrent=2)
        async def fetch(self) -> int:
            self.now += 1
            self.most = max(self.most, self.now)
            await self.sleep("1s")
            self.now -= 1
            return self.most

        @on
        def quick(self) -> int:
            return self.now

    async def main():
        async with system() as s:
            ref = await s.spawn(Pool, "p")
            many = asyncio.gather(*(ref.fetch() for _ in range(6)))
            await s.sleep("0.5s")
            assert await ref.quick() == 2
            assert max(await many) == 2
            assert s.clock.monotonic() == pytest.approx(3.0)
            assert await gather(*(ref.fetch() for _ in range(2))) == [2, 2]

    run(main)


def test_thread_handlers_run_off_the_loop():
    """@on(thread=True) runs blocking code in a thread; inline under virtual time."""

    class Worker(Daemon):
        @on(thread=True)
        def where(self) -> bool:
            return threading.current_thread() is threading.main_thread()

    async def main():
        async with system() as s:
            return await (await s.spawn(Worker, "w")).where()

    async def real():
        async with System("t", daemons="none", socket=False) as s:
            return await (await s.spawn(Worker, "w")).where()

    assert run(main) is True
    assert run(real, real=True) is False
