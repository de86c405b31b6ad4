"""A node put together inside a program: in order, and away without a trace."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from dan9.base.errors import AddressInUse, BadConfig, Dan9Error, NotAllowed, NotSupported
from dan9.base.ports import Checkpoint
from dan9.boot.manifest import DaemonPlan, Manifest, SavePolicy, SupervisorPlan
from dan9.kernel.kernel import System
from dan9.testing import run
from dan9.testing.memory_store import MemoryStore


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """XDG folders of the test's own, with a path short enough for a socket."""
    found = Path(tempfile.mkdtemp(prefix="d9-"))
    (found / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(found / "run"))
    monkeypatch.setenv("XDG_STATE_HOME", str(found / "state"))
    yield found
    shutil.rmtree(found, ignore_errors=True)


def test_nothing_is_touched_without_daemons_and_socket(folder: Path) -> None:
    """The system of a test or a script leaves the disk alone."""

    async def main() -> None:
        async with System("quiet", daemons="none", socket=False) as system:
            assert "d9://system/system/node" not in system.addresses()

    run(main, real=True)
    assert not (folder / "state").exists()
    assert not any((folder / "run").iterdir())


def test_only_the_daemons_asked_for_start(folder: Path) -> None:
    """In the catalogue's order, under a supervisor of their own, and the node's daemon."""

    async def main() -> list[str]:
        async with System("some", daemons=["timer", "logging"], socket=False) as system:
            supervisors = {
                system.status_of(one)["supervisor"] for one in system.addresses("d9://*/system/*")
            }
            assert "d9://supervisor/system/system" in supervisors
            return system.addresses("d9://*/system/*")

    found = run(main, real=True)
    assert found[-3:] == [
        "d9://logging/system/logging",
        "d9://timer/system/timer",
        "d9://system/system/node",
    ]
    assert not (folder / "state" / "dan9" / "some" / "lock").exists()


def test_one_system_of_a_name_holds_the_lock(folder: Path) -> None:
    """A second one is refused and leaves the first one's socket alone; then the name is free."""

    async def main() -> None:
        socket = folder / "run" / "dan9" / "twice.sock"
        async with System("twice", daemons="none", socket=True):
            assert socket.exists()
            with pytest.raises(AddressInUse):
                async with System("twice", daemons="none", socket=True):
                    pass
            assert socket.exists()
        assert not socket.exists()
        async with System("twice", daemons="none", socket=True):
            assert socket.exists()

    run(main, real=True)


def test_a_system_inside_a_program_is_not_ended_from_outside() -> None:
    """`dan9 down` is refused: the program decides."""

    async def main() -> None:
        async with System("inside", daemons="none", socket=True) as system:
            with pytest.raises(NotSupported, match="a program of its own"):
                await system.ask("d9://system/system/node", "shutdown")

    run(main, real=True)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"daemons": ["timr"]}, "no system daemon 'timr'"),
        ({"daemons": "none", "config": 3}, "config is 3"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], text: str) -> None:
    """Before anything has started, each by its name."""

    async def main() -> None:
        with pytest.raises(BadConfig, match=text):
            async with System("wrong", socket=False, **options):  # type: ignore[arg-type]
                pass

    run(main, real=True)


def test_a_daemon_that_fails_to_start_takes_the_system_down(folder: Path) -> None:
    """The error names it; lock and socket are gone."""
    plan = DaemonPlan("bad", "exec", "no-such-command-at-all")
    manifest = Manifest(daemons=(plan,), system_daemons=("process",))

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(Dan9Error, match="no-such-command-at-all"):
                async with System("bad", daemons="all", socket=True, config=manifest):
                    pass

    run(main, real=True)
    assert not (folder / "run" / "dan9" / "bad.sock").exists()


def test_a_declared_policy_is_in_force_before_the_start(folder: Path) -> None:
    """So that a daemon which keeps nothing is not restored either."""
    plan = DaemonPlan("timer", "system", "timer", group="system", save=SavePolicy(7.0, keep=5))
    manifest = Manifest(daemons=(plan,), system_daemons=("persistence", "timer"))

    async def main() -> None:
        async with System("kept", config=manifest, socket=False) as system:
            shown = await system.ask("persistence", "policy", daemon_name="d9://timer/system/timer")
            assert (shown["interval"], shown["keep"]) == (7.0, 5)

    run(main, real=True)


