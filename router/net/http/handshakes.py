"""TLS handshakes, counted and limited like connections."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable

from router.net.http.connection import Limits, Tally
from router.net.listening import BACKLOG, waiting

#: How long to wait after a failed accept, in seconds: no file descriptor is left then.
_PAUSE = 1.0


class Handshakes:
    """Accepts connections at a listening socket; they get a protocol after their handshake.

    asyncio's own server does not count connections during the handshake: silent peers could hold
    every file descriptor.
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
        #: For the next handshake; `Server.renew` replaces it.
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
        """Accept no more. Handshakes under way have a moment to finish."""
        self._is_closed = True
        self._loop.remove_reader(self._listener)
        for task in self._pending:
            self._loop.call_later(self._limits.linger, task.cancel)

    def take(self, connection: socket.socket) -> None:
        """Begin the handshake of a connection, or close it if there are too many already."""
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
        # Often nobody waits: at a shared socket another process was quicker.
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
