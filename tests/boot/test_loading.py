"""From a path to a manifest: files that are not there, classes that do not fit."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dan9.base.errors import BadConfig, NotFound
from dan9.boot.children import address_of, child_spec, supervisor_spec
from dan9.boot.importing import load_class
from dan9.boot.loading import BadManifest, load_manifest
from dan9.boot.manifest import Manifest

MODULE = '''
from dan9.kernel.daemon import Config, Daemon, on

class Till(Daemon):
    """Takes money."""
    currency: Config[str]
    coins: int = 0

    @on
    def pay(self, coins: int) -> int:
        return coins

not_a_class = 3
class Plain: pass
'''


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a module `shop_till`; what was imported from it is forgotten."""
    (tmp_path / "shop_till.py").write_text(MODULE)
    (tmp_path / "shop_broken.py").write_text("1 / 0")
    (tmp_path / "shop_leaves.py").write_text("raise SystemExit(3)")
    (tmp_path / "shop_needy.py").write_text("import no_such_thing_at_all")
    before, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        if name.startswith("shop_"):
            del sys.modules[name]


def write(folder: Path, text: str) -> Path:
    """Write a configuration."""
    path = folder / "dan9.toml"
    path.write_text(text)
    return path


def faults(folder: Path, text: str) -> list[str]:
    """Load a configuration that must be wrong, and return its lines."""
    with pytest.raises(BadManifest) as caught:
        load_manifest(write(folder, text))
    return caught.value.lines


def test_no_configuration_is_a_configuration() -> None:
    """Without a file everything has its default."""
    assert load_manifest(None) == Manifest()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """It is named."""
    with pytest.raises(NotFound, match="no configuration"):
        load_manifest(tmp_path / "dan9.toml")


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    """The line of the first byte that is none is named."""
    path = tmp_path / "dan9.toml"
    path.write_bytes(b"[system]\nname = '\xff'\n")
    with pytest.raises(BadManifest) as caught:
        load_manifest(path)
    assert caught.value.lines == ["dan9.toml:2: the file: is no UTF-8 text (save it as UTF-8)"]


def test_classes_come_from_the_folder_of_the_file(folder: Path) -> None:
    """Wherever the command was given."""
    found = load_manifest(
        write(folder, '[daemon.t]\nrun = "shop_till:Till"\ncurrency = "eur"\ncoins = 3')
    )
    (plan,) = found
    assert address_of(plan) == "d9://till/default/t"
    spec = child_spec(plan)
    assert (spec.name, spec.config) == ("t", {"currency": "eur", "coins": 3})
    assert spec.restart == "permanent"


def test_fields_are_checked_against_the_class(folder: Path) -> None:
    """A wrong key, a wrong type and a missing one: all at once, each with its line."""
    text = """[daemon.t]
run = "shop_till:Till"
coins = "many"
currenc = "eur"
"""
    found = faults(folder, text)
    assert found[0].startswith("dan9.toml:1: daemon.t: Till needs currency")
    assert found[1].startswith("dan9.toml:3: daemon.t.coins: ")
    assert found[2] == (
        "dan9.toml:4: daemon.t.currenc: Till has no field currenc (did you mean currency?)"
    )


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("shop_nothing:Till", "no module 'shop_nothing'"),
        ("shop_till:Til", "the module shop_till has no 'Til' (did you mean Till?)"),
        ("shop_till:not_a_class", "shop_till:not_a_class is no daemon class"),
        ("shop_till:Plain", "shop_till:Plain is no daemon class"),
        ("shop_broken:X", "importing shop_broken failed: ZeroDivisionError: division by zero"),
        ("shop_leaves:X", "importing shop_leaves failed: SystemExit: 3"),
        (
            "shop_needy:X",
            (
                "importing shop_needy failed: ModuleNotFoundError: No module named"
                " 'no_such_thing_at_all'"
            ),
        ),
    ],
)
def test_a_class_that_cannot_be_had(folder: Path, target: str, expected: str) -> None:
    """Each way in which an import fails has its own word, in a file and by itself."""
    (line,) = faults(folder, f'[daemon.t]\nrun = "{target}"')
    assert line.startswith(f"dan9.toml:2: daemon.t.run: {expected}")
    with pytest.raises(BadConfig) as caught:
        load_class(target, str(folder))
    assert str(caught.value).startswith(expected)


@pytest.mark.parametrize("target", ["", "x", ":X", "x:", "x:1", "x:a.b"])
def test_a_target_that_is_none(target: str) -> None:
    """What is no module:Class is refused before anything is imported."""
    with pytest.raises(BadConfig, match="is no module:Class"):
        load_class(target)


def test_a_restart_table_becomes_a_backoff(folder: Path) -> None:
    """What is not said is the kernel's default, but never less than what is said."""
    text = '[daemon.t]\nrun = "shop_till:Till"\ncurrency = "eur"\nrestart = {backoff = "2m"}'
    (plan,) = load_manifest(write(folder, text))
    backoff = child_spec(plan).backoff
    assert (backoff.first_s, backoff.max_s, backoff.give_up_after) == (120.0, 120.0, 10)


def test_a_mailbox_is_the_daemons_own(folder: Path) -> None:
    """Two daemons of one class may have mailboxes of their own."""
    text = (
        '[daemon.t]\nrun = "shop_till:Till"\ncurrency = "eur"\n'
        'mailbox = {limit = 7, policy = "refuse"}'
    )
    (plan,) = load_manifest(write(folder, text))
    assert child_spec(plan).options == {"mailbox": 7, "policy": "refuse"}


def test_allow_is_handed_to_spawn(folder: Path) -> None:
    """In the kernel's form; a rule without messages allows every one."""
    text = (
        '[daemon.t]\nrun = "shop_till:Till"\ncurrency = "eur"\n'
        'allow = [{from = "d9://client/**", messages = ["pay"]}, {from = "till-*"}]'
    )
    (plan,) = load_manifest(write(folder, text))
    assert child_spec(plan).options["allow"] == [
        {"from": "d9://client/**", "messages": ["pay"]},
        {"from": "till-*"},
    ]


def test_allow_with_texts_is_the_class_s_own_if_it_has_such_a_field(folder: Path) -> None:
    """As network has; elsewhere it is a rule that is no table."""
    (plan,) = load_manifest(write(folder, '[daemon.network]\nallow = ["127.0.0.1"]'))
    assert (plan.allow, plan.fields) == ((), {"allow": ["127.0.0.1"]})
    text = '[daemon.t]\nrun = "shop_till:Till"\ncurrency = "eur"\nallow = ["till-*"]'
    (line,) = faults(folder, text)
    assert "daemon.t.allow[0]: must be a table" in line


def test_supervisors_hold_their_children_in_order(folder: Path) -> None:
    """Also those that are supervisors themselves."""
    one = '[daemon.{}]\nrun = "shop_till:Till"\ncurrency = "eur"\n'
    text = (
        one.format("a")
        + one.format("b")
        + '[supervisor.outer]\nchildren = ["b", "inner"]\nstrategy = "one_for_all"\n'
        + '[supervisor.inner]\nchildren = ["a"]\nintensity = 1\nperiod = "9s"\n'
    )
    found = load_manifest(write(folder, text))
    spec = supervisor_spec(found.supervisors[0], found)
    assert spec.config == {"strategy": "one_for_all", "intensity": 3, "period_s": 5.0}
    assert [child.name for child in spec.cls.children] == ["b", "inner"]
    inner = spec.cls.children[1]
    assert inner.config == {"strategy": "one_for_one", "intensity": 1, "period_s": 9.0}
    assert [child.name for child in inner.cls.children] == ["a"]
