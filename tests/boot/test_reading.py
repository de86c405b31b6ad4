"""Reading `dan9.toml`: what it declares, and everything that can be wrong in it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.boot.manifest import (
    Access,
    DaemonPlan,
    Fault,
    Mailbox,
    Manifest,
    Readiness,
    RestartPlan,
    SavePolicy,
    SupervisorPlan,
    changes,
)
from dan9.boot.reading import read_manifest
from tests.boot.writing import toml

SYSTEM = ("filesystem", "logging", "timer")
TYPES = (*SYSTEM, "pool", "swarm")


def read(text: str) -> Manifest | list[Fault]:
    """Read with a small world of known names."""
    return read_manifest(text, system=SYSTEM, types=TYPES)


def manifest(text: str) -> Manifest:
    """Read a text that must be right."""
    found = read(text)
    assert isinstance(found, Manifest), [str(fault) for fault in found]
    return found


def faults(text: str) -> list[str]:
    """Read a text that must be wrong, and return its faults as they are printed."""
    found = read(text)
    assert isinstance(found, list)
    return [str(fault) for fault in found]


def test_an_empty_file_is_a_system_with_every_daemon() -> None:
    """Nothing has to be said."""
    assert manifest("") == Manifest()


def test_everything_that_can_be_said() -> None:
    """Each key arrives in its final form, durations in seconds."""
    found = manifest(
        """
        [system]
        name = "home"
        daemons = "all"
        path = "lib"
        state-dir = "/var/lib/home"
        seed = 17

        [daemon.filesystem]
        root = "/srv"

        [daemon.web]
        run = "shop.web:Web"
        group = "shop"
        restart = {type = "transient", backoff = "1s", backoff-max = "1m", jitter = 0.1,
                   healthy-after = "2m", give-up-after = 5}
        after = ["db"]
                allow = [{from = "d9://client/**", messages = ["read_page", "stat"]}, {from = "*"}]
        mailbox = {limit = 50, policy = "drop-oldest"}
        checkpoint = {interval = "5m", on-stop = true, keep = 3}
        shutdown = "2s"
        page-size = 20

        [daemon.db]
        exec = "postgres -D data"
        ready = {when = "line:ready to accept", within = "30s"}
        restart = "permanent"
        mailbox = 10
        checkpoint = 60

        [daemon.crowd]
        type = "swarm"

        [supervisor.shop]
        strategy = "rest-for-one"
        intensity = 3
        period = "5s"
        children = ["db", "web"]
    """.replace(",\n                   ", ", ")
    )
    assert (found.name, found.path, found.seed) == ("home", ("lib",), 17)
    assert found.state_dir == "/var/lib/home"
    assert found.system_daemons == "all"
    named = manifest('[system]\ndaemons = ["filesystem", "logging"]')
    assert named.system_daemons == ("filesystem", "logging")
    assert [plan.name for plan in found] == ["filesystem", "db", "web", "crowd"]
    assert found.daemons[0] == DaemonPlan(
        "filesystem", "system", "filesystem", group="system", fields={"root": "/srv"}
    )
    assert found.daemons[1] == DaemonPlan(
        "db",
        "exec",
        "postgres -D data",
        restart=RestartPlan("permanent"),
        ready=Readiness("line:ready to accept", 30.0),
        mailbox=Mailbox(10),
        save=SavePolicy(interval_s=60.0),
    )
    assert found.daemons[2] == DaemonPlan(
        "web",
        "run",
        "shop.web:Web",
        group="shop",
        restart=RestartPlan("transient", 1.0, 60.0, 0.1, 120.0, 5),
        after=("db",),
        allow=(Access("d9://client/**", ("read-page", "stat")), Access("*")),
        mailbox=Mailbox(50, "drop-oldest"),
        save=SavePolicy(300.0, on_stop=True, keep=3),
        shutdown_s=2.0,
        fields={"page_size": 20},
    )
    assert found.supervisors == (SupervisorPlan("shop", ("db", "web"), "rest_for_one", 3, 5.0),)
    assert found.supervisor_of("web") == "shop"
    assert found.supervisor_of("crowd") is None


def test_every_fault_is_reported_at_once() -> None:
    """A file with a fault on nearly every line says all of them, in the order of lines."""
    text = """\
