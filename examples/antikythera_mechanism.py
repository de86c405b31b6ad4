"""The Antikythera mechanism by its tooth counts, turned exactly and held against the sky.

`python examples/antikythera_mechanism.py [FILE.svg]` prints what each dial turns, lets the
mechanism run through a Callippic cycle, compares its Moon and its eclipses with an ephemeris
(astronomy-engine, computed offline) and draws the dials as they stand at the end.
"""

from __future__ import annotations

import asyncio
import bisect
import math
import sys
import tempfile
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import astronomy

from dan9 import Daemon, System, on
from dan9.antikythera import Antikythera
from dan9.antikythera.mechanism import (
    ANOMALISTIC,
    DIALS,
    MESHES,
    TEETH,
    TROPICAL_YEAR_D,
    pin_and_slot,
    rates,
)

MONTHS_A_YEAR = Fraction(235, 19)
SYNODIC_D = 29.530588853
MEANING = {
    "moon": "sidereal months: 254 in 19 years",
    "metonic": "5 turns are 235 months, 19 years",
    "olympiad": "1 turn is 4 years, 4 games",
    "callippic": "1 turn is 76 years",
    "saros": "4 turns are 223 months: eclipses again",
    "exeligmos": "1 turn is 3 Saros: at the same hour",
}


class Dials(Daemon):
    """Notes the month at which each dial comes round."""

    rounds: dict[str, list[int]] = {}

    @on
    def came_round(self, gear: str, tick: int) -> None:
        """Note it."""
        self.rounds.setdefault(gear, []).append(tick)

    @on
    def read(self) -> dict[str, list[int]]:
        """Return the months by dial."""
        return self.rounds


async def run_through(months: int) -> tuple[dict[str, list[int]], dict[str, Any]]:
    """Turn the mechanism by months; return when dials came round, and its status."""
    async with System("workshop", daemons="none", socket=False) as system:
        mechanism = await system.spawn(Antikythera, "mechanism")
        dials = await system.spawn(Dials, "dials")
        await mechanism.register_gear("year", MONTHS_A_YEAR)
        for dial, turns in DIALS.items():
            await mechanism.register_gear(dial, 1 / turns, "year")
        for dial, interval in (("metonic", 5), ("olympiad", 1), ("callippic", 1), ("saros", 4)):
            await mechanism.register_event(dial, "round", interval, "dials", "came-round")
        await mechanism.register_event("exeligmos", "round", 1, "dials", "came-round")
        await mechanism.advance(months)
        return await dials.read(), await mechanism.status()


def eclipses(first: int, last: int, kind: str) -> list[float]:
    """Return the days (from 2000) of the eclipses of the years, Moon's or Sun's.

    The ephemeris would try every month; only those are tried where the Moon is near the
    ecliptic: its latitude at the mean moment is within a degree of that at the true one.
    """
    search: Callable[[Any], Any] = (
        astronomy.SearchLunarEclipse if kind == "moon" else astronomy.SearchGlobalSolarEclipse
    )
    begin, end = (astronomy.Time.Make(year, 1, 1, 0, 0, 0).ut for year in (first, last + 1))
    mean = 5.597 + (SYNODIC_D / 2 if kind == "moon" else 0)  # the new moon of January 2000
    month = math.floor((begin - mean) / SYNODIC_D)
    found = []
    while (moment := mean + month * SYNODIC_D) < end + SYNODIC_D:
        month += 1
        if abs(astronomy.EclipticGeoMoon(astronomy.Time(moment)).lat) > 2.7:
            continue
        peak = search(astronomy.Time(moment - 1.5)).peak.ut
        if abs(peak - moment) < 1.5 and begin <= peak < end:
            found.append(peak)
    return found


def repeated(days: list[float], last: int) -> tuple[int, int]:
    """Return how many eclipses up to a year there are, and how many come again a Saros later."""
    end = astronomy.Time.Make(last + 1, 1, 1, 0, 0, 0).ut
    early = [day for day in days if day < end]
    again = 0
    for day in early:
        later = day + 223 * SYNODIC_D
        at = bisect.bisect_left(days, later - 1)
        again += at < len(days) and days[at] < later + 1
    return len(early), again


