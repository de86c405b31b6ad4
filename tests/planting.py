"""Planted bugs: is the soak able to find what it is for?

Each tests/planted/*.patch is a small mistake in the kernel, as one might make it. `make
planted` applies each to a copy of the sources and runs the soak on it, which must find it
within 200 seeds; on the unpatched copy it must find nothing. A soak that finds nothing proves
something only as long as this holds.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["PATCHES", "apply", "copied", "main", "soak"]

ROOT = Path(__file__).resolve().parent.parent
PATCHES = sorted((ROOT / "tests" / "planted").glob("*.patch"))
SEEDS = 200


@contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """Copy the sources, without what was compiled from them, to a folder of their own."""
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        target = Path(folder)
        ignore = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd")
        shutil.copytree(root / "src", target / "src", ignore=ignore)
        yield target


def apply(patch: Path, folder: Path, *, only_check: bool = False) -> str:
    """Apply a patch; return what git says of it, nothing if it fits."""
    done = subprocess.run(
        ["git", "apply", "-C1", *(["--check"] if only_check else []), str(patch)],
        cwd=folder,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def soak(folder: Path, seeds: int = SEEDS, first: int = 0) -> tuple[bool, str]:
    """Run the soak on the sources of a folder; return whether it found something, and what."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.soak", "--stop", "--seeds", str(seeds), "--from", str(first)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [line for line in done.stdout.splitlines() if line.startswith("seed ")]
    if done.returncode == 0:
        return False, done.stdout.strip()
    return bool(found), (found or done.stderr.strip().splitlines() or ["?"])[0]


def main(names: list[str]) -> int:
    """Plant each bug (or those named) and look for it; 1 if one was not found."""
    wrong = 0
    if not names:
        with copied() as folder:
            found, text = soak(folder, SEEDS)
            wrong += found
            sys.stdout.write(f"{'FOUND' if found else 'clean':9} (no patch) {text}\n")
            sys.stdout.flush()
    for patch in PATCHES:
        if names and patch.stem not in names:
            continue
        with copied() as folder:
            refusal = apply(patch, folder)
            found, text = (False, refusal) if refusal else soak(folder)
        wrong += not found
        sys.stdout.write(f"{'found' if found else 'NOT FOUND':9} {patch.stem}: {text}\n")
        sys.stdout.flush()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
