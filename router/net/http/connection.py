"""The hardened HTTP/1.1 connection, with a bound on all that its peer can make it hold.

It is the protocol class that uvicorn makes one of for each connection. It serves one request at a
time: its head comes, an ASGI application is called, its body comes, its response goes out. What is
wrong with it is answered once, in the application's place: see lifetime.py. Nothing here knows what
requests and responses mean.
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
    Head,
    Malformed,
    body_after,
    is_hopeless,
    oversized,
    read,
    without_blank_lines,
)
from router.net.http.lifetime import INTERNAL_ERROR, UNAVAILABLE, Lifetime
from router.net.loops import COMPANY

#: So much of a body may come before somebody asks for it, in bytes.
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
        """Gather a head until it is whole. Blank lines before it count as nothing."""
        data = self._part + data
        if self._part in BLANK:
            data = without_blank_lines(data)
            if data in BLANK:
                self._part = data
                return
            self.since = self._loop.time()
        found = data.find(END, max(0, len(self._part) - len(END)))
        self._part = b"" if found >= 0 else data
        size = found + len(END) if found >= 0 else len(data)
        if wrong := oversized(data, size, self._limits):
            self.refuse(wrong, data[: self._limits.head])
        elif found >= 0:
            self._begin(data[:size], data[size:])
        elif is_hopeless(data):
            self.refuse(BAD_REQUEST)

    def _begin(self, raw: bytes, rest: bytes) -> None:
        """Let the application have the request, with its body where that has come already."""
        head = read(raw)
        if isinstance(head, int):
            self.refuse(head, raw)
        elif self.is_extra and not raw.startswith(self._limits.exempt):
            self.refuse(UNAVAILABLE, raw)
        elif head.length == len(rest):
            self._call(head, rest)
        elif self._fits(body := body_after(head, self._limits.head), rest, raw):
            self._waits = head.expects and not rest
            if body.is_whole:
                self._call(head, body.take())
            else:
                self._call(head, None).incoming = body
                self._hold(len(raw) + len(rest))

    def _call(self, head: Head, body: bytes | None) -> Exchange:
        exchange = self._exchange = Exchange(self, head, body)
        # A head's scope has a place for each of these: so many of them would let it grow twice.
        scope = head.scope.copy()
        scope.update(self._scope)
        scope["headers"] = list(head.fields)
        scope["state"] = self._state.copy()
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
        """Add to the body what has come; False where that can't be."""
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
        """Drop what comes behind a request that is in hand; blank lines count as nothing. It is
        read up to the size of a head, for a hang-up is noticed only where somebody reads."""
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

    # What an exchange asks of its connection.

    @property
    def stays(self) -> bool:
        """Whether the connection outlives the reply to the request in hand."""
        return not (self._last or self._surplus or self._body is not None)

    @property
    def date(self) -> bytes:
        """The header line that says when a reply is made."""
        return self._tally.date

    def ask(self) -> None:
        """Somebody waits for more of the body."""
        if self._body is None or self.is_closing:
            return
        if self._waits:
            self._waits = False
            self._write_now(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.transport.resume_reading()

    def say(self, data: bytes, *, more: bool, stays: bool) -> None:
        """Send the reply's next bytes, or its last, with which the connection ends or stays."""
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

    def over(self, task: asyncio.Task[None] | None, *, owed: bool) -> None:
        """The application has returned; `owed` where it has not said all of a reply."""
        if task is not None:
            self._tally.tasks.discard(task)
        if owed and not self.is_closing:
            self.refuse(INTERNAL_ERROR)

    def _write_now(self, whole: bytes) -> None:
        self._batching.flush()  # an earlier reply may be there
        self.transport.write(whole)

    def _write(self, whole: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(whole)
