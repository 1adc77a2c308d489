"""The API as a Starlette application, and its OpenAPI description."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from router import __version__
from router.config.holders import PERMISSIONS, Permission, TokenHolder
from router.ops.api import deliveries, events, refused, replay, service, targets
from router.ops.api.endpoint import (
    TEXT,
    ApiCall,
    Endpoint,
    EventStream,
    JsonSchema,
    Param,
    endpoint,
    schema_of,
)
from router.ops.api.parts import ApiParts
from router.ops.api.view import View
from router.ops.guard import problem
from router.ops.problems import ProblemView, Rejected

#: Before every path of the API.
PREFIX = "/api/v1"

#: The largest body, in bytes.
_MAX_BODY = 1024 * 1024


@endpoint("GET", "/openapi.json", may=PERMISSIONS)
async def openapi(_: ApiCall) -> dict[str, Any]:
    """This description"""
    return described()


#: All endpoints.
ENDPOINTS: tuple[Endpoint, ...] = (
    *(service.you, service.status, service.minutes, service.nodes, service.routes, service.explain),
    *(targets.targets, targets.target),
    *(targets.pauses, targets.pause_target, targets.resume_target),
    *(events.archive, events.events, events.event, events.stream, replay.replay),
    *(refused.refused, refused.replay_refused),
    *(deliveries.deliveries, deliveries.actions, deliveries.dossier, *deliveries.ACTS),
    openapi,
)


def api_routes(parts: ApiParts, endpoints: Sequence[Endpoint] = ENDPOINTS) -> list[Route]:
    """Return the routes. A path without a name in it precedes a path with one."""
    return [
        Route(f"{PREFIX}{endpoint.path}", _serve(endpoint, parts), methods=[endpoint.method])
        for endpoint in sorted(endpoints, key=lambda endpoint: bool(endpoint.names))
    ]


def app_for(holder: TokenHolder, parts: ApiParts) -> ASGIApp:
    """Return the API alone, for one holder: for a command, without a port in between."""
    app = Starlette(routes=api_routes(parts))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"holder": holder}}, receive, send)

    return serve


def _serve(endpoint: Endpoint, parts: ApiParts) -> Any:
    async def serve(request: Request) -> Response:
        try:
            answer = await endpoint.answer(await _call(endpoint, parts, request))
        except Rejected as error:
            return problem(error)
        if isinstance(answer, AsyncGenerator):
            if request.method == "HEAD":  # the stream has no end
                await answer.aclose()
                return Response(media_type="text/event-stream")
            return _Streaming(answer, media_type="text/event-stream")
        content = await asyncio.to_thread(to_json, answer)
        return Response(content, media_type="application/json")

    return serve


def to_json(answer: Any) -> str:
    """Return an answer as JSON, encoded value by value: an encoder that is called once for all does
    not release the interpreter."""
    return "".join(json.JSONEncoder(separators=(",", ":")).iterencode(answer))


class _Streaming(StreamingResponse):
    """Closes the stream even if the client is gone before the first chunk."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(cast("AsyncGenerator[bytes]", self.body_iterator)):
            await super().__call__(scope, receive, send)


async def _call(endpoint: Endpoint, parts: ApiParts, request: Request) -> ApiCall:
    """Authorize and parse a request. Raises Rejected."""
    holder: TokenHolder = request.state.holder
    _authorize(holder, endpoint.may)
    path = {name: Param(name, "", TEXT).parse([t]) for name, t in request.path_params.items()}
    query = endpoint.read_query(request.query_params.multi_items())
    for param in endpoint.params:
        if param.needs and query[param.name]:
            _authorize(holder, [param.needs])
    body = {}
    if endpoint.takes is not None:
        # Beside the loop: a large body takes milliseconds.
        body = await parts.reader.do(endpoint.read_body, await _content(request))
    return ApiCall(parts, holder, path, query, body, View(holder, parts))


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


_ABOUT = (
    "How a router does, what became of events, and what a person may do about it. Times are ISO "
    "8601 in UTC. A token that has an owner sees that owner's targets alone: all else is 404."
)


def described() -> dict[str, Any]:
    """Return the OpenAPI document."""
    named: dict[str, JsonSchema] = {}
    paths: dict[str, dict[str, Any]] = {}
    for one in ENDPOINTS:
        paths.setdefault(PREFIX + one.path, {})[one.method.lower()] = _operation(one, named)
    fault = _response("A problem", "application/problem+json", schema_of(ProblemView, named))
    return {
        "openapi": "3.1.0",
        "info": {"title": "EBaaS callback router", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "security": [{"token": []}, {}],
        "components": {
            "schemas": dict(sorted(named.items())),
            "responses": {"problem": fault},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, named: dict[str, JsonSchema]) -> dict[str, Any]:
    kind = "text/event-stream" if endpoint.returns is EventStream else "application/json"
    operation: dict[str, Any] = {
        "operationId": "_".join([endpoint.method.lower(), *re.findall(r"\w+", endpoint.path)]),
        "summary": " ".join((endpoint.answer.__doc__ or "").split()),
        "description": f"Needs a token that may {' or '.join(endpoint.may)}.",
        "parameters": [
            *(_parameter(name, "path", {**TEXT.schema}, required=True) for name in endpoint.names),
            *(
                _parameter(param.name, "query", param.schema, description=param.about)
                for param in endpoint.params
            ),
        ],
        "responses": {
            "200": _response("OK", kind, schema_of(endpoint.returns, named)),
            "default": {"$ref": "#/components/responses/problem"},
        },
    }
    if endpoint.takes is not None:
        content = {"application/json": {"schema": endpoint.body_schema}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(name: str, place: str, schema: JsonSchema, **more: Any) -> dict[str, Any]:
    return {"name": name, "in": place, "schema": schema, **more}


def _response(about: str, kind: str, schema: JsonSchema) -> dict[str, Any]:
    return {"description": about, "content": {kind: {"schema": schema}}}
