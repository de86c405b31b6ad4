"""Finding daemons: refs, addresses, bare names and namespace paths."""

from __future__ import annotations

from typing import TypeVar

from dan9.base.errors import BadAddress, UnknownDaemon
from dan9.kernel.cell import CLOSED, Cell
from dan9.kernel.core import Core
from dan9.kernel.daemon import Daemon
from dan9.kernel.ref import Ref

__all__ = ["Finding"]

D = TypeVar("D", bound=Daemon)


class Finding(Core):
    """From what people write to who is meant."""

    def ref(self, cls: type[D] | str, address: str | None = None) -> D:
        """Return a ref: `ref(Counter, "d9://counter/demo/c1")`, typed as Counter."""
        text = cls if isinstance(cls, str) else address
        if text is None:
            raise BadAddress("ref takes a class and an address", hint="ref(Counter, 'c1')")
        cell = self.cell_of(text)
        if not isinstance(cls, str) and not issubclass(cell.home.behaviour.cls, cls):
            raise BadAddress(
                f"{cell.address} is a {cell.home.behaviour.cls.__name__}, not a {cls.__name__}",
                hint="use ask by name, or the right class",
            )
        return Ref(cell)  # type: ignore[return-value]

    def cell_of(self, target: object, viewer: Cell | None = None) -> Cell:
        """Return the cell that a ref, an address, a bare name or a path means."""
        if isinstance(target, Ref):
            return self.current_cell_of(target._d9_cell)
        if isinstance(target, Daemon):
            return target._d9_cell
        if isinstance(target, Cell):
            return target
        if not isinstance(target, str):
            raise BadAddress(f"{target!r} is no address", hint="an address is d9://type/group/name")
        if target.startswith("/"):
            return self.registry.find(self._resolve_path(target, viewer)[0])
        try:
            return self.registry.find(target)
        except UnknownDaemon:
            cell = self.address_resolver(target) if self.address_resolver is not None else None
            if cell is None:
                raise
            return cell

    def _resolve_path(self, path: str, viewer: Cell | None) -> tuple[str, str]:
        if self.path_resolver is None:
            raise UnknownDaemon(
                f"{path} is a namespace path and no namespace daemon runs",
                hint="start the system with the namespace daemon, or use an address",
            )
        return self.path_resolver(path, viewer.address if viewer is not None else self.outside)

    def resolve(self, text: str) -> str:
        """Return the address that an address, a bare name or a path means."""
        return self.cell_of(text).address

    def current_cell_of(self, cell: Cell) -> Cell:
        """Return who lives at a cell's address now: itself, or who took its freed name."""
        if cell.gate & CLOSED:
            other = self.registry.get(cell.address)
            if other is not None:
                return other
        return cell

    def addresses(self, pattern: str = "**") -> list[str]:
        """Return the addresses that a pattern fits, in order of spawning."""
        cells = sorted(self.registry.cells(pattern), key=lambda cell: cell.serial)
        return [cell.address for cell in cells]
