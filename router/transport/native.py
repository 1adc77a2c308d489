"""The pool of connections to one target, on asyncio and httptools."""

from __future__ import annotations

import asyncio
import math
import select
import socket
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast
from urllib.parse import urlsplit

from router.model.event import Reason
from router.net.egress import ANYWHERE, Egress
from router.net.loops import COMPANY, TICK, Batching, batching_of
from router.net.tls import USUAL, Tls
from router.transport.addresses import LATE_HANDSHAKE, Host, connect_cause, connected, tls_cause
from router.transport.answer import Incoming, Unfit, in_one_piece
from router.transport.engine import (
    KEEP_ALIVE,
    Answer,
    Failure,
    T,
    TargetExchange,
    target_and_host,
    unsent,
)

#: The most of a body that is handed to the transport at once. It may keep a copy of that much while
#: the target does not read.
_PIECE: Final = 64 * 1024

_NOTHING: Final = memoryview(b"")


class Posted(TargetExchange[T]):
    """An exchange over a connection of this engine, with its request and its deadline."""

    def __init__(self, read: Callable[[Any], T], head: bytes, body: bytes, deadline: float) -> None:
        """`deadline` is by the loop's clock."""
        super().__init__(read)
        self.head = head
        self.body = body
        self.deadline = deadline


class TargetConnection(asyncio.Protocol):
    """A connection that carries one exchange at a time, a request and its answer.

        idle ──begin()──► busy ──whole answer──► idle, or ended where it can't be used again
                           └─── failure, cancelled ───► ended

    While it is busy it may be sending and receiving at once. These hold at any time:

    - Idle, it has nothing unanswered on the wire, and nothing has come beyond the last answer.
      Data that comes all the same ends it: it can't be the answer to a request yet to be sent.
    - Busy, its exchange has yet to end. It ends through `_settle`, and once.
    - A request is written once; nothing here sends anything again. Once an exchange has begun, the
      target may have the request, and its failure says so, even if the connection turns out to have
      ended when it began: a moment later the same end would have met a request on its way. A
      connection that is known to have ended is not chosen in the first place.
    """

    def __init__(
        self,
        on_idle: Callable[[TargetConnection], None],
        on_end: Callable[[TargetConnection], None],
    ) -> None:
        """`on_idle` is called each time that an exchange leaves it fit for another one."""
        self._on_idle = on_idle
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        #: The loop's clock.
        self._now = self._loop.time
        #: When it was made, and when it became idle.
        self.since = self.idle_since = self._now()
        self._exchange: Posted[Any] | None = None
        #: Its answer, if that comes in several pieces.
        self._incoming: Incoming | None = None
        #: It outlives the exchange, since setting a timer costs more than letting one come early.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due = math.inf
        #: The part of the request that has not been handed to the transport.
        self._rest = _NOTHING
        #: Whether the transport holds data that the system has not taken.
        self._is_full = False
        #: Whether data came while it was idle.
        self._spoke_unasked = False

    @property
    def is_busy(self) -> bool:
        return self._exchange is not None

    @property
    def is_idle(self) -> bool:
        """Return whether it can take a request, as far as the loop knows."""
        return self._exchange is None and not self._transport.is_closing()

    def is_fresh(self, idle_since: float, since: float) -> bool:
        """Return whether it is idle, became so and was made later than these, and has nothing
        unread: a target that sends two answers to one request must not acknowledge the next
        event."""
        is_young = self.idle_since > idle_since and self.since > since
        return is_young and self.is_idle and not self.has_unread

    @property
    def has_unread(self) -> bool:
        """Return whether data or an end has come that the loop has not read yet."""
        return bool(self._socket.poll(0))

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The target's certificate as `ssl` has it: None without TLS, empty if not verified."""
        shown: dict[str, Any] | None = self._transport.get_extra_info("peercert")
        return shown

    def begin(self, exchange: Posted[Any]) -> None:
        """Send its request and read the answer."""
        if self._transport.is_closing():
            reason = Reason.PROTOCOL if self._spoke_unasked else Reason.RESET
            exchange.end(Failure(reason, delivered=True))
            return
        self._exchange = exchange
        exchange.stop = self.stop
        try:
            self._set_timer(exchange.deadline)
            if len(exchange.body) <= _PIECE:
                self._transport.write(exchange.head + exchange.body)
            else:
                self._transport.write(exchange.head)
                self._rest = memoryview(exchange.body)
                self._send_rest()
        except Exception as error:  # noqa: BLE001 - the exchange raises it
            exchange.fail(error)
            self.stop()

    def close(self) -> None:
        """End an idle connection in order."""
        self._transport.close()

    def stop(self) -> None:
        """End it now, and the exchange with it."""
        self._fail(Reason.STOPPED)
        self._transport.abort()

    def _set_timer(self, due: float) -> None:
        if due < self._timer_due:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_due = due
            self._timer = self._loop.call_later(max(due - self._now(), 0.0), self._on_timer)

    def _on_timer(self) -> None:
        self._timer, self._timer_due = None, math.inf
        if self._exchange is None:
            return
        if self._exchange.deadline <= self._now() + TICK:
            self._fail(Reason.TIMEOUT)
        else:
            self._set_timer(self._exchange.deadline)

    # Sending.

    def _send_rest(self) -> None:
        while self._rest and not self._is_full and not self._transport.is_closing():
            piece, self._rest = self._rest[:_PIECE], self._rest[_PIECE:]
            self._transport.write(piece)

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self._send_rest()
        whole = None if self._incoming is None else self._incoming.whole
        if whole is not None:
            self._finish(*whole)

    # Receiving.

    def data_received(self, data: bytes) -> None:
        if self._exchange is None:
            self._spoke_unasked = True
            self._transport.abort()
            return
        try:
            whole = None
            if self._incoming is None and not self._is_full and not self._rest:
                whole = in_one_piece(data)
            if whole is None:
                incoming = self._incoming = self._incoming or Incoming()
                incoming.feed(data)
                whole = incoming.whole
        except Unfit as unfit:
            self._fail(unfit.reason, unfit.words)
        else:
            if whole is not None:
                self._finish(*whole)

    def eof_received(self) -> None:
        if not self.is_busy:
            return
        try:
            answer = (self._incoming or Incoming()).end()
        except Unfit as unfit:
            self._fail(unfit.reason, unfit.words)
        else:
            self._transport.abort()  # first, so that it does not count as idle
            self._finish(answer, False)
            self._fail(Reason.RESET)  # if that has not ended it

    # The ends of an exchange.

    def _finish(self, answer: Answer, is_clean: bool) -> None:
        """End the exchange with its answer. A target may refuse a request that it has not read, but
        it can't have accepted it: a positive answer waits until the request is sent."""
        is_sending = self._is_full or len(self._rest) > 0
        if is_sending and answer.status < 300:
            return
        if is_sending or not is_clean:
            self._transport.abort()
        self._settle(answer)

    def _fail(self, reason: Reason, words: str = "") -> None:
        if self.is_busy:
            self._transport.abort()
            status = None if self._incoming is None else self._incoming.status
            self._settle(Failure(reason, True, status, words))

    def _settle(self, result: Answer | Failure) -> None:
        exchange, self._exchange = self._exchange, None
        self._incoming = None
        self._rest = _NOTHING
        self.idle_since = self._now()
        if not self._transport.is_closing():
            self._on_idle(self)
        if exchange is not None:
            exchange.end(result)

    # The transport's other calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        # It is full as soon as it holds anything: TLS counts from this size, plain TCP beyond it.
        is_tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=1 if is_tls else 0)
        self._socket = select.poll()
        self._socket.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.eof_received()  # this is how uvloop reports a TLS peer that just disconnected
        elif isinstance(exc, ssl.SSLError):
            self._fail(*tls_cause(exc))
        else:
            self._fail(Reason.RESET)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._on_end(self)


