"""Who waits for whom: orders and cycles, over graphs of every shape."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from dan9.boot.order import find_cycle, in_order

NAMES = "abcdef"
GRAPHS = st.dictionaries(st.sampled_from(NAMES), st.lists(st.sampled_from(NAMES), max_size=4))


@given(GRAPHS)
def test_a_cycle_is_one_and_without_one_there_is_an_order(graph: dict[str, list[str]]) -> None:
    """Either the way round is shown, or each name comes after those that it names."""
    cycle = find_cycle(graph)
    if cycle:
        assert cycle[0] == cycle[-1]
        assert all(other in graph[name] for name, other in itertools.pairwise(cycle))
        return
    order = in_order(graph)
    assert sorted(order) == sorted(graph)
    for name, others in graph.items():
        for other in others:
            assert other not in graph or order.index(other) < order.index(name)


@given(st.permutations(NAMES))
def test_what_waits_for_nobody_keeps_its_place(names: list[str]) -> None:
    """The order of the file is the order of start where nothing says otherwise."""
    assert in_order({name: [] for name in names}) == list(names)


def test_a_long_chain_is_no_cycle() -> None:
    """The depth of Python's stack is not the limit of a configuration's cycle check."""
    chain = {f"n{index}": [f"n{index + 1}"] for index in range(5000)}
    assert find_cycle(chain) == []
    assert in_order(chain)[0] == "n4999"
