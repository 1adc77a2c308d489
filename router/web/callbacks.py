"""The callback port: callbacks, probes, paths and refusals."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, TypeVar

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
    NOT_FOUND,
    NOT_OPEN,
    TOO_LARGE,
    TOO_SLOW,
    WRONG_METHOD,
    Reply,
    lines_of,
    request_id_from,
    response_of,
)
from router.delivery.forwarder import Forwarder
from router.delivery.memory import Outcome
from router.delivery.observer import Observer, ReplyInfo
from router.model.errors import Refused
from router.model.event import Event, OutboundEvent
from router.net.access import Access, Denial
from router.net.http.exchange import EXTENSION, Exchange
from router.net.loops import Gone, RestingReader
from router.routing.table import Plan

T = TypeVar("T")
R = TypeVar("R")

#: A W3C `traceparent` of version 00; an all-zero trace or parent is invalid.
_TRACEPARENT: Final = re.compile(rb"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

#: A `tracestate`; a longer one need not be passed on.
_STATE: Final = re.compile(rb"[\x20-\x7e]{0,512}")

#: A valid `x-ebaas-hops`; any other value counts as too many.
_HOPS: Final = re.compile(rb"[0-9]{1,2}")

#: The most routers that an event may have come through. A router may be the target of another, but
#: in a circle they would send it for ever.
MAX_HOPS: Final = 3

#: The largest body of a callback, in bytes. A larger one gets 413.
MAX_BODY: Final = 1024 * 1024


class HungUp(Exception):
    """The caller has gone, or was refused, before its request was complete."""


class Call:
    """A request and its only reply."""

    __slots__ = (
        *("_exchange", "_listening", "_receive", "_send", "fields", "gone"),
        *("named", "hops", "peer", "replied", "request_id", "seconds", "started", "whole"),
    )

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.started = time.monotonic()
        self._receive = receive
        self._send = send
        #: The headers in their order; names in lower case.
        self.fields: list[tuple[bytes, bytes]] = scope["headers"]
        #: The headers by name; the last one of several.
        self.named = dict(self.fields)
        client = scope.get("client")
        #: The address of the connection.
        self.peer: str = client[0] if client else ""
        self.request_id = request_id_from(self.named.get(b"x-request-id"))
        #: The number of routers that the event came through; each sends `x-ebaas-target`.
        self.hops = _hops(self.named) if b"x-ebaas-target" in self.named else 0
        #: The reply, None until it is sent, and the time from the head to it or to the hang-up, in
        #: seconds.
        self.replied: Reply | None = None
        self.seconds = 0.0
        #: Waits for the hang-up, if the server is not our own.
        self._listening: asyncio.Task[None] | None = None
        #: The body, if it has arrived and no middleware changes it.
        self.whole: bytes | None = None
        exchange: Exchange | None = scope.get("extensions", {}).get(EXTENSION)
        self._exchange = exchange
        if exchange is not None:
            exchange.request_id = self.request_id
            #: Done once the caller has hung up.
            self.gone: Gone = exchange.gone
            if receive == exchange.receive:
                self.whole = exchange.body
        else:
            self.gone = asyncio.get_running_loop().create_future()

    @property
    def reply_info(self) -> ReplyInfo:
        code = self.replied.code if self.replied else ""
        return ReplyInfo(self.request_id, code, self.seconds)

    @property
    def trace(self) -> tuple[str, str]:
        """The caller's `traceparent` and `tracestate`; `""` if missing or invalid, and both if the
        first is."""
        given = self.named.get(b"traceparent")
        if not given or not _TRACEPARENT.fullmatch(given):
            return "", ""
        if b"tracestate" not in self.named:
            return given.decode("ascii"), ""
        state = b",".join([value for name, value in self.fields if name == b"tracestate" and value])
        return given.decode("ascii"), state.decode("ascii") if _STATE.fullmatch(state) else ""

    async def body(self, limit: int) -> bytes:
        """Read the body, at most until it is longer than `limit`. Raises HungUp."""
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
        """Wait for the hang-up: the request is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self.gone.done():
            self.gone.set_result(None)

    async def reply(self, reply: Reply, status: int) -> None:
        """Send the contract's reply, unless one was sent before."""
        if self.replied is not None:
            return
        self.close()
        self.replied = reply
        exchange = self._exchange
        headers, body = response_of(reply, self.request_id)
        if exchange is not None and self._send == exchange.send:  # no middleware in between
            exchange.respond(status, lines_of(headers), body)
        else:
            start = {"type": "http.response.start", "status": status, "headers": headers}
            with suppress(OSError):  # some servers raise it if the caller has gone
                await self._send(start)
                await self._send({"type": "http.response.body", "body": body})
        self.seconds = time.monotonic() - self.started

    def close(self) -> None:
        """Stop waiting for the hang-up."""
        if self._listening is not None:
            self._listening.cancel()


