"""Who may be talked to: allow and deny rules over names, networks and ports.

Principles. A rule names the *other end*: a host name (`example.org`, `*.example.org`), a
network (`10.0.0.0/8`, `::1`), anything (`*`), or a Unix socket (`unix:/run/*.sock`), each
with an optional port or range (`example.org:443`, `[fe80::]/10`, `*:6000-6063`). A deny rule
always wins. A list of allow rules, once it is not empty, lets only what it names through.

A name proves nothing: whoever owns the name decides where it leads, and may decide otherwise
a moment later. So a decision is made over the addresses that the name led to, every one of
them, and the caller connects to one of the addresses returned here and resolves nothing
again. One denied address among many refuses the whole name: an honest name does not lead
both to the world and to your own loopback.

An address has several spellings: `::ffff:127.0.0.1` is 127.0.0.1, and to connect to 0.0.0.0
means the loopback on Linux. Both are taken for what they reach.

This module is pure: it reads no clock and opens no socket.
"""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from dan9.base.errors import BadConfig, BadPayload, NotAllowed

__all__ = ["UNIX", "Policy", "Rule", "plain_address", "plain_host", "plain_port"]

UNIX: Final = "unix:"
"""What a host begins with when it is a Unix socket; its path follows."""

ANY_PORT: Final = (0, 65535)
HINT: Final = "rules look like example.org:443, *.lan, 10.0.0.0/8, [::1]:80, *:25, unix:/run/*"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Kind = Literal["any", "name", "network", "unix"]


def plain_host(host: str) -> str:
    """Return the host in the one spelling that rules are compared with.

    Raises:
        BadPayload: The host is empty, or no name that the domain name system knows.
    """
    if host.startswith(UNIX):
        if len(host) == len(UNIX) or "\0" in host:
            raise BadPayload(
                "a Unix socket needs a path", at="payload.host", hint="host=unix:/run/x.sock"
            )
        return host
    text = host.strip().rstrip(".").removeprefix("[").removesuffix("]").lower()
    if not text.isascii():
        try:
            text = text.encode("idna").decode("ascii")
        except UnicodeError:
            text = ""
    strange = "\0/@" if ":" in text else "\0/@%"  # a zone stands behind % in fe80::1%eth0
    if not text or len(text) > 253 or any(c.isspace() or c in strange for c in text):
        raise BadPayload(
            f"{host!r} is no host", at="payload.host", hint="give a name or an address, as text"
        )
    return text


def plain_port(port: int, *, least: int = 1) -> int:
    """Return the port, or refuse it by its key.

    Raises:
        BadPayload: The port is outside `least`…65535.
    """
    if not least <= port <= 65535:
        raise BadPayload(
            f"{port} is no port", at="payload.port", hint=f"ports run from {least} to 65535"
        )
    return port


def plain_address(text: str) -> tuple[Address, ...]:
    """Return every address that connecting to this numeric one may reach.

    One, as a rule; an unspecified address (`0.0.0.0`, `::`) reaches the loopback too.
    """
    address: Address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # Both forms carry an IPv4 address that the host or its translator connects to.
        inner = address.ipv4_mapped or address.sixtofour
        if inner is not None:
            return (address, *plain_address(str(inner)))
        if address in _NAT64:
            low = ipaddress.IPv4Address(int(address) & 0xFFFF_FFFF)
            return (address, *plain_address(str(low)))
    if address.is_unspecified:
        return (address, ipaddress.ip_address("127.0.0.1"), ipaddress.ip_address("::1"))
    return (address,)


