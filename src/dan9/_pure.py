"""Runs the kernel from its sources although it is compiled: `DAN9_PURE=1`.

Python prefers an extension module to the source beside it. For a debugger, a
coverage run, or to learn whether a fault is ours or the compiler's, the
environment variable turns this round without another installation.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

__all__ = ["prefer_sources"]


class _SourceFinder:
    """Finds the source of a module of Dan9 that is also there compiled."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the source's spec, or None to leave it to the other finders."""
        if not name.startswith("dan9."):
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is None or spec.origin is None:
            return None
        for suffix in EXTENSION_SUFFIXES:
            if spec.origin.endswith(suffix):
                source = Path(spec.origin[: -len(suffix)] + ".py")
                return spec_from_file_location(name, source) if source.exists() else None
        return None


def prefer_sources() -> None:
    """Import Dan9's modules from their sources from now on."""
    if not any(isinstance(finder, _SourceFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SourceFinder())
