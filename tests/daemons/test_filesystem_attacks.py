"""Attacks on the filesystem's confinement, each test named for its attack.

Every one runs over openat2 and over the portable walk, at the layer that touches the
operating system; the daemon adds nothing to what may be reached.
"""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from dan9.base.errors import (
    BadPayload,
    NoSpace,
    NotFound,
    NotSupported,
    OutsideRoot,
    PermissionRefused,
    Refused,
)
from dan9.daemons.beneath import Root, has_openat2
from dan9.daemons.filechange import TEMPORARY, FileChanges
from dan9.daemons.filenames import bytes_of
from dan9.daemons.filetree import FileTree

SECRET = "the secret outside"


class House:
    """A root with a neighbour that must never be reached."""

    def __init__(self, base: Path, *, by_walk: bool) -> None:
        self.inside, self.outside = base / "root", base / "outside"
        self.inside.mkdir()
        self.outside.mkdir()
        (self.outside / "secret").write_text(SECRET)
        (self.inside / "plain").write_text("inside")
        self.root = Root(str(self.inside), by_walk=by_walk)
        self.tree = FileTree(self.root, max_read_bytes=1 << 20, max_entries=200_000)
        self.change = FileChanges(self.tree)

    def read(self, path: str) -> bytes:
        file = self.tree.open(path)
        try:
            return file.read(0, None)
        finally:
            file.close()

    def everything_outside(self) -> dict[str, str]:
        return {p.name: p.read_text() for p in self.outside.iterdir()}


