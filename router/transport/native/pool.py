"""The connections to one target: which of them a request takes, how they come about and go."""

from __future__ import annotations

import asyncio
import re
import socket
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from router.model.event import Reason
from router.net.egress import ANYWHERE, Egress
from router.net.loops import COMPANY, Batching, batching_of
from router.net.tls import USUAL, Tls
from router.transport.addresses import LATE_HANDSHAKE, Host, connect_cause, tls_cause
from router.transport.engine import KEEP_ALIVE, Answer, Failure, T, TargetExchange
from router.transport.native.connection import Posted, TargetConnection

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
