"""Time limits of connections: TLS handshakes, and one sweep over all open connections."""

from __future__ import annotations

import asyncio
import math
import select
import socket
import ssl
from collections.abc import Callable

from router.net.http.lifetime import TIMED_OUT, UNAVAILABLE, Lifetime, Limits, Tally
from router.net.listening import BACKLOG, waiting


def sweep(tally: Tally, limits: Limits, now: float) -> None:
    """End what has taken too long, or too long for a full house."""
    every = list(tally.connections)
    full = len(every) >= limits.connections
    for connection in every:
        _check(connection, tally, limits, now, full)


def _check(connection: Lifetime, tally: Tally, limits: Limits, now: float, full: bool) -> None:
    transport = connection.transport
    if transport.get_write_buffer_size() == 0:
        connection.caught_up = now
    elif now - connection.caught_up > limits.reply:
        tally.refused["unread"] += 1
        transport.abort()
    if transport.is_closing():
        return
    patience = _patience(connection, limits, tally.closed)
    if full and patience < math.inf:
        patience = limits.linger
    if now - connection.since <= patience:
        return
    if connection.is_leaving:
        transport.abort()
    elif connection.is_receiving or (connection.is_extra and full):
        connection.refuse(UNAVAILABLE if full else TIMED_OUT)
    elif not _has_unread(connection):
        transport.close()


def _patience(connection: Lifetime, limits: Limits, closed: bool) -> float:
    if connection.is_leaving:
        return limits.linger
    if connection.is_receiving:
        return limits.receive
    if connection.is_answering:
        return math.inf
    if closed:
        return limits.linger
    return limits.keep_alive if connection.has_served else limits.first_byte


def _has_unread(connection: Lifetime) -> bool:
    """Something has come that nobody has looked at yet, be it the connection's end."""
    poll = select.poll()
    poll.register(connection.transport.get_extra_info("socket"), select.POLLIN)
    return bool(poll.poll(0))


#: Seconds until the next try where nobody could be accepted: no file descriptor is left then.
_PAUSE = 1.0


class Handshakes:
    """Accepts connections at a listening socket; those whose handshake is over get a protocol.

    asyncio's own server would tell nobody of the ones in between: who says nothing could hold as
    many as there are file descriptors.
    """

    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.Protocol],
        limits: Limits,
        tally: Tally,
    ) -> None:
        self._listener = listener
        #: By which the next one is taken.
        self.context = context
        self._protocol = protocol
        self._limits = limits
        self._tally = tally
        self._loop = asyncio.get_running_loop()
        self._pending: set[asyncio.Task[None]] = set()
        self._is_closed = False
        listener.listen(BACKLOG)
        self._loop.add_reader(listener, self._accept)

    def close(self) -> None:
        """Accept nobody any more. Who is half way in has a moment to come through."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        for task in self._pending:
            self._loop.call_later(self._limits.linger, task.cancel)

    def take(self, connection: socket.socket) -> None:
        """Have this one go through its handshake, or close it where there are too many already."""
        present = len(self._tally.connections) + len(self._pending)
        if present >= self._limits.connections + self._limits.reserve:
            self._tally.refused["503"] += 1
            connection.close()
            return
        hurried = self._is_closed or present >= self._limits.connections
        patience = self._limits.linger if hurried else self._limits.receive
        task = self._loop.create_task(self._shake(connection, patience))
        for tasks in (self._pending, self._tally.tasks):
            tasks.add(task)
            task.add_done_callback(tasks.discard)

    def _accept(self) -> None:
        # That nobody waits is usual: at a socket that processes share another one was quicker.
        try:
            for connection in waiting(self._listener):
                self.take(connection)
        except OSError:
            self._loop.remove_reader(self._listener)
            self._loop.call_later(_PAUSE, self._resume)

    def _resume(self) -> None:
        if not self._is_closed:
            self._loop.add_reader(self._listener, self._accept)

    async def _shake(self, connection: socket.socket, patience: float) -> None:
        try:
            await self._loop.connect_accepted_socket(
                self._protocol,
                connection,
                ssl=self.context,
                ssl_handshake_timeout=patience,
                ssl_shutdown_timeout=self._limits.linger,
            )
        except OSError:  # a TimeoutError and an SSLError are, too
            self._tally.refused["tls"] += 1
