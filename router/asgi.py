"""ASGI applications at the front: probes, the ops port, the stand-in; whatever is no callback.

What they get is HTTP's part of ASGI 3, but for what none of them does: a request's body is one
message, and a reply goes out once it is whole.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any

from router.web.call import Call
from router.web.replies import FAILED

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]

#: Statuses whose replies have no body, and no length of it.
_BODILESS = frozenset({204, 304})


class AsgiApplication:
    """Any ASGI application, as a server has it."""

    def __init__(self, application: Asgi) -> None:
        self._application = application

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """It has none: all that is needed is opened and closed by others."""
        return nullcontext()

    def begin(self, call: Call) -> Exchange:
        exchange = Exchange(call)
        call.start(exchange.run(self._application))
        return exchange


class Exchange:
    """One request, and its reply, as messages."""

    #: The most that is held of a body, in bytes; an application that wants more gets only that.
    max_body = 16 * 1024 * 1024

    def __init__(self, call: Call) -> None:
        self._call = call
        self._body: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self._is_read = False
        self._start: Message = {}
        self._reply = b""

    async def run(self, application: Asgi) -> None:
        """Have the request answered. What goes wrong in the application is logged."""
        try:
            await application(_scope(self._call), self._receive, self._send)
        except Exception as error:
            logging.getLogger(__name__).exception("a fault in an application", exc_info=error)
        if self._call.is_answered:
            return
        if self._start:
            self._call.abort()  # half a reply is no reply
        else:
            self._call.reply(FAILED, FAILED.status)

    # A handler.

    def receive(self, call: Call, body: bytes) -> None:
        cut = len(body) > self.max_body
        self._come({"type": "http.request", "body": body, "more_body": cut})

    def abandon(self, call: Call) -> None:
        self._come({"type": "http.disconnect"})

    def _come(self, message: Message) -> None:
        # Of too long a body the part has come; and a stop may have ended the wait.
        if not self._body.done():
            self._body.set_result(message)

    # What the application calls.

    async def _receive(self) -> Message:
        if not self._is_read:
            self._call.proceed()
            self._is_read = True
            return await self._body
        if not self._call.is_answered:
            await self._call.gone
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        self._reply += message.get("body", b"")
        if not message.get("more_body", False):
            status, headers = self._start["status"], [*self._start.get("headers", ())]
            if status not in _BODILESS and all(name != b"content-length" for name, _ in headers):
                headers.append((b"content-length", b"%d" % len(self._reply)))
            lines = b"".join([b"%b: %b\r\n" % header for header in headers])
            self._call.answer(status, lines, self._reply)


def _scope(call: Call) -> Message:
    head = call.head
    raw_path, _, query = head.target.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": head.method.decode("ascii"),
        "scheme": "http",
        "path": head.path,
        "raw_path": raw_path,
        "query_string": query,
        "root_path": "",
        "headers": head.fields,
        "client": call.peer[:2],
    }
