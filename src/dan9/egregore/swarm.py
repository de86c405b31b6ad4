"""Swarm: every member gets the message; there is no order among them."""

from __future__ import annotations

import asyncio
from typing import Any

from dan9.base.errors import Dan9Error, MailboxFull
from dan9.egregore.core import Egregore, Pattern, described
from dan9.kernel.daemon import Config
from dan9.kernel.kernel import gather
from dan9.kernel.message import KEYWORDS, Ask, Message, Verb

__all__ = ["Swarm", "SwarmPattern"]

_PORTION = 4096


class SwarmPattern(Pattern):
    """Tells all, or asks all and takes what came by the deadline."""

    async def broadcast(self, type_: str, payload: dict[str, Any], options: dict[str, Any]) -> Any:
        """Return how many were told; or replies, errors and who is missing."""
        if options["gather"]:
            return await self._ask_all(type_, payload, options["timeout"])
        return await self.tell_all(type_, payload)

    async def tell_all(self, type_: str, payload: dict[str, Any]) -> int:
        """Tell every running member; return how many had room and knew the message."""
        owner = self.owner
        system = owner.system
        told = 0
        calls: dict[object, tuple[Verb, dict[str, Any]] | None] = {}
        tell = system.scheduler.tell
        for address in owner.running():
            cell = owner._members[address]
            behaviour = cell.home.behaviour
            try:
                if behaviour not in calls:
                    # Found and checked once a class: the members share the arguments.
                    calls[behaviour] = None
                    _, verb, arguments = system.message_parts(cell, type_, payload, None)
                    calls[behaviour] = verb, arguments
                call = calls[behaviour]
                if call is None:
                    continue
                tell(Message(cell, call[0], KEYWORDS, call[1]))
                told += 1
                if told % _PORTION == 0:
                    await asyncio.sleep(0)  # those who were told, and everybody else
            except MailboxFull as error:
                owner._d9_count("not-told")
                owner.log.warning("%s was not told %s: %s", address, type_, described(error))
            except Dan9Error as error:
                owner.log.warning("%s was not told %s: %s", address, type_, described(error))
        return told

    async def _ask_all(
        self, type_: str, payload: dict[str, Any], timeout: float | None
    ) -> dict[str, Any]:
        owner = self.owner
        asked: list[str] = []
        asks: list[Ask] = []
        out: dict[str, Any] = {"replies": {}, "errors": {}, "missing": []}
        limit = float("inf") if timeout is None else timeout
        for address, cell in owner._members.items():
            if not owner.runs(address):
                out["missing"].append(address)
                continue
            try:
                found, verb, arguments = owner.system.message_parts(cell, type_, payload, None)
            except Dan9Error as error:
                out["errors"][address] = described(error)
                continue
            asked.append(address)
            asks.append(Ask(found, verb, KEYWORDS, arguments, limit))
        replies = await gather(*asks, return_errors=True) if asks else []
        for address, reply in zip(asked, replies, strict=True):
            if isinstance(reply, TimeoutError):
                out["missing"].append(address)
            elif isinstance(reply, BaseException):
                out["errors"][address] = described(reply)
            else:
                out["replies"][address] = reply
        return out


class Swarm(Egregore, type="egregore"):
    """An egregore whose members all get every broadcast."""

    archetype: Config[str] = "swarm"
