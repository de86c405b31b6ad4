"""The life of a node: up, a second one, down, kill -9, and what is new after that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from dan9 import connect
from tests.cli.conftest import Shell


def ended(pid: int) -> bool:
    """True if a process runs no more; one that nobody has waited for has ended as well."""
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_up_and_down(shell: Shell) -> None:
    """Up is ready when it returns; down has ended the process when it does."""
    facts = shell("up", "--detach", "--json").json
    assert facts["node"] == "default"
    pid = facts["pid"]
    assert psutil.pid_exists(pid)
    assert Path(facts["socket"]).stat().st_mode & 0o777 == 0o600
    assert shell.well("down") == ""
    assert ended(pid)
    assert not Path(facts["socket"]).exists()
    assert shell.here("ps").status == 3


def test_a_second_node_of_the_name_is_refused(shell: Shell) -> None:
    """The line names the first one's process; another name is welcome."""
    pid = shell("up", "--detach", "--json").json["pid"]
    for words in (("up",), ("up", "--detach")):
        done = shell(*words)
        assert done.status == 1
        assert done.err.startswith("dan9: a node named default runs already")
        assert "dan9 down" in done.err
    assert shell.here("ps").status == 0
    assert shell.lock_holder("default") == pid


def test_a_killed_node_leaves_nothing_behind(shell: Shell) -> None:
    """Kill -9: no child lives on, and the next `up` takes the socket over."""
    facts = shell("up", "--detach", "--json").json
    pid = facts["pid"]
    child = int(shell.well("send", "process", "spawn", "command=sleep 600"))
    grandchild = shell(
        "send", "process", "spawn", "command=sh", 'args=["-c", "sleep 601 & wait"]', "--json"
    ).json
    family = psutil.Process(pid).children(recursive=True)
    assert {child, grandchild} <= {one.pid for one in family}
    os.kill(pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, alive
    assert Path(facts["socket"]).exists()
    again = shell("up", "--detach", "--json").json
    assert again["pid"] != pid
    assert shell.here("ps").status == 0


def test_a_node_killed_in_the_middle_of_a_request(shell: Shell) -> None:
    """The asker hears that the node ended, in one line."""
    pid = shell("up", "--detach", "--json").json["pid"]
    with shell.start("send", "process", "run", "command=sleep", 'args=["60"]') as asking:
        while not any(
            "sleep" in one.name() for one in psutil.Process(pid).children(recursive=True)
        ):
            assert asking.poll() is None
            os.sched_yield()
        os.kill(pid, signal.SIGKILL)
        out, err = asking.communicate(timeout=20)
    assert (asking.returncode, out) == (1, "")
    assert err.startswith("dan9: the node default ended the connection")
    assert err.count("\n") == 1


def test_the_foreground_ends_by_a_signal(shell: Shell) -> None:
    """SIGTERM and SIGINT alike: in good order, status 0, the socket gone."""
    for number in (signal.SIGTERM, signal.SIGINT):
        with shell.start("up") as running:
            assert running.stdout is not None
            line = running.stdout.readline()
            assert "default is running with" in line
            assert "Ctrl-C stops it" in line
            running.send_signal(number)
            _, err = running.communicate(timeout=20)
        assert (running.returncode, err) == (0, "")
        assert shell.here("ps").status == 3


def test_a_node_that_cannot_start_says_why(shell: Shell) -> None:
    """A daemon of the configuration that fails is named, and nothing is left running."""
    (shell.cwd / "bad.py").write_text(
        "from dan9 import Daemon\n"
        "class Bad(Daemon):\n"
        "    async def on_start(self):\n"
        "        raise RuntimeError('no money')\n"
    )
    (shell.cwd / "dan9.toml").write_text('[daemon.bad]\nrun = "bad:Bad"\nrestart = "temporary"\n')
    done = shell("up", "--detach")
    assert done.status == 1
    assert "d9://bad/default/bad" in done.err
    assert "no money" in done.err
    assert shell.here("ps").status == 3


def test_a_state_folder_that_cannot_be_written_is_a_named_refusal(shell: Shell) -> None:
    """In the foreground and detached, where the log comes before the lock; no traceback."""
    for words, name in ((("up",), "lock"), (("up", "--detach"), "node.log")):
        folder = shell.cwd / name
        (folder / name).mkdir(parents=True, mode=0o700)
        (shell.cwd / "dan9.toml").write_text(f'[system]\nstate-dir = "{folder}"\n')
        done = shell(*words)
        assert done.status == 1
        assert "is a directory" in done.err
        assert "name a folder to write to: state-dir" in done.err
        assert "Traceback" not in done.err
        (shell.cwd / "dan9.toml").write_text('[system]\nstate-dir = "/proc/self/no"\n')
        done = shell(*words)
        assert done.status == 1
        assert "cannot make /proc/self/no" in done.err
        assert "state-dir" in done.err
    assert shell.here("ps").status == 3


def test_a_whole_configuration(shell: Shell) -> None:
    """Classes, commands, supervisors, settings of system daemons, in their order."""
    (shell.cwd / "root").mkdir()
    (shell.cwd / "root" / "hello").write_text("hello")
    (shell.cwd / "parts.py").write_text(
        "from dan9 import Config, Daemon, on\n"
        "class Part(Daemon):\n"
        "    size: Config[int] = 1\n"
        "    @on\n"
        "    def show(self) -> int:\n"
        "        return self.size\n"
    )
    text = f"""
[system]
name = "plant"

[daemon.filesystem]
root = "{shell.cwd}/root"

[daemon.big]
run = "parts:Part"
after = ["loud"]
size = 9
mailbox = 3

[daemon.loud]
exec = "sh -c 'echo ready to go; exec sleep 600'"
ready = {{when = "line:ready to", within = "10s"}}

[daemon.small]
run = "parts:Part"
group = "little"
allow = [{{from = "d9://client/**", messages = ["status"]}}, {{from = "d9://part/**"}}]

[supervisor.pair]
strategy = "one_for_all"
children = ["loud", "big"]
"""
    (shell.cwd / "dan9.toml").write_text(text)
    done = shell("up", "--detach", "--json")
    assert done.status == 0, done
    assert done.json["node"] == "plant"
    assert shell.well("send", "filesystem", "read", "path=/hello") == "hello\n"
    assert shell.well("send", "big", "show") == "9\n"
    assert shell.here("status", "big", "--json").json["mailbox"]["limit"] == 3
    assert shell.here("status", "big", "--json").json["supervisor"].endswith("/pair")
    assert shell.here("status", "d9://part/little/small", "--json").json["state"] == "running"
    assert shell.here("status", "d9://service/default/loud", "--json").json["pid"] > 0
    assert "ready to go" in shell.well("logs", "--contains", "ready to go")

    refused = shell.here("send", "small", "show", "--json")
    assert (refused.status, refused.json["error"]["code"]) == (1, "not-allowed")

    changed = text.replace("[daemon.small]", "[daemon.tiny]").replace("/root", "/other")
    (shell.cwd / "other").mkdir()
    (shell.cwd / "dan9.toml").write_text(changed)
    rows = shell.here("reload", "--json").json
    assert [(row["what"], row["address"], row["state"]) for row in rows] == [
        ("remove", "d9://part/little/small", "gone"),
        ("replace", "d9://filesystem/system/filesystem", "running"),
        ("add", "d9://part/little/tiny", "running"),
    ]
    assert shell.here("reload", "--json").json == []
    assert shell.here("send", "filesystem", "read", "path=/hello").status == 1
    (shell.cwd / "dan9.toml").write_text("[systm]")
    done = shell.here("reload")
    assert done.status == 1
    assert "systm" in done.err
    assert shell.here("status", "tiny", "--json").json["state"] == "running"


def test_new_makes_a_system_that_runs(shell: Shell) -> None:
    """What `dan9 new` says to type next works."""
    out = shell.well("new", "garden")
    assert "garden/dan9.toml" in out
    shell.cwd = shell.cwd / "garden"
    shell.well("up", "--detach")
    assert shell.well("send", "greeter", "greet", "whom=world") == "hello, world\n"
    done = subprocess.run(
        [sys.executable, "-c", "from test_garden import *; test_greeter_greets()"],
        cwd=shell.cwd,
        env=shell.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


SLOW = """
import asyncio
from dan9 import Daemon, on

class Slow(Daemon):
    @on
    async def work(self, number: int) -> None:
        await asyncio.sleep(0.05)
        print("worked", number, flush=True)

    async def on_stop(self, reason):
        print("stopping", flush=True)

class Stuck(Daemon):
    async def on_stop(self, reason):
        print("stuck", flush=True)
        await asyncio.Event().wait()
"""


def test_down_drains_unless_now(shell: Shell) -> None:
    """What was queued is handled before the end; with --now it is not."""
    (shell.cwd / "slow.py").write_text(SLOW)
    log = shell.folder / "state" / "dan9" / "default" / "node.log"
    for words, told in (((), 3), (("--now",), 60)):
        shell.well("up", "--detach")
        shell.well("run", "slow:Slow")
        with connect(str(shell.folder / "run" / "dan9" / "default.sock")) as node:
            for number in range(told):
                node.tell("slow", "work", number=number)
            node.flush()
        shell.well("down", *words)
        text = log.read_text()
        assert text.count("stopping") == 1
        # Sixty take three seconds, which nobody waits for with --now.
        assert (text.count("worked") == told) is (not words)
        log.unlink()


def test_users_daemons_stop_before_those_of_the_system(shell: Shell) -> None:
    """So that a daemon that stops can still write a file or a log entry."""
    (shell.cwd / "last.py").write_text(
        "from dan9 import Daemon\n"
        "class Last(Daemon):\n"
        "    async def on_stop(self, reason):\n"
        f"        await self.ask('filesystem', 'write', path='{shell.cwd}/will', content='x')\n"
    )
    (shell.cwd / "dan9.toml").write_text('[daemon.one]\nrun = "last:Last"\n')
    shell.well("up", "--detach")
    shell.well("down")
    assert (shell.cwd / "will").read_text() == "x"
    (shell.cwd / "will").unlink()
    shell.well("up", "--detach")
    shell.well("stop", "one")
    (shell.cwd / "will").unlink()
    shell.well("run", "last:Last", "two")
    shell.well("down")
    assert (shell.cwd / "will").read_text() == "x"


def test_a_second_interrupt_ends_at_once(shell: Shell) -> None:
    """The first is in good order, which a daemon may hold up; the second is not."""
    (shell.cwd / "slow.py").write_text(SLOW)
    (shell.cwd / "dan9.toml").write_text(
        '[system]\ndaemons = "none"\n[daemon.stuck]\nrun = "slow:Stuck"\n'
    )
    with shell.start("up") as running:
        assert running.stdout is not None
        assert "default is running" in running.stdout.readline()
        running.send_signal(signal.SIGINT)
        assert running.stdout.readline() == "stuck\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(timeout=20) == 130
    shell.well("up", "--detach")  # the socket that was left behind is taken over
