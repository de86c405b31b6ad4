"""The test kit: a system in virtual time, under a seed, with faults on request.

`run(main)` runs an async function in virtual time; `system()` gives it a system without
system daemons; `run_world(body, seed, faults=[...])` gives it a whole `World`: shuffled
order, faults, an event log, invariants checked at every step. The pytest plug-in adds
`--dan9-seed N` and `--dan9-seeds N`.
"""

from dan9.testing.faults import (
    ClockJump,
    Crash,
    Delay,
    Drop,
    Duplicate,
    Fault,
    FullMailbox,
    Hold,
    SlowHandler,
    parse_faults,
)
from dan9.testing.invariants import BrokenPromise, LostMessages
from dan9.testing.probe import Probe, Sequencer
from dan9.testing.running import run, system
from dan9.testing.world import FaultInjected, World, run_world, world

__all__ = [
    "BrokenPromise",
    "ClockJump",
    "Crash",
    "Delay",
    "Drop",
    "Duplicate",
    "Fault",
    "FaultInjected",
    "FullMailbox",
    "Hold",
    "LostMessages",
    "Probe",
    "Sequencer",
    "SlowHandler",
    "World",
    "parse_faults",
    "run",
    "run_world",
    "system",
    "world",
]
