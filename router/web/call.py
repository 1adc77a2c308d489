"""One callback as its endpoint sees it: who sent it, its body, and its one reply."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from router.contract.replies import Reply, lines_and_body, request_id_from, response_of
from router.delivery.observer import Told
from router.model.errors import Refused
from router.net.http.exchange import EXTENSION, Exchange, HangUp

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: The W3C trace context of version 00; an all-zero trace or parent is invalid.
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: Its state: a list for each tracing system. What is longer need not be passed on.
_STATE: Final = re.compile(rb"[\x20-\x7e]{0,512}")


#: Its value is a small number; a header that is none counts as many routers.
_HOPS: Final = re.compile(rb"[0-9]{1,2}")
_MANY: Final = 100


class HungUp(Exception):
    """The caller has gone before its request was whole, or has been told why already."""


class Call:
    """A request and its reply, of which there is never more than one."""

    __slots__ = (
        *("_exchange", "_listening", "_receive", "_send", "fields", "gone"),
        *("named", "hops", "peer", "replied", "request_id", "seconds", "started", "whole"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.monotonic()
        self._receive = receive
        self._send = send
        #: The headers as they came; names in lower case.
        self.fields: list[tuple[bytes, bytes]] = scope["headers"]
        #: The same by name: of several of one name the last.
        self.named = dict(self.fields)
        client = scope.get("client")
        #: The caller's address as its socket says it.
        self.peer: str = client[0] if client else ""
        self.request_id = request_id_from(self.named.get(b"x-request-id"))
        #: How many routers the event has come through: each names the target that it calls.
        self.hops = _hops(self.named) if b"x-ebaas-target" in self.named else 0
        #: What the caller was told, and how long after the head; None until then.
        self.replied: Reply | None = None
        self.seconds = 0.0
        #: Listens for the hang-up, where the server does not tell it by itself.
        self._listening: asyncio.Task[None] | None = None
        #: The body, where it is there already and no middleware changes it.
        self.whole: bytes | None = None
        exchange: Exchange | None = scope.get("extensions", {}).get(EXTENSION)
        self._exchange = exchange
        if exchange is not None:
            exchange.request_id = self.request_id
            #: Is done once the caller has hung up.
            self.gone = exchange.gone
            if receive == exchange.receive:
                self.whole = exchange.body
        else:
            self.gone = HangUp()

    @property
    def told(self) -> Told:
        code = self.replied.code if self.replied else ""
        return Told(self.request_id, code, self.seconds)

    @property
    def trace(self) -> tuple[str, str]:
        """The caller's trace context, `traceparent` and `tracestate`; `""` for what it did not
        send, or not rightly. Without the first there is no second."""
        given = self.named.get(b"traceparent")
        if not given or not _TRACEPARENT.fullmatch(given):
            return "", ""
        state = b""
        if b"tracestate" in self.named:
            state = b",".join(
                [each for name, each in self.fields if name == b"tracestate" and each]
            )
        return given.decode("ascii"), state.decode("ascii") if _STATE.fullmatch(state) else ""

    async def body(self, limit: int) -> bytes:
        """The body as it comes: whole, or so much of it that it is longer than `limit`.

        Raises HungUp."""
        body, more = bytearray(), True
        while more and len(body) <= limit:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HungUp
            body += message.get("body", b"")
            more = message.get("more_body", False)
        if self._exchange is None and not more:
            self._listening = asyncio.create_task(self._listen())
        return bytes(body)

    async def _listen(self) -> None:
        """The request is whole: what comes now is the hang-up."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.gone.done():
            self.gone.happens()

    async def reply(self, reply: Reply, status: int) -> None:
        """Send the contract's reply; a second is not sent."""
        if self.replied is not None:
            return
        self.close()
        self.replied = reply
        exchange = self._exchange
        if exchange is not None and self._send == exchange.send:  # no middleware changes it
            exchange.respond(status, *lines_and_body(reply, self.request_id))
        else:
            await self._send_both(status, *response_of(reply, self.request_id))
        self.seconds = time.monotonic() - self.started

    async def _send_both(
        self, status: int, headers: list[tuple[bytes, bytes]], body: bytes
    ) -> None:
        with suppress(OSError):  # some servers raise it where nobody is there to be told any more
            await self._send({"type": "http.response.start", "status": status, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})

    def close(self) -> None:
        """Listen for the caller no longer."""
        if self._listening is not None:
            self._listening.cancel()


def _hops(named: dict[bytes, bytes]) -> int:
    said = named.get(b"x-ebaas-hops", b"0")
    return 1 + int(said) if _HOPS.fullmatch(said) else _MANY


def refused(reply: Reply, why: str) -> Refused:
    return Refused(reply.code, reply.msg, why)
