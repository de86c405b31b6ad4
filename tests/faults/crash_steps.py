"""What a store is asked to do while its power, its process or its disk is taken away.

Apart from the judge, because the child that is killed needs only this.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

from dan9.base.ports import Checkpoint, Entry

ASKED = "d9://counter/crash/asked"
MANY = [f"d9://worker/crash/w{number}" for number in range(40)]  # more than one statement writes

Step = Callable[[Any, Callable[[Exception | None], None]], None]


def steps(count: int, seed: int) -> Iterator[Step]:
    """Yield steps: functions of (store, done)."""
    chance = random.Random(seed)
    total, sent, waiting = 0, 0, []
    for number in range(count):
        when = float(number)
        kind = chance.choices(("ask", "send", "take", "save", "all", "delete"), (4, 3, 3, 5, 2, 1))[
            0
        ]
        if kind == "take" and not waiting:
            kind = "ask"
        if kind in {"ask", "take"}:
            entry = (
                waiting.pop(0) if kind == "take" else Entry(ASKED, f"a{number}", "add", b"1", when)
            )
            total += 1
            state = Checkpoint(ASKED, "c", b"%d" % total, when)
            yield _handled(entry, state, b"reply %d" % total)
        elif kind == "send":
            sent += 1
            entry = Entry(ASKED, f"s{sent}", "add", b"p" * chance.randrange(2_000), when)
            if chance.random() < 0.1:
                yield _step("bury", entry, "poison")
            else:
                waiting.append(entry)
                yield _step("append", entry)
        elif kind == "save":
            size = chance.choice((10, 800, 3_000, 12_000))
            state = Checkpoint(chance.choice(MANY), "w", chance.randbytes(size), when)
            yield _save([state], chance.choice((3, 3, 3, 2, 5)), snapshot=False)
        elif kind == "all":
            body = b"%d " % number * 40
            yield _save([Checkpoint(a, "w", body, when) for a in MANY], 3, snapshot=True)
        else:
            yield _step("delete", chance.choice(MANY), chance.randrange(2))


def _handled(entry: Entry, state: Checkpoint, reply: bytes) -> Step:
    return lambda store, done: store.handled(entry, state, reply, done)


def _save(states: list[Checkpoint], keep: int, *, snapshot: bool) -> Step:
    return lambda store, done: store.save(states, done, keep=keep, snapshot=snapshot)


def _step(name: str, *args: Any) -> Step:
    return lambda store, done: getattr(store, name)(*args, done)
