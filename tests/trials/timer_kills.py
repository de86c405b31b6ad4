"""Kill a node two hundred times while its timer fires into a durable target.

    make timer_kills     two hundred times; python tests/trials/timer_kills.py 20: as one likes

Prints how many firings were handled; exit status 1 if one was lost or handled twice.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.faults.test_timer_kills import main

if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
