"""uvicorn, as this project runs it: on a bound socket, and with a stop that loses no reply."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, cast

import uvicorn

from router.front import Front, sweep
from router.lifespan import Application, Lifespan
from router.listening import BACKLOG, bar, listen, url_of, waiting
from router.metrics import Metrics
from router.running import run
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


class Server(uvicorn.Server):
    """One application on one bound socket: a Service (see running.py)."""

    def __init__(
        self,
        app: Application,
        listener: socket.socket,
        *,
        lifespan: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        drain_delay: float = 0.0,
        drain_timeout: float = 30.0,
        on_drain: Callable[[], None] | None = None,
        on_hurry: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """A stop calls `on_drain` at once and still takes callers for `drain_delay` seconds; then
        what is in flight has `drain_timeout` seconds. `on_hurry` is called when that is over, to
        have every request decided; who still has no reply after it is told 503."""
        self.tally = Tally()
        self.listener = listener
        self.url = url_of(listener)
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._on_drain = on_drain
        self._on_hurry = on_hurry
        self._limits = limits
        self._app = app
        self._up = asyncio.Event()
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()
        super().__init__(self._config(lifespan))

    def _config(self, lifespan: bool) -> uvicorn.Config:
        config = uvicorn.Config(
            self._call,
            interface="asgi3",
            # No class, but all that uvicorn does with it is to call it for each connection.
            http=partial(Front, limits=self._limits, tally=self.tally),  # type: ignore[arg-type]
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
        )
        config.load()
        if lifespan:
            config.lifespan_class = lambda _: Lifespan(self._app)
        return config

    # A Service.

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._sweep()
        try:
            await super().serve(sockets or [self.listener])
        finally:
            self._sweeping.cancel()
            self.listener.close()
            self._up.set()

    async def up(self) -> None:
        await self._up.wait()

    def stop(self) -> None:
        if self.should_exit:
            return
        self.should_exit = self.tally.draining = True
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
        metrics.connections = len(self.server_state.connections)
        metrics.connections_limit = self._limits.connections
        metrics.connections_cut.update(self.tally.refused)

    # uvicorn's steps.

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `run`'s: it has one handler for all."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    async def main_loop(self) -> None:
        while not self.should_exit:
            await self.on_tick(0)  # brings the `date` of replies up to date
            await _pause(1.0, self._stopped)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await _pause(self._drain_delay, self._hurried)
        await self._close()
        if not await self._finished(self._drain_timeout, self._hurried):
            await self._give_up()
        await self.lifespan.shutdown()

    # The stop, step by step.

    async def _close(self) -> None:
        """Close the socket, once everybody who was let in has been accepted."""
        loop = asyncio.get_running_loop()
        with self.listener.dup() as listener:
            bar(listener)
            await asyncio.sleep(HALF_WAY)
            for server in self.servers:
                server.close()
            for connection in waiting(listener):
                await loop.connect_accepted_socket(self._front, connection)
        self.tally.closed = True

    def _front(self) -> asyncio.Protocol:
        """One more connection's protocol, as uvicorn makes it."""
        make = cast("Callable[..., asyncio.Protocol]", self.config.http_protocol_class)
        return make(self.config, self.server_state, self.lifespan.state)

    async def _finished(self, seconds: float, unless: asyncio.Event | None = None) -> bool:
        """Wait until nothing is in flight; whether that came about in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while self.server_state.connections or self.server_state.tasks:
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
        for task in list(self.server_state.tasks):
            task.cancel()
        await self._finished(GRACE)

    async def _call(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self.should_exit:
                raise
            # The stop has told the caller; uvicorn would log a traceback.

    # The connections.

    def _connections(self) -> list[Front]:
        return cast("list[Front]", list(self.server_state.connections))

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        # Armed first: no fault on one connection may end the deadlines of all.
        self._sweeping = loop.call_later(self._limits.tick, self._sweep)
        sweep(self.server_state.connections, self._limits, loop.time())


async def _pause(seconds: float, unless: asyncio.Event) -> None:
    """Let that time pass, or less of it."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await unless.wait()
