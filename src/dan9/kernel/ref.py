"""Refs: what one holds of a daemon instead of the daemon.

A ref has an address, the local mailbox behind it and the class's behaviour table,
never an instance. Type checkers see the class itself: `spawn` and `ref` are typed to
return it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dan9.kernel.bound import Forbidden
from dan9.kernel.native import Bound

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from dan9.kernel.cell import Cell

__all__ = ["Ref"]


class Ref:
    """A handle to one daemon.

    Its attributes are the daemon's messages. What is no message raises AttributeError:
    a daemon's state is private.
    """

    __slots__ = ("__dict__", "__weakref__", "_d9_cell")
    _d9_only: frozenset[str] | None = None  # few refs are narrowed: theirs is in __dict__
    __d9_ref__ = True  # base.forms: on a wire it is its address

    def __init__(self, cell: Cell, only: frozenset[str] | None = None) -> None:
        self._d9_cell = cell
        if only is not None:
            self._d9_only = only

    @property
    def address(self) -> str:
        """The daemon's address."""
        return self._d9_cell.address

    @property
    def name(self) -> str:
        """The daemon's name."""
        return self._d9_cell.name

    @property
    def group(self) -> str:
        """The daemon's group."""
        return self._d9_cell.home.group

    def __getattr__(self, attribute: str) -> Any:
        cell = self._d9_cell
        verb = cell.home.behaviour.names.get(attribute)
        if verb is None:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            raise AttributeError(
                f"{cell.address} has no message {attribute!r}: state is private; ask for it"
            )
        if self._d9_only is not None and verb.type not in self._d9_only:
            found: object = Forbidden(cell.address, verb.type)
        else:
            found = Bound(cell, verb)
        self.__dict__[attribute] = found
        return found

    def ask(
        self,
        type: str,
        /,
        *,
        timeout_s: float | str | None = -1.0,
        **payload: object,
    ) -> Coroutine[Any, Any, Any]:
        """Ask by name; the reply is plain data."""
        system = self._d9_cell.home.scheduler.ports.system  # type: ignore[attr-defined]
        return system.ask(self, type, timeout_s=timeout_s, payload=payload)  # type: ignore[no-any-return]

    def tell(self, type: str, /, **payload: object) -> None:
        """Tell by name."""
        system = self._d9_cell.home.scheduler.ports.system  # type: ignore[attr-defined]
        system.tell(self, type, payload=payload)

    def send(self, type: str, /, **payload: object) -> Coroutine[Any, Any, None]:
        """Tell by name and wait for room."""
        system = self._d9_cell.home.scheduler.ports.system  # type: ignore[attr-defined]
        return system.send(self, type, payload=payload)  # type: ignore[no-any-return]

    def only(self, *types: str) -> Ref:
        """Return a ref that lets only these messages through; narrowing cannot be undone."""
        kept = frozenset(text.replace("_", "-") for text in types)
        if self._d9_only is not None:
            kept &= self._d9_only
        return Ref(self._d9_cell, kept)

    def __repr__(self) -> str:
        return f"<ref {self.address}>"

    def __str__(self) -> str:
        return self.address

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ref):
            return NotImplemented
        return self.address == other.address and self._d9_only == other._d9_only

    def __hash__(self) -> int:
        return hash(self.address)
