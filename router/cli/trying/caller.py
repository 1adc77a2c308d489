"""EBaaS as the router meets it: POSTs one body and takes the reply's code at its word."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from router.cli.printing import milliseconds
from router.cli.trying.request import Request
from router.contract.strictjson import Unreadable, parse_json
from router.model.event import SUCCESS, Reason
from router.transport.engine import Answer, Failure, Pool, as_it_came, lines_of

#: The most that is shown of a text that the other side chose, in characters.
_MAX_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Response:
    """How one request ended, as its caller sees it."""

    seconds: float
    #: The HTTP status, where one came.
    status: int | None = None
    #: The contract's code, `""` where none came.
    code: str = ""
    msg: str = ""
    request_id: str = ""
    #: One word for why no code came; more of it for people.
    reason: str = ""
    detail: str = ""
    #: Who was to send it, where nothing came: a URL without its path, which may be a secret.
    origin: str = ""

    @property
    def success(self) -> bool:
        return self.code == SUCCESS

    @property
    def word(self) -> str:
        """The code, or the reason why there is none: what replies are counted by."""
        return self.code or self.reason

    def __str__(self) -> str:
        facts = [f"code {self.code}" if self.code else f"no contract reply: {self.reason}"]
        facts += [text for text in (self.msg, self.detail, self.origin) if text]
        if self.request_id:
            facts.append(f"request_id {self.request_id}")
        if self.status is not None:
            facts.append(f"HTTP {self.status}")
        return ", ".join((*facts, f"{milliseconds(self.seconds)} ms"))

    def as_json(self) -> dict[str, Any]:
        return {
            "code": self.code or None,
            "msg": self.msg or None,
            "request_id": self.request_id or None,
            "status": self.status,
            "reason": self.reason or None,
            "detail": self.detail or None,
            "ms": milliseconds(self.seconds),
        }


class Ebaas:
    """Sends the same request as often as it is told to."""

    def __init__(self, pool: Pool, request: Request) -> None:
        self._pool = pool
        self._request = request
        self._lines = lines_of(request.headers)
        self._webhook_id = dict(request.headers).get(b"webhook-id", b"")

    async def call(self) -> Response:
        """One request and its reply; whatever goes wrong is a Response too."""
        started = time.perf_counter()
        request, lines = self._request, self._lines + self._signature()
        result = await self._pool.post(lines, request.body, request.timeout, as_it_came)
        seconds = time.perf_counter() - started
        if isinstance(result, Failure):
            origin = _origin(request.url) if result.status is None else ""
            return Response(
                seconds, result.status, reason=result.reason, detail=result.detail, origin=origin
            )
        return _read(result, seconds)

    def _signature(self) -> bytes:
        """The headers that each request has anew; none where it is not to be signed."""
        signer, body = self._request.signer, self._request.body
        if signer is None:
            return b""
        stamp = b"%d" % time.time()
        signature = signer.sign(self._webhook_id, stamp, body)
        return lines_of(((b"webhook-timestamp", stamp), (b"webhook-signature", signature)))


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read(answer: Answer, seconds: float) -> Response:
    try:
        told = parse_json(answer.body)
    except Unreadable as error:
        return Response(seconds, answer.status, reason=Reason.NOT_JSON, detail=str(error))
    if not isinstance(told, dict):
        return Response(seconds, answer.status, reason=Reason.NOT_JSON, detail="no JSON object")
    code = told.get("code")
    if not isinstance(code, str) or not code:
        return Response(
            seconds, answer.status, reason=Reason.CODE, detail="no code that is a string"
        )
    return Response(
        seconds,
        answer.status,
        _shown(code),
        _shown(told.get("msg")),
        _shown(told.get("request_id")),
    )


def _shown(text: object) -> str:
    return text[:_MAX_SHOWN] if isinstance(text, str) else ""
