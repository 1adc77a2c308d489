"""One request and its response over a connection, as ASGI."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Protocol

from router.net.http.head import Body, Head
from router.net.loops import Gone

#: Responses that have no body.
_BARE: Final = frozenset({204, 304})

_STATUSES: Final = frozenset(HTTPStatus)


class Framing:
    """What the start of a response comes to."""

    __slots__ = ("closes", "is_bare", "is_dated", "length", "lines")

    def __init__(
        self,
        lines: bytes,
        length: int | None,
        *,
        closes: bool = False,
        is_dated: bool = False,
        is_bare: bool = False,
    ) -> None:
        #: The status line, and whole lines of headers.
        self.lines = lines
        #: The body's size in bytes, None where they don't say it.
        self.length = length
        #: Whether they say that the connection closes.
        self.closes = closes
        #: Whether they say when it was made.
        self.is_dated = is_dated
        #: Whether there is no body, whatever they say.
        self.is_bare = is_bare


def framing_of(status: int, headers: Iterable[Iterable[bytes]]) -> Framing:
    """Raises ValueError for what would be no header, or more than one."""
    return _framing_of(status, tuple(map(tuple, headers)))


# Nearly all replies of an application have the same few headers.
@lru_cache(256)
def _framing_of(status: int, headers: tuple[tuple[bytes, ...], ...]) -> Framing:
    lines, said = [status_line(status)], {}
    for name, value in headers:
        name = name.lower()
        if name == b"transfer-encoding":
            continue  # how a body is told apart is the connection's to say
        line = b"%b: %b\r\n" % (name, value)
        if line.count(b"\r") + line.count(b"\n") != 2 or b":" in name or b"\0" in line:
            raise ValueError("a response's header has a line break in it")
        lines.append(line)
        said[name] = value
    length = said.get(b"content-length")
    return Framing(
        b"".join(lines),
        None if length is None else int(length),
        closes=b"close" in said.get(b"connection", b"").lower(),
        is_dated=b"date" in said,
        is_bare=status in _BARE,
    )


@lru_cache(64)
def status_line(status: int) -> bytes:
    phrase = HTTPStatus(status).phrase if status in _STATUSES else "Status"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


#: What an Exchange is called among a scope's extensions. Who finds it there needs neither await
#: `receive` for a body that has come, nor poll it for the caller's hang-up, and can `respond`.
EXTENSION: Final = "ebaas_router.request"

Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]

_log = logging.getLogger("uvicorn.error")


class Carrier(Protocol):
    """What an exchange needs of its connection: see there."""

    @property
    def stays(self) -> bool: ...
    @property
    def date(self) -> bytes: ...
    def ask(self) -> None: ...
    def say(self, data: bytes, *, more: bool, stays: bool) -> None: ...
    async def drained(self) -> None: ...
    def over(self, task: asyncio.Task[None] | None, *, owed: bool) -> None: ...


class Exchange:
    """A request in an application's hands. What is sent after its end goes nowhere."""

    __slots__ = (
        *("_carrier", "_framing", "_head", "_is_bare", "_is_chunked", "_is_read", "_missing"),
        *("_news", "_stays", "body", "gone", "incoming", "is_answered", "is_begun", "request_id"),
        "task",
    )

    def __init__(self, carrier: Carrier, head: Head, body: bytes | None) -> None:
        self._carrier = carrier
        self._head = head
        #: The whole body where it was there before the application; else `receive` brings it.
        self.body = body
        #: Done once the caller has hung up, or has been refused in the application's place.
        self.gone: Gone = asyncio.get_running_loop().create_future()
        #: What such a refusal names; the application may say.
        self.request_id = ""
        #: The body that is coming.
        self.incoming: Body | None = None
        #: In which the application runs; its connection says.
        self.task: asyncio.Task[None] | None = None
        self.is_answered = False
        #: Some of the response is out.
        self.is_begun = False
        #: The application has had the last of the body.
        self._is_read = False
        #: Wakes who waits in `receive`; made by the first.
        self._news: asyncio.Event | None = None
        #: None until the response is started.
        self._framing: Framing | None = None

    @property
    def is_over(self) -> bool:
        return self.is_answered or self.gone.done()

    # The application's calls.

    async def receive(self) -> Message:
        """The body as it comes; then, once it can be told, that the request is over."""
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
        """Head and body leave in one go where the body's length is known; else the head at once.
        Raises RuntimeError and ValueError for what is no response."""
        if self.is_answered or self.gone.done():
            return
        kind, body, more = message["type"], b"", True
        if self._framing is None and kind == "http.response.start":
            if self._start(message["status"], message.get("headers", ())):
                return
        elif self._framing is not None and kind == "http.response.body":
            body, more = message.get("body", b""), message.get("more_body", False)
        else:
            raise RuntimeError(f"{kind!r} is no ASGI message that is due now")
        data = self._framed(body, more)
        if not self.is_begun:
            data = self._with_head(self._framing, data)
        if not more:  # who sends the last waits for nothing
            self._say_last(data)
            return
        self._carrier.say(data, more=True, stays=self._stays)
        await self._carrier.drained()

    def respond(self, status: int, lines: bytes, body: bytes) -> None:
        """The whole response at once, as `send` would have it in two messages and several steps.

        `lines` are whole lines of headers, the body's length among them; they say nothing of the
        connection, and not when they were made.
        """
        if self.is_answered or self.gone.done():
            return
        if self._framing is not None:
            raise RuntimeError("a response has been started already")
        framing = self._framing = Framing(status_line(status) + lines, len(body))
        self._is_chunked = False
        self._say_last(self._with_head(framing, b"" if self._head.method == b"HEAD" else body))

    def _say_last(self, data: bytes) -> None:
        self.is_answered = True
        self.forget()
        self._carrier.say(data, more=False, stays=self._stays)

    def _start(self, status: int, headers: Iterable[Iterable[bytes]]) -> bool:
        """Whether the head can wait for the body."""
        framing = self._framing = framing_of(status, headers)
        self._missing = framing.length
        self._is_bare = framing.is_bare or self._head.method == b"HEAD"
        self._is_chunked = (
            framing.length is None
            and not framing.is_bare
            and self._head.scope["http_version"] == "1.1"
        )
        return framing.length is not None

    def _framed(self, body: bytes, more: bool) -> bytes:
        """So much of a body as it is sent. One of no known length ends with the connection where
        the caller speaks HTTP/1.0."""
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
        """The body is of no use any more: an idle connection holds none."""
        self.body = self.incoming = None

    def wake(self) -> None:
        """There is more to receive, or never will be."""
        if self._news is not None:
            self._news.set()

    async def run(self, application: Application, scope: dict[str, Any]) -> None:
        """Let an application have it; it may return long after its response. A fault of its own is
        told of, and where nothing has been answered its caller hears 500."""
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
            self._carrier.over(task, owed=not self.is_over)
