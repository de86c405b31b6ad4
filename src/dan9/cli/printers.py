"""One printer a verb: the page and the verb's value in, lines out. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dan9.base.duration import format_duration, format_time
from dan9.cli.show import Page, clean, json_line, value_lines

__all__ = [
    "dashboard",
    "dead",
    "describe",
    "doctor",
    "events",
    "explain",
    "logs",
    "ls",
    "new",
    "nothing",
    "ps",
    "reload",
    "run",
    "several",
    "states",
    "timers",
    "tree",
    "value",
]

_ROW = re.compile(r"(\S+ +)([a-z]+)( .*)")
"""A daemon in the dashboard: its address, its state, the rest."""


def value(page: Page, reply: object) -> list[str]:
    """Print any reply."""
    return value_lines(page, reply)


def nothing(page: Page, reply: object) -> list[str]:  # noqa: ARG001  (every printer has both)
    """Print nothing: no news is good news."""
    return []


def several(page: Page, reply: object) -> list[str]:
    """Print one map as facts, several one after another with their addresses."""
    if not isinstance(reply, list):
        return value_lines(page, reply)
    if not all(isinstance(row, Mapping) and "address" in row for row in reply):
        return value_lines(page, reply)
    lines: list[str] = []
    for row in reply:
        facts = {key: one for key, one in row.items() if key != "address"}
        lines += [*([""] if lines else []), page.paint(row["address"], "bold"), *page.facts(facts)]
    return lines


def ps(page: Page, rows: list[dict[str, Any]]) -> list[str]:
    """Print a line for each daemon."""
    columns = ["address", "type", "state", "mailbox", "handled", "failed", "restarts", "uptime"]
    return page.table(rows, columns, {"mailbox": _depth, "uptime": format_duration})


def tree(page: Page, nodes: list[dict[str, Any]]) -> list[str]:
    """Draw who supervises whom."""
    return page.tree(nodes)


def states(page: Page, rows: list[dict[str, Any]]) -> list[str]:
    """Print what state each daemon is in now."""
    return [f"{row['address']}  {page.state(str(row['state']))}" for row in rows]


def run(page: Page, row: dict[str, Any]) -> list[str]:
    """Print the address of the new daemon and its state."""
    return states(page, [row])


def describe(page: Page, reply: dict[str, Any]) -> list[str]:
    """Print a daemon's messages as they are typed, each with what it says of itself."""
    lines = [page.paint(reply["address"], "bold"), *_indented(reply.get("doc", ""))]
    for message in reply.get("messages", []):
        payload = message.get("payload") or {}
        head = " ".join([page.paint(message["type"], "bold"), *_keys(payload)])
        result = _kind(message.get("reply") or {}, message.get("reply") or {})
        doc = message.get("doc", "")
        for key in payload.get("properties") or ():
            # A docstring names its arguments as Python does; here they are typed with hyphens.
            doc = doc.replace(str(key).replace("-", "_"), str(key))
        lines += ["", f"{head} → {result}", *_indented(doc)]
    return lines


def explain(page: Page, reply: dict[str, Any]) -> list[str]:
    """Print what a daemon does, on whom it waits and who on it, and why it is as it is."""
    restarts = reply.get("restarts") or 0
    facts = [page.state(str(reply["state"]))]
    if reply.get("uptime"):
        facts.append(f"for {format_duration(reply['uptime'])}")
    if restarts:
        facts.append(f"after {restarts} restart{'s' if restarts != 1 else ''}")
    if reply.get("supervisor"):
        facts.append(f"under {reply['supervisor']}")
    lines = [f"{page.paint(reply['address'], 'bold')}  {' '.join(facts)}"]
    lines += [f"  {line}" for line in _waits(reply)]
    if reply.get("queued"):
        lines.append(f"  {reply['queued']} messages are queued")
    if reply.get("last-error"):
        lines.append(f"  last error: {page.paint(clean(reply['last-error']), 'red')}")
    for step in reply.get("slow-steps") or ():
        took = format_duration(step["took-s"])
        lines.append(f"  held the node for {took} at {_when(step['time'])} in {step['message']}")
    if reply.get("dead-letters"):
        reason = reply.get("latest-dead-letter")
        lines.append(f"  {reply['dead-letters']} dead letters, the latest: {reason}")
    return lines if len(lines) > 1 else [*lines, "  nothing is in hand, nothing is queued"]


