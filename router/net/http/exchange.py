"""One request and its response over a connection, as ASGI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from router.net.http.head import Body, Head
from router.net.loops import Gone

if TYPE_CHECKING:
    from router.net.http.connection import Connection

#: Responses that have no body.
_BARE: Final = frozenset({204, 304})

_STATUSES: Final = frozenset(HTTPStatus)


@dataclass(slots=True)
class Framing:
    """The start of a response."""

    #: The status line, and whole lines of headers.
    lines: bytes
    #: The body's size in bytes, None if the lines don't have it.
    length: int | None
    #: Whether they say that the connection closes.
    closes: bool = False
    #: Whether they have a `date`.
    is_dated: bool = False
    #: Whether there is no body, whatever the lines say.
    is_bare: bool = False


# Nearly all replies of an application have the same few headers.
@lru_cache(256)
def framing_of(status: int, headers: tuple[tuple[bytes, ...], ...]) -> Framing:
    """Raises ValueError for a header that is malformed, or more than one."""
    lines, values = [status_line(status)], {}
    for name, value in headers:
        name = name.lower()
        if name == b"transfer-encoding":
            continue  # the connection decides on this
        line = b"%b: %b\r\n" % (name, value)
        if line.count(b"\r") + line.count(b"\n") != 2 or b":" in name or b"\0" in line:
            raise ValueError("a response's header has a line break in it")
        lines.append(line)
        values[name] = value
    length = values.get(b"content-length")
    return Framing(
        b"".join(lines),
        None if length is None else int(length),
        closes=b"close" in values.get(b"connection", b"").lower(),
        is_dated=b"date" in values,
        is_bare=status in _BARE,
    )


@lru_cache(64)
def status_line(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase if status in _STATUSES else "Status"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


#: The key of an Exchange among a scope's extensions. An application that uses it need not await
#: `receive` for a body that has come, nor poll it for the caller's hang-up, and can `respond`.
EXTENSION: Final = "ebaas_router.request"

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]

_log = logging.getLogger("uvicorn.error")


class Exchange:
    """A request that an application handles. Messages it sends after the end are dropped."""

    __slots__ = (
        *("_carrier", "_framing", "_head", "_is_bare", "_is_chunked", "_is_read", "_missing"),
        *("_news", "_stays", "body", "gone", "incoming", "is_answered", "is_begun", "request_id"),
        "task",
    )

    def __init__(self, carrier: Connection, head: Head, body: bytes | None) -> None:
        self._carrier = carrier
        self._head = head
        #: The whole body if it came before the application was called; else `receive` brings it.
        self.body = body
        #: Done once the caller has hung up, or was refused in the application's place.
        self.gone: Gone = asyncio.get_running_loop().create_future()
        #: The id that such a refusal names; the application may set it.
        self.request_id = ""
        #: The body that is coming.
        self.incoming: Body | None = None
        #: The application's task; the connection sets it.
        self.task: asyncio.Task[None] | None = None
        self.is_answered = False
        #: Some of the response has been sent.
        self.is_begun = False
        #: The application has the last of the body.
        self._is_read = False
        #: Wakes a waiting `receive`, which makes it.
        self._news: asyncio.Event | None = None
        #: None until the response is started.
        self._framing: Framing | None = None

    @property
    def is_over(self) -> bool:
        return self.is_answered or self.gone.done()

    # The application's calls.

    async def receive(self) -> Message:
        """Return the body as it comes; then, when it is known, that the request is over."""
        while not self.is_over:
            if not self._is_read and (part := self._take()) is not None:
                return part
            self._carrier.ask()
            self._news = self._news or asyncio.Event()
            self._news.clear()
            await self._news.wait()
        return {"type": "http.disconnect"}

    def _take(self) -> Message | None:
        incoming = self.incoming
        if incoming is None:
            body, more = self.body or b"", False
        elif incoming.is_whole or incoming.size:
            body, more = incoming.take(), not incoming.is_whole
        else:
            return None
        self._is_read = not more
        return {"type": "http.request", "body": body, "more_body": more}

    async def send(self, message: Message) -> None:
        """Send a part of the response: head and body in one go if the body's length is known, else
        the head at once. Raises RuntimeError and ValueError for an invalid response."""
        if self.is_answered or self.gone.done():
            return
        kind, body, more = message["type"], b"", True
        if self._framing is None and kind == "http.response.start":
            if self._start(message["status"], message.get("headers", ())):
                return
        elif self._framing is not None and kind == "http.response.body":
            body, more = message.get("body", b""), message.get("more_body", False)
        else:
            raise RuntimeError(f"{kind!r} is not an ASGI message that may come now")
        data = self._framed(body, more)
        if not self.is_begun:
            data = self._with_head(self._framing, data)
        if not more:  # the last message waits for nothing
            self._send_last(data)
            return
        self._carrier.send(data, more=True, stays=self._stays)
        await self._carrier.drained()

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """Send the whole response to a request other than HEAD at once, in fewer steps than two
        messages take.

        `lines` are whole lines of headers with the body's length, without `connection` and `date`.
        """
        if self.is_answered or self.gone.done():
            return
        if self._framing is not None:
            raise RuntimeError("a response has been started already")
        framing = self._framing = Framing(status_line(status) + lines, len(body))
        self._is_chunked = False
        self._send_last(self._with_head(framing, body))

    def _send_last(self, data: bytes) -> None:
        self.is_answered = True
        self.forget()
        self._carrier.send(data, more=False, stays=self._stays)

    def _start(self, status: int, headers: Iterable[Iterable[bytes]]) -> bool:
        """Start a response; return whether its head can wait for the body."""
        framing = self._framing = framing_of(status, tuple(map(tuple, headers)))
        self._missing = framing.length
        self._is_bare = framing.is_bare or self._head.method == b"HEAD"
        takes_chunks = self._head.scope["http_version"] == "1.1"
        self._is_chunked = framing.length is None and not framing.is_bare and takes_chunks
        return framing.length is not None

    def _framed(self, body: bytes, more: bool) -> bytes:
        """Return a part of the body as it is sent. A body of unknown length ends with the
        connection if the caller speaks HTTP/1.0."""
        if self._is_bare:
            return b""
        if self._missing is not None:
            self._missing -= len(body)
            if self._missing < 0 or (self._missing > 0 and not more):
                raise RuntimeError("a body of another length than its content-length says")
        elif self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return chunk if more else chunk + b"0\r\n\r\n"
        return body

    def _with_head(self, framing: Framing | None, data: bytes) -> bytes:
        assert framing is not None
        carrier = self._carrier
        self._stays = self._head.keep_alive and carrier.stays and not framing.closes
        self.is_begun = True
        date = b"" if framing.is_dated else carrier.date
        coding = b"transfer-encoding: chunked\r\n" if self._is_chunked else b""
        end = b"\r\n" if self._stays or framing.closes else b"connection: close\r\n\r\n"
        return b"".join((framing.lines, date, coding, end, data))

    # The connection's calls.

    def forget(self) -> None:
        """Drop the body, so that an idle connection holds none."""
        self.body = self.incoming = None

    def wake(self) -> None:
        """There is more to receive, or never will be."""
        if self._news is not None:
            self._news.set()

    async def run(self, application: Application, scope: dict[str, Any]) -> None:
        """Call an application, which may return long after its response. Its faults are logged; its
        caller gets 500 if nothing has been answered."""
        try:
            await application(scope, self.receive, self.send)
            if not self.is_over:
                _log.error("An ASGI application has returned without a whole response")
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            _log.exception("Exception in ASGI application")
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
        finally:
            task, self.task = self.task, None  # an idle connection keeps its last exchange
            self._carrier.end_exchange(task, unanswered=not self.is_over)
