"""The kernel against Erlang/OTP, asyncio, Pykka and SimPy, on the same workloads.

    python -m benchmarks kernel              all of it
    python -m benchmarks.kernel ring ask     workloads whose names begin so
    ROUNDS=9 python -m benchmarks.kernel     more rounds

Ours runs twice, compiled and uncompiled. Erlang runs with one scheduler (`+S 1:1`), because
ours has one thread; `+sbwt none` spares it the CPU time of waiting busily. A peer that is not
installed is skipped, and the table says so. Ends with 1 if a goal was missed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.built import RESULTS, ROOT, compiled_source
from benchmarks.contest import HERE, Ratio, Rounds, Spec, Workload, contest
from benchmarks.report import Row, text, write

OURS, PURE = "dan9", "dan9 uncompiled"
ERLANG, ASYNCIO, PYKKA, SIMPY = "erlang", "asyncio", "pykka", "simpy"
MILLION = 1_000_000
ERLANG_SWITCHES = ["-noshell", "+S", "1:1", "+sbwt", "none", "+sbwtdcpu", "none", "+P", "2000000"]


def _ring(size: int, kind: str) -> Workload:
    name = f"ring-{size}-{kind}"
    alias = f"ring-{size}-sync"
    counts = {OURS: 500_000, ERLANG: 600_000, PURE: 60_000, ASYNCIO: 50_000}
    if kind == "async":
        counts |= {OURS: 250_000, PURE: 40_000}
    return Workload(
        name, f"ring of {size:,}, {kind} handler", counts, {ERLANG: alias, ASYNCIO: alias}
    )


WORKLOADS = [
    _ring(100, "sync"),
    _ring(100, "async"),
    _ring(10_000, "sync"),
    _ring(10_000, "async"),
    Workload(
        "ask-sync",
        "ask, sync handler",
        {OURS: 300_000, ERLANG: 150_000, PURE: 40_000, ASYNCIO: 50_000, PYKKA: 6_000},
    ),
    Workload(
        "ask-async",
        "ask, async handler",
        {OURS: 250_000, ERLANG: 150_000, PURE: 30_000, ASYNCIO: 50_000},
        {ERLANG: "ask-sync", ASYNCIO: "ask-sync"},
    ),
    Workload(
        "tell",
        "tells into one receiver",
        {OURS: 500_000, ERLANG: MILLION, PURE: 100_000, ASYNCIO: 300_000, PYKKA: 60_000},
    ),
    Workload(
        "fan-out",
        "fan-out ask to 1,000",
        {OURS: 400_000, ERLANG: 150_000, PURE: 50_000, ASYNCIO: 40_000},
    ),
    Workload("spawn-1000", "spawn of 1,000", {OURS: 60_000, ERLANG: 100_000, PURE: 20_000}),
    Workload(
        "spawn-100000",
        "spawn of 100,000",
        {OURS: 100_000, ERLANG: 100_000},
        dict.fromkeys((OURS, ERLANG), "spawn"),
        is_fresh=True,
    ),
    Workload(
        "spawn-200000",
        "spawn of 200,000",
        {OURS: 200_000, ERLANG: 200_000},
        dict.fromkeys((OURS, ERLANG), "spawn"),
        is_fresh=True,
    ),
    Workload(
        "spawn-1000000",
        "spawn of 1,000,000",
        {OURS: MILLION, ERLANG: MILLION},
        dict.fromkeys((OURS, ERLANG), "spawn"),
        is_fresh=True,
    ),
    Workload("memory", "bytes per daemon", {OURS: MILLION}, is_fresh=True, rounds=3),
    Workload(
        "virtual-1000",
        "virtual firings, 1,000 processes",
        {OURS: 200_000, SIMPY: 200_000, PURE: 50_000},
    ),
    Workload(
        "virtual-100000",
        "virtual firings, 100,000 processes",
        {OURS: MILLION, SIMPY: MILLION},
    ),
]

Goal = tuple[str, str, str, str, float, float]
GOALS: list[Goal] = [
    # title, workload, ours, peer, must, aim
    ("ring of 100, sync / Erlang processes", "ring-100-sync", OURS, ERLANG, 1.3, 1.7),
    ("ring of 100, async / Erlang processes", "ring-100-async", OURS, ERLANG, 1.0, 1.3),
    ("ring of 10,000, sync / Erlang processes", "ring-10000-sync", OURS, ERLANG, 1.3, 1.7),
    ("ring of 10,000, async / Erlang processes", "ring-10000-async", OURS, ERLANG, 1.0, 1.3),
    ("ask, sync / gen_server:call", "ask-sync", OURS, ERLANG, 2.5, 4.0),
    ("ask, async / gen_server:call", "ask-async", OURS, ERLANG, 1.5, 2.5),
    ("tells into one / gen_server:cast", "tell", OURS, ERLANG, 0.8, 1.2),
    ("fan-out to 1,000 / send_request", "fan-out", OURS, ERLANG, 3.0, 6.0),
    ("spawn of 1,000 / gen_server:start", "spawn-1000", OURS, ERLANG, 0, 0),
    ("spawn of 100,000 / gen_server:start", "spawn-100000", OURS, ERLANG, 0, 0),
    ("spawn of 200,000 / gen_server:start", "spawn-200000", OURS, ERLANG, 1.5, 2.0),
    ("spawn of 1,000,000 / gen_server:start", "spawn-1000000", OURS, ERLANG, 1.5, 2.0),
    ("ask / Pykka", "ask-sync", OURS, PYKKA, 30, 0),
    ("tell / Pykka", "tell", OURS, PYKKA, 15, 0),
    ("ring of 100 / asyncio queues", "ring-100-sync", OURS, ASYNCIO, 6, 0),
    ("ring of 10,000 / asyncio queues", "ring-10000-sync", OURS, ASYNCIO, 6, 0),
    ("ask / asyncio queues", "ask-sync", OURS, ASYNCIO, 6, 0),
    ("fan-out / asyncio queues", "fan-out", OURS, ASYNCIO, 6, 0),
    ("tell / asyncio queues", "tell", OURS, ASYNCIO, 3, 0),
    ("uncompiled ring of 100 / asyncio queues", "ring-100-sync", PURE, ASYNCIO, 1.2, 2),
    ("uncompiled ring of 10,000 / asyncio queues", "ring-10000-sync", PURE, ASYNCIO, 1.2, 2),
    ("uncompiled ask / asyncio queues", "ask-sync", PURE, ASYNCIO, 1.2, 2),
    ("uncompiled tell / asyncio queues", "tell", PURE, ASYNCIO, 0.7, 1),
    ("virtual time, 1,000 / SimPy", "virtual-1000", OURS, SIMPY, 1.0, 0),
    ("virtual time, 100,000 / SimPy", "virtual-100000", OURS, SIMPY, 2.0, 0),
]


def python(name: str, module: str, source: Path | None, needs: str = "") -> Spec:
    """Return a contender that is a Python program of this folder."""
    absent = ""
    if source is None:
        absent = "not compiled"
    elif needs and importlib.util.find_spec(needs) is None:
        absent = f"{needs} is not installed (pip install -e '.[bench]')"
    pure = "1" if name == PURE else "0"
    environment = {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}", "DAN9_PURE": pure}
    return Spec(name, [sys.executable, "-m", f"benchmarks.peers.{module}"], environment, absent)


def erlang(folder: str) -> Spec:
    """Return Erlang, its program compiled into a folder."""
    if not (shutil.which("erl") and shutil.which("erlc")):
        return Spec(ERLANG, [], absent="erl and erlc are not installed (Debian: erlang-base)")
    source = str(HERE / "peers" / "contender.erl")
    subprocess.run(["erlc", "-o", folder, source], check=True)
    return Spec(ERLANG, ["erl", *ERLANG_SWITCHES, "-pa", folder, "-s", "contender", "main"])


def contenders(folder: str) -> list[Spec]:
    """Return everybody, with those who cannot take part."""
    built = compiled_source()
    plain = built or ROOT / "src"  # the copy holds the sources too, those it was made of
    return [
        python(OURS, "dan9_daemons", built),
        python(PURE, "dan9_daemons", plain),
        erlang(folder),
        python(ASYNCIO, "asyncio_queues", plain, "uvloop"),
        python(PYKKA, "pykka_actors", plain, "pykka"),
        python(SIMPY, "simpy_processes", plain, "simpy"),
    ]


def judge(results: Sequence[Rounds], specs: Sequence[Spec]) -> list[Row]:
    """Return the rows of the table: the goals, then the absolute bounds."""
    found = {rounds.workload.name: rounds for rounds in results}
    absent = {spec.name: spec.absent for spec in specs if spec.absent}
    rows = []
    for title, workload, ours, peer, must, aim in GOALS:
        if (rounds := found.get(workload)) is None:
            continue
        note = absent.get(ours) or absent.get(peer) or ""
        ratio = rounds.ratio(ours, peer)
        rates = rounds.rate(ours), rounds.rate(peer)
        rows.append(Row(title, ratio, must, aim, note=note, ours=rates[0], theirs=rates[1]))
    return rows + bounds(found)


def bounds(found: dict[str, Rounds]) -> list[Row]:
    """Return what is bounded in bytes and seconds."""
    rows = []
    if rounds := found.get("memory"):
        rows.append(bound("bytes per daemon, one message handled", rounds, "bytes_each", 384, 256))
    for count in (100_000, 200_000, MILLION):
        if rounds := found.get(f"spawn-{count}"):
            each = rounds.value(ERLANG, "bytes_each")
            title = f"bytes per daemon of {count:,}, with its ref"
            rows.append(bound(title, rounds, "bytes_each", theirs=each.median if each else None))
    if rounds := found.get(f"spawn-{MILLION}"):
        together = [run["cpu_s"] + run["visit_cpu_s"] for run in rounds.runs.get(OURS, [])]
        for run, cpu_s in zip(rounds.runs.get(OURS, []), together, strict=True):
            run["million_cpu_s"] = cpu_s
        visits = rounds.value(ERLANG, "visit_cpu_s")
        rows += [
            bound("a million spawned, asked, answered: CPU", rounds, "million_cpu_s", 6, unit="s"),
            bound(
                "of that, one ask to each and its answer",
                rounds,
                "visit_cpu_s",
                unit="s",
                theirs=visits.median if visits else None,
            ),
            bound("a million live: resident", rounds, "resident_mb", 700, unit="MB"),
        ]
    return rows


def bound(
    title: str,
    rounds: Rounds,
    key: str,
    must: float = 0,
    aim: float = 0,
    *,
    unit: str = "B",
    theirs: float | None = None,
) -> Row:
    """Return the row of a figure that is to be small."""
    measured: Ratio | None = rounds.value(OURS, key)
    return Row(title, measured, must, aim, unit, is_bound=True, theirs=theirs)


def run(names: Sequence[str], say: Callable[[str], object]) -> tuple[list[Row], list[Rounds]]:
    """Measure the workloads whose names begin with one of these, or all."""
    chosen = [
        workload
        for workload in WORKLOADS
        if not names or any(workload.name.startswith(name) for name in names)
    ]
    with tempfile.TemporaryDirectory(prefix="dan9-erlang-") as folder:
        specs = contenders(folder)
        for spec in specs:
            if spec.absent:
                print(f"skipped: {spec.name}: {spec.absent}")
        results = contest(specs, chosen, say, int(os.environ.get("ROUNDS", "0")) or None)
    return judge(results, specs), results


def main() -> int:
    """Print the table and keep it; 1 if a goal was missed."""
    names = sys.argv[1:]
    rows, results = run(names, lambda line: print(line, file=sys.stderr, flush=True))
    print(text(rows))
    name = "kernel" if not names else f"kernel-{'-'.join(names)}"
    write(name, "Dan9's kernel and its peers", rows, results, RESULTS)
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
