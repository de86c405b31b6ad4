"""A foreign program as a daemon."""

import asyncio
import sys

import pytest

from dan9.base.errors import AddressInUse, NotExecutable, NotRunning, TimedOut
from dan9.daemons.process import Process
from dan9.daemons.service import Service
from dan9.kernel.restart import Backoff
from dan9.kernel.supervisor import ChildSpec, Supervisor
from dan9.testing import run, system
from tests.trials.kill import ended

pytestmark = pytest.mark.real


def real(main):
    """Run `main(world, happened)`; `happened` queues (event, address) as things happen."""

    async def with_process():
        async with system() as world:
            happened = asyncio.Queue()
            world.subscribe_events(
                lambda event: happened.put_nowait(
                    (type(event).__name__, getattr(event, "address", "").rpartition("/")[2])
                )
            )
            await world.spawn(Process, "process", group="system")
            await main(world, happened)

    run(with_process, real=True)


async def until(happened, event, name):
    """Wait until something has happened to a daemon."""
    while await happened.get() != (event, name):
        pass


def logged(world):
    """Return the list into which the world's log goes."""
    entries = []
    world.log_sink = entries.append
    return entries


def test_it_lives_as_long_as_its_program():
    """Start starts the program, stop ends it, and status shows its pid."""

    async def main(world, happened):
        await world.spawn(Service, "nap", command="sleep 1000")
        pid = world.status_of("nap")["pid"]
        assert (await world.ask("process", "info", pid=pid))["command"] == ["sleep", "1000"]
        await world.ask("nap", "stop")
        assert (await world.ask("process", "wait", pid=pid))["signal"] == "TERM"
        await world.ask("nap", "start")
        assert world.status_of("nap")["pid"] != pid

    real(main)


def test_a_program_that_dies_is_started_again():
    """Its end is a crash of its daemon: restarted with backoff, the reason told."""

    async def main(world, happened):
        await world.spawn(Service, "nap", command="sleep 1000")
        pid = world.status_of("nap")["pid"]
        await world.ask("process", "kill", pid=pid, signal="KILL")
        await until(happened, "DaemonRestarted", "nap")
        status = world.status_of("nap")
        assert status["restarts"] == 1
        assert status["pid"] != pid
        assert "sleep 1000 was ended by signal KILL" in status["last-error"]

    real(main)


@pytest.mark.parametrize(
    ("restart", "command", "event"),
    [
        ("permanent", "true", "DaemonRestarted"),
        ("transient", "false", "DaemonRestarted"),
        ("transient", "true", "DaemonStopped"),
        ("temporary", "false", "DaemonCrashed"),
    ],
)
def test_the_restart_type_decides(restart, command, event):
    """Code 0 is a normal end; permanent starts again anyway, temporary never."""

    async def main(world, happened):
        await world.spawn(Service, "brief", command=command, restart=restart)
        await until(happened, event, "brief")

    real(main)


def test_what_it_prints_is_in_the_log_under_its_name():
    """Both streams, from the first line on, also of a start that fails."""

    async def main(world, happened):
        entries = logged(world)
        await world.spawn(
            Service,
            "talk",
            command="sh -c 'echo out; echo err >&2; echo up; sleep 1000'",
            ready="line:up",
        )
        with pytest.raises(NotRunning):
            await world.spawn(
                Service, "fall", command="sh -c 'echo oh no; exit 1'", ready="line:up"
            )
        said = {(entry.source, entry.text) for entry in entries}
        assert {
            ("d9://service/default/talk", "out"),
            ("d9://service/default/talk", "err"),
            ("d9://service/default/fall", "oh no"),
        } <= said
        streams = {
            entry.text: entry.fields["stream"] for entry in entries if "stream" in entry.fields
        }
        assert (streams["out"], streams["err"]) == ("stdout", "stderr")

    real(main)


def test_a_start_that_fails_says_why():
    """No such program, an end before readiness, too long, a port that is taken."""

    async def main(world, happened):
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for error, config in (
            (NotExecutable, {"command": "nonesuch"}),
            (NotRunning, {"command": "false", "ready": "notify"}),
            (TimedOut, {"command": "sleep 1000", "ready": "line:up", "ready_within": 0.05}),
            (AddressInUse, {"command": "sleep 1000", "ready": f"port:{port}"}),
        ):
            with pytest.raises(error):
                await world.spawn(Service, "bad", **config)
        server.close()
        for row in await world.ask("process", "list"):
            await ended(row["pid"])

    real(main)


