"""uvicorn, as this project runs it: bound sockets first, one handler of signals for all servers."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import resource
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import uvicorn
import uvloop

from router.errors import StartFailed
from router.front import Front, sweep
from router.web.limits import Limits, Tally

Application = Callable[..., Awaitable[None]]

#: Connections that wait to be accepted; the kernel caps it at net.core.somaxconn.
BACKLOG = 2048

#: What the kernel keeps of replies that a peer doesn't read, in bytes per connection; a reply has a
#: few hundred, and by itself it would keep megabytes.
SEND_BUFFER = 32 * 1024

#: Open files that a process may have, where the system lets it have as many.
FILES = 65536

DEFAULT_LIMITS = Limits()


def listen(host: str, port: int) -> socket.socket:
    """A bound TCP socket, so that a taken port is known before anything else starts.

    Port 0 takes any free one. Raises StartFailed with one clear line.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError:
        raise StartFailed(f"can't listen on {host}: no such host or address") from None
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        listener.bind(address)
        # Listening here and not only in uvicorn: two processes may both bind, but not both listen.
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise StartFailed(f"can't listen on {host}:{port}: {_why(error)}") from None
    return listener


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is taken; stop what uses it, or name another with --port"
        case errno.EACCES:
            return "the port needs more rights; take one above 1023"
        case errno.EADDRNOTAVAIL:
            return "the address is not one of this machine's"
        case _:
            return error.strerror or "the system refused"


class Server(uvicorn.Server):
    """One application on one bound socket. Several can share a loop: see `run`."""

    def __init__(
        self,
        app: Application,
        listener: socket.socket,
        *,
        lifespan: bool = False,
        drain_timeout: float = 30.0,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.tally = Tally()
        super().__init__(
            uvicorn.Config(
                app,
                # No class, but all that uvicorn does with it is to call it for each connection.
                http=partial(Front, limits=limits, tally=self.tally),  # type: ignore[arg-type]
                ws="none",
                lifespan="on" if lifespan else "off",
                log_config=None,
                access_log=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_graceful_shutdown=max(1, round(drain_timeout)),
            )
        )
        self.listener = listener
        self._limits = limits
        self._up = asyncio.Event()

    @property
    def url(self) -> str:
        host, port = self.listener.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    async def up(self) -> None:
        """Return once the server accepts connections."""
        await self._up.wait()

    def stop(self) -> None:
        """Take no more connections, finish what is in flight; a second call hurries."""
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are `run`'s: it has one handler for all servers."""
        yield

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._sweep()
        try:
            await super().serve(sockets or [self.listener])
        finally:
            self._sweeping.cancel()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            await self.lifespan.shutdown()  # which uvicorn leaves out, in a hurry

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        # Armed first: no fault on one connection may end the deadlines of all.
        self._sweeping = loop.call_later(self._limits.tick, self._sweep)
        sweep(self.server_state.connections, self._limits, loop.time())


def run(*servers: Server, then: Callable[[], Awaitable[Any]] | None = None) -> None:
    """Serve until SIGINT or SIGTERM, which drains; a second signal hurries.

    `then` runs once all the servers are up; when it raises, the servers stop and it is raised on.
    """
    _allow_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve_all(servers, then))


def _allow_files() -> None:
    """Go to the limit of open files that the system allows; many start a service with 1,024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if allowed > soft != resource.RLIM_INFINITY:
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


async def _serve_all(
    servers: tuple[Server, ...], then: Callable[[], Awaitable[Any]] | None
) -> None:
    def stop() -> None:
        for server in servers:
            server.stop()

    async def follow() -> None:
        for server in servers:
            await server.up()
        if then is not None:
            await then()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)

    def stop_on_failure(following: asyncio.Task[None]) -> None:
        if not following.cancelled() and following.exception() is not None:
            stop()

    following = asyncio.create_task(follow())
    following.add_done_callback(stop_on_failure)
    await asyncio.gather(*(server.serve() for server in servers))
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
