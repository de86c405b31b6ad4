"""Supervision as in OTP: the matrix, the edges, escalation, starting and stopping."""

import itertools

import pytest

from dan9 import (
    Backoff,
    ChildSpec,
    Config,
    Daemon,
    DaemonFailed,
    NotRunning,
    Supervisor,
    UnknownDaemon,
    on,
)
from dan9.base.events import (
    DaemonCrashed,
    DaemonStarted,
    DaemonStopped,
    RestartIntensityReached,
)
from dan9.base.events import (
    DaemonFailed as GivenUp,
)
from dan9.base.reasons import NORMAL, Reason
from dan9.testing import run, system

QUICK = Backoff(first_s=0.0, jitter=0.0, give_up_after=0)
ENDS = ("normal", "shutdown", "crashed")
RESTARTS = ("permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")


class Child(Daemon):
    """Ends as it is told, and counts its lives outside."""

    lives: Config[dict[str, int]] = {}
    value: int = 0

    @on
    def set(self, value: int) -> None:
        """Change the state."""
        self.value = value

    @on
    def get(self) -> int:
        """Return the state."""
        return self.value

    @on
    def end(self, how: str) -> None:
        """End: by a crash, or of oneself."""
        if how == "crashed":
            raise RuntimeError("on request")
        self.system.finish(self, Reason(how))


def family(*, strategy="one_for_one", restart="permanent", intensity=None, backoff=QUICK):
    """Return a Supervisor class of three children a, b, c."""

    class Family(Supervisor, type="family"):
        children = tuple(
            ChildSpec(Child, name, group="kids", restart=restart, backoff=backoff) for name in "abc"
        )

    return Family, {"strategy": strategy, "intensity": intensity, "period_s": 5.0}


async def incarnations(s):
    """Return each child's value: 1 in those that were never restarted, None if it is gone."""
    found = {}
    for name in "abc":
        try:
            found[name] = await s.ask(f"d9://child/kids/{name}", "get")
        except (UnknownDaemon, NotRunning):
            found[name] = None
    return found


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("restart", RESTARTS)
def test_matrix(restart, how, strategy):
    """3 restart types × 3 kinds of end × 3 strategies: who comes back, who is untouched."""

    async def main():
        async with system() as s:
            cls, config = family(strategy=strategy, restart=restart)
            await s.spawn(cls, "sup", **config)
            for name in "abc":
                await s.ask(f"d9://child/kids/{name}", "set", value=1)
            s.tell("d9://child/kids/b", "end", how=how)
            await s.sleep("1s")
            return await incarnations(s)

    found = run(main)
    restarted = restart == "permanent" or (restart == "transient" and how == "crashed")
    if not restarted:
        assert found == {"a": 1, "b": None, "c": 1}
    elif strategy == "one_for_one":
        assert found == {"a": 1, "b": 0, "c": 1}
    elif strategy == "rest_for_one":
        assert found == {"a": 1, "b": 0, "c": 0}
    else:
        assert found == {"a": 0, "b": 0, "c": 0}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_intensity_edge_escalates(strategy):
    """`intensity` restarts within the period pass; one more ends the supervisor, upward only."""

    async def main(crashes):
        async with system() as s:
            reached = []
            s.subscribe_events(
                lambda e: reached.append(e.address) if isinstance(e, RestartIntensityReached) else 0
            )
            cls, config = family(strategy=strategy, intensity=2)
            await s.spawn(cls, "sup", restart="temporary", **config)
            other = await s.spawn(Child, "neighbour")
            await other.set(7)
            for _ in range(crashes):
                s.tell("d9://child/kids/b", "end", how="crashed")
                await s.sleep("0.5s")
            assert await other.get() == 7, "the neighbour noticed nothing"
            return reached, s.addresses("d9://*/kids/*"), s.addresses("d9://family/**")

    reached, kids, sups = run(lambda: main(2))
    assert (reached, len(kids), len(sups)) == ([], 3, 1)
    reached, kids, sups = run(lambda: main(3))
    assert (reached, kids, sups) == (["d9://family/default/sup"], [], [])


def test_the_window_slides():
    """Crashes further apart than the period are forgiven for ever."""

    async def main():
        async with system() as s:
            cls, config = family(intensity=1)
            await s.spawn(cls, "sup", restart="temporary", **config)
            for _ in range(20):
                s.tell("d9://child/kids/a", "end", how="crashed")
                await s.sleep("5.1s")
            return s.addresses("d9://family/**")

    assert run(main) == ["d9://family/default/sup"]


