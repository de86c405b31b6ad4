"""What any process daemon must do, whoever runs the processes.

Each check takes the system and speaks only in messages to `PROCESS`. The programs used are
few, so that a twin in memory can play them: true, false, echo, cat, sleep and `nonesuch`,
which is not there. `CONTRACT` lists the checks; tests/daemons/test_process_contract.py runs
them.
"""

import asyncio

import pytest

from dan9.base.errors import (
    BadPayload,
    Closed,
    NoSpace,
    NoSuchProcess,
    NotExecutable,
    TimedOut,
)
from dan9.kernel.daemon import Daemon, on

CONTRACT = []
PROCESS = "d9://process/test/process"


def check(function):
    """Enter a check in the contract."""
    CONTRACT.append(function)
    return function


def with_config(**config):
    """Enter a check that wants its daemon configured."""

    def enter(function):
        function.config = config
        return check(function)

    return enter


class Hearer(Daemon, type="hearer"):
    """Keeps what it is told of processes, in order, and can wait for the end."""

    async def on_start(self) -> None:
        self._heard = []
        self._over = asyncio.Event()

    @on
    def output(self, pid: int, stream: str, line: str) -> None:
        self._heard.append((stream, line))

    @on
    def exited(self, pid: int, code: int | None, signal: str | None) -> None:
        self._heard.append(("exited", code, signal))
        self._over.set()

    @on(concurrent=True)
    async def heard(self) -> list[list[str | int | None]]:
        await self._over.wait()
        return [list(one) for one in self._heard]


@check
async def run_replies_what_a_command_printed(world):
    """`run` answers code and output once the command has ended."""
    ran = await world.ask(PROCESS, "run", command="echo one two")
    assert (ran["code"], ran["signal"], ran["stdout"], ran["stderr"]) == (0, None, "one two\n", "")


@check
async def run_feeds_its_input(world):
    """`input` is all that the command reads."""
    ran = await world.ask(PROCESS, "run", command="cat", input="abc")
    assert ran["stdout"] == "abc"


@check
async def run_without_input_reads_nothing(world):
    """A command that reads meets the end at once."""
    assert (await world.ask(PROCESS, "run", command="cat"))["stdout"] == ""


@check
async def run_replies_bytes_without_an_encoding(world):
    """`encoding=None` leaves the output as it came."""
    ran = await world.ask(PROCESS, "run", command="cat", input=b"\xff\x00", encoding=None)
    assert ran["stdout"] == b"\xff\x00"


@check
async def run_takes_a_list_as_it_is(world):
    """A list is the argument vector; nothing in it is special."""
    ran = await world.ask(PROCESS, "run", command=["echo", "a  b", "$HOME", "*"])
    assert ran["stdout"] == "a  b $HOME *\n"


@check
async def run_appends_args(world):
    """`args` follow the command, unsplit."""
    ran = await world.ask(PROCESS, "run", command="echo a", args=["b c"])
    assert ran["stdout"] == "a b c\n"


@check
async def a_failing_command_is_an_answer(world):
    """A code other than 0 is no error of the daemon."""
    assert (await world.ask(PROCESS, "run", command="false"))["code"] == 1


@check
async def run_ends_at_its_timeout(world):
    """What takes longer is killed and refused as timed out."""
    with pytest.raises(TimedOut, match=r"sleep did not end within 0\.05 s and was killed"):
        await world.ask(PROCESS, "run", command="sleep 1000", timeout=0.05)
    assert await world.ask(PROCESS, "list") == []


@check
async def a_command_that_is_not_there_is_refused(world):
    """The refusal names the command and where it was looked for."""
    for type_ in ("run", "spawn"):
        with pytest.raises(NotExecutable, match=r"no command 'nonesuch' in PATH \(.+\)"):
            await world.ask(PROCESS, type_, command="nonesuch")


@check
async def bad_commands_are_refused(world):
    """Nothing to run, an open quotation mark and a NUL are bad payloads."""
    for command in ("", "  ", [], [""], "echo 'x", ["echo", "\0"]):
        with pytest.raises(BadPayload):
            await world.ask(PROCESS, "run", command=command)


@check
async def bad_settings_are_refused(world):
    """Every setting that is none is refused by name."""
    for key, value in {
        "limits": {"speed": 1},
        "env": {"A=B": "c"},
        "args": 3,
        "encoding": "utf-99",
        "timeout": "soon",
    }.items():
        with pytest.raises(BadPayload):
            await world.ask(PROCESS, "run", command="true", payload={key: value})
    for key, value in {"ready": "moon:full", "restart": "never", "deliver": ["smoke"]}.items():
        with pytest.raises(BadPayload):
            await world.ask(PROCESS, "spawn", command="true", payload={key: value})


