"""The connections of a process, calls that share a statement, and the server's clock."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

from router.store.postgres.connection import MOVED, Away, Failed, Greet, Lost, Row, ServerConnection
from router.store.protocol import StoreFailed, result_of
from router.store.url import Database

#: The server's clock, and whether it accepts writes: a standby does not.
_GREETING = """
SELECT extract(epoch FROM clock_timestamp())::double precision,
    current_setting('transaction_read_only') = 'on'
"""

#: The largest drift between this machine's clock and the server's, in seconds per second.
_DRIFT = 0.0002


class Clock:
    """The server's time: queried now and then, and kept by this process's monotonic clock.

    Its error is at most half of the round trip of the best query, and a drift.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()
        self._error = float("inf")
        self._set_at = 0.0

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.monotonic() + self._offset

    @property
    def error(self) -> float:
        """The largest possible error, in seconds."""
        return self._error + (time.monotonic() - self._set_at) * _DRIFT

    async def ask(self, connection: ServerConnection) -> None:
        """Query a server's time; refuse one that is read only. Raises Failed or Lost."""
        asked_at = time.monotonic()
        ((server, read_only),) = await connection.fetch(_GREETING)
        if read_only:
            raise Failed(MOVED, "it is read only")
        self.set(server, asked_at, time.monotonic())

    def set(self, server: float, asked_at: float, answered_at: float) -> None:
        """Use the server's time, which it read between these two times on time.monotonic. A slow
        answer counts only if it proves that the server's clock was changed."""
        offset = server - (asked_at + answered_at) / 2
        error = (answered_at - asked_at) / 2
        if error <= self.error or abs(offset - self._offset) > error + self.error:
            self._offset, self._error, self._set_at = offset, error, answered_at


#: The most calls that wait. A further one fails at once: a server that hangs must not fill memory.
MAX_WAITING = 4096

#: A batch that has so many bytes is sent without further calls. libpq moves all unsent bytes each
#: time that it has sent a part: 64 MiB block the loop for seconds.
ENOUGH = 1024 * 1024

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class Batch(Generic[Ask, Answer]):
    """Calls of one kind, which share a statement. The first is sent at once; calls that come while
    it is under way are sent together."""

    def __init__(
        self,
        send: Callable[[list[Ask], float], Awaitable[Sequence[Answer | StoreFailed]]],
        most: int,
        size: Callable[[Ask], int] = lambda _: 0,
    ) -> None:
        """`send` takes up to `most` calls and a timeout, and returns as many answers, in order.
        `size` returns the bytes of a call, if they may be many."""
        self._send = send
        self._most = most
        self._size = size
        #: Each with its deadline on time.monotonic.
        self._waiting: deque[tuple[Ask, float, asyncio.Future[Answer]]] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def ask(self, ask: Ask, timeout: float) -> Answer:
        """Raises StoreFailed, at the latest when the timeout has passed. A call that was not sent
        by then is never sent."""
        if len(self._waiting) >= MAX_WAITING:
            raise StoreFailed("slow")
        done: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((ask, time.monotonic() + timeout, done))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all())
        return await result_of(done, timeout)

    async def close(self, timeout: float) -> None:
        """Wait for pending calls."""
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=timeout)

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send_some()
        finally:
            self._sending = None

    async def _send_some(self) -> None:
        asks: list[Ask] = []
        calls: list[asyncio.Future[Answer]] = []
        until = size = 0.0
        while self._waiting and len(asks) < self._most and size < ENOUGH:
            ask, deadline, done = self._waiting.popleft()
            if not done.done():
                asks.append(ask)
                calls.append(done)
                # Callers with an earlier deadline give up by themselves.
                until = max(until, deadline)
                size += self._size(ask)
        answers: Sequence[Answer | Exception] = ()
        try:
            if asks:
                answers = await self._send(asks, until - time.monotonic())
        except Exception as error:  # noqa: BLE001 - every caller gets the error
            answers = [error] * len(asks)
        for done, answer in zip(calls, answers, strict=True):
            if done.done():
                continue
            if isinstance(answer, Exception):
                done.set_exception(answer)
            else:
                done.set_result(answer)


#: The most connections of a process. One carries the look-ups of thousands of events a second.
SIZE = 4

#: The timeout for connecting, the greeting included, in seconds.
CONNECT_TIMEOUT = 3.0

#: The pauses between attempts to connect, in seconds: the first, and the longest.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 2.0


