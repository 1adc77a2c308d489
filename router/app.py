"""The only place that joins the parts. It makes them; the lifespan opens and closes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from router.config import Config
from router.config.settings import Settings
from router.errors import StartFailed
from router.forwarder import Forwarder
from router.intake import Intake
from router.journal import Journal
from router.log import Log
from router.recall import Memory
from router.reload import Look, Reload, Source, Standing
from router.schema import Schema, shipped_schema
from router.sender import Sender
from router.store import Limits, Store
from router.store.none import NoStore
from router.store.sqlite import SqliteStore
from router.transport import Engine
from router.transport.httpx_engine import HttpxPool
from router.web import replies
from router.web.callbacks import Callbacks
from router.web.ops import Probes, respond
from router.worker import InForce, Worker

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
        self._settings = settings
        #: Why the router could not start, once that is known.
        self.failed: StartFailed | None = None
        self._journal = Journal(log)
        self._stopping = asyncio.Event()
        share = max(1, settings.max_requests // SHARE)
        self._sender = Sender(config.table.targets.values(), engine, share)
        self._probes = Probes()
        self._callbacks = Callbacks(
            config,
            Intake(*_schemas(settings)),
            self._journal,
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

    def drain(self) -> None:
        """Be ready no more, and take up no more of the queue; requests are still handled."""
        self._probes.ready = False
        self._stopping.set()

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        try:
            store = await _open_store(self._settings)
        except StartFailed as error:
            self.failed = error
            raise
        memory = Memory(store)
        self._callbacks.forwarder = Forwarder(self._sender, memory, store.now)
        worker = Worker(store, memory, self._sender, self._in_force, self._journal, Random())
        working = asyncio.create_task(worker.run(self._stopping))
        watching = asyncio.create_task(self.reload.run())
        self._probes.ready = True
        try:
            yield
        finally:
            self.drain()
            watching.cancel()
            await self._sender.close()
            await working
            await store.close()

    def _in_force(self) -> InForce:
        config = self._callbacks.config
        return InForce(config.table.targets, config.terms)


async def _open_store(settings: Settings) -> Store:
    """Raises StartFailed."""
    if settings.store is None:
        return NoStore()
    limits = Limits(settings.store_max_bytes, settings.store_max_rows)
    return await SqliteStore.open(settings.store, limits)


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
