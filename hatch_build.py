"""Compiles the kernel with mypyc, for the wheel and in place.

The same source runs compiled and uncompiled, so a build without a C compiler
is a build all the same: it is slower, and says so in one line. The list of
compiled modules stands in pyproject.toml, `[tool.dan9] compiled`, and nowhere
else. Two users:

- hatchling, when it builds the wheel: `CustomBuildHook`.
- the Makefile, for the development install: `python hatch_build.py in-place`
  puts the extension modules beside their sources, where Python prefers them;
  `python hatch_build.py pure` takes them away again; `python hatch_build.py
  state` says which of the two stands.

Why not hatch-mypyc: it has no fallback when the compiler is missing, and no
way to tell that an extension module is older than its source.

What is built in place is recorded in `build/compiled.json` (not committed):
hashes of the sources, so that a stale extension module is noticed by
`is_stale` instead of confusing whoever edits the kernel.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # run as a program where only mypy is installed
    BuildHookInterface = object  # type: ignore[assignment, misc]

__all__ = ["CustomBuildHook", "compile_modules", "in_place", "is_stale", "pure", "state"]

ROOT = Path(__file__).resolve().parent
RECORD = "build/compiled.json"
GROUP = "dan9_kernel"
"""The one shared library, `dan9_kernel__mypyc`, that holds all compiled modules:
calls between modules of one group cost nothing."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Adds the compiled kernel to a wheel."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile into a temporary folder and list the results for the wheel."""
        if version == "editable" or os.environ.get("DAN9_PURE") == "1":
            return  # editable installs read src/, where `in_place` decides
        self._folder = Path(tempfile.mkdtemp(prefix="dan9-build-"))
        built = compile_modules(Path(self.root), self._folder)
        if not built:
            return
        build_data["pure_python"] = False
        build_data["infer_tag"] = True
        for path in built:
            build_data["force_include"][str(path)] = str(path.relative_to(self._folder))

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the temporary folder."""
        if folder := getattr(self, "_folder", None):
            shutil.rmtree(folder, ignore_errors=True)


def listed(root: Path = ROOT, kind: str = "compiled") -> list[str]:
    """Return the modules to compile, or the C to link to them, as paths relative to src/."""
    table = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    paths: list[str] = table["tool"]["dan9"].get(kind, [])
    return [path for path in paths if (root / "src" / path).exists()]


def compile_modules(root: Path, target: Path, *, required: bool = False) -> list[Path]:
    """Compile the listed modules; return the extension modules, made under `target`.

    Args:
        root: The folder of pyproject.toml.
        target: Where the extension modules go, laid out as in src/.
        required: Raise instead of falling back to pure Python.
    """
    modules = listed(root)
    if not modules:
        return []
    why_not = _missing()
    if not why_not:
        work = Path(tempfile.mkdtemp(prefix="dan9-mypyc-"))
        try:
            return _mypyc(root, modules, work, target)
        except subprocess.CalledProcessError as error:
            log = root / "build" / "mypyc.log"
            log.parent.mkdir(exist_ok=True)
            log.write_text(error.stdout, "utf-8")
            why_not = f"mypyc failed (all of it: build/mypyc.log): {_last_lines(error.stdout)}"
        finally:
            shutil.rmtree(work, ignore_errors=True)
    if required:
        raise SystemExit(f"dan9: the kernel could not be compiled: {why_not}")
    print(f"dan9: the kernel runs as pure Python, five to ten times slower: {why_not}", flush=True)
    return []


def _missing() -> str:
    """Say what is missing for compiling, or nothing."""
    compiler = (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]
    if not any(map(shutil.which, (compiler, "cc", "gcc", "clang"))):
        return "no C compiler was found (install gcc or clang to have it compiled)"
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        return f"Python's headers are missing: {header} (install python3-dev)"
    try:
        import mypyc  # noqa: F401
        import setuptools  # noqa: F401
    except ImportError as error:
        return f"{error.name} is not installed"
    return ""


