"""The timer daemon, in virtual time, to the exact moment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dan9.base.errors import BadAddress, BadPayload, NoSpace, NotFound
from dan9.daemons.logging import Logging
from dan9.daemons.timer import Timer
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System, current_message
from dan9.testing import run, system


class Target(Daemon, type="target"):
    """Notes when it was told what, and under which id."""

    got: list[tuple[float, str, str]] = []

    @on
    def go(self, note: str = "") -> None:
        message = current_message()
        assert message is not None
        self.got.append((round(self.clock.monotonic(), 6), note, message.id))

    @on
    async def slow(self) -> None:
        await self.sleep(1000)

    @on
    def told(self) -> list[tuple[float, str, str]]:
        return self.got


async def pair(sim: System, **config: Any) -> tuple[Timer, Target]:
    """Return a timer and somebody to tell."""
    timer = await sim.spawn(Timer, "timer", group="system", **config)
    return timer, await sim.spawn(Target, "w")


async def moments(target: Target) -> list[float]:
    """Return when the target was told."""
    return [at for at, _, _ in await target.told()]


def test_a_task_fires_once_at_its_moment() -> None:
    """Neither before nor after, with its payload, and is gone then."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            task_id = await timer.schedule(5.0, "w", "go", {"note": "hello"})
            await asyncio.sleep(4.999)
            assert await target.told() == []
            await asyncio.sleep(10)
            assert await target.told() == [(5.0, "hello", f"{task_id}-1")]
            assert await timer.list_() == []
            stats = await timer.stats()
            assert (stats["active"], stats["scheduled"], stats["fired"]) == (0, 1, 1)
            assert stats["late_p99"] == 0.0

    run(main)


def test_a_task_repeats_from_its_first_moment_on() -> None:
    """`first` shifts them all; ids count the firings."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            task_id = await timer.schedule_repeating(2.0, "w", "go", None, 0.0, 0.5)
            await asyncio.sleep(7)
            told = await target.told()
            assert [at for at, _, _ in told] == [0.5, 2.5, 4.5, 6.5]
            assert [name for _, _, name in told] == [f"{task_id}-{n}" for n in (1, 2, 3, 4)]

    run(main)


def test_tasks_of_one_moment_fire_in_the_order_they_were_scheduled() -> None:
    """Equal times keep their order."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            for number in range(10):
                await timer.schedule(1.0, "w", "go", {"note": str(number)})
            await asyncio.sleep(2)
            assert [note for _, note, _ in await target.told()] == [str(n) for n in range(10)]

    run(main)


def test_a_cancelled_task_does_not_fire() -> None:
    """And cancelling it again is not-found."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            task_id = await timer.schedule(5.0, "w", "go")
            await asyncio.sleep(4.999)
            assert await timer.cancel(task_id) == task_id
            await asyncio.sleep(10)
            assert await target.told() == []
            with pytest.raises(NotFound) as caught:
                await timer.cancel(task_id)
            assert caught.value.hint
            assert (await timer.stats())["cancelled"] == 1

    run(main)


def test_at_and_cron_follow_the_wall_clock() -> None:
    """Virtual time begins at midnight of a Saturday: at, and every quarter of an hour."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            await timer.schedule_at(946_684_800.0 + 90, "w", "go", {"note": "at"})
            await sim.ask(
                "timer",
                "schedule-cron",
                payload={
                    "expression": "*/15 * * * *",
                    "timezone": "Europe/Berlin",
                    "target": "w",
                    "type": "go",
                },
            )
            await asyncio.sleep(1900)
            assert [(at, note) for at, note, _ in await target.told()] == [
                (90.0, "at"),
                (900.0, ""),
                (1800.0, ""),
            ]
            [task] = await timer.list_()
            assert task["next"] == 946_684_800.0 + 2700
            assert (task["expression"], task["timezone"]) == ("*/15 * * * *", "Europe/Berlin")

    run(main)


