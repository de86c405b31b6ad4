"""The process daemon over real processes: what no twin in memory could show."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from dan9.base.errors import (
    AddressInUse,
    BadPayload,
    NoSuchProcess,
    NotADirectory,
    NotExecutable,
    NotFound,
    NotRunning,
    PermissionRefused,
    TimedOut,
)
from dan9.daemons import process_table
from dan9.daemons.process import Process
from dan9.kernel.daemon import Daemon, on
from dan9.testing import run, system
from tests.trials.kill import ended

pytestmark = pytest.mark.real


def real(main, **config):
    """Run `main(world, process)` against a fresh process daemon."""

    async def with_process():
        async with system() as world:
            await main(world, await world.spawn(Process, "process", **config))

    run(with_process, real=True)


def python(text):
    """Return the command that runs a line of Python."""
    return [sys.executable, "-S", "-c", text]


def test_environment_and_directory_are_as_asked(tmp_path):
    """`env` adds to the node's environment, null removes; `cwd` is where it runs."""

    async def main(world, process):
        os.environ["DAN9_TEST_LEFT"] = "1"
        try:
            env = {"DAN9_TEST_NEW": "2", "DAN9_TEST_LEFT": None}
            ran = await process.run("sh -c 'env; pwd'", env=env, cwd=str(tmp_path))
        finally:
            del os.environ["DAN9_TEST_LEFT"]
        lines = ran.stdout.splitlines()
        assert "DAN9_TEST_NEW=2" in lines
        assert not any(line.startswith("DAN9_TEST_LEFT") for line in lines)
        assert any(line.startswith("PATH=") for line in lines)
        assert lines[-1] == str(tmp_path)

    real(main)


def test_a_wrong_directory_or_program_is_named(tmp_path):
    """Each way in which a start can fail has a refusal that says what and where."""
    script = tmp_path / "script"
    script.write_text("#!/nonesuch/interpreter\n")
    plain = tmp_path / "plain"
    plain.write_text("no program")

    async def main(world, process):
        for error, command, cwd in (
            (NotFound, "true", str(tmp_path / "none")),
            (NotADirectory, "true", str(plain)),
            (NotExecutable, str(tmp_path / "none"), None),
            (NotExecutable, str(plain), None),
            (NotExecutable, str(tmp_path), None),
            (BadPayload, ["true", "x" * 3_000_000], None),
        ):
            with pytest.raises(error):
                await process.run(command, cwd=cwd)
        script.chmod(0o755)
        with pytest.raises(NotExecutable, match="its interpreter is missing"):
            await process.run(str(script))
        assert await process.list_() == []

    real(main)


def test_limits_hold():
    """Files, memory and CPU seconds end where they were said to."""

    async def main(world, process):
        limits = {"files": 64, "memory": "512MB", "cpu": 1}
        ran = await process.run("sh -c 'ulimit -n; ulimit -v; ulimit -t'", limits=limits)
        assert ran.stdout.split() == ["64", str(512 * 1024), "1"]
        big = python("bytearray(1 << 30)")
        ran = await process.run(big, limits={"memory": "256MB"})
        assert ran.code == 1
        assert "MemoryError" in ran.stderr

    real(main)


@pytest.mark.slow
def test_cpu_seconds_and_peak_memory_are_reported():
    """A process that spins is ended by its CPU limit, and what it used is told."""

    async def main(world, process):
        ran = await process.run(
            python("x = bytearray(50_000_000)\nwhile 1: pass"), limits={"cpu": 1}
        )
        assert ran.signal == "XCPU"
        assert 0.5 < ran.cpu_seconds < 2
        assert ran.peak_memory > 50_000_000

    real(main)


def test_a_timeout_ends_the_whole_session(tmp_path):
    """`run` kills what its command started in the background too."""

    async def main(world, process):
        pids = tmp_path / "pids"
        command = f"sh -c 'sleep 1000 & echo $! > {pids}; sleep 1000'"
        with pytest.raises(TimedOut):
            await process.run(command, timeout=0.3)
        assert not process_table.processes(("pid",), [int(pids.read_text())])

    real(main)


def test_run_does_not_wait_for_what_was_left_in_the_background():
    """A grandchild that holds the pipe neither delays the reply nor survives it."""

    async def main(world, process):
        ran = await process.run("sh -c 'sleep 1000 & echo $!'", timeout=5)
        await ended(int(ran.stdout))

    real(main)


def test_an_asker_who_gives_up_ends_what_it_ran(tmp_path):
    """`run` is cancelled with its ask, and its processes end."""

    async def main(world, process):
        pids = tmp_path / "pids"
        os.mkfifo(pids)
        asking = asyncio.ensure_future(
            world.ask("process", "run", command=f"sh -c 'echo $$ > {pids}; sleep 1000'")
        )
        pid = int(await asyncio.to_thread(pids.read_text))
        asking.cancel()
        await ended(pid)

    real(main)


