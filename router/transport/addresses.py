"""Addresses of one target: name look-ups, connecting, and the reasons why connecting failed."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from ipaddress import IPv4Address, ip_address
from typing import TypeVar

from router.model.event import Reason
from router.net.egress import ANYWHERE, Egress, SocketAddress, look_up

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


class Forbidden(OSError):
    """An address that may not be connected to; its `strerror` is what the address is."""


#: What an error means while there is no connection yet; the first that applies.
_CONNECT = (
    (socket.gaierror, Reason.DNS),
    (ConnectionRefusedError, Reason.CONNECT_REFUSED),
    (TimeoutError, Reason.CONNECT_TIMEOUT),
    (Forbidden, Reason.FORBIDDEN),
    (OSError, Reason.UNREACHABLE),
)

#: What the system says where this process, or the machine, may open no more files.
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)

#: Why there is no connection where the handshake did not come to an end in time.
LATE_HANDSHAKE = (Reason.CONNECT_TIMEOUT, "the TLS handshake did not end")


def connect_cause(error: OSError) -> tuple[Reason, str]:
    """Why no connection came about."""
    if error.errno in _NO_MORE_FILES and not isinstance(error, socket.gaierror):
        return Reason.OUT_OF_FILES, _words(error)
    return _CONNECT[_rank(error)][1], _words(error)


def most_telling(errors: Sequence[OSError]) -> OSError:
    """Of what several addresses came to, that which says most: one that was tried, if there is."""
    return min(errors, key=_rank)


def tls_cause(error: Exception) -> tuple[Reason, str]:
    """Why the peers found no common ground: the certificate's fault, or the alert's name."""
    for link in chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return Reason.TLS, link.verify_message.rstrip(".")
        if isinstance(link, ssl.SSLError) and link.reason:
            return Reason.TLS, link.reason.replace("_", " ").lower()
    return Reason.TLS, "the connection ended during the handshake"


def system_error(error: Exception) -> OSError:
    """The system's own error, whatever a library has wrapped it in."""
    links = (link for link in chain(error) if isinstance(link, OSError) and link.errno)
    return next(links, OSError())


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what led to it."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _rank(error: OSError) -> int:
    """The place in `_CONNECT`."""
    return next(at for at, (kind, _) in enumerate(_CONNECT) if isinstance(error, kind))


def _words(error: OSError) -> str:
    """The system's words. Not the error's own, in which asyncio names the address."""
    if isinstance(error, socket.gaierror | Forbidden) or error.errno is None:
        return error.strerror or ""
    return os.strerror(error.errno)


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
