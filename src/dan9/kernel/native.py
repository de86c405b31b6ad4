"""What compiled Python cannot say: `Bound`, `step`, `throw` and `CoroutineHand`.

Where the kernel is compiled, the first three are C (`native.c`, linked into the library that
mypyc makes); where it is not, they are plain Python (`plain.py`). Both keep one contract.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dan9.base.linked import IS_COMPILED, load
from dan9.kernel.hand import Hand

if TYPE_CHECKING:
    from types import ModuleType

    from dan9.kernel.plain import Bound, step, throw

    library: ModuleType

__all__ = ["Bound", "CoroutineHand", "library", "step", "throw"]


class CoroutineHand(Hand):
    """A `Hand` that can be weakly referenced.

    anyio keys its state by weak reference to the current task, and mypyc's classes have none.
    """

    # Uncompiled, Hand is an ordinary class and has one already.
    __slots__ = () if hasattr(Hand, "__weakref__") else ("__weakref__",)


if not TYPE_CHECKING:
    if IS_COMPILED:
        import dan9.kernel.bound  # noqa: F401 - it calls what is defined there

        library = load("dan9.kernel._native")
        Bound, step, throw = library.Bound, library.step, library.throw
    else:
        library = None
        from dan9.kernel.plain import Bound, step, throw
