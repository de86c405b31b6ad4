"""The command line: `dan9 VERB …`.

Principle: `dan9 ps` against a running node is a socket, msgspec and argparse, nothing
else; each verb's code is imported when the verb is used (`verbs.py` names it by text).
A verb is a row of a table: its words, a call that returns plain data, a printer. With
`--json` the data go out as they are, so that nothing is shown to people that a
program cannot have.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; return its exit status."""
    from dan9.cli.command import run

    return run(list(sys.argv[1:] if argv is None else argv))
