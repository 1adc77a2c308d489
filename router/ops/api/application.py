"""The API as a Starlette application, and its OpenAPI description."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from enum import Enum
from http import HTTPStatus
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from router import __version__
from router.config.holders import Deed, Holder
from router.ops.api.endpoint import Asked, Endpoint, Param, ProblemShape, Rejected, read_text
from router.ops.api.parts import ApiParts
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
    holder: Holder = request.state.holder
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


def _check_may(holder: Holder, deeds: Sequence[Deed]) -> None:
    """Raises Rejected where none of them is allowed."""
    if holder.may.intersection(deeds):
        return
    if holder.name is None:
        raise Rejected(403, "nobody may do this here: the router has no --ops-tokens")
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


JsonSchema = dict[str, Any]

# What a type is annotated with is one more keyword of its schema.

#: A time, as ISO 8601 has it, in UTC.
Time = Annotated[str, ("format", "date-time")]

#: Server-sent events.
EventStream = Annotated[str, ("contentMediaType", "text/event-stream")]

_PLAIN: dict[Any, JsonSchema] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    NoneType: {"type": "null"},
    Any: {},
}

#: Where an OpenAPI document keeps schemas that have names.
_NAMED = "#/components/schemas/"


def schema_of(kind: Any, named: dict[str, JsonSchema] | None = None) -> JsonSchema:
    """With `named` a TypedDict is put there and referred to by its name; else it is written out."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return {**schema_of(parts[0], named), **dict(parts[1:])}
    if kind in _PLAIN:
        return dict(_PLAIN[kind])
    if origin is Literal:
        return {"enum": list(parts)}
    if origin in (Union, UnionType):
        return {"anyOf": [schema_of(part, named) for part in parts]}
    if origin is list:
        return {"type": "array", "items": schema_of(parts[0], named)}
    if origin is dict:
        return {"type": "object", "additionalProperties": schema_of(parts[1], named)}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [each.value for each in kind]}
    if named is None:
        return _object(kind, None)
    if kind.__name__ not in named:
        named[kind.__name__] = {}  # it may refer to itself
        named[kind.__name__] = _object(kind, named)
    return {"$ref": _NAMED + kind.__name__}


def _object(kind: Any, named: dict[str, JsonSchema] | None) -> JsonSchema:
    """Of a TypedDict. Nobody is promised that there is no more in an answer: clients go on working
    when it gets new members; a request has no others."""
    members = get_type_hints(kind, include_extras=True)
    optional = {name for name, each in members.items() if get_origin(each) is NotRequired}
    schema: JsonSchema = {
        "type": "object",
        "properties": {
            name: schema_of(get_args(each)[0] if name in optional else each, named)
            for name, each in members.items()
        },
        "required": [name for name in members if name not in optional],
    }
    if named is None:
        schema["additionalProperties"] = False
    if kind.__doc__:
        schema["description"] = " ".join(kind.__doc__.split())
    return schema


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
    problem = schema_of(ProblemShape, named)
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
