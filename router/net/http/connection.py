"""The hardened HTTP/1.1 connection, which limits all that its peer can make it hold.

uvicorn makes one of this protocol class for each connection. It serves one request at a time: its
head comes, an ASGI application is called, its body comes, its response goes out. A faulty request
is answered once, in the application's place. Nothing here knows the meaning of requests and
responses.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from router.net.http.exchange import EXTENSION, Exchange, status_line
from router.net.http.head import (
    BAD_REQUEST,
    END,
    Body,
    Chunked,
    Head,
    Malformed,
    is_hopeless,
    oversized,
    read,
    request_id_in,
)
from router.net.loops import COMPANY, batching_of

#: How much of a body may come before the application asks for it, in bytes.
_AHEAD: Final = 64 * 1024


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


class Connection(asyncio.Protocol):
    """One connection. Its peer gets one reply per request, or a closed connection.

    Pipelined requests are not served: the first is answered, and the connection ends with it.
    """

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
        #: The part of a head that has come.
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
        #: Set once the peer reads again; None while it reads.
        self._clogged: asyncio.Event | None = None
        #: Whether there were too many connections already when it was made.
        self._is_extra = False
        #: Whether the last reply has been sent; data that comes now is dropped.
        self._is_leaving = False
        #: When the present wait for the peer began, and when it was last known to have read all.
        self._since = self._caught_up = self._loop.time()

    # A request that an application handles while its body is coming is both received and answered.

    @property
    def _is_receiving(self) -> bool:
        """A request's first byte has come, and its last has not."""
        return self._body is not None or self._part != b""

    @property
    def _is_answering(self) -> bool:
        """The application has not replied to a request."""
        return self._exchange is not None and not self._exchange.is_answered

    @property
    def _is_closing(self) -> bool:
        """There will be no other reply."""
        return self._is_leaving or self.transport.is_closing()

    # The transport's calls.

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._scope = _scope(transport)
        self._tally.connections.add(self)
        excess = len(self._tally.connections) - self._limits.connections
        self._is_extra = excess > 0
        self._last = self._is_extra
        if excess > self._limits.reserve:
            self.refuse(UNAVAILABLE)
            transport.close()

    def eof_received(self) -> None:
        """The peer has hung up; a half-close counts as that."""
        if self._is_receiving and not self._is_leaving:
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
        self._clogged = asyncio.Event()
        if not self._is_closing:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        self._caught_up = self._loop.time()
        self._unclog()
        if not self._is_closing:
            self.transport.resume_reading()

    # A request on its way in.

    def data_received(self, data: bytes) -> None:
        if self._is_leaving:
            return
        exchange = self._exchange
        if exchange is not None and self._body is not None:
            self._read_body(exchange, self._body, data)
        elif exchange is None or exchange.is_answered:
            self._read_head(data)
        else:
            self._read_surplus(data)

    def _read_head(self, data: bytes) -> None:
        """Gather a head until it is whole. Blank lines before it are ignored."""
        if not self._part:
            data = data.lstrip(b"\r\n")
            if not data:
                return
            self._since = self._loop.time()
        data = self._part + data
        end = data.find(END, max(0, len(self._part) - len(END)))
        self._part = b"" if end >= 0 else data
        size = end + len(END) if end >= 0 else len(data)
        if wrong := oversized(data, size, self._limits):
            self.refuse(wrong, data[: self._limits.head])
        elif end >= 0:
            self._begin(data[:size], data[size:])
        elif is_hopeless(data):
            self.refuse(BAD_REQUEST)

    def _begin(self, raw: bytes, rest: bytes) -> None:
        """Call the application, with the body if that has come already."""
        head = read(raw)
        if isinstance(head, int):
            self.refuse(head, raw)
        elif self._is_extra and not raw.startswith(self._limits.exempt):
            self.refuse(UNAVAILABLE, raw)
        elif head.length == len(rest):
            self._call(head, rest)
        else:
            self._begin_body(head, raw, rest)

    def _begin_body(self, head: Head, raw: bytes, rest: bytes) -> None:
        """Call the application for a request whose body has come in part, or in chunks."""
        body = Chunked(self._limits.head) if head.length is None else Body(head.length)
        if self._fits(body, rest, raw):
            self._waits = head.expects and not rest
            if body.is_whole:
                self._call(head, body.take())
            else:
                self._call(head, None).incoming = body
                self._count_bytes(len(raw) + len(rest))

    def _call(self, head: Head, body: bytes | None) -> Exchange:
        exchange = self._exchange = Exchange(self, head, body)
        # A head's scope has a key for each of these: so many new ones would let it grow twice.
        scope = head.scope.copy()
        scope.update(self._scope)
        scope["headers"] = list(head.fields)
        scope["state"] = {}
        scope["extensions"] = {EXTENSION: exchange}
        task = exchange.task = self._loop.create_task(exchange.run(self._application, scope))
        self._tally.tasks.add(task)
        return exchange

    def _read_body(self, exchange: Exchange, body: Body, data: bytes) -> None:
        self._waits = False
        if not self._fits(body, data):
            return
        if body.is_whole:
            self._release()
        else:
            if body.size > _AHEAD:
                self.transport.pause_reading()
            self._count_bytes(len(data))
        exchange.wake()

    def _fits(self, body: Body, data: bytes, head: bytes = b"") -> bool:
        """Add data to the body; False if it is malformed, and refused."""
        try:
            body.feed(data)
        except Malformed:
            self.refuse(BAD_REQUEST, head)
            return False
        self._body = None if body.is_whole else body
        self._last = self._last or body.closes
        if body.surplus:
            self._read_surplus(body.surplus)
        return True

    def _read_surplus(self, data: bytes) -> None:
        """Drop data that comes behind a request in hand; blank lines are ignored. It is read up to
        the size of a head, since a hang-up is noticed only while reading."""
        if not self._surplus:
            data = data.lstrip(b"\r\n")
        self._surplus += len(data)
        if self._surplus > self._limits.head:
            self.transport.pause_reading()

    def _count_bytes(self, size: int) -> None:
        self._held += size
        self._tally.unfinished += size
        if self._held > self._limits.head and self._tally.unfinished > self._limits.unfinished:
            self.refuse(UNAVAILABLE)

    # The calls of an exchange.

    @property
    def stays(self) -> bool:
        """Return whether the connection outlives the reply to the request in hand."""
        is_last = self._last or self._tally.draining
        return not (is_last or self._surplus or self._body is not None)

    @property
    def date(self) -> bytes:
        """The `date` header line of a reply that is made now."""
        return self._tally.date

    def ask(self) -> None:
        """The application waits for more of the body."""
        if self._body is None or self._is_closing:
            return
        if self._waits:
            self._waits = False
            self._write_now(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.transport.resume_reading()

    def send(self, data: bytes, *, more: bool, stays: bool) -> None:
        """Send the reply's next bytes; after the last ones the connection ends or stays."""
        if self._is_leaving or self.transport.is_closing():
            return
        if more:
            self._write_now(data)
            return
        self._since = self._loop.time()
        if not (stays and self.stays):
            self._write_now(data)
            if self._body is None and not self._surplus:
                self.transport.close()
            else:
                self._linger()
        elif len(self._tally.tasks) > COMPANY:
            self._batching.put(self._write, data)
        else:
            self._write_now(data)

    def end_exchange(self, task: asyncio.Task[None] | None, *, unanswered: bool) -> None:
        """The application has returned; `unanswered` without a whole reply."""
        if task is not None:
            self._tally.tasks.discard(task)
        if unanswered and not self._is_closing:
            self.refuse(INTERNAL_ERROR)

    def _write_now(self, data: bytes) -> None:
        if self._batching.waiting:  # an earlier reply may be among them
            self._batching.flush()
        self.transport.write(data)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)

    # The server's calls.

    def check(self, now: float, *, is_full: bool) -> None:
        """End the connection if a wait for the peer takes too long; `is_full`: all connections are
        in use."""
        if self.transport.get_write_buffer_size() == 0:
            self._caught_up = now
        elif now - self._caught_up > self._limits.reply:
            self._tally.refused["unread"] += 1
            self.transport.abort()
        if self.transport.is_closing() or now - self._since <= self._patience(is_full):
            return
        if self._is_leaving:
            self.transport.abort()
        elif self._is_receiving or (self._is_extra and is_full):
            self.refuse(UNAVAILABLE if is_full else TIMED_OUT)
        elif not self._has_unread():
            self.transport.close()

    def _patience(self, is_full: bool) -> float:
        """Return how long the present wait for the peer may take, in seconds."""
        if self._is_answering and not (self._is_leaving or self._is_receiving):
            return math.inf
        if is_full or self._is_leaving:
            return self._limits.linger
        if self._is_receiving:
            return self._limits.receive
        if self._tally.closed:
            return self._limits.linger
        return self._limits.first_byte if self._exchange is None else self._limits.keep_alive

    def _has_unread(self) -> bool:
        """Return whether data, or the connection's end, has come that was not read yet."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def end(self) -> None:
        """Refuse the request in hand, so that its caller tries again, and end the connection."""
        if self._is_closing:
            return
        if self._is_answering or self._is_receiving:
            self.refuse(UNAVAILABLE)
        else:
            self._batching.flush()  # its reply may be waiting
            self.transport.close()

    async def drained(self) -> None:
        """Wait until the peer has read nearly all that was sent."""
        if self._clogged is not None:
            await self._clogged.wait()

    # The ways out.

    def refuse(self, status: int, head: bytes = b"") -> None:
        """Reply in the application's place; a reply that it has begun is cut off."""
        self._tally.refused[str(status)] += 1
        exchange = self._exchange if self._is_answering else None
        self._hang_up()
        if exchange is not None and exchange.is_begun:
            self.transport.abort()
            return
        known = exchange.request_id.encode() if exchange is not None else b""
        lines, body = self._refusal(status, known or request_id_in(head))
        top = (status_line(status), self._tally.date, lines, b"connection: close\r\n\r\n")
        self._write_now(b"".join((*top, body)))
        self._linger()

    def _hang_up(self) -> None:
        # After the reply, the application's further work is not interrupted.
        exchange = self._exchange
        if exchange is not None and not exchange.is_over:
            exchange.gone.set_result(None)
            exchange.forget()
            exchange.wake()

    def _unclog(self) -> None:
        if self._clogged is not None:
            self._clogged.set()
            self._clogged = None

    def _linger(self) -> None:
        """Close the sending side, and drop data until the peer closes its own."""
        if self._is_closing:
            return
        self._is_leaving = True
        self._release()
        self._part = b""
        self._body = None
        self._since = self._loop.time()
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
