"""The verbs that change something: messages, the life of daemons, the namespace, saved state."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dan9.base.address import SCHEME, is_pattern
from dan9.base.errors import AddressInUse, BadPayload, NotSupported, UnknownMessage
from dan9.cli.session import Session

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = [
    "bind",
    "checkpoint",
    "mount",
    "reload",
    "restart",
    "restore",
    "resume",
    "run",
    "send",
    "start",
    "stop",
    "suspend",
    "tell",
    "unbind",
    "unmount",
]

_NAMESPACE = "d9://namespace/system/namespace"
_PERSISTENCE = "d9://persistence/system/persistence"


def send(session: Session, args: Namespace) -> Any:
    """Ask, and return the reply."""
    payload = _payload(session, args)
    return session.ask_with(args.address, args.type, payload, wait_s=_own_timeout(payload))


def tell(session: Session, args: Namespace) -> None:
    """Send without a reply.

    To one daemon the message is in its mailbox when this returns, so that a wrong name, type or
    key is heard of; to a pattern it goes to each daemon that fits and knows it.
    """
    payload = _payload(session, args)
    if is_pattern(args.address):
        session.client.tell(args.address, args.type, payload=payload)
        session.client.flush()
    else:
        session.client.send(args.address, args.type, payload=payload)


def _payload(session: Session, args: Namespace) -> dict[str, Any]:
    """Make the payload of the words, by the message's schema where there are any."""
    if args.payload is not None:
        payload = _json_payload(args.payload)
        if args.pairs:
            raise BadPayload(
                "both key=value and a whole payload are given", hint="give one of the two"
            )
        return payload
    if not args.pairs:
        return {}
    from dan9.base.arguments import arguments_from_text

    schema = None
    if any(":=" not in pair for pair in args.pairs):
        schema = _schema(session, args.address, args.type)
    return arguments_from_text(args.pairs, schema, read=lambda path: Path(path).read_bytes())


def _json_payload(text: str) -> dict[str, Any]:
    import msgspec

    try:
        payload = msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise BadPayload(
            f"the payload is no JSON: {error}", hint="as --json '{\"by\": 2}'"
        ) from None
    if not isinstance(payload, dict):
        raise BadPayload("the payload is no JSON object", hint="as --json '{\"by\": 2}'")
    return payload


def _schema(session: Session, address: str, type_: str) -> dict[str, Any] | None:
    """Fetch the schema of one message; none if the daemon has no such message (it will say so)."""
    target = session.targets(address)[0]
    if target.startswith("/"):
        # Into a union: the member that will get it knows its messages, the union does not.
        found_at = session.ask(_NAMESPACE, "lookup", path=target, create=True)
        target = found_at["address"] or target
    wanted = type_.replace("_", "-")
    for message in session.ask(target, "describe")["messages"]:
        if message["type"] == wanted:
            found: dict[str, Any] = message["payload"]
            return found
    return None


def _own_timeout(payload: dict[str, Any]) -> float | None:
    """Wait longer than the message itself does, where it has a `timeout` of its own."""
    value = payload.get("timeout")
    if value is None:
        return None
    from dan9.base.duration import parse_duration
    from dan9.base.errors import Refused

    try:
        return parse_duration(value) + 1
    except Refused:
        return None  # the daemon will say what is wrong with it


def start(session: Session, args: Namespace) -> Any:
    """Start what is stopped or failed."""
    return _control(session, args, "start")


def stop(session: Session, args: Namespace) -> Any:
    """Stop, for good."""
    return _control(session, args, "stop")


def restart(session: Session, args: Namespace) -> Any:
    """Stop and start."""
    return _control(session, args, "restart")


def suspend(session: Session, args: Namespace) -> Any:
    """Queue, handle nothing."""
    return _control(session, args, "suspend")


def resume(session: Session, args: Namespace) -> Any:
    """Handle again."""
    return _control(session, args, "resume")


def _control(session: Session, args: Namespace, type_: str) -> list[dict[str, Any]]:
    rows = session.each(args.pattern, type_, spare_system=True)
    return [{"address": _resolved(session, row["address"]), "state": row["reply"]} for row in rows]


def _resolved(session: Session, text: str) -> str:
    """Return the address that a name stood for, so that one sees who was meant."""
    if text.startswith(SCHEME):
        return text
    return str(session.node("resolve", text=text))


def run(session: Session, args: Namespace) -> Any:
    """Start a daemon of the caller's own class, imported from the caller's directory."""
    from dan9.base.address import kebab

    name, pairs = args.name, list(args.pairs)
    if name is not None and "=" in name:  # the name was left out, and a pair took its place
        name, pairs = None, [name, *pairs]
    from dan9.base.arguments import arguments_from_text

    where = str(Path.cwd())
    schema = None
    if any(":=" not in pair for pair in pairs):
        schema = session.node("fields", target=args.target, path=where)
    config = arguments_from_text(pairs, schema, read=lambda path: Path(path).read_bytes())
    name = name or kebab(args.target.rpartition(":")[2])
    try:
        return session.node(
            "spawn", target=args.target, name=name, group=args.group, path=where, config=config
        )
    except AddressInUse as error:
        # The kernel's hint is for Python; and one that is stopped keeps its name.
        error.hint = f"`dan9 status {error.address or name}` shows it; run yours by another name"
        raise


def bind(session: Session, args: Namespace) -> Any:
    """Bind a daemon to a path."""
    return session.ask(
        _NAMESPACE,
        "bind",
        path=args.path,
        target=args.target,
        order=args.order,
        create=args.create or None,
    )


def mount(session: Session, args: Namespace) -> Any:
    """Mount a daemon's own tree at a path."""
    options = {"order": args.order} if args.order else None
    return session.ask(_NAMESPACE, "mount", path=args.path, target=args.target, options=options)


def unbind(session: Session, args: Namespace) -> Any:
    """Undo a bind."""
    return session.ask(_NAMESPACE, "unbind", path=args.path, target=args.target)


def unmount(session: Session, args: Namespace) -> Any:
    """Undo a mount."""
    return session.ask(_NAMESPACE, "unmount", path=args.path, target=args.target)


def checkpoint(session: Session, args: Namespace) -> Any:
    """Save the state of the daemons that fit, or of all in one go."""
    if args.pattern is None:
        return session.ask(_PERSISTENCE, "checkpoint-all", wait_s=60.0)
    has_none = NotSupported, UnknownMessage  # of many, those that keep no state are not missed
    rows = session.each(args.pattern, "checkpoint", passing_over=has_none)
    if "*" not in args.pattern:
        return rows[0]["reply"]
    return [{"address": row["address"], **row["reply"]} for row in rows]


def restore(session: Session, args: Namespace) -> Any:
    """Go back to a saved state."""
    version: int | str | None = args.version
    if isinstance(version, str) and version.isdigit():
        version = int(version)
    return session.ask(args.address, "restore", version=version)


def reload(session: Session, args: Namespace) -> Any:
    """Have the node read its configuration again and apply what is different."""
    path = None if args.config is None else str(Path(args.config).resolve())
    return session.ask("d9://system/system/node", "reload", path=path, wait_s=60.0)
