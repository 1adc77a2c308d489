"""The engine on httpx's core: its exceptions end in this module.

The pools of httpx and httpcore are not used. Cancelled at a bad moment they lose a slot for ever,
and their cost grows with the square of the requests in flight. Here httpcore speaks HTTP over
connections that this pool opens, keeps, and closes if an exchange does not end well.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import deque
from collections.abc import Callable

import httpcore

from router.model.event import Reason
from router.net.egress import ANYWHERE, Egress, SocketAddress
from router.net.tls import USUAL, Tls
from router.transport.addresses import (
    LATE_HANDSHAKE,
    Host,
    chain,
    connect_cause,
    tls_cause,
)
from router.transport.engine import (
    KEEP_ALIVE,
    MAX_ANSWER,
    MAX_PIECES,
    Answer,
    Failure,
    T,
    TargetExchange,
    target_and_host,
    unsent,
)

# At DEBUG it would log every step of every attempt, and the headers of every answer.
logging.getLogger("httpcore").setLevel(logging.WARNING)

_NETWORK = httpcore.AnyIOBackend()

#: For how many turns of the loop to look for data that came before the request: to begin, read,
#: decrypt and report it, and some more. Not a time: a blocked loop would let it pass unread.
_GLANCE = 8

#: The messages of httpcore and h11 when a connection ends; they have no type for it.
_ENDED = ("Server disconnected", "peer closed connection", "peer unexpectedly closed")


class _Connection(httpcore.AsyncHTTP11Connection):
    """An open connection, which carries one exchange at a time and sends nothing twice."""

    def __init__(self, origin: httpcore.Origin, stream: httpcore.AsyncNetworkStream) -> None:
        super().__init__(origin, stream, KEEP_ALIVE)
        #: Whether it has carried no exchange yet.
        self._is_new = True
        self._stream = stream
        #: The status of the answer that is coming, once it is known.
        self._status: int | None = None

    async def exchange(self, request: httpcore.Request) -> Answer | Failure:
        """Send a request and read its answer. Raises the errors of httpcore."""
        self._status = None
        if self._is_new:
            self._is_new = False
            await _check_silent(self._stream)
        response = await self.handle_async_request(request)
        self._status = response.status
        body, pieces = bytearray(), 0
        async for piece in response.aiter_stream():
            body += piece
            pieces += 1
            if len(body) > MAX_ANSWER or pieces > MAX_PIECES:
                return self.failure(Reason.TOO_LARGE)
        await response.aclose()
        return _answer(response, bytes(body))

    def failure(self, reason: Reason, detail: str = "") -> Failure:
        return Failure(reason, True, self._status, detail)

    def has_expired(self) -> bool:
        """Return whether it was idle for too long, or has something unread, such as its end."""
        try:
            return super().has_expired()
        except AttributeError:  # anyio's way to say that it was reset
            return True

    @property
    def is_reusable(self) -> bool:
        """Return whether the last answer was whole and nothing has come behind it. h11 would take
        that for the next answer: a target could acknowledge an event that it has yet to receive."""
        return self.is_idle() and not self._h11_state.trailing_data[0]


class HttpxPool:
    """A Pool on httpx."""

    def __init__(self, url: str, tls: Tls = USUAL, egress: Egress = ANYWHERE) -> None:
        parts = httpcore.URL(url)
        self._is_tls = parts.scheme == b"https"
        self._name = parts.host.decode("ascii")
        self._tls = tls
        port = parts.port or (443 if self._is_tls else 80)
        self._host = Host(self._name, port, egress)
        target, self._authority = target_and_host(url)
        self._url = httpcore.URL(scheme=parts.scheme, host=parts.host, port=port, target=target)
        #: Connections that wait for a request, in the order in which they became idle.
        self._idle: deque[_Connection] = deque()
        #: One for each post in flight.
        self._tasks: set[asyncio.Task[Answer | Failure]] = set()
        self._closed = False

    def post(
        self,
        lines: bytes,
        body: bytes,
        timeout: float,
        read: Callable[[Answer | Failure], T],
    ) -> TargetExchange[T]:
        deadline = asyncio.get_running_loop().time() + timeout
        task = asyncio.create_task(self._post(self._request(lines, body), deadline))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return TargetExchange.by(task, read)

    async def close(self) -> None:
        self._closed = True
        await asyncio.sleep(0)  # a task that has not begun could not return a result
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks))
        while self._idle:
            await self._idle.pop().aclose()

    def _request(self, lines: bytes, body: bytes) -> httpcore.Request:
        headers = [(b"host", self._authority)]
        for line in lines.split(b"\r\n")[:-1]:
            name, _, value = line.partition(b": ")
            headers.append((name, value))
        headers.append((b"content-length", b"%d" % len(body)))
        return httpcore.Request("POST", self._url, headers=headers, content=body)

    async def _post(self, request: httpcore.Request, deadline: float) -> Answer | Failure:
        """Return the result, also if `close` cancels it."""
        stopped = unsent(Reason.STOPPED)
        if self._closed:
            return stopped
        try:
            connection = await self._take(deadline)
            if isinstance(connection, Failure):
                return connection
            stopped = connection.failure(Reason.STOPPED)
            return await self._exchange(connection, request, deadline)
        except asyncio.CancelledError:
            if not self._closed:
                raise
            return stopped

    async def _exchange(
        self, connection: _Connection, request: httpcore.Request, deadline: float
    ) -> Answer | Failure:
        try:
            async with asyncio.timeout_at(deadline):
                return await connection.exchange(request)
        except TimeoutError:
            return connection.failure(Reason.TIMEOUT)
        except (OSError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            return connection.failure(*_cause(error))
        finally:
            if connection.is_reusable:
                self._idle.append(connection)
            else:
                await connection.aclose()

    async def _take(self, deadline: float) -> _Connection | Failure:
        """Return the connection that was used last, or a new one; close those that have expired."""
        while self._idle and self._idle[0].has_expired():
            await self._idle.popleft().aclose()
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return await self._open(deadline)

    async def _open(self, deadline: float) -> _Connection | Failure:
        late = None
        try:
            async with asyncio.timeout_at(deadline):
                stream = await self._host.reach(_connected, deadline)
                if self._is_tls:
                    late = LATE_HANDSHAKE
                    stream = await self._shake_hands(stream)
        except TimeoutError:
            return unsent(*(late or self._host.late))
        except OSError as error:
            return unsent(*connect_cause(error))
        except httpcore.NetworkError as error:
            return unsent(*tls_cause(error))
        return _Connection(self._url.origin, stream)

    async def _shake_hands(
        self, stream: httpcore.AsyncNetworkStream
    ) -> httpcore.AsyncNetworkStream:
        try:
            return await stream.start_tls(self._tls.trust, self._tls.server_name or self._name)
        except BaseException:
            await stream.aclose()
            raise


async def _connected(address: SocketAddress) -> httpcore.AsyncNetworkStream:
    host, port, *_ = address[4]
    try:
        return await _NETWORK.connect_tcp(str(host), int(port))
    except httpcore.ConnectError as error:
        system = [link for link in chain(error) if isinstance(link, OSError) and link.errno]
        raise (system[0] if system else OSError()) from None


async def _check_silent(stream: httpcore.AsyncNetworkStream) -> None:
    """Raises if data has come before the request: it can't be an answer to it."""
    reading = asyncio.create_task(stream.read(1))
    try:
        turns = 0
        while not reading.done() and (turns < _GLANCE or _is_readable(stream)):
            await asyncio.sleep(0)
            turns += 1
        if reading.done():
            early = reading.result()
            raise httpcore.RemoteProtocolError("unasked") if early else httpcore.ReadError("ended")
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _is_readable(stream: httpcore.AsyncNetworkStream) -> bool:
    try:
        return bool(stream.get_extra_info("is_readable"))
    except AttributeError:  # anyio's way to say that it was reset, which a read will say, too
        return True


def _answer(response: httpcore.Response, body: bytes) -> Answer:
    encoding = _header(response, b"content-encoding").strip().lower()
    return Answer(
        response.status,
        body,
        encoding="" if encoding == "identity" else encoding,
        retry_after=_header(response, b"retry-after"),
    )


def _header(response: httpcore.Response, name: bytes) -> str:
    values = [value for field, value in response.headers if field.lower() == name]
    return b", ".join(values).decode("latin-1")


def _cause(error: Exception) -> tuple[Reason, str]:
    """Return why an exchange failed, and a few words about it that quote nothing."""
    if isinstance(error, ssl.SSLError):
        return tls_cause(error)
    if any(getattr(link, "error_status_hint", None) == 431 for link in chain(error)):
        return Reason.TOO_LARGE, "a header section without end"
    if isinstance(error, httpcore.NetworkError) or str(error).startswith(_ENDED):
        return Reason.RESET, ""
    return Reason.PROTOCOL, ""
