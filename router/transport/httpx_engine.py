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
from dataclasses import dataclass
from enum import Enum, auto

import httpcore

from router.model.event import Reason
from router.net.egress import ANYWHERE, Egress, SocketAddress
from router.net.tls import USUAL, Tls
from router.transport.addresses import (
    LATE_HANDSHAKE,
    Host,
    chain,
    connect_cause,
    system_error,
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
)

# At DEBUG it would log every step of every attempt, and the headers of every answer.
logging.getLogger("httpcore").setLevel(logging.WARNING)

_NETWORK = httpcore.AnyIOBackend()

#: For how many turns of the loop to look for data that came before the request: to begin, read,
#: decrypt and report it, and some more. Not a time: a blocked loop would let it pass unread.
_GLANCE = 8

#: The messages of httpcore and h11 when a connection ends; they have no type for it.
_ENDED = ("Server disconnected", "peer closed connection", "peer unexpectedly closed")


class _Step(Enum):
    """The step that an exchange waits for."""

    #: A connected socket.
    CONNECT = auto()
    HANDSHAKE = auto()
    #: The answer, or anything unknown: the request may have been sent.
    ANSWER = auto()


#: Why an exchange failed if its deadline came in this step.
_LATE = {
    _Step.HANDSHAKE: LATE_HANDSHAKE,
    _Step.ANSWER: (Reason.TIMEOUT, ""),
}


@dataclass(slots=True)
class _Progress:
    """The progress of an exchange. Mutable: it is read after an exception."""

    #: By the loop's clock.
    deadline: float
    step: _Step = _Step.CONNECT
    status: int | None = None

    def failure(self, reason: Reason, detail: str = "") -> Failure:
        return Failure(reason, self.step is _Step.ANSWER, self.status, detail)


class _Connection(httpcore.AsyncHTTP11Connection):
    """An open connection, which carries one exchange at a time and sends nothing twice."""

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
        #: One for each post in flight; brought forward, it breaks that one off.
        self._deadlines: set[asyncio.Timeout] = set()
        self._tasks: set[asyncio.Task[Answer | Failure]] = set()
        self._closed = False

    def post(
        self,
        lines: bytes,
        body: bytes,
        timeout: float,
        read: Callable[[Answer | Failure], T],
    ) -> TargetExchange[T]:
        task = asyncio.create_task(self._post(lines, body, timeout))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return TargetExchange.by(task, read)

    async def _post(self, lines: bytes, body: bytes, timeout: float) -> Answer | Failure:
        progress = _Progress(asyncio.get_running_loop().time() + timeout)
        if self._closed:
            return progress.failure(Reason.STOPPED)
        deadline = asyncio.timeout(timeout)
        self._deadlines.add(deadline)
        try:
            async with deadline:
                return await self._exchange(self._request(lines, body), progress)
        except TimeoutError:
            return progress.failure(*self._late(progress.step))
        except Exception as error:
            if not _is_foreign(error):
                raise
            return progress.failure(*_cause(error, progress.step))
        finally:
            self._deadlines.discard(deadline)

    async def close(self) -> None:
        self._closed = True
        for deadline in self._deadlines:
            if not deadline.expired():
                deadline.reschedule(0)
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

    async def _exchange(self, request: httpcore.Request, progress: _Progress) -> Answer | Failure:
        connection = await self._take(progress)
        progress.step = _Step.ANSWER
        try:
            response = await connection.handle_async_request(request)
            progress.status = response.status
            body, pieces = bytearray(), 0
            async for piece in response.aiter_stream():
                body += piece
                pieces += 1
                if len(body) > MAX_ANSWER or pieces > MAX_PIECES:
                    return progress.failure(Reason.TOO_LARGE)
            await response.aclose()
            return _answer(response, bytes(body))
        finally:
            if connection.is_reusable:
                self._idle.append(connection)
            else:
                await connection.aclose()

    async def _take(self, progress: _Progress) -> _Connection:
        """Return the connection that was used last, or a new one; close those that have expired."""
        while self._idle and self._idle[0].has_expired():
            await self._idle.popleft().aclose()
        while self._idle:
            connection = self._idle.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return await self._open(progress)

    async def _open(self, progress: _Progress) -> _Connection:
        stream = await self._host.reach(_connected, progress.deadline)
        try:
            if self._is_tls:
                progress.step = _Step.HANDSHAKE
                name = self._tls.server_name or self._name
                stream = await stream.start_tls(self._tls.trust, name)
            progress.step = _Step.ANSWER
            await _check_silent(stream)
        except BaseException:
            await stream.aclose()
            raise
        return _Connection(self._url.origin, stream, KEEP_ALIVE)

    def _late(self, step: _Step) -> tuple[Reason, str]:
        if self._closed:
            return Reason.STOPPED, ""
        return self._host.late if step is _Step.CONNECT else _LATE[step]


async def _connected(address: SocketAddress) -> httpcore.AsyncNetworkStream:
    host, port, *_ = address[4]
    try:
        return await _NETWORK.connect_tcp(str(host), int(port))
    except httpcore.ConnectError as error:
        raise system_error(error) from None


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


def _is_foreign(error: Exception) -> bool:
    """Return whether the system or a library raised it. Anything else is a fault of our own."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or library in ("httpcore", "h11", "anyio")


def _cause(error: Exception, step: _Step) -> tuple[Reason, str]:
    """Return why an exchange failed, and a few words about it that quote nothing."""
    if step is _Step.CONNECT and isinstance(error, OSError):
        return connect_cause(error)
    if step is _Step.HANDSHAKE or isinstance(error, ssl.SSLError):
        return tls_cause(error)
    if any(getattr(link, "error_status_hint", None) == 431 for link in chain(error)):
        return Reason.TOO_LARGE, "a header section without end"
    if isinstance(error, httpcore.NetworkError) or str(error).startswith(_ENDED):
        return Reason.RESET, ""
    return Reason.PROTOCOL, ""