_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of an allow or deny list, taken apart."""

    text: str
    kind: Kind
    pattern: str
    network: Network | None
    ports: tuple[int, int]

    @classmethod
    def parse(cls, text: str, *, at: str = "") -> Rule:
        """Take a rule apart.

        Args:
            text: The rule as it stands in the configuration.
            at: The key that an error names (`deny[2]`).

        Raises:
            BadConfig: It is no rule.
        """
        rule = text.strip()
        if rule.startswith(UNIX):
            return cls(text, "unix", rule[len(UNIX) :], None, ANY_PORT)
        host, ports = _host_and_ports(rule, text, at)
        if host in {"", "*"}:
            if not rule:
                raise BadConfig("an empty rule", at=at, hint=HINT)
            return cls(text, "any", "*", None, ports)
        try:
            return cls(text, "network", "", ipaddress.ip_network(host, strict=False), ports)
        except ValueError:
            pass
        name = host.rstrip(".").lower()
        # A misspelt network must not become a name that nothing ever matches.
        if "/" in name or not name.strip("0123456789.") or ":" in name or " " in name:
            raise BadConfig(f"{text!r} is no network and no name", at=at, hint=HINT)
        return cls(text, "name", name, None, ports)

    def fits_name(self, host: str, port: int) -> bool:
        """Tell whether the rule speaks of this host as it was asked for."""
        if self.kind == "unix":
            return host.startswith(UNIX) and fnmatch.fnmatchcase(host[len(UNIX) :], self.pattern)
        if self.kind == "any":
            return self._fits_port(port)
        return (
            self.kind == "name"
            and not host.startswith(UNIX)
            and self._fits_port(port)
            and fnmatch.fnmatchcase(host, self.pattern)
        )

    def fits_address(self, address: str, port: int) -> bool:
        """Tell whether the rule speaks of this numeric address, in any of its spellings."""
        network = self.network
        if network is None or not self._fits_port(port):
            return False
        return any(
            one.version == network.version and one in network for one in plain_address(address)
        )

    def _fits_port(self, port: int) -> bool:
        return self.ports[0] <= port <= self.ports[1]


def _host_and_ports(rule: str, text: str, at: str) -> tuple[str, tuple[int, int]]:
    if rule.startswith("["):
        host, _, rest = rule[1:].partition("]")
        if rest.startswith("/"):
            length, colon, ports = rest.partition(":")
            return host + length, _ports(ports, text, at) if colon else ANY_PORT
        if rest and not rest.startswith(":"):
            raise BadConfig(f"{text!r}: nothing but a port may follow ]", at=at, hint=HINT)
        return host, _ports(rest[1:], text, at) if rest else ANY_PORT
    if rule.count(":") == 1:
        host, _, ports = rule.partition(":")
        return host, _ports(ports, text, at)
    return rule, ANY_PORT


def _ports(ports: str, text: str, at: str) -> tuple[int, int]:
    first, dash, last = ports.partition("-")
    try:
        low, high = int(first), int(last if dash else first)
    except ValueError:
        low, high = 1, 0
    if not 0 <= low <= high <= 65535:
        raise BadConfig(f"{text!r}: {ports!r} is no port or range of ports", at=at, hint=HINT)
    return low, high


@dataclass(frozen=True, slots=True)
class Policy:
    """The allow and deny lists of one network daemon."""

    allow: tuple[Rule, ...] = ()
    deny: tuple[Rule, ...] = ()

    @classmethod
    def parse(cls, allow: Sequence[str] = (), deny: Sequence[str] = ()) -> Policy:
        """Take both lists apart.

        Raises:
            BadConfig: A rule is none; `at` says which.
        """
        return cls(
            tuple(Rule.parse(text, at=f"allow[{n}]") for n, text in enumerate(allow)),
            tuple(Rule.parse(text, at=f"deny[{n}]") for n, text in enumerate(deny)),
        )

    def check_name(self, host: str, port: int) -> None:
        """Refuse what can be refused before any name is resolved.

        A Unix socket is decided here for good: it resolves to nothing.

        Raises:
            NotAllowed: A deny rule names it, or, for a Unix socket, no allow rule does.
        """
        for rule in self.deny:
            if rule.fits_name(host, port):
                raise _denied(host, port, host, rule)
        if host.startswith(UNIX) and self.allow and not self._names(host, port):
            raise _not_allowed(host, port)

    def check(self, host: str, port: int, addresses: Sequence[str]) -> tuple[str, ...]:
        """Return those of the addresses that may be connected to, in their order.

        Args:
            host: What was asked for, in the spelling of `plain_host`.
            port: The other end's port.
            addresses: Every address that the host resolved to, numeric.

        Raises:
            NotAllowed: One of them is denied, or none is allowed.
        """
        self.check_name(host, port)
        for address in addresses:
            for rule in self.deny:
                if rule.fits_address(address, port):
                    raise _denied(host, port, address, rule)
        if not self.allow or self._names(host, port):
            return tuple(addresses)
        allowed = tuple(
            address
            for address in addresses
            if any(rule.fits_address(address, port) for rule in self.allow)
        )
        if not allowed:
            raise _not_allowed(host, port)
        return allowed

    def check_peer(self, address: str, port: int, allow: Sequence[Rule] = ()) -> bool:
        """Tell whether a peer that called a listener on `port` may stay.

        Deny rules hold both ways. The daemon's allow rules say whom *we* call and are not
        asked here; a listener has a list of its own.
        """
        if any(r.kind == "any" or r.fits_address(address, port) for r in self.deny):
            return False
        return not allow or any(r.kind == "any" or r.fits_address(address, port) for r in allow)

    def _names(self, host: str, port: int) -> bool:
        return any(rule.fits_name(host, port) for rule in self.allow)


def _place(host: str, port: int) -> str:
    return host if host.startswith(UNIX) else f"{host} port {port}"


def _denied(host: str, port: int, found: str, rule: Rule) -> NotAllowed:
    leads = "" if found == host else f" leads to {found}, which"
    return NotAllowed(
        f"{_place(host, port)}{leads} is denied by the rule {rule.text!r}",
        hint="the network daemon's configuration, deny, says so",
    )


def _not_allowed(host: str, port: int) -> NotAllowed:
    return NotAllowed(
        f"{_place(host, port)} is named by no allow rule",
        hint="the network daemon's configuration, allow, lists what may be reached",
    )