#: The greatest age of a connection, in seconds, so that a name's new addresses are used soon.
MAX_AGE = 60.0

#: How long a target may take to close its side of a TLS connection, in seconds.
_FAREWELL: Final = 1.0

#: The result of an exchange that was cancelled or stopped, or failed by a fault of our own.
_NOT_BEGUN: Final = unsent(Reason.STOPPED)


class NativePool:
    """A Pool on asyncio. Only a post that has to open a connection takes a task."""

    def __init__(self, url: str, tls: Tls = USUAL, egress: Egress = ANYWHERE) -> None:
        parts = urlsplit(url)
        self._is_tls = parts.scheme == "https"
        self._name = parts.hostname or ""
        self._host = Host(self._name, parts.port or (443 if self._is_tls else 80), egress)
        self._tls = tls
        #: The start of every request: its line and its `host`.
        self._start = b"POST %b HTTP/1.1\r\nhost: %b\r\n" % target_and_host(url)
        #: In the order in which they became idle.
        self._idle: deque[TargetConnection] = deque()
        #: All open connections.
        self._connections: set[TargetConnection] = set()
        #: The posts that have to open a connection.
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False
        #: The pool's loop and the loop's batching, set on first use.
        self._loop: asyncio.AbstractEventLoop
        self._batching: Batching | None = None

    def post(
        self,
        lines: bytes,
        body: bytes,
        timeout: float,
        read: Callable[[Answer | Failure], T],
    ) -> TargetExchange[T]:
        head = b"%b%bcontent-length: %d\r\n\r\n" % (self._start, lines, len(body))
        batching = self._batching or self._settle_in()
        now = self._loop.time()
        exchange = Posted(read, head, body, now + timeout)
        if len(self._connections) - len(self._idle) >= COMPANY:
            batching.put(self._begin_late, exchange)
        else:
            self._begin(exchange, now)
        return exchange

    def _begin_late(self, exchange: Posted[Any]) -> None:
        if exchange.is_over:  # cancelled meanwhile
            exchange.end(_NOT_BEGUN)
            return
        try:
            self._begin(exchange, self._loop.time())
        except Exception as error:  # noqa: BLE001 - the exchange raises it
            exchange.fail(error)
            exchange.end(_NOT_BEGUN)

    def _begin(self, exchange: Posted[Any], now: float) -> None:
        """Begin, on the connection that was used last if it can be. If this raises, nothing has
        begun."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_fresh(now - KEEP_ALIVE, now - MAX_AGE):
                connection.begin(exchange)
                return
            connection.close()
        task = self._loop.create_task(self._open_and_begin(exchange))
        exchange.stop = task.cancel
        self._tasks.add(task)
        task.add_done_callback(partial(self._opened, exchange))

    async def _open_and_begin(self, exchange: Posted[Any]) -> None:
        connection = await self.open(exchange.deadline)
        if isinstance(connection, Failure):
            exchange.end(connection)
        else:
            connection.begin(exchange)

    def _opened(self, exchange: Posted[Any], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            exchange.fail(error)
        if task.cancelled() or error is not None:
            exchange.end(_NOT_BEGUN)

    async def close(self) -> None:
        self._closed = True
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._idle.clear()
        if self._batching is not None:
            self._batching.flush()
        for connection in list(self._connections):
            connection.stop()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _settle_in(self) -> Batching:
        """Belong to the running loop from now on."""
        self._loop = asyncio.get_running_loop()
        self._batching = batching_of(self._loop)
        return self._batching

    # Connections that are kept.

    def _keep(self, connection: TargetConnection) -> None:
        if self._closed:
            return
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEEP_ALIVE, self._sweep)

    def _sweep(self) -> None:
        """Close connections that are too old by now, and sweep again when the next one will be."""
        self._sweeping = None
        now = self._loop.time()
        while self._idle and not self._idle[0].is_fresh(now - KEEP_ALIVE, now - MAX_AGE):
            self._idle.popleft().close()
        if self._idle:
            self._sweeping = self._loop.call_at(self._idle[0].idle_since + KEEP_ALIVE, self._sweep)

    # Connections that are opened.

    async def open(self, deadline: float) -> TargetConnection | Failure:
        """Open a connection that is ready for a request; `deadline` is by the loop's clock."""
        if self._closed:
            return _NOT_BEGUN
        if self._batching is None:
            self._settle_in()
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout_at(deadline):
                sock = await self._host.reach(connected, deadline)
                return await self._adopt(sock, deadline)
        except TimeoutError:
            return unsent(*(LATE_HANDSHAKE if sock else self._host.late))
        except OSError as error:
            return unsent(*connect_cause(error))

    async def _adopt(self, sock: socket.socket, deadline: float) -> TargetConnection | Failure:
        """Make a connection of a socket, with a handshake for TLS."""
        connection = TargetConnection(self._keep, self._connections.discard)
        handshake: dict[str, Any] = {}
        if self._is_tls:
            handshake["ssl"] = self._tls.trust
            handshake["server_hostname"] = self._tls.server_name or self._name
            # `deadline` ends the handshake first, but uvloop keeps the remains for this long.
            left = max(0.0, deadline - self._loop.time())
            handshake["ssl_handshake_timeout"] = left + _FAREWELL
            handshake["ssl_shutdown_timeout"] = _FAREWELL
        try:
            await self._loop.create_connection(lambda: connection, sock=sock, **handshake)
        except OSError as error:
            cause = tls_cause if self._is_tls else connect_cause
            return unsent(*cause(error))
        try:
            # Data that came before the request is not an answer to it: once the loop has read it,
            # the connection has ended. With TLS it may be a session ticket, which ends nothing; and
            # uvloop passes on data that came with the end of the handshake a turn later.
            if self._is_tls:
                await asyncio.sleep(0)
            while connection.is_idle and connection.has_unread:  # noqa: ASYNC110 - the loop reads
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            connection.stop()
            raise
        if connection.is_idle:  # otherwise it has ended already, and fails its exchange
            self._connections.add(connection)
        return connection
