"""The namespace daemon: which daemon a path means, and for whom.

The rules are `mounttable`'s; here are the views, the messages, and the asking. A view is
one table of bindings. A daemon sees through its own view if it was given one, else
through that of the daemon it was spawned by, else through the system's; so a test or a
sandbox exchanges `/net` or `/fs` for a whole subtree of daemons, whose code stays as it is.

A path that leads to one daemon is resolved in place (the kernel asks
`system.path_resolver`). A path into a union whose members have to be asked goes to the
union daemon, which finds the member and passes the message on.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator
from typing import TYPE_CHECKING, Literal, TypeVar

from dan9.base.errors import (
    BadAddress,
    BadPayload,
    Dan9Error,
    IsADirectory,
    NotFound,
    NotSupported,
    Refused,
)
from dan9.base.fields import Config
from dan9.daemons.mountscript import first_guess, write_script
from dan9.daemons.mounttable import (
    NAMES,
    REGISTRY,
    Found,
    Member,
    MountTable,
    Order,
    Place,
    address_of,
    place_of,
    text_of_place,
)
from dan9.daemons.namespace_forms import (
    Lookup,
    Named,
    SavedMember,
    form_of,
    named,
    nothing_at,
    table_of,
)
from dan9.daemons.union import Union
from dan9.kernel.daemon import Daemon, on
from dan9.kernel.kernel import current_message

if TYPE_CHECKING:
    from dan9.base.reasons import Reason
    from dan9.kernel.links import Down

__all__ = ["BINDINGS", "SYSTEM_VIEW", "Namespace"]

T = TypeVar("T")

SYSTEM_VIEW = "system"
"""The view of all who have no other."""

BINDINGS = {
    "/fs": "d9://filesystem/system/filesystem",
    "/net": "d9://network/system/network",
    "/proc": "d9://process/system/process",
    "/log": "d9://logging/system/logging",
    "/time": "d9://timer/system/timer",
    "/mon": "d9://monitoring/system/monitoring",
    "/state": "d9://persistence/system/persistence",
    "/dev": "#/dev",
    "/srv": "#s",
}
"""What boot binds: the system daemons, an empty folder for devices, and all daemons by name."""

_UNION = "d9://union/system/union"
_OWN = frozenset((NAMES, REGISTRY))
# What a daemon answers that has no such name, or has no names at all.
_ABSENT = frozenset(
    (
        "not-found",
        "not-a-directory",
        "unknown-message",
        "unknown-daemon",
        "bad-payload",
        "not-running",
    )
)
_MOST_SEEN = 100_000  # viewers whose view is remembered


class Namespace(Daemon, type="namespace"):
    """Gives daemons paths, as Plan 9 gives files names, and each subtree its own view."""

    bindings: Config[dict[str, str]] = BINDINGS
    views: dict[str, dict[str, list[SavedMember]]] = {}
    """The views: place → members. What is saved and restored; the tables are made of it."""
    viewers: dict[str, str] = {}
    """Which daemon has which view."""
    booted: dict[str, str] = {}
    """Which bindings boot has made: those that the configuration changed are made anew."""

    async def on_start(self) -> None:
        """Make the system's view, or the views that were saved, and answer for paths."""
        self._seen: dict[str, str] = {}  # viewer → view, until something is forked
        self._watched: set[str] = set()
        self.views.setdefault(SYSTEM_VIEW, {})
        self._build()
        self._bind_by_boot()
        for viewer in list(self.viewers):
            self._watch(viewer)
        await self.spawn(Union, "union", group="system", namespace=self.address)
        self.system.path_resolver = self._resolve

    def _build(self) -> None:
        """Make the tables of the state: at the start, and when another state is restored."""
        self._tables = {view: table_of(heads) for view, heads in self.views.items()}
        self._built_of = self.views
        self._seen.clear()

    async def on_stop(self, reason: Reason) -> None:
        """No path means anything any more."""
        self.system.path_resolver = None

    async def on_down(self, down: Down) -> None:
        """Drop the view of a daemon that is gone for good."""
        if down.address not in self.system.addresses(down.address):
            self._watched.discard(down.address)
            self._drop_unused(self.viewers.pop(down.address, None))

    def on_status(self) -> dict[str, object]:
        """Count views and bindings."""
        return {
            "views": len(self._tables),
            "bindings": sum(len(table.heads) for table in self._tables.values()),
        }

    # -- messages ---------------------------------------------------------------------------------

    @on(concurrent=True)
    async def bind(
        self,
        path: str,
        target: str,
        order: Literal["replace", "before", "after"] = "replace",
        create: bool = False,
        view: str | None = None,
    ) -> str:
        """Let a path mean a daemon, or what another path means; return the path.

        Args:
            path: Where. Names that do not exist are made.
            target: An address, a bare name, or a path (what it means now); or a place spelled out:
                `d9://type/group/name/path`, `#/path` (the bare name), `#s` (all daemons).
            order: `replace` what is there, or join it in a union, `before` or `after` it.
            create: New names in the union are made in this member.
            view: The view to change; the asker's own by default.

        Errors: not-found, unknown-daemon, ambiguous-name, bad-address, bad-payload (a circle).
        """
        return await self._bind("bind", path, target, order, create=create, view=view)

    @on(concurrent=True)
    async def unbind(self, path: str, target: str | None = None, view: str | None = None) -> str:
        """Undo what was bound at a path, or one member of it; return the path.

        Args:
            path: Where.
            target: The member that goes, as given to bind; all by default.
            view: The view to change; the asker's own by default.

        Errors: not-found (nothing is bound there, or not that).
        """
        table = self._table(view)
        place = await self._locate(table, path)
        targets = None
        if target is not None:
            targets = tuple(m.place for m in await self._members(table, target, may_be_gone=True))
        table.unbind(place, targets)
        self._keep(table, place)
        return path

    @on(concurrent=True)
    async def mount(
        self,
        path: str,
        target: str,
        options: dict[str, str | bool] | None = None,
        view: str | None = None,
    ) -> str:
        """Let a path mean a daemon's own tree; return the path.

        Args:
            path: Where.
            target: A daemon. Another node's namespace or a 9P server are for later.
            options: order and create, as for bind.
            view: The view to change; the asker's own by default.

        Errors: not-supported, unknown-daemon, bad-payload, bad-address.
        """
        if "!" in target or "@" in target:
            what = "a 9P server" if "!" in target else "another node's namespace"
            raise NotSupported(
                f"{target!r}: {what} cannot be mounted yet", hint="mount a daemon of this node"
            )
        if target.startswith(("/", "#")):
            raise BadPayload(
                f"{target!r} is a path; mount takes a daemon", hint="bind takes a path", at="target"
            )
        given = dict(options or {})
        order = given.pop("order", "replace")
        create = given.pop("create", False)
        if given or order not in {"replace", "before", "after"} or not isinstance(create, bool):
            raise BadPayload(
                "options are order (replace, before, after) and create (true, false)", at="options"
            )
        wanted: Order = order  # type: ignore[assignment]  # one of the three, as checked
        return await self._bind("mount", path, target, wanted, create=create, view=view)

    @on(concurrent=True)
    async def unmount(self, path: str, target: str | None = None, view: str | None = None) -> str:
        """Undo a mount: the same as unbind.

        Errors: not-found (nothing is mounted there, or not that).
        """
        return await self.unbind(path, target, view)

    @on(concurrent=True)
    async def lookup(self, path: str, view: str | None = None, create: bool = False) -> Lookup:
        """Return what a path means: the daemon, the rest of the path, and all members.

        Args:
            path: As one would send to.
            view: The view to look in; the asker's own by default.
            create: Of a name that does not exist, return where it would be made.

        Errors: not-found; permission (create: no member of the union takes new names).
        """
        table = self._table(view)
        found = await self._drive(table.walk(path))
        members = found.members
        if found.left:
            if not create:
                raise nothing_at(path)
            members = (Member(found.place_to_create(path)),)
        forms = [form_of(member) for member in members]
        return Lookup(address=forms[0]["address"], path=forms[0]["path"], members=forms)

    @on(concurrent=True)
    async def list_(self, path: str = "/", view: str | None = None) -> list[Named]:
        """List what is at a path; of a union every member's entries, in order.

        What is bound below comes first in each member, then what its daemon lists.

        Errors: not-found, not-a-directory.
        """
        table = self._table(view)
        found = await self._drive(table.walk(path))
        if found.left:
            raise nothing_at(path)
        entries: list[Named] = []
        for number, member in enumerate(found.members):
            names = self._bound_below(table, member.place, path, number)
            known = {entry["name"] for entry in names}
            entries += names
            entries += [
                entry
                for entry in await self._listed(member.place, path, number)
                if entry["name"] not in known
            ]
        if not entries and all(m.place[0] != NAMES for m in found.members):
            first = found.members[0]
            entries.append(named(".", path, "daemon", first.place, text_of_place(first.place), 0))
        return entries

    @on
    def ns(self, view: str | None = None) -> list[str]:
        """Print a view as the commands that rebuild it, one a line.

        Errors: not-found (no such view).
        """
        return write_script(self._table(view))

    @on
    def fork(
        self,
        daemon: str | None = None,
        mode: Literal["copy", "clear", "share"] = "copy",
        of: str | None = None,
    ) -> str:
        """Give a daemon and its children a view of their own; return its id.

        Args:
            daemon: Whose it is; the asker by default.
            mode: `copy`: as the old one is now. `clear`: nothing is bound. `share`: the very view
                of another daemon, so that what one binds the other sees.
            of: The daemon, or the view, that is copied or shared; by default the old view.

        Errors: unknown-daemon, bad-payload, not-found.
        """
        address = self.system.resolve(daemon) if daemon is not None else _sender()
        source = self._view_of(address) if of is None else self._named_view(of)
        if mode == "share" and of is None:
            raise BadPayload("share needs of=", hint="the daemon whose view it is to see", at="of")
        if mode == "share":
            view = source
        else:
            view = next(v for n in itertools.count(1) if (v := f"view-{n}") not in self.views)
            self.views[view] = dict(self.views[source]) if mode == "copy" else {}
            self._tables[view] = self._tables[source].copy() if mode == "copy" else MountTable()
        old = self.viewers.get(address)
        self.viewers[address] = view
        self._drop_unused(old)
        self._watch(address)
        return view

    @on
    def view(self, daemon: str | None = None) -> str:
        """Return the id of the view that a daemon sees through; the asker's by default.

        Errors: unknown-daemon.
        """
        return self._view_of(self.system.resolve(daemon) if daemon is not None else _sender())

    # -- resolving --------------------------------------------------------------------------------

    def _resolve(self, path: str, viewer: str) -> tuple[str, str]:
        """Return the daemon a path means for a viewer, and the rest of the path."""
        if self._built_of is not self.views:
            self._build()
        view = self._seen.get(viewer)
        if view is None:
            view = self._view_of(viewer)
        place = self._tables[view].resolve(path)
        if place is None:  # several may have it: the union daemon asks them
            return _UNION, f"/{view}/{path.lstrip('/')}"
        if place[0] not in _OWN:
            return place[0], place[1] or "/"
        found = address_of(place)
        if found is None:
            raise IsADirectory(
                f"{path!r} is a folder of names, no daemon",
                hint=f"dan9 ls {path} shows what is in it",
            )
        return found[0], found[1] or "/"

    def _view_of(self, viewer: str) -> str:
        """Return the view of a daemon: its own, or of whoever spawned it, and so on up."""
        seen = self._seen.get(viewer)
        if seen is not None:
            return seen
        view = SYSTEM_VIEW
        address = viewer
        passed: set[str] = set()
        while address and address not in passed:
            passed.add(address)
            if address in self.viewers:
                view = self.viewers[address]
                break
            try:
                address = self.system.supervisor_of(self.system.cell_of(address))
            except Dan9Error:  # a client, or one that is gone
                break
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        self._seen[viewer] = view
        return view

    def _named_view(self, text: str) -> str:
        return text if text in self.views else self._view_of(self.system.resolve(text))

    def _table(self, view: str | None) -> MountTable:
        if self._built_of is not self.views:
            self._build()
        table = self._tables.get(self._view_of(_sender()) if view is None else view)
        if table is None:
            raise NotFound(f"no view {view!r}", hint=f"there are {', '.join(self.views)}")
        return table

    async def _drive(self, walk: Generator[Place, bool, T]) -> T:
        """Walk to the end, asking daemons whether they have what the walk asks for."""
        try:
            question = next(walk)
            while True:
                question = walk.send(await self._exists(question))
        except StopIteration as end:
            value: T = end.value
            return value

    async def _locate(self, table: MountTable, path: str) -> Place:
        """Return the place a binding at a path is keyed by."""
        place = place_of(path)
        return place if place is not None else await self._drive(table.locate(path))

    async def _exists(self, place: Place) -> bool:
        """Ask a daemon for a name below it; one that cannot be asked has none."""
        found = address_of(place)
        if found is None:
            return True
        address, path = found
        if not path or path == "/":
            return address in self.system.addresses(address)
        try:
            await self.ask(address, "stat", payload={"path": path})
        except Refused as error:
            return error.code not in _ABSENT
        return True

    async def _members(
        self, table: MountTable, target: str, *, may_be_gone: bool = False
    ) -> tuple[Member, ...]:
        """Return what a target means: a place spelled out, a path, or a daemon's name."""
        place = place_of(target)
        if place is not None:
            return (Member(place),)
        if not target.startswith("/"):
            return (Member((self.system.resolve(target), "")),)
        found: Found = await self._drive(table.walk(target))
        if found.left:
            if may_be_gone:
                return (Member((NAMES, target.rstrip("/"))),)
            raise nothing_at(target)
        return found.members

    async def _bind(
        self, verb: str, path: str, target: str, order: Order, *, create: bool, view: str | None
    ) -> str:
        if "@" in target or "!" in target:
            raise NotSupported(
                f"{target!r}: other nodes and 9P servers cannot be bound yet",
                hint="bind a daemon of this node, or a path",
            )
        table = self._table(view)
        place = await self._locate(table, path)
        members = await self._members(table, target)
        table.bind(
            place, tuple(Member(m.place, m.create, verb) for m in members), order, create=create
        )
        self._keep(table, place)
        return path

    # -- listing ----------------------------------------------------------------------------------

    def _bound_below(self, table: MountTable, place: Place, path: str, number: int) -> list[Named]:
        entries = []
        for name in table.children(place):
            below = (place[0], f"{place[1]}/{name}")
            members = table.members_at(below)
            bound = below in table.heads and members[0].place != below
            entry = named(
                name,
                f"{path.rstrip('/')}/{name}",
                "daemon" if address_of(members[0].place) else "folder",
                members[0].place,
                " ".join(text_of_place(m.place) for m in members) if bound else "",
                number,
            )
            if len(members) > 1:
                entry["order"] = "union"
            entries.append(entry)
        return entries

    async def _listed(self, place: Place, path: str, number: int) -> list[Named]:
        """Return what a daemon lists below a place; nothing if it lists no paths."""
        prefix = path.rstrip("/")
        if place[0] == REGISTRY:
            return self._daemons(place, prefix, number)
        found = address_of(place)
        if found is None or not self._takes_path(found[0], "list"):
            return []
        rows = await self.ask(found[0], "list", payload={"path": found[1] or "/"})
        return [
            named(
                row["name"],
                f"{prefix}/{row['name']}",
                str(row.get("type", "file")),
                (place[0], f"{place[1]}/{row['name']}"),
                "",
                number,
            )
            for row in rows
        ]

    def _daemons(self, place: Place, prefix: str, number: int) -> list[Named]:
        """List the registry: types, groups, names."""
        above = place[1].split("/")[1:]
        names: dict[str, None] = {}
        for address in self.system.addresses():
            parts = address.removeprefix("d9://").split("/")
            if len(above) < len(parts) and parts[: len(above)] == above:
                names[parts[len(above)]] = None
        kind = "daemon" if len(above) == 2 else "folder"
        return [
            named(name, f"{prefix}/{name}", kind, (place[0], f"{place[1]}/{name}"), "", number)
            for name in sorted(names)
        ]

    def _takes_path(self, address: str, type_: str) -> bool:
        try:
            verb = self.system.verb_of(self.system.cell_of(address), type_)
        except Refused:
            return False
        return verb.function is not None and any(
            parameter.key == "path" for parameter in verb.signature.parameters
        )

    # -- views -------------------------------------------------------------------------------------

    def _bind_by_boot(self) -> None:
        """Bind what the configuration says, folders before what is in them."""
        table = self._tables[SYSTEM_VIEW]
        for path, target in sorted(self.bindings.items(), key=lambda item: item[0].count("/")):
            if self.booted.get(path) == target:
                continue  # made before, and perhaps unbound by hand since
            place = place_of(target)
            if place is None:
                raise BadAddress(
                    f"bindings: {path} = {target!r} is no place",
                    hint="use d9://type/group/name",
                    at=f"bindings.{path}",
                )
            verb = "mount" if place[0] not in _OWN else "bind"
            head = first_guess(table.locate(path))
            table.bind(head, (Member(place, verb=verb),))
            self._keep(table, head)
            self.booted[path] = target

    def _keep(self, table: MountTable, place: Place) -> None:
        """Keep in the state what now stands at a place."""
        view = next(name for name, other in self._tables.items() if other is table)
        text = text_of_place(place)
        members = table.heads.get(place)
        if members is None:
            self.views[view].pop(text, None)
        else:
            self.views[view][text] = [
                SavedMember(place=text_of_place(m.place), create=m.create, verb=m.verb)
                for m in members
            ]

    def _watch(self, address: str) -> None:
        if address not in self._watched:
            try:
                self.system.monitor(address)
            except Dan9Error:
                return  # a client: its view goes when it forks again, or with the node
            self._watched.add(address)

    def _drop_unused(self, view: str | None) -> None:
        """Drop a view that nobody has any more."""
        self._seen.clear()
        if view not in {None, SYSTEM_VIEW, *self.viewers.values()}:
            assert view is not None
            self.views.pop(view, None)
            self._tables.pop(view, None)


def _sender() -> str:
    message = current_message()
    return message.sender if message is not None else ""
