"""The endpoints as Starlette serves them: each request read, allowed, answered as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, cast

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from router.config.holders import Deed, Holder
from router.ops.api.endpoint import Asked, Endpoint
from router.ops.api.params import read_text
from router.ops.api.parts import ApiParts
from router.ops.api.rejected import Rejected
from router.ops.guard import problem

#: The largest body, in bytes.
_MAX_BODY = 1024 * 1024


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
        body = endpoint.read_body(await _body(request))
    return Asked(parts, holder, _named(request.path_params), query, body)


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