def _hops(named: dict[bytes, bytes]) -> int:
    value = named.get(b"x-ebaas-hops", b"0")
    return 1 + int(value) if _HOPS.fullmatch(value) else 1 + MAX_HOPS


class Callbacks:
    """The ASGI application for POSTs to the callback path, called once the head of a request is
    complete. A request that its head alone refuses is refused without reading its body."""

    def __init__(
        self, config: Config, access: Access, intake: Intake, observer: Observer, max_requests: int
    ) -> None:
        #: The configuration for new requests; a request keeps the one it started with.
        self.config = config
        self.access = access
        self._intake = intake
        #: Reads and matches in a thread what would block the loop.
        self._reader = RestingReader()
        #: None until the store has been opened.
        self.forwarder: Forwarder | None = None
        self._observer = observer
        self.max_body = MAX_BODY
        self._max_requests = max_requests
        #: Complete requests, until their reply is sent; late attempts do not count. Bodies on their
        #: way in do not count either: the connections bound those.
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one callback, and return when its last attempt has ended and is logged."""
        call, config = Call(scope, receive, send), self.config
        handled = await self._answer(call, config)
        if handled is None:
            return
        plan, outcome = handled
        try:
            await self._opened.wait_for_late_attempts(outcome)
        except Exception as error:  # noqa: BLE001 - the event is logged all the same
            self._observer.fault(call.request_id, error)
        self._observer.event(call.reply_info, plan, outcome)

    async def _answer(self, call: Call, config: Config) -> tuple[Plan, Outcome] | None:
        """Reply to one callback; return None if nothing was forwarded."""
        body = call.whole
        try:
            self._admit(call)
            if body is None:
                body = await call.body(self.max_body)
            return await self._take(call, body, config)
        except HungUp:
            self._observer.hung_up(call.request_id)
        except Refused as error:
            await _reply(call, Reply(error.code, error.msg), config)
            self._observer.refused(call.reply_info, error, body)
        except Exception as error:  # noqa: BLE001 - any fault is logged and answered
            self._observer.fault(call.request_id, error)
            await _reply(call, FAILED, config)
        finally:
            call.close()
        return None

    def _admit(self, call: Call) -> None:
        """Raises Refused for a caller that is not admitted, or for a head that is not accepted."""
        denial = self.access.denial(call.peer, call.fields)
        if denial is not None:
            reply = NO_TOKEN if denial in (Denial.MISSING, Denial.WRONG) else FORBIDDEN
            caller = self.access.caller(call.peer, call.fields)
            raise reply.refusal(denial, caller=str(caller or "unknown"))
        if b"content-encoding" in call.named and any(
            name == b"content-encoding" and value.lower() not in (b"", b"identity")
            for name, value in call.fields
        ):
            raise ENCODED.refusal("a content-encoding")
        if call.hops > MAX_HOPS:
            raise LOOPING.refusal(f"it has come through more than {MAX_HOPS} routers")
        if int(call.named.get(b"content-length", 0)) > self.max_body:
            raise self._too_large()

    def _too_large(self) -> Refused:
        return TOO_LARGE.refusal(f"a body of more than {self.max_body} bytes")

    async def _take(self, call: Call, body: bytes, config: Config) -> tuple[Plan, Outcome] | None:
        """Read, forward and reply to a complete callback."""
        self.in_flight += 1
        try:
            if self.in_flight > self._max_requests:
                raise BUSY.refusal("too many requests in flight")
            if len(body) > self.max_body:
                raise self._too_large()
            event = self._intake.read_at_once(body)
            if event is None:
                event = await self._in_thread(call, config, self._intake.read, body)
            plan = config.table.match_at_once(event)
            if plan is None:
                plan = await self._in_thread(call, config, config.table.match, event)
            if not plan.routes:
                accepted = config.unmatched == "accept"
                await _reply(call, ACKNOWLEDGED if accepted else FAILED, config)
                self._observer.unmatched(call.reply_info, event)
                return None
            outcome = await self._forward(call, event, plan, config)
            if call.gone.done():
                call.seconds = time.monotonic() - call.started
                return plan, outcome
            try:
                await _reply(call, reply_to(outcome), config)
            except Exception as error:  # noqa: BLE001 - attempts still go on
                call.replied = None  # as far as is known
                self._observer.fault(call.request_id, error)
            return plan, outcome
        finally:
            self.in_flight -= 1

    async def _in_thread(self, call: Call, config: Config, work: Callable[[T], R], of: T) -> R:
        """Raises Refused as soon as it is too late, however many others are being read before."""
        left = call.started + config.ebaas.reply_within - time.monotonic()
        try:
            return await self._reader.do(work, of, within=left)
        except TimeoutError:
            raise _too_late() from None

    def _forward(self, call: Call, event: Event, plan: Plan, config: Config) -> Awaitable[Outcome]:
        """Send the event to all of its targets. Raises Refused if it is too late for that."""
        deadline = call.started + config.ebaas.reply_within
        if time.monotonic() >= deadline:
            # Targets would get it, but there would be no time to record it or to reply.
            raise _too_late()
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
        """Raises Refused while the store is not open: earlier attempts are unknown."""
        if self.forwarder is None:
            raise NOT_OPEN.refusal("the store has not been opened yet")
        return self.forwarder


def _too_late() -> Refused:
    return TOO_SLOW.refusal("the request took longer than reply_within")


def reply_to(outcome: Outcome) -> Reply:
    """`000` only if every required target has acknowledged, and every other delivery is
    acknowledged or durable. The reply names no target."""
    return ACKNOWLEDGED if outcome.settled else FAILED


def _reply(call: Call, reply: Reply, config: Config) -> Awaitable[None]:
    """Send the reply; `http_status: ok` is for callers that read no body with an error status. A
    router must see the status of a loop."""
    is_ok = config.ebaas.http_status == "ok" and reply != LOOPING
    return call.reply(reply, 200 if is_ok else reply.status)


class Probes:
    """`/livez`: the process runs. `/readyz`: it accepts callbacks."""

    def __init__(self) -> None:
        self.ready = False
        #: True until the store has been opened.
        self.opening = True

    async def live(self, request: Request) -> Response:
        return _response(ACKNOWLEDGED, _request_id(request))

    async def readiness(self, request: Request) -> Response:
        unready = NOT_OPEN if self.opening else BUSY
        return _response(ACKNOWLEDGED if self.ready else unready, _request_id(request))


def routes(path: str, callbacks: ASGIApp, probes: Probes) -> list[Route]:
    """Return the routes, each for its exact path: `/callback/` is not `/callback`."""
    made = [
        Route(path, callbacks, methods=["POST"], name="callback"),
        Route("/livez", probes.live, methods=["GET"]),
        Route("/readyz", probes.readiness, methods=["GET"]),
    ]
    made[0].app = callbacks  # Starlette would call a function with a Request
    for route in made:
        # Starlette's own pattern ends with `$`, which also matches before a line break.
        route.path_regex = re.compile(re.escape(route.path) + r"\Z")
    return made


class Straight:
    """Takes callbacks straight to their endpoint. Starlette's router and exception handlers would
    cost 8 µs, one part in twenty."""

    def __init__(self, app: ASGIApp, path: str, callbacks: ASGIApp) -> None:
        self._app = app
        self._path = path
        self._callbacks = callbacks

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        is_http = scope["type"] == "http"
        if is_http and scope["method"] == "POST" and scope["path"] == self._path:
            return self._callbacks(scope, receive, send)
        return self._app(scope, receive, send)


#: The replies to requests that Starlette's router refuses, and the cause for the log.
_UNROUTED: Final = {
    404: (NOT_FOUND, "no such path"),
    405: (WRONG_METHOD, "no such method there"),
}


def refusals(observer: Observer) -> dict[type[Exception], ExceptionHandler]:
    """Return the handlers that give the contract's replies instead of Starlette's own."""

    async def refuse(request: Request, error: Exception) -> Response:
        """Reply to a request that Starlette or a middleware refuses, with its headers."""
        # Neither path nor method is repeated: a path may contain a secret.
        assert isinstance(error, HTTPException)
        status, request_id = error.status_code, _request_id(request)
        other = Reply(str(status), FAILED.msg), f"status {status}, by a middleware"
        reply, why = _UNROUTED.get(status, other)
        observer.refused(ReplyInfo(request_id, reply.code, 0.0), reply.refusal(why))
        response = _response(reply, request_id)
        for name, value in (error.headers or {}).items():
            # Starlette lists methods in no fixed order.
            response.headers[name] = ", ".join(sorted(value.split(", ")))
        return response

    async def fail(request: Request, _: Exception) -> Response:
        """Reply to a fault in a middleware; Starlette raises it, and the server logs it."""
        return _response(FAILED, _request_id(request))

    return {HTTPException: refuse, Exception: fail}


def _request_id(request: Request) -> str:
    return request_id_from(request.headers.get("x-request-id", "").encode("latin-1"))


def _response(reply: Reply, request_id: str) -> Response:
    headers, body = response_of(reply, request_id)
    response = Response(body, reply.status)
    response.raw_headers = headers
    return response
