"""Who lives where: addresses to cells, and bare names to addresses.

(type, group, name) is unique; taking a name is atomic because one thread owns the
registry. A bare name resolves if exactly one daemon has it, group `system` first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from dan9.base.address import SCHEME, Address, Pattern, is_pattern, segment
from dan9.base.errors import AddressInUse, AmbiguousName, BadAddress, UnknownDaemon
from dan9.kernel.cell import RUNNING, SUSPENDED, Behaviour, Cell, Home

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dan9.kernel.scheduler import Scheduler

__all__ = ["Registry"]


@final
class Registry:
    """The daemons of one system, by address."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.homes: dict[str, Home] = {}
        self.serial = 0
        self.count = 0
        self.is_quiet = False  # no events, taps, hooks or store: spawning may take the short way

    def home(self, behaviour: Behaviour, type_name: str, group: str) -> Home:
        """Return the record that daemons of this type and group share."""
        key = type_name + "/" + group
        home = self.homes.get(key)
        if home is None or home.behaviour is not behaviour:
            if home is not None and home.names:
                # Two classes of one type name: each has its own table, they share the names.
                other = Home(self.scheduler, behaviour, type_name, group)
                other.names, other.make = home.names, home.make
                return other
            segment(type_name, "type")
            segment(group, "group")
            home = Home(self.scheduler, behaviour, type_name, group)
            self.homes[key] = home
        return home

    def claim(self, behaviour: Behaviour, group: str, name: str, is_plain: bool) -> Cell:
        """Take a name for a daemon whose start takes no code; return its cell, running.

        A million daemons at once is what it is for: `native.spawning` adds the instance. What is
        left out here (configuration, hooks, state, events) is why others go the long way.

        Args:
            is_plain: The name is known to be a legal segment.

        Raises:
            AddressInUse: The name is taken.
            BadAddress: It is no legal segment.
        """
        scheduler = self.scheduler
        home = behaviour.last_home
        if home is None or home.scheduler is not scheduler or home.group != group:
            home = behaviour.last_home = self.home(behaviour, behaviour.type_name, group)
        if not is_plain or name in home.names:
            cell = self.add(home, name)  # raises what is to be raised
        else:
            cell = Cell(home, name)
            self.serial += 1
            cell.serial = self.serial
            home.names[name] = cell
            self.count += 1
        cell.started_at = scheduler.time()
        cell.state = RUNNING
        cell.gate = 0
        return cell

    def add(self, home: Home, name: str) -> Cell:
        """Take a name.

        Raises:
            AddressInUse: It is taken.
            BadAddress: It is no legal segment.
        """
        names = home.names
        if name in names:
            raise AddressInUse(
                f"{home.prefix}{name} is taken",
                hint="use get_or_spawn, another name, or stop the one there is",
                address=home.prefix + name,
            )
        segment(name)
        cell = Cell(home, name)
        self.serial += 1
        cell.serial = self.serial
        names[name] = cell
        self.count += 1
        return cell

    def remove(self, cell: Cell) -> None:
        """Free the name of a cell, if it is still its own."""
        names = cell.home.names
        if names.get(cell.name) is cell:
            del names[cell.name]
            self.count -= 1

    def get(self, address: str) -> Cell | None:
        """Return who lives at an address, or None."""
        if not address.startswith(SCHEME):
            return None
        head, _, name = address.rpartition("/")
        home = self.homes.get(head[len(SCHEME) :])
        if home is not None:
            return home.find(name)
        if head.count("/") == 2:
            home = self.homes.get(f"{head[len(SCHEME) :]}/default")
            return home.find(name) if home is not None else None
        return None

    def find(self, text: str) -> Cell:
        """Return the daemon that an address or a bare name means.

        Raises:
            BadAddress: Neither; or a pattern, which names many.
            UnknownDaemon: Nobody there; the hint names the nearest.
            AmbiguousName: The bare name fits several; `chain` lists them.
        """
        if text.startswith(SCHEME):
            cell = self.get(text)
            if cell is not None:
                return cell
            if is_pattern(text):
                raise BadAddress(
                    f"{text} is a pattern and names many", hint="an ask goes to one; tell to all"
                )
            parsed = Address.parse(text)
            raise self.unknown(text, parsed.name)
        if is_pattern(text):
            raise BadAddress(
                f"{text} is a pattern and names many", hint="an ask goes to one; tell to all"
            )
        if "/" in text:
            Address.parse(text)  # it was meant for one: say what one is
        segment(text, "address")
        found: list[Cell] = []
        for home in self.homes.values():
            cell = home.find(text)
            if cell is not None:
                found.append(cell)
        if len(found) > 1:
            system = [cell for cell in found if cell.home.group == "system"]
            if len(system) == 1:
                return system[0]
            addresses = tuple(cell.address for cell in found)
            raise AmbiguousName(
                f"{text!r} could be {' or '.join(addresses)}",
                hint="write the whole address",
                chain=addresses,
            )
        if not found:
            raise self.unknown(text, text)
        return found[0]

    def unknown(self, text: str, name: str) -> UnknownDaemon:
        """Return the error for nobody there, with the nearest name as the hint."""
        import difflib

        names: list[str] = []
        for home in self.homes.values():
            if home.type_name != "client" and len(home.names) < 1000:  # clients' are numbers
                names.extend(home.names)
        near = difflib.get_close_matches(name, names, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else "`dan9 ps` lists who is there"
        return UnknownDaemon(f"no daemon {text!r}", hint=hint, address=text)

    def cells(self, pattern: str = "**") -> Iterator[Cell]:
        """Iterate over the daemons that a pattern fits, in order of spawning per home."""
        matcher = None if pattern == "**" else Pattern(pattern)
        seen: set[int] = set()
        for home in list(self.homes.values()):
            if id(home.names) in seen:
                continue
            seen.add(id(home.names))
            for cell in list(home.names.values()):
                if matcher is None or matcher.matches(cell.address):
                    yield cell

    def dirty(self, cells: list[Cell]) -> list[str]:
        """Return the addresses of those with something to save that handled a message since saved.

        Here, because compiled it looks at 100,000 in a few milliseconds.
        """
        found: list[str] = []
        for cell in cells:
            handled: int = cell.handled
            cold = cell.cold
            if handled == 0 or (cold is not None and handled <= cold.saved_at_handled):
                continue
            state: int = cell.state
            if state not in (RUNNING, SUSPENDED):
                continue
            has_metrics = cold is not None and bool(cold.own_metrics or cold.own_histograms)
            if has_metrics or cell.home.behaviour.has_state:
                found.append(cell.address)
        return found
