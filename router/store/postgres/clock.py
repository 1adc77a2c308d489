"""The server's clock, which all nodes go by."""

from __future__ import annotations

import time

from router.store.postgres.connection import ServerConnection
from router.store.postgres.trouble import Failed

#: The server's clock, and whether it takes writes: one that does not is behind another.
_GREETING = """
SELECT extract(epoch FROM clock_timestamp())::double precision,
    current_setting('transaction_read_only') = 'on'
"""

#: How fast this machine's clock and the server's may drift apart, in seconds per second.
_DRIFT = 0.0002


class Clock:
    """Told by a question and its answer now and then; between them this process's own steady clock
    goes on. It is wrong by at most half of the round trip of the best question."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._error = float("inf")
        self._told_at = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.monotonic() + self._offset

    @property
    def error(self) -> float:
        """How wrong it may be, in seconds."""
        return self._error + (time.monotonic() - self._told_at) * _DRIFT

    async def ask(self, connection: ServerConnection) -> None:
        """Ask a server for the time; one that is read only is refused. Raises Failed or Lost."""
        asked_at = time.monotonic()
        ((server, read_only),) = await connection.fetch(_GREETING)
        if read_only:
            raise Failed("25006", "it is read only")
        self.tell(server, asked_at, time.monotonic())

    def tell(self, server: float, asked_at: float, answered_at: float) -> None:
        """What the server's clock showed between these two times on time.monotonic."""
        offset = server - (asked_at + answered_at) / 2
        error = (answered_at - asked_at) / 2
        stepped = abs(offset - self._offset) > error + self.error
        if error <= self.error or stepped:
            self._offset, self._error, self._told_at = offset, error, answered_at
