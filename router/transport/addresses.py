"""From a host's name to a connected socket: where addresses are looked up, refused and tried."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, ip_address

#: How long the addresses of a name are good for, in seconds. Short, because no resolver tells how
#: long they may be; long enough that a burst of new connections asks once.
TTL = 5.0

#: Whether an address may be connected to; it is asked about the address as text, without a port.
Allowed = Callable[[str], bool]


def anywhere(address: str) -> bool:
    """Every address is allowed."""
    return True


class Host:
    """A host to connect to. It belongs to one event loop."""

    def __init__(self, name: str, port: int, allowed: Allowed = anywhere) -> None:
        self._names = _Names(name, port)
        self._allowed = allowed

    async def connect(self, deadline: float) -> socket.socket:
        """A connected socket to the first address that takes it.

        Each has an even share of the time until `deadline`, by the loop's clock, but the last one,
        whose time the caller has to limit. Raises OSError for one cause, or of a group of them.
        """
        loop = asyncio.get_running_loop()
        addresses = await self._names.addresses()
        errors: list[Exception] = []
        for left in range(len(addresses), 0, -1):
            address = addresses[-left]
            share = (deadline - loop.time()) / left if left > 1 else None
            try:
                async with asyncio.timeout(share):
                    connected = await self._connect(address)
            except OSError as error:
                errors.append(error)
            else:
                self._names.good = address
                return connected
        raise OSError("no address could be connected to") from ExceptionGroup("", errors)

    async def _connect(self, address: _Address) -> socket.socket:
        family, kind, protocol, _, place = address
        # This is the only way from here to any target: what is not allowed gets no packet.
        if not self._allowed(str(place[0])):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        connecting = socket.socket(family, kind, protocol)
        try:
            connecting.setblocking(False)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(connecting, place)
        except BaseException:
            connecting.close()
            raise
        return connecting

    def close(self) -> None:
        """End the look-up that may be under way."""
        self._names.close()


_Place = tuple[str, int] | tuple[str, int, int, int] | tuple[int, bytes]
_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, _Place]


class _Names:
    """The addresses of one name: looked up again when they are old, by one look-up at a time."""

    def __init__(self, name: str, port: int) -> None:
        # As bytes: what is no name is an error of the look-up then, and not of an encoding.
        self._name = name.encode("ascii")
        self._port = port
        #: What is known, and until when by the loop's clock. An address is its own, for ever: it
        #: must not wait for a thread that other names' look-ups may be holding.
        self._known: Sequence[_Address] = _literal(name, port)
        self._known_until = math.inf if self._known else 0.0
        self._looking: asyncio.Task[None] | None = None
        #: The address that was connected to last: it is tried first.
        self.good: _Address | None = None

    async def addresses(self) -> list[_Address]:
        """At least one. Raises socket.gaierror."""
        if asyncio.get_running_loop().time() >= self._known_until:
            if self._looking is None:
                self._looking = asyncio.create_task(self._look_up())
            # Others wait for it too: who gives up does not end it.
            await asyncio.shield(self._looking)
        return sorted(self._known, key=lambda address: address != self.good)

    async def _look_up(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._known = await loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
            self._known_until = loop.time() + TTL
        finally:
            self._looking = None

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()


def _literal(name: str, port: int) -> Sequence[_Address]:
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
