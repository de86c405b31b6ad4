"""From plans to child specs: what the kernel's supervisors are given. Imports, starts nothing."""

from __future__ import annotations

import types
from dataclasses import replace
from typing import Any

from dan9.base.errors import BadConfig
from dan9.boot.loading import class_of
from dan9.boot.manifest import DaemonPlan, Manifest, RestartPlan, SupervisorPlan
from dan9.kernel.restart import Backoff
from dan9.kernel.supervisor import ChildSpec, Supervisor

__all__ = ["address_of", "child_spec", "supervisor_spec"]


def address_of(plan: DaemonPlan) -> str:
    """Return the address that a plan's daemon has."""
    return f"d9://{class_of(plan)._d9_behaviour.type_name}/{plan.group}/{plan.name}"


def child_spec(plan: DaemonPlan) -> ChildSpec:
    """Return the child spec of a plan.

    Raises:
        BadConfig: Its class cannot be imported, or a field does not fit.
    """
    cls = class_of(plan)
    config: dict[str, Any] = dict(plan.fields)
    if plan.kind == "exec":
        config["command"] = plan.target
        if plan.ready is not None:
            config["ready"] = plan.ready.when
            if plan.ready.within_s is not None:
                config["ready_within"] = plan.ready.within_s
    restart = plan.restart or RestartPlan()
    return ChildSpec(
        cls,
        plan.name,
        group=plan.group,
        config=cls._d9_fields.convert_all(config),
        restart=restart.type,
        backoff=_backoff(restart),
        shutdown_s=plan.shutdown_s,
        options=_options(plan),
    )


def _options(plan: DaemonPlan) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if plan.mailbox is not None:
        options = {"mailbox": plan.mailbox.limit, "policy": plan.mailbox.policy}
    if plan.allow:
        options["allow"] = [
            {"from": rule.from_, **({"messages": list(rule.messages)} if rule.messages else {})}
            for rule in plan.allow
        ]
    return options


def _backoff(plan: RestartPlan) -> Backoff:
    given: dict[str, Any] = {
        "first_s": plan.backoff_s,
        "max_s": plan.backoff_max_s,
        "jitter": plan.jitter,
        "healthy_s": plan.healthy_after_s,
        "give_up_after": plan.give_up_after,
    }
    backoff = replace(Backoff(), **{key: one for key, one in given.items() if one is not None})
    if backoff.first_s > backoff.max_s:  # the one that was not said follows the one that was
        if plan.backoff_max_s is None:
            return replace(backoff, max_s=backoff.first_s)
        return replace(backoff, first_s=backoff.max_s)
    return backoff


def supervisor_spec(plan: SupervisorPlan, manifest: Manifest) -> ChildSpec:
    """Return the spec of a declared supervisor, its children and theirs inside it.

    The children are in a class of its own, because a supervisor that is restarted
    starts what its class declares.
    """
    daemons = {one.name: one for one in manifest}
    supervisors = {one.name: one for one in manifest.supervisors}
    specs = []
    for child in plan.children:
        if child in daemons:
            specs.append(child_spec(daemons[child]))
        elif child in supervisors:
            specs.append(supervisor_spec(supervisors[child], manifest))
        else:
            raise BadConfig(f"the supervisor {plan.name} has no child {child!r}")
    body = {
        "__doc__": Supervisor.__doc__,
        "__module__": Supervisor.__module__,
        "children": tuple(specs),
    }
    cls = types.new_class(
        "Supervisor", (Supervisor,), {"type": "supervisor"}, lambda space: space.update(body)
    )
    config: dict[str, Any] = {
        "strategy": plan.strategy,
        "intensity": 3 if plan.intensity is None else plan.intensity,
        "period_s": 5.0 if plan.period_s is None else plan.period_s,
    }
    return ChildSpec(cls, plan.name, group="default", config=config)
