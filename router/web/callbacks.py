"""The callback port: an event read, sent and answered; its paths, probes and refusals."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable
from contextlib import suppress
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, ExceptionHandler, Receive, Scope, Send

from router.config.loading import Config
from router.contract.intake import Intake
from router.contract.replies import (
    ACKNOWLEDGED,
    BUSY,
    ENCODED,
    FAILED,
    FORBIDDEN,
    LOOPING,
    NO_TOKEN,
    NOT_OPEN,
    TOO_LARGE,
    TOO_SLOW,
    Reply,
    lines_and_body,
    reply_to_refused,
    request_id_from,
    response_of,
)
from router.contract.respond import reply_to_error, request_id_of, respond, respond_to_error
from router.delivery.forwarder import Forwarder
from router.delivery.memory import Outcome
from router.delivery.observer import Observer, ReplyInfo
from router.model.errors import Refused
from router.model.event import Event, OutboundEvent
from router.net.access import Access
from router.net.http.exchange import EXTENSION, Exchange
from router.net.loops import Gone, RestingReader
from router.routing.table import Plan

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
            self.gone: Gone = exchange.gone
            if receive == exchange.receive:
                self.whole = exchange.body
        else:
            self.gone = asyncio.get_running_loop().create_future()

    @property
    def told(self) -> ReplyInfo:
        code = self.replied.code if self.replied else ""
        return ReplyInfo(self.request_id, code, self.seconds)

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
            self.gone.set_result(None)

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


#: The most routers that an event may have come through: one may be the target of another, but one
#: that is its own target, or that of its target, would send it for ever.
MAX_HOPS = 3


class Callbacks:
    """What POSTs to the callback path are handled by: an ASGI application, called when the head of
    a request is there. What is refused by it has none of its body read."""

    def __init__(
        self,
        config: Config,
        access: Access,
        intake: Intake,
        observer: Observer,
        *,
        max_body: int,
        max_requests: int,
    ) -> None:
        #: The configuration in force; a request keeps the one it started with.
        self.config = config
        self.access = access
        self._intake = intake
        #: Reads and matches what would hold up the loop.
        self._reader = RestingReader()
        #: None until the store has been opened.
        self.forwarder: Forwarder | None = None
        self._observer = observer
        self.max_body = max_body
        self._max_requests = max_requests
        #: Requests from their last byte on, until they are decided: bodies that trickle in take up
        #: no place, and the connections bound what they may hold.
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one callback, and return when its last attempt is over and logged."""
        call, config = Call(scope, receive, send), self.config
        handled = await self._answer(call, config)
        if handled is None:
            return
        plan, outcome = handled
        try:
            await self._opened.wait_for_late_attempts(outcome)
        except Exception as error:  # noqa: BLE001 - its event still gets its line
            self._observer.fault(call.request_id, error)
        self._observer.event(call.told, plan, outcome)

    async def _answer(self, call: Call, config: Config) -> tuple[Plan, Outcome] | None:
        """Reply to one callback; None where nothing was forwarded."""
        try:
            self._admit(call)
            body = call.whole
            if body is None:
                body = await call.body(self.max_body)
            return await self._take(call, body, config)
        except HungUp:
            self._observer.hung_up(call.request_id)
        except Refused as error:
            await _reply(call, reply_to_refused(error), config)
            self._observer.refused(call.told, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self._observer.fault(call.request_id, error)
            await _reply(call, FAILED, config)
        finally:
            call.close()
        return None

    def _admit(self, call: Call) -> None:
        """Raises Refused for whom a request comes from, or for what is wrong with its head."""
        denial = self.access.denial(call.peer, call.fields)
        if denial is not None:
            reply = NO_TOKEN if denial.is_token else FORBIDDEN
            caller = self.access.caller(call.peer, call.fields)
            raise Refused(reply.code, reply.msg, denial, caller=str(caller or "unknown"))
        if b"content-encoding" in call.named and not _is_plain(call.fields):
            raise refused(ENCODED, "a content-encoding")
        if call.hops > MAX_HOPS:
            raise refused(LOOPING, f"it has come through more than {MAX_HOPS} routers")
        if int(call.named.get(b"content-length", 0)) > self.max_body:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return refused(TOO_LARGE, f"a body of more than {self.max_body} bytes")

    async def _take(self, call: Call, body: bytes, config: Config) -> tuple[Plan, Outcome] | None:
        """Decide and reply. A callback takes up a place from its body's end until then."""
        self.in_flight += 1
        try:
            if self.in_flight > self._max_requests:
                raise refused(BUSY, "too many requests in flight")
            if len(body) > self.max_body:
                raise self._too_large()
            event = self._intake.read_at_once(body)
            if event is None:
                event = await self._reader.do(self._intake.read, body)
            plan = config.table.match_at_once(event)
            if plan is None:
                plan = await self._reader.do(config.table.match, event)
            if plan.routes:
                outcome = await self._forward(call, event, plan, config)
                if not call.gone.done():
                    try:
                        await _reply(call, reply_to(outcome), config)
                    except Exception as error:  # noqa: BLE001 - it is seen through all the same
                        call.replied = None  # for all that is known
                        self._observer.fault(call.request_id, error)
                return plan, outcome
            accepted = config.unmatched == "accept"
            await _reply(call, ACKNOWLEDGED if accepted else FAILED, config)
            self._observer.unmatched(call.told, event)
            return None
        finally:
            self.in_flight -= 1

    def _forward(self, call: Call, event: Event, plan: Plan, config: Config) -> Awaitable[Outcome]:
        """Send it to all of its targets. Raises Refused where that must not begin."""
        deadline = call.started + config.ebaas.reply_within
        if time.monotonic() >= deadline:
            # Targets would get it, and there is no time left to answer for it, or to record it.
            raise refused(TOO_SLOW, "the request took longer than reply_within")
        return self._opened.forward(
            OutboundEvent.of(event, call.request_id, *call.trace, call.hops),
            plan,
            config.table.targets,
            config.terms,
            deadline=deadline,
            gone=call.gone,
        )

    @property
    def _opened(self) -> Forwarder:
        """Raises Refused where the store has not been opened: who is owed what can't be known."""
        if self.forwarder is None:
            raise refused(NOT_OPEN, "the store has not been opened yet")
        return self.forwarder


def reply_to(outcome: Outcome) -> Reply:
    """`000` only when every required target has acknowledged and nothing is left that is not
    durable; targets are never named."""
    return ACKNOWLEDGED if outcome.settled else FAILED


def _is_plain(fields: list[tuple[bytes, bytes]]) -> bool:
    """Whether no header says that the body is encoded."""
    said = [value.lower() for name, value in fields if name == b"content-encoding"]
    return all(each in (b"", b"identity") for each in said)


def _reply(call: Call, reply: Reply, config: Config) -> Awaitable[None]:
    """`http_status: ok` is for callers that can't read a body beside an error status. A router can,
    and has to know that it sends in a loop."""
    is_ok = config.ebaas.http_status == "ok" and reply != LOOPING
    return call.reply(reply, 200 if is_ok else reply.status)


class Probes:
    """`/livez`: the process answers. `/readyz`: it takes callbacks."""

    def __init__(self) -> None:
        self.ready = False
        #: The store is not open yet.
        self.opening = True

    async def live(self, request: Request) -> Response:
        return respond(ACKNOWLEDGED, request_id_of(request))

    async def readiness(self, request: Request) -> Response:
        unready = NOT_OPEN if self.opening else BUSY
        return respond(ACKNOWLEDGED if self.ready else unready, request_id_of(request))


_WHY: Final = {404: "no such path", 405: "no such method there"}


def routes(path: str, callbacks: ASGIApp, probes: Probes) -> list[Route]:
    """Each path by its whole name: `/callback/` is another than `/callback`."""
    made = [
        Route(path, callbacks, methods=["POST"], name="callback"),
        Route("/livez", probes.live, methods=["GET"]),
        Route("/readyz", probes.readiness, methods=["GET"]),
    ]
    for route in made:
        # Starlette's own ends with `$`, before which there may be a line break.
        route.path_regex = re.compile(re.escape(route.path) + r"\Z")
    return made


class Straight:
    """A callback goes straight to its endpoint, past Starlette's router and exception handlers,
    which it has no need of. They would cost it some 8 µs, one part in twenty."""

    def __init__(self, app: ASGIApp, path: str, callbacks: ASGIApp) -> None:
        self._app = app
        self._path = path
        self._callbacks = callbacks

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_whole = scope["type"] == "http" and not scope.get("root_path")
        if is_whole and scope["method"] == "POST" and scope["path"] == self._path:
            return self._callbacks(scope, receive, send)
        return self._app(scope, receive, send)


class Refusals:
    """What is answered where Starlette would answer itself."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    @property
    def handlers(self) -> dict[type[Exception], ExceptionHandler]:
        return {HTTPException: self._refuse, Exception: self._fail}

    async def _refuse(self, request: Request, error: Exception) -> Response:
        # Neither path nor method is repeated: a path may hold a secret.
        assert isinstance(error, HTTPException)
        reply, request_id = reply_to_error(error), request_id_of(request)
        why = _WHY.get(reply.status, f"status {reply.status}, by a middleware")
        self._observer.refused(ReplyInfo(request_id, reply.code, 0.0), refused(reply, why))
        return respond_to_error(error, request_id)

    async def _fail(self, request: Request, _: Exception) -> Response:
        """A fault in a middleware; Starlette raises it on, and the server has it logged."""
        return respond(FAILED, request_id_of(request))
