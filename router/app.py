"""The only place that joins the parts. It makes them; the lifespan opens and closes them."""

from __future__ import annotations

import asyncio
import time
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
from router.reload import Look, Reload, Source, Standing
from router.schema import Schema, shipped_schema
from router.sender import Sender
from router.transport import Engine
from router.transport.httpx_engine import HttpxPool
from router.web import replies
from router.web.callbacks import Callbacks
from router.web.ops import Probes, respond

#: The part of all requests in flight that one target may hold.
SHARE = 2


class App:
    """The router's parts, joined. `asgi` is what a server serves, with its lifespan."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        log: Log,
        *,
        watched: tuple[Source, Look] | None = None,
        engine: Engine = HttpxPool,
    ) -> None:
        """`watched` is where `config` came from and the look it was read at: then it reloads.

        Raises StartFailed for a schema that can't be used.
        """
        share = max(1, settings.max_requests // SHARE)
        self._sender = Sender(config.table.targets.values(), engine, share)
        self._probes = Probes()
        self._callbacks = Callbacks(
            config,
            Intake(*_schemas(settings)),
            Forwarder(self._sender),
            log,
            max_body=settings.max_body,
            max_requests=settings.max_requests,
        )
        now = time.time()
        self.reload = Reload(
            watched,
            Standing(config, since=now, tried=now),
            self._take,
            self._sender.sweep,
            log,
        )
        self.asgi = Starlette(
            lifespan=self._lifespan,
            routes=[
                Route(settings.path, self._callbacks, methods=["POST"]),
                Route("/livez", self._probes.live, methods=["GET"]),
                Route("/readyz", self._probes.readiness, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _http_error},
        )
        # `/callback/` is another path: a redirect would be no contract reply.
        self.asgi.router.redirect_slashes = False

    def _take(self, config: Config) -> None:
        """Swap the configuration, between two requests. One that has begun keeps its own."""
        self._sender.adopt(config.table.targets.values())
        self._callbacks.config = config

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        watching = asyncio.create_task(self.reload.run())
        self._probes.ready = True
        try:
            yield
        finally:
            self._probes.ready = False
            watching.cancel()
            await self._sender.close()


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
