"""A Procfile of six services, as dan9.toml declares it."""

import asyncio
import sys

import pytest

from dan9.kernel.kernel import System
from dan9.testing import run

pytestmark = [pytest.mark.real, pytest.mark.slow]

SIX = """
[system]
name = "six"

[daemon.proxy]
exec = "sh -c 'echo proxy up; exec sleep 1000'"
ready = "line:up"
after = ["web"]

[daemon.web]
exec = "{python} -S -u -c 'import socket,signal; s=socket.create_server((\\"127.0.0.1\\", 0)); \
print(\\"on\\", s.getsockname()[1]); signal.pause()'"
ready = {{when = "line:^on [0-9]+$", within = "20s"}}
after = ["db", "cache"]

[daemon.cache]
exec = "sh -c 'echo cache up >&2; exec sleep 1000'"
ready = "line:cache up"

[daemon.db]
exec = "sh -c 'echo > {folder}/db.ready; exec sleep 1000'"
ready = "file:{folder}/db.ready"

[daemon.queue]
exec = "sh -c 'echo $COLOUR $(ulimit -n) $PWD; \
trap \\"echo bye; exit 0\\" INT; while :; do sleep 0.05; done'"
ready = "line:."
after = ["db"]
cwd = "{folder}"
stop-signal = "INT"
env = {{COLOUR = "red"}}
limits = {{files = 100}}

[daemon.worker]
exec = "sh -c 'exit 0'"
after = ["queue"]
restart = "transient"
"""


def test_six_services_run_as_declared(tmp_path):
    """In order of `after`, each when those before it are ready, with what was declared for it."""
    declared = tmp_path / "dan9.toml"
    declared.write_text(SIX.format(folder=tmp_path, python=sys.executable))
    started = []

    async def main():
        system = System("six", config=declared, daemons=["logging", "process"])
        worker_ended = asyncio.Event()

        def note(event):
            kind, name = type(event).__name__, getattr(event, "address", "").rpartition("/")[2]
            if kind == "DaemonStarted" and "/service/" in event.address:
                started.append(name)
            elif (kind, name) == ("DaemonStopped", "worker"):
                worker_ended.set()

        system.subscribe_events(note)
        async with system:
            assert sorted(started) == ["cache", "db", "proxy", "queue", "web", "worker"]
            for earlier, later in (
                ("db", "web"),
                ("cache", "web"),
                ("web", "proxy"),
                ("db", "queue"),
            ):
                assert started.index(earlier) < started.index(later)
            said = await said_by(system, "queue")
            assert said == [f"red 100 {tmp_path}"]
            assert await said_by(system, "cache") == ["cache up"]
            await worker_ended.wait()
            running = await system.ask("process", "list")
            assert len(running) == 5, "the worker has ended well and stays down"
            assert system.state_of("d9://service/default/worker") == "stopped"
            await system.ask("queue", "stop")
            assert (await said_by(system, "queue"))[-1] == "bye"

    run(main, real=True)


async def said_by(system, name):
    """Return the lines that the log has of one service."""
    return [entry["text"] for entry in await system.ask("logging", "display", source=name)]