@pytest.mark.parametrize("is_supervised", [False, True])
def test_a_state_that_cannot_be_loaded_keeps_no_node_from_coming_up(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    is_supervised: bool,
) -> None:
    """Its daemon is failed, the others run, and somebody can restore it."""
    monkeypatch.syspath_prepend(folder)
    (folder / "torn.py").write_text(
        "from dan9 import Daemon\nclass Kept(Daemon):\n    total: int = 0\n"
    )
    plans = tuple(DaemonPlan(name, "run", "torn:Kept") for name in ("one", "two"))
    manifest = Manifest(
        daemons=plans,
        supervisors=(SupervisorPlan("both", ("one", "two")),) if is_supervised else (),
        system_daemons=("persistence", "timer"),
    )
    one, timer = "d9://kept/default/one", "d9://timer/system/timer"
    store = MemoryStore(post=lambda call: call())
    store.save([Checkpoint(address, "s", b"no state", 1.0) for address in (one, timer)])

    async def main() -> None:
        async with System("torn", config=manifest, socket=False, store=store) as system:
            assert system.state_of(one) == system.state_of(timer) == "failed"
            assert system.state_of("d9://kept/default/two") == "running"
            for address in (one, timer):
                await system.ask(address, "restore", version="none")
                assert system.state_of(address) == "running"

    run(main, real=True)
    said = [record.getMessage() for record in caplog.records]
    assert sum("cannot be loaded" in text for text in said) == 2
    assert not any("on_stop" in text for text in said)


GATE = """
from dan9 import Config, Daemon
class Gate(Daemon):
    allow: Config[list[str]] = []
    cls: Config[str] = ""
    policy: Config[str] = ""
    keep: Config[int] = 0
"""


def test_a_field_may_have_the_name_of_an_option_of_spawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From dan9.toml, under a supervisor too, and from a client's `spawn`."""
    monkeypatch.syspath_prepend(folder)
    (folder / "gated.py").write_text(GATE)
    fields = 'run = "gated:Gate"\nkeep = 3\npolicy = "strict"\ncls = "first"\n'
    (folder / "dan9.toml").write_text(
        '[system]\ndaemons = ["network"]\n'
        '[daemon.network]\nallow = ["127.0.0.1"]\n'
        f'[daemon.a]\n{fields}allow = ["x"]\n'
        f'[daemon.b]\n{fields}allow = [{{from = "d9://nobody/**"}}]\nmailbox = 7\n'
        '[supervisor.s]\nchildren = ["b"]\n'
    )
    node = "d9://system/system/node"
    given = {"keep": 3, "policy": "strict", "cls": "first"}

    async def main() -> None:
        async with System("gated", config=folder / "dan9.toml", socket=False) as system:
            network = system.status_of("d9://network/system/network")
            assert network["config"]["allow"] == ["127.0.0.1"]
            payload = {"target": "gated:Gate", "name": "c", "config": {**given, "allow": ["y"]}}
            await system.ask(node, "spawn", payload=payload)
            for name, own in (("a", ["x"]), ("b", []), ("c", ["y"])):
                status = system.status_of(f"d9://gate/default/{name}")
                assert status["config"] == {**given, "allow": own}
            with pytest.raises(NotAllowed):
                await system.ask("d9://gate/default/b", "ping")

    run(main, real=True)


def test_the_state_lies_where_the_configuration_says(folder: Path) -> None:
    """In the directory of persistence's own, which no other node may share."""
    elsewhere = folder / "other" / "disk"
    plan = DaemonPlan(
        "persistence",
        "system",
        "persistence",
        group="system",
        fields={"state_directory": str(elsewhere), "versions": 2},
    )
    manifest = Manifest(daemons=(plan,), system_daemons=("persistence",))

    async def main() -> None:
        for _ in range(2):  # the folder is free again when the node has ended
            async with System("one", config=manifest, socket=False) as system:
                assert system.status_of("persistence")["directory"] == str(elsewhere)
                policy = await system.ask("persistence", "policy", daemon_name="d9://a/b/c")
                assert policy["keep"] == 2
                with pytest.raises(AddressInUse, match="another node keeps its state in"):
                    async with System("two", config=manifest, socket=False):
                        pass

    run(main, real=True)
    assert (elsewhere / "state.db").exists()
    assert not (folder / "state" / "dan9" / "one" / "state.db").exists()