def _waits(reply: Mapping[str, Any]) -> list[str]:
    lines = []
    for one in reply.get("in-hand") or ():
        since = format_duration(one.get("since-s") or 0)
        source = f" from {one['from']}" if one.get("from") else ""
        lines.append(f"in hand: {one['message']}{source}, since {since}, waits for {one['on']}")
    for one in reply.get("waited-for-by") or ():
        since = format_duration(one.get("since-s") or 0)
        lines.append(f"waited for by {one['address']} in {one['message']}, since {since}")
    return [clean(line) for line in lines]


def _indented(doc: str) -> list[str]:
    return [f"    {clean(line)}".rstrip() for line in doc.strip().split("\n") if doc.strip()]


def _keys(schema: Mapping[str, Any]) -> list[str]:
    required = set(schema.get("required", ()))
    keys = []
    for key, shape in schema.get("properties", {}).items():
        if key in required:
            keys.append(f"{key}:{_kind(shape, schema)}")
        elif "default" in shape:
            keys.append(f"{key}={json_line(shape['default'])}")
        else:
            keys.append(f"[{key}:{_kind(shape, schema)}]")
    if schema.get("additionalProperties"):
        keys.append("[key=value …]")
    return keys


_KINDS = {
    "string": "text",
    "integer": "int",
    "boolean": "bool",
    "object": "map",
    "array": "list",
    "null": "nothing",
}


