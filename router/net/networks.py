"""Addresses, and networks that they are in: IPv4 and IPv6. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NETWORK = re.compile(r"([0-9A-Fa-f.:]{2,45})(?:/([0-9]{1,3}))?")

#: What IPv4 addresses look like where a socket speaks IPv6.
MAPPED = IPv6Network("::ffff:0:0/96")


class NotANetwork(ValueError):
    """A text that names no network; it may say which one was likely meant."""

    def __init__(self, why: str, likely: str = "") -> None:
        super().__init__(why)
        self.likely = likely


# The same few callers come again and again, and to read an address takes microseconds.
@lru_cache(4096)
def address_of(text: str) -> Address | None:
    """The address that `text` is, without its zone, and as IPv4 where it is a mapped one."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def network_of(text: str) -> Network:
    """The network that a CIDR like `10.0.0.0/8` names; an address is a network of one.

    Raises NotANetwork.
    """
    match = _NETWORK.fullmatch(text)
    try:
        network = ip_network(text, strict=False) if match else None
    except ValueError:
        network = None
    if match is None or network is None:
        raise NotANetwork("is not a network (like 10.0.0.0/8, 192.0.2.7, 2001:db8::/32)")
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        inner = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        raise NotANetwork("is an IPv4 network written as IPv6", likely=_written(inner))
    if network.network_address != ip_address(match[1]):
        why = f"is an address within a network: /{match[2]} leaves bits of it over"
        raise NotANetwork(why, likely=_written(network))
    return network


def _written(network: Network) -> str:
    """As a person would write it: one address without its `/32`."""
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address if whole else network)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there. Of names `localhost` alone is known."""
    address = address_of(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


class Networks:
    """A set of networks. A look-up costs by how many lengths of prefix there are, not by how many
    networks."""

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        #: By IP version: the bits behind each prefix, and all prefixes of that length.
        self._prefixes: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}
        for network in networks:
            rest = network.max_prefixlen - network.prefixlen
            prefix = int(network.network_address) >> rest
            self._prefixes[network.version].setdefault(rest, set()).add(prefix)

    def __contains__(self, address: Address) -> bool:
        number = int(address)
        for rest, prefixes in self._prefixes[address.version].items():
            if number >> rest in prefixes:
                return True
        return False
