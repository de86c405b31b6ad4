"""Modules in C that are linked into the library that mypyc makes (decision 11)."""

from __future__ import annotations

from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING

from dan9.base import frame

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["IS_COMPILED", "load"]

IS_COMPILED = not frame.__file__.endswith(".py")
"""True where mypyc's library is in use: all of it is, or nothing."""


def load(name: str) -> ModuleType:
    """Import a module that is in mypyc's library beside all others (PEP 489)."""
    import dan9_kernel__mypyc as library  # type: ignore[import-not-found]

    loader = ExtensionFileLoader(name, library.__file__)
    spec = spec_from_file_location(name, library.__file__, loader=loader)
    assert spec is not None
    return module_from_spec(spec)
