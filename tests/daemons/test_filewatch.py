"""Watching by inotify: what is reported, what is not, and that links lead nowhere."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dan9.daemons import filewatch
from dan9.daemons.beneath import Root
from dan9.daemons.filewatch import ADDED, DELETED, MODIFIED, Changes, Inotify

pytestmark = pytest.mark.skipif(not filewatch.has_inotify(), reason="inotify is Linux's")


class Eye:
    """A watch on a folder and what it has seen; reading it never waits."""

    def __init__(self, base: Path) -> None:
        self.base = base / "root"
        self.base.mkdir()
        (base / "outside").mkdir()
        self.root = Root(str(self.base))
        self.inotify = Inotify(self.root)

    def seen(self) -> dict[str, str]:
        changes = Changes()
        self.inotify.read(lambda _key, path, change: changes.add(path, change))
        return dict(changes.take())


@pytest.fixture
def eye(tmp_path: Path) -> Iterator[Eye]:
    """An eye with nothing to look at yet."""
    made = Eye(tmp_path)
    yield made
    made.inotify.close()
    made.root.close()


@pytest.mark.parametrize(
    ("happened", "said"),
    [
        ([ADDED, MODIFIED], ADDED),
        ([ADDED, MODIFIED, DELETED], None),
        ([MODIFIED, MODIFIED], MODIFIED),
        ([MODIFIED, DELETED], DELETED),
        ([DELETED, ADDED], MODIFIED),
        ([DELETED, ADDED, DELETED], DELETED),
        ([ADDED, DELETED, ADDED], ADDED),
    ],
)
def test_changes_are_summed_up(happened: list[str], said: str | None) -> None:
    """Several events of one file are one change: what it is now against what it was."""
    changes = Changes()
    for change in happened:
        changes.add("/f", change)
    assert changes.take() == ([("/f", said)] if said else [])
    assert not changes


def test_files_are_reported_as_they_come_change_and_go(eye: Eye) -> None:
    """Made, written, renamed, deleted: each is said once, in words."""
    eye.inotify.add("w", [], recursive=True, only=None)
    (eye.base / "f").write_text("x")
    assert eye.seen() == {"/f": ADDED}
    (eye.base / "f").write_text("y")
    assert eye.seen() == {"/f": MODIFIED}
    (eye.base / "f").rename(eye.base / "g")
    assert eye.seen() == {"/f": DELETED, "/g": ADDED}
    (eye.base / "g").unlink()
    assert eye.seen() == {"/g": DELETED}
    assert eye.seen() == {}


def test_a_new_folder_is_watched_with_what_is_in_it(eye: Eye) -> None:
    """What was put into a new folder before it could be watched is reported too."""
    eye.inotify.add("w", [], recursive=True, only=None)
    (eye.base / "a/b").mkdir(parents=True)
    (eye.base / "a/b/f").write_text("x")
    assert eye.seen() == {"/a": ADDED, "/a/b": ADDED, "/a/b/f": ADDED}
    (eye.base / "a/b/f").write_text("y")
    assert eye.seen() == {"/a/b/f": MODIFIED}
    (eye.base / "a").rename(eye.base.parent / "outside/a")
    assert eye.seen() == {"/a": DELETED}
    (eye.base.parent / "outside/a/b/f").write_text("z")
    assert eye.seen() == {}


def test_not_recursive_stays_in_its_folder(eye: Eye) -> None:
    """What happens further down is not reported."""
    (eye.base / "a").mkdir()
    eye.inotify.add("w", [], recursive=False, only=None)
    (eye.base / "a/f").write_text("x")
    (eye.base / "f").write_text("x")
    assert eye.seen() == {"/f": ADDED}


def test_one_file_is_watched_through_its_folder(eye: Eye) -> None:
    """A file that is replaced by a rename is still watched."""
    (eye.base / "f").write_text("x")
    eye.inotify.add("w", [], recursive=False, only=b"f")
    (eye.base / "other").write_text("x")
    (eye.base / "other").rename(eye.base / "f")
    assert eye.seen() == {"/f": ADDED}


def test_attack_a_link_in_a_watched_folder(eye: Eye) -> None:
    """A link that leads out is reported as a file and not looked through."""
    eye.inotify.add("w", [], recursive=True, only=None)
    (eye.base / "link").symlink_to(eye.base.parent / "outside")
    assert eye.seen() == {"/link": ADDED}
    (eye.base.parent / "outside/secret").write_text("x")
    assert eye.seen() == {}


def test_two_watches_share_a_folder(eye: Eye) -> None:
    """Each is told; ending one leaves the other."""
    eye.inotify.add("one", [], recursive=False, only=None)
    eye.inotify.add("two", [], recursive=True, only=None)
    seen: list[str] = []
    (eye.base / "f").write_text("x")
    eye.inotify.read(lambda key, _path, _change: seen.append(key))
    assert set(seen) == {"one", "two"}
    eye.inotify.remove("one")
    seen.clear()
    (eye.base / "g").write_text("x")
    eye.inotify.read(lambda key, _path, _change: seen.append(key))
    assert set(seen) == {"two"}
    eye.inotify.remove("one")


def test_the_watched_folder_itself_may_go(eye: Eye) -> None:
    """Its end is reported, once."""
    (eye.base / "a").mkdir()
    eye.inotify.add("w", [b"a"], recursive=True, only=None)
    (eye.base / "a").rmdir()
    assert eye.seen() == {"/a": DELETED}
    assert eye.seen() == {}


def test_what_cannot_be_watched_leaves_nothing_behind(eye: Eye) -> None:
    """A missing folder is an error of the system, and no half of a watch stays."""
    with pytest.raises(FileNotFoundError):
        eye.inotify.add("w", [b"none"], recursive=True, only=None)
    assert eye.inotify.add("w", [], recursive=True, only=None) == 1


def test_too_many_watches(eye: Eye, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's limit is an error with its number, not a silent gap."""

    def full(*_args: object) -> int:
        filewatch.ctypes.set_errno(errno.ENOSPC)
        return -1

    monkeypatch.setattr(eye.inotify._libc, "inotify_add_watch", full, raising=False)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)) as caught:
        eye.inotify.add("w", [], recursive=True, only=None)
    assert caught.value.errno == errno.ENOSPC


def test_what_the_system_could_not_keep_is_said(eye: Eye) -> None:
    """A full queue is told to every watch, so that its owner lists again."""
    eye.inotify.add("one", [], recursive=False, only=None)
    eye.inotify.add("two", [], recursive=True, only=None)
    said: list[tuple[str, str]] = []
    eye.inotify._event(-1, 0x4000, b"", lambda key, _path, change: said.append((key, change)))
    assert said == [("one", filewatch.OVERFLOWED), ("two", filewatch.OVERFLOWED)]
