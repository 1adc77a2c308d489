"""The only place that joins the parts. It makes them; the lifespan opens and closes them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.config import Config
from router.config.settings import Settings
from router.forwarder import Forwarder
from router.intake import Intake
from router.log import Log
from router.schema import Schema, shipped_schema
from router.sender import Sender
from router.transport import Engine
from router.transport.httpx_engine import HttpxPool
from router.web import replies
from router.web.callbacks import Callbacks
from router.web.ops import Probes, respond

#: The part of all requests in flight that one target may hold.
SHARE = 2


def make_app(settings: Settings, config: Config, log: Log, engine: Engine = HttpxPool) -> Starlette:
    """The router as an ASGI application. Raises StartFailed for a schema that can't be used."""
    sender = Sender(config.table.targets.values(), engine, max(1, settings.max_requests // SHARE))
    probes = Probes()
    callbacks = Callbacks(
        config,
        Intake(*_schemas(settings)),
        Forwarder(sender),
        log,
        max_body=settings.max_body,
        max_requests=settings.max_requests,
    )

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        probes.ready = True
        try:
            yield
        finally:
            probes.ready = False
            await sender.close()

    app = Starlette(
        lifespan=lifespan,
        routes=[
            Route(settings.path, callbacks, methods=["POST"]),
            Route("/livez", probes.live, methods=["GET"]),
            Route("/readyz", probes.readiness, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _http_error},
    )
    # `/callback/` is another path: a redirect would be no contract reply.
    app.router.redirect_slashes = False
    return app


def _schemas(settings: Settings) -> list[Schema]:
    """The contract's own always; the operator's adds to it and can't take away."""
    schemas = [Schema.load(shipped_schema("callback.schema.json"))]
    if settings.schema is not None:
        schemas.append(Schema.load(settings.schema))
    return schemas


async def _http_error(request: Request, error: Exception) -> Response:
    """What Starlette's router refuses: no such path, no such method there."""
    assert isinstance(error, HTTPException)
    response = respond(request, replies.BY_STATUS.get(error.status_code, replies.FAILED))
    response.headers.update(error.headers or {})
    return response
