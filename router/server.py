"""The front on one bound socket, and a stop that loses no reply."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from email.utils import formatdate

from router.front import Front, sweep
from router.handshakes import Handshakes
from router.listening import BACKLOG, bar, listen, url_of, waiting
from router.metrics import Metrics
from router.running import run
from router.web.call import Application
from router.web.limits import Limits, Tally

__all__ = ["Server", "listen", "run"]

DEFAULT_LIMITS = Limits()

#: Seconds between the last new connection and the closing of the socket: for those that are half
#: way in, whose last packet is still in the network.
HALF_WAY = 0.1

#: Seconds that are granted once time is up: for requests to be decided, for replies to be read, for
#: what is cancelled to end.
GRACE = 2.0

#: Seconds between two looks at what is still in flight.
_GLANCE = 0.02


class Server:
    """A Service (see running.py)."""

    def __init__(
        self,
        app: Application,
        listener: socket.socket,
        *,
        limits: Limits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        drain_delay: float = 0.0,
        drain_timeout: float = 30.0,
        on_drain: Callable[[], None] | None = None,
        on_hurry: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """With `tls` the socket speaks it, and nothing else.

        A stop calls `on_drain` at once and still takes callers for `drain_delay` seconds; then
        what is in flight has `drain_timeout` seconds. `on_hurry` is called when that is over, to
        have every request decided; who still has no reply after it is told 503."""
        self.tally = Tally()
        self.listener = listener
        self.url = url_of(listener, tls=tls is not None)
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._on_drain = on_drain
        self._on_hurry = on_hurry
        self._limits = limits
        self._tls = tls
        self._app = app
        self._up = asyncio.Event()
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()

    # A Service.

    async def serve(self) -> None:
        self._sweep()
        try:
            async with self._app.lifespan():
                listening = await self._listen()
                self._up.set()
                await self._stopped.wait()
                await self._finish(listening)
        finally:
            self._sweeping.cancel()
            self.listener.close()
            self._up.set()

    async def _listen(self) -> asyncio.Server | Handshakes:
        loop, limits = asyncio.get_running_loop(), self._limits
        if self._tls is not None:
            return Handshakes(self.listener, self._tls, self._front, limits, self.tally)
        return await loop.create_server(self._front, sock=self.listener, backlog=BACKLOG)

    async def up(self) -> None:
        await self._up.wait()

    def stop(self) -> None:
        if self._stopped.is_set():
            return
        self.tally.draining = True
        self._stopped.set()
        if self._on_drain is not None:
            self._on_drain()
        for connection in self._connections():
            connection.drain()

    def hurry(self) -> None:
        self.stop()
        self._hurried.set()

    def stop_now(self) -> None:
        """Stop without the delay that a balancer would need."""
        self._drain_delay = 0.0
        self.stop()

    def measure(self, metrics: Metrics) -> None:
        """Bring up to date what the metrics say of the connections."""
        metrics.connections = len(self.tally.connections)
        metrics.connections_limit = self._limits.connections
        metrics.connections_cut.update(self.tally.refused)

    # The stop, step by step.

    async def _finish(self, listening: asyncio.Server | Handshakes) -> None:
        await _pause(self._drain_delay, self._hurried)
        await self._close(listening)
        if not await self._finished(self._drain_timeout, self._hurried):
            await self._give_up()

    async def _close(self, listening: asyncio.Server | Handshakes) -> None:
        """Close the socket, once everybody who was let in has been accepted."""
        loop = asyncio.get_running_loop()
        with self.listener.dup() as listener:
            bar(listener)
            await asyncio.sleep(HALF_WAY)
            listening.close()
            for connection in waiting(listener):
                if isinstance(listening, Handshakes):
                    listening.take(connection)
                else:
                    await loop.connect_accepted_socket(self._front, connection)
        self.tally.closed = True

    def _front(self) -> Front:
        return Front(self._app, self._limits, self.tally)

    async def _finished(self, seconds: float, unless: asyncio.Event | None = None) -> bool:
        """Wait until nothing is in flight; whether that came about in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.tally.connections or self.tally.tasks:
            if loop.time() > deadline or (unless is not None and unless.is_set()):
                return False
            await asyncio.sleep(_GLANCE)
        return True

    async def _give_up(self) -> None:
        """See that every caller is told how it stands, and end what goes on after that."""
        if self._on_hurry is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await self._on_hurry()
            if await self._finished(GRACE):
                return
        for connection in self._connections():
            connection.end()
        await self._finished(GRACE)
        for connection in self._connections():
            connection.abort()
        for task in list(self.tally.tasks):
            task.cancel()
        await self._finished(GRACE)

    # The connections.

    def _connections(self) -> list[Front]:
        return list(self.tally.connections)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        # Armed first: no fault on one connection may end the deadlines of all.
        self._sweeping = loop.call_later(self._limits.tick, self._sweep)
        self.tally.date = b"date: %b\r\n" % formatdate(usegmt=True).encode("ascii")
        sweep(self.tally.connections, self._limits, loop.time())


async def _pause(seconds: float, unless: asyncio.Event) -> None:
    """Let that time pass, or less of it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await unless.wait()
