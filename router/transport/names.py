"""The addresses of a host's name: how they are looked up, and for how long they are good."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, ip_address

from router.net.resolver import SocketAddress, look_up

#: How long the addresses of a name are good for, in seconds. Short, because no resolver tells how
#: long they may be; long enough that a burst of new connections asks once.
TTL = 5.0

#: How long they may still be used where the resolver does not answer, or answers that it can't
#: tell, in seconds: a resolver that is down must not take the targets with it. It is not for ever,
#: because an address may be given to somebody else.
STALE = 300.0

#: How long such an answer is waited for before they are, in seconds; once for each look-up.
RESOLVER_WAIT = 1.0

#: What `getaddrinfo` fails with where it can't tell; anything else is the name's own fault.
_CANNOT_TELL = (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM)


class Names:
    """The addresses of one name: looked up again when they are old, by one look-up at a time."""

    def __init__(self, name: str, port: int) -> None:
        # As bytes: what is no name is an error of the look-up then, and not of an encoding.
        self._name = name.encode("ascii")
        self._port = port
        #: What is known, and when it was found, by the loop's clock. An address is its own, for
        #: ever: it must not wait for a look-up.
        self._known: Sequence[SocketAddress] = _literal(name, port)
        self._found = math.inf if self._known else -math.inf
        #: The look-up that is under way, and when it began.
        self._looking: asyncio.Future[Sequence[SocketAddress]] | None = None
        self._began = 0.0
        #: The address that was connected to last: it is tried first.
        self.good: SocketAddress | None = None

    @property
    def are_known(self) -> bool:
        """Whether there are addresses that can be used, good ones or stale."""
        return self._age() < STALE

    async def addresses(self) -> list[SocketAddress]:
        """At least one. Raises socket.gaierror."""
        if self._age() >= TTL:
            await self._renew()
        return sorted(self._known, key=lambda address: address != self.good)

    async def _renew(self) -> None:
        """Wait for a look-up: for as long as it takes, but where there are stale addresses."""
        looking = self._looking or self._look_up()
        waited = asyncio.get_running_loop().time() - self._began
        # Others wait for it too: who gives up does not end it.
        await asyncio.wait([looking], timeout=RESOLVER_WAIT - waited if self.are_known else None)
        if looking.done() and (error := looking.exception()) and not self.are_known:
            raise error

    def _look_up(self) -> asyncio.Future[Sequence[SocketAddress]]:
        self._looking = look_up(self._name, self._port)
        self._began = asyncio.get_running_loop().time()
        self._looking.add_done_callback(self._learn)
        return self._looking

    def _learn(self, looked_up: asyncio.Future[Sequence[SocketAddress]]) -> None:
        self._looking = None
        error = looked_up.exception()
        if error is None:
            self._known, self._found = looked_up.result(), asyncio.get_running_loop().time()
        elif not (isinstance(error, socket.gaierror) and error.errno in _CANNOT_TELL):
            self._found = -math.inf

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._found


def _literal(name: str, port: int) -> Sequence[SocketAddress]:
    """What a look-up would find, where the name is an address itself; one with a zone is not."""
    try:
        address = ip_address(name)
    except ValueError:
        return ()
    if isinstance(address, IPv4Address):
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, port))]
    if address.scope_id is not None:
        return ()
    return [(socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, port, 0, 0))]
