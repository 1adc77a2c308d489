"""The ops port: `/metrics` and `/status`, the console's API and its page."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from router.config.settings import Settings
from router.net.http.lifetime import Limits
from router.net.listening import OPS
from router.ops.api.application import api_routes
from router.ops.api.parts import ApiParts, Stored
from router.ops.guard import Guard, OpsTokens, problem
from router.ops.insight import Insight
from router.ops.problems import Rejected
from router.ops.searching import Search
from router.ops.status import status_of
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from router.store.url import Database
from router.telemetry.log import Log
from router.telemetry.scrape import render

#: Connections beyond those that are served; these get a 503.
OPS_RESERVE = 8
CONNECTIONS = OPS - OPS_RESERVE

#: The longest time for a peer to read a reply, which may have megabytes, in seconds.
REPLY = 60.0

PAGE_FOLDER = Path(__file__).parent / "page"


def limits_of(callbacks: Limits) -> Limits:
    """Return the limits of the ops port, made of those of the callback port."""
    return replace(callbacks, connections=CONNECTIONS, reserve=OPS_RESERVE, reply=REPLY, exempt=())


def api_parts(
    settings: Settings, insight: Insight, tokens: OpsTokens, search: Sequence[str], log: Log
) -> ApiParts:
    """Return the parts of a running router's API; `search` is the command of a search."""
    store, opening = settings.store, None
    if store is not None:
        opening = partial(look_into, store, StoreLimits(settings.store_max_bytes))
    stored, is_shared = Stored(opening, log), isinstance(store, Database)
    return ApiParts(insight, tokens, stored, Search(search, log), is_shared=is_shared)


def ops_app(parts: ApiParts, tokens: OpsTokens, log: Log, *, local: bool) -> Guard:
    """Return the ops port's application; `local`: only this machine reaches the port.

    Without tokens, anybody who reaches the port may read figures and the names of targets, and
    this machine alone may read the rest. A change always needs a token.
    """
    insight = parts.insight
    # Installers may link files to a cache.
    files = StaticFiles(directory=PAGE_FOLDER, follow_symlink=True)

    async def metrics(request: Request) -> Response:
        # In a thread: a hundred targets take some 40 ms.
        numbers, accept = insight.report().metrics, request.headers.get("accept", "")
        content_type, body = await asyncio.to_thread(render, numbers, accept)
        # Not as `media_type`, which would add a charset.
        return Response(body, headers={"content-type": content_type})

    async def status(_: Request) -> Response:
        """Return the report, always with 200. For a verdict ask `/readyz`, or read `status`."""
        report = status_of(insight.report(), time.time())
        body = json.dumps(report, ensure_ascii=True, indent=2) + "\n"
        return Response(body, media_type="application/json")

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    app = Starlette(
        routes=[
            Route("/metrics", metrics),
            Route("/status", status),
            Route("/", page),
            Mount("/page", GZipMiddleware(files, compresslevel=6)),
            *api_routes(parts),
        ],
        exception_handlers={HTTPException: _refuse, Exception: _fail},
    )
    app.router.redirect_slashes = False
    return Guard(app, tokens, log, local=local)


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    is_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    response = problem(Rejected("no_method" if is_method else "no_endpoint"))
    if allowed := (error.headers or {}).get("Allow"):
        # Starlette lists methods in no fixed order.
        response.headers["allow"] = ", ".join(sorted(allowed.split(", ")))
    return response


async def _fail(*_: object) -> Response:
    """Reply to a request that met a fault of ours. Starlette raises it again; it is logged."""
    return problem(Rejected("failed"))
