"""Compiled modules and the sources beside them: after a pull they may be strangers.

Python prefers a compiled module to its source, and a kernel of which one half is old does
not fail, it hangs. In a checkout the build leaves a record of what it was made of, so
that this can be told before anything of the kernel is imported. An installed wheel has
no record and cannot come apart.
"""

from __future__ import annotations

import os
from pathlib import Path

from dan9.base.errors import BadConfig

__all__ = ["is_stale", "refuse_stale"]

ROOT = Path(__file__).parents[3]


def is_stale(root: Path = ROOT) -> bool:
    """True if the checkout's compiled modules were made of other sources than are there now."""
    record = root / "build" / "compiled.json"
    if os.environ.get("DAN9_PURE") == "1" or not record.exists():
        return False
    import hashlib
    import json

    said = json.loads(record.read_text("utf-8"))
    if not any((root / "src" / name).exists() for name in said["files"]):
        return False
    for name, digest in said["sources"].items():
        path = root / "src" / name
        if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            return True
    return False


def refuse_stale(root: Path = ROOT) -> None:
    """Let nothing start on compiled modules that are not of these sources.

    Raises:
        BadConfig: They are not.
    """
    if is_stale(root):
        raise BadConfig(
            "the compiled modules were made of other sources than are here now",
            hint="make compiled makes them anew; DAN9_PURE=1 goes without",
        )
