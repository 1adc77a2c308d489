"""From a host to a connected socket: the one door that every connection to a target goes out by."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import TypeVar

from router.model.event import Reason
from router.net.egress import ANYWHERE, Egress
from router.net.resolver import SocketAddress
from router.transport.causes import Forbidden, most_telling
from router.transport.names import Names

T = TypeVar("T")


class Host:
    """A host to connect to. It belongs to one event loop."""

    def __init__(self, name: str, port: int, egress: Egress = ANYWHERE) -> None:
        self._names = Names(name, port)
        self._egress = egress

    async def connect(self, deadline: float) -> socket.socket:
        """A connected socket to the first address that takes it; see `reach`."""
        return await self.reach(_connected, deadline)

    async def reach(self, connect: Callable[[SocketAddress], Awaitable[T]], deadline: float) -> T:
        """What `connect` makes of the first address where it does not raise OSError.

        Each has an even share of the time until `deadline`, by the loop's clock, but the last one,
        whose time the caller has to limit. Raises the OSError that tells most.
        """
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._names.addresses()
        except socket.gaierror:
            socket.socket().close()  # raises where no file is left: a resolver does not say so
            raise
        errors: list[OSError] = []
        for left in range(len(addresses), 0, -1):
            address = addresses[-left]
            share = (deadline - loop.time()) / left if left > 1 else None
            try:
                self._check(address)
                async with asyncio.timeout(share):
                    connected = await connect(address)
            except OSError as error:
                errors.append(error)
            else:
                self._names.good = address
                return connected
        try:
            raise most_telling(errors)
        finally:
            errors.clear()  # each has this frame, which would keep them

    def _check(self, address: SocketAddress) -> None:
        """Raises Forbidden. This is the only way to any target: what is refused gets no packet."""
        if refusal := self._egress.refusal(str(address[4][0])):
            raise Forbidden(errno.EACCES, refusal)

    @property
    def late(self) -> tuple[Reason, str]:
        """Why there is no connection where `connect` has not come to an end in time."""
        if self._names.are_known:
            return Reason.CONNECT_TIMEOUT, ""
        return Reason.DNS, "no answer in time"


async def _connected(address: SocketAddress) -> socket.socket:
    family, kind, protocol, _, place = address
    connecting = socket.socket(family, kind, protocol)
    try:
        connecting.setblocking(False)
        connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(connecting, place)
    except BaseException:
        connecting.close()
        raise
    return connecting
