"""Every error that a caller of Dan9 may meet, each with the code it has on a wire.

An error is facts first: what happened, to whom, and what to do next. The text is
built here, in one place, so that it reads the same in a traceback, on the command
line, in a dead letter and in JSON.

`Refused` is the line that matters (see the rules of failure in the reference):
a refusal is an *answer*, the daemon that gave it goes on; any other exception that
leaves a handler is a crash. Users derive refusals of their own from it.
"""

from __future__ import annotations

from typing import ClassVar

__all__ = [
    "AddressInUse",
    "AmbiguousName",
    "AskCycle",
    "BadAddress",
    "BadConfig",
    "BadPayload",
    "Closed",
    "Conflict",
    "ConnectionRefused",
    "Corrupt",
    "DaemonFailed",
    "Dan9Error",
    "Dan9InternalError",
    "Exists",
    "IsADirectory",
    "MailboxFull",
    "NoNode",
    "NoSpace",
    "NoSuchProcess",
    "NotADirectory",
    "NotAllowed",
    "NotEmpty",
    "NotExecutable",
    "NotFound",
    "NotRunning",
    "NotSupported",
    "OutsideRoot",
    "PermissionRefused",
    "ReadOnly",
    "Refused",
    "RestartIntensityExceeded",
    "Suspended",
    "TimedOut",
    "TlsFailed",
    "UnknownDaemon",
    "UnknownMessage",
    "Unreachable",
    "WireError",
    "from_form",
    "to_form",
]


class Dan9Error(Exception):
    """An error that a caller may handle.

    Args:
        text: What went wrong, in one line.
        hint: What to do next, in one line; empty when there is nothing to say.
        address: The daemon concerned, if any.
        message: The message type concerned, if any.
        at: The offending key or place (`payload.path`, `line 12`), if any.
        chain: The addresses of a cycle or of nested asks, outermost first.
        trace: A traceback as text, if a handler crashed.
    """

    code: ClassVar[str] = "error"

    def __init__(
        self,
        text: str = "",
        *,
        hint: str = "",
        address: str = "",
        message: str = "",
        at: str = "",
        chain: tuple[str, ...] = (),
        trace: str = "",
    ) -> None:
        super().__init__(text)
        self.text = text
        self.hint = hint
        self.address = address
        self.message = message
        self.at = at
        self.chain = chain
        self.trace = trace

    def __str__(self) -> str:
        return f"{self.text} ({self.hint})" if self.hint else self.text


class Refused(Dan9Error):
    """An answer that says no. The daemon that raised it goes on."""

    code = "refused"


class BadAddress(Refused, ValueError):
    """The text is no `d9://type/group/name`, or the call needs exactly one daemon."""

    code = "bad-address"


class UnknownDaemon(Refused, LookupError):
    """Nobody lives at this address."""

    code = "unknown-daemon"


class UnknownMessage(Refused):
    """The daemon has no handler for this message type."""

    code = "unknown-message"


class BadPayload(Refused, ValueError):
    """The payload does not fit the handler's signature; `at` names the key."""

    code = "bad-payload"


class BadConfig(Refused, ValueError):
    """A declaration is wrong: a field, a class, a line of `dan9.toml`."""

    code = "bad-config"


class AmbiguousName(Refused, LookupError):
    """A bare name fits several daemons; `chain` lists them."""

    code = "ambiguous-name"


class NotRunning(Refused):
    """The daemon exists but no incarnation of it runs."""

    code = "not-running"


class Suspended(Refused):
    """The daemon is suspended and the caller did not want to wait."""

    code = "suspended"


class MailboxFull(Refused):
    """The receiver's mailbox is at its limit; the message was not queued."""

    code = "mailbox-full"


class NotAllowed(Refused):
    """The receiver, or the ref, does not let this sender say this."""

    code = "not-allowed"


class NotSupported(Refused):
    """Known, but not to be had here (a missing kernel feature, a later version)."""

    code = "not-supported"


class AskCycle(Refused):
    """The ask would wait for itself; `chain` is the cycle, the asker first."""

    code = "ask-cycle"


class AddressInUse(Refused):
    """The address (of a daemon or of a socket) is taken."""

    code = "address-in-use"


class NotFound(Refused, LookupError):
    """No such file, task, binding, version or handle."""

    code = "not-found"


class Exists(Refused):
    """It is already there."""

    code = "exists"


class NotADirectory(Refused):
    """A directory was needed."""

    code = "not-a-directory"


class IsADirectory(Refused):
    """A file was needed."""

    code = "is-a-directory"


class NotEmpty(Refused):
    """The directory still has entries."""

    code = "not-empty"


