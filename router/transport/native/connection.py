"""The connections to one target: what each does, which one a request takes, how they go."""

from __future__ import annotations

import asyncio
import math
import re
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
from router.net.loops import COMPANY, Batching, Timer, batching_of
from router.net.tls import USUAL, Tls
from router.transport.addresses import LATE_HANDSHAKE, Host, connect_cause, tls_cause
from router.transport.engine import KEEP_ALIVE, Answer, Failure, T, TargetExchange
from router.transport.native.answer import Incoming, Unfit, in_one_piece

#: The most of a body that is handed to the transport at once. It may keep a copy of that much,
#: where the target does not read.
_PIECE: Final = 64 * 1024

_NOTHING: Final = memoryview(b"")


class Posted(TargetExchange[T]):
    """An exchange by a connection of this engine: its request, and until when it may take."""

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
      What comes all the same ends it: it can't be the answer to a request that is yet to be sent.
    - Busy, its exchange has yet to end. Whatever ends that does so through `_settle`, and once.
    - A request is written once, and nothing here sends anything again. Once an exchange has begun
      the target may have the request, and that is what its failure says, even of a connection that
      was found ended when it began: a moment later the same end would have met a request on its
      way. One that is known to have ended is not chosen in the first place.
    """

    def __init__(
        self,
        on_idle: Callable[[TargetConnection], None],
        on_end: Callable[[TargetConnection], None],
    ) -> None:
        """`on_idle` is told each time that an exchange leaves it fit for another one."""
        self._on_idle = on_idle
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        #: The loop's clock.
        self._now = self._loop.time
        #: When it was made, and when it became idle.
        self.since = self.idle_since = self._now()
        self._exchange: Posted[Any] | None = None
        #: Its answer, where that comes in several pieces.
        self._incoming: Incoming | None = None
        self._timer = Timer(self._loop, partial(self._fail, Reason.TIMEOUT), self._loop.time)
        #: What of the request has not been handed to the transport.
        self._rest = _NOTHING
        #: Whether the transport holds something that the system has not taken.
        self._is_full = False
        #: Whether something came while it was idle.
        self._spoke_unasked = False

    @property
    def is_busy(self) -> bool:
        return self._exchange is not None

    @property
    def is_idle(self) -> bool:
        """Whether it can take a request, as far as anybody has heard."""
        return self._exchange is None and not self._transport.is_closing()

    def is_fresh(self, idle_since: float, since: float) -> bool:
        """Whether it is idle, has become so and was made later than that, and has nothing unread: a
        target that sends two answers to one request must not have acknowledged the next event."""
        if self._exchange is not None or self._transport.is_closing():
            return False
        is_young = self.idle_since > idle_since and self.since > since
        return is_young and not self._socket.poll(0)

    @property
    def has_unread(self) -> bool:
        """Whether something has come, an end included, that the loop has not read yet."""
        return bool(self._socket.poll(0))

    @property
    def certificate(self) -> dict[str, Any] | None:
        """The target's, as `ssl` has it: None without TLS, empty where nobody has looked at it."""
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
            self._timer.set(exchange.deadline)
            if len(exchange.body) <= _PIECE:
                self._transport.write(exchange.head + exchange.body)
            else:
                self._transport.write(exchange.head)
                self._rest = memoryview(exchange.body)
                self._send_rest()
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            exchange.fail(error)
            self.stop()

    def close(self) -> None:
        """End an idle connection in order."""
        self._transport.close()

    def stop(self) -> None:
        """End it now, and the exchange with it."""
        self._fail(Reason.STOPPED)
        self._transport.abort()

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
            self._transport.abort()  # first, so that nobody takes it for idle
            self._finish(answer, False)
            self._fail(Reason.RESET)  # where that has not ended it

    # The ends of an exchange.

    def _finish(self, answer: Answer, is_clean: bool) -> None:
        """End the exchange with its answer; but one that accepts has to wait for the request.

        A target may refuse what it has not read. It can't have accepted it.
        """
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
        self._timer.due = math.inf
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
        # So that it is full as soon as it holds anything. TLS counts from, plain TCP beyond it.
        is_tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=1 if is_tls else 0)
        self._socket = select.poll()
        self._socket.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is None:
            self.eof_received()  # uvloop's word for a TLS peer that ended without taking leave
        elif isinstance(exc, ssl.SSLError):
            self._fail(*tls_cause(exc))
        else:
            self._fail(Reason.RESET)
        self._timer.end()
        self._on_end(self)


#: How old a connection may get, in seconds; so that a name's new addresses are used soon.
MAX_AGE = 60.0

#: How long a target may take to answer the end of an idle TLS connection, in seconds.
_FAREWELL: Final = 1.0

#: Nobody hears of it: it was broken off, or failed by a fault of our own.
_NOT_BEGUN: Final = Failure(Reason.STOPPED, delivered=False)


