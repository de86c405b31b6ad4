"""A peer: SimPy, whose processes sleep and wake in virtual time and do nothing else."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import simpy

from benchmarks.peers.worker import Result, Stopwatch, expect, serve


def virtual(processes: int) -> Callable[[int], Result]:
    """So many processes."""

    def run(count: int) -> Result:
        stopwatch, times = Stopwatch(), count // processes
        fired = 0

        def sleeper(
            environment: simpy.Environment, delay_s: float
        ) -> Generator[simpy.Event, Any, None]:
            nonlocal fired
            for _ in range(times):
                yield environment.timeout(delay_s)
                fired += 1

        environment = simpy.Environment()
        for number in range(processes):
            environment.process(sleeper(environment, 0.5 + number % 997 / 997))
        with stopwatch:
            environment.run()
        expect(fired, processes * times)
        return stopwatch.result(fired)

    return run


if __name__ == "__main__":
    serve({"virtual-1000": virtual(1_000), "virtual-100000": virtual(100_000)})
