"""What the process daemon decides without touching a process.

How a command becomes an argv, what a limit means, which signal a name is, how the
operating system's refusal to start something reads to a person. All of it takes
values and gives values, so that each line of it is tested without a fork.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shlex
import shutil
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dan9.base.duration import parse_duration
from dan9.base.errors import (
    BadPayload,
    Dan9Error,
    NoSpace,
    NotADirectory,
    NotExecutable,
    NotFound,
    PermissionRefused,
)

__all__ = [
    "Ended",
    "Readiness",
    "argv_of",
    "environment_of",
    "limits_of",
    "parse_ready",
    "signal_of",
    "start_refusal",
]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}


def argv_of(command: str | Sequence[str], args: Sequence[str] = ()) -> list[str]:
    """Return the argument vector: text is split as a shell would, a list is taken as it is.

    No shell ever sees it: `*`, `$HOME`, `|` and `;` are ordinary characters.

    Raises:
        BadPayload: Nothing to run, an open quotation mark, a NUL, or no text.
    """
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise BadPayload(
                f"command {command!r} cannot be split: {str(error).lower()}",
                at="payload.command",
                hint="quote as for a shell, or pass a list of arguments",
            ) from error
    else:
        words = list(command)
    words += args
    if not words or not words[0]:
        raise BadPayload("the command is empty", at="payload.command", hint="name a program")
    if any("\0" in word for word in words):
        raise BadPayload("an argument holds a NUL character", at="payload.command")
    return words


def environment_of(base: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    """Return `base` with `changes`: a text sets a variable, None removes it.

    Raises:
        BadPayload: A name that is empty or holds `=`, or a NUL anywhere.
    """
    result = dict(base)
    for name, value in changes.items():
        if not name or "=" in name or "\0" in name or "\0" in (value or ""):
            raise BadPayload(
                f"{name!r} cannot be an environment variable",
                at="payload.env",
                hint="a name has no '=' and neither name nor value has a NUL",
            )
        if value is None:
            result.pop(name, None)
        else:
            result[name] = value
    return result


def limits_of(limits: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Return resource limits as (soft, hard) pairs by name.

    Args:
        limits: `cpu` (seconds of CPU, a duration), `memory` (bytes of address
            space, a number or text such as `64MB`; powers of 1024), `files` (open
            descriptors), `processes` (of the same user).

    The CPU limit's hard end is a second later: XCPU first, so that a program may
    say goodbye, then KILL.

    Raises:
        BadPayload: An unknown name, or a value that is no positive number.
    """
    result: dict[str, tuple[int, int]] = {}
    for name, value in limits.items():
        at = f"payload.limits.{name}"
        if name == "cpu":
            seconds = max(1, math.ceil(_duration(value, at)))
            result[name] = (seconds, seconds + 1)
            continue
        if name == "memory":
            amount = _size(value, at)
        elif name in {"files", "processes"}:
            amount = _whole(value, at)
        else:
            raise BadPayload(
                f"there is no limit called {name!r}", at=at, hint="cpu, memory, files or processes"
            )
        result[name] = (amount, amount)
    return result