@check
async def wait_replies_how_a_process_ended(world):
    """`wait` answers the exit status, also after the fact and more than once."""
    pid = await world.ask(PROCESS, "spawn", command="false")
    for _ in range(2):
        ended = await world.ask(PROCESS, "wait", pid=pid)
        assert (ended["code"], ended["signal"]) == (1, None)
        assert ended["cpu_seconds"] >= 0
        assert ended["peak_memory"] > 0


@check
async def wait_gives_up_at_its_timeout(world):
    """The process goes on when the waiter gives up."""
    pid = await world.ask(PROCESS, "spawn", command="sleep 1000")
    with pytest.raises(TimedOut, match="still runs after"):
        await world.ask(PROCESS, "wait", pid=pid, timeout=0.05)
    assert [one["pid"] for one in await world.ask(PROCESS, "list")] == [pid]


@check
async def many_wait_for_one(world):
    """Waiters do not stand in each other's way, nor in that of `kill`."""
    pid = await world.ask(PROCESS, "spawn", command="sleep 1000")
    waits = [asyncio.ensure_future(world.ask(PROCESS, "wait", pid=pid)) for _ in range(3)]
    await world.ask(PROCESS, "kill", pid=pid, signal="KILL")
    assert {(await one)["signal"] for one in waits} == {"KILL"}


@check
async def kill_sends_the_signal_that_it_names(world):
    """A signal goes by name, with SIG, or by number; TERM is the default."""
    for given, expected in {"HUP": "HUP", "sigint": "INT", 9: "KILL", "15": "TERM"}.items():
        pid = await world.ask(PROCESS, "spawn", command="sleep 1000")
        await world.ask(PROCESS, "kill", pid=pid, signal=given)
        assert (await world.ask(PROCESS, "wait", pid=pid))["signal"] == expected
    pid = await world.ask(PROCESS, "spawn", command="sleep 1000")
    await world.ask(PROCESS, "kill", pid=pid)
    assert (await world.ask(PROCESS, "wait", pid=pid))["signal"] == "TERM"


@check
async def kill_with_grace_replies_when_it_is_gone(world):
    """With a grace the reply says that nothing is left."""
    pid = await world.ask(PROCESS, "spawn", command="sleep 1000")
    await world.ask(PROCESS, "kill", pid=pid, grace=5)
    assert await world.ask(PROCESS, "list") == []


@check
async def processes_that_are_not_there_are_refused(world):
    """Every message about a process refuses one that there is not."""
    for type_ in ("kill", "wait", "info", "write", "output"):
        with pytest.raises(NoSuchProcess):
            await world.ask(PROCESS, type_, pid=2**22 + 1)
    pid = await world.ask(PROCESS, "spawn", command="true")
    await world.ask(PROCESS, "wait", pid=pid)
    with pytest.raises(NoSuchProcess, match=r"\(true\) has exited with code 0"):
        await world.ask(PROCESS, "kill", pid=pid)


@check
async def bad_signals_and_pids_are_refused(world):
    """No such signal, and numbers that mean whole groups to kill(2)."""
    with pytest.raises(BadPayload, match="there is no signal 'BOOM'"):
        await world.ask(PROCESS, "kill", pid=1, signal="BOOM")
    for pid in (0, -1):
        with pytest.raises(BadPayload, match="is no process id"):
            await world.ask(PROCESS, "kill", pid=pid)


@check
async def write_feeds_a_process_in_order(world):
    """Writes keep their order, and closing ends what the process reads."""
    pid = await world.ask(PROCESS, "spawn", command="cat")
    for word in ("a", "b", "c"):
        assert await world.ask(PROCESS, "write", pid=pid, data=word) == 1
    await world.ask(PROCESS, "write", pid=pid, close=True)
    assert (await world.ask(PROCESS, "wait", pid=pid))["code"] == 0
    assert await world.ask(PROCESS, "output", pid=pid) == "abc"
    with pytest.raises(Closed):
        await world.ask(PROCESS, "write", pid=pid, data="d")


@check
async def stdin_given_is_all_that_is_read(world):
    """With `stdin` the process reads that and then the end."""
    pid = await world.ask(PROCESS, "spawn", command="cat", stdin="all")
    await world.ask(PROCESS, "wait", pid=pid)
    assert await world.ask(PROCESS, "output", pid=pid) == "all"


