"""`python -m dan9` is the command `dan9`."""

from __future__ import annotations

import sys

from dan9.cli import main

if __name__ == "__main__":
    sys.exit(main())