class NativePool:
    """The connections to one target, on asyncio; see `Pool` for what is promised.

    Only a post that has to open a connection takes a task.
    """

    def __init__(self, url: str, tls: Tls = USUAL, egress: Egress = ANYWHERE) -> None:
        parts = urlsplit(url)
        self._is_tls = parts.scheme == "https"
        self._name = parts.hostname or ""
        self._host = Host(self._name, parts.port or (443 if self._is_tls else 80), egress)
        self._tls = tls
        #: What every request begins with: its line and its `host`.
        self._start = b"POST %b HTTP/1.1\r\nhost: %b\r\n" % target_and_host(url)
        #: In the order in which they became idle.
        self._idle: deque[TargetConnection] = deque()
        #: All that are open.
        self._connections: set[TargetConnection] = set()
        #: The posts that had to open a connection, until they have ended.
        self._tasks: set[asyncio.Task[None]] = set()
        #: One for each post that has no connection yet; brought forward, it breaks that off.
        self._opening: set[asyncio.Timeout] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = False
        #: The loop that it belongs to, and that one's batching; there once it is used.
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
        except Exception as error:  # noqa: BLE001 - whoever waits for it is told
            exchange.fail(error)
            exchange.end(_NOT_BEGUN)

    def _begin(self, exchange: Posted[Any], now: float) -> None:
        """Raises where nothing has begun. The connection that was used last is taken again, if it
        can be."""
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
        for deadline in self._opening:
            if not deadline.expired():
                deadline.reschedule(0)
        for connection in list(self._connections):
            connection.stop()
        if self._tasks:
            await asyncio.wait(list(self._tasks))

    def _settle_in(self) -> Batching:
        """On the running loop, which it belongs to from now on."""
        self._loop = asyncio.get_running_loop()
        self._batching = batching_of(self._loop)
        return self._batching

    def _unsent(self, reason: Reason, detail: str = "") -> Failure:
        if self._closed:
            return Failure(Reason.STOPPED, delivered=False)
        return Failure(reason, delivered=False, detail=detail)

    # Connections that are kept.

    def _keep(self, connection: TargetConnection) -> None:
        if self._closed:
            return
        self._idle.append(connection)
        if self._sweeping is None:
            self._sweeping = self._loop.call_later(KEEP_ALIVE, self._sweep)

    def _sweep(self) -> None:
        """Close what has been idle for too long, or can't be used; the next sweep is when the next
        one will have been."""
        self._sweeping = None
        now = self._loop.time()
        while self._idle and not self._idle[0].is_fresh(now - KEEP_ALIVE, now - MAX_AGE):
            self._idle.popleft().close()
        if self._idle:
            self._sweeping = self._loop.call_at(self._idle[0].idle_since + KEEP_ALIVE, self._sweep)

    # Connections that come about.

    async def open(self, deadline: float) -> TargetConnection | Failure:
        """A new connection, ready for a request until `deadline`, by the loop's clock."""
        if self._closed:
            return self._unsent(Reason.STOPPED)
        if self._batching is None:
            self._settle_in()
        limit = asyncio.timeout_at(deadline)
        self._opening.add(limit)
        sock: socket.socket | None = None
        try:
            async with limit:
                sock = await self._host.connect(deadline)
                return await self._adopt(sock, deadline)
        except TimeoutError:
            return self._unsent(*(LATE_HANDSHAKE if sock else self._host.late))
        except OSError as error:
            return self._unsent(*connect_cause(error))
        finally:
            self._opening.discard(limit)

    async def _adopt(self, sock: socket.socket, deadline: float) -> TargetConnection | Failure:
        """Make a connection of a socket, by a handshake where the target speaks TLS."""
        connection = TargetConnection(self._keep, self._connections.discard)
        try:
            handshake = self._handshake(deadline - self._loop.time())
            await self._loop.create_connection(lambda: connection, sock=sock, **handshake)
        except OSError as error:
            cause = tls_cause if self._is_tls else connect_cause
            return self._unsent(*cause(error))
        try:
            # What came before the request is no answer to it: once the loop has read it the
            # connection has ended. By TLS it may be a session's ticket, which ends nothing; and
            # uvloop hands over what came with the handshake's end a turn later.
            if self._is_tls:
                await asyncio.sleep(0)
            while connection.is_idle and connection.has_unread:  # noqa: ASYNC110 - the loop reads
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            connection.stop()
            raise
        if self._closed:
            connection.stop()
            return self._unsent(Reason.STOPPED)
        if connection.is_idle:  # else it has ended already, which its exchange will tell
            self._connections.add(connection)
        return connection

    def _handshake(self, timeout: float) -> dict[str, Any]:
        if not self._is_tls:
            return {}
        return {
            "ssl": self._tls.trust,
            "server_hostname": self._tls.server_name or self._name,
            # Never the first to end it; but uvloop keeps what was broken off for that long.
            "ssl_handshake_timeout": max(0.0, timeout) + _FAREWELL,
            "ssl_shutdown_timeout": _FAREWELL,
        }


#: What is left out of `host`: the port that its scheme implies.
_IMPLIED: Final = {"http": ":80", "https": ":443"}


def target_and_host(url: str) -> tuple[bytes, bytes]:
    """What a request line and a `host` say of an absolute URL, as it was written."""
    scheme, _, rest = url.partition("://")
    host = re.split("[/?]", rest, maxsplit=1)[0]
    target = rest.removeprefix(host)
    if not target.startswith("/"):
        target = "/" + target
    host = host.lower().removesuffix(_IMPLIED[scheme.lower()])
    return target.encode("ascii"), host.encode("ascii")
