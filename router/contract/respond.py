"""The contract's replies as Starlette responses, also for Starlette's own errors."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from router.contract.replies import (
    FAILED,
    NOT_FOUND,
    WRONG_METHOD,
    Reply,
    request_id_from,
    response_of,
)

#: The replies to requests that Starlette's router refuses.
_REFUSED = {404: NOT_FOUND, 405: WRONG_METHOD}


def request_id_of(request: Request) -> str:
    return request_id_from(request.headers.get("x-request-id", "").encode("latin-1"))


def respond(reply: Reply, request_id: str) -> Response:
    """The response of a reply."""
    headers, body = response_of(reply, request_id)
    response = Response(body, reply.status)
    response.raw_headers = headers
    return response


def reply_to_error(error: HTTPException) -> Reply:
    return _REFUSED.get(error.status_code) or Reply(str(error.status_code), FAILED.msg)


def respond_to_error(error: HTTPException, request_id: str) -> Response:
    """The response to a request that Starlette or a middleware refuses, with its headers."""
    response = respond(reply_to_error(error), request_id)
    for name, value in (error.headers or {}).items():
        # Starlette lists methods in no fixed order.
        response.headers[name] = ", ".join(sorted(value.split(", ")))
    return response