def _duration(value: object, at: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise BadPayload(f"{value!r} is no duration", at=at, hint="seconds, or text such as 30s")
    return parse_duration(value)


def _whole(value: object, at: str) -> int:
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63:
        raise BadPayload(f"{value!r} is no limit", at=at, hint="a whole number above 0")
    return value


def _size(value: object, at: str) -> int:
    if isinstance(value, str) and (match := _SIZE.fullmatch(value)):
        value = int(float(match[1]) * 1024 ** _POWERS[match[2].lower()])
    return _whole(value, at)


def signal_of(name: str | int) -> signal.Signals:
    """Return the signal: `TERM`, `SIGTERM`, `term`, `15` or 15.

    Raises:
        BadPayload: No such signal.
    """
    if isinstance(name, str) and name.isdecimal():
        name = int(name)
    try:
        if isinstance(name, int):
            return signal.Signals(name)
        text = name.upper()
        return signal.Signals[text if text.startswith("SIG") else f"SIG{text}"]
    except (KeyError, ValueError):
        raise BadPayload(
            f"there is no signal {name!r}", at="payload.signal", hint="such as TERM, KILL, HUP or 9"
        ) from None


@dataclass(frozen=True, slots=True)
class Readiness:
    """How a process shows that it serves: `kind` is port, line, file or notify."""

    kind: str
    value: str = ""
    port: int = 0


def parse_ready(text: str) -> Readiness | None:
    """Return what `text` asks to wait for; empty: nothing, running is ready.

    Raises:
        BadPayload: No such kind, a port that is none, a pattern that does not compile.
    """
    if not text:
        return None
    kind, _, value = text.partition(":")
    hint = "port:8080, port:HOST:8080, line:REGEX, file:/path or notify"
    if kind == "notify" and not value:
        return Readiness("notify")
    if kind == "port" and value:
        host, _, number = value.rpartition(":")
        if number.isdecimal() and 0 < int(number) < 65536:
            return Readiness("port", host.strip("[]") or "127.0.0.1", int(number))
    if kind == "line" and value:
        try:
            re.compile(value)
        except re.error as error:
            raise BadPayload(
                f"{value!r} is no pattern: {error}", at="payload.ready", hint=hint
            ) from error
        return Readiness("line", value)
    if kind == "file" and value:
        return Readiness("file", value)
    raise BadPayload(f"{text!r} is no sign of readiness", at="payload.ready", hint=hint)


def start_refusal(
    stage: str, number: int, *, argv: Sequence[str], cwd: str, env: Mapping[str, str]
) -> Dan9Error:
    """Return the refusal for a process that could not be started.

    Args:
        stage: Where it failed: `fork`, `cwd`, `limits`, `cgroup` or `exec`.
        number: The operating system's error number there.
        argv: What was to run.
        cwd: Where.
        env: With which environment; its PATH is named when nothing was found.
    """
    what = os.strerror(number).lower() if number else "unknown error"
    if stage == "cwd":
        refusals = {errno.ENOENT: NotFound, errno.ENOTDIR: NotADirectory}
        refusal = refusals.get(number, PermissionRefused)
        return refusal(f"cannot start in {cwd}: {what}", at="payload.cwd")
    if stage == "limits":
        return PermissionRefused(
            f"the limits for {argv[0]} cannot be set: {what}",
            at="payload.limits",
            hint="only root may go above the hard limits of this node (ulimit -H -a)",
        )
    if stage in {"fork", "cgroup"}:
        return NoSpace(
            f"no process can be made for {argv[0]}: {what}",
            hint="the user's process limit or the machine's memory is used up",
        )
    return _exec_refusal(number, what, argv[0], cwd, env)


def _exec_refusal(
    number: int, what: str, program: str, cwd: str, env: Mapping[str, str]
) -> Dan9Error:
    search = env.get("PATH", os.defpath)
    if "/" in program:
        found = os.path.join(cwd, program)
        missing = not os.path.exists(found)
    else:
        found = shutil.which(program, mode=os.F_OK, path=search) or ""
        missing = not found
    at = "payload.command"
    if number == errno.ENOENT and missing:
        if "/" in program:
            return NotExecutable(f"there is no {found}", at=at, hint="check the path")
        return NotExecutable(
            f"there is no command {program!r} in PATH ({search})",
            at=at,
            hint="install it, or name it by its whole path",
        )
    if number in {errno.ENOENT, errno.ENOEXEC}:
        return NotExecutable(
            f"{found} cannot be run: its interpreter is missing or it is no program",
            at=at,
            hint="look at its first line (#!), or name the interpreter yourself",
        )
    if number == errno.E2BIG:
        return BadPayload(f"the arguments and environment of {program} are too long", at=at)
    if number == errno.EACCES:
        return NotExecutable(f"{found} is not executable", at=at, hint=f"chmod +x {found}")
    return NotExecutable(f"{found or program} cannot be run: {what}", at=at)


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    Attributes:
        code: Exit code; None when a signal ended it.
        signal: The signal's name without SIG; None when it exited.
        cpu_seconds: User and system time, of it and of the children it waited for.
        peak_memory: Largest resident set in bytes. A program smaller than the
            helper that started it shows the helper's (Linux counts from the fork).
    """

    code: int | None
    signal: str | None
    cpu_seconds: float
    peak_memory: int

    @classmethod
    def of(cls, status: int, cpu: float, peak: int) -> Ended:
        """Read the helper's report: a status below 0 is a signal's number."""
        if status >= 0:
            return cls(status, None, round(cpu, 6), peak)
        try:
            name = signal.Signals(-status).name.removeprefix("SIG")
        except ValueError:
            name = f"RT{-status}"  # real-time signals have numbers only
        return cls(None, name, round(cpu, 6), peak)

    @property
    def well(self) -> bool:
        """True if it exited with code 0."""
        return self.code == 0

    def __str__(self) -> str:
        if self.signal is not None:
            return f"ended by signal {self.signal}"
        return f"exited with code {self.code}"

    def form(self) -> dict[str, Any]:
        """Return the map that `wait` answers."""
        return {
            "code": self.code,
            "signal": self.signal,
            "cpu_seconds": self.cpu_seconds,
            "peak_memory": self.peak_memory,
        }