def test_text_is_taken_for_durations_and_times() -> None:
    """What arrives from outside may say 250ms and 2000-01-01T00:00:03Z; a past time is now."""

    async def main() -> None:
        async with system() as sim:
            _, target = await pair(sim)
            for type_, payload in (
                ("schedule", {"delay": "250ms"}),
                ("schedule-at", {"when": "2000-01-01T00:00:03Z"}),
                ("schedule-at", {"when": 0}),
            ):
                await sim.ask("timer", type_, payload={**payload, "target": "w", "type": "go"})
            await asyncio.sleep(5)
            assert await moments(target) == [0.0, 0.25, 3.0]

    run(main)


def test_jitter_delays_each_firing_and_moves_none() -> None:
    """Every firing lies within its own second; the seed decides where."""

    async def main(seed: int) -> list[float]:
        async with system(seed=seed) as sim:
            timer, target = await pair(sim)
            await timer.schedule_repeating(10.0, "w", "go", None, 1.0)
            await asyncio.sleep(105)
            return await moments(target)

    first = run(lambda: main(1))
    assert len(first) == 10
    assert all(0 <= at - 10 * n < 1 for n, at in enumerate(first, 1))
    assert len({round(at % 10, 3) for at in first}) > 5
    assert first == run(lambda: main(1))
    assert first != run(lambda: main(2))


def test_ten_thousand_repetitions_do_not_drift() -> None:
    """The last of 0.1 s each comes at its exact moment."""

    class Count(Daemon):
        number: int = 0
        last: float = 0.0

        @on
        def go(self) -> None:
            self.number += 1
            self.last = self.clock.monotonic()

        @on
        def told(self) -> tuple[int, float]:
            return self.number, self.last

    async def main() -> None:
        async with system(copy=False) as sim:
            timer = await sim.spawn(Timer, "timer", group="system")
            count = await sim.spawn(Count, "w")
            await timer.schedule_repeating(0.1, "w", "go")
            await asyncio.sleep(1000.05)
            assert await count.told() == (10_000, 1000.0)

    run(main)


def test_the_millionth_repetition_comes_at_its_exact_moment() -> None:
    """All but the last ten fell into a pause: instants are counted, not added up."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            task_id = await timer.schedule_repeating(0.1, "w", "go")
            await sim.ask("timer", "suspend")
            await asyncio.sleep(99_999.05)
            await sim.ask("timer", "resume")
            await asyncio.sleep(1)
            told = [(at, name) for at, _, name in await target.told()]
            assert told == [
                (99_999.05, f"{task_id}-999990"),
                *((round(n / 10, 6), f"{task_id}-{n}") for n in range(999_991, 1_000_001)),
            ]

    run(main)


def test_a_clock_set_forward_and_back_neither_loses_nor_storms() -> None:
    """Counted time goes on; a named time is fired once however often it is passed."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            await timer.schedule_repeating(10.0, "w", "go", {"note": "counted"})
            await timer.schedule_at(sim.clock.now() + 3600, "w", "go", {"note": "named"})
            await timer.schedule_cron("0 * * * *", "w", "go", {"note": "hourly"})
            await asyncio.sleep(5)
            sim.clock.shift_wall(4 * 3600)  # type: ignore[attr-defined]  # a VirtualClock
            await timer.stats()
            await asyncio.sleep(1)
            assert sorted(note for _, note, _ in await target.told()) == ["hourly", "named"]
            sim.clock.shift_wall(-4 * 3600)  # type: ignore[attr-defined]
            await timer.stats()
            await asyncio.sleep(3600 * 2)
            told = [(at, note) for at, note, _ in await target.told()]
            counted = [at for at, note in told if note == "counted"]
            assert counted == [10.0 * n for n in range(1, 721)]
            assert [note for _, note in told].count("named") == 1
            assert [note for _, note in told].count("hourly") == 1

    run(main)


