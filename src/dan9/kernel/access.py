"""Who may say what to a guarded daemon: `allow = [{from = "PATTERN", messages = [...]}]`.

Rules are compiled once; the answer for a sender is kept, so that a check costs a
look-up. Inside one process this is a discipline, not a wall.
"""

from __future__ import annotations

from typing import Any

from dan9.base.address import Pattern, kebab
from dan9.base.errors import BadConfig, NotAllowed

__all__ = ["Rules"]

_REMEMBERED = 4096
_ALL: frozenset[str] = frozenset()


class Rules:
    """The compiled `allow` list of one daemon; what no rule allows is refused.

    Args:
        allow: Maps with `from` (a pattern; everyone if left out) and `messages` (types;
            all if left out).

    Raises:
        BadConfig: A rule has another key or form.
    """

    def __init__(self, allow: list[dict[str, Any]]) -> None:
        self._rules: list[tuple[Pattern, frozenset[str]]] = []
        self._known: dict[str, frozenset[str] | None] = {}
        for index, rule in enumerate(allow):
            unknown = set(rule) - {"from", "from_", "messages"}
            if unknown:
                raise BadConfig(
                    f"allow[{index}] has the key {min(unknown)!r}",
                    hint="a rule has from and messages",
                    at=f"allow[{index}].{min(unknown)}",
                )
            pattern = Pattern(str(rule.get("from", rule.get("from_", "**"))))
            messages = rule.get("messages")
            if messages is not None and not isinstance(messages, (list, tuple)):
                raise BadConfig(
                    f"allow[{index}].messages is no list", hint='as in ["read", "stat"]'
                )
            types = _ALL if messages is None else frozenset(kebab(str(m)) for m in messages)
            self._rules.append((pattern, types if messages is not None else frozenset(("*",))))

    def refusal(self, address: str, sender: str, type_: str) -> NotAllowed | None:
        """Return why `sender` may not say `type_` to `address`, or None."""
        known = self._known
        types = known.get(sender, _ALL)
        if sender not in known:
            if len(known) >= _REMEMBERED:
                known.clear()
            found: set[str] = set()
            for pattern, allowed in self._rules:
                if pattern.matches(sender):
                    found |= allowed
            types = known[sender] = frozenset(found) if found else None
        if types is not None and (type_ in types or "*" in types):
            return None
        return NotAllowed(
            f"{sender} may not say {type_!r} to {address}",
            hint="the daemon's allow rules decide; `dan9 status` shows them",
            address=address,
            message=type_,
        )
