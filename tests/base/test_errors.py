"""Errors keep their facts on every surface."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base import errors
from dan9.base.errors import (
    BadPayload,
    DaemonFailed,
    Dan9Error,
    Refused,
    TimedOut,
    from_form,
    to_form,
)

NAMED = [
    cls
    for cls in vars(errors).values()
    if isinstance(cls, type) and issubclass(cls, Dan9Error) and cls is not Dan9Error
]


def test_every_error_has_a_code_of_its_own() -> None:
    """A code names one class, `refused` excepted: it is the general no and the peer's no."""
    codes = [cls.code for cls in NAMED if cls is not Refused]
    assert len(codes) == len(set(codes))


def test_all_lists_every_error() -> None:
    """What is defined is exported."""
    assert {cls.__name__ for cls in NAMED} <= set(errors.__all__)


@pytest.mark.parametrize(
    "cls", [cls for cls in NAMED if cls.__name__ != "RestartIntensityExceeded"]
)
def test_an_error_survives_its_form(cls: type[Dan9Error]) -> None:
    """What the asker catches is what the daemon raised."""
    error = cls("it broke", hint="mend it", address="d9://a/b/c", message="read", at="path")
    again = from_form(to_form(error))
    expected = Refused if cls.code == "refused" else cls
    assert type(again) is expected
    assert (again.text, again.hint, again.address) == ("it broke", "mend it", "d9://a/b/c")
    assert (again.message, again.at, again.code) == ("read", "path", cls.code)


@given(st.lists(st.text(min_size=1), max_size=3), st.text(), st.text())
def test_chain_and_trace_survive(chain: list[str], text: str, trace: str) -> None:
    """A cycle's members and a traceback cross the wire."""
    error = DaemonFailed(text, chain=tuple(chain), trace=trace)
    again = from_form(to_form(error))
    assert (again.text, again.chain, again.trace) == (text, tuple(chain), trace)


def test_a_users_own_refusal_keeps_its_code() -> None:
    """Where the class is not known, the code still is."""
    form: dict[str, object] = {"error": {"code": "no-credit", "text": "pay first"}}
    error = from_form(form)
    assert isinstance(error, Refused)
    assert error.code == "no-credit"
    assert to_form(error) == form


def test_a_foreign_exception_is_a_crash() -> None:
    """What is no Dan9Error reads as `crashed`."""
    form = to_form(KeyError("x"), address="d9://a/b/c", message="read")
    assert form == {
        "error": {
            "code": "crashed",
            "text": "KeyError: 'x'",
            "address": "d9://a/b/c",
            "message": "read",
        }
    }


def test_errors_are_the_builtins_that_callers_expect() -> None:
    """`except TimeoutError`, `except LookupError` and `except ValueError` work."""
    assert issubclass(TimedOut, TimeoutError)
    assert issubclass(errors.UnknownDaemon, LookupError)
    assert issubclass(BadPayload, ValueError)


def test_the_text_ends_with_the_hint() -> None:
    """One line says what and what next."""
    assert str(Refused("no", hint="try again")) == "no (try again)"
    assert str(Refused("no")) == "no"


def test_a_users_class_does_not_take_a_codes_place() -> None:
    """`timed-out` is TimedOut, whoever derives from it."""

    class Later(TimedOut):
        code = "timed-out"

    assert Later.code == TimedOut.code
    assert type(from_form({"code": "timed-out", "text": "too late"})) is TimedOut
