"""Orders of names: who waits for whom, and whether that can ever end. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["find_cycle", "in_order"]


def find_cycle(after: Mapping[str, Iterable[str]]) -> list[str]:
    """Return one cycle, its first name repeated at the end; empty if there is none.

    Names that are mentioned but are no key are ignored.
    """
    done: set[str] = set()
    for start in after:
        trail: list[str] = []
        stack = [(start, iter(after[start]))] if start not in done else []
        if stack:
            trail.append(start)
        while stack:
            name, rest = stack[-1]
            other = next((one for one in rest if one in after and one not in done), None)
            if other is None:
                done.add(name)
                stack.pop()
                trail.pop()
            elif other in trail:
                return [*trail[trail.index(other) :], other]
            else:
                stack.append((other, iter(after[other])))
                trail.append(other)
    return []


def in_order(after: Mapping[str, Iterable[str]]) -> list[str]:
    """Return the keys so that each stands after those it names, else as they were given.

    The mapping must have no cycle.
    """
    placed: dict[str, None] = {}
    for start in after:
        stack = [(start, iter(after[start]))]
        while stack and start not in placed:
            name, rest = stack[-1]
            other = next((one for one in rest if one in after and one not in placed), None)
            if other is None:
                placed[name] = None
                stack.pop()
            else:
                stack.append((other, iter(after[other])))
    return list(placed)
