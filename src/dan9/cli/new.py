"""`dan9 new NAME`: a folder to begin with: a daemon, its configuration, its test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dan9.base.address import segment
from dan9.base.errors import Exists
from dan9.cli.session import Session

if TYPE_CHECKING:
    from argparse import Namespace

__all__ = ["new"]

_CONFIG = """\
# Each key that a [daemon.NAME] may have: docs/reference/configuration.md

[system]
name = "{name}"

[daemon.greeter]
run = "{module}:Greeter"
greeting = "hello"
"""

_DAEMON = '''\
"""The daemons of {name}."""

from dan9 import Config, Daemon, every, on


class Greeter(Daemon):
    """Greets whoever asks, and counts them."""

    greeting: Config[str] = "hello"
    greeted: int = 0

    @on
    async def greet(self, whom: str) -> str:
        """Return a greeting."""
        self.greeted += 1
        return f"{{self.greeting}}, {{whom}}"

    @every("1m")
    async def report(self) -> None:
        """Write how many there were."""
        self.log.info("greeted %d", self.greeted)
'''

_TEST = '''\
"""The daemons of {name}, in virtual time: no test waits."""

from dan9.testing import run, system
from {module} import Greeter


def test_greeter_greets() -> None:
    """It greets by name."""

    async def main() -> None:
        async with system() as world:
            greeter = await world.spawn(Greeter, "greeter", greeting="good day")
            assert await greeter.greet("Ada") == "good day, Ada"

    run(main)
'''


def new(session: Session, args: Namespace) -> dict[str, Any]:  # noqa: ARG001  (every verb has both)
    """Make the folder.

    Raises:
        BadAddress: The name is no name for a system.
        Exists: There is something of that name.
    """
    name = segment(args.name)
    folder = Path(name)
    if folder.exists():
        raise Exists(f"{name} is there already", hint="choose another name, or remove it")
    module = "".join(one if one.isalnum() else "_" for one in name)
    module = f"d_{module}" if module[0].isdigit() else module
    facts = {"name": name, "module": module}
    files = {
        "dan9.toml": _CONFIG,
        f"{module}.py": _DAEMON,
        f"test_{module}.py": _TEST,
    }
    folder.mkdir()
    for file, text in files.items():
        (folder / file).write_text(text.format(**facts), encoding="utf-8")
    return {
        "files": [f"{name}/{file}" for file in files],
        "next": [f"cd {name}", "dan9 up --detach", "dan9 send greeter greet whom=world"],
    }
