"""The network's contract, over real sockets and over its twin in memory."""

import asyncio

import pytest

from dan9.daemons.network import Network
from dan9.testing import run, system
from dan9.testing.memory_network import MemoryNetwork
from tests.contracts.network_contract import CONTRACT


async def hold(case, kind):
    """Run one check against a fresh network."""
    async with system(seed=0) as world:
        config = getattr(case, "config", {})
        net = await world.spawn(kind, "net", group="test", **config)
        await case(world, net)


@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
def test_the_twin_in_memory_keeps_the_contract(case):
    """The twin does, in virtual time, what the check says."""
    run(lambda: hold(case, MemoryNetwork))


@pytest.mark.real
@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
def test_the_network_keeps_the_contract(case):
    """The daemon does, over the loopback, what the check says."""
    run(lambda: hold(case, Network), real=True)


@pytest.mark.real
@pytest.mark.parametrize("case", CONTRACT, ids=lambda case: case.__name__)
def test_the_network_keeps_the_contract_on_uvloop(case):
    """The daemon does, on the loop that nodes run on, what the check says."""
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(hold(case, Network))