@pytest.fixture(params=["openat2", "walk"])
def house(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[House]:
    """A house by each way of confinement; what is outside must be as it was."""
    made = House(tmp_path, by_walk=request.param == "walk")
    if request.param == "openat2" and made.root.by_walk:
        pytest.skip("this kernel, or its filter, has no openat2")
    yield made
    made.root.close()
    assert made.everything_outside() == {"secret": SECRET}


def test_the_walk_takes_over_where_openat2_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A kernel that answers ENOSYS gets the portable walk, silently."""
    monkeypatch.setattr("dan9.daemons.beneath._SYS_OPENAT2", 100_000)
    root = Root(str(tmp_path))
    assert root.by_walk
    assert not has_openat2(root.fd)
    root.close()


@pytest.mark.parametrize(
    "path",
    ["..", "/..", "../outside/secret", "/../outside/secret", "a/../../outside/secret", "plain/.."],
)
def test_attack_dotdot(house: House, path: str) -> None:
    """Any `..` in a request is refused before a system call, also where it would be harmless."""
    with pytest.raises(OutsideRoot, match="not taken"):
        house.tree.stat(path)
    with pytest.raises(OutsideRoot):
        house.change.write(path, b"x")
    with pytest.raises(OutsideRoot):
        house.change.rename("plain", path)


def test_attack_absolute_path(house: House) -> None:
    """An absolute path starts at the daemon's root, not at the machine's."""
    with pytest.raises(NotFound):
        house.read(str(house.outside / "secret"))
    assert house.read("/plain") == b"inside"
    assert house.read("//plain") == b"inside"


@pytest.mark.parametrize("how", ["absolute", "relative", "deep", "chain", "folder"])
def test_attack_symlink_out(house: House, how: str) -> None:
    """A link that leads out by any spelling reads nothing outside."""
    secret = house.outside / "secret"
    path = "link"
    if how == "absolute":
        (house.inside / "link").symlink_to(secret)
    elif how == "relative":
        (house.inside / "link").symlink_to("../outside/secret")
    elif how == "deep":
        (house.inside / "link").symlink_to("../" * 60 + str(secret).lstrip("/"))
    elif how == "chain":
        (house.inside / "one").symlink_to("..")
        (house.inside / "link").symlink_to("one/outside/secret")
    else:
        (house.inside / "link").symlink_to(house.outside)
        path = "link/secret"
    with pytest.raises(NotFound):
        house.read(path)
    with pytest.raises(NotFound):
        house.change.write(path, b"x", append=True)
    with pytest.raises(Refused):
        house.tree.entries("link")


def test_attack_write_through_a_symlink_out(house: House) -> None:
    """Writing through a link that leads out makes nothing outside, in no mode."""
    (house.inside / "link").symlink_to(house.outside / "new")
    (house.inside / "up").symlink_to("../outside/new")
    for path in ("link", "up"):
        for options in ({}, {"append": True}, {"atomic": False}):
            with pytest.raises(NotFound):
                house.change.write(path, b"x", **options)
    (house.inside / "folder").symlink_to(house.outside)
    for attempt in (
        lambda: house.change.write("folder/new", b"x", create_parents=True),
        lambda: house.change.mkdir("folder/new", parents=True),
        lambda: house.change.rename("plain", "folder/plain"),
        lambda: house.change.copy("plain", "folder/plain"),
        lambda: house.change.delete("folder/secret"),
    ):
        with pytest.raises(Refused):
            attempt()


def test_symlinks_inside_work_as_under_chroot(house: House) -> None:
    """Relative links, links with `..` and absolute links all resolve within the root."""
    (house.inside / "a/b").mkdir(parents=True)
    (house.inside / "a/b/f").write_text("deep")
    (house.inside / "relative").symlink_to("a/b/f")
    (house.inside / "absolute").symlink_to("/a/b/f")
    (house.inside / "a/up").symlink_to("../a/./b/../b/f")
    (house.inside / "clamped").symlink_to("../../../../a/b/f")
    for path in ("relative", "absolute", "a/up", "clamped"):
        assert house.read(path) == b"deep"
        house.change.write(path, b"deep")
        assert (house.inside / path).is_symlink()
    house.change.write("relative", b"more", append=True)
    assert (house.inside / "a/b/f").read_bytes() == b"deepmore"


def test_attack_symlink_circle(house: House) -> None:
    """Links in a circle are refused, not followed for ever."""
    (house.inside / "a").symlink_to("b")
    (house.inside / "b").symlink_to("a")
    with pytest.raises(OutsideRoot, match="circle"):
        house.read("a")
    with pytest.raises(OutsideRoot):
        house.change.write("a", b"x")


def test_attack_delete_follows_no_symlink(house: House) -> None:
    """Deleting a link, or a folder with links in it, leaves what they lead to."""
    (house.inside / "folder").mkdir()
    (house.inside / "folder/link").symlink_to(house.outside)
    (house.inside / "link").symlink_to(house.outside)
    house.change.delete("link", recursive=True)
    house.change.delete("folder", recursive=True)
    assert sorted(p.name for p in house.inside.iterdir()) == ["plain"]


def test_attack_hard_link(house: House) -> None:
    """A file that has a name outside is never changed in place, only replaced."""
    os.link(house.outside / "secret", house.inside / "hard")
    for options in ({"append": True}, {"atomic": False}):
        with pytest.raises(PermissionRefused, match="2 names"):
            house.change.write("hard", b"x", **options)
    house.change.write("hard", b"mine")
    assert (house.inside / "hard").read_bytes() == b"mine"


@pytest.mark.parametrize("what", ["proc", "self"])
@pytest.mark.parametrize("by_walk", [False, True])
def test_attack_proc_self_fd(tmp_path: Path, what: str, by_walk: bool) -> None:
    """The magic links of /proc open nothing, although the root holds /proc."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("no /proc here")
    (tmp_path / "secret").write_text(SECRET)
    root = Root("/proc" if what == "proc" else "/proc/self", by_walk=by_walk)
    tree = FileTree(root, max_read_bytes=1 << 20, max_entries=100_000)
    prefix = "self/" if what == "proc" else ""
    with (tmp_path / "secret").open() as held:
        for path in (f"fd/{held.fileno()}", "root/etc/passwd", "cwd", "exe"):
            with pytest.raises(OutsideRoot):
                tree.open_file(prefix + path)
            with pytest.raises(Refused):
                FileChanges(tree).write(prefix + path, b"x")
        assert (tmp_path / "secret").read_text() == SECRET
    assert tree.open_file(f"{prefix}status")[0] > 0
    root.close()


def test_attack_fifo(house: House) -> None:
    """A FIFO without a writer blocks nobody: it is refused unopened."""
    os.mkfifo(house.inside / "fifo")
    with pytest.raises(NotSupported, match="fifo"):
        house.read("fifo")
    for options in ({}, {"append": True}, {"atomic": False}):
        with pytest.raises(NotSupported, match="fifo"):
            house.change.write("fifo", b"x", **options)
    with pytest.raises(NotSupported):
        house.change.copy("fifo", "copy")
    (house.inside / "folder").mkdir()
    os.mkfifo(house.inside / "folder/fifo")
    with pytest.raises(NotSupported, match="only files, folders and links"):
        house.change.copy("folder", "copy", recursive=True)
    assert house.tree.stat("fifo")["type"] == "fifo"


def test_attack_socket(house: House) -> None:
    """A Unix socket is no file to read."""
    with closing(socket.socket(socket.AF_UNIX)) as server:
        server.bind(str(house.inside / "sock"))
        with pytest.raises(NotSupported, match="socket"):
            house.read("sock")


def test_attack_device(house: House) -> None:
    """A device in the root is neither read nor written nor opened."""
    try:
        os.mknod(house.inside / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("making a device needs root (CAP_MKNOD)")
    with pytest.raises(NotSupported, match="character-device"):
        house.read("zero")
    with pytest.raises(NotSupported):
        house.change.write("zero", b"x", append=True)


def race(house: House, seconds: float) -> tuple[int, int]:
    """Swap a folder and a link to the outside while another thread reads and writes."""
    (house.inside / "swap").mkdir()
    (house.inside / "swap/secret").write_text("inside")
    (house.inside / "other").symlink_to(house.outside)
    (house.inside / "file").write_text("inside")
    (house.inside / "file2").symlink_to(house.outside / "secret")
    swaps = 0
    done = threading.Event()

    def swap() -> None:
        nonlocal swaps
        while not done.is_set():
            for a, b in (("swap", "other"), ("file", "file2")):
                spare = house.inside / "spare"
                (house.inside / a).rename(spare)
                (house.inside / b).rename(house.inside / a)
                spare.rename(house.inside / b)
            swaps += 1

    thread = threading.Thread(target=swap)
    thread.start()
    timer = threading.Timer(seconds, done.set)
    timer.start()
    reads = 0
    try:
        while not done.is_set():
            # A refusal by name is an answer; a byte from outside, or there, is a breach.
            for path in ("swap/secret", "file"):
                with suppress(Refused):
                    assert house.read(path) == b"inside"
                    reads += 1
                with suppress(Refused):
                    house.change.write(path, b"inside", atomic=reads % 2 == 0)
            with suppress(Refused):
                assert "outside" not in str(house.tree.entries("swap"))
            with suppress(Refused):
                house.change.delete("other/secret")
            (house.inside / "again").symlink_to(house.outside / "secret")
            (house.inside / "again").rename(house.inside / "file2")
    finally:
        done.set()
        timer.cancel()
        thread.join()
    return reads, swaps


@pytest.mark.slow
@pytest.mark.real
def test_attack_link_swapped_between_check_and_use(house: House) -> None:
    """A thread that swaps a folder for a link never gets a byte in or out, for a second."""
    reads, swaps = race(house, 0.5)
    assert reads > 0
    assert swaps > 0


@pytest.mark.slow
@pytest.mark.real
@pytest.mark.skipif("DAN9_LONG" not in os.environ, reason="ten seconds; set DAN9_LONG=1")
def test_attack_link_swapped_between_check_and_use_for_ten_seconds(house: House) -> None:
    """The same race for ten seconds."""
    race(house, 10.0)


NAMES = [
    b"two\nlines",
    b"tab\tand \x1b[31mcolour",
    b"not utf-8 \xff\xfe",
    b"cut \xe2\x82",
    "private \uef80\uefff".encode(),
    "gr\u00fc\u00df \U0001f600".encode(),
    b"-rf",
    b"...",
    b" ",
    b"*",
    b"x" * 255,
]


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_attack_name(house: House, name: bytes) -> None:
    """Whatever a file is called, it is listed as text a wire can carry, and read by that text."""
    (house.inside / os.fsdecode(name)).write_text("found")
    listed = {entry["name"] for entry in house.tree.entries("/")} - {"plain"}
    (text,) = listed
    assert text.encode()  # no lone surrogate
    assert bytes_of(text) == name
    assert house.read(text) == b"found"
    house.change.rename(text, "plainer")
    house.change.rename("plainer", "/" + text)
    house.change.delete(text)


def test_surrogates_of_listdir_are_taken_too(house: House) -> None:
    """A path as Python's os.listdir spells it finds the file."""
    (house.inside / os.fsdecode(b"\xff")).write_text("found")
    assert house.read(os.fsdecode(b"\xff")) == b"found"
    with pytest.raises(BadPayload, match="surrogate"):
        house.read("\ud800")


@pytest.mark.parametrize(
    ("path", "error"),
    [("", BadPayload), ("a\0b", BadPayload), ("y" * 256, BadPayload), ("y/" * 3000, BadPayload)],
)
def test_attack_impossible_path(house: House, path: str, error: type[Refused]) -> None:
    """An empty path, a NUL, a name or path beyond the system's limits: refused by name."""
    with pytest.raises(error):
        house.read(path)


def test_attack_the_root_itself_stays(house: House) -> None:
    """The root is not deleted, renamed, or written."""
    for attempt in (
        lambda: house.change.delete("/", recursive=True),
        lambda: house.change.rename("/", "x"),
        lambda: house.change.rename("plain", "/"),
        lambda: house.change.write("/", b""),
        lambda: house.change.mkdir("/"),
    ):
        with pytest.raises(PermissionRefused, match="root"):
            attempt()


def test_attack_trap_under_the_temporary_name(house: House) -> None:
    """A link laid under the next temporary name is stepped over, not written through."""
    for number in range(10_000):
        trap = house.inside / (TEMPORARY.decode() + f"{os.getpid()}-{number}.tmp")
        trap.symlink_to(house.outside / "secret")
        if number > 200:
            break
    house.change.write("new", b"mine")
    assert (house.inside / "new").read_bytes() == b"mine"
    assert not (house.inside / "new").is_symlink()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 KiB in memory."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        pytest.skip("mounting a small tmpfs needs root (CAP_SYS_ADMIN)")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("by_walk", [False, True])
def test_attack_full_disk(small_disk: Path, by_walk: bool) -> None:
    """On a full disk a write is refused and nothing of it stays: not a byte, not a file."""
    root = Root(str(small_disk), by_walk=by_walk)
    tree = FileTree(root, max_read_bytes=1 << 20, max_entries=100)
    change = FileChanges(tree)
    change.write("kept", b"old")
    with pytest.raises(NoSpace, match="no space"):
        change.write("kept", b"x" * 1_000_000)
    with pytest.raises(NoSpace):
        change.write("kept", b"y" * 1_000_000, append=True)
    assert (small_disk / "kept").read_bytes() == b"old"
    change.write("source", b"z" * 150_000)
    with pytest.raises(NoSpace):
        change.copy("source", "copy")
    assert sorted(p.name for p in small_disk.iterdir()) == ["kept", "source"]
    root.close()


@pytest.mark.slow
def test_attack_directory_of_100000_entries(tmp_path: Path) -> None:
    """A huge directory is listed whole, filtered, and refused beyond the limit."""
    # In memory where there is such a place: making and deleting the files is most of the test.
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else str(tmp_path)
    with tempfile.TemporaryDirectory(dir=base) as huge:
        _list_100000_entries(huge)


def _list_100000_entries(huge: str) -> None:
    place = os.open(huge, os.O_RDONLY)
    for number in range(100_000):
        os.close(os.open(f"f{number:06}", os.O_CREAT | os.O_WRONLY, dir_fd=place))
    os.close(place)
    root = Root(huge)
    tree = FileTree(root, max_read_bytes=1, max_entries=100_000)
    entries = tree.entries("/")
    assert len(entries) == 100_000
    assert [entries[0]["name"], entries[-1]["name"]] == ["f000000", "f099999"]
    assert len(tree.entries("/", pattern="f0000?5")) == 10
    tree.max_entries = 99_999
    with pytest.raises(Refused, match="more than 99999"):
        tree.entries("/")
    root.close()


@pytest.mark.slow
def test_attack_directory_1500_deep(tmp_path: Path) -> None:
    """A tree deeper than any stack is listed and deleted all the same."""
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)
    root = Root(str(tmp_path))
    tree = FileTree(root, max_read_bytes=1, max_entries=2000)
    assert len(tree.entries("/d", recursive=True)) == 1500
    FileChanges(tree).delete("/d", recursive=True)
    assert tree.entries("/") == []
    root.close()


@pytest.fixture
def as_nobody() -> Iterator[Path]:
    """A folder that anybody may use, and rights that are nobody's."""
    folder = Path(tempfile.mkdtemp(prefix="dan9-"))
    folder.chmod(0o777)
    was = os.geteuid()
    try:
        os.seteuid(65534 if was == 0 else was)
        yield folder
    finally:
        os.seteuid(was)
        shutil.rmtree(folder)


@pytest.mark.parametrize("by_walk", [False, True])
def test_permissions_are_the_operating_systems(as_nobody: Path, by_walk: bool) -> None:
    """What may not be read, written or looked into is refused by name, and listed so."""
    root = Root(str(as_nobody), by_walk=by_walk)
    tree = FileTree(root, max_read_bytes=100, max_entries=100)
    change = FileChanges(tree)
    change.write("closed", b"x")
    (as_nobody / "closed").chmod(0o000)
    change.write("fixed", b"old")
    (as_nobody / "fixed").chmod(0o444)
    change.mkdir("dark")
    (as_nobody / "dark").chmod(0o000)
    with pytest.raises(PermissionRefused):
        tree.open_file("closed")
    for options in ({}, {"append": True}, {"atomic": False}):
        with pytest.raises(PermissionRefused):
            change.write("fixed", b"new", **options)
    assert (as_nobody / "fixed").read_bytes() == b"old"
    with pytest.raises(PermissionRefused):
        change.write("dark/f", b"x")
    listed = {entry["name"]: entry.get("error") for entry in tree.entries("/", recursive=True)}
    assert listed == {"closed": None, "dark": "permission", "fixed": None}
    (as_nobody / "dark").chmod(0o700)
    root.close()