def test_more_output_than_is_kept_is_said():
    """`run` keeps the first bytes and says that there were more; memory does not grow."""

    async def main(world, process):
        ran = await process.run(["head", "-c", "100000", "/dev/zero"], encoding=None)
        assert ran.stdout == b"\0" * 1000
        assert ran.truncated

    real(main, run_bytes=1000)


def test_output_is_the_newest_window():
    """`output` has the end of what was printed."""

    async def main(world, process):
        pid = await process.spawn_("seq 1 100000")
        await process.wait(pid)
        assert (await process.output(pid)).endswith("\n99999\n100000\n")
        assert len(await process.output(pid)) == 100

    real(main, output_bytes=100)


def test_nobody_else_is_signalled():
    """Strangers, the node and the helper are refused; what is not there is not there."""

    async def main(world, process):
        await process.run("true")
        for pid in (1, os.getpid(), os.getppid(), world.status_of("process")["helper"]):
            with pytest.raises(PermissionRefused, match="was not started here"):
                await process.kill(pid)
        with pytest.raises(NoSuchProcess):
            await process.kill(2**22 + 1)

    real(main)


def test_strangers_are_signalled_where_the_configuration_says_so():
    """`any_process` lets `kill` reach every process but the node, its helper and init."""

    async def main(world, process):
        stranger = await asyncio.create_subprocess_exec("sleep", "1000")
        await process.kill(stranger.pid)
        assert await stranger.wait() == -15
        with pytest.raises(PermissionRefused):
            await process.kill(os.getpid())

    real(main, any_process=True)


def test_a_descendant_can_be_signalled_alone():
    """`kill` of a grandchild reaches it and not its parent."""

    async def main(world, process):
        pid = await process.spawn_("sh -c 'sleep 1000 & echo $!; wait; echo on; cat'")
        grandchild = 0
        while not grandchild:
            await asyncio.sleep(0)
            grandchild = int(await process.output(pid) or 0)
        await process.kill(grandchild)
        await ended(grandchild)
        await process.write(pid, "done", close=True)
        assert (await process.wait(pid)).code == 0
        assert (await process.output(pid)).endswith("on\ndone")

    real(main)


def test_grace_is_for_the_whole_session():
    """KILL comes only after the grace, for whoever ignores the signal."""

    async def main(world, process):
        pid = await process.spawn_(
            "sh -c 'trap \"\" TERM; echo up; sleep 1000 & sleep 1000'", ready="line:up"
        )
        before = asyncio.get_running_loop().time()
        await process.kill(pid, grace=0.2)
        assert asyncio.get_running_loop().time() - before >= 0.2
        assert (await process.wait(pid)).signal == "KILL"

    real(main)


class Owner(Daemon, type="owner"):
    """Starts a process that is to end with it."""

    @on
    async def start_one(self) -> int:
        return await self.ask("process", "spawn", command="sleep 1000", owned=True)


def test_what_is_owned_ends_with_its_owner():
    """`owned` ties the process to the asker's life."""

    async def main(world, process):
        owner = await world.spawn(Owner, "owner")
        pid = await owner.start_one()
        await world.ask("owner", "stop")
        assert (await process.wait(pid)).signal == "TERM"

    real(main)


class Slow(Daemon, type="slow"):
    """Takes lines only while its gate is open, which the test holds in its hand."""

    _gate = None

    async def on_start(self) -> None:
        self._seen = []
        self._over = asyncio.Event()

    @on
    async def output(self, pid: int, stream: str, line: str, dropped: int = 0) -> None:
        await Slow._gate.wait()
        self._seen.append(line)

    @on
    def exited(self, pid: int, code: int | None, signal: str | None) -> None:
        self._over.set()

    @on(concurrent=True, timeout_s=30)
    async def seen(self) -> list[str]:
        await self._over.wait()
        return self._seen


@pytest.mark.slow
def test_a_slow_listener_holds_the_process_and_misses_nothing():
    """The pipe is not read while the listener is behind; every line comes in order."""
    total = 3_000  # of 200 bytes: far more than pipe and queue hold

    async def main(world, process):
        Slow._gate = asyncio.Event()
        slow = await world.spawn(Slow, "slow")
        pid = await process.spawn_(f"seq -f %0199.0f 1 {total}", deliver_to="slow")
        while (await process.info(pid))["state"] != "sleeping":  # noqa: ASYNC110  (see above)
            await asyncio.sleep(0)
        Slow._gate.set()
        assert [int(line) for line in await slow.seen()] == list(range(1, total + 1))

    real(main)


def test_a_listener_that_ends_does_not_hold_the_process():
    """Its lines are no longer delivered, and it goes on."""

    async def main(world, process):
        Slow._gate = asyncio.Event()
        await world.spawn(Slow, "slow")
        pid = await process.spawn_("sh -c 'read x; seq 1 100000'", deliver_to="slow")
        await world.ask("slow", "stop")
        await process.write(pid, "go\n")
        assert (await process.wait(pid)).code == 0

    real(main)


