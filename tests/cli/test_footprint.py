"""What a node costs that does nothing: ten seconds after boot, over five seconds."""

from __future__ import annotations

import threading

import psutil
import pytest

from tests.cli.conftest import Shell

pytestmark = [pytest.mark.real, pytest.mark.slow]

SETTLE_S = 10
WATCH_S = 5
CPU_MS = 25
MEMORY = 60_000_000


def cpu_ns(process: psutil.Process) -> int:
    """Return what all its threads have run, in nanoseconds: ticks of 10 ms are too coarse."""
    total = 0
    for thread in process.threads():
        with open(f"/proc/{process.pid}/task/{thread.id}/schedstat", encoding="ascii") as file:
            total += int(file.read().split()[0])
    return total


def test_an_idle_node_costs_next_to_nothing(shell: Shell) -> None:
    """Node and helper use < 25 ms of CPU over 5 s, user and system, and hold < 60 MB."""
    pid = shell("up", "--detach", "--json").json["pid"]
    shell.well("send", "process", "run", "command=true")  # which starts the helper
    node = psutil.Process(pid)
    pause = threading.Event()
    pause.wait(SETTLE_S)
    processes = [node, *node.children(recursive=True)]
    assert len(processes) == 2, "the node and its helper"
    before = sum(map(cpu_ns, processes))
    pause.wait(WATCH_S)
    used_ms = (sum(map(cpu_ns, processes)) - before) / 1e6
    held = sum(process.memory_full_info().uss for process in processes)
    assert used_ms < CPU_MS, f"{used_ms:.1f} ms of CPU in {WATCH_S} s"
    assert held < MEMORY, f"{held / 1e6:.1f} MB"
    shell.well("down")
