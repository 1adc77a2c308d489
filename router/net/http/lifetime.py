"""A connection from its start to its end: its state, its limits, and every way it ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router.net.http.exchange import Exchange, status_line
from router.net.http.head import BAD_REQUEST, BLANK, Body, request_id_in
from router.net.loops import batching_of


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes in bytes, times in seconds. The defaults suit every well-behaved caller."""

    #: The request line; a longer one gets 414.
    line: int = 8 * 1024
    #: The request line and all headers; more gets 431. Around the chunks of a body there may be as
    #: much, and once more the body's own size.
    head: int = 16 * 1024
    #: Headers; more get 431.
    headers: int = 100
    #: All bodies that have come in part, together. Beyond this a request that has brought more than
    #: `head` gets 503; smaller ones, and bodies that come in one piece, never do.
    unfinished: int = 64 * 1024 * 1024
    #: Connections; on further ones, requests that begin like this are answered, others get 503.
    connections: int = 4096
    exempt: tuple[bytes, ...] = (b"GET /livez ", b"GET /readyz ")
    #: Connections beyond those, which may send a request first; any further one gets 503 at once.
    reserve: int = 256
    #: Until a new connection's first byte; then it closes.
    first_byte: float = 10.0
    #: From the first byte of a request to its last; then it gets 408.
    receive: float = 10.0
    #: Between a reply and the next request. A balancer has to close an idle connection before the
    #: router does, or a callback is lost on the way. Google Cloud's keep one for 600 s and ask for
    #: 620 s behind them (https://cloud.google.com/load-balancing/docs/https#timeouts_and_retries);
    #: those of AWS and nginx keep one for 60 s.
    keep_alive: float = 620.0
    #: Until the peer has taken its reply; then the connection is reset.
    reply: float = 10.0
    #: For data still on its way in after the last reply, so that the peer sees that reply and not a
    #: reset. With all connections in use, it also limits every other wait for a peer.
    linger: float = 1.0

    @property
    def tick(self) -> float:
        """The time between two sweeps: no deadline is missed by more."""
        return min(1.0, min(self.first_byte, self.receive, self.reply, self.linger) / 4)


@dataclass(slots=True)
class Tally:
    """State that the connections of one server share."""

    connections: set[Any] = field(default_factory=set)
    #: The tasks of applications, which may outlast their replies.
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    #: How many requests applications have answered.
    answered: int = 0
    #: The `date` header line.
    date: bytes = b""
    #: Refusals by their status, and resets of peers that don't read, as `unread`.
    refused: Counter[str] = field(default_factory=Counter)
    #: Bytes of requests that have come in part.
    unfinished: int = 0
    #: The server is being stopped: every reply is the last of its connection.
    draining: bool = False
    #: The socket is closed: a connection on which nothing happens for `linger` ends.
    closed: bool = False


#: The statuses of refusals in an application's place, besides those for a faulty head.
TIMED_OUT, INTERNAL_ERROR, UNAVAILABLE = 408, 500, 503

#: Returns the header lines and the body for a status, and the request id that the caller gave.
Refusal = Callable[[int, bytes | None], tuple[bytes, bytes]]


