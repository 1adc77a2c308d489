"""A stand-in for a business endpoint, whose answers, delays and failures can be chosen."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from router.cli.trying.request import read_event
from router.contract.replies import (
    ACKNOWLEDGED,
    FAILED,
    WRONG_METHOD,
    Reply,
    body_of,
    request_id_from,
)
from router.model.event import SUCCESS

#: HTTP statuses whose answers have no body.
_BODILESS = frozenset({204, 205, 304})

_NOT_JSON = Reply("400", "请求体应为JSON")
_NOT_TRUSTED = Reply("401", "签名无效")

#: Returns why a request with these headers and this body is not trusted; `""` if it is.
Distrust = Callable[[Mapping[str, str], bytes], str]


@dataclass(frozen=True, slots=True)
class Received:
    """A request and its answer."""

    method: str
    path: str
    #: By name in lower case; several headers of one name are joined.
    headers: Mapping[str, str]
    body: bytes
    #: Given or derived; `""` if there is none.
    event_key: str
    status: int
    code: str
    #: Why it is not trusted, `""` if it is; None if signatures are not verified.
    distrusted: str | None = None


class StandIn:
    """An ASGI application that answers every POST of JSON, on any path.

    It does not validate events against the contract.
    """

    def __init__(
        self,
        *,
        code: str = SUCCESS,
        status: int = 200,
        msg: str = "",
        delay: float = 0.0,
        fail_first: int = 0,
        fail_rate: float = 0.0,
        seed: int | None = None,
        distrust: Distrust | None = None,
        on_request: Callable[[Received], None] = lambda _: None,
    ) -> None:
        """The default of `msg` is the platform page's message for success or failure.

        The first `fail_first` requests, and then a random share of `fail_rate`, fail with code and
        status 500. `on_request` is called before the `delay`, which is in seconds.
        """
        usual = ACKNOWLEDGED if code == SUCCESS else FAILED
        self._reply = Reply(code, msg or usual.msg)
        self._status = status
        self._delay = delay
        self._failures_left = fail_first
        #: How many requests with a body are still to fail.
        self._failing: Counter[bytes] = Counter()
        self._fail_rate = fail_rate
        self._random = random.Random(seed)
        self._distrust = distrust
        self._on_request = on_request
        #: The number of answers by code, and by the status if that says otherwise.
        self.answered: Counter[str] = Counter()

    def fail(self, body: bytes, times: int) -> None:
        """Fail the next so many requests with this body."""
        self._failing[body] += times

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        with suppress(ClientDisconnect):
            response = await self._answer(request, await request.body())
            await response(scope, receive, send)

    async def _answer(self, request: Request, body: bytes) -> Response:
        given = request.headers
        headers = {name: ", ".join(given.getlist(name)) for name in given}
        is_json, event_key = read_event(body)
        distrusted = None if self._distrust is None else self._distrust(headers, body)
        reply, status = self._decide(request.method, body, is_json, distrusted)
        agrees = (reply.code == SUCCESS) == (status < 300)
        self.answered[reply.code if agrees else f"{reply.code} with HTTP {status}"] += 1
        path, code = request.url.path, reply.code
        self._on_request(
            Received(request.method, path, headers, body, event_key, status, code, distrusted)
        )
        await asyncio.sleep(self._delay)
        if status in _BODILESS:
            return Response(status_code=status)
        request_id = request_id_from(headers.get("x-request-id", "").encode("latin-1"))
        return Response(body_of(reply, request_id), status, media_type="application/json")

    def _decide(
        self, method: str, body: bytes, is_json: bool, distrusted: str | None
    ) -> tuple[Reply, int]:
        """Return the reply and its HTTP status."""
        if method != "POST":
            return WRONG_METHOD, WRONG_METHOD.status
        if distrusted:
            return _NOT_TRUSTED, _NOT_TRUSTED.status
        if not is_json:
            return _NOT_JSON, _NOT_JSON.status
        if self._fails(body):
            return FAILED, FAILED.status
        return self._reply, self._status

    def _fails(self, body: bytes) -> bool:
        if self._failing[body] > 0:
            self._failing[body] -= 1
            return True
        if self._failures_left > 0:
            self._failures_left -= 1
            return True
        return self._random.random() < self._fail_rate
