"""The one process that starts, watches and ends every process of a node.

Run as a file by a bare interpreter (`python -I -S process_helper.py FD NODE`), it
imports no more than it needs: the node and its helper share a small budget.

Why a process of its own. After `kill -9` of the node nobody is left to tidy up.
PDEATHSIG reaches children only, a process group is left by whoever calls setsid,
and a child that forks twice belongs to init. A *subreaper* inherits every orphan
below it, so that its descendants are a tree which can be walked and ended. The
helper learns of the node's end by the end of their socket and, in case a fork of
the node still holds that open, by a pidfd.

What it costs: about 10 MB, and no CPU while nothing happens (one `poll` without a
timeout). What it does not cover: a descendant that runs as another user than the
helper may not be killed, and killing node and helper in the same instant leaves
whatever ran.

Protocol, both ways: four bytes of length, big-endian, then a map in `marshal`
(both ends are the same interpreter, and it needs no import). A request has `op`
and `id`; its reply has the same `id`. The standard streams of a new process
travel beside the request as SCM_RIGHTS, three to a spawn.

    spawn   argv env cwd limits  → pid | error: [stage, errno]
    signal  pid signal scope     → count; scope is "process", "session" or "all"
    end     pid signal scope     → {} once nobody in that scope is left
    (event) exit                 pid, status, cpu, peak: one for each spawned process
"""

from __future__ import annotations

import ctypes
import marshal
import os
import resource
import select
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing takes a megabyte and five milliseconds
    from typing import Any

__all__ = ["CHANNEL_BYTES", "Frames", "Helper", "Relative", "descendants", "main", "pack"]

CHANNEL_BYTES = 65536
"""How much is read from the channel at a time."""

PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
STREAMS = 3
GRACE_S = 1.0
"""What descendants get between TERM and KILL once the node is gone."""
STALLED_MS = 100
"""How long to wait for a killed process before looking whether others came."""

IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)
"""A terminal or a service manager signals everybody; the helper ends after the node."""
RESTORED = (*IGNORED, signal.SIGXFSZ)
"""What a new process gets back: the interpreter itself ignores PIPE and XFSZ."""
LIMITS = {
    "cpu": resource.RLIMIT_CPU,
    "memory": resource.RLIMIT_AS,
    "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
}
CGROUP_FILES = {"memory": "memory.max", "processes": "pids.max"}


class Relative:
    """One descendant as /proc shows it: pid, state letter, group and session."""

    __slots__ = ("group", "pid", "session", "state")

    def __init__(self, pid: int, state: str, group: int, session: int) -> None:
        self.pid = pid
        self.state = state
        self.group = group
        self.session = session


def pack(message: dict[str, Any]) -> bytes:
    """Return the frame of one message."""
    body = marshal.dumps(message)
    return len(body).to_bytes(4, "big") + body


