"""Recordings in evemu's form as several kinds of pads would make them: seeded.

A pad has a protocol (slots; one finger only; reports of anonymous fingers), a rate, a
resolution or none, a header in the file or a description beside it, noise, and reports that
are lost. The figures are those of real pads: 40 to 129 Hz, taps of 24 to 124 ms that stay
within 0.4 mm, drags of half a second to five.
"""

from __future__ import annotations

import random  # noqa: TID251  (a generator of its own, seeded)
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Finger(NamedTuple):
    """One finger: when it touches and lifts, s; from where and to where, mm."""

    start: float
    end: float
    x: float
    y: float
    dx: float = 0.0
    dy: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A kind of pad."""

    name: str
    protocol: str = "slots"
    units_per_mm: float = 20.0
    says_resolution: bool = True
    has_header: bool = True
    hz: float = 80.0
    width_mm: float = 100.0


KINDS = [
    Kind("slots"),
    Kind("fine", units_per_mm=94.0, hz=129.0),
    Kind("slow", units_per_mm=16.0, hz=40.0),
    Kind("no-resolution", says_resolution=False),
    Kind("described-beside", has_header=False),
    Kind("one-finger", protocol="single", says_resolution=False, units_per_mm=10.23),
    Kind("anonymous", protocol="anonymous", hz=70.0),
]


def record(kind: Kind, fingers: list[Finger], seed: int) -> str:
    """Return the `E:` lines of these fingers on a pad of this kind."""
    rng = random.Random(f"{kind.name}-{seed}")
    offset = rng.choice([0.0, 1_382_570_926.0])
    lines: list[str] = []
    down: dict[int, int] = {}
    t, ids = 0.0, 0
    end = max(finger.end for finger in fingers) + 2 / kind.hz
    while t < end:
        at: list[str] = []
        is_lost = rng.random() < 0.05  # what changed is told by the next report
        for slot, finger in enumerate(fingers):
            touches = finger.start <= t < finger.end
            if not touches and slot not in down:
                continue
            if is_lost:
                continue
            share = min(1.0, max(0.0, (t - finger.start) / (finger.end - finger.start)))
            x = (finger.x + share * finger.dx + rng.gauss(0, 0.03)) * kind.units_per_mm
            y = (finger.y + share * finger.dy + rng.gauss(0, 0.03)) * kind.units_per_mm
            if kind.protocol == "slots":
                at.append(f"0003 002f {slot:04d}")
                if touches and slot not in down:
                    ids += 1
                    at.append(f"0003 0039 {ids:04d}")
                at += (
                    [f"0003 0035 {x:04.0f}", f"0003 0036 {y:04.0f}"]
                    if touches
                    else ["0003 0039 -001"]
                )
            elif kind.protocol == "anonymous":
                at += [f"0003 0035 {x:.0f}", f"0003 0036 {y:.0f}"] if touches else []
                at.append("0000 0002 0")
            else:
                at += [f"0001 014a {int(touches)}", f"0003 0000 {x:.0f}", f"0003 0001 {y:.0f}"]
                at.append(f"0003 0018 {40 if touches else 0}")
            if touches:
                down[slot] = ids
            else:
                del down[slot]
        if at and not is_lost:
            at.append("0000 0000 0000\t# ------------ SYN_REPORT (0) ----------")
            lines += [f"E: {offset + t:.6f} {line}" for line in at]
        t += rng.gauss(1, 0.05) / kind.hz
    return "\n".join(lines) + "\n"


def header(kind: Kind) -> str:
    """Return what evemu says of a pad of this kind."""
    span = int(kind.width_mm * kind.units_per_mm)
    resolution = f" {kind.units_per_mm:g}" if kind.says_resolution else ""
    codes = ("00", "01") if kind.protocol == "single" else ("00", "01", "35", "36")
    axes = [f"A: {code} 0 {span} 0 0{resolution}" for code in codes]
    return "\n".join([f"# EVEMU 1.2\nN: {kind.name}\nP: 08 00 00", *axes, "#" * 32]) + "\n"


def write(folder: Path, kind: Kind, what: str, fingers: list[Finger], seed: int) -> Path:
    """Write a recording, and what belongs beside it; return the recording."""
    path = folder / f"{kind.name}.{what}.{seed}.events"
    text = record(kind, fingers, seed)
    if kind.has_header:
        path.write_text(header(kind) + text, "utf-8")
    else:
        path.write_text(text, "utf-8")
        (folder / f"{kind.name}.desc").write_text(header(kind), "utf-8")
    return path


def tap(rng: random.Random, fingers: int = 1, times: int = 1) -> list[Finger]:
    """Return fingers that tap together, once or twice at nearly the same place."""
    x, y = rng.uniform(15, 25), rng.uniform(20, 40)
    out: list[Finger] = []
    for number in range(times):
        at, duration = 0.3 * number, rng.uniform(0.03, 0.124)
        out += [
            Finger(
                at + rng.uniform(0, 0.01),
                at + duration + rng.uniform(0, 0.02),
                x + 20 * finger + rng.uniform(-2, 2),
                y + rng.uniform(-2, 2),
                rng.uniform(-0.2, 0.2),
                rng.uniform(-0.2, 0.2),
            )
            for finger in range(fingers)
        ]
    return out


def drag(rng: random.Random, fingers: int = 1) -> list[Finger]:
    """Return fingers that are drawn over the pad side by side."""
    duration, length = rng.uniform(0.5, 4.8), rng.uniform(15, 40)
    along = rng.random() < 0.5
    return [
        Finger(
            0.01 * number,
            duration,
            20 + 20 * number,
            15,
            length if along else 0.0,
            0.0 if along else length,
        )
        for number in range(fingers)
    ]
