"""Allow and deny rules: what they take, what they mean, what they refuse."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dan9.base.errors import BadConfig, BadPayload, NotAllowed
from dan9.daemons.network_policy import Policy, Rule, plain_host, plain_port


def refused(policy, host, port, *addresses):
    """Tell whether the policy refuses a host that leads to these addresses."""
    try:
        policy.check(host, port, addresses)
    except NotAllowed:
        return True
    return False


@pytest.mark.parametrize(
    ("rule", "host", "port", "address", "fits"),
    [
        ("example.org", "example.org", 80, "192.0.2.1", True),
        ("Example.ORG.", "example.org", 80, "192.0.2.1", True),
        ("example.org:443", "example.org", 80, "192.0.2.1", False),
        ("*.example.org", "a.b.example.org", 80, "192.0.2.1", True),
        ("*.example.org", "example.org", 80, "192.0.2.1", False),
        ("192.0.2.0/24", "example.org", 80, "192.0.2.1", True),
        ("192.0.2.0/24:1-1023", "example.org", 80, "192.0.2.1", True),
        ("192.0.2.0/24:1-1023", "example.org", 8080, "192.0.2.1", False),
        ("192.0.2.7/24", "example.org", 80, "192.0.2.1", True),
        ("10.0.0.0/8", "example.org", 80, "192.0.2.1", False),
        ("127.0.0.0/8", "x", 80, "::ffff:127.0.0.1", True),
        ("127.0.0.0/8", "x", 80, "0.0.0.0", True),
        ("::1", "x", 80, "::", True),
        ("127.0.0.1", "x", 80, "64:ff9b::7f00:1", True),
        ("127.0.0.1", "x", 80, "2002:7f00:1::", True),
        ("fe80::/10", "x", 80, "fe80::1%eth0", True),
        ("[fe80::]/10:22", "x", 22, "fe80::1", True),
        ("[fe80::]/10:22", "x", 23, "fe80::1", False),
        ("[::1]", "x", 22, "::1", True),
        ("[::1]:22", "x", 22, "::1", True),
        ("*:25", "x", 25, "192.0.2.1", True),
        ("*:25", "x", 26, "192.0.2.1", False),
        (":25", "x", 25, "192.0.2.1", True),
        ("*", "x", 25, "192.0.2.1", True),
    ],
)
def test_a_rule_fits_what_it_names(rule, host, port, address, fits):
    """A denied name, network or port is refused, and nothing else is."""
    assert refused(Policy.parse(deny=[rule]), host, port, address) is fits
    assert refused(Policy.parse(allow=[rule]), host, port, address) is not fits


def test_one_denied_address_among_many_refuses_the_name():
    """A name that leads to the world and to the loopback at once is refused whole."""
    policy = Policy.parse(deny=["127.0.0.0/8"])
    with pytest.raises(NotAllowed, match=r"rebind.example port 80 leads to 127.0.0.1"):
        policy.check("rebind.example", 80, ["192.0.2.1", "127.0.0.1"])


def test_allow_keeps_only_the_allowed_addresses():
    """Of several addresses those outside the allowed networks are left out."""
    policy = Policy.parse(allow=["192.0.2.0/24"])
    assert policy.check("x", 80, ["198.51.100.1", "192.0.2.1"]) == ("192.0.2.1",)


def test_deny_wins_over_allow():
    """What both lists name is denied."""
    policy = Policy.parse(allow=["*"], deny=["192.0.2.1"])
    assert refused(policy, "x", 80, "192.0.2.1")


def test_a_unix_socket_is_matched_by_its_path():
    """Unix sockets have rules of their own, and an allow list without one lets none through."""
    Policy.parse(allow=["unix:/run/*.sock"]).check_name("unix:/run/a.sock", 0)
    for policy in (
        Policy.parse(allow=["unix:/run/*"]),
        Policy.parse(allow=["example.org"]),
        Policy.parse(deny=["unix:/tmp/*"]),
        Policy.parse(deny=["*"]),
    ):
        with pytest.raises(NotAllowed):
            policy.check_name("unix:/tmp/a.sock", 0)


def test_callers_are_checked_by_deny_and_the_listener():
    """Deny rules hold for callers; a listener's own list narrows further."""
    policy = Policy.parse(allow=["example.org"], deny=["10.0.0.0/8"])
    assert not policy.check_peer("10.1.2.3", 80)
    assert policy.check_peer("192.0.2.1", 80)
    only = (Rule.parse("192.0.2.0/24"),)
    assert policy.check_peer("192.0.2.1", 80, only)
    assert not policy.check_peer("198.51.100.1", 80, only)
    assert not Policy.parse(deny=["*"]).check_peer("192.0.2.1", 80)
    assert policy.check_peer("192.0.2.1", 80, (Rule.parse("*"),))


@pytest.mark.parametrize(
    "rule",
    ["", "  ", "10.0.0.0/99", "300.0.0.1", "a/b", "x:port", "x:70000", "x:9-1", "[::1]x", "a b"],
)
def test_a_rule_that_is_none_says_which(rule):
    """A misspelt rule is refused by its place in the list, and never matches nothing."""
    with pytest.raises(BadConfig) as caught:
        Policy.parse(deny=["ok.example", rule])
    assert caught.value.at == "deny[1]"
    assert "rules look like" in caught.value.hint


@pytest.mark.parametrize(
    "host", ["", " ", "a b", "a\0b", "a/b", "u@h", "a%20b", "x" * 254, "unix:", "\udc80"]
)
def test_a_host_that_is_none_is_refused(host):
    """Empty, spaced, overlong and undecodable hosts are bad payload."""
    with pytest.raises(BadPayload) as caught:
        plain_host(host)
    assert caught.value.at == "payload.host"


def test_hosts_have_one_spelling():
    """Case, a trailing dot, brackets and other scripts are levelled before rules look."""
    assert plain_host("LocalHost.") == "localhost"
    assert plain_host("[::1]") == "::1"
    assert plain_host("bücher.example") == "xn--bcher-kva.example"
    assert plain_host("unix:/Run/X") == "unix:/Run/X"


@pytest.mark.parametrize("port", [-1, 0, 65536])
def test_a_port_that_is_none_is_refused(port):
    """Ports run from 1 to 65535 for who calls, from 0 for who listens."""
    with pytest.raises(BadPayload):
        plain_port(port)
    assert plain_port(0, least=0) == 0


@given(st.ip_addresses(), st.integers(0, 128), st.ip_addresses())
def test_network_rules_agree_with_the_standard_library(base, length, address):
    """A network rule fits exactly the addresses that lie in the network."""
    network = ipaddress.ip_network((base, min(length, base.max_prefixlen)), strict=False)
    fits = Rule.parse(str(network)).fits_address(str(address), 80)
    if address.version == network.version and address in network:
        assert fits
    elif address.version == 4 and not address.is_unspecified:
        assert not fits


@given(st.text(max_size=30))
def test_no_text_breaks_the_parser(text):
    """Whatever is written in the configuration is a rule or is refused by name."""
    try:
        rule = Rule.parse(text)
    except BadConfig:
        return
    rule.fits_name("example.org", 80)
    rule.fits_address("192.0.2.1", 80)
