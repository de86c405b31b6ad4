"""A real supervisor in virtual time against a model: who is restarted, when it gives up."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import initialize, invariant, precondition, rule
from world_machine import WorldMachine

from dan9 import Backoff, ChildSpec, Daemon, Supervisor, on
from dan9.base.events import RestartIntensityReached
from dan9.base.reasons import Reason

NAMES = ("a", "b", "c")
RESTARTS = ("permanent", "transient", "temporary")
INTENSITY, PERIOD_S = 3, 5.0


class Child(Daemon):
    """Ends as it is told."""

    @on
    def end(self, how: str) -> None:
        """End: by a crash, or of oneself."""
        if how == "crashed":
            raise RuntimeError("on request")
        self.system.finish(self, Reason(how))


class Supervision(WorldMachine):
    """After any ends at any moments the same children run as in the model."""

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        restarts=st.tuples(*[st.sampled_from(RESTARTS)] * 3),
    )
    def begin(self, strategy: str, restarts: tuple[str, str, str]) -> None:
        """Start a supervisor of three."""
        children = tuple(
            ChildSpec(Child, name, restart=restart, backoff=Backoff(0.0, give_up_after=0))
            for name, restart in zip(NAMES, restarts, strict=True)
        )
        self.family: type[Supervisor] = type(
            "Family", (Supervisor,), {"children": children}, type="family"
        )
        self.strategy = strategy
        self.restarts = dict(zip(NAMES, restarts, strict=True))
        self.reached = 0
        self.expected = 0
        self.world.system.subscribe_events(self._event)
        self.do(
            self.world.system.spawn(
                self.family,
                "f",
                strategy=strategy,
                intensity=INTENSITY,
                period_s=PERIOD_S,
            )
        )
        self._fresh()

    def _fresh(self) -> None:
        """Model a supervisor that has just started."""
        self.up: dict[str, int] = dict.fromkeys(NAMES, 0)  # how often each was restarted
        self.specs = list(NAMES)
        self.down: set[str] = set()
        self.times: list[float] = []
        self.given_up = False
        self.serials = {name: id(self.instance(f"d9://child/default/{name}")) for name in NAMES}
        self.kept = {name: self.instance(f"d9://child/default/{name}") for name in NAMES}

    def _event(self, event: object) -> None:
        self.reached += isinstance(event, RestartIntensityReached)

    @rule(seconds=st.sampled_from([0.1, 2.5, 4.9, 5.0, 5.1]))
    def time_passes(self, seconds: float) -> None:
        """Wait; a supervisor that gave up is restarted by its own after its backoff."""
        if self.given_up:
            self.wait(61.0)  # longer than any backoff, and back in good health
            self.wait(61.0)
            self._fresh()
        else:
            self.wait(seconds)

    @precondition(lambda self: not self.given_up)
    @rule(name=st.sampled_from(NAMES), how=st.sampled_from(["normal", "shutdown", "crashed"]))
    def child_ends(self, name: str, how: str) -> None:
        """A child ends."""
        if name not in self.specs or name in self.down:
            return
        self.world.system.resolve(name)
        self.do(self.world.system.send(f"d9://child/default/{name}", "end", how=how))
        self.settle()
        restart = self.restarts[name]
        if restart == "temporary":
            self.specs.remove(name)
            return
        if restart == "transient" and how != "crashed":
            self.down.add(name)
            return
        now = self.clock.monotonic()
        self.times = [when for when in self.times if when >= now - PERIOD_S] + [now]
        if len(self.times) > INTENSITY:
            self.given_up = True
            self.expected += 1
            return
        for one in self._affected(name):
            if self.restarts[one] == "temporary":
                self.specs.remove(one)
            else:
                self.down.discard(one)
                self.up[one] += 1

    def _affected(self, name: str) -> list[str]:
        if self.strategy == "one_for_one":
            return [name]
        if self.strategy == "one_for_all":
            return list(self.specs)
        return self.specs[self.specs.index(name) :]

    @precondition(lambda self: not self.given_up)
    @rule(name=st.sampled_from(NAMES))
    def operator_stops(self, name: str) -> None:
        """An operator's stop is never undone by a supervisor on its own account."""
        if name not in self.specs or name in self.down:
            return
        self.do(self.world.system.ask(f"d9://child/default/{name}", "stop"))
        if self.restarts[name] == "temporary":
            self.specs.remove(name)
        else:
            self.down.add(name)

    @precondition(lambda self: not self.given_up)
    @rule(name=st.sampled_from(NAMES))
    def operator_starts(self, name: str) -> None:
        """A child that is down can be started."""
        if name in self.specs and name in self.down:
            self.do(self.world.system.ask(f"d9://child/default/{name}", "start"))
            self.down.discard(name)
            self.up[name] += 1

    @invariant()
    def agrees(self) -> None:
        """The same children are up, each in the incarnation that the model counts."""
        if not hasattr(self, "specs"):
            return
        assert self.reached == self.expected
        system = self.world.system
        children = system.addresses("d9://child/**")
        if self.given_up:
            assert children == []
            return
        assert children == [f"d9://child/default/{name}" for name in self.specs]
        for name in self.specs:
            address = f"d9://child/default/{name}"
            state = system.state_of(address)
            assert state == ("stopped" if name in self.down else "running"), (name, state)
            if name not in self.down:
                assert (self.instance(address) is self.kept[name]) == (self.up[name] == 0)


TestSupervision = Supervision.TestCase
TestSupervision.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
