"""Recordings of evemu's form as files, from pads of every kind: taps are taps, drags are none."""

import random  # noqa: TID251  (a generator of its own, seeded)
from pathlib import Path

import pytest

from dan9.devices.gesture import GestureDevice
from dan9.devices.intents import Tracker, interpret
from dan9.devices.source import open_source
from dan9.testing import run, system
from tests.devices.evemu_data import KINDS, Finger, drag, record, tap, write

EACH = 15


def replayed(paths: list[Path]) -> list[list[tuple[str, int]]]:
    """Return the intents of each recording, replayed into a device of its own."""
    found: list[list[tuple[str, int]]] = []

    async def main() -> None:
        async with system(copy=False) as world:
            pad = await world.spawn(GestureDevice, "pad")
            for path in paths:
                await pad.clear()
                await pad.replay(str(path))
                found.append([(one["intent"], one["fingers"]) for one in await pad.intents()])

    run(main)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_taps_are_taps_and_drags_are_none(kind, tmp_path):
    """All of fifteen taps, double taps and drags on each kind of pad."""
    rng = random.Random(kind.name)
    most = 1 if kind.protocol == "single" else 3
    taps, doubles, drags = [], [], []
    for seed in range(EACH):
        fingers = 1 + seed % most
        taps.append((fingers, write(tmp_path, kind, "tap", tap(rng, fingers=fingers), seed)))
        doubles.append(write(tmp_path, kind, "double-tap", tap(rng, times=2), seed))
        drags.append(write(tmp_path, kind, "drag", drag(rng, 1 + seed % min(most, 2)), seed))
    assert replayed([path for _, path in taps]) == [[("tap", fingers)] for fingers, _ in taps]
    assert replayed(doubles) == [[("double-tap", 1)]] * EACH
    for intents in replayed(drags):
        assert [name for name, _ in intents] in (["drag"], ["swipe"])


def test_the_same_seed_gives_the_same_recording():
    """Or a failure could not be looked into."""
    touch = [Finger(0, 0.5, 10, 10, 20, 0)]
    assert record(KINDS[0], touch, 1) == record(KINDS[0], touch, 1)
    assert record(KINDS[0], touch, 1) != record(KINDS[0], touch, 2)


def test_recordings_that_were_cut_off_are_read_as_far_as_they_go(tmp_path):
    """A finger that never lifts in the file has touched until its last report."""
    path = write(tmp_path, KINDS[0], "tap", [Finger(0, 0.3, 10, 10, 20, 0)], 1)
    lines = path.read_text("utf-8").splitlines()
    for length in range(len(lines)):
        path.write_text("\n".join(lines[:length]) + "\nE: 9.0 0000 0000 0\n", "utf-8")
        tracker = Tracker()
        for sample in open_source(str(path)):
            tracker.feed(sample)
        assert len(tracker.contacts) <= 1
        assert all(interpret(one).fingers == 1 for one in tracker.episodes())