class Lifetime(asyncio.Protocol):
    """A Connection apart from its requests. Its peer is sent the reason for its end, once."""

    transport: asyncio.Transport

    def __init__(
        self,
        limits: Limits,
        refusal: Refusal,
        *,
        config: Any,
        server_state: Tally,
        app_state: object,
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """All but the first two are uvicorn's arguments; its server's state is our tally."""
        self._application = config.loaded_app
        self._limits = limits
        self._refusal = refusal
        self._tally = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._batching = batching_of(self._loop)
        #: The part of every scope that describes the connection.
        self._scope: dict[str, Any] = {}
        #: The part of a head that has come; blank while none is coming.
        self._part = b""
        #: The request in hand, or the last one; None before the first.
        self._exchange: Exchange | None = None
        #: Its body, from the end of the head until the last byte.
        self._body: Body | None = None
        #: Whether its sender waits to be asked for it.
        self._waits = False
        #: How many bytes have come behind it: if any have, its reply is the last.
        self._surplus = 0
        #: Whether the connection ends with the reply to the request in hand, or to the next one.
        self._last = False
        #: This connection's part of `Tally.unfinished`.
        self._held = 0
        #: Done once the peer reads again; None while it reads.
        self._clogged: asyncio.Future[None] | None = None
        #: Whether there were too many connections already when it was made.
        self.is_extra = False
        #: Whether the last reply has been sent; data that comes now is dropped.
        self.is_leaving = False
        #: When the present wait for the peer began, and when it was last known to have read all, or
        #: nearly all.
        self.since = self.caught_up = self._loop.time()

    # These states decide on the deadline. A request that an application handles while its body is
    # coming is both received and answered.

    @property
    def is_receiving(self) -> bool:
        """A request's first byte has come, and its last has not."""
        return self._body is not None or self._part not in BLANK

    @property
    def is_answering(self) -> bool:
        """The application has not replied to a request."""
        return self._exchange is not None and not self._exchange.is_answered

    @property
    def has_served(self) -> bool:
        """A whole request has come and was answered."""
        return self._exchange is not None

    @property
    def is_closing(self) -> bool:
        """There will be no other reply."""
        return self.is_leaving or self.transport.is_closing()

    # The transport's calls.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._scope = _scope(transport)
        self._tally.connections.add(self)
        excess = len(self._tally.connections) - self._limits.connections
        self.is_extra = excess > 0
        self._last = self.is_extra or self._tally.draining
        if excess > self._limits.reserve:
            self.refuse(UNAVAILABLE)
            transport.close()

    def eof_received(self) -> None:
        """The peer has hung up; a half-close counts as that."""
        if self.is_receiving and not self.is_leaving:
            self.refuse(BAD_REQUEST)
        self._batching.flush()  # the connection closes now, and its reply may be waiting

    def connection_lost(self, _: Exception | None) -> None:
        self._tally.connections.discard(self)
        self._release()
        self._hang_up()
        self._unclog()
        self._exchange = None  # it refers to this connection, and the cycle would outlast both

    def pause_writing(self) -> None:
        """The peer does not read its replies, so no further request is read."""
        self._clogged = self._loop.create_future()
        if not self.is_closing:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.caught_up = self._loop.time()
        self._unclog()
        if not self.is_closing:
            self.transport.resume_reading()

    # The server's calls, when it is being stopped.

    def drain(self) -> None:
        """Let the connection end with the reply to the request in hand, or else the next."""
        self._last = True

    def end(self) -> None:
        """Refuse the request in hand, so that its caller tries again, and end the connection."""
        if self.is_closing:
            return
        if self.is_answering or self.is_receiving:
            self.refuse(UNAVAILABLE)
        else:
            self._batching.flush()  # its reply may be waiting
            self.transport.close()

    def abort(self) -> None:
        """End the connection at once, without a reply."""
        self.transport.abort()

    async def drained(self) -> None:
        """Wait until the peer has read nearly all that was sent."""
        if self._clogged is not None:
            await asyncio.shield(self._clogged)

    # The ways out.

    def refuse(self, status: int, head: bytes = b"") -> None:
        """Reply in the application's place; a reply that it has begun is cut off."""
        self._tally.refused[str(status)] += 1
        exchange = self._exchange if self.is_answering else None
        self._hang_up()
        if exchange is not None and exchange.is_begun:
            self.abort()
            return
        known = exchange.request_id.encode() if exchange is not None else b""
        lines, body = self._refusal(status, known or request_id_in(head))
        top = (status_line(status), self._tally.date, lines, b"connection: close\r\n\r\n")
        self._batching.flush()  # an earlier reply may be waiting
        self.transport.write(b"".join((*top, body)))
        self._linger()

    def _close(self) -> None:
        """End the connection after all that has been written."""
        if self._body is None and not self._surplus:
            self.transport.close()
        else:
            self._linger()

    def _hang_up(self) -> None:
        # After the reply, the application's further work is not interrupted.
        exchange = self._exchange
        if exchange is not None and not exchange.is_over:
            exchange.gone.set_result(None)
            exchange.forget()
            exchange.wake()

    def _unclog(self) -> None:
        if self._clogged is not None and not self._clogged.done():
            self._clogged.set_result(None)
        self._clogged = None

    def _linger(self) -> None:
        """Close the sending side, and drop data until the peer closes its own."""
        if self.is_closing:
            return
        self.is_leaving = True
        self._release()
        self._part = b""
        self._body = None
        self.since = self._loop.time()
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS sends a closing alert, and waits as long for the peer's
            self.transport.close()

    def _release(self) -> None:
        self._tally.unfinished -= self._held
        self._held = 0


def _scope(transport: asyncio.BaseTransport) -> dict[str, Any]:
    """Return the part of an ASGI scope that describes a connection."""
    peer, own = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    return {
        "scheme": "https" if transport.get_extra_info("sslcontext") else "http",
        "client": tuple(peer[:2]) if peer else None,
        "server": tuple(own[:2]) if own else None,
    }
