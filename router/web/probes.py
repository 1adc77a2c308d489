"""Probes, and what no application takes: in the contract's JSON, whatever the status."""

from __future__ import annotations

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from router.web import replies
from router.web.replies import ACKNOWLEDGED, BUSY, NOT_OPEN, Reply, body_of, request_id_from


class Probes:
    """`/livez`: the process answers. `/readyz`: it takes callbacks."""

    def __init__(self) -> None:
        self.ready = False
        #: The store is not open yet.
        self.opening = True

    async def live(self, request: Request) -> Response:
        return respond(request, ACKNOWLEDGED)

    async def readiness(self, request: Request) -> Response:
        if self.ready:
            return respond(request, ACKNOWLEDGED)
        return respond(request, NOT_OPEN if self.opening else BUSY)


def respond(request: Request, reply: Reply) -> Response:
    """A reply of the contract to any request that is no callback."""
    given = request.headers.get("x-request-id", "").encode("latin-1") or None
    body = body_of(reply, request_id_from(given))
    return Response(body, reply.status, media_type="application/json")


async def http_error(request: Request, error: Exception) -> Response:
    """What Starlette's router refuses: no such path, no such method there."""
    assert isinstance(error, HTTPException)
    response = respond(request, replies.BY_STATUS.get(error.status_code, replies.FAILED))
    response.headers.update(error.headers or {})
    return response
