"""One HTTP request at the ASGI border: its headers, its body up to a limit, and its one reply."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from router.errors import Refused
from router.journal import Told
from router.web import replies
from router.web.replies import Reply, body_of, request_id_from

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: The ASGI extension that tells of a hang-up: a future. To wait for a message instead would take a
#: task for each request.
GONE = "ebaas_router.gone"

#: The W3C trace context of version 00; an all-zero trace or parent is invalid.
_TRACEPARENT = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


class HungUp(Exception):
    """The caller went away before its request was whole."""


class Call:
    """A request and its reply, of which there is never more than one."""

    def __init__(self, scope: Message, receive: Receive, send: Send) -> None:
        self.started = time.monotonic()
        self._headers: dict[bytes, bytes] = dict(scope["headers"])
        self._receive = receive
        self._send = send
        self._more = True
        self.request_id = request_id_from(self._headers.get(b"x-request-id"))
        #: What the caller was told, and when; None until then.
        self.replied: Reply | None = None
        self.seconds = 0.0
        #: Done once the caller has hung up; the front sees to it.
        self.gone: asyncio.Future[None] = scope["extensions"][GONE]

    def header(self, name: bytes) -> bytes:
        """A header's value, `b""` where there is none; of several the last."""
        return self._headers.get(name, b"")

    @property
    def told(self) -> Told:
        code = self.replied.code if self.replied else ""
        return Told(self.request_id, code, self.seconds)

    @property
    def traceparent(self) -> str:
        """The caller's trace context, `""` where it sent none that is valid."""
        given = self.header(b"traceparent")
        return given.decode("ascii") if _TRACEPARENT.fullmatch(given) else ""

    async def body(self, limit: int) -> bytes:
        """The whole body. Raises Refused (413) as soon as it is known to pass `limit` bytes, and
        HungUp when the caller goes away."""
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared) > limit:
            raise too_large(limit)
        chunks: list[bytes] = []
        size = 0
        while self._more:
            chunk = await self._next_chunk()
            size += len(chunk)
            if size > limit:
                raise too_large(limit)
            chunks.append(chunk)
        return b"".join(chunks)

    async def _next_chunk(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise HungUp
        self._more = message.get("more_body", False)
        chunk: bytes = message.get("body", b"")
        return chunk

    async def reply(self, reply: Reply, status: int) -> None:
        """Send the reply; a second one is not sent. The front sees to a body left unread."""
        if self.replied is not None:
            return
        self.replied = reply
        body = body_of(reply, self.request_id)
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode("ascii")),
        ]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": body})
        self.seconds = time.monotonic() - self.started


def too_large(limit: int) -> Refused:
    return refused(replies.TOO_LARGE, f"a body of more than {limit} bytes")


def refused(reply: Reply, why: str) -> Refused:
    return Refused(reply.code, reply.msg, why)
