"""The API as a Starlette application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from router.config.holders import PERMISSIONS, Permission, TokenHolder
from router.contract.schema import shipped_schema
from router.ops.answers import json_of, pieces_of
from router.ops.api import deliveries, events, refused, service, targets
from router.ops.api.endpoint import TEXT, Endpoint, Param, endpoint
from router.ops.api.view import ApiCall, ApiParts
from router.ops.problems import Rejected, problem
from router.ops.streams import Stream

#: Before every path of the API.
PREFIX = "/api/v1"

#: The largest body, in bytes.
_MAX_BODY = 1024 * 1024


@endpoint("GET", "/openapi.json", may=PERMISSIONS)
async def openapi(_: ApiCall) -> dict[str, Any]:
    """This description"""
    text = await asyncio.to_thread(shipped_schema("api.json").read_text, "utf-8")
    document: dict[str, Any] = json.loads(text)
    return document


#: All endpoints.
ENDPOINTS: tuple[Endpoint, ...] = (
    *(service.you, service.status, service.minutes, service.nodes, service.routes, service.explain),
    *(targets.targets, targets.target),
    *(targets.pauses, targets.pause_target, targets.resume_target),
    *(events.archive, events.events, events.event, events.stream, events.replay),
    *(refused.refused, refused.replay_refused),
    *(deliveries.deliveries, deliveries.actions, deliveries.outcome, *deliveries.ACTS),
    openapi,
)


def api_routes(parts: ApiParts, endpoints: Sequence[Endpoint] = ENDPOINTS) -> list[Route]:
    """Return the routes. A path without a name in it precedes a path with one."""
    routes = []
    for one in sorted(endpoints, key=lambda endpoint: bool(endpoint.names)):
        routes.append(Route(f"{PREFIX}{one.path}", serve(one, parts)))
        routes[-1].methods = {one.method}  # Starlette adds HEAD, but a stream has no end
    return routes


def app_for(holder: TokenHolder, parts: ApiParts) -> ASGIApp:
    """Return the API alone, for one holder: for a command, without a port in between."""
    app = Starlette(routes=api_routes(parts), exception_handlers={Rejected: problem})

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"holder": holder}}, receive, send)

    return call


def serve(endpoint: Endpoint, parts: ApiParts) -> Any:
    async def reply(request: Request) -> Response:
        call = await _call(endpoint, parts, request)
        answer = await endpoint.answer(call)
        if isinstance(answer, Stream):
            return _Streaming(answer)
        if callable(answer):
            asked = (endpoint.path, call.holder.owner, *call.given.values())
            is_shared = endpoint.method == "GET"
            work = lambda: json_of(answer())  # noqa: E731
            pieces = await parts.answers.make(call.who, asked if is_shared else None, work)
        else:
            pieces = await asyncio.to_thread(pieces_of, lambda: json_of(answer))
        return await parts.answers.reply(request, pieces)

    return reply


class _Streaming(StreamingResponse):
    """Closes the stream even if the client is gone before the first chunk."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream.chunks(), media_type="text/event-stream")
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()


async def _call(endpoint: Endpoint, parts: ApiParts, request: Request) -> ApiCall:
    """Authorize and parse a request. Raises Rejected."""
    holder: TokenHolder = request.state.holder
    _authorize(holder, endpoint.may)
    path = {name: Param(name, "", TEXT).parse([t]) for name, t in request.path_params.items()}
    if endpoint.method == "GET":
        given = endpoint.read_query(request.query_params.multi_items())
    else:
        # Beside the loop: a large body takes milliseconds.
        given = await parts.reader.do(endpoint.read_body, await _content(request))
    for param in endpoint.params:
        if param.needs and given[param.name]:
            _authorize(holder, [param.needs])
    return ApiCall(parts, holder, {**path, **given})


def _authorize(holder: TokenHolder, may: Sequence[Permission]) -> None:
    """Raise Rejected if the holder has none of the permissions."""
    if not holder.may.intersection(may):
        if holder.name is None:
            raise Rejected("no_tokens")
        raise Rejected("not_allowed", may=" or ".join(may))


async def _content(request: Request) -> bytes:
    """Return the body of a request. Raises Rejected.

    A page of another site can send a body unasked, but not with this type.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Rejected("wrong_type")
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > _MAX_BODY:
                raise Rejected("large_body", kib=_MAX_BODY // 1024)
    except ClientDisconnect:
        raise Rejected("broken_body") from None
    return bytes(content)
