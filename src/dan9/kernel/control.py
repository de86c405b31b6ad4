"""Control messages: answered out of band, even while a handler awaits or nothing runs.

status describe metrics suspend resume are answered at once; start stop restart when
they are done. A supervisor answers them for a child of which no incarnation runs, and then
also what otherwise comes from the mailbox: get-metric and set-metric from the record,
restore by starting it with the state that is asked for, ping and checkpoint by
`not-running`, because there is no life to prove and nothing to save.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from dan9.base.reasons import Reason
from dan9.kernel import metrics
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
            "get-metric": system.metric_of,
            "set-metric": self.set_metric,
        }
        self._later: dict[str, Callable[..., Coroutine[Any, Any, object]]] = {
            "start": self.start,
            "stop": self.stop,
            "restart": self.restart,
            "restore": self.restore,
        }

    def answers_for(self, message: Message) -> bool:
        """True if this is a universal message to a supervised daemon that does not run."""
        cell = message.cell
        return (
            message.verb.source is not None  # not the kernel's own
            and cell.instance is None
            and self.system.registry.get(cell.address) is cell
        )

    def answer(self, message: Message) -> None:
        """Answer one control message."""
        cell = message.cell
        cell = self.system.current_cell_of(cell)
        at_once = self._at_once.get(message.type)
        if self.system.registry.get(cell.address) is not cell:  # its name was freed
            self.system.scheduler.bury(message, "not-running")
            return
        self.system.scheduler.handled += 1
        args, kwargs = message.arguments()
        if at_once is not None:
            try:
                message.reply(at_once(cell, *args, **kwargs))
            except Exception as error:
                message.refuse(error)
            return
        later = self._later.get(message.type)
        if later is None:
            message.refuse(self.system.lifecycle.not_running(cell, message))
            return
        try:
            answer = later(cell, *args, **kwargs)
        except TypeError as error:
            message.refuse(error)
        else:
            self.system.run(self._answer_later(message, answer))

    async def _answer_later(self, message: Message, answer: Coroutine[Any, Any, object]) -> None:
        try:
            value = await answer
        except Exception as error:
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
            restarting = self.system.supervision.restarting
            restarting.add(cell)
            try:
                reason = Reason("shutdown", "restart")
                await self.system.lifecycle.stop(cell, reason, keep_queue=True)
            finally:
                restarting.discard(cell)
        return await self.start(cell)

    async def restore(self, cell: Cell, version: int | str = "latest") -> dict[str, Any]:
        """Start a daemon that does not run with a stored state, or afresh."""
        found = self.system.state.choose(cell, version)
        await self.start(cell)
        if version == "none" and cell.state == RUNNING:
            await self.system.state.save_afresh(cell)
        return found

    @staticmethod
    def set_metric(cell: Cell, name: str, value: float) -> float:
        """Set a metric of its own."""
        return metrics.put(cell, name, value)

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
