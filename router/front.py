"""The hardened HTTP/1.1 front: one connection, with a bound on all that its peer can make it hold.

uvicorn's protocol does the ordinary work; here is what it leaves open. A connection serves one
request at a time, and what is wrong with it is answered once, in the contract's JSON, before the
application hears of it. Deadlines cost nothing per request: `sweep` looks at all connections.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections import deque
from collections.abc import Iterable
from typing import Any, cast

from httptools import HttpParserError
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from router.web.call import GONE
from router.web.head import END, is_hopeless, oversized, read, request_id_in
from router.web.limits import Limits, Tally
from router.web.replies import BAD_HTTP, BUSY, TOO_SLOW, Reply, raw_response, request_id_from

#: What is answered even beyond the limit for connections.
_PROBES = (b"GET /livez ", b"GET /readyz ")

#: Where trailers go: a list of headers that keeps none.
_NOWHERE: deque[tuple[bytes, bytes]] = deque(maxlen=0)


class Surplus(Exception):
    """Something came after a request's last byte and before its reply."""


class Front(HttpToolsProtocol):
    """One connection. Its peer gets one reply per request, or a closed connection.

    Pipelined requests are not served: the first is answered, and the connection ends with it.
    """

    def __init__(self, *args: Any, limits: Limits, tally: Tally, **options: Any) -> None:
        super().__init__(*args, **options)
        self._limits = limits
        self._tally = tally
        #: The part of a head that has come; empty but while one is coming.
        self._head = b""
        #: False from a whole head until the last byte of the request's body.
        self._whole = True
        #: Whether there was a surplus: nothing that comes after it is read.
        self._surplus = False
        #: Whether the connection ends with the reply to the request in hand, or else the next.
        self._last = False
        #: Whether the connection was one too many when it was made.
        self._extra = False
        #: Whether the caller of the request in hand asked to keep the connection.
        self._keep_alive = False
        #: How much may still come of this request; each byte of its body counts itself in twice.
        self._allowance = 0
        #: What this connection has in `Tally.unfinished`.
        self._held = 0
        #: What the application hears of a hang-up by.
        self._gone: asyncio.Future[None] = self.loop.create_future()
        #: A reply's head that waits for the body.
        self._reply_head = b""
        #: Whether the last reply is out; what comes now is thrown away.
        self.is_leaving = False
        #: When the present wait for the peer began, and when it was last known to have read all.
        self._since = self._caught_up = self.loop.time()

    # Which of these a connection is decides how long it may stay so. A request that is handed to
    # the application while its body is coming is both received and answered.

    @property
    def is_receiving(self) -> bool:
        """A request's first byte has come, and its last has not."""
        return not self._whole or self._head != b""

    @property
    def is_answering(self) -> bool:
        """The application has a request and has not replied to it."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def _patience(self) -> float:
        if self.is_leaving:
            return self._limits.linger
        if self.is_receiving:
            return self._limits.receive
        if self.is_answering:
            return math.inf
        if self._tally.closed:
            return self._limits.linger
        return self._limits.first_byte if self.cycle is None else self._limits.keep_alive

    @property
    def _has_unread(self) -> bool:
        """Something has come that nobody has looked at yet, be it the connection's end."""
        poll = select.poll()
        poll.register(self.transport.get_extra_info("socket"), select.POLLIN)
        return bool(poll.poll(0))

    def check(self, now: float, full: bool) -> None:
        """End what has taken too long, or too long for a full house."""
        if self.transport.get_write_buffer_size() == 0:
            self._caught_up = now
        elif now - self._caught_up > self._limits.reply:
            self._tally.refused["unread"] += 1
            self.transport.abort()
        if self.transport.is_closing():
            return
        patience = self._patience
        if full and patience < math.inf:
            patience = self._limits.linger
        if now - self._since <= patience:
            return
        if self.is_leaving:
            self.transport.abort()
        elif self.is_receiving or (self._extra and full):
            self._refuse(BUSY if full else TOO_SLOW)
        elif not self._has_unread:
            self.transport.close()

    # The transport's calls.

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        excess = len(self.connections) - self._limits.connections
        self._extra = excess > 0
        self._last = self._extra or self._tally.draining
        if excess > self._limits.reserve:
            self._refuse(BUSY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self.is_leaving:
            return
        if not self._whole:
            self._feed(data)
        elif not self.is_answering:
            self._collect(data)
        elif data.strip(b"\r\n"):
            self._end_with_this_reply()

    def eof_received(self) -> None:
        """The peer says no more: it has hung up. One that half-closes is taken to have, too."""
        if self.is_receiving and not self.is_leaving:
            self._refuse(BAD_HTTP)

    def connection_lost(self, exc: Exception | None) -> None:
        self._let_go()
        self._hang_up()
        super().connection_lost(exc)

    # The server's calls, when it is being stopped.

    def drain(self) -> None:
        """Let the connection end with the reply to the request in hand, or else the next."""
        self._last = True
        if self.is_answering:
            self._keep_alive = self.cycle.keep_alive = False

    def end(self) -> None:
        """Tell whoever is still owed a reply to come again, and end the connection."""
        if self.is_closing():
            return
        if self.is_answering or self.is_receiving:
            self._refuse(BUSY)
        else:
            self.transport.close()

    def abort(self) -> None:
        """End the connection at once; nothing is said."""
        self.transport.abort()

    # A request on its way in.

    def _collect(self, data: bytes) -> None:
        """Gather a head until it is whole. Line breaks before it count as nothing."""
        data = (self._head + data).lstrip(b"\r\n")
        if not data:
            return
        if not self._head:
            self._since = self.loop.time()
        found = data.find(END, max(0, len(self._head) - len(END)))
        self._head = b"" if found >= 0 else data
        size = found + len(END) if found >= 0 else len(data)
        if wrong := oversized(data, size, self._limits):
            self._refuse(wrong, data[: self._limits.head])
        elif found >= 0:
            self._begin(data[:size], data[size:])
        elif is_hopeless(data):
            self._refuse(BAD_HTTP)

    def _begin(self, head: bytes, rest: bytes) -> None:
        readable = read(head)
        if isinstance(readable, Reply):
            self._refuse(readable, head)
        elif self._extra and not head.startswith(_PROBES):
            self._refuse(BUSY, head)
        else:
            self._whole = False
            self._allowance = self._limits.head + len(readable)
            self._feed(readable + rest)

    def _feed(self, data: bytes) -> None:
        self._allowance -= len(data)
        try:
            self.parser.feed_data(data)
        except HttpParserError:
            if self._whole:
                self._end_with_this_reply()
            else:
                self._refuse(BAD_HTTP)
            return
        if self._allowance < 0:
            self._refuse(BAD_HTTP)
        elif not self._whole:
            self._hold(len(data))

    def _hold(self, size: int) -> None:
        self._held += size
        self._tally.unfinished += size
        if self._held > self._limits.head and self._tally.unfinished > self._limits.unfinished:
            self._refuse(BUSY)

    def _let_go(self) -> None:
        self._tally.unfinished -= self._held
        self._held = 0

    # The parser's calls.

    def on_message_begin(self) -> None:
        if self._whole:
            raise Surplus
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._gone = self.loop.create_future()
        self.scope["extensions"] = cast("Any", {GONE: self._gone})
        self.headers = cast("list[tuple[bytes, bytes]]", _NOWHERE)
        # uvicorn writes to and closes this connection, and not its transport, so that closing is
        # never a reset.
        self.cycle.transport = cast("Any", self)
        # A reply that comes before the request is whole is the last one.
        self._keep_alive = self.cycle.keep_alive and not self._last
        self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self._allowance += 2 * len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._whole = True
        self._let_go()
        # Uvicorn stops reading where much has come; a hang-up has to be noticed all the same.
        self.flow.resume_reading()
        self.cycle.waiting_for_100_continue = False
        if not self.cycle.response_started:
            # The parser asks again: it heeds a `connection: close` among the trailers.
            self.cycle.keep_alive = self._keep_alive and self.parser.should_keep_alive()
        super().on_message_complete()

    # The way out.

    def write(self, data: bytes) -> None:
        """A reply's head and body go out in one call of the system: that halves what it costs."""
        if self.cycle.response_started and not self._reply_head:
            self._reply_head = data
        else:
            self.transport.write(self._reply_head + data)
            self._reply_head = b""

    def _flush(self) -> None:
        """A head whose reply has no body."""
        if self._reply_head:
            self.transport.write(self._reply_head)
            self._reply_head = b""

    def on_response_complete(self) -> None:
        self._flush()
        self.server_state.total_requests += 1
        if not self.is_closing():
            self._since = self.loop.time()
            self.flow.resume_reading()

    def is_closing(self) -> bool:
        return self.is_leaving or self.transport.is_closing()

    def close(self) -> None:
        """End the connection after what has been written."""
        self._flush()
        if self._whole and not self._surplus:
            self.transport.close()
        else:
            self._linger()

    def _hang_up(self) -> None:
        # Who has its reply is not missed: what goes on for it now is the router's own.
        if self.is_answering and not self._gone.done():
            self._gone.set_result(None)

    def _end_with_this_reply(self) -> None:
        self._surplus = True
        self.cycle.keep_alive = False
        self.flow.pause_reading()

    def _refuse(self, reply: Reply, head: bytes = b"") -> None:
        """Reply in the application's place. A reply that has begun stays the only one."""
        self._tally.refused[reply.code] += 1
        given = request_id_in(head)
        began = False
        if self.is_answering:
            given = dict(self.cycle.scope["headers"]).get(b"x-request-id")
            began = self.cycle.response_started
            self._hang_up()
            self.cycle.disconnected = True
            self.cycle.body.clear()
            self.cycle.message_event.set()
        if began:
            self._flush()
        else:
            self.transport.write(raw_response(reply, request_id_from(given)))
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more will be said, and let what is on its way in run out."""
        if self.is_closing():
            return
        self.is_leaving = True
        self._let_go()
        self._head = b""
        self._since = self.loop.time()
        self.flow.resume_reading()
        self.transport.write_eof()


def sweep(connections: Iterable[Any], limits: Limits, now: float) -> None:
    """End what has taken too long, on all connections of one server."""
    every = list(connections)
    full = len(every) >= limits.connections
    for connection in every:
        connection.check(now, full)
