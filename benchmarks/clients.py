"""Local clients over the Unix socket, against a bare uvloop echo of the same frames.

    python -m benchmarks clients

One ask after another; a hundred in flight; payloads of 1 MiB; and how long an ask waits while
another daemon is flooded by messages of 50 us. Judged is the node: its client writes frames
that were encoded before. What our own clients add stands beside it.

One ask after another is bound by how fast the other side is woken. So these rows are by wall
time, like the rates, and judged is what is bound to a core each or to one core: unbound, the
system puts a pair on one core or on two as it happens, and a ratio of two pairs says mostly
that. CPU seconds (of both sides together) are in the JSON. Ends with 1 if a goal was missed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from benchmarks.built import RESULTS, ROOT, compiled_source
from benchmarks.contest import Ratio, Rounds, Spec, Workload, contest, quartiles
from benchmarks.report import Row, text, write

NODE, PURE, BARE = "dan9", "dan9 uncompiled", "bare uvloop echo"
MIB = 1024 * 1024

WORKLOADS = [
    Workload("sequential-raw", "one after another", {NODE: 4_000, PURE: 2_000, BARE: 6_000}),
    Workload(
        "sequential-raw-two-cores",
        "one after another, a core each",
        {NODE: 4_000, PURE: 2_000, BARE: 6_000},
    ),
    Workload(
        "sequential-raw-one-core",
        "one after another, one core",
        {NODE: 5_000, PURE: 3_000, BARE: 10_000},
    ),
    Workload("sequential", "one after another, our client", {NODE: 2_000, BARE: 4_000}),
    Workload("pipelined", "100 in flight, our client", {NODE: 15_000, BARE: 60_000}),
    Workload(
        "pipelined-raw", "100 in flight, raw frames", {NODE: 40_000, PURE: 15_000, BARE: 100_000}
    ),
    Workload("large", "1 MiB", {NODE: 200, BARE: 200}),
    Workload("flooded", "one after another, beside a flooded daemon", {NODE: 500, PURE: 500}),
]


def contenders() -> list[Spec]:
    """Return the clients of a node, compiled and uncompiled, and of a bare echo."""
    built = compiled_source()
    plain = built or ROOT / "src"  # the copy holds the sources too, those it was made of
    found = []
    for name, source, kind in ((NODE, built, "node"), (PURE, plain, "node"), (BARE, plain, "bare")):
        environment = {
            "PYTHONPATH": f"{source}{os.pathsep}{ROOT}",
            "DAN9_PURE": "1" if name == PURE else "0",
        }
        command = [sys.executable, "-m", "benchmarks.peers.client_side", f"clients-of-{kind}"]
        found.append(Spec(name, command, environment, "" if source else "not compiled"))
    return found


def judge(results: list[Rounds]) -> list[Row]:
    """Return the rows of the table."""
    found = {rounds.workload.name: rounds for rounds in results}
    rows = []
    for name, ours in (
        ("sequential-raw", NODE),
        ("sequential-raw-two-cores", NODE),
        ("sequential-raw-one-core", NODE),
        ("sequential-raw", PURE),
        ("sequential-raw-two-cores", PURE),
        ("sequential-raw-one-core", PURE),
        ("sequential", NODE),
    ):
        rounds = found[name]
        is_judged = ours == NODE and name.endswith(("-two-cores", "-one-core"))
        goals = (0.7, 0.9) if is_judged else (0.0, 0.0)
        title = rounds.workload.title + ("" if ours == NODE else ", uncompiled")
        ratio = rounds.ratio(ours, BARE, "wall_s")
        rates = rounds.rate(ours, "wall_s"), rounds.rate(BARE, "wall_s")
        rows.append(Row(f"{title} / bare echo", ratio, *goals, ours=rates[0], theirs=rates[1]))
    for name, ours in (("pipelined-raw", NODE), ("pipelined-raw", PURE), ("pipelined", NODE)):
        rounds = found[name]
        is_judged = ours == NODE and name == "pipelined-raw"
        goals = (150_000, 250_000) if is_judged else (0, 0)
        title = rounds.workload.title + ("" if ours == NODE else ", uncompiled")
        rows.append(rate(title, rounds, ours, goals, "/s", lambda asks: asks))
    rows.append(
        rate("1 MiB echo", found["large"], NODE, (0.5, 1.0), " GB/s", lambda asks: asks * MIB / 1e9)
    )
    for name in (NODE, PURE):
        for key, must in (("p50_ms", 0.0), ("p99_ms", 5.0 if name == NODE else 0.0)):
            title = f"ask beside a flooded daemon, {key[:3]}" + (", uncompiled" * (name == PURE))
            waits = found["flooded"].value(name, key)
            rows.append(Row(title, waits, must, unit=" ms", is_bound=True))
    return rows


def rate(
    title: str,
    rounds: Rounds,
    ours: str,
    goals: tuple[float, float],
    unit: str,
    convert: Callable[[float], float],
) -> Row:
    """Return the row of a rate, by wall time."""
    own = quartiles(rounds.rates(ours, "wall_s"))
    measured = own and Ratio(convert(own.median), convert(own.low), convert(own.high))
    bare = rounds.rate(BARE, "wall_s")
    theirs = convert(bare) if bare else None
    return Row(title, measured, *goals, unit=unit, theirs=theirs)


def main() -> int:
    """Print the table and keep it; 1 if a goal was missed."""
    results = contest(
        contenders(),
        WORKLOADS,
        lambda line: print(line, file=sys.stderr, flush=True),
        int(os.environ.get("ROUNDS", "0")) or None,
    )
    rows = judge(results)
    print(text(rows))
    write("clients", "Local clients over the Unix socket", rows, results, RESULTS)
    return 1 if any(row.verdict == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
