"""The API as a Starlette application, and its OpenAPI description."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from http import HTTPStatus
from typing import Any, cast

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from router import __version__
from router.config.holders import DEEDS, Permission, TokenHolder
from router.ops.api.deliveries import ACTS, DELIVERIES
from router.ops.api.endpoint import (
    Asked,
    Endpoint,
    EventStream,
    JsonSchema,
    Param,
    ProblemView,
    Rejected,
    read_text,
    schema_of,
)
from router.ops.api.events import EVENTS, STREAM
from router.ops.api.parts import ApiParts
from router.ops.api.replay import REPLAY
from router.ops.api.routes import ROUTES
from router.ops.api.status import NODES, STANDING
from router.ops.api.targets import PAUSING, TARGETS
from router.ops.guard import problem

#: The largest body, in bytes.
_MAX_BODY = 1024 * 1024

#: The largest that is read on the loop, in bytes: 1 ms of it, whatever it is.
_SMALL = 4096


def api_routes(endpoints: Sequence[Endpoint], prefix: str, parts: ApiParts) -> list[Route]:
    """Of two that fit a path the one that names nothing is meant: it comes first."""
    return [
        Route(f"{prefix}{each.path}", _served(each, parts), methods=[each.method])
        for each in sorted(endpoints, key=lambda each: bool(each.names))
    ]


def app_for(holder: TokenHolder, parts: ApiParts) -> ASGIApp:
    """The API alone, for one holder: for a command, which no port is between."""
    app = Starlette(routes=api_routes(ENDPOINTS, PREFIX, parts))

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"holder": holder}}, receive, send)

    return serve


def _served(endpoint: Endpoint, parts: ApiParts) -> Any:
    async def serve(request: Request) -> Response:
        try:
            answer = await endpoint.answer(await _asked(endpoint, parts, request))
        except Rejected as error:
            return problem(error)
        if isinstance(answer, AsyncGenerator):
            if request.method == "HEAD":  # it would have no end, and nothing in it
                await answer.aclose()
                return Response(media_type="text/event-stream")
            return _Streaming(answer, media_type="text/event-stream")
        content = await asyncio.to_thread(dumped, answer)
        return Response(content, media_type="application/json")

    return serve


def dumped(value: Any) -> str:
    """As JSON; a long list or mapping piece by piece, so that in a thread it holds up no other for
    longer than one piece takes."""
    if isinstance(value, dict):
        members = (f"{_piece(name)}:{_piece(each)}" for name, each in value.items())
        return "{" + ",".join(members) + "}"
    return _piece(value)


_ENCODER = json.JSONEncoder(separators=(",", ":"))


def _piece(value: Any) -> str:
    if isinstance(value, list):
        return "[" + ",".join(map(_ENCODER.encode, value)) + "]"
    return _ENCODER.encode(value)


class _Streaming(StreamingResponse):
    """Whoever goes away before its first word has ended it too."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(cast("AsyncGenerator[bytes]", self.body_iterator)):
            await super().__call__(scope, receive, send)


async def _asked(endpoint: Endpoint, parts: ApiParts, request: Request) -> Asked:
    """Raises Rejected for what may not be, or can't be read."""
    holder: TokenHolder = request.state.holder
    _check_may(holder, endpoint.may)
    query = endpoint.read_query(request.query_params.multi_items())
    for param in endpoint.params:
        if param.needs and query[param.name]:
            _check_may(holder, [param.needs])
    body = None
    if endpoint.takes is not None:
        body = await _read(endpoint, parts, await _body(request))
    return Asked(parts, holder, _named(request.path_params), query, body)


async def _read(endpoint: Endpoint, parts: ApiParts, content: bytes) -> Any:
    """A large body is read beside the loop."""
    if len(content) <= _SMALL:
        return endpoint.read_body(content)
    return await parts.reader.do(endpoint.read_body, content)


def _named(path: Mapping[str, str]) -> Mapping[str, str]:
    """Raises Rejected for what would not do as a text of a query either."""
    for name, text in path.items():
        try:
            read_text(text)
        except ValueError as error:
            raise Rejected(400, f"{name}: {error}") from None
    return path


