"""Names against a model: taken, freed, found by a bare name, given to whom asks first."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, rule
from world_machine import WorldMachine

from dan9 import AddressInUse, Backoff, ChildSpec, Daemon, UnknownDaemon, on
from dan9.base.errors import AmbiguousName
from dan9.base.reasons import NORMAL

GROUPS = st.sampled_from(["default", "system", "other"])
NAMES = st.sampled_from(["x", "y", "z"])
RESTARTS = st.sampled_from(["permanent", "transient", "temporary"])


class Guest(Daemon):
    """Lives somewhere."""

    @on
    def where(self) -> str:
        """Reply its address."""
        return self.address

    @on
    def end(self, crash: bool) -> None:
        """End."""
        if crash:
            raise RuntimeError("on request")
        self.system.finish(self, NORMAL)


class Names(WorldMachine):
    """An address has at most one daemon, and is free when its daemon is gone for good."""

    @initialize()
    def begin(self) -> None:
        """Know nobody."""
        self.there: dict[tuple[str, str], str] = {}
        self.down: set[tuple[str, str]] = set()

    def _spec(self, name: str, group: str, restart: str) -> ChildSpec:
        return ChildSpec(
            Guest, name, group=group, restart=restart, backoff=Backoff(0.0, give_up_after=0)
        )

    @rule(name=NAMES, group=GROUPS, restart=RESTARTS, get=st.booleans())
    def spawn(self, name: str, group: str, restart: str, get: bool) -> None:
        """Take a name, or get who has it."""
        system = self.world.system
        make = system.get_or_spawn if get else system.spawn
        coroutine = make(Guest, name, group=group, spec=self._spec(name, group, restart))
        key = (group, name)
        if key in self.there and not get:
            with pytest.raises(AddressInUse):
                self.do(coroutine)
            return
        ref = self.do(coroutine)
        assert ref.address == f"d9://guest/{group}/{name}"
        self.there.setdefault(key, restart)

    @rule(name=NAMES, group=GROUPS, crash=st.booleans())
    def end(self, name: str, group: str, crash: bool) -> None:
        """It ends; a temporary one frees its name, as OTP has it."""
        key = (group, name)
        if key not in self.there or key in self.down:
            return
        self.do(self.world.system.send(f"d9://guest/{group}/{name}", "end", crash=crash))
        self.settle()
        if self.there[key] == "temporary":
            del self.there[key]
        elif self.there[key] == "transient" and not crash:
            self.down.add(key)

    @rule(name=NAMES, group=GROUPS, verb=st.sampled_from(["stop", "start", "restart"]))
    def operate(self, name: str, group: str, verb: str) -> None:
        """An operator stops, starts, restarts; only the stop of a temporary one frees its name."""
        key = (group, name)
        if key not in self.there:
            with pytest.raises(UnknownDaemon):
                self.do(self.world.system.ask(f"d9://guest/{group}/{name}", verb))
            return
        state = self.do(self.world.system.ask(f"d9://guest/{group}/{name}", verb))
        assert state == ("stopped" if verb == "stop" else "running")
        if verb != "stop":
            self.down.discard(key)
        elif self.there[key] == "temporary":
            del self.there[key]
        else:
            self.down.add(key)

    @invariant()
    def agrees(self) -> None:
        """Addresses, states and bare names are the model's."""
        if not hasattr(self, "there"):
            return
        system = self.world.system
        expected = {f"d9://guest/{group}/{name}" for group, name in self.there}
        assert set(system.addresses("d9://guest/**")) == expected
        for name in "xyz":
            groups = [group for group, other in self.there if other == name]
            if not groups:
                with pytest.raises(UnknownDaemon):
                    system.resolve(name)
            elif len(groups) == 1 or "system" in groups:
                group = "system" if "system" in groups else groups[0]
                assert system.resolve(name) == f"d9://guest/{group}/{name}"
            else:
                with pytest.raises(AmbiguousName) as caught:
                    system.resolve(name)
                assert set(caught.value.chain) == {f"d9://guest/{one}/{name}" for one in groups}
        for group, name in self.there:
            state = system.state_of(f"d9://guest/{group}/{name}")
            assert state == ("stopped" if (group, name) in self.down else "running")


TestNames = Names.TestCase
TestNames.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
