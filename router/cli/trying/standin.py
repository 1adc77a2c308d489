"""A stand-in for a business endpoint: answers, delays and fails to order."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from router.contract.replies import (
    ACKNOWLEDGED,
    FAILED,
    TOO_LARGE,
    WRONG_METHOD,
    Reply,
    body_of,
    request_id_from,
)
from router.contract.strictjson import CALLBACK, Unreadable, parse_json
from router.model.event import FIELDS, SUCCESS

#: The largest body that is read, in bytes: what any router in front of it may let through.
MAX_BODY = 16 * 1024 * 1024

#: HTTP statuses that come without a body.
_BODILESS = frozenset({204, 205, 304})

_NOT_JSON = Reply("400", "请求体应为JSON")
_NOT_TRUSTED = Reply("401", "签名无效")

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

#: Says of a request's headers and body why it is not to be trusted; `""` where it is.
Distrust = Callable[[Mapping[str, str], bytes], str]


@dataclass(frozen=True, slots=True)
class Received:
    """One request as it came, and what it is answered."""

    method: str
    path: str
    #: By names in lower case; what came more than once is joined, as HTTP would have it.
    headers: Mapping[str, str]
    #: Whole, but for one that is larger than MAX_BODY.
    body: bytes
    #: The body's own or derived key, `""` where it has none.
    event_key: str
    status: int
    code: str
    #: Why it is not trusted, `""` where it is; None where nobody has looked.
    distrusted: str | None = None


class StandIn:
    """An ASGI application that answers every POST of JSON, on any path, as it was ordered to.

    It checks nothing else of the contract: what a real endpoint would refuse is its team's say.
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
        """`msg` is by default the page's own for success and for failure.

        The first `fail_first` requests, and then a share of `fail_rate` of them, chosen by `seed`,
        are answered with code and status 500, and what `distrust` gives a cause for with 401.
        `on_request` hears of each request once it has come whole, before the delay of `delay`
        seconds.
        """
        usual = ACKNOWLEDGED if code == SUCCESS else FAILED
        self._reply = Reply(code, msg or usual.msg)
        self._status = status
        self._delay = delay
        self._failures_left = fail_first
        #: How many requests of a body are still to fail.
        self._failing: Counter[bytes] = Counter()
        self._fail_rate = fail_rate
        self._random = random.Random(seed)
        self._distrust = distrust
        self._on_request = on_request
        #: How many requests were answered with each code, and the status where it says otherwise.
        self.answered: Counter[str] = Counter()

    def fail(self, body: bytes, times: int) -> None:
        """Answer the next so many requests of this body with code and status 500."""
        self._failing[body] += times

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        body = await _body(receive)
        if body is None:
            return
        is_json, event_key = read_event(body)
        headers = _headers(scope)
        distrusted = None if self._distrust is None else self._distrust(headers, body)
        reply, status = self._decide(scope["method"], body, is_json, distrusted)
        received = Received(
            method=scope["method"],
            path=scope["path"],
            headers=headers,
            body=body,
            event_key=event_key,
            status=status,
            code=reply.code,
            distrusted=distrusted,
        )
        is_told = (reply.code == SUCCESS) == (status < 300)
        self.answered[reply.code if is_told else f"{reply.code} with HTTP {status}"] += 1
        self._on_request(received)
        await asyncio.sleep(self._delay)
        request_id = request_id_from(headers.get("x-request-id", "").encode("latin-1"))
        await _answer(send, status, body_of(reply, request_id))

    def _decide(
        self, method: str, body: bytes, is_json: bool, distrusted: str | None
    ) -> tuple[Reply, int]:
        """The reply and its HTTP status, which `status` may have parted."""
        if method != "POST":
            return WRONG_METHOD, WRONG_METHOD.status
        if len(body) > MAX_BODY:
            return TOO_LARGE, TOO_LARGE.status
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


async def _body(receive: _Receive) -> bytes | None:
    """The whole body, or as much as shows that it is too large; None where the caller went away."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if not message.get("more_body", False) or len(body) > MAX_BODY:
            return bytes(body)


async def _answer(send: _Send, status: int, body: bytes) -> None:
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode("ascii")),
    ]
    if status in _BODILESS:
        headers, body = [], b""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _headers(scope: _Message) -> dict[str, str]:
    joined: dict[str, str] = {}
    for pair in scope["headers"]:
        name, text = (each.decode("latin-1") for each in pair)
        joined[name] = f"{joined[name]}, {text}" if name in joined else text
    return joined


def read_event(body: bytes) -> tuple[bool, str]:
    """Whether it is JSON, and its key: its own, or the one that its four fields make; `""` where it
    has none."""
    try:
        event = parse_json(body, CALLBACK)
    except Unreadable:
        return False, ""
    if not isinstance(event, dict):
        return True, ""
    *four, own = (event.get(name) for name in FIELDS)
    if own and isinstance(own, str):
        return True, own
    return True, ".".join(map(str, four)) if all(isinstance(each, str) for each in four) else ""
