"""The coroutine that `System.spawn` returns.

A daemon whose start takes no code, in a system where nobody watches, is made on the spot, and
a million of them are: where the kernel is compiled, this is C (`native.c`), a coroutine
without a frame. What says so here is for a kernel that is not. Both keep one contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dan9.base.linked import IS_COMPILED
from dan9.kernel.native import library
from dan9.kernel.ref import Ref

if TYPE_CHECKING:
    from dan9.kernel.registry import Registry

__all__ = ["plain", "spawning"]


async def plain(system: Any, registry: Registry, cls: Any, group: str, name: str) -> Any:
    """Spawn a daemon and return its ref when it is ready; `system._spawn` is the long way."""
    behaviour = getattr(cls, "_d9_behaviour", None)
    if (
        registry.is_quiet
        and behaviour is not None
        and behaviour.is_quick
        and behaviour.cls is cls
        and not getattr(cls, "__abstractmethods__", None)
    ):
        cell = registry.claim(behaviour, group, name, is_plain=False)
        daemon: Any = object.__new__(cls)
        daemon._d9_cell = cell
        cell.instance = daemon
        return Ref(cell)
    return await system._spawn(cls, name, None, group=group)


spawning = library.spawning if IS_COMPILED else plain