def test_an_owned_process_that_was_started_again_ends_too():
    """The owner's end reaches the process that runs now, not only the first."""

    class Keen(Owner, type="keen"):
        """Wants it started again."""

        @on
        async def start_two(self) -> int:
            command = "sh -c 'echo $$; sleep 1000'"
            return await self.ask(
                "process", "spawn", command=command, owned=True, restart="permanent", ready="line:."
            )

    async def main(world, process):
        keen = await world.spawn(Keen, "keen")
        first = await keen.start_two()
        await process.kill(first, signal="HUP")
        await process.wait(first)
        while not (rows := await process.list_()):  # noqa: ASYNC110  (as above)
            await asyncio.sleep(0)
        await world.ask("keen", "stop")
        assert (await process.wait(rows[0]["pid"])).signal == "TERM"
        assert await process.list_() == []

    real(main)


def test_readiness_is_waited_for(tmp_path):
    """`spawn` replies when a line matches, a file appears, a port answers, or it says so."""
    sign = tmp_path / "sign"
    sign.write_text("left by an earlier run")
    listen = "import socket,signal; s=socket.create_server(('127.0.0.1', {})); signal.pause()"
    notify = (
        "import os,socket,signal; s=socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); "
        "s.sendto(b'STATUS=x\\nREADY=1', os.environ['NOTIFY_SOCKET'].replace('@', chr(0))); "
        "signal.pause()"
    )

    async def main(world, process):
        with_port = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = with_port.sockets[0].getsockname()[1]
        with pytest.raises(AddressInUse, match=f"port {port} answers already"):
            await process.spawn_("sleep 1000", ready=f"port:{port}")
        with_port.close()
        await with_port.wait_closed()
        await process.spawn_(python(listen.format(port)), ready=f"port:{port}")
        await process.spawn_(python(notify), ready="notify")
        await process.spawn_(
            "sh -c 'echo starting; echo up 1 >&2; sleep 1000'", ready="line:up \\d"
        )
        command = "sh -c 'rm sign; echo > sign; sleep 1000'"
        await process.spawn_(command, cwd=str(tmp_path), ready="file:sign")
        assert len(await process.list_()) == 4

    real(main)


def test_what_does_not_become_ready_is_refused_and_gone():
    """One that ends first is told with its last words; one that takes too long is ended."""

    async def main(world, process):
        with pytest.raises(NotRunning, match=r"exited with code 3 before it was ready.*oh no"):
            await process.spawn_("sh -c 'echo oh no >&2; exit 3'", ready="line:up")
        with pytest.raises(TimedOut, match=r"not ready within 0.05 s \(no line matched 'up'\)"):
            await process.spawn_("sleep 1000", ready="line:up", ready_within=0.05)
        for row in await process.list_():
            await ended(row["pid"])

    real(main)


def test_info_shows_a_running_process():
    """State, command, memory, children and open files of one's own and of others."""

    async def main(world, process):
        pid = await process.spawn_("sh -c 'sleep 1000 & echo $!; wait'", ready="line:.")
        info = await process.info(pid)
        assert info["children"] == [int(await process.output(pid))]
        assert info["memory"] > 0
        assert any(name.startswith("pipe:") for name in info["open_files"])
        assert (await process.info(1))["pid"] == 1

    real(main)


def test_all_lists_the_machine():
    """`all` has this very process; the default has not."""

    async def main(world, process):
        everyone = await world.ask("process", "list", all=True, fields=["pid", "state"])
        assert {"pid": os.getpid()}.items() <= next(
            one.items() for one in everyone if one["pid"] == os.getpid()
        )
        assert await world.ask("process", "list") == []

    real(main)


def test_an_idle_helper_sleeps_and_is_small():
    """None is there before the first command; then it sleeps, and holds less than 16 MB."""

    async def main(world, process):
        assert world.status_of("process")["helper"] is None
        await process.spawn_("sleep 1000")
        helper = world.status_of("process")["helper"]
        facts = await process.info(helper)
        while facts["state"] != "sleeping":
            facts = await process.info(helper)
        assert facts["memory"] < 16_000_000

    real(main)


def test_many_start_at_once():
    """A hundred commands asked for together all answer."""

    async def main(world, process):
        asks = [process.run(f"echo {number}") for number in range(100)]
        replies = await asyncio.gather(*asks)
        assert [int(one.stdout) for one in replies] == list(range(100))

    real(main)


def test_start_and_stop_of_the_daemon_leave_no_descriptor():
    """Every pipe and socket is closed again."""
    before = open_now()

    async def main(world, process):
        for _ in range(3):
            await process.run("echo x", input_="y")
            await process.spawn_("cat")
        with pytest.raises(NotExecutable):
            await process.run("nonesuch")

    real(main)
    assert open_now() - before == set()


def open_now():
    """Return what this process has open: number and name."""
    folder = Path("/proc/self/fd")
    return {(int(one.name), str(one.readlink())) for one in folder.iterdir() if one.exists()}