class OutsideRoot(Refused):
    """The path leads out of the daemon's root."""

    code = "outside-root"


class ReadOnly(Refused):
    """Writing is switched off, or the medium is read-only."""

    code = "read-only"


class NoSpace(Refused):
    """The disk, or the quota, is full."""

    code = "no-space"


class PermissionRefused(Refused):
    """The operating system forbids it."""

    code = "permission"


class ConnectionRefused(Refused):
    """The peer was reached and said no."""

    code = "refused"


class Unreachable(Refused):
    """The host, node or network cannot be reached or its name not resolved."""

    code = "unreachable"


class Closed(Refused):
    """The connection, handle or client was closed."""

    code = "closed"


class TlsFailed(Refused):
    """The TLS handshake failed or the certificate was not accepted."""

    code = "tls"


class NoSuchProcess(Refused):
    """The process has ended or never was."""

    code = "no-such-process"


class NotExecutable(Refused):
    """The command was found, or not found, but cannot be run."""

    code = "not-executable"


class Corrupt(Refused):
    """What was stored is torn, foreign or of a schema that cannot be migrated."""

    code = "corrupt"


class Conflict(Refused):
    """Somebody else changed it first."""

    code = "conflict"


class TimedOut(Refused, TimeoutError):
    """The deadline passed before the reply came.

    A handler that lets that of a nested ask through refuses by it; it does not crash.
    `timeout_s` is the time that was allowed, in seconds.
    """

    code = "timed-out"

    def __init__(self, text: str = "", *, timeout_s: float = 0.0, **facts: object) -> None:
        super().__init__(text, **facts)  # type: ignore[arg-type]  # facts of the base
        self.timeout_s = timeout_s


class DaemonFailed(Dan9Error):
    """The handler crashed; `trace` is its traceback as text."""

    code = "crashed"


class RestartIntensityExceeded(Dan9Error):
    """A supervisor gave up: more restarts within `period_s` than its intensity."""

    code = "restart-intensity"

    def __init__(self, supervisor: str, restarts: int, period_s: float) -> None:
        super().__init__(
            f"{supervisor}: {restarts} restarts within {period_s:g} s", address=supervisor
        )
        self.supervisor = supervisor
        self.restarts = restarts
        self.period_s = period_s


class WireError(Dan9Error):
    """A frame that is no frame: too long, torn, not of this protocol."""

    code = "wire"


class NoNode(Dan9Error):
    """No running node was found, or several and none was named."""

    code = "no-node"


class Dan9InternalError(Exception):
    """A bug in Dan9. Please report it."""


def _by_code(cls: type[Dan9Error], found: dict[str, type[Dan9Error]]) -> None:
    for sub in cls.__subclasses__():
        found.setdefault(sub.code, sub)
        _by_code(sub, found)


def to_form(error: BaseException, *, address: str = "", message: str = "") -> dict[str, object]:
    """Return the error as the plain map that every surface shows.

    Only keys that say something are present; `code` and `text` always are.
    An exception that is no `Dan9Error` becomes `crashed`.
    """
    if not isinstance(error, Dan9Error):
        text = f"{type(error).__name__}: {error}"
        form: dict[str, object] = {"code": DaemonFailed.code, "text": text}
        optional = {"address": address, "message": message}
    else:
        form = {"code": error.code, "text": error.text}
        optional = {
            "hint": error.hint,
            "address": error.address or address,
            "message": error.message or message,
            "at": error.at,
            "trace": error.trace,
        }
        if error.chain:
            form["chain"] = list(error.chain)
    form.update({key: value for key, value in optional.items() if value})
    return {"error": form}


def from_form(form: dict[str, object]) -> Dan9Error:
    """Build the error that `to_form` described; an unknown code gives a `Refused`."""
    body = form.get("error", form)
    assert isinstance(body, dict)
    # A code's own class is the one that stands here; users' classes may share it.
    known: dict[str, type[Dan9Error]] = {Refused.code: Refused}
    for cls in map(globals().get, __all__):
        if isinstance(cls, type) and issubclass(cls, Dan9Error):
            known.setdefault(cls.code, cls)
    _by_code(Dan9Error, known)
    code = str(body.get("code", "error"))
    cls = known.get(code, Refused)
    facts = {key: str(body.get(key, "")) for key in ("hint", "address", "message", "at", "trace")}
    chain = tuple(str(part) for part in body.get("chain", ()))
    error = cls.__new__(cls)
    Dan9Error.__init__(error, str(body.get("text", "")), chain=chain, **facts)
    if isinstance(error, TimedOut):
        error.timeout_s = 0.0
    if cls is Refused and code != Refused.code:
        error.code = code  # type: ignore[misc]  # an instance may carry a user's own code
    return error
