"""Ring: the message passes through the members in order and comes back to the start.

The coordinator carries the token: one member has it at a time, and the next gets it when that
one has answered, has fallen, or was ended because it kept the token too long. Each such
healing raises the epoch. A message that waits in a mailbox when its time is up is never handled
(its deadline has passed), so an old token cannot be honoured; what a member does with the
world outside is fenced by the `epoch` it is told: see `Fence`.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dan9.base.errors import Conflict, Dan9Error, NotRunning, Refused, TimedOut
from dan9.egregore.core import Egregore, Pattern
from dan9.kernel.daemon import Config

__all__ = ["Fence", "Ring", "RingPattern"]


class Fence:
    """What a member, or a store behind it, keeps to refuse tokens that are out of date."""

    def __init__(self) -> None:
        self.epoch = 0

    def admit(self, epoch: int) -> None:
        """Let an epoch in.

        Raises:
            Conflict: A newer one was seen.
        """
        if epoch < self.epoch:
            raise Conflict(
                f"the token is of epoch {epoch}, the ring is in {self.epoch}",
                hint="it was taken for lost; the ring goes on without it",
                at="epoch",
            )
        self.epoch = epoch


class RingPattern(Pattern):
    """Passes one token at a time, in the order of the broadcasts."""

    def __init__(self, owner: Egregore) -> None:
        super().__init__(owner)
        cell = owner._d9_cell
        self.holder = ""
        self.healed = 0
        self.order: list[str] = []
        self._token = asyncio.Lock()
        if owner.epoch or cell.started_at >= 0:
            # A coordinator that starts anew may not know the last epoch: its save takes a
            # while. Milliseconds since 1970 are above any number of healings.
            now = int(owner.clock.now() * 1000) + owner.system.next_number()
            owner.epoch = max(owner.epoch + 1, now)
        else:
            owner.epoch = 1

    @property
    def epoch(self) -> int:
        """Return the number that the token carries; it only ever rises."""
        return self.owner.epoch

    def _raise_epoch(self) -> None:
        self.owner.epoch += 1
        self.healed += 1

    async def broadcast(self, type_: str, payload: dict[str, Any], options: dict[str, Any]) -> Any:
        """Return what came back to the start."""
        limit = options["timeout"]
        async with self._token:
            done: list[str] = []
            last = ""
            while (member := self._after(last, done)) is not None:
                done.append(member)
                last = member
                payload = await self._pass(member, type_, payload, limit)
            if not any(self.owner.runs(member) for member in done):
                raise NotRunning("no member of the ring runs", hint="add some")
            return payload

    def joined(self, member: str) -> None:
        """It stands at the end of the ring."""
        if member not in self.order:
            self.order.append(member)

    def left(self, member: str) -> None:
        """The ring closes where it stood; a token that it held is taken back."""
        self.order.remove(member)
        self._heal(member)

    def fallen(self, member: str) -> None:
        """A token that it held is taken back."""
        self._heal(member)

    def status(self) -> dict[str, object]:
        """Add the epoch, who holds the token, and how often the ring healed."""
        return {"epoch": self.epoch, "holder": self.holder or None, "healed": self.healed}

    def _after(self, last: str, done: list[str]) -> str | None:
        """Return who is next: the first after the last one that the token has not seen."""
        order = self.order
        start = order.index(last) + 1 if last in order else 0
        waiting = [one for one in order[start:] if one not in done]
        if not waiting and last not in order:
            return None
        return waiting[0] if waiting else None

    def _heal(self, member: str) -> None:
        if self.holder == member:
            self.holder = ""
            self._raise_epoch()

    async def _pass(
        self, member: str, type_: str, payload: dict[str, Any], limit: float | None
    ) -> dict[str, Any]:
        """Give the token to one member; return the payload that goes on."""
        owner = self.owner
        if not owner.runs(member):
            self._raise_epoch()
            return payload
        self.holder = member
        epoch = self.epoch
        try:
            told = self._told(member, type_, payload)
            reply = await owner.ask(member, type_, payload=told, timeout_s=limit)
        except TimedOut:
            # It must not go on while the next has the token: who hangs is ended.
            owner.log.warning("%s kept the token for %s s and is ended", member, limit)
            if owner.runs(member):
                await owner.system.kill(member)
            self._heal(member)
            return payload
        except Refused as error:
            if isinstance(error, NotRunning) or self.epoch != epoch:
                self._heal(member)
                return payload
            raise
        except Dan9Error:
            self._heal(member)
            return payload
        finally:
            if self.holder == member:
                self.holder = ""
        if self.epoch != epoch:
            return payload  # the token was taken back from it: its answer is out of date
        if reply is None:
            return payload
        return reply if isinstance(reply, dict) else {"value": reply}

    def _told(self, member: str, type_: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Add the epoch, if the member's handler takes it."""
        owner = self.owner
        verb = owner.system.verb_of(owner._members[member], type_)
        takes = verb.function is None or any(
            parameter.key == "epoch" for parameter in verb.signature.parameters
        )
        return {**payload, "epoch": self.epoch} if takes else payload


class Ring(Egregore, type="egregore"):
    """An egregore through whose members each message passes in order."""

    archetype: Config[str] = "ring"
