"""The ops port: `/metrics` and `/status`, the console's API and its page."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.config.settings import Settings
from router.contract.replies import FAILED
from router.contract.respond import request_id_of, respond, respond_to_error
from router.net.http.lifetime import Limits
from router.net.listening import OPS
from router.ops.api.application import ENDPOINTS, PREFIX, api_routes
from router.ops.api.endpoint import Rejected
from router.ops.api.parts import ApiParts, Search, Stored
from router.ops.guard import API, Guard, OpsTokens, problem
from router.ops.insight import Insight
from router.ops.status import status_of
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from router.store.url import Database
from router.telemetry.log import Log
from router.telemetry.scrape import render

#: Connections beyond those that are served, which are told so; few watch a router.
OPS_RESERVE = 8
CONNECTIONS = OPS - OPS_RESERVE

#: Seconds until a peer has taken an answer, which may have megabytes here.
REPLY = 60.0

_FOLDER = Path(__file__).parent / "page"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
}

#: What is answered for the page itself.
INDEX = "index.html"


def page_files() -> dict[str, Response]:
    """All of the page, by paths below its folder: read once. Nothing else can be asked for."""
    return {
        str(path.relative_to(_FOLDER)): _file(path)
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _TYPES and path.is_file()
    }


def _file(path: Path) -> Response:
    content = path.read_bytes()
    etag = f'"{sha256(content).hexdigest()[:32]}"'
    return Response(content, headers={"content-type": _TYPES[path.suffix], "etag": etag})


class OpsPort:
    """The ops port's own endpoints; the API's are in `api/`."""

    def __init__(self, insight: Insight) -> None:
        self._insight = insight
        self._files = page_files()

    async def metrics(self, request: Request) -> Response:
        """Rendered in a thread: with a hundred targets it takes some 40 ms."""
        metrics = self._insight.report().metrics
        accept = request.headers.get("accept", "")
        content_type, body = await asyncio.to_thread(render, metrics, accept)
        # Not as `media_type`: the charset is in it already.
        return Response(body, headers={"content-type": content_type})

    async def status(self, request: Request) -> Response:
        """Always 200: it is a report. Whoever wants a verdict asks `/readyz`, or reads `status`."""
        said = status_of(self._insight.report(), time.time())
        body = json.dumps(said, ensure_ascii=True, indent=2) + "\n"
        return Response(body, media_type="application/json")

    async def page(self, request: Request) -> Response:
        """One of the page's files; the page itself where none is named."""
        file = self._files.get(request.path_params.get("file", INDEX))
        if file is None:
            raise HTTPException(404)
        etag = file.headers["etag"]
        is_known = request.headers.get("if-none-match") == etag
        return Response(status_code=304, headers={"etag": etag}) if is_known else file


def limits_of(callbacks: Limits) -> Limits:
    """The ops port's, by those of the callback port."""
    return replace(callbacks, connections=CONNECTIONS, reserve=OPS_RESERVE, reply=REPLY, exempt=())


def api_parts(
    settings: Settings,
    insight: Insight,
    tokens: OpsTokens,
    search: Sequence[str],
    log: Log,
) -> ApiParts:
    """What the API draws upon; `search` is the command of a search."""
    store, opening = settings.store, None
    if store is not None:
        limits = StoreLimits(settings.store_max_bytes)
        opening = partial(look_into, store, limits)
    stored, is_shared = Stored(opening, log), isinstance(store, Database)
    return ApiParts(insight, tokens, stored, Search(search, log), is_shared=is_shared)


def ops_app(parts: ApiParts, log: Log, *, local: bool) -> Guard:
    """The ops port's application; `local` where only this machine reaches it.

    Without tokens anybody who reaches the port has numbers and the names of targets, and on this
    machine alone what may be read of the rest. What changes anything needs a token.
    """
    ops = OpsPort(parts.insight)
    app = Starlette(
        routes=[
            Route("/metrics", ops.metrics, methods=["GET"]),
            Route("/status", ops.status, methods=["GET"]),
            Route("/", ops.page, methods=["GET"]),
            Route("/page/{file:path}", ops.page, methods=["GET"]),
            *api_routes(ENDPOINTS, PREFIX, parts),
        ],
        lifespan=lambda _: parts.lifespan(),
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )
    app.router.redirect_slashes = False
    return Guard(app, parts.tokens, log, local=local)


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith(API):
        allowed = (error.headers or {}).get("Allow", "")
        more = {"allow": ", ".join(sorted(allowed.split(", ")))} if allowed else {}
        is_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
        why = "it has no such method" if is_method else "there is no such endpoint"
        response = problem(Rejected(error.status_code, why))
        response.headers.update(more)
        return response
    return respond_to_error(error, request_id_of(request))


async def _fail(request: Request, _: Exception) -> Response:
    """A fault of the router's own; Starlette raises it on, and the server has it logged."""
    if request.url.path.startswith(API):
        return problem(Rejected(500, "the router has failed: its log says where"))
    return respond(FAILED, request_id_of(request))
