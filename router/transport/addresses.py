"""Addresses of one target: name look-ups, connecting, and the reasons why connecting failed."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import TypeVar

from router.model.event import Reason
from router.net.egress import ANYWHERE, Egress, SocketAddress, look_up

#: How long the addresses of a name are valid, in seconds. Short, because resolvers do not pass on
#: the real time; long enough for a burst of new connections to ask once.
TTL = 5.0

#: How long they may still be used while the resolver fails or hangs, in seconds: its outage must
#: not become an outage of the targets. Limited, because an address may be reassigned.
STALE = 300.0

#: How long a look-up is waited for before stale addresses are used, in seconds.
RESOLVER_WAIT = 1.0

#: The errors of `getaddrinfo` when the resolver fails; any other is the name's own fault.
_CANNOT_TELL = (socket.EAI_AGAIN, socket.EAI_FAIL, socket.EAI_SYSTEM)


class Names:
    """The addresses of a name, renewed when they are old by one look-up at a time."""

    def __init__(self, name: str, port: int) -> None:
        # As bytes, so that an invalid name is an error of the look-up, and not of an encoding.
        self._name = name.encode("ascii")
        self._port = port
        #: The addresses, and when they were looked up, by the loop's clock. A literal address needs
        #: no look-up, ever.
        self._known: Sequence[SocketAddress] = _literal(name, port)
        self._known_at = math.inf if self._known else -math.inf
        #: The look-up under way, and when it began.
        self._looking: asyncio.Future[Sequence[SocketAddress]] | None = None
        self._began = 0.0
        #: The address of the last connection: it is tried first.
        self.good: SocketAddress | None = None

    @property
    def are_known(self) -> bool:
        """Return whether there are addresses to use, valid or stale."""
        return self._age() < STALE

    async def addresses(self) -> list[SocketAddress]:
        """Return at least one address. Raises socket.gaierror."""
        if self._age() >= TTL:
            await self._renew()
        return sorted(self._known, key=lambda address: address != self.good)

    async def _renew(self) -> None:
        """Wait for a look-up; with stale addresses at hand, only for a moment."""
        looking = self._looking or self._look_up()
        waited = asyncio.get_running_loop().time() - self._began
        # Others wait for it too, so a timeout does not cancel it.
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
            self._known, self._known_at = looked_up.result(), asyncio.get_running_loop().time()
        elif not (isinstance(error, socket.gaierror) and error.errno in _CANNOT_TELL):
            self._known_at = -math.inf

    def _age(self) -> float:
        return asyncio.get_running_loop().time() - self._known_at


def _literal(name: str, port: int) -> Sequence[SocketAddress]:
    """Return the address that a name is itself, without a look-up."""
    try:
        return socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except (OSError, ValueError):
        return ()


class Forbidden(OSError):
    """An address that events may not go to; `strerror` has the kind of address."""


#: The reasons for errors before there is a connection; the first that applies.
_CONNECT = (
    (socket.gaierror, Reason.DNS),
    (ConnectionRefusedError, Reason.CONNECT_REFUSED),
    (TimeoutError, Reason.CONNECT_TIMEOUT),
    (Forbidden, Reason.FORBIDDEN),
    (OSError, Reason.UNREACHABLE),
)

#: This process, or the machine, may open no more files.
_NO_MORE_FILES = (errno.EMFILE, errno.ENFILE)

#: Why there is no connection if the handshake takes too long.
LATE_HANDSHAKE = (Reason.CONNECT_TIMEOUT, "the TLS handshake did not end")


def connect_cause(error: OSError) -> tuple[Reason, str]:
    """Return why there is no connection."""
    if error.errno in _NO_MORE_FILES and not isinstance(error, socket.gaierror):
        return Reason.OUT_OF_FILES, _words(error)
    return _CONNECT[_rank(error)][1], _words(error)


def tls_cause(error: Exception) -> tuple[Reason, str]:
    """Return why a handshake failed: the fault of the certificate, or the name of the alert."""
    for link in chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return Reason.TLS, link.verify_message.rstrip(".")
        if isinstance(link, ssl.SSLError) and link.reason:
            return Reason.TLS, link.reason.replace("_", " ").lower()
    return Reason.TLS, "the connection ended during the handshake"


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__


def _rank(error: OSError) -> int:
    """Return the index in `_CONNECT`."""
    return next(at for at, (kind, _) in enumerate(_CONNECT) if isinstance(error, kind))


def _words(error: OSError) -> str:
    """Return the system's words, not those of asyncio, which contain the address."""
    if isinstance(error, socket.gaierror | Forbidden) or error.errno is None:
        return error.strerror or ""
    return os.strerror(error.errno)


T = TypeVar("T")


class Host:
    """A host to connect to. It belongs to one event loop."""

    def __init__(self, name: str, port: int, egress: Egress = ANYWHERE) -> None:
        self._names = Names(name, port)
        self._egress = egress

    async def reach(self, connect: Callable[[SocketAddress], Awaitable[T]], deadline: float) -> T:
        """Return the result of `connect` for the first address for which it does not raise OSError.

        Each address has an even share of the time until `deadline`, by the loop's clock; the caller
        limits the time of the last. Raises the most telling OSError.
        """
        loop = asyncio.get_running_loop()
        try:
            addresses = await self._names.addresses()
        except socket.gaierror:
            socket.socket().close()  # raises if no file is left, which a resolver does not say
            raise
        errors: list[OSError] = []
        for left in range(len(addresses), 0, -1):
            address = addresses[-left]
            share = (deadline - loop.time()) / left if left > 1 else None
            try:
                # Every connection to a target comes through here, before any packet.
                if refusal := self._egress.refusal(str(address[4][0])):
                    raise Forbidden(errno.EACCES, refusal)
                async with asyncio.timeout(share):
                    connected = await connect(address)
            except OSError as error:
                errors.append(error)
            else:
                self._names.good = address
                return connected
        try:
            raise min(errors, key=_rank)
        finally:
            errors.clear()  # their tracebacks have this frame: a cycle

    @property
    def late(self) -> tuple[Reason, str]:
        """The reason and the detail if `reach` takes too long."""
        if self._names.are_known:
            return Reason.CONNECT_TIMEOUT, ""
        return Reason.DNS, "no answer in time"


async def connected(address: SocketAddress) -> socket.socket:
    """Return a socket that is connected to an address. Raises OSError."""
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
