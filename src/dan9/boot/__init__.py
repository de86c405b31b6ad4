"""A kernel with the system daemons, configured by `dan9.toml`.

`reading` and its helpers decide what a configuration says (pure); `loading` fetches files
and classes for it; `children` turns it into child specs; `assembly` starts everything in
order; `freshness` sees compiled modules that are not of their sources; `host` is what the
node's daemon may ask of it; `running` is the life of a process around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dan9.kernel.kernel import System

__all__ = ["start"]


async def start(system: System) -> None:
    """Give a kernel that has just begun its system daemons, configuration and socket.

    The kernel calls it by name, because boot lies above it.
    """
    from dan9.boot.assembly import assemble
    from dan9.boot.freshness import refuse_stale

    refuse_stale()
    await assemble(system)
