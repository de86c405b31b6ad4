"""Contenders in processes of their own, in turn, on the same workload: what a verdict rests on.

Absolute figures are noise on a shared machine; the ratio of two runs that follow each other
closely is not. So every round runs every contender once, briefly, and the ratio is taken
within the round; what is reported is the median of the rounds' ratios, with the quartiles.
The unit is operations per CPU second of the contender's own process, because wall time also
measures whoever else uses the machine; wall seconds are reported beside it.

A contender's side of this is `peers/worker.py`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Contender", "Ratio", "Rounds", "Spec", "Workload", "contest", "quartiles"]

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Spec:
    """How a contender is started.

    Attributes:
        name: What the tables call it.
        command: The program and its arguments.
        environment: What it needs beside ours.
        absent: Why it does not take part; empty if it does.
    """

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Workload:
    """One thing to do.

    Attributes:
        name: What contenders call it.
        title: What readers call it.
        counts: How many operations for each contender that takes part; chosen so that
            a run takes some tenths of a second.
        as_: A contender's name for it, where that has no form of its own.
        is_fresh: Run in a new process each time: memory and the garbage collector are part
            of it. There is no warm-up round then.
        rounds: How many rounds count.
    """

    name: str
    title: str
    counts: Mapping[str, int]
    as_: Mapping[str, str] = field(default_factory=dict)
    is_fresh: bool = False
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times faster one contender was than another, over the rounds."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Rounds:
    """What every contender's runs of one workload took."""

    workload: Workload
    runs: dict[str, list[dict[str, float]]] = field(default_factory=dict)

    def rates(self, name: str, per: str = "cpu_s") -> list[float]:
        """Return a contender's operations per second, one a round."""
        return [run["operations"] / max(run[per], 1e-9) for run in self.runs.get(name, [])]

    def rate(self, name: str, per: str = "cpu_s") -> float | None:
        """Return the median of `rates`."""
        rates = self.rates(name, per)
        return statistics.median(rates) if rates else None

    def ratio(self, ours: str, peer: str, per: str = "cpu_s") -> Ratio | None:
        """Return how many times faster ours was, compared round by round."""
        pairs = zip(self.rates(ours, per), self.rates(peer, per), strict=False)
        return quartiles([own / other for own, other in pairs])

    def value(self, name: str, key: str) -> Ratio | None:
        """Return another figure of a contender's runs: its median and quartiles."""
        return quartiles([run[key] for run in self.runs.get(name, []) if key in run])


def quartiles(values: Sequence[float]) -> Ratio | None:
    """Return the median of some values with the quartiles around it."""
    if not values:
        return None
    if len(values) == 1:
        return Ratio(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Ratio(middle, low, high)


class Contender:
    """A running contender."""

    def __init__(self, spec: Spec) -> None:
        self._process = subprocess.Popen(
            list(spec.command),
            env={**os.environ, **spec.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            process_group=0,  # Ctrl-C is ours to answer
        )
        self.spec = spec
        self.workloads: set[str] = set(self._read()["ready"])

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.spec.name} ended: {' '.join(self.spec.command)}")
        found: dict[str, Any] = json.loads(line)
        return found

    def run(self, workload: str, count: int) -> dict[str, float]:
        """Run a workload once."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{workload} {count}\n")
        self._process.stdin.flush()
        answer = self._read()
        if "error" in answer:
            raise SystemExit(f"{self.spec.name}, {workload}: {answer['error']}")
        return answer

    def end(self) -> None:
        """Let it go."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def contest(
    specs: Sequence[Spec],
    workloads: Sequence[Workload],
    say: Callable[[str], object],
    rounds: int | None = None,
) -> list[Rounds]:
    """Run every workload with every contender that can take part in it.

    Args:
        specs: The contenders.
        workloads: What to run.
        say: Hears of progress.
        rounds: Overrides each workload's own number of rounds.

    Returns:
        What was found; after Ctrl-C, what was found until then.
    """
    present = {spec.name: spec for spec in specs if not spec.absent}
    running: dict[str, Contender] = {}
    results = []
    try:
        for workload in workloads:
            begun = time.monotonic()
            results.append(found := Rounds(workload))
            names = [name for name in workload.counts if name in present]
            if not workload.is_fresh:
                for name in names:
                    if name not in running:
                        running[name] = Contender(present[name])
            counted = rounds or workload.rounds
            for number in range(counted + (not workload.is_fresh)):
                # Every second round goes backwards, so that nobody always follows the same.
                for name in names if number % 2 else reversed(names):
                    alias = workload.as_.get(name, workload.name)
                    if workload.is_fresh:
                        contender = Contender(present[name])
                        answer = contender.run(alias, workload.counts[name])
                        contender.end()
                    else:
                        answer = running[name].run(alias, workload.counts[name])
                    if number or workload.is_fresh:
                        found.runs.setdefault(name, []).append(answer)
            say(f"{workload.name}: {time.monotonic() - begun:.0f} s")
    except KeyboardInterrupt:
        say("interrupted")
    finally:
        for contender in running.values():
            contender.end()
    return results