def test_escalation_reaches_the_supervisors_supervisor_and_no_further():
    """A nested supervisor that gives up is restarted by the one above, with all its children."""

    class Inner(Supervisor):
        children = (ChildSpec(Child, "leaf", backoff=QUICK),)

    class Outer(Supervisor):
        children = (
            ChildSpec(Inner, "inner", config={"intensity": 1, "period_s": 5.0}, backoff=QUICK),
            ChildSpec(Child, "aside", backoff=QUICK),
        )

    async def main():
        async with system() as s:
            await s.spawn(Outer, "outer", intensity=5)
            await s.ask("aside", "set", value=9)
            started = s.status_of("inner")["restarts"]
            for _ in range(2):
                s.tell("leaf", "end", how="crashed")
                await s.sleep("0.1s")
            assert s.status_of("inner")["restarts"] == started + 1
            assert s.status_of("outer")["restarts"] == 0
            assert await s.ask("leaf", "get") == 0
            assert await s.ask("aside", "get") == 9

    run(main)


def test_children_start_in_order_and_stop_in_reverse():
    """Each is started when the one before is ready; stopping goes the other way."""

    async def main():
        async with system() as s:
            seen = []

            def note(event):
                if event.address.startswith("d9://child/"):
                    if isinstance(event, DaemonStarted):
                        seen.append("+" + event.address[-1])
                    elif isinstance(event, DaemonStopped):
                        seen.append("-" + event.address[-1])

            s.subscribe_events(note)
            cls, config = family()
            ref = await s.spawn(cls, "sup", **config)
            await ref.stop()
            return seen

    assert run(main) == ["+a", "+b", "+c", "-c", "-b", "-a"]


@pytest.mark.parametrize("k", [1, 2, 3])
def test_failure_in_start_of_the_kth_child(k):
    """A supervisor whose k-th child does not start takes the others down and fails to start."""

    class Picky(Daemon):
        fails: Config[bool] = False

        async def on_start(self) -> None:
            if self.fails:
                raise RuntimeError("will not start")

    class Broken(Supervisor):
        children = tuple(ChildSpec(Picky, f"p{i}", config={"fails": i == k}) for i in (1, 2, 3))

    async def main():
        async with system() as s:
            with pytest.raises(DaemonFailed, match="will not start"):
                await s.spawn(Broken, "sup")
            await s.sleep("1s")
            return s.addresses("d9://picky/**") + s.addresses("d9://broken/**")

    assert run(main) == []


def test_a_restart_that_fails_to_start_counts_as_another():
    """A child that cannot come back uses up the intensity."""
    broken = {"now": False}

    class Moody(Daemon):
        async def on_start(self) -> None:
            if broken["now"]:
                raise RuntimeError("not today")

        @on
        def fall(self) -> None:
            broken["now"] = True
            raise RuntimeError("fell")

    class Sup(Supervisor):
        children = (ChildSpec(Moody, "m", backoff=QUICK),)

    async def main():
        async with system() as s:
            await s.spawn(Sup, "sup", restart="temporary", intensity=3)
            s.tell("m", "fall")
            await s.sleep("1s")
            return s.addresses("d9://sup/**") + s.addresses("d9://moody/**")

    assert run(main) == []


def test_failure_in_stop_is_logged_and_stopping_goes_on():
    """on_stop that raises, or never returns, does not keep a daemon from stopping."""

    class Bad(Daemon, shutdown_s=2.0):
        how: Config[str]

        async def on_stop(self, reason) -> None:
            if self.how == "raises":
                raise RuntimeError("no")
            await self.sleep("1h")

    async def main():
        async with system() as s:
            for how in ("raises", "hangs"):
                ref = await s.spawn(Bad, how, how=how)
                before = s.clock.monotonic()
                assert await ref.stop() == "stopped"
                assert s.clock.monotonic() - before <= 3.0

    run(main)