[system]
name = "My Home"
sead = 17
[daemon.web]
run = "shop.web:Web"
exec = "web"
restrat = "permanent"
restart = "sometimes"
[daemon.Bad_Name]
run = "x:Y"
after = ["wbe"]
[suprevisor.s]
children = []
"""
    assert faults(text) == [
        (
            "2: system.name: 'My Home' is no name (use 1 to 63 of a-z 0-9 . _ -, the first a letter"
            " or digit)"
        ),
        "3: system.sead: unknown key 'sead' (did you mean \"seed\"?)",
        "6: daemon.web.exec: both run and exec are given (give exactly one of them)",
        "8: daemon.web.restart: 'sometimes' is none of permanent, transient, temporary",
        (
            "9: daemon.Bad_Name: 'Bad_Name' is no name (use 1 to 63 of a-z 0-9 . _ -, the first a"
            " letter or digit)"
        ),
        "11: daemon.Bad_Name.after[0]: no daemon 'wbe' (did you mean \"web\"?)",
        "12: suprevisor: unknown key 'suprevisor' (did you mean \"supervisor\"?)",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a = " + "[" * 5000 + "]" * 5000,
            "1: the file: is nested too deeply (nothing here needs such depth)",
        ),
        (
            "[daemon.a",
            "1: at its end: this is no TOML: Expected ']' at the end of a table declaration",
        ),
        ("a = ", "1: at its end: this is no TOML: Invalid value"),
        (
            "[daemon.a]\n[daemon.b]\n[daemon.a]",
            (
                "3: column 10: this is no TOML: Cannot declare ('daemon', 'a') twice"
                " (a name or key may be given once; rename or remove one of the two)"
            ),
        ),
        ("[system]\nname = 3", "2: system.name: must be a text, not the number 3"),
        ("system = 3", "1: system: must be a table [system], not the number 3"),
        ("daemon = 3", "1: daemon: must be tables [daemon.NAME], not the number 3"),
        (
            '[daemon]\nrun = "a:B"',
            (
                "2: daemon.run: must be a table, not the text 'a:B'"
                " (as [daemon.run]; a key needs a name before it: daemon.NAME.run)"
            ),
        ),
        ('[system]\nseed = "x"', "2: system.seed: must be a whole number, not the text 'x'"),
        ("[system]\nseed = true", "2: system.seed: must be a whole number, not true or false"),
        ("[system]\npath = 3", "2: system.path: must be a list of texts, not the number 3"),
        ("[system]\npath = [\n'a',\n3]", "4: system.path[1]: must be a text, not the number 3"),
        ("[system]\ndaemons = 3", '2: system.daemons: must be "all", "none" or a list of names'),
        (
            '[system]\ndaemons = ["timr"]',
            "2: system.daemons[0]: no system daemon 'timr' (did you mean \"timer\"?)",
        ),
        (
            '[system]\ndaemons = "none"\n[daemon.timer]',
            (
                "3: daemon.timer: is set here but not started"
                " (name it in [system] daemons, or remove this table)"
            ),
        ),
        (
            "[daemon.a]",
            '1: daemon.a: says neither type, run nor exec (as run = "module:Class")',
        ),
        (
            '[daemon.a]\nrun = ""',
            "2: daemon.a.run: '' is no module:Class (as run = \"shop.till:Till\")",
        ),
        (
            '[daemon.a]\nrun = "shop.web"',
            "2: daemon.a.run: 'shop.web' is no module:Class (as run = \"shop.till:Till\")",
        ),
        ("[daemon.a]\nrun = 3", "2: daemon.a.run: must be a text, not the number 3"),
        (
            '[daemon.a]\nexec = " "',
            '2: daemon.a.exec: the command is empty (as exec = "ping -i 60 router")',
        ),
        (
            '[daemon.a]\ntype = "pol"',
            "2: daemon.a.type: no daemon type 'pol' (did you mean \"pool\"?)",
        ),
        (
            '[daemon.a]\nrun = "a:B"\ngroup = "x/y"',
            (
                "3: daemon.a.group: 'x/y' is no group"
                " (use 1 to 63 of a-z 0-9 . _ -, the first a letter or digit)"
            ),
        ),
        (
            '[daemon.timer]\ngroup = "mine"',
            "2: daemon.timer.group: a system daemon lives in group system (leave group out)",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nshutdown = "soon"',
            (
                "3: daemon.a.shutdown: 'soon' is no duration"
                " (write seconds, or text such as 250ms 30s 5m 2h 7d)"
            ),
        ),
        (
            '[daemon.a]\nrun = "a:B"\nshutdown = []',
            "3: daemon.a.shutdown: must be a duration, not a list",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nshutdown = nan',
            (
                "3: daemon.a.shutdown: nan is no duration: it must be finite, and 0 or more"
                " (write seconds, or text such as 250ms 30s 5m 2h 7d)"
            ),
        ),
        ('[daemon.a]\nrun = "a:B"\nmailbox = 0', "3: daemon.a.mailbox: must be 1 or more, not 0"),
        (
            '[daemon.a]\nrun = "a:B"\nmailbox = {policy = "drop"}',
            "3: daemon.a.mailbox.policy: 'drop' is none of wait, refuse, drop-oldest, drop-newest",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nmailbox = {limi = 3}',
            "3: daemon.a.mailbox.limi: unknown key 'limi' (did you mean \"limit\"?)",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nrestart = {backoff = "2m", backoff-max = "1m"}',
            "3: daemon.a.restart.backoff: 120 s is more than backoff-max, 60 s",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nrestart = {jitter = 2}',
            "3: daemon.a.restart.jitter: must be from 0 to 1, not 2",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nrestart = {jitter = "much"}',
            "3: daemon.a.restart.jitter: must be a number from 0 to 1, not the text 'much'",
        ),
        (
            '[daemon.a]\nrun = "a:B"\ncheckpoint = {on-stop = 1}',
            "3: daemon.a.checkpoint.on-stop: must be true or false, not the number 1",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nready = "notify"',
            (
                "3: daemon.a.ready: only a command (exec) has this"
                " (a class is ready when on_start returns)"
            ),
        ),
        (
            '[daemon.a]\nexec = "a"\nready = {when = "soon"}',
            (
                "3: daemon.a.ready.when: 'soon' is no sign of readiness"
                " (port:8080, port:HOST:8080, line:REGEX, file:/path or notify)"
            ),
        ),
        (
            '[daemon.a]\nrun = "a:B"\nallow = ["d9://**"]',
            "3: daemon.a.allow[0]: must be a table {…}, not the text 'd9://**'",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nallow = 1979-05-27',
            "3: daemon.a.allow: must be a list of tables {…}, not a date or time",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nallow = [\n {messages = ["x"]}]',
            '4: daemon.a.allow[0]: says no from (as {from = "d9://client/**", messages = […]})',
        ),
        (
            '[daemon.a]\nrun = "a:B"\nallow = [{from = "D9!"}]',
            (
                "3: daemon.a.allow[0].from: 'D9!' is no pattern"
                " (as d9://timer/**, d9://*/system/*, web-*)"
            ),
        ),
        (
            '[daemon.a]\nrun = "a:B"\npage-size = 1\npage_size = 2',
            "4: daemon.a.page_size: is given twice, as page-size and page_size",
        ),
        (
            '[daemon.a]\nrun = "a:B"\nafter = ["b"]\n[daemon.b]\nrun = "a:B"\nafter = ["a"]',
            "3: daemon.a.after: waits for itself: a > b > a (remove one of these after)",
        ),
        (
            (
                '[daemon.a]\nrun = "a:B"\nafter = ["b"]\n[daemon.b]\nrun = "a:B"\n'
                '[supervisor.s]\nchildren = ["a", "b"]'
            ),
            (
                "3: daemon.a.after: the order of a supervisor's children says otherwise: a > b > a"
                " (put the children in the order in which they can start)"
            ),
        ),
        (
            "[supervisor.s]",
            '1: supervisor.s: has no children (as children = ["db", "web"])',
        ),
        (
            '[supervisor.s]\nchildren = ["a"]',
            "2: supervisor.s.children[0]: no daemon or supervisor 'a'",
        ),
        (
            '[supervisor.s]\nchildren = ["s"]',
            "2: supervisor.s.children: supervises itself: s > s (remove one of these children)",
        ),
        (
            '[daemon.a]\nrun = "a:B"\n[supervisor.s]\nchildren = ["a", "a"]',
            "4: supervisor.s.children[1]: 'a' is twice (a child has one supervisor)",
        ),
        (
            (
                '[daemon.a]\nrun = "a:B"\n[supervisor.s]\nchildren = ["a"]\n'
                '[supervisor.t]\nchildren = ["a"]'
            ),
            (
                "6: supervisor.t.children[0]: 'a' is a child of 's' as well"
                " (a child has one supervisor)"
            ),
        ),
        (
            '[daemon.timer]\n[supervisor.s]\nchildren = ["timer"]',
            "3: supervisor.s.children[0]: 'timer' is a system daemon and has its supervisor",
        ),
        (
            '[daemon.a]\nrun = "a:B"\n[supervisor.a]\nchildren = []',
            (
                "3: supervisor.a: a daemon has the name 'a' as well"
                " (children are named by name alone; rename one of the two)"
            ),
        ),
        (
            '[supervisor.s]\nchildren = []\nstrategy = "all"',
            "3: supervisor.s.strategy: 'all' is none of one_for_one, one_for_all, rest_for_one",
        ),
        (
            "[supervisor.s]\nchildren = []\nintensity = -1",
            "3: supervisor.s.intensity: must be 0 or more, not -1",
        ),
        (
            '[system]\ndaemons = "none"\n[daemon.a]\nexec = "a"',
            "4: daemon.a.exec: needs the process daemon (name it in [system] daemons)",
        ),
        (
            '[system]\ndaemons = "none"\n[daemon.a]\nrun = "a:B"\ncheckpoint = 5',
            "5: daemon.a.checkpoint: needs the persistence daemon (name it in [system] daemons)",
        ),
        ("[systm]", "1: systm: unknown key 'systm' (did you mean \"system\"?)"),
    ],
)
def test_fault(text: str, expected: str) -> None:
    """Each kind of fault has one line that says where, what and what to write instead."""
    assert faults(text) == [expected]


def test_own_fields_are_checked_against_the_class() -> None:
    """The keys that are a daemon's own are the business of whoever knows its class."""
    found = read_manifest(
        '[daemon.a]\nrun = "a:B"\npage-size = "x"',
        check_fields=lambda plan, _path: [(key, "must be an int", "as 3") for key in plan.fields],
    )
    assert found == [Fault(3, "daemon.a.page-size", "must be an int", "as 3")]