def test_a_stop_reaches_what_the_program_started():
    """The whole session ends, stubborn ones by KILL after the grace."""

    async def main(world, happened):
        command = "sh -c 'trap \"\" TERM; sleep 1000 & echo $!; sleep 1000'"
        entries = logged(world)
        await world.spawn(Service, "stub", command=command, ready="line:.", grace=0.1)
        grandchild = int(entries[0].text)
        await world.ask("stub", "stop")
        await ended(grandchild)
        assert await world.ask("process", "list") == []

    real(main)


def test_a_program_that_ends_takes_its_background_along():
    """What it left running is ended before it is started again."""

    async def main(world, happened):
        entries = logged(world)
        await world.spawn(
            Service,
            "brief",
            command="sh -c 'sleep 1000 & echo $!'",
            restart="temporary",
            ready="line:.",
        )
        await ended(int(entries[0].text))

    real(main)


def test_the_stop_signal_is_the_one_declared():
    """`stop_signal` asks the program to end in its own way."""

    async def main(world, happened):
        entries = logged(world)
        command = "sh -c 'trap \"echo bye; exit 0\" INT; echo up; while :; do sleep 0.01; done'"
        await world.spawn(Service, "polite", command=command, stop_signal="INT", ready="line:up")
        await world.ask("polite", "stop")
        assert "bye" in [entry.text for entry in entries]

    real(main)


def test_it_falls_and_rises_with_the_process_daemon():
    """When the process daemon restarts, the program is started anew by the new one."""

    async def main(world, happened):
        await world.spawn(Service, "nap", command="sleep 1000")
        pid = world.status_of("nap")["pid"]
        await world.ask("process", "restart")
        await until(happened, "DaemonRestarted", "nap")
        assert world.status_of("nap")["pid"] != pid
        assert len(await world.ask("process", "list")) == 1

    real(main)


def test_six_services_run_as_a_procfile_says(tmp_path):
    """Six programs start in order, each when the one before is ready, and stop in reverse.

    One of them falls: the rest go on and it comes back.
    """
    listen = (
        "import socket,signal; s=socket.create_server(('127.0.0.1', 0)); "
        "print('on', s.getsockname()[1], flush=True); signal.pause()"
    )
    steps = tmp_path / "steps"
    programs = {
        "db": ([sys.executable, "-S", "-c", listen], "line:on"),
        "cache": (f"sh -c 'echo cache >> {steps}; echo ready; exec sleep 1000'", "line:ready"),
        "queue": (
            f"sh -c 'echo queue >> {steps}; echo > queue.pid; exec sleep 1000'",
            "file:queue.pid",
        ),
        "worker": (f"sh -c 'echo worker >> {steps}; exec sleep 1000'", ""),
        "web": (f"sh -c 'echo web >> {steps}; echo up >&2; exec sleep 1000'", "line:^up$"),
        "proxy": (f"sh -c 'echo proxy >> {steps}; echo up; exec sleep 1000'", "line:up"),
    }

    class Procfile(Supervisor, type="supervisor"):
        """Starts the six in order."""

        children = tuple(
            ChildSpec(
                Service,
                name,
                config={"command": command, "ready": ready, "cwd": str(tmp_path)},
                backoff=Backoff(first_s=0.01),
            )
            for name, (command, ready) in programs.items()
        )

    async def main(world, happened):
        await world.spawn(Procfile, "procfile")
        order = [name for kind, name in drained(happened) if kind == "DaemonStarted"]
        assert [name for name in order if name in programs] == list(programs)
        assert steps.read_text().split() == ["cache", "queue", "worker", "web", "proxy"]
        pids = {name: world.status_of(name)["pid"] for name in programs}
        await world.ask("process", "kill", pid=pids["queue"], signal="KILL")
        await until(happened, "DaemonRestarted", "queue")
        now = {name: world.status_of(name)["pid"] for name in programs}
        assert {name for name in programs if now[name] != pids[name]} == {"queue"}
        await world.ask("procfile", "stop")
        order = [name for kind, name in drained(happened) if kind == "DaemonStopped"]
        assert [name for name in order if name in programs] == list(reversed(programs))
        assert await world.ask("process", "list") == []

    real(main)


def drained(happened):
    """Return what has happened so far."""
    return [happened.get_nowait() for _ in range(happened.qsize())]
