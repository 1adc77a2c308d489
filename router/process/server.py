"""Servers: uvicorn with our connections, their ports, and messages to the service manager."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from email.utils import formatdate
from functools import partial
from typing import Any, cast

import uvicorn

from router.config.holders import Holders
from router.config.settings import Settings, archive_folder
from router.contract.replies import refusal
from router.model.secret import Secret
from router.net.egress import is_loopback
from router.net.http.connection import Connection, Limits, Refusal, Tally
from router.net.http.handshakes import Handshakes
from router.net.listening import BACKLOG, listen, refuse_new_connections, url_of, waiting
from router.net.loops import happens
from router.ops.api.view import ApiParts
from router.ops.guard import OpsTokens, refuse
from router.ops.insight import Insight
from router.ops.lookback import read_back
from router.ops.port import api_parts, limits_of, ops_app
from router.process.running import Service, Watch
from router.telemetry.log import Log
from router.telemetry.log.foreign import place_of
from router.telemetry.metrics import Metrics

Asgi = Callable[[Any, Any, Any], Awaitable[None]]

#: The time from the last new connection to closing the socket, in seconds: the last packet of a
#: connection that is being made may still be in the network.
HALF_WAY = 0.1

#: The longest time for each step once time is up, in seconds: requests are decided, replies are
#: read, cancelled tasks end.
GRACE = 2.0

#: The time between two looks at the work in flight, in seconds.
_LOOK_EVERY = 0.02


class Server(uvicorn.Server, Service):
    """A Service: uvicorn, with connections, limits and a stop of our own."""

    def __init__(
        self,
        app: Asgi,
        listener: socket.socket,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[object]] = nullcontext,
        limits: Limits | None = None,
        refusal: Refusal = refusal,
        tls: ssl.SSLContext | None = None,
        inherited: bool = False,
        drain_delay: float = 0.0,
        drain_timeout: float = 15.0,
        on_drain: Callable[[], None] = lambda: None,
        on_hurry: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """It serves within `lifespan`. `refusal` makes the replies in the application's place. An
        `inherited` socket outlives this process, and others may accept there.

        A stop calls `on_drain` at once and still accepts callers for `drain_delay` seconds; then
        requests in flight have `drain_timeout` seconds. After that `on_hurry` is called, to have
        every request decided; a caller still without a reply gets 503."""
        limits = limits or Limits()
        config = uvicorn.Config(
            app,
            interface="asgi3",
            http=cast("Any", partial(Connection, limits, refusal)),
            ws="none",
            lifespan="off",  # `lifespan` raises its errors, which uvicorn would log
            workers=1,  # otherwise a variable, WEB_CONCURRENCY, is read
            backlog=BACKLOG,
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        super().__init__(config)
        self.tally = Tally()
        self.server_state = cast("Any", self.tally)
        self.listener = listener
        self.url = url_of(listener, tls=tls is not None)
        self._lifespan = lifespan
        self._limits = limits
        self._tls = tls
        self._inherited = inherited
        self._drain_delay = drain_delay
        self._drain_timeout = drain_timeout
        self._on_drain = on_drain
        self._on_hurry = on_hurry
        self._handshakes: Handshakes | None = None
        self._up = asyncio.Event()
        self._stopped = asyncio.Event()
        self._hurried = asyncio.Event()

    # A Service.

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._sweep()
        try:
            async with self._lifespan():
                await super().serve(sockets or [self.listener])
        finally:
            self._sweeping.cancel()
            self.listener.close()
            self._up.set()

    async def up(self) -> None:
        await self._up.wait()

    def stop(self) -> None:
        if self._stopped.is_set():
            return
        self.tally.draining = True
        self._stopped.set()
        self._on_drain()

    def hurry(self) -> None:
        self.stop()
        self._hurried.set()

    def renew(self, tls: ssl.SSLContext) -> None:
        """Use this for TLS from the next handshake on."""
        self._tls = tls
        if self._handshakes is not None:
            self._handshakes.context = tls

    def measure(self, metrics: Metrics) -> None:
        """Update the metrics of the connections."""
        metrics.connections = len(self.tally.connections)
        metrics.connections_limit = self._limits.connections
        metrics.connections_cut.update(self.tally.refused)

    # uvicorn's steps.

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to running.py."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([] if self._tls else sockets)
        if self._tls is not None:
            self._handshakes = Handshakes(
                self.listener, self._tls, self._connection, self._limits, self.tally
            )
        self._up.set()

    async def main_loop(self) -> None:
        await self._stopped.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await happens(self._hurried, self._drain_delay)
        await self._close()
        if not await self._finished(self._drain_timeout, self._hurried):
            await self._give_up()

    def _connection(self) -> asyncio.Protocol:
        """Make a connection as uvicorn does."""
        config = self.config
        return config.http_protocol_class(config=config, server_state=self.tally, app_state={})  # type: ignore[call-arg]

    # The stop, step by step.

    async def _close(self) -> None:
        """Close the socket once every connection that was made is accepted. Those that wait at an
        inherited one are left to the next process that accepts there."""
        with self.listener.dup() as listener:
            if not self._inherited:
                refuse_new_connections(listener)
                await asyncio.sleep(HALF_WAY)
            for listening in (*self.servers, self._handshakes):
                if listening is not None:
                    listening.close()
            # A socket that the loop has accepted becomes a connection in one of its next turns.
            await asyncio.sleep(_LOOK_EVERY)
            if not self._inherited:
                await self._let_in(waiting(listener))
        self.tally.closed = True

    async def _let_in(self, connections: Iterator[socket.socket]) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):  # no file descriptor is left for them
            for connection in connections:
                if self._handshakes is not None:
                    self._handshakes.take(connection)
                else:
                    await loop.connect_accepted_socket(self._connection, connection)

    async def _finished(self, seconds: float, unless: asyncio.Event | None = None) -> bool:
        """Wait until nothing is in flight; False if that takes longer than `seconds`."""
        deadline = time.monotonic() + seconds
        # A task that was cancelled before its first step stays in the set for ever.
        while self.tally.connections or any(not task.done() for task in self.tally.tasks):
            if time.monotonic() > deadline or (unless is not None and unless.is_set()):
                return False
            await asyncio.sleep(_LOOK_EVERY)
        return True

    async def _give_up(self) -> None:
        """Answer every caller, then cut the rest off."""
        if self._on_hurry is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(GRACE):
                    await self._on_hurry()
            if await self._finished(GRACE):
                return
        for connection in list(self.tally.connections):
            connection.end()
        await self._finished(GRACE)
        for connection in list(self.tally.connections):
            connection.transport.abort()
        for task in list(self.tally.tasks):
            task.cancel()
        await self._finished(GRACE)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        # Set first: a fault on one connection must not end the deadlines of all.
        self._sweeping = loop.call_later(self._limits.tick, self._sweep)
        self.tally.date = b"date: %b\r\n" % formatdate(usegmt=True).encode("ascii")
        now, every = loop.time(), list(self.tally.connections)
        is_full = len(every) >= self._limits.connections
        for connection in every:
            connection.check(now, is_full=is_full)


#: The longest wait of a stop for requests at the ops port, in seconds.
_DRAIN = 2

_OPEN = (
    "--ops-host: whoever reaches it can read /metrics and /status, and so the names of targets, "
    "and the console is closed: see --ops-tokens"
)


@contextlib.asynccontextmanager
async def _lifespan(settings: Settings, parts: ApiParts, log: Log) -> AsyncIterator[None]:
    archive = archive_folder(settings.archive, settings.store)
    reading = asyncio.create_task(read_back(archive, parts.insight, parts.search))
    reading.add_done_callback(partial(_report, log))
    try:
        async with contextlib.aclosing(parts.stored):
            yield
    finally:
        reading.cancel()


def _report(log: Log, reading: asyncio.Task[None]) -> None:
    """Log a fault: nobody waits for the task."""
    if not reading.cancelled() and (error := reading.exception()) is not None:
        log.error("fault", at=place_of(error))


def ops_services(
    settings: Settings,
    search: Sequence[str],
    insight: Insight,
    log: Log,
    key: Secret,
) -> tuple[list[Service], str]:
    """Return the ops port's services and its URL, `""` if the port is off.

    `search` is the command of a search, `key` the token of commands on this machine. Raises
    RouterError."""
    if settings.ops_port == 0:
        return [], ""
    tokens = OpsTokens(settings.ops_tokens, os.environ, settings.secrets_dir, key)
    listener = listen(settings.ops_host, settings.ops_port, "--ops-port", send_buffer=0)
    local = is_loopback(settings.ops_host)
    for problem in (*([] if tokens or local else [_OPEN]), *tokens.holders.warnings):
        log.warning("config", problem=problem)
    parts = api_parts(settings, insight, tokens, search, log)
    server = Server(
        ops_app(parts, tokens, log, local=local),
        listener,
        lifespan=partial(_lifespan, settings, parts, log),
        limits=limits_of(Limits()),
        refusal=refuse,
        drain_timeout=_DRAIN,
        on_drain=insight.streams.end,
    )

    def take(holders: Holders) -> None:
        """Replace the tokens. Readers of streams with a valid token connect again."""
        tokens.take(holders)
        insight.streams.end()

    services: list[Service] = [server]
    if tokens:
        services.append(Watch("--ops-tokens", tokens.holders, tokens.read, take, log))
    return services, server.url


#: The longest wait of one message for a manager that does not read, in seconds.
_WAIT = 1.0


class Notifier(Service):
    """A Service that reports to the service manager; it is started last, and so stopped first.

    Without a manager it does nothing, and an unreachable manager delays nothing.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Remove the variables: no child process may report for the service."""
        super().__init__()
        address = environ.pop("NOTIFY_SOCKET", "")
        #: The socket's file or abstract name; `""` for none.
        name = "\0" + address[1:] if address.startswith("@") else address
        self._address = name if name.startswith(("\0", "/")) else ""
        silence, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        is_ours = pid in ("", str(os.getpid())) and silence.isdecimal() and int(silence) > 0
        #: The silence after which the manager restarts the service, in seconds; None: never.
        self.watchdog = int(silence) / 1e6 if is_ours else None
        self._status = ""

    async def serve(self) -> None:
        """Feed the manager's watchdog from the loop, so that a blocked loop is noticed. This goes
        on after a stop, to the loop's end."""
        if self.watchdog is not None:
            self._feed(self.watchdog / 2)
        await self._stopped.wait()
        self._send("STOPPING=1", "STATUS=Stopping: what is in flight is finished first")

    def ready(self, url: str) -> None:
        """Report that the service serves there."""
        self._status = f"Serving {url}"
        self._send("READY=1", f"STATUS={self._status}")

    def reloading(self) -> None:
        """Report that a reload was requested; `reloaded` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reading routes.yaml")

    def reloaded(self, successful: bool) -> None:
        """Report that routes.yaml was taken into force, or refused."""
        refused = "" if successful else "; routes.yaml was refused, the log says why"
        if not self._stopped.is_set():
            self._send("READY=1", f"STATUS={self._status}{refused}")

    def _feed(self, every: float) -> None:
        asyncio.get_running_loop().call_later(every, self._feed, every)
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._address:
            manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            with manager, contextlib.suppress(OSError):
                manager.settimeout(_WAIT)
                manager.sendto("\n".join(lines).encode(), self._address)
