"""A peer: Pykka, the actor library of Python, a thread for each actor."""

from __future__ import annotations

import pykka

from benchmarks.peers.worker import Result, Stopwatch, expect, serve

BURST = 5_000


class Counter(pykka.ThreadingActor):
    """Counts what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def on_receive(self, message: int) -> int:
        """Add and answer the total."""
        self.total += message
        return self.total


def ask(count: int) -> Result:
    """One ask after another."""
    stopwatch, answer = Stopwatch(), 0
    counter = Counter.start()
    with stopwatch:
        for _ in range(count):
            answer = counter.ask(1)
    counter.stop()
    expect(answer, count)
    return stopwatch.result(count)


def tell(count: int) -> Result:
    """Flood one receiver, in bursts."""
    stopwatch, answer = Stopwatch(), 0
    counter = Counter.start()
    with stopwatch:
        for _ in range(count // BURST):
            for _ in range(BURST):
                counter.tell(1)
            answer = counter.ask(0)
    counter.stop()
    expect(answer, count)
    return stopwatch.result(count)


if __name__ == "__main__":
    serve({"ask-sync": ask, "tell": tell})