class Frames:
    """Cut a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[dict[str, Any]]:
        """Return the messages that are complete now that `data` came."""
        self._buffer += data
        found = []
        while len(self._buffer) >= 4:
            end = 4 + int.from_bytes(self._buffer[:4], "big")
            if len(self._buffer) < end:
                break
            # The peer is our own parent or child, the same interpreter at both ends.
            found.append(marshal.loads(bytes(self._buffer[4:end])))  # noqa: S302
            del self._buffer[:end]
        return found


def descendants(root: int) -> list[Relative]:
    """Return every process below `root`, in order of pid."""
    parents: dict[int, int] = {}
    found: dict[int, Relative] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fd = os.open(f"/proc/{name}/stat", os.O_RDONLY)
        except OSError:
            continue  # gone since the listing
        try:
            text = os.read(fd, 1024)
        except OSError:
            continue
        finally:
            os.close(fd)
        # The name in parentheses may hold anything, parentheses and spaces included.
        state, parent, group, session = text[text.rfind(b")") + 2 :].split(None, 4)[:4]
        pid = int(name)
        parents[pid] = int(parent)
        found[pid] = Relative(pid, state.decode(), int(group), int(session))
    below = {root}
    outside: set[int] = set()
    for start in parents:
        line = []
        pid = start
        while pid in parents and pid not in below and pid not in outside:
            line.append(pid)
            pid = parents[pid]
        (below if pid in below else outside).update(line)
    return [found[pid] for pid in sorted(below) if pid != root and pid in found]


class Cgroup:
    """A control group of the helper's own, where version 2 lets us make one.

    Its `cgroup.kill` ends all members at once, whatever they fork meanwhile. Limits
    go to a leaf of their own where the controllers are delegated; elsewhere the
    resource limits alone hold.
    """

    def __init__(self) -> None:
        self.path = ""
        self._leaves = 0
        try:
            self._make()
        except (OSError, IndexError, StopIteration):
            self.path = ""  # not there or not ours: /proc is the way then

    def _make(self) -> None:
        with open("/proc/self/mounts") as mounts:
            point = next(line.split()[1] for line in mounts if line.split()[2] == "cgroup2")
        with open("/proc/self/cgroup") as groups:
            own = next(line.strip()[3:] for line in groups if line.startswith("0::"))
        base = (point + own).rstrip("/")
        for name in os.listdir(base):
            owner = name[5:]
            if name.startswith("dan9-") and not os.path.exists(f"/proc/{owner}"):
                self._remove(f"{base}/{name}")  # left by a helper that was killed
        path = f"{base}/dan9-{os.getpid()}"
        os.mkdir(path)
        self.path = path
        if not os.path.exists(f"{path}/cgroup.kill"):
            self.close()
            return
        os.mkdir(f"{path}/all")
        for controller in ("memory", "pids"):
            self._write(f"{path}/cgroup.subtree_control", f"+{controller}")

    @staticmethod
    def _write(path: str, text: str) -> bool:
        try:
            with open(path, "w") as file:
                file.write(text)
        except OSError:
            return False
        return True

    @staticmethod
    def _remove(path: str) -> None:
        # A leaf still in use refuses; it goes with the next helper's start.
        try:
            for name in os.listdir(path):
                if os.path.isdir(f"{path}/{name}"):
                    os.rmdir(f"{path}/{name}")
            os.rmdir(path)
        except OSError:
            return

    def place(self, limits: dict[str, list[int]]) -> str:
        """Return the group for a new process, with its limits set where possible."""
        if not self.path:
            return ""
        wanted = {CGROUP_FILES[key]: pair[1] for key, pair in limits.items() if key in CGROUP_FILES}
        self._leaves += 1
        leaf = f"{self.path}/{self._leaves}"
        if wanted and os.path.exists(f"{self.path}/all/{next(iter(wanted))}"):
            os.mkdir(leaf)
            for file, value in wanted.items():
                self._write(f"{leaf}/{file}", str(value))
            return leaf
        return f"{self.path}/all"

    def kill(self) -> None:
        """End every member at once."""
        if self.path:
            self._write(f"{self.path}/cgroup.kill", "1")

    def close(self) -> None:
        """Remove the group; its members are gone."""
        if self.path:
            self._remove(self.path)
        self.path = ""


class Helper:
    """Serve one node over `channel` until it closes, then leave nothing behind."""

    def __init__(self, channel: socket.socket, node: int) -> None:
        self.pid = os.getpid()
        self._channel = channel
        self._frames = Frames()
        self._out = bytearray()
        self._passed: list[int] = []  # descriptors received and not yet claimed
        self._children: set[int] = set()
        self._starting: dict[int, tuple[int, int]] = {}  # report pipe → (request id, pid)
        self._ending: list[tuple[int, int, str]] = []  # (request id, pid, scope)
        self._cgroup = Cgroup()
        self._poll = select.poll()
        self._wake, waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGCHLD, signal.SIGALRM):
            signal.signal(number, lambda *_: None)  # the byte in the pipe is the news
        channel.setblocking(False)
        self._poll.register(channel, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._node = self._open_node(node)

    def _open_node(self, node: int) -> int:
        try:
            fd = os.pidfd_open(node)
        except (OSError, AttributeError):
            return -1  # an old kernel, or the node has ended already: the socket tells
        self._poll.register(fd, select.POLLIN)
        return fd

    # the loop

    def serve(self) -> None:
        """Answer requests and report exits until the node is gone; then end everybody."""
        while self._turn():
            pass
        self.finish()

    def _turn(self) -> bool:
        for fd, _event in self._poll.poll():
            if fd == self._node:
                return False
            if fd == self._wake:
                os.read(self._wake, 4096)
                self._reap()
            elif fd in self._starting:
                self._started(fd)
            elif not self._converse():
                return False
        return True

    def _converse(self) -> bool:
        """Read what the node says and send what is due; False when it has gone."""
        try:
            data, extra, _flags, _peer = self._channel.recvmsg(
                CHANNEL_BYTES, socket.CMSG_SPACE(4 * STREAMS), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            self._send(b"")
            return True
        except OSError:
            return False
        if not data:
            return False
        for level, kind, body in extra:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                for at in range(0, len(body) - 3, 4):
                    self._passed.append(int.from_bytes(body[at : at + 4], sys.byteorder))
        for message in self._frames.feed(data):
            self._obey(message)
        return True

    def _send(self, data: bytes) -> None:
        self._out += data
        try:
            while self._out:
                del self._out[: self._channel.send(self._out)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._out.clear()  # the node has gone; the next poll says so
        wanted = select.POLLIN | (select.POLLOUT if self._out else 0)
        self._poll.modify(self._channel, wanted)

    def _reply(self, request: int, **fields: object) -> None:
        self._send(pack({"id": request, **fields}))

    # requests

    def _obey(self, message: dict[str, Any]) -> None:
        request = message["id"]
        match message["op"]:
            case "spawn":
                self._spawn(request, message)
            case "signal":
                sent = self._signal(message["pid"], message["signal"], message["scope"])
                self._reply(request, **sent)
            case "end":
                self._ending.append((request, message["pid"], message["scope"]))
                self._signal(message["pid"], message["signal"], message["scope"])
                self._settle()
            case other:
                self._reply(request, error=["op", 0], op=other)

    def _spawn(self, request: int, order: dict[str, Any]) -> None:
        streams, self._passed = self._passed[:STREAMS], self._passed[STREAMS:]
        report, reporter = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            group = self._cgroup.place(order["limits"])
            pid = os.fork()
        except OSError as error:
            os.close(report)
            self._reply(request, error=["fork", error.errno])
        else:
            if pid == 0:
                become(order, streams, reporter, group)
            self._children.add(pid)
            self._starting[report] = (request, pid)
            self._poll.register(report, select.POLLIN)
        finally:
            os.close(reporter)
            for fd in streams:
                os.close(fd)

    def _started(self, report: int) -> None:
        """The pipe closed by exec means success; bytes in it are the failure."""
        request, pid = self._starting.pop(report)
        self._poll.unregister(report)
        try:
            text = os.read(report, 256)
        except BlockingIOError:
            text = b""
        os.close(report)
        if text:
            self._children.discard(pid)
            stage, number = text.split(b" ", 1)
            self._reply(request, error=[stage.decode(), int(number)])
        else:
            self._reply(request, pid=pid)

    def _members(self, pid: int, scope: str) -> list[Relative]:
        if scope == "session" and self._own_children() <= self._children - {pid}:
            return []  # its leader is gone and nobody was adopted: a session of none
        family = descendants(self.pid)
        if scope == "all":
            return family
        if scope == "session":
            return [one for one in family if pid in (one.session, one.pid)]
        return [one for one in family if one.pid == pid]

    def _signal(self, pid: int, number: int, scope: str) -> dict[str, object]:
        """Signal the living of a scope.

        Only descendants are ever signalled, and they cannot be reaped by anybody but
        their parents and this thread, so that a number that was used again elsewhere
        is never hit. The leader's group gets its signal in one call, so that members
        which fork meanwhile do not escape; nobody gets it twice (a second TERM means
        "now" to many programs).
        """
        group = 0
        if scope == "session" and pid in self._children:
            try:
                os.killpg(pid, number)
                group = pid
            except OSError:
                pass  # not its own group yet, or all gone: the walk below decides
        count, failed = 0, 0
        for one in self._members(pid, scope):
            if one.state in "ZX" and one.group != group:
                continue
            count += 1
            if one.group == group:
                continue
            try:
                os.kill(one.pid, number)
            except ProcessLookupError:
                count -= 1
            except OSError as error:
                failed = error.errno or 0
        return {"error": ["signal", failed]} if failed else {"count": count}

    # exits

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            for report, (_request, starting) in list(self._starting.items()):
                if starting == pid:  # ended before its report was read: that comes first
                    self._started(report)
            if pid in self._children:
                self._children.discard(pid)
                event = {
                    "event": "exit",
                    "pid": pid,
                    "status": os.waitstatus_to_exitcode(status),
                    "cpu": usage.ru_utime + usage.ru_stime,
                    "peak": usage.ru_maxrss * 1024,
                }
                self._send(pack(event))
        self._settle()

    def _settle(self) -> None:
        """Answer every `end` whose scope is empty now.

        No poll: an orphan in the scope is adopted by this process when its parent
        dies, so that the last exit of a scope is always one of ours. While nobody is
        adopted a session ends with its leader, and no walk is needed.
        """
        if not self._ending:
            return
        own = self._own_children()
        strangers = own - self._children
        family: list[Relative] | None = None
        waiting, self._ending = self._ending, []
        for request, pid, scope in waiting:
            if scope == "all" or pid in self._children:
                left = bool(own)
            elif not strangers:
                left = False
            else:
                if family is None:
                    family = descendants(self.pid)
                left = any(pid in (one.session, one.pid) for one in family)
            if left:
                self._ending.append((request, pid, scope))
            else:
                self._reply(request)

    def _own_children(self) -> set[int]:
        """Return the direct children, adopted ones included."""
        try:
            with open(f"/proc/{self.pid}/task/{self.pid}/children") as file:
                return {int(word) for word in file.read().split()}
        except OSError:  # a kernel without this file
            return {one.pid for one in descendants(self.pid)}

    # the end

    def finish(self) -> None:
        """End every descendant: TERM, a moment's grace, then KILL until none is left."""
        self._channel.close()
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._children.clear()
        self._ending.clear()
        self._signal(0, signal.SIGTERM, "all")
        self._signal(0, signal.SIGCONT, "all")
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        while descendants(self.pid):
            self._poll.poll()
            rung = signal.SIGALRM in os.read(self._wake, 4096)
            self._bury()
            if rung:
                self._kill_all()
                break
        self._cgroup.close()

    def _bury(self) -> set[int]:
        buried = set()
        try:
            while pid := os.waitpid(-1, os.WNOHANG)[0]:
                buried.add(pid)
        except ChildProcessError:
            pass
        return buried

    def _kill_all(self) -> None:
        """Kill until a walk finds nobody; forks between walk and kill meet the next walk."""
        killed: set[int] = set()
        beyond: set[int] = set()  # another user's: not ours to kill
        self._cgroup.kill()
        while True:
            alive = [one.pid for one in descendants(self.pid) if one.state not in "ZX"]
            if beyond.issuperset(alive):
                return
            fresh = [pid for pid in alive if pid not in killed and pid not in beyond]
            for pid in fresh:
                try:
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                except ProcessLookupError:
                    pass
                except OSError:
                    beyond.add(pid)
            if fresh:
                continue  # only a walk that meets no new face may wait
            if self._poll.poll(STALLED_MS):
                os.read(self._wake, 4096)
                killed -= self._bury()
            else:
                killed.clear()  # a number may have come round again


