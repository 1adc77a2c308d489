"""The ops port: `/metrics` and `/status`, the console's API and its page."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

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

    async def metrics(request: Request) -> Response:
        kind, scrape = scrape_as(request.headers.get("accept", ""))
        work, who = partial(scrape, parts.insight.report().metrics), request.state.holder.name or ""
        return await parts.answers.reply(request, await parts.answers.make(who, kind, work), kind)

    page = _page()
    # The status is always 200. For a verdict ask `/readyz`, or read `status`.
    own = [
        Route("/metrics", metrics),
        Route("/status", serve(status, parts)),
        Route("/", page.index),
    ]
    app = Starlette(
        routes=[*own, Route("/page/{version}/{name:path}", page.file), *api_routes(parts)],
        # Starlette raises a fault again; it is logged.
        exception_handlers={HTTPException: _refuse, Rejected: problem, Exception: _fail},
    )
    app.router.redirect_slashes = False
    # Without tokens, anybody who reaches the port may read figures and the names of targets, and
    # this machine alone may read the rest. A change always needs a token.
    return Guard(app, tokens, log, local=local)


#: A comment on lines of its own. The lines stay: errors have the numbers of the source.
_COMMENT = re.compile(rb"^[ \t]*(?://.*|/\*(?:(?!\*/)[\s\S])*\*/[ \t]*)$", re.MULTILINE)

_KINDS = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}


class _Page:
    """The page and its files, compressed once, and without their comments, which are a tenth of the
    first view. Their version is in their paths, so that browsers keep them for ever; an open page
    of another version gets these too."""

    def __init__(self) -> None:
        files = {
            str(path.relative_to(PAGE_FOLDER)): path.read_bytes()
            for path in sorted(PAGE_FOLDER.rglob("*.*"))
        }
        self._version = hashlib.sha256(b"".join(files.values())).hexdigest()[:12]
        index = files.pop("index.html").decode()
        self._index = index.replace("/page/", f"/page/{self._version}/")
        contents = {
            name: _COMMENT.sub(_bare, content) if name.endswith(".js") else content
            for name, content in files.items()
        }
        self._files = {name: (gzip.compress(it), it) for name, it in contents.items()}

    async def index(self, _: Request) -> Response:
        return HTMLResponse(self._index)

    async def file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in self._files:
            raise Rejected("no_endpoint")
        compressed, content = self._files[name]
        headers = {"content-type": f"{_KINDS[Path(name).suffix]}; charset=utf-8"}
        if request.path_params["version"] == self._version:
            headers["cache-control"] = "max-age=31536000, immutable"
        headers["vary"] = "accept-encoding"
        if "gzip" in request.headers.get("accept-encoding", ""):
            headers["content-encoding"], content = "gzip", compressed
        return Response(content, headers=headers)


def _bare(comment: re.Match[bytes]) -> bytes:
    return b"\n" * comment[0].count(b"\n")


#: It is the same for all of a process.
_page = cache(_Page)


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
