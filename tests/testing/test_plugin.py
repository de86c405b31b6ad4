"""The pytest plug-in, seen from the tests that use it."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TEST = """
    from dan9 import Daemon, on

    class Die(Daemon):
        @on
        def throw(self) -> int:
            return self.system.random.randrange(6)

    def test_die(dan9_world):
        async def body(world):
            die = await world.system.spawn(Die, "d")
            return [await die.throw() for _ in range(3)]
        thrown, world = dan9_world(body)
        assert thrown, world.seed
        assert world.seed < 12
"""


@pytest.fixture
def inner(pytester: pytest.Pytester) -> pytest.Pytester:
    """A test run of its own, with the plug-in and nothing else."""
    pytester.makepyfile(test_inner=TEST)
    pytester.plugins = []
    return pytester


def run(inner: pytest.Pytester, *words: str) -> pytest.RunResult:
    """Run it in a process, where the installed plug-in is found."""
    return inner.runpytest_subprocess("-p", "no:cacheprovider", *words)


@pytest.mark.slow
def test_one_seed_unless_told_otherwise(inner: pytest.Pytester) -> None:
    """A test that takes a world runs once, under seed 0."""
    run(inner, "-v").assert_outcomes(passed=1)


@pytest.mark.slow
def test_many_seeds_and_how_to_replay_the_one_that_fails(inner: pytest.Pytester) -> None:
    """--dan9-seeds multiplies; a failure says its seed and the command that replays it."""
    found = run(inner, "--dan9-seed=10", "--dan9-seeds=3")
    found.assert_outcomes(passed=2, failed=1)
    found.stdout.fnmatch_lines(["*seed 12: replay it with*", "*--dan9-seed=12*"])
    run(inner, "--dan9-seed=12").assert_outcomes(failed=1)


@pytest.mark.slow
def test_no_seeds_are_refused(inner: pytest.Pytester) -> None:
    """Zero seeds would prove nothing."""
    found = run(inner, "--dan9-seeds=0")
    assert found.ret == pytest.ExitCode.USAGE_ERROR
    found.stderr.fnmatch_lines(["*--dan9-seeds takes 1 or more*"])


def test_virtual_time(virtual, dan9_seed) -> None:
    """`virtual` runs a coroutine function to its end, at once."""
    import asyncio

    async def main() -> str:
        await asyncio.sleep(86_400)
        return "a day later"

    assert virtual(main) == "a day later"
    assert dan9_seed >= 0
