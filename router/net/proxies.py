"""Where a request comes from, when there may be proxies in front of the router. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from router.net.networks import Address, Networks, address_of

#: An address as proxies write it: some with its port, IPv6 in brackets then.
_ENTRY = re.compile(
    r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?|([0-9.]+)(?::[0-9]{1,5})?|([0-9A-Fa-f:.]+)"
)


def caller_of(peer: str, forwarded: Sequence[bytes], trusted: Networks) -> Address | None:
    """The address of who sent a request to the first proxy that is trusted; None where that can't
    be told.

    `peer` is who is connected, `forwarded` every `x-forwarded-for` in the order they came. Each
    proxy adds whom it heard from at the right end; what is left of an address that is not trusted
    is that caller's own claim, and never read.
    """
    address = address_of(peer)
    if not forwarded:
        return address
    for entry in reversed(b",".join(forwarded).split(b",")):
        if address is None or address not in trusted:
            break
        address = _read(entry)
    return address


def _read(entry: bytes) -> Address | None:
    match = _ENTRY.fullmatch(entry.strip(b" \t").decode("latin-1"))
    return address_of(match[1] or match[2] or match[3]) if match else None
