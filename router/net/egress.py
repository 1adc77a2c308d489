"""Addresses: networks, name look-ups, and which addresses events may go to."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from threading import Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_NETWORK = re.compile(r"([0-9A-Fa-f.:]{2,45})(?:/([0-9]{1,3}))?")

#: IPv4 addresses as IPv6 sockets write them.
MAPPED = IPv6Network("::ffff:0:0/96")


class NotANetwork(ValueError):
    """A text that is not a network, and the network that was probably meant."""

    def __init__(self, why: str, likely: str = "") -> None:
        super().__init__(why)
        self.likely = likely


# The same few callers come again and again, and parsing takes microseconds.
@lru_cache(4096)
def address_of(text: str) -> Address | None:
    """Parse an address without its zone; a mapped one becomes IPv4."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return plain(address)


def network_of(text: str) -> Network:
    """Parse a CIDR like `10.0.0.0/8`; an address is a network of one. Raises NotANetwork."""
    match = _NETWORK.fullmatch(text)
    try:
        network = ip_network(text, strict=False) if match else None
    except ValueError:
        network = None
    if match is None or network is None:
        raise NotANetwork("is not a network (like 10.0.0.0/8, 192.0.2.7, 2001:db8::/32)")
    if isinstance(network, IPv6Network) and network.subnet_of(MAPPED):
        inner = IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
        raise NotANetwork("is an IPv4 network written as IPv6", likely=_formatted(inner))
    if network.network_address != ip_address(match[1]):
        why = f"is an address within a network: /{match[2]} leaves bits of it over"
        raise NotANetwork(why, likely=_formatted(network))
    return network


def _formatted(network: Network) -> str:
    """Format a network as people write it: a single address without its `/32`."""
    whole = network.prefixlen == network.max_prefixlen
    return str(network.network_address if whole else network)


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches that host. `localhost` is the only name that
    counts."""
    address = address_of(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


#: Where no event is ever sent, with a name; the first that fits.
_NEVER = (
    # Addresses where clouds give out credentials, by their manuals, besides link-local ones: Amazon
    # (its whole block for services), Google, Oracle (and Oracle Classic), Alibaba, Azure (its
    # WireServer), Scaleway, Linode.
    ("a cloud metadata address", _networks(
        "169.254.169.254", "fd00:ec2::/32", "fd20:ce::254", "fd00:c1::a9fe:a9fe", "192.0.0.192",
        "100.100.100.200", "fd00:100::100:200", "168.63.129.16", "fd00:42::42", "fd00:a9fe:a9fe::1",
    )),
    ("a link-local address", _networks("169.254.0.0/16", "fe80::/10")),
    ("a multicast address", _networks("224.0.0.0/4", "ff00::/8")),
    # On Linux 0.0.0.0 and :: are the machine itself.
    ("no host's address", _networks("0.0.0.0/8", "::/128")),
    ("a reserved address", _networks("240.0.0.0/4")),
)  # fmt: skip

#: Not public, besides the networks above: all that is not "Globally Reachable" in IANA's two
#: registries of special-purpose addresses (RFC 6890, as of November 2026). Blocks count whole, even
#: if one of their addresses is an anycast address.
_NOT_PUBLIC = _networks(
    "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
    "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
    "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20",
)  # fmt: skip

#: The only public IPv6 addresses: those that IANA assigns (RFC 4291), and those of NAT64, which
#: stand for IPv4 addresses.
_GLOBAL_UNICAST = _networks("2000::/3", "64:ff9b::/96")

#: Networks whose last four bytes are an IPv4 address: mapped ones, NAT64 (RFC 6052), SIIT
#: (RFC 2765), and IPv4-compatible ones (RFC 4291).
_ENDS_IN_IPV4 = (MAPPED, *_networks("64:ff9b::/96", "::ffff:0:0:0/96", "::/96"))
#: NAT64 within a network (RFC 8215), with a prefix of any of these lengths.
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_LOCAL_NAT64_PREFIXES = (48, 56, 64, 96)


@dataclass(frozen=True, slots=True)
class Egress:
    """The addresses that events may go to. Some are never allowed, whatever is configured."""

    #: Public addresses alone, and `networks`.
    public: bool = False
    #: Only these, and public ones if `public` is set.
    networks: tuple[Network, ...] = ()

    def refusal(self, address: str) -> str:
        """Return what is wrong with an address, in words that follow `is`; `""` if it is allowed.

        An IPv6 address that stands for an IPv4 one is checked as both.
        """
        try:
            connected = plain(ip_address(address))
        except ValueError:
            return "no address"
        if name := never(connected):
            return name
        if not (self.public or self.networks) or within(connected, self.networks):
            return ""
        if self.public:
            return "" if is_public(connected) else "no public address"
        return "in no network that egress allows"


#: Every address except those that are never allowed.
ANYWHERE = Egress()


def never(address: Address) -> str:
    """Return the name of an address that is never allowed, such as `a link-local address`."""
    every = ((meaning, *kind) for meaning in meanings(address) for kind in _NEVER)
    return next((name for meaning, name, networks in every if within(meaning, networks)), "")


def is_public(address: Address) -> bool:
    """Return whether it is public, and so is the address that it stands for."""
    return not never(address) and all(
        not within(meaning, _NOT_PUBLIC)
        and (meaning.version == 4 or within(meaning, _GLOBAL_UNICAST))
        for meaning in meanings(address)
    )


def meanings(address: Address) -> list[Address]:
    """Return the address, and the IPv4 addresses that a translator may take it for."""
    address = plain(address)
    return [address, *_inside(address)] if isinstance(address, IPv6Address) else [address]


def plain(address: Address) -> Address:
    """Return the address that the system connects to: a mapped one as IPv4, without a zone."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or IPv6Address(int(address))


