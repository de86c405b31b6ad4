"""What the history of a large node takes: 10,000 daemons, in virtual time, cap by cap."""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dan9.daemons.historyfile import FINE
from dan9.daemons.monitoring import Monitoring
from dan9.daemons.sampling import Book
from dan9.kernel.clock import VirtualClock
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System

DAEMONS = 10_000
CHANGING = 500
MEMORY = 16_000_000


class Worker(Daemon, type="worker"):
    """Does next to nothing."""

    @on
    def work(self) -> None:
        """Count as handled."""


def memory(*roots: object) -> int:
    """Return the bytes of everything that can be reached from here, arrays included."""
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        each = waiting.pop()
        if id(each) in seen or isinstance(each, type | ModuleType) or callable(each):
            continue
        seen[id(each)] = each
        waiting += gc.get_referents(each)
    return sum(map(sys.getsizeof, seen.values()))


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_ten_thousand_daemons_of_which_a_twentieth_changes_each_second(tmp_path: Path) -> None:
    """Five minutes of every sample in 16 MB, 2,000 series on disk, the others in sums."""
    clock = VirtualClock()

    async def main() -> None:
        async with System(
            "large", daemons="none", socket=False, clock=clock, seed=0, state_dir=tmp_path
        ) as system:
            monitoring = await system.spawn(Monitoring, "monitoring", group="system")
            workers = [
                await system.spawn(Worker, f"w{n}", group=f"g{n % 7}") for n in range(DAEMONS)
            ]
            await asyncio.sleep(15)
            for second in range(310):
                shift = second // 15 * CHANGING  # everybody has his fifteen seconds
                for number in range(shift, shift + CHANGING):
                    workers[number % DAEMONS].work.tell()
                await asyncio.sleep(1)
            instance: Any = system.cell_of("monitoring").instance
            book: Book = instance._book
            assert memory(book.__dict__) <= MEMORY
            assert len(book.figures) == len(system.addresses("**")) > DAEMONS
            for turn in (1, 10, 19):
                number = (turn * CHANGING + 17) % DAEMONS
                address = f"d9://worker/g{number % 7}/w{number}"
                history = await monitoring.history(address)
                ages = [round(clock.now() - when) for when, _ in history["work-count"]]
                assert ages[:15] == [310 - turn * 15 - second for second in range(15)]
                assert [value for _, value in history["rate"]][:16] == [1.0] * 15 + [0.0]
            assert len(book.roster.ids) <= 2000
            sums = {group: values["handled"] for group, values in book.roster.sums.items()}
            own = sum(
                figures.value("handled") or 0
                for figures in book.figures.values()
                if figures.sums is None
            )
            assert sum(sums.values()) + own == sum(
                figures.value("handled") or 0 for figures in book.figures.values()
            )
            assert {f"d9://worker/g{number}/*" for number in range(7)} <= set(sums)
            past = await monitoring.history("d9://worker/g3/*", "handled", since=clock.now() - 250)
            assert [when for when, _ in past["handled"]][-1] > clock.now() - 2 * FINE
            assert sum(values["mailbox-depth"] for values in book.roster.sums.values()) == 0

    clock.run(main())


def metrics(second: int, number: int) -> dict[str, float]:
    """Return figures that hardly pack, as a busy daemon's."""
    share = (second * 7919 + number * 104_729) % 9973 / 9973
    names = ("work-count", "handled", "refused", "failed", "mailbox-depth", "mailbox-high")
    return {
        **{name: float(second * 1000 + number) * share for name in names},
        **dict.fromkeys(("handler-p50", "handler-p99", "level", "busy"), share / 3),
        "restarts": 0.0,
        "uptime": float(second),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("daemons", "changing", "more"),
    [
        pytest.param(60_000, 5_000, 0, id="many change, ever others, and none is seen to go"),
        pytest.param(200, 20, 1000, id="a metric for every customer"),
    ],
)
def test_memory_is_bounded_in_all_cases(daemons: int, changing: int, more: int) -> None:
    """The history reaches less far back, and who has been silent for longest is left out."""
    book = Book(300.0, 2000)
    extra = {f"customer-{number}": float(number) for number in range(more)}
    for second in range(12):
        for number in range(changing):
            which = (second * changing + number) % daemons
            found = {**metrics(second, which), **extra}
            book.add(f"d9://worker/g{which % 20}/w{which}", found, 1e9 + second)
        book.store(1e9 + second)
    assert memory(book.__dict__) <= MEMORY
    assert len(book.roster.ids) <= 2000
    newest = f"d9://worker/g{which % 20}/w{which}"
    assert [when for when, _ in book.past(newest)["handled"]][-1] == 1e9 + 11


def test_who_comes_back_after_he_was_left_out_is_not_counted_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sums are of those that are known; each is in them once."""
    monkeypatch.setattr("dan9.daemons.sampling._FIGURES_BYTES", 300_000)
    book = Book(300.0, 40)
    for second in range(3):
        for number in range(1500):
            book.add(f"d9://w/g/n{number}", {"handled": 1.0}, 1e9 + second)
    assert 500 < len(book.figures) < 1500
    summed = [each for each in book.figures.values() if each.sums is not None]
    assert book.roster.sums["d9://w/g/*"]["handled"] == len(summed)
    for number in range(1500):
        book.gone(f"d9://w/g/n{number}")
    assert book.roster.sums["d9://w/g/*"]["handled"] == 0
    assert (book.figures, book._bytes) == ({}, 0)


def test_chunks_that_no_disk_takes_are_not_kept_for_ever() -> None:
    """A disk that hangs for a week costs the week, not the memory."""
    book = Book(300.0, 2000)
    for minute in range(0, 30_000, 300):
        for number in range(100):
            book.add(f"d9://w/g/n{number}", {"handled": float(minute)}, 1e9 + minute)
        book.store(1e9 + minute)
    assert 7_000 < len(book.chunks) <= 8_000
    assert memory(book.__dict__) <= MEMORY
