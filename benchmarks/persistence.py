"""Persistence: what a durable step costs, beside the bare database in the same run.

`python -m benchmarks.persistence [daemons]` prints, each with its goal:

- a lone durable append, and a lone durable ask through a daemon, against a bare commit of
  SQLite (WAL, synchronous=FULL) of one row of the same size: medians, taken in turn;
- checkpoints of 1 KB a second, handed in one by one and in groups, against one commit each;
- checkpoint-all of `daemons` daemons (100,000), of which all or 100 changed, and how long the
  node was held meanwhile, in CPU time of its loop, and so whatever else the machine does;
- restoring as many, with the collector set as a node sets it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import table
from dan9.base.ports import Checkpoint, Entry, StatePolicy
from dan9.daemons.persistence import Persistence
from dan9.daemons.sqlite_store import GROUP, SqliteStore
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import System

STATE = [os.urandom(1_000) for _ in range(512)]
now = time.perf_counter


class Durable(Daemon, durable=True):
    """Adds, and forgets nothing."""

    total: int = 0

    @on
    async def add(self, by: int = 1) -> int:
        """Add."""
        self.total += by
        return self.total


class Member(Daemon):
    """One of many; a kilobyte of state."""

    total: int = 0
    data: bytes = b""

    @on
    async def add(self, by: int = 1) -> int:
        """Add."""
        self.total += by
        return self.total


class Bare:
    """SQLite and nothing else."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute("CREATE TABLE entries(id INTEGER PRIMARY KEY, body BLOB)")
        self.count = 0

    def commit(self, body: bytes) -> None:
        """Insert one row, and wait until the disk has it."""
        self.count += 1
        execute = self.connection.execute
        execute("BEGIN IMMEDIATE")
        execute("INSERT INTO entries VALUES(?,?)", (self.count, body))
        execute("COMMIT")


def lone(store: SqliteStore, bare: Bare, rounds: int) -> tuple[float, float, float]:
    """Return the medians of a bare commit, a lone append and a lone durable step, in turn."""
    answered = threading.Event()
    times: dict[str, list[float]] = {"bare": [], "append": [], "step": []}
    body = STATE[0][:200]

    def wait(name: str, work: Callable[[Callable[[Exception | None], None]], object]) -> None:
        answered.clear()
        begun = now()
        work(lambda _: answered.set())
        answered.wait()
        times[name].append(now() - begun)

    for number in range(rounds):
        begun = now()
        bare.commit(body)
        times["bare"].append(now() - begun)
        sent = Entry("d9://durable/bench/d", f"s{number}", "add", body, float(number))
        wait("append", lambda done, sent=sent: store.append(sent, done))
        asked = Entry("d9://durable/bench/d", f"a{number}", "add", body, float(number))
        state = Checkpoint("d9://durable/bench/d", "s", body, float(number))
        wait(
            "step",
            lambda done, asked=asked, state=state: store.handled(asked, state, b"reply", done),
        )
    median = statistics.median
    return median(times["bare"]), median(times["append"]), median(times["step"])


async def durable_ask(directory: Path, rounds: int) -> tuple[float, float]:
    """Return the medians of a bare commit and of an ask of a durable daemon, in turn."""
    loop = asyncio.get_running_loop()
    bare = Bare(directory / "bare2.db")
    store = SqliteStore(directory / "ask.db", post=loop.call_soon_threadsafe)
    bares, asks = [], []
    async with System("bench", daemons="none", socket=False, store=store) as system:
        ref = await system.spawn(Durable, "d")
        for _ in range(rounds):
            begun = now()
            bare.commit(STATE[0][:200])
            middle = now()
            await ref.add(1)
            bares.append(middle - begun)
            asks.append(now() - middle)
    await asyncio.to_thread(store.close)
    return statistics.median(bares), statistics.median(asks)


def throughput(store: SqliteStore, count: int, size: int, daemons: int = 1_000) -> float:
    """Return checkpoints a second, `size` of them in each save."""
    finished = threading.Event()
    left = (count + size - 1) // size
    saves = [
        [
            Checkpoint(f"d9://member/bench/m{n % daemons}", "s", STATE[n % 512], float(n))
            for n in range(start, min(start + size, count))
        ]
        for start in range(0, count, size)
    ]

    def done(error: Exception | None) -> None:
        nonlocal left
        assert error is None
        left -= 1
        if not left:
            finished.set()

    begun = now()
    for states in saves:
        store.save(states, done)
    finished.wait()
    return count / (now() - begun)


def one_each(store: SqliteStore, count: int) -> float:
    """Return checkpoints a second when each waits for its own commit."""
    answered = threading.Event()
    begun = now()
    for n in range(count):
        answered.clear()
        state = Checkpoint(f"d9://member/bench/m{n % 1000}", "s", STATE[n % 512], float(n))
        store.save([state], lambda _: answered.set())
        answered.wait()
    return count / (now() - begun)


