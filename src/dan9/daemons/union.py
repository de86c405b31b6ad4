"""The union daemon: passes messages on into unions whose members have to be asked.

A path such as `/bin/ls` under a union of several filesystems means the first member that
has `ls`. Only the members know, so whoever is asked has to wait for them; the kernel
cannot, in the middle of sending. It hands the message to this daemon, with the view and the
path, which looks the path up, waiting as long as the message may, and passes it on.

The receiver sees this daemon as the sender; what belongs to its asker (a watch, an open
file) must be asked of the member itself.
"""

from __future__ import annotations

import asyncio
from typing import Any

from dan9.base.errors import Dan9Error, NotFound, NotSupported, UnknownMessage
from dan9.base.fields import Config
from dan9.kernel.daemon import Daemon
from dan9.kernel.message import Message

__all__ = ["Union"]

_CREATES = frozenset(("write", "mkdir"))
"""Messages that make a name where there is none."""
_OWNED = frozenset(("watch", "unwatch", "open", "read-chunk", "progress", "close"))


class Union(Daemon, type="union"):
    """Passes messages for a path into a union to the first member that has the name."""

    namespace: Config[str] = "d9://namespace/system/namespace"

    async def main(self) -> None:
        """Pass on each message in a task of its own: a slow member delays nobody else."""
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for message in self.inbox():
                task = asyncio.get_running_loop().create_task(self._pass_on(message))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_on(self, message: Message) -> None:
        try:
            message.reply(await self._answer(message.type, dict(message.arguments()[1])))
        except Dan9Error as error:
            message.refuse(error)

    async def _answer(self, type_: str, payload: dict[str, Any]) -> object:
        path = payload.pop("path", "")
        view, slash, rest = str(path).removeprefix("/").partition("/")
        if not slash:
            raise UnknownMessage(
                f"{self.address} knows no message {type_!r}", hint="send to a path in a union"
            )
        if type_ in _OWNED:
            raise NotSupported(
                f"{type_} belongs to its asker and cannot be passed on from a union",
                hint=f"lookup path=/{rest} shows the member; send it there",
            )
        where = {"path": f"/{rest}", "view": view}
        try:
            found = await self.ask(self.namespace, "lookup", payload=where)
        except NotFound:
            if type_ not in _CREATES:
                raise
            found = await self.ask(self.namespace, "lookup", payload={**where, "create": True})
        members = [m for m in found["members"] if m["address"]]
        if type_ == "list" and len(found["members"]) > 1:
            return await self._list_all(members, payload)
        if not members:
            raise NotFound(f"/{rest} is a folder of names, no daemon", hint=f"dan9 ls /{rest}")
        member = members[0]
        return await self._ask_member(member, type_, payload)

    async def _list_all(self, members: list[Any], payload: dict[str, Any]) -> list[object]:
        """List every member, in order."""
        out: list[object] = []
        for member in members:
            out.extend(await self._ask_member(member, "list", payload))
        return out

    async def _ask_member(self, member: Any, type_: str, payload: dict[str, Any]) -> Any:
        address, path = member["address"], member["path"]
        verb = self.system.verb_of(self.system.cell_of(address), type_)
        takes_path = verb.function is None or any(
            parameter.key == "path" for parameter in verb.signature.parameters
        )
        if path or takes_path:
            payload = {**payload, "path": path or "/"}
        return await self.ask(address, type_, payload=payload)
