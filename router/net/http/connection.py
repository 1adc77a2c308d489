"""The hardened HTTP/1.1 connection, which limits all that its peer can make it hold.

uvicorn makes one of this protocol class for each connection. It serves one request at a time: its
head comes, an ASGI application is called, its body comes, its response goes out. A faulty request
is answered once, in the application's place: see lifetime.py. Nothing here knows the meaning of
requests and responses.
"""

from __future__ import annotations

import asyncio
from typing import Final

from router.net.http.exchange import EXTENSION, Exchange
from router.net.http.head import (
    BAD_REQUEST,
    BLANK,
    END,
    Body,
    Chunked,
    Head,
    Malformed,
    is_hopeless,
    oversized,
    read,
    without_blank_lines,
)
from router.net.http.lifetime import INTERNAL_ERROR, UNAVAILABLE, Lifetime
from router.net.loops import COMPANY

#: How much of a body may come before the application asks for it, in bytes.
_AHEAD: Final = 64 * 1024


class Connection(Lifetime):
    """One connection. Its peer gets one reply per request, or a closed connection.

    Pipelined requests are not served: the first is answered, and the connection ends with it.
    """

    # A request on its way in.

    def data_received(self, data: bytes) -> None:
        if self.is_leaving:
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
        data = self._part + data
        if self._part in BLANK:
            data = without_blank_lines(data)
            if data in BLANK:
                self._part = data
                return
            self.since = self._loop.time()
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
        elif self.is_extra and not raw.startswith(self._limits.exempt):
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
                self._hold(len(raw) + len(rest))

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
            self._hold(len(data))
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
            data = self._part = without_blank_lines(self._part + data)
            if data in BLANK:
                return
            self._part = b""
        self._surplus += len(data)
        if self._surplus > self._limits.head:
            self.transport.pause_reading()

    def _hold(self, size: int) -> None:
        self._held += size
        self._tally.unfinished += size
        if self._held > self._limits.head and self._tally.unfinished > self._limits.unfinished:
            self.refuse(UNAVAILABLE)

    # The calls of an exchange.

    @property
    def stays(self) -> bool:
        """Return whether the connection outlives the reply to the request in hand."""
        return not (self._last or self._surplus or self._body is not None)

    @property
    def date(self) -> bytes:
        """The `date` header line of a reply that is made now."""
        return self._tally.date

    def ask(self) -> None:
        """The application waits for more of the body."""
        if self._body is None or self.is_closing:
            return
        if self._waits:
            self._waits = False
            self._write_now(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.transport.resume_reading()

    def send(self, data: bytes, *, more: bool, stays: bool) -> None:
        """Send the reply's next bytes; after the last ones the connection ends or stays."""
        if self.is_leaving or self.transport.is_closing():
            return
        if more:
            self._write_now(data)
            return
        self._tally.answered += 1
        self.since = self._loop.time()
        if not (stays and self.stays):
            self._write_now(data)
            self._close()
        elif len(self._tally.tasks) > COMPANY:
            self._batching.put(self._write, data)
        else:
            self._write_now(data)

    def end_exchange(self, task: asyncio.Task[None] | None, *, unanswered: bool) -> None:
        """The application has returned; `unanswered` without a whole reply."""
        if task is not None:
            self._tally.tasks.discard(task)
        if unanswered and not self.is_closing:
            self.refuse(INTERNAL_ERROR)

    def _write_now(self, data: bytes) -> None:
        if self._batching.waiting:  # an earlier reply may be among them
            self._batching.flush()
        self.transport.write(data)

    def _write(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(data)
