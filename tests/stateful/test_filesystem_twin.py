"""The filesystem in memory against the disk: the same calls, the same answers and refusals."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from dan9.base.errors import Refused
from dan9.daemons.diskfiles import DiskFiles
from dan9.testing.memory_filesystem import MemoryFiles

NAMES = ("a", "b", "link")
paths = st.lists(st.sampled_from(NAMES), min_size=0, max_size=3).map(lambda p: "/" + "/".join(p))
texts = st.sampled_from([b"", b"x", b"longer"])


class TwinFilesystems(RuleBasedStateMachine):
    """Whatever is done, both say the same and hold the same."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        for by_walk in (False, True):
            (self.folder / str(by_walk)).mkdir()
        self.all: list[Any] = [
            DiskFiles(
                str(self.folder / str(by_walk)),
                read_only=False,
                max_read_bytes=1000,
                max_entries=1000,
                by_walk=by_walk,
            )
            for by_walk in (False, True)
        ]
        self.all.append(MemoryFiles(lambda: 1.0, max_read_bytes=1000, max_entries=1000))

    def teardown(self) -> None:
        for files in self.all:
            files.close()
        shutil.rmtree(self.folder)

    def same(self, call: Callable[[Any], Any]) -> None:
        """Do it to all; the answers must be one."""
        answers = []
        for files in self.all:
            try:
                answers.append(call(files))
            except Refused as refusal:
                answers.append(refusal.code)
        assert answers[1:] == answers[:-1], answers

    @rule(
        path=paths, content=texts, append=st.booleans(), parents=st.booleans(), atomic=st.booleans()
    )
    def write(self, path: str, content: bytes, append: bool, parents: bool, atomic: bool) -> None:
        self.same(
            lambda f: f.write(path, content, append=append, create_parents=parents, atomic=atomic)
        )

    @rule(path=paths, parents=st.booleans(), exist_ok=st.booleans())
    def mkdir(self, path: str, parents: bool, exist_ok: bool) -> None:
        self.same(lambda f: f.mkdir(path, parents=parents, exist_ok=exist_ok))

    @rule(path=paths, recursive=st.booleans())
    def delete(self, path: str, recursive: bool) -> None:
        self.same(lambda f: f.delete(path, recursive=recursive))

    @rule(source=paths, goal=paths, replace=st.booleans())
    def rename(self, source: str, goal: str, replace: bool) -> None:
        self.same(lambda f: f.rename(source, goal, replace=replace))

    @rule(source=paths, goal=paths, recursive=st.booleans(), replace=st.booleans())
    def copy(self, source: str, goal: str, recursive: bool, replace: bool) -> None:
        self.same(lambda f: f.copy(source, goal, recursive=recursive, replace=replace))

    @rule(folder=paths, text=st.sampled_from(["a", "/b", "../a", "/", ".", "a/../b", "link"]))
    def link(self, folder: str, text: str) -> None:
        """Somebody else makes a link, where there is room for one."""
        for by_walk in (False, True):
            place = self.folder / str(by_walk) / folder.lstrip("/")
            if place.is_symlink() or not place.is_dir() or place != place.resolve():
                return
            if (place / "link").is_symlink() or (place / "link").exists():
                return
            (place / "link").symlink_to(text)
        self.all[-1].link(f"{folder}/link", text)

    @rule(path=paths)
    def read(self, path: str) -> None:
        self.same(lambda f: f.open(path).read(0, None))

    @rule(path=paths, follow=st.booleans())
    def stat(self, path: str, follow: bool) -> None:
        def described(files: Any) -> list[object]:
            found = files.stat(path, follow=follow)
            size = 0 if found["type"] != "file" else found["size"]
            return [found["name"], found["path"], found["type"], size, found.get("target")]

        self.same(described)

    @invariant()
    def they_hold_the_same(self) -> None:
        def held(files: Any) -> list[object]:
            return [
                (e["path"], e["type"], e["size"] if e["type"] == "file" else 0)
                for e in files.entries("/", recursive=True)
            ]

        self.same(held)


TestTwinFilesystems = TwinFilesystems.TestCase
TestTwinFilesystems.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