def test_a_machine_that_slept_owes_what_each_task_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight hours asleep: the latest, every one, or none; then all go on in their rhythm."""
    slept = 0.0
    monkeypatch.setattr(VirtualClock, "suspended", lambda self: slept)

    async def main() -> None:
        nonlocal slept
        async with system() as sim:
            timer, target = await pair(sim)
            for missed in ("once", "all", "skip"):
                await timer.schedule_repeating(3600.0, "w", "go", {"note": missed}, missed=missed)
            await timer.schedule_cron("30 * * * *", "w", "go", {"note": "cron"})
            await timer.schedule(2 * 3600.0, "w", "go", {"note": "single"})
            await asyncio.sleep(60)
            slept = 8 * 3600.0
            sim.clock.shift_wall(slept)  # type: ignore[attr-defined]  # the monotonic clock stood still
            await timer.stats()
            await asyncio.sleep(1)
            notes = sorted(note for _, note, _ in await target.told())
            assert notes == [*["all"] * 8, "cron", "once", "single"]
            assert (await timer.stats())["missed"] == 7 + 8 + 7
            await asyncio.sleep(3600)
            later = [(round(at), note) for at, note, _ in await target.told()][len(notes) :]
            assert sorted(later) == [(1800, "cron"), *((3600, n) for n in ("all", "once", "skip"))]

    run(main)


def test_a_stall_coalesces_and_says_what_was_missed() -> None:
    """A suspended timer that comes back fires the latest, and counts the others."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            await timer.schedule_repeating(1.0, "w", "go", {"note": "once"})
            await timer.schedule_repeating(1.0, "w", "go", {"note": "all"}, missed="all")
            await asyncio.sleep(1.5)
            await sim.ask("timer", "suspend")
            await asyncio.sleep(10)
            await sim.ask("timer", "resume")
            await asyncio.sleep(0.2)
            notes = [note for _, note, _ in await target.told()]
            assert (notes.count("once"), notes.count("all")) == (2, 11)
            assert (await timer.stats())["missed"] == 9

    run(main)


def test_a_target_that_is_not_there_is_counted_and_the_task_goes_on() -> None:
    """It may be spawned later."""

    async def main() -> None:
        async with system() as sim:
            timer = await sim.spawn(Timer, "timer", group="system")
            await timer.schedule_repeating(1.0, "w", "go")
            await asyncio.sleep(2.5)
            assert (await timer.stats())["undeliverable"] == 2
            target = await sim.spawn(Target, "w")
            await asyncio.sleep(1)
            assert await moments(target) == [3.0]

    run(main)


