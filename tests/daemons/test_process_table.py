"""The machine's processes as /proc shows them."""

import os

import pytest

from dan9.base.errors import BadPayload, NoSuchProcess
from dan9.daemons.process_helper import descendants
from dan9.daemons.process_table import FIELDS, check_fields, describe, processes


def test_every_field_of_oneself_is_there():
    """This process has all fields, and those that are known are right."""
    (row,) = processes(FIELDS, [os.getpid()])
    assert set(row) == set(FIELDS)
    assert row["pid"] == os.getpid()
    assert row["ppid"] == os.getppid()
    assert row["group"] == os.getpgrp()
    assert row["state"] == "running"
    assert row["memory"] > 1_000_000
    assert row["threads"] >= 1
    assert any("py" in word for word in row["command"])


def test_a_list_is_in_order_of_pid_and_leaves_out_the_dead():
    """Those that are not there are not mentioned."""
    pids = [row["pid"] for row in processes()]
    assert pids == sorted(pids)
    assert {1, os.getpid()} <= set(pids)
    assert processes(("pid",), [2**22 + 1]) == []


def test_unknown_fields_are_refused():
    """The refusal names the field and lists those there are."""
    assert check_fields(["pid"]) == ("pid",)
    with pytest.raises(BadPayload, match=r"no field 'mood'.*known: pid, name"):
        check_fields(["pid", "mood"])


def test_one_process_has_children_and_files():
    """`describe` shows whom it started and what it has open."""
    parent = describe(os.getppid())
    assert os.getpid() in parent["children"]
    with open(__file__) as file:
        assert file.name in describe(os.getpid())["open_files"]
    with pytest.raises(NoSuchProcess):
        describe(2**22 + 1)


def test_names_with_spaces_and_parentheses_are_whole(tmp_path):
    """The name of a program may hold what /proc uses as marks."""
    from dan9.daemons.process import Process
    from dan9.testing import run, system

    odd = tmp_path / "a ) (b"
    odd.symlink_to("/bin/sleep")

    async def main():
        async with system() as world:
            process = await world.spawn(Process, "process")
            pid = await process.spawn_([str(odd), "1000"])
            (row,) = await process.list_()
            assert row == {"pid": pid, "name": "a ) (b", "state": row["state"], "ppid": row["ppid"]}
            helper = world.status_of("process")["helper"]
            assert [one.pid for one in descendants(helper)] == [pid]

    run(main, real=True)