@check
async def output_shows_the_last_lines(world):
    """`tail` lines from the end; the other stream is the other stream."""
    pid = await world.ask(PROCESS, "spawn", command="cat", stdin="1\n2\n3\n")
    await world.ask(PROCESS, "wait", pid=pid)
    for tail, text in {None: "1\n2\n3\n", 2: "2\n3\n", 0: ""}.items():
        assert await world.ask(PROCESS, "output", pid=pid, tail=tail) == text
    assert await world.ask(PROCESS, "output", pid=pid, stream="stderr") == ""
    with pytest.raises(BadPayload):
        await world.ask(PROCESS, "output", pid=pid, tail=-1)
    with pytest.raises(BadPayload):
        await world.ask(PROCESS, "output", pid=pid, stream="stdnone")


@check
async def output_is_delivered_line_by_line(world):
    """`deliver_to` gets every line, then the end."""
    hearer = await world.spawn(Hearer, "hearer")
    await world.ask(PROCESS, "spawn", command="cat", stdin="one\r\ntwo\nlast", deliver_to="hearer")
    assert await hearer.heard() == [
        ["stdout", "one"],
        ["stdout", "two"],
        ["stdout", "last"],
        ["exited", 0, None],
    ]


@check
async def deliver_chooses_what_is_told(world):
    """`deliver` leaves the rest untold."""
    hearer = await world.spawn(Hearer, "hearer")
    await world.ask(PROCESS, "spawn", command="echo x", deliver_to="hearer", deliver=["exited"])
    assert await hearer.heard() == [["exited", 0, None]]


@check
async def list_shows_what_runs(world):
    """`list` has those that were started here and run, with the fields that were asked for."""
    assert await world.ask(PROCESS, "list") == []
    pid = await world.ask(PROCESS, "spawn", command="sleep 1000")
    (row,) = await world.ask(PROCESS, "list", fields=["pid", "command"])
    assert row == {"pid": pid, "command": ["sleep", "1000"]}
    (row,) = await world.ask(PROCESS, "list")
    assert set(row) == {"pid", "name", "state", "ppid"}
    with pytest.raises(BadPayload, match="a process has no field 'mood'"):
        await world.ask(PROCESS, "list", fields=["mood"])


@check
async def info_shows_one_process(world):
    """`info` of one that runs has its facts; of one that ended, how it ended."""
    pid = await world.ask(PROCESS, "spawn", command="sleep 1000")
    info = await world.ask(PROCESS, "info", pid=pid)
    assert info["pid"] == pid
    assert info["command"] == ["sleep", "1000"]
    assert info["children"] == []
    await world.ask(PROCESS, "kill", pid=pid, grace=5)
    info = await world.ask(PROCESS, "info", pid=pid)
    assert (info["state"], info["signal"]) == ("ended", "TERM")


@with_config(max_processes=2)
async def too_many_processes_are_refused(world):
    """As many as the configuration says, and no more."""
    for _ in range(2):
        await world.ask(PROCESS, "spawn", command="sleep 1000")
    with pytest.raises(NoSpace, match="2 processes run already"):
        await world.ask(PROCESS, "spawn", command="sleep 1000")


@with_config(keep_ended=2)
async def only_the_newest_ended_are_remembered(world):
    """The oldest that ended give way."""
    pids = []
    for _ in range(3):
        pids.append(await world.ask(PROCESS, "spawn", command="true"))
        await world.ask(PROCESS, "wait", pid=pids[-1])
    with pytest.raises(NoSuchProcess):
        await world.ask(PROCESS, "wait", pid=pids[0])
    assert (await world.ask(PROCESS, "wait", pid=pids[1]))["code"] == 0


@check
async def getpid_is_the_nodes(world):
    """`getpid` is a number above 1, and always the same."""
    pid = await world.ask(PROCESS, "getpid")
    assert pid > 1
    assert pid == await world.ask(PROCESS, "getpid")


@check
async def restart_starts_again_until_it_is_killed(world):
    """A transient process is started again after a failure; killing the first pid ends that."""
    hearer = await world.spawn(Hearer, "hearer")
    pid = await world.ask(
        PROCESS, "spawn", command="false", restart="transient", deliver_to="hearer"
    )
    assert await hearer.heard() == [["exited", 1, None]]
    await world.ask(PROCESS, "kill", pid=pid)
    assert await world.ask(PROCESS, "list") == []
