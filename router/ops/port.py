"""The ops port: `/metrics` and `/status`, the console's API and its page."""

from __future__ import annotations

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
from router.net.http.connection import Limits
from router.net.listening import OPS
from router.ops.api.application import api_routes, serve
from router.ops.api.service import status
from router.ops.api.view import ApiParts, Stored
from router.ops.guard import Guard, OpsTokens
from router.ops.insight import Insight
from router.ops.problems import Rejected, problem
from router.ops.searching import Search
from router.store.opening import look_into
from router.store.protocol import StoreLimits
from router.store.url import Database
from router.telemetry.log import Log
from router.telemetry.scrape import scrape_as

#: Connections beyond those that are served; these get a 503.
OPS_RESERVE = 8
CONNECTIONS = OPS - OPS_RESERVE

#: The longest time for a peer to read a piece of a reply, in seconds.
REPLY = 15.0

PAGE_FOLDER = Path(__file__).parent / "page"


def limits_of(callbacks: Limits) -> Limits:
    return replace(callbacks, connections=CONNECTIONS, reserve=OPS_RESERVE, reply=REPLY, exempt=())


def api_parts(
    settings: Settings, insight: Insight, tokens: OpsTokens, search: Sequence[str], log: Log
) -> ApiParts:
    """Return the parts of a running router's API; `search` is the command of a search."""
    store, opening = settings.store, None
    if store is not None:
        opening = partial(look_into, store, StoreLimits(settings.store_max_bytes))
    is_shared = isinstance(store, Database)
    return ApiParts(insight, tokens, Stored(opening, log), Search(search, log), is_shared=is_shared)


def ops_app(parts: ApiParts, tokens: OpsTokens, log: Log, *, local: bool) -> Guard:
    """Return the ops port's application; `local`: only this machine reaches the port."""
    # Installers may link files to a cache.
    files = StaticFiles(directory=PAGE_FOLDER, follow_symlink=True)

    async def metrics(request: Request) -> Response:
        kind, scrape = scrape_as(request.headers.get("accept", ""))
        work, who = partial(scrape, parts.insight.report().metrics), request.state.holder.name or ""
        return parts.answers.reply(who, await parts.answers.make(who, kind, work), kind)

    async def page(request: Request) -> Response:
        return await files.get_response("index.html", request.scope)

    # The status is always 200. For a verdict ask `/readyz`, or read `status`.
    own = [Route("/metrics", metrics), Route("/status", serve(status, parts)), Route("/", page)]
    app = Starlette(
        routes=[*own, Mount("/page", GZipMiddleware(files, compresslevel=6)), *api_routes(parts)],
        # Starlette raises a fault again; it is logged.
        exception_handlers={HTTPException: _refuse, Rejected: problem, Exception: _fail},
    )
    app.router.redirect_slashes = False
    # Without tokens, anybody who reaches the port may read figures and the names of targets, and
    # this machine alone may read the rest. A change always needs a token.
    return Guard(app, tokens, log, local=local)


async def _fail(request: Request, _: Exception) -> Response:
    return await problem(request, Rejected("failed"))


async def _refuse(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    is_method = error.status_code == HTTPStatus.METHOD_NOT_ALLOWED
    response = await problem(request, Rejected("no_method" if is_method else "no_endpoint"))
    if allowed := (error.headers or {}).get("Allow"):
        # Starlette lists methods in no fixed order.
        response.headers["allow"] = ", ".join(sorted(allowed.split(", ")))
    return response
