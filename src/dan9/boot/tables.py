"""The parts of a `[daemon.NAME]` with a shape of their own: restart, mailbox, allow and kin."""

from __future__ import annotations

from dan9.base.address import Pattern, kebab
from dan9.base.errors import BadAddress
from dan9.boot.manifest import Access, Mailbox, Readiness, RestartPlan, SavePolicy
from dan9.boot.table import Table

__all__ = ["read_allow", "read_mailbox", "read_ready", "read_restart", "read_save"]

_RESTARTS = ("permanent", "transient", "temporary")
_SIGNS = ("port", "line", "file", "notify")
_POLICIES = ("wait", "refuse", "drop-oldest", "drop-newest")


def read_restart(table: Table) -> RestartPlan | None:
    """Read `restart = "transient"` or `restart = {type = …, backoff = …}`."""
    if not table.has("restart"):
        return None
    if not table.is_table("restart"):
        word = table.choice("restart", _RESTARTS)
        return RestartPlan(word) if word else None  # type: ignore[arg-type]  # one of the three
    inner = table.table("restart")
    plan = RestartPlan(
        type=inner.choice("type", _RESTARTS) or "permanent",  # type: ignore[arg-type]  # one of the three
        backoff_s=inner.duration("backoff"),
        backoff_max_s=inner.duration("backoff-max"),
        jitter=inner.share("jitter"),
        healthy_after_s=inner.duration("healthy-after"),
        give_up_after=inner.whole("give-up-after", least=1),
    )
    inner.refuse_rest()
    first, most = plan.backoff_s, plan.backoff_max_s
    if first is not None and most is not None and first > most:
        inner.fault("backoff", f"{first:g} s is more than backoff-max, {most:g} s")
    return plan


def read_mailbox(table: Table) -> Mailbox | None:
    """Read `mailbox = 500` or `mailbox = {limit = 500, policy = "drop-oldest"}`."""
    if not table.has("mailbox"):
        return None
    if not table.is_table("mailbox"):
        return Mailbox(limit=table.whole("mailbox", least=1))
    inner = table.table("mailbox")
    plan = Mailbox(inner.whole("limit", least=1), inner.choice("policy", _POLICIES))
    inner.refuse_rest()
    return plan


def read_save(table: Table) -> SavePolicy | None:
    """Read `checkpoint = "5m"` or `checkpoint = {interval = …, on-stop = true, …}`."""
    if not table.has("checkpoint"):
        return None
    if not table.is_table("checkpoint"):
        return SavePolicy(interval_s=table.duration("checkpoint"))
    inner = table.table("checkpoint")
    plan = SavePolicy(
        interval_s=inner.duration("interval"),
        on_stop=inner.flag("on-stop"),
        on_change=inner.flag("on-change"),
        keep=inner.whole("keep", least=0),
    )
    inner.refuse_rest()
    return plan


def read_ready(table: Table, *, is_command: bool) -> Readiness | None:
    """Read `ready = "port:8080"` or `ready = {when = "line:up", within = "30s"}`."""
    if not table.has("ready"):
        return None
    if not is_command:
        table.take("ready")
        table.fault(
            "ready", "only a command (exec) has this", hint="a class is ready when on_start returns"
        )
        return None
    if not table.is_table("ready"):
        return Readiness(_sign(table, "ready"))
    inner = table.table("ready")
    plan = Readiness(_sign(inner, "when"), inner.duration("within"))
    inner.refuse_rest()
    return plan


def _sign(table: Table, key: str) -> str:
    value = table.text(key)
    if value is None:
        return ""
    kind, _, rest = value.partition(":")
    if kind not in _SIGNS or bool(rest) != (kind != "notify"):
        hint = "port:8080, port:HOST:8080, line:REGEX, file:/path or notify"
        table.fault(key, f"{value!r} is no sign of readiness", hint=hint)
        return ""
    return value


def read_allow(table: Table) -> tuple[Access, ...]:
    """Read `allow = [{from = "PATTERN", messages = ["read", "stat"]}]`."""
    found = []
    for inner in table.members("allow"):
        from_ = inner.text("from")
        messages = tuple(kebab(word) for word in inner.texts("messages"))
        inner.refuse_rest()
        if from_ is None:
            if not inner.has("from"):
                inner.fault("", "says no from", hint='as {from = "d9://client/**", messages = […]}')
            continue
        try:
            Pattern(from_)
        except BadAddress as error:
            inner.fault("from", error.text, hint=error.hint)
            continue
        found.append(Access(from_, messages))
    return tuple(found)