def become(order: dict[str, Any], streams: list[int], reporter: int, group: str) -> None:
    """In the new process: take the order's shape and run its program. Never returns."""
    stage = "start"
    try:
        os.setsid()
        for target, fd in enumerate(streams):
            os.dup2(fd, target)
        stage = "cwd"
        os.chdir(order["cwd"])
        if group:
            stage = "cgroup"
            with open(f"{group}/cgroup.procs", "w") as file:
                file.write("0")
        for number in RESTORED:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        stage = "limits"  # last: a small memory limit would stop this interpreter too
        for name, (soft, hard) in order["limits"].items():
            resource.setrlimit(LIMITS[name], (soft, hard))
        stage = "exec"
        os.execvpe(order["argv"][0], order["argv"], order["env"])  # noqa: S606  (no shell: the point)
    except OSError as error:
        os.write(reporter, f"{stage} {error.errno or 0}".encode())
    except BaseException:  # (nobody above but the fork's copy of the loop)
        os.write(reporter, f"{stage} 0".encode())
    finally:
        os._exit(127)


def main(arguments: list[str]) -> int:
    """Serve the socket whose descriptor and whose node's pid are the arguments."""
    channel = socket.socket(fileno=int(arguments[0]))
    channel.set_inheritable(False)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_NAME, b"dan9-helper", 0, 0, 0)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        sys.stderr.write("dan9: process helper: this kernel has no subreaper (Linux 3.4)\n")
        return 1
    Helper(channel, int(arguments[1])).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
