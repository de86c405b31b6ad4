"""`make soak SEEDS=100000 FROM=400`: see tests/soak.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.soak import main

if __name__ == "__main__":
    raise SystemExit(main())
