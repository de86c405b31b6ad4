"""What the process daemon decides: commands, limits, signals, refusals."""

import errno
import shlex
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import (
    BadPayload,
    NoSpace,
    NotADirectory,
    NotExecutable,
    NotFound,
    PermissionRefused,
)
from dan9.daemons.process_rules import (
    Ended,
    Readiness,
    argv_of,
    environment_of,
    limits_of,
    parse_ready,
    signal_of,
    start_refusal,
)

WORDS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))


@given(WORDS.filter(lambda words: bool(words) and bool(words[0])))
def test_quoted_text_and_list_mean_the_same(words):
    """What shlex quotes is split back into the same arguments."""
    assert argv_of(shlex.join(words)) == argv_of(words) == words


def test_shell_characters_are_ordinary():
    """No variable, pattern, pipe or list of commands is meant by them."""
    assert argv_of("echo $HOME *.py | cat; ls &") == [
        "echo",
        "$HOME",
        "*.py",
        "|",
        "cat;",
        "ls",
        "&",
    ]


def test_environment_is_changed_not_replaced():
    """A text sets, None removes, the rest stays, and the base is untouched."""
    base = {"A": "1", "B": "2"}
    assert environment_of(base, {"B": None, "C": "3", "D": None}) == {"A": "1", "C": "3"}
    assert base == {"A": "1", "B": "2"}


@pytest.mark.parametrize("name", ["", "A=B", "A\0"])
def test_names_that_are_no_variables_are_refused(name):
    """An empty name, one with = and one with NUL cannot be in an environment."""
    with pytest.raises(BadPayload, match="cannot be an environment variable"):
        environment_of({}, {name: "x"})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"cpu": 2}, {"cpu": (2, 3)}),
        ({"cpu": "1.5s"}, {"cpu": (2, 3)}),
        ({"cpu": "2m"}, {"cpu": (120, 121)}),
        ({"memory": 4096}, {"memory": (4096, 4096)}),
        ({"memory": "64MB"}, {"memory": (2**26, 2**26)}),
        ({"memory": "1.5GiB"}, {"memory": (3 * 2**29, 3 * 2**29)}),
        ({"memory": "8k"}, {"memory": (8192, 8192)}),
        ({"files": "64", "processes": 5}, {"files": (64, 64), "processes": (5, 5)}),
        ({}, {}),
    ],
)
def test_limits_become_pairs(given, expected):
    """Sizes in powers of 1024, CPU in whole seconds with one more to say goodbye."""
    assert limits_of(given) == expected


@pytest.mark.parametrize(
    "given",
    [
        {"speed": 1},
        {"memory": "much"},
        {"memory": 0},
        {"memory": -1},
        {"memory": 2**63},
        {"memory": True},
        {"files": 1.5},
        {"files": None},
        {"cpu": "soon"},
        {"cpu": []},
        {"cpu": True},
        {"cpu": -1},
    ],
)
def test_what_is_no_limit_is_refused(given):
    """Each fault is a bad payload that names the limit."""
    with pytest.raises(BadPayload):
        limits_of(given)


@pytest.mark.parametrize("name", ["TERM", "term", "SIGTERM", "15", 15])
def test_a_signal_has_many_spellings(name):
    """By name in either case, with SIG, by number."""
    assert signal_of(name) is signal.SIGTERM


@pytest.mark.parametrize("name", ["", "SIG", "TERMINATE", "-9", 0, 999, "0"])
def test_what_is_no_signal_is_refused(name):
    """The refusal shows what was given."""
    with pytest.raises(BadPayload, match="there is no signal"):
        signal_of(name)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("notify", Readiness("notify")),
        ("port:8080", Readiness("port", "127.0.0.1", 8080)),
        ("port:[::1]:80", Readiness("port", "::1", 80)),
        ("port:db.example:5432", Readiness("port", "db.example", 5432)),
        ("line:ready.*", Readiness("line", "ready.*")),
        ("line:a:b", Readiness("line", "a:b")),
        ("file:/run/x", Readiness("file", "/run/x")),
    ],
)
def test_readiness_is_read(text, expected):
    """Four kinds, and nothing for none."""
    assert parse_ready(text) == expected


@pytest.mark.parametrize(
    "text",
    ["port", "port:", "port:0", "port:65536", "port:http", "line:", "line:(", "file:", "moon"],
)
def test_what_is_no_readiness_is_refused(text):
    """The refusal lists the kinds there are."""
    with pytest.raises(BadPayload, match=r"notify"):
        parse_ready(text)


@pytest.mark.parametrize(
    ("stage", "number", "error", "text"),
    [
        ("cwd", errno.ENOENT, NotFound, "cannot start in /there: no such file or directory"),
        ("cwd", errno.ENOTDIR, NotADirectory, "cannot start in /there"),
        ("cwd", errno.EACCES, PermissionRefused, "cannot start in /there: permission denied"),
        ("limits", errno.EPERM, PermissionRefused, "the limits for nonesuch cannot be set"),
        ("fork", errno.EAGAIN, NoSpace, "no process can be made"),
        ("cgroup", errno.EAGAIN, NoSpace, "no process can be made"),
        ("exec", errno.ENOENT, NotExecutable, r"no command 'nonesuch' in PATH \(/usr/bin\)"),
        ("exec", errno.E2BIG, BadPayload, "too long"),
        ("exec", errno.ENOMEM, NotExecutable, "nonesuch cannot be run"),
    ],
)
def test_each_failure_to_start_has_its_refusal(stage, number, error, text):
    """What the helper reports becomes a named refusal that says what and where."""
    with pytest.raises(error, match=text):
        raise start_refusal(
            stage, number, argv=["nonesuch"], cwd="/there", env={"PATH": "/usr/bin"}
        )


def test_a_missing_path_and_a_missing_interpreter_differ(tmp_path):
    """ENOENT for a file that is there means its first line."""
    script = tmp_path / "script"
    script.write_text("#!/nonesuch\n")
    for program, text in ((str(script), "its interpreter is missing"), ("./none", "there is no ")):
        with pytest.raises(NotExecutable, match=text):
            raise start_refusal("exec", errno.ENOENT, argv=[program], cwd=str(tmp_path), env={})


@pytest.mark.parametrize(
    ("status", "code", "name", "text"),
    [
        (0, 0, None, "exited with code 0"),
        (3, 3, None, "exited with code 3"),
        (-9, None, "KILL", "ended by signal KILL"),
        (-40, None, "RT40", "ended by signal RT40"),
    ],
)
def test_an_end_is_a_code_or_a_signal(status, code, name, text):
    """Never both; real-time signals have numbers."""
    ended = Ended.of(status, 0.1, 4096)
    assert (ended.code, ended.signal, str(ended)) == (code, name, text)
    assert ended.well == (status == 0)
