"""`make agreement SEEDS=10000 FROM=0`: see tests/egregore/agreement.py."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.egregore.agreement import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
