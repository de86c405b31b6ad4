"""The contract of the process daemon, over real processes."""

import pytest

from dan9.daemons.process import Process
from dan9.testing import run, system
from tests.contracts.process_contract import CONTRACT


async def hold(case, kind):
    """Run one check against a fresh process daemon."""
    async with system(seed=0) as world:
        await world.spawn(kind, "process", group="test", **getattr(case, "config", {}))
        await case(world)


@pytest.mark.real
@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
def test_the_process_daemon_keeps_the_contract(case):
    """The daemon does, with real processes, what the check says."""
    run(lambda: hold(case, Process), real=True)