class Pulse:
    """Beats every 5 ms, and keeps the most CPU time that the loop spent between two beats."""

    def __init__(self) -> None:
        self.most = 0.0
        self._last = time.thread_time()
        self._beat()

    def _beat(self) -> None:
        spent = time.thread_time()
        self.most = max(self.most, spent - self._last)
        self._last = spent
        self._next = asyncio.get_running_loop().call_later(0.005, self._beat)

    def stop(self) -> float:
        """Beat no more; return the most."""
        self._next.cancel()
        return max(self.most, time.thread_time() - self._last)


async def many(
    directory: Path, daemons: int
) -> tuple[tuple[float, float], float, tuple[float, float]]:
    """Return seconds for checkpoint-all (and held), one with 100 changed, and restoring all."""
    loop = asyncio.get_running_loop()
    gc.freeze()
    gc.set_threshold(5_000, 4, 2_500)
    persistence = "d9://persistence/system/persistence"

    async def life(
        work: Callable[[Any, list[Any], tuple[float, float]], Any], *, first: bool
    ) -> Any:
        store = SqliteStore(directory / "many.db", post=loop.call_soon_threadsafe)
        async with System("bench", daemons="none", socket=False, store=store) as system:
            await system.spawn(Persistence, "persistence", group="system")
            begun, cpu = now(), time.process_time()
            refs = [
                await system.spawn(
                    Member, f"m{n}", group="bench", **({"data": STATE[n % 512]} if first else {})
                )
                for n in range(daemons)
            ]
            spent = (now() - begun, time.process_time() - cpu)
            result = await work(system, refs, spent)
            # What stops now was saved: leaving takes no part in the measurement.
            system.state_policy = lambda *_: StatePolicy(None, on_stop=False, keep=0)
        await asyncio.to_thread(store.close)
        return result

    async def save_all(
        system: Any, refs: list[Any], _: object
    ) -> tuple[tuple[float, float], float]:
        for ref in refs:
            ref.add.tell(1)
        await refs[-1].add(1)
        begun, pulse = now(), Pulse()
        await system.ask(persistence, "checkpoint-all", timeout_s=120)
        first = now() - begun, pulse.stop()
        best = float("inf")
        for turn in range(3):
            for ref in refs[turn : turn + 100]:
                await ref.add(1)
            begun = now()
            reply = await system.ask(persistence, "checkpoint-all", timeout_s=120)
            best = min(best, now() - begun)
            assert 100 <= reply["saved"] <= 101, reply
        return first, best

    async def restored(_: Any, refs: list[Any], spent: tuple[float, float]) -> tuple[float, float]:
        assert await refs[daemons // 2].add(0) == 1
        return spent

    first, changed = await life(save_all, first=True)
    return first, changed, await life(restored, first=False)


def main(arguments: list[str]) -> int:
    """Print the table; 1 if a goal was missed."""
    daemons = int(arguments[0]) if arguments else 100_000
    rows: list[tuple[str, str, str, str]] = []
    missed = False

    def row(name: str, figure: str, goal: str, reached: bool | None = None) -> None:
        nonlocal missed
        missed |= reached is False
        verdict = "" if reached is None else "yes" if reached else "NO"
        rows.append((name, figure, goal, verdict))

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        directory = Path(name)
        store = SqliteStore(directory / "state.db")
        bare, append, step = lone(store, Bare(directory / "bare.db"), 600)
        row("bare SQLite commit, median", f"{bare * 1e6:.0f} us", "")
        row("lone append", f"{append * 1e6:.0f} us", "<= 2x bare", append <= 2 * bare)
        row("lone durable step", f"{step * 1e6:.0f} us", "")
        bare, ask = asyncio.run(durable_ask(directory, 400))
        row("bare commit, beside asks", f"{bare * 1e6:.0f} us", "")
        row("lone durable ask", f"{ask * 1e6:.0f} us", "<= 2x bare", ask <= 2 * bare)
        single = one_each(store, 1_500)
        row("one commit each, 1 KB", f"{single:,.0f} /s", "")
        throughput(store, 20_000, 1)
        apart = max(throughput(store, 40_000, 1) for _ in range(2))
        row("handed in one by one", f"{apart:,.0f} /s", ">= 10x one each", apart >= 10 * single)
        group = max(throughput(store, 60_000, GROUP) for _ in range(3))
        row("handed in by 128", f"{group:,.0f} /s", ">= 50,000 /s", group >= 50_000)
        row("", f"{group / single:.0f} x", ">= 10x one each", group >= 10 * single)
        store.close()
        (first, held), changed, (restored, cpu) = asyncio.run(many(directory, daemons))
        row(f"checkpoint-all of {daemons:,}, all changed", f"{first:.2f} s", "")
        row("  held the node, at most", f"{held * 1e3:.0f} ms", "< 50 ms", held < 0.05)
        row("  100 changed", f"{changed * 1e3:.0f} ms", "< 100 ms", changed < 0.1)
        row(f"restore {daemons:,} (spawn included)", f"{restored:.2f} s", "< 5 s", restored < 5.0)
        row("  of that CPU", f"{cpu:.2f} s", "")
    print(table(("what", "measured", "goal", "reached"), rows))
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
