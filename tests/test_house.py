"""The house is in order: lint, types, layers, packaging and CI, as tests.

They are tests so that one command decides whether a change may land.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import hatch_build
from dan9._pure import _SourceFinder

ROOT = Path(__file__).resolve().parent.parent
SOURCES = sorted((ROOT / "src" / "dan9").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
CHECKS = {
    "lint": ["ruff", "check", "--quiet", "."],
    "format": ["ruff", "format", "--check", "."],
    "types": ["mypy", "--no-error-summary"],
    "layers": ["lint-imports", "--no-cache"],
    "spelling": ["codespell"],
}


def tracked() -> list[Path]:
    """List the files under version control that are there, or nothing outside a checkout."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return []
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    paths = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.house
@pytest.mark.timeout(300)
@pytest.mark.parametrize("check", CHECKS)
def test_sources_pass(check: str) -> None:
    """Lint, format, strict types, layers and spelling have nothing to say."""
    program, *arguments = CHECKS[check]
    path = Path(sys.executable).parent / program
    done = subprocess.run([path, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{check}:\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_module_says_what_it_is(path: Path) -> None:
    """Every module has a docstring, and names what it offers in `__all__`."""
    tree = ast.parse(path.read_text("utf-8"))
    assert ast.get_docstring(tree), "has no docstring"
    names = {
        target.id
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }
    assert "__all__" in names or path.name in {"__init__.py", "__main__.py"}, "has no __all__"


@pytest.mark.house
@pytest.mark.timeout(300)
def test_type_checkers_see_handlers() -> None:
    """Programs in tests/typing get exactly the errors that their comments announce."""
    paths = sorted((ROOT / "tests" / "typing").glob("*.py"))
    expected = {
        (path.name, number, code)
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        for code in re.findall(r"# E: ([\w-]+)$", line)
    }
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", *paths],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    pattern = r"([\w.]+\.py):(\d+): error: .*\[([\w-]+)\]$"
    found = {
        (name, int(line), code)
        for name, line, code in re.findall(pattern, done.stdout, re.MULTILINE)
    }
    assert found == expected, done.stdout + done.stderr


def _sleeps(tree: ast.AST) -> list[int]:
    """Return the lines that wait for the clock of the machine."""
    text = ast.unparse(tree)
    real = "real=True" in text or "mark.real" in text
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr="sleep")):
                lines.append(node.lineno)
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id="asyncio"), attr="sleep"), args=[delay, *_]
            ) if real and not (isinstance(delay, ast.Constant) and delay.value == 0):
                lines.append(node.lineno)
    return lines


def test_tests_do_not_sleep() -> None:
    """Tests wait for events; only in virtual time does sleeping cost nothing."""
    found = []
    for path in TESTS:
        if not path.name.startswith(("test_", "conftest")):
            continue  # programs that tests run
        text = path.read_text("utf-8")
        if ".sleep(" not in text:
            continue
        tree = ast.parse(text)
        whole = any(
            "pytestmark" in ast.unparse(node) and "mark.real" in ast.unparse(node)
            for node in tree.body
            if isinstance(node, ast.Assign)
        )
        for part in [tree] if whole else tree.body:
            found += [f"{path.relative_to(ROOT)}:{line}" for line in _sleeps(part)]
    assert found == []


def test_needed_programs_are_installed_in_ci() -> None:
    """Each program that a test needs has its package in .ci/packages."""
    rows = (ROOT / ".ci" / "packages").read_text("utf-8").splitlines()
    known = {row.split()[0] for row in rows if row.strip() and not row.startswith("#")}
    needed: set[str] = set()
    for path in TESTS:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            match node:
                case ast.Call(func=ast.Attribute(attr="needs"), args=names):
                    needed.update(ast.literal_eval(name) for name in names)
    assert needed <= known


def test_no_file_names_this_machine() -> None:
    """No file names a registry's host, nor a path that only one machine has."""
    words = [
        "pypi" + ".org",
        "pythonhosted" + ".org",
        "/wor" + "k/",
        "/roo" + "t/",
        "debian" + ".org",
    ]
    pattern = re.compile("|".join(map(re.escape, words)))
    found = []
    for path in tracked():
        if path.name == "LICENSE":
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in set(pattern.findall(text))]
    assert found == []


def test_constraints_name_versions_only() -> None:
    """The constraints are lines of the form name==version."""
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines():
        assert line.startswith("#") or re.fullmatch(r"[\w.-]+==[\w.]+", line), line


