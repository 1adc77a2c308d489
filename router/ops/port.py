"""The ops port: `/metrics` and `/status`, the console's API and its page."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
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
    files = _PageFiles(directory=PAGE_FOLDER, follow_symlink=True)

    async def metrics(request: Request) -> Response:
        kind, scrape = scrape_as(request.headers.get("accept", ""))
        work, who = partial(scrape, parts.insight.report().metrics), request.state.holder.name or ""
        return await parts.answers.reply(request, await parts.answers.make(who, kind, work), kind)

    index = (PAGE_FOLDER / "index.html").read_text().replace("/page/", f"/page/{files.version}/")

    async def page(_: Request) -> Response:
        return HTMLResponse(index)

    # The status is always 200. For a verdict ask `/readyz`, or read `status`.
    own = [Route("/metrics", metrics), Route("/status", serve(status, parts)), Route("/", page)]
    app = Starlette(
        routes=[*own, Mount("/page/{version}", GZipMiddleware(files)), *api_routes(parts)],
        # Starlette raises a fault again; it is logged.
        exception_handlers={HTTPException: _refuse, Rejected: problem, Exception: _fail},
    )
    app.router.redirect_slashes = False
    # Without tokens, anybody who reaches the port may read figures and the names of targets, and
    # this machine alone may read the rest. A change always needs a token.
    return Guard(app, tokens, log, local=local)


class _PageFiles(StaticFiles):
    """The page's files. Their version is in their paths, so that browsers may keep them for ever;
    after an upgrade, an open page gets the new ones."""

    def __init__(self, *, directory: Path, follow_symlink: bool) -> None:
        super().__init__(directory=directory, follow_symlink=follow_symlink)
        contents = (file.read_bytes() for file in sorted(directory.rglob("*.*")))
        self.version = hashlib.sha256(b"".join(contents)).hexdigest()[:12]

    def file_response(self, *args: Any, **options: Any) -> Response:
        response = super().file_response(*args, **options)
        if args[2]["path_params"]["version"] == self.version:
            response.headers["cache-control"] = "max-age=31536000, immutable"
        return response


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
