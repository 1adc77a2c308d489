"""The addresses that events may go to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.net.egress import ANYWHERE, Egress, is_public, never

#: IPv6 addresses that lead to 169.254.169.254, by the kind of translation.
DISGUISED = {
    "mapped": "::ffff:169.254.169.254",
    "mapped, in hex": "::ffff:a9fe:a9fe",
    "compatible": "::169.254.169.254",
    "SIIT": "::ffff:0:169.254.169.254",
    "NAT64": "64:ff9b::169.254.169.254",
    "NAT64 of a network, 96": "64:ff9b:1::169.254.169.254",
    "NAT64 of a network, 64": "64:ff9b:1:0:a9:fea9:fe00:0",
    "NAT64 of a network, 56": "64:ff9b:1:a9:fe:a9fe::",
    "NAT64 of a network, 48": "64:ff9b:1:a9fe:a9:fe00::",
    "6to4": "2002:a9fe:a9fe::1",
    "Teredo, its server": "2001:0:a9fe:a9fe::",
    "Teredo, its client": "2001:0:808:808:0:ffff:5601:5601",
}

NEVER = {
    "a cloud metadata address": [
        "169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254",
        "fd00:ec2::23", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "fd00:42::42", "fd00:a9fe:a9fe::1",
        "fd00:100::100:200", *DISGUISED.values(),
    ],
    "a link-local address": ["169.254.0.1", "169.254.170.2", "fe80::1", "fe80::1%eth0", "febf::1"],
    "a multicast address": ["224.0.0.1", "239.255.255.255", "ff02::1", "2002:e000:1::"],
    "no host's address": ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0", "64:ff9b::"],
    "a reserved address": ["240.0.0.1", "255.255.255.255", "::ffff:255.255.255.255"],
    "no address": ["", "ledger.example", "127.1", "2130706433", "0x7f.1", "1.2.3.4/8", "[::1]"],
}  # fmt: skip

#: Private addresses, and those that stand for them.
INSIDE = [
    "10.0.0.1", "100.64.0.1", "127.0.0.1", "172.31.255.255", "192.168.1.1", "192.0.2.1", "::1",
    "198.18.0.1", "198.51.100.1", "203.0.113.1", "fc00::1", "fd12:3456::1", "::ffff:10.0.0.1",
    "64:ff9b::10.0.0.1", "64:ff9b:1::10.0.0.1", "2002:a00:1::", "2001:db8::1", "3fff::1", "100::1",
    "5f00::1", "fec0::1", "::10.0.0.1",
]  # fmt: skip

OUTSIDE = ["1.1.1.1", "93.184.215.14", "172.32.0.1", "::ffff:1.1.1.1", "2606:4700::1111",
           "64:ff9b::1.1.1.1", "2001:4860::1"]  # fmt: skip


@pytest.mark.parametrize(("what", "address"), [(k, text) for k, v in NEVER.items() for text in v])
def test_addresses_that_are_never_allowed(what: str, address: str) -> None:
    """Metadata, link-local and similar addresses are refused by name, whatever egress allows."""
    for egress in (ANYWHERE, Egress(public=True), Egress(networks=(ip_network("0.0.0.0/0"),))):
        assert egress.refusal(address) == what


@pytest.mark.parametrize("address", INSIDE)
def test_private_addresses(address: str) -> None:
    """Loopback and private addresses are allowed, unless egress is `public`."""
    assert ANYWHERE.refusal(address) == ""
    assert Egress(public=True).refusal(address) == "no public address"


@pytest.mark.parametrize("address", OUTSIDE)
def test_public_addresses(address: str) -> None:
    """Public addresses are allowed, also if egress is `public`."""
    assert ANYWHERE.refusal(address) == Egress(public=True).refusal(address) == ""


def test_networks() -> None:
    """No other address than listed ones and, with `public`, public ones; mapped is IPv4."""
    listed = (ip_network("10.1.0.0/16"), ip_network("fd12::/16"))
    egress, either = Egress(networks=listed), Egress(public=True, networks=listed)
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd12::1"):
        assert egress.refusal(address) == ""
    for address in ("10.2.0.1", "1.1.1.1", "127.0.0.1", "64:ff9b::10.1.2.3", "2002:a01:203::"):
        assert egress.refusal(address) == "in no network that egress allows"
    assert either.refusal("10.1.2.3") == either.refusal("1.1.1.1") == ""
    assert either.refusal("10.2.0.1") == "no public address"


def test_a_network_of_nat64_has_to_be_named() -> None:
    """A list that names NAT64's network allows the addresses behind it."""
    egress = Egress(networks=(ip_network("64:ff9b::/96"),))
    assert egress.refusal("64:ff9b::10.1.2.3") == ""
    assert egress.refusal("64:ff9b::169.254.169.254") == "a cloud metadata address"


@given(st.ip_addresses())
def test_python_agrees(address: IPv4Address | IPv6Address) -> None:
    """An address that counts as public is global to every release of Python as well."""
    if is_public(address):
        assert address.is_global
    if address.is_link_local or address.is_multicast or address.is_unspecified:
        assert never(address)
