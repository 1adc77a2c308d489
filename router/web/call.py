"""One HTTP request, from its head to its one reply; and what an application makes of it."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from router.errors import Refused
from router.journal import Told
from router.web.head import Head
from router.web.replies import Reply, request_id_from, response_of

#: The W3C trace context of version 00; an all-zero trace or parent is invalid.
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


#: Its state: a list for each tracing system. What is longer need not be passed on.
_STATE = re.compile(rb"[\x20-\x7e]{0,512}")


class Connection(Protocol):
    """What a request came on."""

    #: The caller's address as its socket says it: host and port, and for IPv6 two more.
    peer: tuple[Any, ...]

    def proceed(self, call: Call) -> None:
        """Let the caller send the body, if it waits to be told so."""

    def answer(self, call: Call, status: int, headers: bytes, body: bytes) -> None:
        """Send the call's one reply; nothing, where nobody is there to be told any more.

        `headers` are whole lines. A body that has not come whole ends the connection.
        """

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Have that run in a task, which a stop of the server waits for."""


class Handler(Protocol):
    """What goes on with a request whose head has come."""

    #: The longest body that it takes, in bytes.
    max_body: int

    def receive(self, call: Call, body: bytes) -> None:
        """The body has come: whole, or so much of it that it is longer than `max_body`."""

    def abandon(self, call: Call) -> None:
        """It will not come: the caller has gone away, or has been told why already."""


class _Answered:
    max_body = 0

    def receive(self, call: Call, body: bytes) -> None:
        pass

    def abandon(self, call: Call) -> None:
        pass


#: What goes on with a request that was answered by its head alone: nothing.
ANSWERED: Handler = _Answered()


class Application(Protocol):
    """What a server serves."""

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Opens what it needs, and closes it when all has been served. Raises StartFailed."""

    def begin(self, call: Call) -> Handler:
        """A request's head has come, and no more. Whoever replies now is not asked further."""


class Call:
    """A request and its reply, of which there is never more than one."""

    __slots__ = (
        *("_connection", "gone", "head", "is_answered"),
        *("replied", "request_id", "seconds", "started"),
    )

    def __init__(self, head: Head, connection: Connection, gone: asyncio.Future[None]) -> None:
        """`gone` is done once the caller has hung up."""
        self.started = time.monotonic()
        self.head = head
        self._connection = connection
        #: Whether its reply is out; the front sees to it.
        self.is_answered = False
        self.request_id = request_id_from(head.named.get(b"x-request-id"))
        #: What the caller was told, and how long after the head; None until then.
        self.replied: Reply | None = None
        self.seconds = 0.0
        self.gone = gone

    @property
    def peer(self) -> tuple[Any, ...]:
        """The caller's address as its socket says it: host and port, and for IPv6 two more."""
        return self._connection.peer

    def header(self, name: bytes) -> bytes:
        """A header's value, `b""` where there is none; of several the last."""
        return self.head.named.get(name, b"")

    @property
    def told(self) -> Told:
        code = self.replied.code if self.replied else ""
        return Told(self.request_id, code, self.seconds)

    @property
    def trace(self) -> tuple[str, str]:
        """The caller's trace context, `traceparent` and `tracestate`; `""` for what it did not
        send, or not rightly. Without the first there is no second."""
        given = self.header(b"traceparent")
        if not given or not _TRACEPARENT.fullmatch(given):
            return "", ""
        state = b""
        if self.header(b"tracestate"):
            fields = self.head.fields
            state = b",".join([value for name, value in fields if name == b"tracestate" and value])
        return given.decode("ascii"), state.decode("ascii") if _STATE.fullmatch(state) else ""

    def proceed(self) -> None:
        """Let the caller send the body, if it waits to be told so."""
        self._connection.proceed(self)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Have that run in a task, which a stop of the server waits for."""
        self._connection.start(work)

    def reply(self, reply: Reply, status: int, more: bytes = b"") -> None:
        """Send the contract's reply, with whole header lines besides; a second is not sent."""
        if self.replied is not None:
            return
        self.replied = reply
        lines, body = response_of(reply, self.request_id)
        self._connection.answer(self, status, lines + more, body)
        self.seconds = time.monotonic() - self.started


def refused(reply: Reply, why: str) -> Refused:
    return Refused(reply.code, reply.msg, why)