def _mypyc(root: Path, modules: list[str], work: Path, target: Path) -> list[Path]:
    """Run mypyc and the compiler in a process of their own.

    setuptools and mypyc keep state in the process and read the working
    folder, so they get one each time. The sources are compiled from src/,
    with the project's own mypy settings.
    """
    # mypyc skips modules of the same name that are installed as extension
    # modules; the search path of the child therefore holds nothing of ours.
    subprocess.run(
        [sys.executable, __file__, "_child", str(root), str(work), str(target), *modules],
        check=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=root / "src",
    )
    return sorted(path for path in target.rglob("*") if path.suffix in {".so", ".pyd"})


def _child(root: Path, work: Path, target: Path, modules: list[str]) -> None:
    """Compile; runs in the child process, with src/ as its working folder."""
    from mypyc.build import mypycify
    from setuptools import Distribution
    from setuptools.command.build_ext import build_ext

    extensions = mypycify(
        [
            f"--config-file={root / 'pyproject.toml'}",
            f"--cache-dir={work / 'm'}",
            "--ignore-missing-imports",
            "--follow-imports=silent",  # a fault elsewhere must not stop the kernel
            *modules,
        ],
        group_name=GROUP,
        target_dir=str(work / "c"),
        opt_level=os.environ.get("DAN9_OPT_LEVEL", "3"),
        debug_level="0",
    )
    library = next(one for one in extensions if one.name == f"{GROUP}__mypyc")
    library.sources += listed(root, "linked")
    if os.name == "posix":  # our functions may call each other without the linker's table
        for extension in extensions:
            extension.extra_compile_args.append("-fvisibility=hidden")
    command = build_ext(Distribution({"name": "dan9", "ext_modules": extensions}))
    command.build_lib = str(target)
    command.build_temp = str(work / "o")
    command.ensure_finalized()
    command.run()


def in_place(root: Path = ROOT, *, required: bool = False) -> bool:
    """Put the compiled modules beside their sources; return False for pure Python."""
    source = root / "src"
    if not is_stale(root) and state(root) == "compiled":
        return True
    with tempfile.TemporaryDirectory(prefix="dan9-build-") as folder:
        built = compile_modules(root, Path(folder), required=required)
        pure(root)
        if not built:
            return False
        record: dict[str, Any] = {"sources": _hashes(root), "files": []}
        for path in built:
            relative = path.relative_to(folder)
            shutil.copy2(path, source / relative)
            record["files"].append(str(relative))
    (root / RECORD).parent.mkdir(exist_ok=True)
    (root / RECORD).write_text(json.dumps(record, indent=1), "utf-8")
    return True


def pure(root: Path = ROOT) -> None:
    """Remove the compiled modules that stand beside their sources."""
    source = root / "src"
    for name in _record(root).get("files", []):
        (source / name).unlink(missing_ok=True)
    (root / RECORD).unlink(missing_ok=True)


def state(root: Path = ROOT) -> str:
    """Return `compiled`, `stale` or `pure`."""
    if not _record(root):
        return "pure"
    return "stale" if is_stale(root) else "compiled"


def is_stale(root: Path = ROOT) -> bool:
    """Tell whether compiled modules stand in src/ that differ from their sources."""
    record = _record(root)
    if not record:
        return False
    missing = any(not (root / "src" / name).exists() for name in record["files"])
    return missing or record["sources"] != _hashes(root)


def _record(root: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
        record: dict[str, Any] = json.loads((root / RECORD).read_text("utf-8"))
        return record
    return {}


def _hashes(root: Path) -> dict[str, str]:
    """Hash what the build depends on: the modules, their interpreter, this file."""
    files = {name: root / "src" / name for name in listed(root) + listed(root, "linked")}
    hashes = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in files.items()}
    return {"python": sys.version, **hashes}


def _last_lines(output: str | None) -> str:
    lines = [line.strip() for line in (output or "").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return " | ".join((errors or lines)[-2:])


def main(arguments: list[str]) -> int:
    """Run the verb named on the command line."""
    match arguments:
        case ["_child", root, work, target, *modules]:
            _child(Path(root), Path(work), Path(target), modules)
        case ["in-place", *rest]:
            compiled = os.environ.get("DAN9_PURE") != "1" and in_place(
                required="--required" in rest
            )
            if compiled:
                print("dan9: the kernel is compiled")
            else:
                pure()
        case ["pure"]:
            pure()
            print("dan9: the kernel runs as pure Python")
        case ["state"]:
            print(state())
        case _:
            print("usage: python hatch_build.py in-place [--required] | pure | state")
            return 2
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
