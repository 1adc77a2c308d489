"""The engine on httpx: its exceptions end in this module.

httpx's own pool is not used. Cancelled at a bad moment it loses a slot for ever, and its cost grows
with the square of the requests in flight. Here each connection is a transport of its own, and is
closed whole if an exchange does not end well.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from operator import attrgetter
from typing import Any

import httpcore
import httpx

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
from router.transport.engine import KEEP_ALIVE, MAX_ANSWER, Answer, Failure, T, TargetExchange

# At DEBUG it would log every step of every attempt, and the headers of every answer.
logging.getLogger("httpcore").setLevel(logging.WARNING)


class HttpxPool:
    """A Pool on httpx."""

    def __init__(self, url: str, tls: Tls = USUAL, egress: Egress = ANYWHERE) -> None:
        self._url = httpx.URL(url)
        self._tls = tls
        port = self._url.port or (443 if self._url.scheme == "https" else 80)
        self._host = Host(self._url.raw_host.decode("ascii"), port, egress)
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
        request = self._request(lines, body)
        deadline = asyncio.timeout(timeout)
        self._deadlines.add(deadline)
        try:
            async with deadline:
                return await self._exchange(request, progress)
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
            await self._idle.pop().close()

    def _request(self, lines: bytes, body: bytes) -> httpx.Request:
        headers = [line.split(b": ", 1) for line in lines.split(b"\r\n")[:-1]]
        # With `stream` instead of `content`, httpx adds no header of its own.
        return httpx.Request(
            "POST",
            self._url,
            headers=[
                (b"host", self._url.netloc),
                *((name, value) for name, value in headers),
                (b"content-length", b"%d" % len(body)),
            ],
            stream=httpx.ByteStream(body),
            extensions={"sni_hostname": self._tls.server_name or None},
        )

    async def _exchange(self, request: httpx.Request, progress: _Progress) -> Answer | Failure:
        connection = await self._take()
        try:
            return await connection.exchange(request, progress)
        finally:
            if connection.reusable:
                self._idle.append(connection)
            else:
                await connection.close()

    async def _take(self) -> _Connection:
        """Return the connection that was used last, or a new one; close those idle for too long."""
        while self._idle and self._idle[0].idle_for() > KEEP_ALIVE:
            await self._idle.popleft().close()
        if self._idle:
            return self._idle.pop()
        trust = self._tls.trust if self._url.scheme == "https" else _NOBODY
        return _Connection(self._host, trust)

    def _late(self, step: _Step) -> tuple[Reason, str]:
        if self._closed:
            return Reason.STOPPED, ""
        return self._host.late if step is _Step.CONNECT else _LATE[step]


#: For http: without a context httpx reads all certificate authorities for each transport.
_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

#: The most chunks, or reads, of an answer. Each takes some microseconds, however small it is:
#: 64 KiB in chunks of one byte would block the loop for a third of a second.
_MAX_PIECES = 1000

#: For how many turns of the loop to look for data that came before the request: to begin, read,
#: decrypt and report it, and some more. Not a time: a blocked loop would let it pass unread.
_GLANCE = 8

#: The data that httpcore has read beyond the end of an answer. It would take it for the start of
#: the next answer: a target could acknowledge an event that it has yet to receive.
_beyond = attrgetter("_httpcore_stream._stream._connection._h11_state.trailing_data")


class _Connection:
    """At most one open connection, which carries one exchange at a time.

    A kept-alive connection that the target has closed meanwhile is replaced before anything is
    sent; httpx never sends a request twice.
    """

    def __init__(self, host: Host, trust: ssl.SSLContext) -> None:
        self._transport = httpx.AsyncHTTPTransport(verify=trust, trust_env=False)
        self._door = _Door(host)
        # httpx has no argument for the network backend of its pool.
        self._transport._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust, max_connections=1, network_backend=self._door
        )
        #: The socket, as soon as it is connected; httpcore's own close forgets one whose handshake
        #: was cancelled.
        self._stream: Any = None
        #: The step after which a new connection is ready for a request.
        self._last_step = "connection.connect_tcp" if trust is _NOBODY else "connection.start_tls"
        #: Whether the last exchange ended with a whole answer and nothing after it.
        self.reusable = False
        self._idle_since = 0.0

    def idle_for(self) -> float:
        return time.monotonic() - self._idle_since

    async def exchange(self, request: httpx.Request, progress: _Progress) -> Answer | Failure:
        self.reusable = False
        self._door.deadline = progress.deadline
        request.extensions["trace"] = partial(self._trace, progress)
        progress.step = _Step.ANSWER
        response = await self._transport.handle_async_request(request)
        progress.status = response.status_code
        body, pieces = bytearray(), 0
        async for piece in response.aiter_raw():
            body += piece
            pieces += 1
            if len(body) > MAX_ANSWER or pieces > _MAX_PIECES:
                return progress.failure(Reason.TOO_LARGE)
        self.reusable = _ends_clean(response)
        self._idle_since = time.monotonic()
        return _answer(response, bytes(body))

    async def close(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()

    async def _trace(self, progress: _Progress, event: str, info: Mapping[str, Any]) -> None:
        """Follow the steps of an exchange; httpcore calls this before and after each."""
        name, _, stage = event.rpartition(".")
        if name not in _BEFORE_SENDING:
            return
        if stage == "complete":
            self._stream = info["return_value"]
            progress.step = _Step.ANSWER
            if name == self._last_step:
                await _check_silent(self._stream)
        else:
            progress.step = _BEFORE_SENDING[name]


class _Door(httpcore.AsyncNetworkBackend):
    """Connects httpcore to an address of `Host`, whatever it asks for."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._network = httpcore.AnyIOBackend()
        #: By the loop's clock.
        self.deadline = 0.0

    async def connect_tcp(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        return await self._host.reach(self._connect, self.deadline)

    async def _connect(self, address: SocketAddress) -> httpcore.AsyncNetworkStream:
        host, port, *_ = address[4]
        try:
            stream = await self._network.connect_tcp(str(host), int(port))
        except httpcore.ConnectError as error:
            raise system_error(error) from None
        stream.get_extra_info = partial(_about, stream.get_extra_info)  # type: ignore[method-assign]
        return stream


def _about(ask: Callable[[str], Any], what: str) -> Any:
    """Return information on a connection; anyio fails if it was reset by now."""
    try:
        return ask(what)
    except AttributeError:
        raise httpx.ReadError("reset") from None


async def _check_silent(stream: Any) -> None:
    """Raises if data has come before the request: it can't be an answer to it."""
    reading = asyncio.create_task(stream.read(1))
    try:
        turns = 0
        while not reading.done() and (turns < _GLANCE or stream.get_extra_info("is_readable")):
            await asyncio.sleep(0)
            turns += 1
        if reading.done():
            early = reading.result()
            raise httpx.RemoteProtocolError("unasked") if early else httpx.ReadError("ended")
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def _ends_clean(response: httpx.Response) -> bool:
    """Return whether nothing came after the answer. If unknown, no: that only costs a
    connection."""
    try:
        return not _beyond(response.stream)[0]
    except AttributeError:
        return False


def _answer(response: httpx.Response, body: bytes) -> Answer:
    encoding = response.headers.get("content-encoding", "").strip().lower()
    return Answer(
        response.status_code,
        body,
        encoding="" if encoding == "identity" else encoding,
        retry_after=response.headers.get("retry-after", ""),
    )


class _Step(Enum):
    """The step that an exchange waits for."""

    #: A usable connection.
    CONNECT = auto()
    HANDSHAKE = auto()
    #: The answer, or anything unknown: the request may have been sent.
    ANSWER = auto()


_BEFORE_SENDING = {
    "connection.connect_tcp": _Step.CONNECT,
    "connection.start_tls": _Step.HANDSHAKE,
}

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


def _is_foreign(error: Exception) -> bool:
    """Return whether the system or a library raised it. Anything else is a fault of our own."""
    library = type(error).__module__.partition(".")[0]
    return isinstance(error, OSError) or library in ("httpx", "httpcore", "h11", "anyio")


def _cause(error: Exception, step: _Step) -> tuple[Reason, str]:
    """Return why an exchange failed, and a few words about it that quote nothing."""
    if step is _Step.CONNECT and isinstance(error, OSError):
        return connect_cause(error)
    if step is _Step.HANDSHAKE or isinstance(error, ssl.SSLError):
        return tls_cause(error)
    if any(getattr(link, "error_status_hint", None) == 431 for link in chain(error)):
        return Reason.TOO_LARGE, "a header section without end"
    if isinstance(error, httpx.NetworkError) or str(error).startswith(_ENDED):
        return Reason.RESET, ""
    return Reason.PROTOCOL, ""


#: The messages of httpcore and h11 when a connection ends; they have no type for it.
_ENDED = ("Server disconnected", "peer closed connection", "peer unexpectedly closed")
