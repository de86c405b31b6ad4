"""Five hundred runs of agreement and fifty of a hierarchy under faults; `make` runs more.

`make agreement SEEDS=10000` and `make exactly_once SEEDS=10000`.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _trials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(10))
def test_never_two_values(part: int) -> None:
    """Crashes, delays and drops, with and without a store: one value at most is decided."""
    from tests.egregore import agreement

    counts: Counter[str] = Counter()
    for seed in range(part * 50, part * 50 + 50):
        counts += agreement.one(seed)
    assert counts["decided"] > 100
    assert counts["undecided"] < 5
    assert counts["crash-while"] > 100


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_every_result_once(part: int) -> None:
    """Workers crash, messages are late or lost; each item counts exactly once."""
    from tests.egregore import exactly_once

    counts: Counter[str] = Counter()
    for seed in range(part * 13, part * 13 + 13):
        counts += exactly_once.one(seed)
    assert counts["results"] == counts["items"]
    assert counts["crash-while"] > 10
