"""The compiled build that is measured: a copy of src/ with the extension modules beside it.

What stands in src/ itself may be uncompiled or stale, and a benchmark must not change that. So
the copy is made under build/, by `hatch_build.py`, and made again only when a source has
changed. A machine without a compiler measures the uncompiled kernel alone. DAN9_BUILT=folder
names one that was compiled before, for comparing two versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "ROOT", "compiled_source", "in_both"]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "build" / "benchmarks"


def compiled_source() -> Path | None:
    """Return the folder to import compiled Dan9 from; None if it cannot be compiled here."""
    if given := os.environ.get("DAN9_BUILT"):
        return Path(given)
    sys.path.insert(0, str(ROOT))
    import hatch_build

    target, stamp = RESULTS / "src", RESULTS / "src.stamp"
    digest = hashlib.sha256(sys.version.encode())
    sources = [path for kind in ("*.py", "*.c") for path in sorted((ROOT / "src").rglob(kind))]
    for path in [ROOT / "hatch_build.py", *sources]:
        digest.update(path.read_bytes())
    if target.exists() and stamp.exists() and stamp.read_text("ascii") == digest.hexdigest():
        return target
    shutil.rmtree(target, ignore_errors=True)
    stamp.unlink(missing_ok=True)
    shutil.copytree(ROOT / "src", target, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if not hatch_build.compile_modules(ROOT, target):
        return None
    stamp.write_text(digest.hexdigest(), "ascii")
    return target


def in_both(module: str, *arguments: str) -> dict[str, Any]:
    """Run `python -m module arguments` compiled and uncompiled; return the JSON of each.

    The keys are `compiled`, where there is a compiler, and `uncompiled`.
    """
    built = compiled_source()
    found = {}
    for name in ("compiled", "uncompiled")[built is None :]:
        environment = {
            **os.environ,
            "PYTHONPATH": f"{built or ROOT / 'src'}{os.pathsep}{ROOT}",
            "DAN9_PURE": "0" if name == "compiled" else "1",
        }
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
        found[name] = json.loads(done.stdout)
    return found
