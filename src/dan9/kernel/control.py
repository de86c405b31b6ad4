"""Control messages: answered out of band, even while a handler awaits or nothing runs.

status describe metrics suspend resume are answered at once; start stop restart when
they are done. A supervisor answers them for a child of which no incarnation runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dan9.base.errors import Dan9Error
from dan9.base.reasons import Reason
from dan9.kernel.cell import (
    CREATED,
    FAILED,
    RUNNING,
    STARTING,
    STATE_NAMES,
    STOPPED,
    SUSPENDED,
    Cell,
)

if TYPE_CHECKING:
    from dan9.kernel.kernel import System
    from dan9.kernel.message import Message

__all__ = ["Control"]


class Control:
    """Answers the control messages of all daemons of one system."""

    def __init__(self, system: System) -> None:
        self.system = system
        self._at_once: dict[str, Callable[..., object]] = {
            "status": system.status_of_cell,
            "describe": system.describe_of,
            "metrics": system.metrics_of_cell,
            "suspend": self.suspend,
            "resume": self.resume,
        }

    def answer(self, message: Message) -> None:
        """Answer one control message."""
        cell = message.cell
        cell = self.system.current_cell_of(cell)
        at_once = self._at_once.get(message.type)
        self.system.scheduler.handled += 1
        if at_once is not None:
            try:
                message.reply(at_once(cell, **message.arguments()[1]))
            except Exception as error:
                message.refuse(error)
            return
        _, kwargs = message.arguments()
        args, _ = message.arguments()
        names = ("reason", "drain")
        payload: dict[str, Any] = {**dict(zip(names, args, strict=False)), **kwargs}
        self.system.run(self._answer_later(message, cell, payload))

    async def _answer_later(self, message: Message, cell: Cell, payload: dict[str, Any]) -> None:
        try:
            if message.type == "start":
                value = await self.start(cell)
            elif message.type == "stop":
                value = await self.stop(cell, **payload)
            else:
                value = await self.restart(cell)
        except Dan9Error as error:
            message.refuse(error)
        else:
            message.reply(value)

    # -- each of them --------------------------------------------------------------------------

    async def start(self, cell: Cell) -> str:
        """Start a daemon that is created, stopped or failed; others are left as they are."""
        cold = cell.chill()
        self.system.supervision.forget_restart(cell)
        if cell.state in (CREATED, STOPPED, FAILED) or (
            cell.state == STARTING and not cell.instance
        ):
            cold.streak = None
            parking = self.system.lifecycle.begin(cell)
            if parking is not None:
                await parking
        return self.state(cell)

    async def stop(self, cell: Cell, reason: str = "normal", drain: bool = False) -> str:
        """Stop it; it is not restarted."""
        if cell.state not in (STOPPED, FAILED, CREATED):
            cell.chill().commanded = True
        await self.system.lifecycle.stop(cell, Reason(reason), drain=drain)
        return self.state(cell)

    async def restart(self, cell: Cell) -> str:
        """Stop and start it; mailbox, refs, monitors and address stay."""
        cold = cell.chill()
        if cell.state in (RUNNING, SUSPENDED, STARTING) and cell.instance is not None:
            cold.commanded = True
            await self.system.lifecycle.stop(cell, Reason("shutdown", "restart"), keep_queue=True)
        return await self.start(cell)

    def suspend(self, cell: Cell) -> str:
        """Suspend it."""
        self.system.lifecycle.suspend(cell)
        if cell.instance is not None:
            cell.instance._d9_suspended()  # type: ignore[attr-defined]
        return self.state(cell)

    def resume(self, cell: Cell) -> str:
        """Resume it."""
        self.system.lifecycle.resume(cell)
        if cell.instance is not None:
            cell.instance._d9_resumed()  # type: ignore[attr-defined]
        return self.state(cell)

    @staticmethod
    def state(cell: Cell) -> str:
        """Return the state's name."""
        return STATE_NAMES[cell.state]
