"""From a path to a checked manifest: the reading of files and the import of classes.

`reading.py` decides what is right; this fetches what it needs for that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from dan9.base.errors import BadConfig, NotFound, PermissionRefused
from dan9.boot.catalogue import SERVICE, SYSTEM, TYPES
from dan9.boot.importing import load_class, search_in
from dan9.boot.manifest import DaemonPlan, Fault, Manifest
from dan9.boot.reading import read_manifest
from dan9.kernel.daemon import Daemon

__all__ = ["BadManifest", "class_of", "load_manifest"]


class BadManifest(BadConfig):
    """A configuration with at least one fault; nothing of it was started.

    Attributes:
        faults: Each of them, by line.
        lines: The same as `file:line: key: what (what instead)`.
    """

    def __init__(self, file: str, faults: list[Fault]) -> None:
        self.faults = tuple(faults)
        self.lines = [f"{file}:{fault}" for fault in faults]
        super().__init__("; ".join(self.lines), at=f"line {faults[0].line}")


def load_manifest(path: Path | None) -> Manifest:
    """Read and check a configuration; without a path, the one that says nothing.

    Raises:
        BadManifest: Something in it is wrong.
        NotFound, PermissionRefused: It cannot be read.
    """
    if path is None:
        return Manifest()
    folder = path.parent
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise NotFound(f"no configuration {path}", hint="check the path after -c") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        fault = Fault(line, "the file", "is no UTF-8 text", "save it as UTF-8")
        raise BadManifest(path.name, [fault]) from None
    except OSError as error:
        raise PermissionRefused(
            f"cannot read {path}: {error.strerror}", hint="check the path and its permissions"
        ) from None

    def check(plan: DaemonPlan, more: tuple[str, ...]) -> list[tuple[str, str, str]]:
        search(folder, more)
        return check_fields(plan)

    found = read_manifest(text, system=SYSTEM, types=TYPES, check_fields=check)
    if not isinstance(found, Manifest):
        raise BadManifest(path.name, found)
    search(folder, found.path)
    return replace(found, source=str(path))


def search(folder: Path, more: tuple[str, ...]) -> None:
    """Let `run` look into the configuration's folder, then into those that it names."""
    for one in (*reversed(more), "."):
        search_in(str((folder / one).resolve()))


def class_of(plan: DaemonPlan) -> type[Daemon]:
    """Return the class that a plan means; raise BadConfig if it cannot be imported."""
    if plan.kind == "exec":
        return load_class(SERVICE)
    targets: Mapping[str, str] = {**TYPES, **SYSTEM}
    return load_class(plan.target if plan.kind == "run" else targets[plan.target])


def check_fields(plan: DaemonPlan) -> list[tuple[str, str, str]]:
    """Check a plan's own keys against its class: (key, what is wrong, what to do) of each fault."""
    try:
        cls = class_of(plan)
    except BadConfig as error:
        return [(plan.kind if plan.kind != "system" else "", error.text, error.hint)]
    fields = cls._d9_fields
    faults = []
    for name, value in plan.fields.items():
        try:
            fields.convert(name, value)
        except BadConfig as error:
            faults.append((name, error.text.removeprefix(f"{cls.__qualname__}: "), error.hint))
    given = {*plan.fields, *(("command", "ready") if plan.kind == "exec" else ())}
    for name in fields.required:
        if name not in given:
            says = fields.all[name].shape.says
            key = name.replace("_", "-")
            faults.append(("", f"{cls.__qualname__} needs {key}", f"give {key}: {says}"))
    return faults