class ServerPool:
    """The connections of a process to a server, opened when they are needed.

    While there is none and the last attempt to connect has failed, every call fails at once, with
    the word for the error. Attempts go on in the background, at growing intervals.
    """

    def __init__(
        self,
        database: Database,
        greet: Greet,
        size: int = SIZE,
    ) -> None:
        self._database = database
        #: Called with every new connection before its use. If it raises, the connection is closed.
        self._greet = greet
        self._size = size
        #: Open connections, and the idle ones among them, the last used at the end.
        self._connections: set[ServerConnection] = set()
        self._idle: list[ServerConnection] = []
        #: Wakes the calls that wait, after every change of these.
        self._changed = asyncio.Event()
        #: Opens one connection after the other.
        self._opening: asyncio.Task[None] | None = None
        #: The error of the last attempt to connect; None after a success.
        self._trouble: Away | None = None
        self._closed = False

    async def open(self) -> None:
        """Connect, with a single attempt. Raises Failed or Lost."""
        self._release(await self._connect())

    async def call(
        self, function: str, values: Sequence[Any], timeout: float, *, twice: bool = True
    ) -> list[Row]:
        """Call a function of the schema, and return its rows. Raises StoreFailed."""
        marks = ", ".join(f"${number}" for number in range(1, len(values) + 1))
        sql = f"SELECT * FROM {self._database.schema}.{function}({marks})"  # noqa: S608 - ours
        return await self.fetch(sql, values, timeout, twice=twice)

    async def fetch(
        self, sql: str, values: Sequence[Any], timeout: float, *, twice: bool = True
    ) -> list[Row]:
        """Return the rows of a statement. Raises StoreFailed.

        If it may be sent twice, it is sent again if its connection was lost or its server became
        read-only. After Failed and Away, nothing has changed; after any other error, that is
        unknown.
        """
        fetch = self._fetch_twice if twice else self._fetch
        try:
            async with asyncio.timeout(timeout):
                return await fetch(sql, values)
        except TimeoutError:
            raise StoreFailed("slow") from None

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[ServerConnection]:
        """Provide a connection for several statements. Raises StoreFailed."""
        connection = await self._acquire()
        try:
            yield connection
        except Failed as error:
            if error.moved:
                connection.end()
            raise
        finally:
            self._release(connection)

    def keep_only(self, connection: ServerConnection) -> None:
        """End all others at once: their server was replaced."""
        for other in self._connections - {connection}:
            other.end()

    async def close(self) -> None:
        """Close at once; pending calls fail."""
        self._closed = True
        self._trouble = Away(StoreFailed("closed"))
        if self._opening is not None:
            self._opening.cancel()
        for connection in self._connections:
            connection.end()
        self._connections.clear()
        self._idle.clear()
        self._changed.set()

    async def _fetch_twice(self, sql: str, values: Sequence[Any]) -> list[Row]:
        try:
            return await self._fetch(sql, values)
        except Failed as error:
            if not error.moved:
                raise
            return await self._fetch(sql, values)
        except Lost:
            with suppress(StoreFailed):
                return await self._fetch(sql, values)
            raise

    async def _fetch(self, sql: str, values: Sequence[Any]) -> list[Row]:
        async with self.connection() as connection:
            return await connection.fetch(sql, values)

    async def _acquire(self) -> ServerConnection:
        while True:
            while self._idle:
                if (connection := self._idle.pop()).is_usable:
                    return connection
                self._connections.discard(connection)
            if self._trouble and not self._connections:
                self._open_another()  # a bug may have ended the attempts to connect
                raise Away(self._trouble)
            self._open_another()
            self._changed.clear()
            await self._changed.wait()

    def _release(self, connection: ServerConnection) -> None:
        if connection.is_usable:
            self._idle.append(connection)
        else:
            self._connections.discard(connection)
            if not self._connections:
                self._open_another()
        self._changed.set()

    def _open_another(self) -> None:
        """Open a further connection, if there may be one."""
        if not self._closed and self._opening is None and len(self._connections) < self._size:
            self._opening = asyncio.create_task(self._open())

    async def _open(self) -> None:
        """Try until there is a connection."""
        pause = FIRST_PAUSE
        try:
            while not await self._is_opened() and not self._connections:
                # At random, so that not all nodes connect at the same moment.
                await asyncio.sleep(pause * random.uniform(0.5, 1.0))
                pause = min(pause * 2, LONGEST_PAUSE)
        finally:
            self._opening = None

    async def _is_opened(self) -> bool:
        try:
            connection = await self._connect()
        except StoreFailed as error:
            self._trouble = Away(error)  # the error itself would keep its socket open
            if not self._connections:
                self._changed.set()
            return False
        self._trouble = None
        self._release(connection)
        return True

    async def _connect(self) -> ServerConnection:
        connection = await ServerConnection.open(self._database, CONNECT_TIMEOUT, self._greet)
        self._connections.add(connection)
        return connection
