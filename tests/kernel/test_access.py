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


class Gate(Daemon):
    """Has fields with the names of two options of `spawn`."""

    allow: Config[list[str]] = []
    policy: Config[str] = ""


def test_a_field_with_the_name_of_an_option_is_set_in_a_map():
    """The keyword stays the option, also for children and `get_or_spawn`."""

    class Mother(Daemon):
        async def on_start(self):
            await self.spawn(Gate, "child", {"allow": ["c"]}, policy="refuse")

    async def main():
        async with system() as s:
            gate = await s.spawn(Gate, "gate", {"allow": ["a"], "policy": "own"}, allow=ALLOW)
            other = await s.get_or_spawn(Gate, "other", {"allow": ["b"]})
            await s.spawn(Mother, "mother")
            for name, allow in (("gate", ["a"]), ("other", ["b"]), ("child", ["c"])):
                own = "own" if name == "gate" else ""
                assert s.status_of(name)["config"] == {"allow": allow, "policy": own}
            with pytest.raises(NotAllowed):
                await gate.ping()
            assert await other.ping() == "pong"
            with pytest.raises(BadConfig, match="to: given twice: to"):
                await s.spawn(Caller, "to", {"to": "a"}, to="b")
            with pytest.raises(BadConfig, match="Caller"):
                await s.spawn(Caller, "no", {"allow": ["a"]})

    run(main)