def test_every_dependency_is_constrained() -> None:
    """What the project and its development need is pinned for the tests."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    }
    names = {re.split(r"[<>=!;\[ ]", entry)[0].lower() for entry in wanted}
    assert names <= pinned


def test_compiled_modules_exist() -> None:
    """The lists of what is compiled and linked name files that are there."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["dan9"]
    named = table["compiled"] + table["linked"]
    assert [name for name in named if not (ROOT / "src" / name).exists()] == []


def test_architecture_names_every_layer() -> None:
    """The page on the architecture says what each folder is for."""
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text("utf-8")
    folders = {path.parent.name for path in SOURCES if path.parent.parent.name == "dan9"}
    assert {name for name in folders if f"`{name}" not in page} == set()


def test_change_fragments_say_their_kind() -> None:
    """A fragment in changes/ is called NN.kind.md."""
    kinds = "breaking|feature|fix|deprecated|doc"
    for path in (ROOT / "changes").iterdir():
        assert path.name == "README.md" or re.fullmatch(rf"\d+\.({kinds})\.md", path.name), path


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a project with one module to compile, and a compiler that only pretends."""
    (tmp_path / "pyproject.toml").write_text(
        '[tool.dan9]\ncompiled = ["dan9/kernel/box.py"]\nlinked = ["dan9/kernel/lid.c"]\n', "utf-8"
    )
    source = tmp_path / "src" / "dan9" / "kernel" / "box.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1\n", "utf-8")
    source.with_name("lid.c").write_text("int x = 1;\n", "utf-8")

    def pretend(_root: Path, modules: list[str], _work: Path, target: Path) -> list[Path]:
        built = [target / Path(name).with_suffix(EXTENSION_SUFFIXES[0]) for name in modules]
        for path in built:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"")
        return built

    monkeypatch.setattr(hatch_build, "_mypyc", pretend)
    monkeypatch.setattr(hatch_build, "_missing", lambda: "")
    return tmp_path


@pytest.mark.parametrize("edited", ["box.py", "lid.c"])
def test_in_place_build_is_noticed_when_stale(toy: Path, edited: str) -> None:
    """A compiled module is recorded, found stale after an edit, and removed by pure."""
    assert hatch_build.state(toy) == "pure"
    assert hatch_build.in_place(toy)
    assert hatch_build.state(toy) == "compiled"
    (toy / "src" / "dan9" / "kernel" / edited).write_text("x = 2\n", "utf-8")
    assert hatch_build.state(toy) == "stale"
    assert hatch_build.in_place(toy)
    assert hatch_build.state(toy) == "compiled"
    hatch_build.pure(toy)
    assert hatch_build.state(toy) == "pure"
    assert list((toy / "src").rglob("*" + EXTENSION_SUFFIXES[0])) == []


def test_build_without_compiler_is_pure(
    toy: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No compiler means pure Python and one line that says why; required, it is an error."""
    monkeypatch.setattr(hatch_build, "_missing", lambda: "no C compiler was found")
    assert not hatch_build.in_place(toy)
    assert hatch_build.state(toy) == "pure"
    (line,) = capsys.readouterr().out.splitlines()
    assert "pure Python" in line
    assert "no C compiler was found" in line
    with pytest.raises(SystemExit, match="no C compiler"):
        hatch_build.in_place(toy, required=True)


def test_missing_compiler_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty PATH has no compiler, and the reason says what to install."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert "install gcc" in hatch_build._missing()


def test_dan9_pure_prefers_sources(tmp_path: Path) -> None:
    """With DAN9_PURE=1 the source is imported although it stands beside an extension module."""
    (tmp_path / f"box{EXTENSION_SUFFIXES[0]}").write_bytes(b"")
    find = _SourceFinder.find_spec
    assert find("dan9.box", [str(tmp_path)]) is None, "no source: the extension must do"
    (tmp_path / "box.py").write_text("x = 1\n", "utf-8")
    spec = find("dan9.box", [str(tmp_path)])
    assert spec is not None
    assert spec.origin == str(tmp_path / "box.py")
    assert find("other.box", [str(tmp_path)]) is None


def test_help_lists_the_targets() -> None:
    """Plain make says what it can do."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("needs make")
    environment = {key: value for key, value in os.environ.items() if key != "MAKEFLAGS"}
    done = subprocess.run(
        [make, "help"], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert "make run" in done.stdout
    assert "make test" in done.stdout
