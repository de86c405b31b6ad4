"""Links and monitors against a model: who is told of whose end, and who goes with whom."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, rule
from world_machine import WorldMachine

from dan9 import Daemon, on
from dan9.base.reasons import NORMAL

NAMES = st.sampled_from(["a", "b", "c", "d"])


class Soul(Daemon):
    """Watches others."""

    async def on_start(self) -> None:
        """Have heard nothing."""
        self._downs: list[tuple[int, str, str]] = []

    def on_down(self, down) -> None:
        """Hear of an end."""
        self._downs.append((down.monitor, down.address, down.reason.kind))

    @on
    def end(self, crash: bool) -> None:
        """End."""
        if crash:
            raise RuntimeError("on request")
        self.system.finish(self, NORMAL)


class Ties(WorldMachine):
    """Each monitor tells once; a link takes along only at an abnormal end."""

    @initialize()
    def begin(self) -> None:
        """Start four, none of which comes back."""
        self.alive: set[str] = set()
        self.objects: dict[str, Soul] = {}
        self.links: set[frozenset[str]] = set()
        self.monitors: dict[int, tuple[str, str]] = {}
        self.heard: dict[str, list[tuple[int, str, str]]] = {}
        for name in "abcd":
            self.born(name)

    @rule(name=NAMES)
    def born(self, name: str) -> None:
        """One that is gone begins again, and knows nothing."""
        if name in self.alive:
            return
        self.do(self.world.system.spawn(Soul, name, restart="temporary"))
        self.alive.add(name)
        self.objects[name] = self.instance(name)
        self.heard[name] = []

    @rule(watcher=NAMES, watched=NAMES)
    def monitor(self, watcher: str, watched: str) -> None:
        """Watch somebody; who is not there is down at once."""
        if watcher not in self.alive:
            return
        address = f"d9://soul/default/{watched}"
        number = self.call(lambda: self.world.system.monitor(address, watcher))
        if watched in self.alive:
            self.monitors[number] = (watcher, watched)
        else:
            self.heard[watcher].append((number, address, "noproc"))

    @rule(index=st.integers(0, 10))
    def demonitor(self, index: int) -> None:
        """Watch no longer."""
        if not self.monitors:
            return
        number = sorted(self.monitors)[index % len(self.monitors)]
        watcher, _ = self.monitors.pop(number)
        assert self.call(lambda: self.world.system.demonitor(number, watcher))
        assert not self.call(lambda: self.world.system.demonitor(number, watcher))

    @rule(one=NAMES, other=NAMES, tie=st.booleans())
    def link(self, one: str, other: str, tie: bool) -> None:
        """Tie two, or untie them."""
        if one not in self.alive or other not in self.alive:
            return
        system = self.world.system
        self.call(lambda: (system.link if tie else system.unlink)(one, other))
        if one != other:
            (self.links.add if tie else self.links.discard)(frozenset((one, other)))

    @rule(name=NAMES, crash=st.booleans())
    def end(self, name: str, crash: bool) -> None:
        """One ends; by a crash it takes along whoever is linked to it, and they theirs."""
        if name not in self.alive:
            return
        self.do(self.world.system.send(f"d9://soul/default/{name}", "end", crash=crash))
        self.settle()
        gone = [name]
        if crash:
            for one in gone:
                for tie in self.links:
                    if one in tie:
                        gone += [other for other in sorted(tie) if other not in gone]
        for one in gone:
            self.alive.discard(one)
        self.links = {tie for tie in self.links if not tie & set(gone)}
        for number, (watcher, target) in sorted(self.monitors.items()):
            if target in gone:
                del self.monitors[number]
                if watcher in self.alive:
                    kind = "crashed" if crash else "normal"
                    self.heard[watcher].append((number, f"d9://soul/default/{target}", kind))
            elif watcher in gone:
                del self.monitors[number]

    @invariant()
    def agrees(self) -> None:
        """The same live, and each has heard what it should, once."""
        if not hasattr(self, "heard"):
            return
        addresses = self.world.system.addresses("d9://soul/**")
        assert set(addresses) == {f"d9://soul/default/{name}" for name in self.alive}
        for name in sorted(self.alive):
            assert sorted(self.objects[name]._downs) == sorted(self.heard[name])


TestTies = Ties.TestCase
TestTies.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
