"""Watch a worker for five minutes: dashboard, table, history, figures, an alert.

`python examples/monitoring.py`. It runs in virtual time, so the five minutes are over at once and
every run prints the same.
"""

from __future__ import annotations

import asyncio

from dan9 import Daemon, System, VirtualClock, every, on
from dan9.daemons.monitoring import Monitoring

CLOCK = VirtualClock()


class Worker(Daemon):
    """Works in bursts: more and more, then it rests."""

    backlog: int = 0

    @every("10s")
    async def burst(self) -> None:
        """Work as often as there are minutes since the beginning; rest in the fourth."""
        minute = int(self.clock.monotonic() // 60)
        self.backlog = 0 if minute == 3 else minute * 50
        await self.set_metric("backlog", self.backlog)  # a metric of one's own
        for _ in range(self.backlog):
            self.job.tell()

    @on
    def job(self) -> None:
        """Do one piece of work; the node counts it as `job-count`."""


class Operator(Daemon):
    """Is told when something is wrong."""

    @on
    def alert(self, daemon: str, metric: str, value: float, change: str, **facts: object) -> None:
        """Say so."""
        at = self.clock.monotonic()
        print(f"  {at:>5.0f} s  {change}: {metric} of {daemon} is {value:g}")


async def main() -> None:
    """Let five minutes pass and look at them."""
    async with System("lab", daemons=["logging"], socket=False, clock=CLOCK, seed=1) as system:
        await system.spawn(Monitoring, "monitoring", group="system", collect_interval=5.0)
        await system.spawn(Worker, "worker", group="lab")
        await system.spawn(Operator, "operator", group="lab")
        await system.ask(
            "monitoring",
            "alert",
            metric_name="backlog",
            above=80,
            for_="20s",
            daemon_name="worker",
            target="operator",
        )
        print("alerts, as they came")
        await asyncio.sleep(299)

        print("\nthe dashboard")
        print(await system.ask("monitoring", "dashboard", pattern="d9://*/lab/*", width=90))
        print("one metric of everybody who has it")
        print(await system.ask("monitoring", "metrics-table", metric_name="job-count"))

        history = await system.ask(
            "monitoring", "history", daemon_name="worker", metric_name="job-count"
        )
        start = CLOCK.now() - 299
        print("jobs done, minute by minute")
        for minute in range(1, 6):
            until = start + minute * 60
            done = [value for when, value in history["job-count"] if when < until]
            print(f"  {minute}  {done[-1] if done else 0:>5.0f}")

        print("\nsums over all that")
        for metric in ("backlog", "rate"):
            figures = await system.ask(
                "monitoring", "aggregate", daemon_name="worker", metric_name=metric
            )
            shown = ", ".join(f"{key} {figures[key]:g}" for key in ("min", "max", "average"))
            print(f"  {metric}: {shown}, of {figures['count']} samples")

        status = await system.ask("monitoring", "status", daemon_name="worker")
        print("\nthe worker is", status["state"], "and has failed", status["failed"], "times")
        text = await system.ask("monitoring", "prometheus", pattern="d9://worker/**")
        print("the same for Prometheus")
        for line in text.splitlines():
            if "backlog" in line:
                print(" ", line)


if __name__ == "__main__":
    CLOCK.run(main())