def _check_may(holder: TokenHolder, deeds: Sequence[Permission]) -> None:
    """Raises Rejected where none of them is allowed."""
    if holder.may.intersection(deeds):
        return
    if holder.name is None:
        raise Rejected(403, "this needs a token, and the router has no --ops-tokens")
    raise Rejected(403, f"the token does not allow this: it needs {' or '.join(deeds)}")


async def _body(request: Request) -> bytes:
    """A request that another site's page can send unasked has another type."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Rejected(415, "the body has to be application/json")
    content = bytearray()
    try:
        async for part in request.stream():
            content += part
            if len(content) > _MAX_BODY:
                raise Rejected(413, f"the body is larger than {_MAX_BODY // 1024} KiB")
    except ClientDisconnect:
        raise Rejected(400, "the body is not whole") from None
    return bytes(content)


#: What every endpoint may answer.
_ALWAYS = (400, 401, 403, 429, 503)

#: What those may besides that take a body.
_WITH_BODY = (413, 415)

_ABOUT = (
    "How a router does, what became of events, and what a person may do about it. Times are ISO "
    "8601 in UTC. A token that has an owner sees that owner's targets alone: all else is 404."
)


def described(endpoints: Iterable[Endpoint], prefix: str) -> dict[str, Any]:
    named: dict[str, JsonSchema] = {}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        operations = paths.setdefault(f"{prefix}{endpoint.path}", {})
        operations[endpoint.method.lower()] = _operation(endpoint, named)
    problem = schema_of(ProblemView, named)
    return {
        "openapi": "3.1.0",
        "info": {"title": "EBaaS callback router", "version": __version__, "description": _ABOUT},
        "paths": paths,
        "security": [{"token": []}, {}],
        "components": {
            "schemas": dict(sorted(named.items())),
            "responses": {
                "problem": _response("What is wrong", "application/problem+json", problem)
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, named: dict[str, JsonSchema]) -> dict[str, Any]:
    about = " ".join((endpoint.answer.__doc__ or "").split())
    statuses = {*_ALWAYS, *endpoint.problems, *(_WITH_BODY if endpoint.takes else ())}
    operation: dict[str, Any] = {
        "operationId": _name(endpoint),
        "summary": about,
        "description": f"Needs a token that may {' or '.join(endpoint.may)}.",
        "parameters": [
            *map(_place, endpoint.names),
            *map(_parameter, endpoint.params),
        ],
        "responses": {
            "200": _answer(endpoint, named),
            **{
                str(status): {"$ref": "#/components/responses/problem"}
                for status in sorted(statuses)
            },
        },
    }
    if endpoint.takes:
        schema = schema_of(endpoint.takes)
        content = {"application/json": {"schema": schema}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _name(endpoint: Endpoint) -> str:
    words = re.findall(r"\w+", endpoint.path)
    return "_".join([endpoint.method.lower(), *words])


def _place(name: str) -> dict[str, Any]:
    schema = {"type": "string", "minLength": 1}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _parameter(param: Param) -> dict[str, Any]:
    schema = {"type": "array", "items": param.schema} if param.many else param.schema
    return {"name": param.name, "in": "query", "description": param.about, "schema": schema}


def _answer(endpoint: Endpoint, named: dict[str, JsonSchema]) -> dict[str, Any]:
    kind = "text/event-stream" if endpoint.returns is EventStream else "application/json"
    return _response(HTTPStatus.OK.phrase, kind, schema_of(endpoint.returns, named))


def _response(about: str, kind: str, schema: JsonSchema) -> dict[str, Any]:
    return {"description": about, "content": {kind: {"schema": schema}}}


#: Where it is.
PREFIX = "/api/v1"


async def openapi(asked: Asked) -> dict[str, Any]:
    """This description"""
    return described(ENDPOINTS, PREFIX)


#: All there is.
ENDPOINTS: tuple[Endpoint, ...] = (
    *STANDING,
    *TARGETS,
    *PAUSING,
    *ROUTES,
    *NODES,
    *EVENTS,
    *REPLAY,
    *DELIVERIES,
    *ACTS,
    *STREAM,
    Endpoint("GET", "/openapi.json", openapi, dict[str, Any], may=DEEDS),
)
