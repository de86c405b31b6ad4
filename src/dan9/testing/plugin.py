"""The pytest plug-in: a seed for every test that wants one, and the seed in every failure.

`--dan9-seed N` replays one seed; `--dan9-seeds N` runs each test that takes `dan9_seed`
(or `dan9_world`, or `virtual`) under N seeds, beginning with `--dan9-seed`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any

import pytest

from dan9.kernel.clock import VirtualClock
from dan9.testing.world import run_world

__all__ = ["dan9_seed", "dan9_world", "virtual"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("dan9")
    group.addoption(
        "--dan9-seed",
        type=int,
        default=0,
        metavar="N",
        help="the seed of tests that take dan9_seed, or the first of several (0)",
    )
    group.addoption(
        "--dan9-seeds",
        type=int,
        default=1,
        metavar="N",
        help="run each test that takes dan9_seed under so many seeds (1)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a number of seeds that means nothing."""
    if config.getoption("dan9_seeds") < 1:
        raise pytest.UsageError("--dan9-seeds takes 1 or more")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test that wants a seed as many as were asked for."""
    if "dan9_seed" in metafunc.fixturenames:
        first = metafunc.config.getoption("dan9_seed")
        count = metafunc.config.getoption("dan9_seeds")
        seeds = range(first, first + count)
        ids = [f"seed{seed}" for seed in seeds]
        metafunc.parametrize("dan9_seed", seeds, ids=ids, indirect=True)


@pytest.fixture
def dan9_seed(request: pytest.FixtureRequest) -> int:
    """The seed of this test."""
    return int(request.param)


@pytest.fixture
def dan9_world(dan9_seed: int) -> Callable[..., Any]:
    """Run `body(world)` in a world under this test's seed: `dan9_world(body, faults=[…])`.

    Returns what the body returned and the world.
    """

    def run(body: Callable[..., Coroutine[Any, Any, Any]], **options: Any) -> Any:
        return run_world(body, dan9_seed, **options)

    return run


@pytest.fixture
def virtual() -> Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]:
    """Run `main()` in virtual time: `virtual(main)`."""

    def run(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        return VirtualClock().run(main())

    return run


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say the seed of a failure, and how to replay it."""
    report = yield
    seed = getattr(item, "funcargs", {}).get("dan9_seed")
    if report.failed and call.when == "call" and seed is not None:
        name = item.nodeid.partition("[")[0]
        text = f"seed {seed}: replay it with\n    pytest '{name}' --dan9-seed={seed}"
        report.sections.append(("dan9", text))
    return report