@given(st.permutations(["a", "b", "c", "d"]))
def test_daemons_start_after_those_they_name(order: list[str]) -> None:
    """In whatever order they stand in the file."""
    after = {"a": "", "b": "after = 'a'", "c": "after = ['b']", "d": "after = ['c', 'a']"}
    text = "\n".join(f"[daemon.{name}]\nrun = 'a:B'\n{after[name]}" for name in order)
    assert [plan.name for plan in manifest(text)] == ["a", "b", "c", "d"]


@given(st.text(max_size=80))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Any text gives a manifest or faults, never an exception."""
    for one in (text, f"[system]\n{text}", f"[daemon.a]\n{text}", f"[supervisor.s]\n{text}"):
        assert isinstance(read(one), Manifest | list)


WORDS = st.sampled_from(
    ["system", "daemon", "a", "run", "after", "allow", "from", "mailbox", "limit", "restart"]
)
TREES = st.recursive(
    st.integers() | st.text(max_size=3) | st.booleans() | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
)


@given(TREES)
def test_no_shape_breaks_the_reader(tree: object) -> None:
    """Any value in any place gives a manifest or faults, never an exception."""
    text = f'[daemon.a]\nrun = "a:B"\nafter = {toml(tree, spread=False)}\nx.y = 3\n'
    for key in ("restart", "mailbox", "allow", "ready", "checkpoint", "group"):
        text = f"{text}\n{key} = {toml(tree, spread=False)}"
    assert isinstance(read(text), Manifest | list)


def test_changes_stop_in_reverse_and_start_in_order() -> None:
    """Applying a changed file touches only what is different."""
    one = "[daemon.{}]\nrun = 'a:B'\n"
    old = manifest(one.format("a") + one.format("b") + one.format("c") + one.format("d"))
    new = manifest(
        one.format("d") + one.format("b") + "by = 2\n" + one.format("e") + "after = 'b'\n"
    )
    assert [(change.what, change.plan.name) for change in changes(old, new)] == [
        ("remove", "c"),
        ("remove", "a"),
        ("replace", "b"),
        ("add", "e"),
    ]


def test_a_child_that_changes_its_supervisor_is_replaced() -> None:
    """The place in the tree is part of the declaration."""
    text = "[daemon.a]\nrun = 'a:B'\n"
    old = manifest(text)
    new = manifest(text + "[supervisor.s]\nchildren = ['a']\n")
    assert [change.what for change in changes(old, new)] == ["replace"]
    assert changes(new, new) == []
