"""Who may say what: allow rules on a daemon."""

import pytest

from dan9 import Config, Daemon, NotAllowed, on
from dan9.base.errors import BadConfig
from dan9.testing import run, system


class Vault(Daemon):
    """Has something to protect."""

    @on
    def read(self) -> str:
        """Return it."""
        return "gold"

    @on
    def write(self) -> str:
        """Change it."""
        return "written"


class Caller(Daemon):
    """Asks the vault."""

    to: Config[str] = "vault"

    @on
    async def try_(self, what: str) -> str:
        """Ask and pass the answer on."""
        return await self.ask(self.to, what)


ALLOW = [
    {"from": "d9://caller/readers/*", "messages": ["read", "status"]},
    {"from": "d9://caller/writers/*"},
]


def test_rules_decide_by_sender_and_message():
    """What no rule allows is refused, told to the asker, counted, and a dead letter."""

    async def main():
        async with system() as s:
            await s.spawn(Vault, "vault", allow=ALLOW)
            reader = await s.spawn(Caller, "r", group="readers")
            writer = await s.spawn(Caller, "w", group="writers")
            stranger = await s.spawn(Caller, "x", group="others")
            assert await reader.try_("read") == "gold"
            assert await writer.try_("write") == "written"
            for who, what in ((reader, "write"), (stranger, "read")):
                with pytest.raises(NotAllowed, match=f"may not say '{what}'"):
                    await who.try_(what)
            with pytest.raises(NotAllowed):
                await s.ask("vault", "read")
            assert s.metrics_of("vault")["refused"] == 3
            assert s.dead_letters.by_reason["not-allowed"] == 3

    run(main)


@pytest.mark.parametrize(
    "rules",
    [[{"form": "**"}], [{"from": "**", "messages": "read"}], [{"from": "no such pattern!"}]],
)
def test_wrong_rules_are_refused_at_spawn(rules):
    """A rule with a wrong key or form never guards anything by accident."""

    async def main():
        async with system() as s:
            with pytest.raises((BadConfig, ValueError)):
                await s.spawn(Vault, "vault", allow=rules)
            assert s.addresses("d9://vault/**") == []

    run(main)
