"""What a command does with many daemons, against a client that only pretends."""

from __future__ import annotations

from typing import Any

import pytest

from dan9.base.errors import BadPayload, NotRunning, TimedOut, UnknownDaemon
from dan9.cli.session import NODE, Session

ADDRESSES = (
    "d9://supervisor/system/user",
    "d9://timer/system/timer",
    "d9://web/default/a",
    "d9://web/default/b",
    "d9://client/default/1",
    "d9://client/default/2",
)


class FakeClient:
    """Answers as a node would; `broken` is what some addresses answer instead."""

    address = "d9://client/default/1"

    def __init__(self, broken: dict[str, Exception] | None = None) -> None:
        self.broken = broken or {}
        self.asked: list[tuple[str, str, dict[str, Any], Any]] = []
        self.closed = False

    def ask(
        self, to: str, type_: str, /, *, payload: dict[str, Any], timeout_s: float | None = -1.0
    ) -> Any:
        """Answer."""
        self.asked.append((to, type_, payload, timeout_s))
        if to in self.broken:
            raise self.broken[to]
        if (to, type_) == (NODE, "ps"):
            return [{"address": one} for one in ADDRESSES]
        return f"{type_} done"

    def close(self) -> None:
        """Remember it."""
        self.closed = True


def session(broken: dict[str, Exception] | None = None, timeout: str | None = None) -> Session:
    """A session with a fake behind it."""
    found = Session(timeout=timeout)
    found._client = FakeClient(broken)  # type: ignore[assignment]  # as much of it as is used
    return found


def test_a_name_is_the_nodes_to_resolve() -> None:
    """Only patterns are expanded here."""
    assert session().targets("timer") == ["timer"]
    assert session().targets("/srv/web") == ["/srv/web"]


def test_a_pattern_never_means_the_one_who_asks() -> None:
    """Its presence in the node ends with the command."""
    assert session().targets("**") == [one for one in ADDRESSES if one != FakeClient.address]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**", ["d9://web/default/a", "d9://web/default/b"]),
        ("d9://*/system/*", ["d9://supervisor/system/user", "d9://timer/system/timer"]),
        ("d9://client/**", ["d9://client/default/2"]),
    ],
)
def test_the_node_itself_is_spared_unless_it_is_named(pattern: str, expected: list[str]) -> None:
    """`stop '**'` is about one's own daemons."""
    found = session().targets(pattern, spare_system=True)
    assert [one for one in found if one in expected] == expected


def test_a_pattern_that_fits_nobody_is_an_error() -> None:
    """Nothing done in silence would look like something done."""
    empty = session()
    empty.node = lambda *_a, **_k: []  # type: ignore[method-assign]  # a node with no daemons
    with pytest.raises(UnknownDaemon, match="no daemon fits 'x-\\*'"):
        empty.targets("x-*")


def test_one_refusal_does_not_keep_it_from_the_rest() -> None:
    """It is told at the end, and decides the exit status."""
    one = session({"d9://web/default/a": NotRunning("a is stopped")})
    rows = one.each("**", "suspend", spare_system=True)
    assert [row["address"] for row in rows] == ["d9://web/default/b"]
    assert one.status == 1
    assert [(error.text, error.address) for error in one.errors] == [
        ("a is stopped", "d9://web/default/a")
    ]


def test_the_first_failure_is_the_exit_status() -> None:
    """Here a deadline that passed, then a refusal."""
    one = session(
        {"d9://web/default/a": TimedOut("slow"), "d9://web/default/b": NotRunning("stopped")}
    )
    assert one.each("**", "suspend", spare_system=True) == []
    assert one.status == 4


def test_a_single_daemons_refusal_is_the_commands() -> None:
    """There is no rest to go on with."""
    with pytest.raises(NotRunning):
        session({"a": NotRunning("stopped")}).each("a", "status")


def test_keys_are_spelled_for_the_wire_and_nothing_is_left_out() -> None:
    """What is None was not said."""
    one = session()
    one.ask("a", "b", task_id=1, limit=None)
    assert one.client.asked[-1] == ("a", "b", {"task-id": 1}, -1.0)  # type: ignore[attr-defined]


def test_the_users_timeout_wins() -> None:
    """Over the message's own and over the verb's."""
    one = session(timeout="2m")
    one.ask("a", "b", wait_s=5.0)
    assert one.client.asked[-1][3] == 120.0  # type: ignore[attr-defined]
    with pytest.raises(BadPayload):
        Session(timeout="soon")


def test_the_connection_ends_with_the_command() -> None:
    """Also when the command fails."""
    one = session()
    with pytest.raises(KeyError), one:
        raise KeyError
    assert one.client.closed  # type: ignore[attr-defined]
