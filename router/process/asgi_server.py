"""uvicorn as it comes, for the stand-ins: what business teams run."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from uvicorn import Config, Server

from router.net.listening import BACKLOG, url_of

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

#: Seconds between a reply and the next request.
_KEEP_ALIVE = 75


class AsgiServer:
    """One ASGI application on one bound socket: a Service (see running.py)."""

    def __init__(
        self, application: Asgi, listener: socket.socket, *, drain_timeout: int = 30
    ) -> None:
        """After a stop, what is in flight has `drain_timeout` seconds; then it is cancelled."""
        self.listener = listener
        self.url = url_of(listener)
        self._application = application
        self._server = _Uvicorn(
            Config(
                self._wait_for_late_attempt,
                interface="asgi3",
                http="httptools",
                ws="none",
                lifespan="off",
                workers=1,  # else a variable, WEB_CONCURRENCY, is read
                backlog=BACKLOG,
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=_KEEP_ALIVE,
                timeout_graceful_shutdown=drain_timeout,
            )
        )

    async def serve(self) -> None:
        try:
            await self._server.serve([self.listener])
        finally:
            self.listener.close()
            self._server.up.set()

    async def up(self) -> None:
        await self._server.up.wait()

    def stop(self) -> None:
        self._server.should_exit = True

    def hurry(self) -> None:
        self.stop()
        self._server.force_exit = True
        state = self._server.server_state
        for connection in list(state.connections):
            connection.transport.abort()
        for task in list(state.tasks):
            task.cancel()

    async def _wait_for_late_attempt(self, scope: Any, receive: Any, send: Any) -> None:
        # A request that a stop has cancelled would be told of as the application's fault.
        with contextlib.suppress(asyncio.CancelledError):
            await self._application(scope, receive, send)


class _Uvicorn(Server):
    """uvicorn's server, which says when it is up and leaves signals to running.py."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