def test_default_supervision_backs_off_and_gives_up():
    """0.1 s doubling with ±20 % jitter; after ten restarts in a row the daemon is failed."""

    async def main():
        async with system(seed=3) as s:
            times = []
            s.subscribe_events(
                lambda e: times.append(e.time) if isinstance(e, DaemonCrashed) else None
            )
            given_up = []
            s.subscribe_events(lambda e: given_up.append(e) if isinstance(e, GivenUp) else None)

            class Doomed(Daemon):
                async def main(self) -> None:
                    raise RuntimeError("at once")

            ref = await s.spawn(Doomed, "d")
            await s.sleep("10m")
            assert s.state_of("d") == "failed"
            assert len(given_up) == 1
            gaps = [b - a for a, b in itertools.pairwise(times)]
            assert len(gaps) == 10
            for n, gap in enumerate(gaps):
                plain = min(0.1 * 2**n, 30.0)
                assert plain * 0.79 <= gap <= plain * 1.21
            with pytest.raises(NotRunning):
                await ref.ask("x")
            assert await ref.start() in ("running", "stopping", "starting")

    run(main)


def test_a_crash_loop_leaves_neighbours_alone():
    """One branch that crashes all the time costs another no latency in virtual time."""

    async def main():
        async with system() as s:

            class Loop(Daemon):
                async def main(self) -> None:
                    raise RuntimeError("again")

            for n in range(5):
                await s.spawn(Loop, f"bad{n}")
            good = await s.spawn(Child, "good")
            for _ in range(50):
                before = s.clock.monotonic()
                await good.get()
                assert s.clock.monotonic() == before
                await s.sleep("0.1s")

    run(main)


def test_restart_keeps_address_refs_monitors_and_mailbox():
    """What was queued is handled by the next incarnation; the message in hand is not retried."""

    class Busy(Daemon):
        seen: list[int] = []

        @on
        async def work(self, n: int) -> list[int]:
            await self.sleep("1s")
            if n == 1:
                raise RuntimeError("one")
            self.seen.append(n)
            return self.seen

    async def main():
        async with system() as s:
            ref = await s.spawn(Busy, "b")
            ref.work.tell(1)
            ref.work.tell(2)
            assert await ref.work(3) == [2, 3]
            assert s.status_of("b")["restarts"] == 1

    run(main)


def test_children_spawned_inside_a_daemon_are_taken_along():
    """That daemon supervises them: they restart under it and end with it."""

    class Parent(Daemon):
        async def on_start(self) -> None:
            self._kid = await self.spawn(Child, "kid")

        @on
        async def kid_value(self) -> int:
            return await self._kid.get()

        @on
        def fall(self) -> None:
            raise RuntimeError("down")

    async def main():
        async with system() as s:
            ref = await s.spawn(Parent, "p", group="house")
            assert s.status_of("kid")["supervisor"] == "d9://parent/house/p"
            await s.ask("kid", "set", value=4)
            assert await ref.kid_value() == 4
            ref.fall.tell()
            await s.sleep("1s")
            assert await ref.kid_value() == 0, "a new kid of a new parent"
            await ref.stop()
            with pytest.raises(UnknownDaemon):
                await s.ask("kid", "get")

    run(main)


def test_a_commanded_stop_is_never_restarted():
    """`stop` leaves a permanent daemon stopped until `start`; refs go on working."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Child, "c")
            assert await ref.stop() == "stopped"
            await s.sleep("5m")
            assert s.state_of("c") == "stopped"
            assert (await ref.status())["state"] == "stopped"
            with pytest.raises(NotRunning, match="dan9 start c"):
                await ref.get()
            assert await ref.start() == "running"
            assert await ref.get() == 0
            assert await ref.restart() == "running"

    run(main)


def test_temporary_and_unsupervised_daemons_free_their_names():
    """Their address is free again when they end, and old refs find the new daemon."""

    async def main():
        async with system() as s:
            old = await s.spawn(Child, "t", restart="temporary")
            await old.set(5)
            old.end.tell("normal")
            await s.sleep("0.1s")
            with pytest.raises(NotRunning):
                await old.get()
            await s.spawn(Child, "t", supervisor=False, value=8)
            assert await old.get() == 8

    run(main)


def test_a_crash_answers_the_asker_with_the_trace():
    """DaemonFailed carries the traceback as text; the form is the same everywhere."""

    async def main():
        async with system() as s:
            ref = await s.spawn(Child, "c")
            with pytest.raises(DaemonFailed) as failed:
                await ref.end("crashed")
            assert "RuntimeError: on request" in failed.value.trace
            assert failed.value.address == "d9://child/default/c"
            assert failed.value.message == "end"

    run(main)


def test_normal_is_normal():
    """Exit reasons are values; the good ends are known."""
    assert NORMAL.is_normal
    assert not Reason("killed").is_normal
    assert str(Reason("crashed", "why")) == "crashed: why"