def moon_errors() -> tuple[float, float]:
    """Return the RMS error of the Moon's longitude over 19 years: without and with pin and slot.

    The dials are set as well as can be: where the Moon stands and where its apse does at the
    beginning are fitted, the rates are the teeth's.
    """
    sampled = [day * 2.3 for day in range(3017)]  # 19 years from 2000
    seen = [astronomy.EclipticGeoMoon(astronomy.Time(day)).lon for day in sampled]
    moon, apse = float(DIALS["moon"]), float(ANOMALISTIC)
    base = [
        lon - 360 * moon * day / TROPICAL_YEAR_D for lon, day in zip(seen, sampled, strict=True)
    ]
    turning = [math.tau * apse * day / TROPICAL_YEAR_D for day in sampled]

    def rms(swing: list[float]) -> float:
        left = [one - two for one, two in zip(base, swing, strict=True)]
        middle = math.atan2(
            sum(math.sin(math.radians(x)) for x in left),
            sum(math.cos(math.radians(x)) for x in left),
        )
        off = [(x - math.degrees(middle) + 180) % 360 - 180 for x in left]
        return math.sqrt(sum(x * x for x in off) / len(off))

    def slotted(phase: float) -> list[float]:
        return [math.degrees(pin_and_slot(t + phase) - t - phase) for t in turning]

    best = min((rms(slotted(math.radians(at))), at) for at in range(0, 360, 30))[1]
    with_slot = min(rms(slotted(math.radians(best + off))) for off in range(-20, 21, 4))
    return rms([0.0] * len(base)), with_slot


def drawing(gears: list[dict[str, Any]], months: int) -> str:
    """Draw the dials, each with its pointer, as SVG."""
    parts = []
    for number, gear in enumerate(gears):
        x, y = 110 + number % 4 * 200, 110 + number // 4 * 220
        turns = float(Fraction(1)) if gear["name"] == "year" else float(DIALS[gear["name"]])
        angle = 360 * turns * float(months / MONTHS_A_YEAR)
        ticks = "".join(
            f'<line x1="{x}" y1="{y - 80}" x2="{x}" y2="{y - 73}" '
            f'transform="rotate({mark * 10} {x} {y})"/>'
            for mark in range(36)
        )
        parts.append(
            f'<circle cx="{x}" cy="{y}" r="80"/>{ticks}'
            f'<line class="hand" x1="{x}" y1="{y}" x2="{x}" y2="{y - 66}" '
            f'transform="rotate({angle % 360:.3f} {x} {y})"/>'
            f'<text x="{x}" y="{y + 100}">{gear["name"]}</text>'
        )
    style = (
        "circle{fill:#f4ecd8;stroke:#6b4f1d;stroke-width:3}line{stroke:#6b4f1d}"
        ".hand{stroke:#8c1c13;stroke-width:4;stroke-linecap:round}"
        "text{font:15px serif;text-anchor:middle;fill:#3b2c10}"
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 820 440">'
        f"<style>{style}</style>{''.join(parts)}</svg>\n"
    )


def main() -> None:
    """Print the table and the comparisons, draw the dials."""
    turning = rates()
    print(f"{len(TEETH)} wheels, {sum(TEETH.values())} teeth, {len(MESHES)} meshes")
    print(f"{'dial':<10} {'turns a year':>14}  exact  counts")
    for dial, meant in DIALS.items():
        exact = "yes" if turning[dial] == meant else "NO"
        print(f"{dial:<10} {turning[dial]!s:>14}  {exact:<5}  {MEANING[dial]}")

    months = 4 * 940 + 669
    rounds, status = asyncio.run(run_through(months))
    print(
        f"\n{months} months, {float(months / MONTHS_A_YEAR):.1f} years; dials come round at month"
    )
    for dial, at in rounds.items():
        print(f"{dial:<10} {', '.join(map(str, at[:5]))}{', …' if len(at) > 5 else ''}")

    print("\nEclipses 1900 to 2055 that come again after 223 months")
    for kind in ("moon", "sun"):
        count, again = repeated(eclipses(1900, 2073, kind), 2055)
        print(f"{kind:<10} {again} of {count}, {100 * again / count:.1f} %")

    plain, slotted = moon_errors()
    print("\nThe Moon's longitude over 19 years, root mean square error")
    print(f"mean motion alone        {plain:.2f} degrees")
    print(f"with the pin and slot    {slotted:.2f} degrees")

    default = Path(tempfile.gettempdir()) / "antikythera-mechanism.svg"
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    path.write_text(drawing(status["gears"], months), encoding="utf-8")
    print(f"\nthe dials as they stand: {path}")


if __name__ == "__main__":
    main()
