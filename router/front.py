"""The hardened HTTP/1.1 front: one connection, with a bound on all that its peer can make it hold.

A connection serves one request at a time: its head comes, its body comes, the application has it,
its reply goes out. What is wrong with it is answered once, in the contract's JSON, before the
application hears of it. Deadlines cost nothing per request: `sweep` looks at all connections.
"""

from __future__ import annotations

import asyncio
import math
import select
from collections.abc import Coroutine, Iterable
from typing import Any

from router.outbox import COMPANY, outbox_of
from router.web.body import Body, Malformed, body_after
from router.web.call import Application, Call, Handler
from router.web.head import END, Head, is_hopeless, oversized, read, request_id_in
from router.web.limits import Limits, Tally
from router.web.replies import (
    BAD_HTTP,
    BUSY,
    TOO_SLOW,
    Reply,
    request_id_from,
    response_of,
    status_line,
)

#: What is answered even beyond the limit for connections.
_PROBES = (b"GET /livez ", b"GET /readyz ")


class Front(asyncio.Protocol):
    """One connection. Its peer gets one reply per request, or a closed connection.

    Pipelined requests are not served: the first is answered, and the connection ends with it.
    """

    transport: asyncio.Transport
    peer: tuple[Any, ...]

    def __init__(self, application: Application, limits: Limits, tally: Tally) -> None:
        self._application = application
        self._limits = limits
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._outbox = outbox_of(self._loop)
        #: The part of a head that has come; empty but while one is coming.
        self._part = b""
        #: The request in hand, or the last one; None before the first.
        self._call: Call | None = None
        #: Who handles it.
        self._handler: Handler
        #: Its body, from its whole head until its last byte.
        self._body: Body | None = None
        #: Whether there was a surplus: nothing that comes after it is read.
        self._surplus = False
        #: Whether the connection ends with the reply to the request in hand, or else the next.
        self._last = False
        #: Whether the connection was one too many when it was made.
        self._extra = False
        #: What this connection has in `Tally.unfinished`.
        self._held = 0
        #: Whether the last reply is out; what comes now is thrown away.
        self.is_leaving = False
        #: When the present wait for the peer began, and when it was last known to have read all.
        self._since = self._caught_up = self._loop.time()

    # Which of these a connection is decides how long it may stay so. A request that an application
    # has begun with while its body is coming is both received and answered.

    @property
    def is_receiving(self) -> bool:
        """A request's first byte has come, and its last has not."""
        return self._body is not None or self._part != b""

    @property
    def is_answering(self) -> bool:
        """The application has a request and has not replied to it."""
        return self._call is not None and not self._call.is_answered

    @property
    def is_closing(self) -> bool:
        """There will be no other reply."""
        return self.is_leaving or self.transport.is_closing()

    @property
    def _stays(self) -> bool:
        """Whether the connection outlives the reply to the request in hand."""
        cut = self._last or self._surplus or self._body is not None
        return not cut and self._call is not None and self._call.head.keep_alive

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
        return self._limits.first_byte if self._call is None else self._limits.keep_alive

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
        self.transport = transport
        self.peer = transport.get_extra_info("peername") or ("", 0)
        self._tally.connections.add(self)
        excess = len(self._tally.connections) - self._limits.connections
        self._extra = excess > 0
        self._last = self._extra or self._tally.draining
        if excess > self._limits.reserve:
            self._refuse(BUSY)
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self.is_leaving:
            return
        if self._call is not None and self._body is not None:
            self._read_body(self._call, self._body, data)
        elif not self.is_answering:
            self._read_head(data)
        elif data.strip(b"\r\n"):
            self._end_with_this_reply()

    def eof_received(self) -> None:
        """The peer says no more: it has hung up. One that half-closes is taken to have, too."""
        if self.is_receiving and not self.is_leaving:
            self._refuse(BAD_HTTP)
        self._outbox.flush()  # the connection closes with this, and its reply may wait there

    def connection_lost(self, _: Exception | None) -> None:
        self._tally.connections.discard(self)
        self._let_go()
        self._hang_up()

    def pause_writing(self) -> None:
        """The peer does not read its replies: it gets no more of them."""
        if not self.is_closing:
            self.transport.pause_reading()

    def resume_writing(self) -> None:
        if not self.is_closing:
            self.transport.resume_reading()

    # The server's calls, when it is being stopped.

    def drain(self) -> None:
        """Let the connection end with the reply to the request in hand, or else the next."""
        self._last = True

    def end(self) -> None:
        """Tell whoever is still owed a reply to come again, and end the connection."""
        if self.is_closing:
            return
        if self.is_answering or self.is_receiving:
            self._refuse(BUSY)
        else:
            self._outbox.flush()  # its reply may wait there
            self.transport.close()

    def abort(self) -> None:
        """End the connection at once; nothing is said."""
        self.transport.abort()

    # A request on its way in.

    def _read_head(self, data: bytes) -> None:
        """Gather a head until it is whole. Line breaks before it count as nothing."""
        data = (self._part + data).lstrip(b"\r\n")
        if not data:
            return
        if not self._part:
            self._since = self._loop.time()
        found = data.find(END, max(0, len(self._part) - len(END)))
        self._part = b"" if found >= 0 else data
        size = found + len(END) if found >= 0 else len(data)
        if wrong := oversized(data, size, self._limits):
            self._refuse(wrong, data[: self._limits.head])
        elif found >= 0:
            self._begin(data[:size], data[size:])
        elif is_hopeless(data):
            self._refuse(BAD_HTTP)

    def _begin(self, raw: bytes, rest: bytes) -> None:
        """Let the application have the request: its head now, its body when that has come."""
        head = read(raw)
        if isinstance(head, Reply):
            self._refuse(head, raw)
        elif self._extra and not raw.startswith(_PROBES):
            self._refuse(BUSY, raw)
        elif head.length == len(rest):
            self._offer(head, rest)
        elif self._fits(body := body_after(head, self._limits.head), rest, raw):
            call = self._offer(head)
            if not call.is_answered:
                self._go_on(call, body, len(raw) + len(rest))

    def _offer(self, head: Head, body: bytes | None = None) -> Call:
        """Let the application have a request's head, and its body where that is there already."""
        call = self._call = Call(head, self, self._loop.create_future())
        handler = self._handler = self._application.begin(call)
        if body is not None and not call.is_answered:
            handler.receive(call, body)
        return call

    def _read_body(self, call: Call, body: Body, data: bytes) -> None:
        if self._fits(body, data):
            self._go_on(call, body, len(data))

    def _fits(self, body: Body, data: bytes, head: bytes = b"") -> bool:
        """Add to the body what has come; False where that can't be."""
        try:
            body.feed(data)
        except Malformed:
            self._refuse(BAD_HTTP, head)
            return False
        self._body = None if body.is_whole else body
        self._last = self._last or body.closes
        if body.has_surplus:
            self._end_with_this_reply()
        return True

    def _go_on(self, call: Call, body: Body, size: int) -> None:
        """Do what is to be done now that so much more of a request has come."""
        if body.is_whole:
            self._let_go()
            self._handler.receive(call, body.take())
        elif body.size > self._handler.max_body:
            self.transport.pause_reading()  # the rest will not change the reply
            self._handler.receive(call, body.take())
        else:
            self._hold(size)

    def _hold(self, size: int) -> None:
        self._held += size
        self._tally.unfinished += size
        if self._held > self._limits.head and self._tally.unfinished > self._limits.unfinished:
            self._refuse(BUSY)

    def _let_go(self) -> None:
        self._tally.unfinished -= self._held
        self._held = 0

    # What a call asks of its connection.

    def proceed(self, call: Call) -> None:
        if call.head.expects and self._body is not None and self._body.size == 0:
            self._write_now(b"HTTP/1.1 100 Continue\r\n\r\n")

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tally.tasks.add(task)
        task.add_done_callback(self._tally.tasks.discard)

    def answer(self, call: Call, status: int, headers: bytes, body: bytes) -> None:
        if call is not self._call or call.is_answered or self.is_closing:
            return
        call.is_answered = True
        self._tally.answered += 1
        self._since = self._loop.time()
        stays = self._stays
        self._say(status, headers, b"" if call.head.method == b"HEAD" else body, stays=stays)
        if not stays:
            self._close()

    # The way out.

    def _say(self, status: int, headers: bytes, body: bytes, *, stays: bool) -> None:
        """Head and body in one call of the system: that halves what a reply costs."""
        end = b"\r\n" if stays else b"connection: close\r\n\r\n"
        whole = b"".join((status_line(status), self._tally.date, headers, end, body))
        if stays and len(self._tally.tasks) > COMPANY:
            self._outbox.put(self._write, whole)
        else:
            self._write_now(whole)

    def _write_now(self, whole: bytes) -> None:
        self._outbox.flush()  # an earlier reply may be there
        self.transport.write(whole)

    def _write(self, whole: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(whole)

    def _close(self) -> None:
        """End the connection after what has been written."""
        if self._body is None and not self._surplus:
            self.transport.close()
        else:
            self._linger()

    def _hang_up(self) -> None:
        # Who has its reply is not missed: what goes on for it now is the router's own.
        call = self._call
        if call is None or call.is_answered or call.gone.done():
            return
        call.gone.set_result(None)
        if self._body is not None:
            self._handler.abandon(call)

    def _end_with_this_reply(self) -> None:
        self._surplus = True
        self.transport.pause_reading()

    def _refuse(self, reply: Reply, head: bytes = b"") -> None:
        """Reply in the application's place."""
        self._tally.refused[reply.code] += 1
        call = self._call if self.is_answering else None
        self._hang_up()
        request_id = call.request_id if call else request_id_from(request_id_in(head))
        self._say(reply.status, *response_of(reply, request_id), stays=False)
        self._linger()

    def _linger(self) -> None:
        """Say that nothing more will be said, and let what is on its way in run out."""
        if self.is_closing:
            return
        self.is_leaving = True
        self._let_go()
        self._part = b""
        self._body = None
        self._since = self._loop.time()
        self.transport.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:  # TLS has a word for it, and waits as long for the peer's
            self.transport.close()


def sweep(connections: Iterable[Front], limits: Limits, now: float) -> None:
    """End what has taken too long, on all connections of one server."""
    every = list(connections)
    full = len(every) >= limits.connections
    for connection in every:
        connection.check(now, full)