def _inside(address: IPv6Address) -> Iterator[IPv4Address]:
    value = int(address)
    if address.sixtofour is not None:
        yield address.sixtofour
    elif address.teredo is not None:
        yield from address.teredo
    elif address in _LOCAL_NAT64:
        # The length of the prefix is unknown. One that leads to 0.0.0.0/8 is not meant.
        behind = (_behind(prefix, value) for prefix in _LOCAL_NAT64_PREFIXES)
        yield from (each for each in behind if int(each) >> 24)
    elif within(address, _ENDS_IN_IPV4) and value > 1:  # those are `::` and `::1`
        yield _ipv4(value)


def _behind(prefix: int, value: int) -> IPv4Address:
    """Return the IPv4 address behind a NAT64 prefix; bits 64 to 71 are skipped (RFC 6052)."""
    if prefix == 96:
        return _ipv4(value)
    without = (value >> 64) << 56 | value & (1 << 56) - 1
    return _ipv4(without >> 120 - 32 - prefix)


def _ipv4(value: int) -> IPv4Address:
    return IPv4Address(value & 0xFFFFFFFF)


def within(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


SocketPlace = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
SocketAddress = tuple[socket.AddressFamily, socket.SocketKind, int, str, SocketPlace]


def look_up(name: bytes | str, port: int) -> asyncio.Future[Sequence[SocketAddress]]:
    """Ask the system's resolver, which also uses /etc/hosts and search domains.

    Each look-up has a thread of its own, so that no name waits for another. The thread is a daemon,
    so that the process does not wait for it.
    """
    import asyncio  # `health` reads addresses too, and needs no loop

    loop = asyncio.get_running_loop()
    looked_up: asyncio.Future[Sequence[SocketAddress]] = loop.create_future()

    def ask() -> None:
        try:
            addresses = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            end = partial(looked_up.set_exception, error)
        else:
            end = partial(looked_up.set_result, addresses)
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(end)

    try:
        Thread(target=ask, name="look-up", daemon=True).start()
    except RuntimeError:
        looked_up.set_exception(socket.gaierror(socket.EAI_AGAIN, "no thread to look it up in"))
    return looked_up
