"""The ASGI servers that run the router in tests: `serve`'s own, and others.

The others are imported when they are started, because most tests need none of them.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import uvicorn

from router.net.http.connection import Limits
from router.process.running import Service
from router.process.server import Server

OWN = "serve"
FOREIGN = ("uvicorn-h11", "uvicorn-httptools", "hypercorn", "granian")

#: Seconds for a stop.
_STOP = 1

#: Short, so that tests need not wait.
_LIMITS = Limits(receive=1.0)


S = TypeVar("S", bound=Service)


@asynccontextmanager
async def served(service: S) -> AsyncIterator[S]:
    serving = asyncio.create_task(service.serve())
    await service.up()
    try:
        yield service
    finally:
        service.stop()
        await serving


@asynccontextmanager
async def served_by(
    name: str, app: Any, listener: socket.socket, **options: Any
) -> AsyncIterator[Server | None]:
    """Run the application on this socket; yields the server if it is our own."""
    if name == OWN:
        lifespan = partial(app.router.lifespan_context, app)
        usual = {"limits": _LIMITS, "drain_timeout": _STOP}
        entry = getattr(app, "entry", app)
        own = Server(entry, listener, lifespan=lifespan, **{**usual, **options})
        async with served(own):
            yield own
        return
    address = listener.getsockname()[:2]
    work, stop = _FOREIGN[name.partition("-")[0]](app, listener, name)
    serving = asyncio.ensure_future(work)
    await _up(address, serving)
    try:
        yield None
    finally:
        stop()
        await serving


async def _up(address: Any, serving: asyncio.Future[None]) -> None:
    async with asyncio.timeout(20):
        while not serving.done():
            try:
                _, writer = await asyncio.open_connection(*address)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return
    await serving


Started = tuple[Awaitable[None], Callable[[], object]]


def _uvicorn(app: Any, listener: socket.socket, name: str) -> Started:
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=name.partition("-")[2],
            lifespan="on",
            log_config=None,
            proxy_headers=False,
            timeout_graceful_shutdown=_STOP,
        )
    )
    return server.serve([listener]), lambda: setattr(server, "should_exit", True)


def _hypercorn(app: Any, listener: socket.socket, _: str) -> Started:
    import hypercorn.asyncio
    import hypercorn.config

    stopped = asyncio.Event()
    config = hypercorn.config.Config()
    config.bind = [f"fd://{os.dup(listener.fileno())}"]
    config.graceful_timeout = _STOP
    listener.close()
    return hypercorn.asyncio.serve(app, config, shutdown_trigger=stopped.wait), stopped.set


def _granian(app: Any, listener: socket.socket, _: str) -> Started:
    """Run granian, which does not take a socket. Another process could take the port in between."""
    from granian.constants import Interfaces
    from granian.server.embed import Server as Granian

    host, port = listener.getsockname()[:2]
    listener.close()
    server = Granian(app, host, port, interface=Interfaces.ASGI, log_enabled=False)
    return server.serve(), server.stop


_FOREIGN: dict[str, Callable[[Any, socket.socket, str], Started]] = {
    "uvicorn": _uvicorn,
    "hypercorn": _hypercorn,
    "granian": _granian,
}
