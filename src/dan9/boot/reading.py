"""From the text of a `dan9.toml` to a manifest, or to the list of everything wrong in it.

Principle: a person who has made three mistakes hears of three, each with its line, before
anything has started. So no check raises: each takes its value out of a table, notes a
fault if it must, and goes on with a default. Only a text that is no TOML at all ends
the reading at its first fault, because nothing after that place has a meaning.

Pure: what is known about classes comes in through `fields_of`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Collection, Mapping
from itertools import pairwise
from typing import Literal

from dan9.base.address import segment
from dan9.base.errors import BadAddress
from dan9.boot.manifest import DaemonPlan, Fault, Manifest, SupervisorPlan
from dan9.boot.order import find_cycle, in_order
from dan9.boot.positions import Path, positions
from dan9.boot.table import Faults, Table
from dan9.boot.tables import (
    read_allow,
    read_mailbox,
    read_ready,
    read_restart,
    read_save,
)

__all__ = ["CheckFields", "read_manifest"]

CheckFields = Callable[[DaemonPlan, tuple[str, ...]], list[tuple[str, str, str]]]
"""Checks a plan's own fields against its class, which may lie in one of the folders that the
file names: (key, text, hint) of each fault."""

_Kind = Literal["system", "type", "run", "exec"]
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*\Z")
_STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


def read_manifest(
    text: str,
    *,
    system: Collection[str] = (),
    types: Collection[str] = (),
    check_fields: CheckFields | None = None,
) -> Manifest | list[Fault]:
    """Read a configuration.

    Args:
        text: The whole file.
        system: The names of the system daemons that there are.
        types: What `type =` may say.
        check_fields: Checks the keys that are a daemon's own; without it any are taken.

    Returns:
        The manifest, its daemons in an order in which they can start; or every fault, by line.
    """
    try:
        data = tomllib.loads(text)
        lines = positions(text)
    except tomllib.TOMLDecodeError as error:
        return [_syntax_fault(str(error), text)]
    except RecursionError:
        return [Fault(1, "the file", "is nested too deeply", "nothing here needs such depth")]
    faults = Faults(lines)
    reader = _Reader(faults, frozenset(system), frozenset(types), check_fields)
    manifest = reader.read(data)
    return sorted(faults.found) if faults.found else manifest


def _syntax_fault(message: str, text: str) -> Fault:
    place = re.search(r"\(at line (\d+), column (\d+)\)", message)
    what = re.sub(r"\s*\(at .*\)\Z", "", message)
    line = int(place.group(1)) if place else text.count("\n") + 1
    hint = ""
    if what.startswith(("Cannot declare", "Cannot overwrite", "Cannot mutate", "Duplicate")):
        hint = "a name or key may be given once; rename or remove one of the two"
    where = f"column {place.group(2)}" if place else "at its end"
    return Fault(line, where, f"this is no TOML: {what}", hint)


class _Reader:
    """One reading of one file."""

    def __init__(
        self,
        faults: Faults,
        system: frozenset[str],
        types: frozenset[str],
        check_fields: CheckFields | None,
    ) -> None:
        self._faults = faults
        self._system = system
        self._types = types
        self._check_fields = check_fields
        self._path: tuple[str, ...] = ()

    def read(self, data: Mapping[str, object]) -> Manifest:
        top = Table(data, (), self._faults)
        head = top.table("system")
        system_daemons = self._system_daemons(head)
        name = head.segment("name")
        state_dir = head.text("state-dir")
        seed = head.whole("seed")
        path = self._path = head.texts("path")
        head.refuse_rest()
        daemons = [self._daemon(one) for one in top.tables("daemon")]
        supervisors = [self._supervisor(one) for one in top.tables("supervisor")]
        top.refuse_rest()
        self._check_system_settings(daemons, system_daemons)
        self._check_children(daemons, supervisors)
        return Manifest(
            name=name,
            daemons=self._ordered(daemons, supervisors),
            supervisors=tuple(supervisors),
            system_daemons=system_daemons,
            path=path,
            state_dir=state_dir,
            seed=seed,
        )

    def _system_daemons(self, head: Table) -> tuple[str, ...] | Literal["all"]:
        value = head.take("daemons")
        if value is None or value == "all":
            return "all"
        if value == "none":
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            head.fault("daemons", 'must be "all", "none" or a list of names')
            return "all"
        for index, item in enumerate(value):
            if item not in self._system:
                head.fault(
                    "daemons", f"no system daemon {item!r}", near=(item, self._system), at=index
                )
        return tuple(value)

    def _daemon(self, table: Table) -> DaemonPlan:
        name = table.key
        self._check_name(table)
        kind, target = self._kind(table, name)
        group = table.segment("group")
        if kind == "system" and group not in {None, "system"}:
            table.fault("group", "a system daemon lives in group system", hint="leave group out")
        plan = DaemonPlan(
            name=name,
            kind=kind,
            target=target,
            group="system" if kind == "system" else group or "default",
            restart=read_restart(table),
            after=table.texts("after"),
            ready=read_ready(table, is_command=kind == "exec"),
            allow=() if self._has_own_allow(table, kind, target) else read_allow(table),
            mailbox=read_mailbox(table),
            save=read_save(table),
            shutdown_s=table.duration("shutdown"),
            fields=table.rest(),
        )
        if self._check_fields is not None and target:
            for key, text, hint in self._check_fields(plan, self._path):
                table.fault(table.spelling(key), text, hint=hint)
        return plan

    def _has_own_allow(self, table: Table, kind: _Kind, target: str) -> bool:
        """True if `allow` is meant for a field of the class, as network has one.

        The node's own is a list of tables, so a list of texts can only be the class's.
        """
        if not table.is_texts("allow") or self._check_fields is None or not target:
            return False
        probe = DaemonPlan(table.key, kind, target, fields={"allow": table.peek("allow")})
        return all(key != "allow" for key, _, _ in self._check_fields(probe, self._path))

    def _kind(self, table: Table, name: str) -> tuple[_Kind, str]:
        """Say how the daemon was declared; on a fault, the first way that was."""
        ways: tuple[_Kind, ...] = ("type", "run", "exec")
        said = [(way, table.text(way)) for way in ways if table.has(way)]
        if len(said) > 1:
            names = " and ".join(key for key, _ in said)
            table.fault(said[1][0], f"both {names} are given", hint="give exactly one of them")
        if not said:
            if name in self._system:
                return "system", name
            table.fault("", "says neither type, run nor exec", hint='as run = "module:Class"')
            return "type", ""
        key, value = said[0]
        if value is None:  # present, but no text: noted already
            return key, ""
        if key == "type" and value not in self._types:
            table.fault("type", f"no daemon type {value!r}", near=(value, self._types))
        elif key == "run" and not _TARGET.match(value):
            table.fault("run", f"{value!r} is no module:Class", hint='as run = "shop.till:Till"')
        elif key == "exec" and not value.strip():
            table.fault("exec", "the command is empty", hint='as exec = "ping -i 60 router"')
        elif key == "type" and name == value and name in self._system:
            return "system", value
        else:
            return key, value
        return key, ""

    def _supervisor(self, table: Table) -> SupervisorPlan:
        self._check_name(table)
        strategy = table.choice("strategy", _STRATEGIES) or _STRATEGIES[0]
        plan = SupervisorPlan(
            name=table.key,
            children=table.texts("children"),
            strategy=strategy,
            intensity=table.whole("intensity", least=0),
            period_s=table.duration("period"),
        )
        if not plan.children and not table.has("children"):
            table.fault("", "has no children", hint='as children = ["db", "web"]')
        table.refuse_rest()
        return plan

    def _check_name(self, table: Table) -> None:
        try:
            segment(table.key)
        except BadAddress as error:
            table.fault("", error.text, hint=error.hint)

    def _check_system_settings(
        self, daemons: list[DaemonPlan], started: tuple[str, ...] | Literal["all"]
    ) -> None:
        if started == "all":
            return
        hint = "name it in [system] daemons"
        for plan in daemons:
            path: Path = ("daemon", plan.name)
            if plan.kind == "system" and plan.name not in started:
                self._faults.note(
                    path, "is set here but not started", f"{hint}, or remove this table"
                )
            if plan.kind == "exec" and "process" not in started:
                self._faults.note((*path, "exec"), "needs the process daemon", hint)
            if plan.save is not None and "persistence" not in started:
                self._faults.note((*path, "checkpoint"), "needs the persistence daemon", hint)

    def _check_children(self, daemons: list[DaemonPlan], supervisors: list[SupervisorPlan]) -> None:
        names = {plan.name: "daemon" for plan in daemons}
        for supervisor in supervisors:
            if supervisor.name in names:
                self._faults.note(
                    ("supervisor", supervisor.name),
                    f"a daemon has the name {supervisor.name!r} as well",
                    "children are named by name alone; rename one of the two",
                )
            names.setdefault(supervisor.name, "supervisor")
        systems = {plan.name for plan in daemons if plan.kind == "system"}
        parents: dict[str, str] = {}
        for supervisor in supervisors:
            for index, child in enumerate(supervisor.children):
                path: Path = ("supervisor", supervisor.name, "children", index)
                if child not in names:
                    self._faults.note(
                        path,
                        f"no daemon or supervisor {child!r}",
                        near=(child, names.keys() - {supervisor.name}),
                    )
                elif child in systems:
                    self._faults.note(path, f"{child!r} is a system daemon and has its supervisor")
                elif child in parents:
                    other = parents[child]
                    text = "twice" if other == supervisor.name else f"a child of {other!r} as well"
                    self._faults.note(path, f"{child!r} is {text}", "a child has one supervisor")
                parents.setdefault(child, supervisor.name)
        cycle = find_cycle({one.name: one.children for one in supervisors})
        if cycle:
            self._faults.note(
                ("supervisor", cycle[0], "children"),
                f"supervises itself: {' > '.join(cycle)}",
                "remove one of these children",
            )

    def _ordered(
        self, daemons: list[DaemonPlan], supervisors: list[SupervisorPlan]
    ) -> tuple[DaemonPlan, ...]:
        names = {plan.name for plan in daemons}
        for plan in daemons:
            for index, other in enumerate(plan.after):
                if other not in names and other not in self._system:
                    self._faults.note(
                        ("daemon", plan.name, "after", index),
                        f"no daemon {other!r}",
                        near=(other, names | self._system),
                    )
        cycle = find_cycle({plan.name: plan.after for plan in daemons})
        if cycle:
            self._faults.note(
                ("daemon", cycle[0], "after"),
                f"waits for itself: {' > '.join(cycle)}",
                "remove one of these after",
            )
            return tuple(daemons)
        # The members of a supervisor start in its order: each after its elder.
        before = {plan.name: list(plan.after) for plan in daemons}
        by_name = {plan.name: plan for plan in daemons}
        for supervisor in supervisors:
            children = [child for child in supervisor.children if child in by_name]
            for elder, child in pairwise(dict.fromkeys(children)):
                before[child].append(elder)
        cycle = find_cycle(before)
        if cycle:
            self._faults.note(
                ("daemon", cycle[0], "after"),
                f"the order of a supervisor's children says otherwise: {' > '.join(cycle)}",
                "put the children in the order in which they can start",
            )
            return tuple(daemons)
        return tuple(by_name[name] for name in in_order(before) if name in by_name)