def test_a_message_that_the_target_does_not_know_does_not_harm_the_timer() -> None:
    """It is counted; other tasks are not disturbed."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            await timer.schedule(1.0, "w", "no-such-message")
            await timer.schedule(1.0, "w", "go", {"no-such-key": 1})
            await timer.schedule(1.0, "w", "go")
            await asyncio.sleep(2)
            assert await moments(target) == [1.0]
            assert (await timer.stats())["undeliverable"] == 2

    run(main)


def test_what_will_go_wrong_is_said_when_it_is_scheduled() -> None:
    """A misspelt target, message or key is not found out the next night only."""

    async def main() -> None:
        async with system() as sim:
            log = await sim.spawn(Logging, "logging", group="system")
            timer, target = await pair(sim)
            wrong = [("later", "go", {}), ("w", "og", {}), ("w", "go", {"notes": "x"})]
            for name, type_, payload in wrong:
                await timer.schedule_repeating(10.0, name, type_, payload)
            await timer.schedule_repeating(10.0, "w", "go")
            warned = [entry["text"] for entry in await log.display("warning", "timer")]
            assert len(warned) == 3
            assert "no daemon 'later'" in warned[0]
            assert "og" in warned[1]
            assert "notes" in warned[2]
            rows = await timer.list_()
            assert [row.get("state") for row in rows] == ["failing"] * 3 + [None]
            await sim.spawn(Target, "later")
            await asyncio.sleep(11)
            rows = await timer.list_()
            assert [row.get("state") for row in rows] == [None, "failing", "failing", None]
            assert "notes" in rows[2]["trouble"]
            assert await moments(target) == [10.0]

    run(main)


def test_fire_tells_now_beside_the_schedule() -> None:
    """The schedule itself is not moved."""

    async def main() -> None:
        async with system() as sim:
            timer, target = await pair(sim)
            task_id = await timer.schedule_repeating(10.0, "w", "go")
            await asyncio.sleep(3)
            await timer.fire(task_id)
            await asyncio.sleep(8)
            assert await moments(target) == [3.0, 10.0]
            with pytest.raises(NotFound):
                await timer.fire("nobody")

    run(main)


@pytest.mark.parametrize(
    ("type_", "payload", "error"),
    [
        ("schedule", {"delay": -1}, BadPayload),
        ("schedule", {"delay": "soon"}, BadPayload),
        ("schedule", {"delay": 1e12}, BadPayload),
        ("schedule", {"delay": 1, "target": ""}, BadPayload),
        ("schedule", {"delay": 1, "type": ""}, BadPayload),
        ("schedule", {"delay": 1, "target": "d9://a b/c"}, BadAddress),
        ("schedule", {"delay": 1, "missed": "perhaps"}, BadPayload),
        ("schedule", {"delay": 1, "payload": [1]}, BadPayload),
        ("schedule", {}, BadPayload),
        ("schedule-repeating", {"interval": 0}, BadPayload),
        ("schedule-repeating", {"interval": "1us"}, BadPayload),
        ("schedule-repeating", {"interval": 1, "jitter": 2}, BadPayload),
        ("schedule-cron", {"expression": "never"}, BadPayload),
        ("schedule-cron", {"expression": "* * * * *", "timezone": "Nowhere"}, BadPayload),
        ("schedule-at", {"when": "yesterday"}, BadPayload),
        ("schedule-at", {"when": 1e15}, BadPayload),
    ],
)
def test_nonsense_is_refused_and_leaves_no_task(
    type_: str, payload: dict[str, Any], error: type[Exception]
) -> None:
    """With a named error; nothing is scheduled."""

    async def main() -> None:
        async with system() as sim:
            timer, _ = await pair(sim)
            given = {"target": "w", "type": "go", **payload}
            with pytest.raises(error):
                await sim.ask("timer", type_, payload=given)
            assert await timer.list_() == []
            assert (await sim.ask("timer", "status"))["state"] == "running"

    run(main)


def test_the_number_of_tasks_is_bounded() -> None:
    """One more is no-space, with what to do."""

    async def main() -> None:
        async with system() as sim:
            timer, _ = await pair(sim, max_tasks=2)
            await timer.schedule(1.0, "w", "go")
            await timer.schedule(1.0, "w", "go")
            with pytest.raises(NoSpace):
                await timer.schedule(1.0, "w", "go")
            await asyncio.sleep(2)
            await timer.schedule(1.0, "w", "go")

    run(main)


def test_list_shows_what_fires_next_first() -> None:
    """With whom it tells what; of one target if so asked."""

    async def main() -> None:
        async with system() as sim:
            timer, _ = await pair(sim)
            await timer.schedule(9.0, "w", "go", {"note": "late"})
            await timer.schedule_repeating(3.0, "other", "tick", None, 0.5)
            listed = await timer.list_()
            assert [(task["target"], task["type"]) for task in listed] == [
                ("other", "tick"),
                ("w", "go"),
            ]
            assert listed[0]["interval"] == 3.0
            assert listed[0]["jitter"] == 0.5
            assert listed[1]["payload"] == {"note": "late"}
            assert [task["target"] for task in await timer.list_("w")] == ["w"]

    run(main)


def test_status_shows_one_task_if_so_asked() -> None:
    """Beside what every daemon says of itself."""

    async def main() -> None:
        async with system() as sim:
            _, target = await pair(sim)
            task_id = await sim.ask(
                "timer", "schedule", delay="5s", target="w", type="go", payload={"note": "n"}
            )
            status = await sim.ask("timer", "status", task_id=task_id)
            assert status["missed"] == "once", "what is made good unless something else is said"
            assert (status["kind"], status["target"], status["payload"]) == (
                "once",
                "w",
                {"note": "n"},
            )
            assert (await sim.ask("timer", "status"))["active"] == 1
            with pytest.raises(NotFound):
                await sim.ask("timer", "status", task_id="t9")
            await asyncio.sleep(6)
            assert [note for _, note, _ in await target.told()] == ["n"]

    run(main)
