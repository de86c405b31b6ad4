"""What `dan9.toml` declares, as values.

Nothing here reads, imports or starts anything: `reading.py` makes these values from a
text, `assemble.py` makes daemons from them. A `None` means "not said": the default
is then the kernel's, named in one place only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

__all__ = [
    "Access",
    "Change",
    "DaemonPlan",
    "Fault",
    "Mailbox",
    "Manifest",
    "Readiness",
    "RestartPlan",
    "SavePolicy",
    "SupervisorPlan",
    "changes",
]

RestartType = Literal["permanent", "transient", "temporary"]


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing that is wrong in a configuration.

    Attributes:
        line: Where, from 1.
        key: The key concerned, dotted as in the file: `daemon.web.group`.
        text: What is wrong with it.
        hint: What to write instead; may be empty.
    """

    line: int
    key: str
    text: str
    hint: str = ""

    def __str__(self) -> str:
        tail = f" ({self.hint})" if self.hint else ""
        return f"{self.line}: {self.key}: {self.text}{tail}"


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """When and how fast a daemon is restarted; durations in seconds."""

    type: RestartType = "permanent"
    backoff_s: float | None = None
    backoff_max_s: float | None = None
    jitter: float | None = None
    healthy_after_s: float | None = None
    give_up_after: int | None = None


@dataclass(frozen=True, slots=True)
class Mailbox:
    """How many messages a mailbox holds, and what happens to one more."""

    limit: int | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class SavePolicy:
    """When the state is saved: every so many seconds, at the end, after each change."""

    interval_s: float | None = None
    on_stop: bool | None = None
    on_change: bool | None = None
    keep: int | None = None


@dataclass(frozen=True, slots=True)
class Access:
    """Who may say what: senders that match `from_`, and the types they may send (all if empty)."""

    from_: str
    messages: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Readiness:
    """When a command counts as ready, and how long that may take.

    Attributes:
        when: The sign that it serves: `port:8080`, `line:REGEX`, `file:/path`, `notify`; empty: as
            soon as it runs.
        within_s: How long it may take before the start has failed.
    """

    when: str = ""
    within_s: float | None = None


@dataclass(frozen=True, slots=True)
class DaemonPlan:
    """One `[daemon.NAME]`.

    Attributes:
        kind: How it was said: a known `type`, a class to `run`, a command to `exec`, or
            `system`: settings for a system daemon, which is there anyway.
        target: The type's name, `module:Class`, or the command line.
        fields: The daemon's own configuration and first state, under Python names.
    """

    name: str
    kind: Literal["system", "type", "run", "exec"]
    target: str
    group: str = "default"
    restart: RestartPlan | None = None
    after: tuple[str, ...] = ()
    ready: Readiness | None = None
    allow: tuple[Access, ...] = ()
    mailbox: Mailbox | None = None
    save: SavePolicy | None = None
    shutdown_s: float | None = None
    fields: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SupervisorPlan:
    """One `[supervisor.NAME]`; its children start in their order and stop in reverse."""

    name: str
    children: tuple[str, ...]
    strategy: str = "one_for_one"
    intensity: int | None = None
    period_s: float | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole configuration that has passed every check.

    Attributes:
        daemons: In an order in which they can be started: each after those it names.
        system_daemons: `all`, or the names of those to start.
        path: Folders to import `run` modules from, before those of Python.
        source: The file that this was read from.
    """

    name: str | None = None
    daemons: tuple[DaemonPlan, ...] = ()
    supervisors: tuple[SupervisorPlan, ...] = ()
    system_daemons: Literal["all"] | tuple[str, ...] = "all"
    path: tuple[str, ...] = ()
    state_dir: str | None = None
    seed: int | None = None
    source: str | None = field(default=None, compare=False)

    def __iter__(self) -> Iterator[DaemonPlan]:
        return iter(self.daemons)

    def supervisor_of(self, name: str) -> str | None:
        """Return the declared supervisor that has `name` as a child, if any."""
        return next((plan.name for plan in self.supervisors if name in plan.children), None)


@dataclass(frozen=True, slots=True)
class Change:
    """One step from the running configuration to a new one."""

    what: Literal["add", "remove", "replace"]
    plan: DaemonPlan


def changes(old: Manifest, new: Manifest) -> list[Change]:
    """Return what has to be done to go from `old` to `new`, in an order that works.

    First what goes, latest started first; then what is replaced or new, in the order of
    start. A daemon whose declaration is equal is not touched. A plan that only moved in
    the file is equal.
    """
    before = {plan.name: plan for plan in old}
    after = {plan.name: plan for plan in new}
    gone = [Change("remove", plan) for plan in reversed(old.daemons) if plan.name not in after]
    return gone + [
        Change("replace" if plan.name in before else "add", plan)
        for plan in new
        if before.get(plan.name) != plan
        or old.supervisor_of(plan.name) != new.supervisor_of(plan.name)
    ]