def _kind(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """Say in a word what a JSON Schema lets pass."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return _kind(root.get("$defs", {}).get(name, {}), root)
    for several_of in ("anyOf", "oneOf"):
        if several_of in schema:
            return "|".join(dict.fromkeys(_kind(one, root) for one in schema[several_of]))
    if "enum" in schema:
        return "|".join(str(one) for one in schema["enum"])
    if schema.get("contentEncoding") == "base64":
        return "bytes"
    kind = schema.get("type", "any")
    if kind == "array" and schema.get("items"):
        return f"[{_kind(schema['items'], root)}]"
    return _KINDS.get(kind, str(kind)) if isinstance(kind, str) else "|".join(kind)


def logs(page: Page, reply: Any) -> list[str]:
    """Print entries; one entry alone (a followed log) as one line too."""
    entries = reply if isinstance(reply, list) else [reply]
    return [_entry(page, entry) for entry in entries]


def _entry(page: Page, entry: Mapping[str, Any]) -> str:
    lost = ""
    if entry.get("dropped"):
        lost = page.paint(f"… {entry['dropped']} entries were dropped", "yellow")
        if "text" not in entry:
            return lost
        lost += "\n"
    level = str(entry.get("level", ""))
    when = entry.get("time")
    stamp = format_time(when) if isinstance(when, int | float) else str(when or "")
    fields = entry.get("fields") or {}
    more = "".join(f" {key}={json_line(one)}" for key, one in fields.items())
    pad = " " * max(0, 8 - len(level))
    text = clean(f"{entry.get('source', '')}: {entry.get('text', '')}{more}")
    trace = "".join(
        f"\n    {clean(line)}"
        for line in str(entry.get("trace") or "").rstrip().split("\n")
        if line
    )
    return f"{lost}{page.paint(stamp, 'dim')} {page.level(level)}{pad} {text}{trace}"


def dashboard(page: Page, text: str) -> list[str]:
    """Print monitoring's dashboard, on a terminal in the colours of the other tables."""
    lines = []
    for number, line in enumerate(clean(each) for each in text.splitlines()):
        if number == 0 or line.startswith("daemon "):
            lines.append(page.paint(line, "bold"))
        elif line.startswith("ALERT "):
            lines.append(page.paint(line, "red"))
        else:
            row = _ROW.match(line)
            lines.append(f"{row[1]}{page.state(row[2])}{row[3]}" if row else line)
    return lines


def timers(page: Page, rows: list[dict[str, Any]]) -> list[str]:
    """Print a line for each task."""
    if not rows:
        return ["no tasks are scheduled"]
    rows = [{key.replace("_", "-"): one for key, one in row.items()} for row in rows]
    wanted = [
        "task-id",
        "kind",
        "next",
        "interval",
        "expression",
        "target",
        "type",
        "fired",
        "state",
        "trouble",
    ]
    columns = [key for key in wanted if any(row.get(key) is not None for row in rows)]
    return page.table(rows, columns, {"next": _when, "interval": _length})


def events(page: Page, event: dict[str, Any]) -> list[str]:
    """Print one message or event as one line."""
    if event.get("dropped"):
        lost = page.paint(f"… {event['dropped']} were dropped", "yellow")
        return [lost, *events(page, {**event, "dropped": 0})]
    stamp = page.paint(_when(event.get("time", "")), "dim")
    if "event" in event and event["event"] != "message":
        skip = {"event", "time", "address", "trace", "stack"}
        facts = " ".join(f"{key}={json_line(one)}" for key, one in event.items() if key not in skip)
        text = f"{event['address']} {event['event']} {facts}"
        return [f"{stamp} {clean(text)}".rstrip()]
    payload = json_line(event.get("payload") or {})
    payload = f"{payload[:200]}…" if len(payload) > 200 else payload
    route = f"{event.get('sender') or '-'} → {event.get('recipient', '')}"
    return [f"{stamp} {clean(route)} {clean(str(event.get('type', '')))} {clean(payload)}"]


def dead(page: Page, rows: list[dict[str, Any]]) -> list[str]:
    """Print a line for each dead letter."""
    if not rows:
        return ["no dead letters"]
    columns = ["time", "address", "type", "reason", "sender", "text"]
    return page.table(rows, columns, {"time": _when})


def ls(page: Page, rows: list[Any]) -> list[str]:
    """Print the entries of a place in the namespace."""
    if not all(isinstance(row, Mapping) for row in rows):
        return value_lines(page, rows)
    if not rows:
        return ["(nothing is bound here)"]
    wanted = ["name", "kind", "address", "target", "size", "mtime"]
    columns = [key for key in wanted if any(row.get(key) not in {None, ""} for row in rows)]
    if all(row.get("target") in {None, "", row.get("address")} for row in rows):
        columns = [key for key in columns if key != "target"]
    return page.table(rows, columns or list(rows[0]), {"mtime": _when})


def reload(page: Page, rows: list[dict[str, Any]]) -> list[str]:
    """Print what was done to whom."""
    return page.table(rows, ["what", "address", "state"]) if rows else ["nothing has changed"]


def doctor(page: Page, rows: list[dict[str, Any]]) -> list[str]:
    """Print a line for each check, and what to do about those that failed."""
    lines = []
    for row in rows:
        mark = page.paint("ok  ", "green") if row["ok"] else page.paint("FAIL", "red")
        lines.append(f"{mark} {row['check']}: {row['text']}")
        if row.get("hint") and not row["ok"]:
            lines.append(f"     {row['hint']}")
    return lines


def new(page: Page, reply: dict[str, Any]) -> list[str]:
    """Print the files made and what to type next."""
    next_ = [f"  {page.paint(line, 'bold')}" for line in reply["next"]]
    return [*reply["files"], "", "next:", *next_]


def _depth(mailbox: Any) -> str:
    if isinstance(mailbox, Mapping):
        return str(mailbox.get("depth", ""))
    return str(mailbox)


def _when(value: Any) -> str:
    return format_time(value) if isinstance(value, int | float) else str(value)


def _length(value: Any) -> str:
    return format_duration(value) if isinstance(value, int | float) else str(value)
