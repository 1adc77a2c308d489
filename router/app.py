"""The only place that joins the parts of a router.

`RouterParts` makes them. `App` is the Starlette application of the callback port. `_Life` opens and
closes the store and everything that works beside requests.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    suppress,
)
from functools import cached_property, partial
from pathlib import Path
from random import Random

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from router.archive.segments import SegmentStore
from router.archive.writer import Archive
from router.config.lastgood import LastGood
from router.config.loading import Config, Look, Source
from router.config.reload import ConfigState, Reload
from router.config.settings import AUTO, Settings, archive_folder, last_good_file
from router.contract.intake import Intake
from router.delivery.forwarder import Forwarder
from router.delivery.memory import Memory
from router.delivery.notifications import Notifications
from router.delivery.observer import Observer
from router.delivery.queue import Queue
from router.delivery.recovery import Recoveries
from router.delivery.rules import InForce
from router.delivery.target.sender import Sender
from router.model.errors import RouterError, closed, may, there
from router.model.secret import is_exposed
from router.net.access import Access, Tokens
from router.net.egress import Networks, is_loopback
from router.ops.hour import History
from router.ops.insight import Heartbeat, Identity, Insight
from router.routing.table import RouteTable
from router.store.opening import kind_of, open_store, opened
from router.store.protocol import Store, StoreFailed, StoreLimits
from router.store.sqlite.store import SqliteStore
from router.store.url import Database
from router.telemetry.lag import Watchdog, lasting
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.telemetry.tracing import NO_TRACES, Tracing, tracing_by
from router.transport.engine import Engine
from router.transport.native import NativePool
from router.web.callbacks import Callbacks, Probes, Refusals, Straight, routes

#: One target may hold this part of all requests in flight: one in so many.
SHARE = 2

#: How long a stop may take to write what the store could not take before, in seconds.
PENDING_TIMEOUT = 1.0

#: The warning that there is no archive beside a PostgreSQL store.
NO_ARCHIVE = (
    "the archive is off, as by default with PostgreSQL: trace shows nothing of events that were "
    "acknowledged, and only the failed attempts of others; --archive FOLDER turns it on"
)

#: How long a stop waits for the archive's last lines, in seconds.
ARCHIVE_TIME = 2.0

#: How long a stop waits for a collector to receive the last spans, in seconds.
SPANS_TIME = 1.0

_EXPOSED = "anybody who reaches this port may send events: see ebaas.token and ebaas.allow_from"


class RouterParts:
    """The parts of one router, each made of those above it."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        log: Log,
        watched: tuple[Source, Look] | None = None,
        tracing: Tracing = NO_TRACES,
    ) -> None:
        """Raises StartFailed for a schema that cannot be used."""
        self.settings = settings
        self.log = log
        self.tracing = tracing
        self.config_state = ConfigState(config, since=time.time(), tried=time.time())
        #: How other nodes on the same store see this process.
        self.identity = Identity()
        self.probes = Probes()
        self.recoveries = Recoveries()
        metrics = self.metrics = Metrics(requests_limit=settings.max_requests)
        _count(metrics, config.table)
        self.archive = _archive(settings, log)
        self.notifications = Notifications(self.in_force, metrics, log)
        spans = tracing.spans
        observer = self.observer = Observer(
            log, metrics, self.notifications, self.archive, traced=spans is not None
        )
        targets, share = config.table.targets.values(), max(1, settings.max_requests // SHARE)
        self.sender = Sender(targets, _engine(settings), share, metrics, observer, spans)
        intake = Intake.of(settings.schema)
        self.callbacks = Callbacks(
            config,
            _access(settings, config),
            intake,
            observer,
            max_requests=settings.max_requests,
        )
        self.reload = Reload(
            watched,
            self.config_state,
            self.take,
            self.sender.sweep,
            log,
            metrics,
            on_reload=lambda of: self.notifications.reloaded(
                of.hash, of.changes, of.problems, of.owner
            ),
        )
        history = History(metrics, time.time())
        self.watchdog = Watchdog(metrics, log, history.look)
        self.insight = Insight(
            self.identity,
            metrics,
            self.config_state,
            intake,
            history,
            observer.observations,
            self.recoveries,
            log,
            store=kind_of(settings.store),
            health=lambda: (self.probes.ready, self.watchdog.worst),
        )

    def in_force(self) -> InForce:
        config = self.callbacks.config
        return InForce(config.table, config.terms)

    @cached_property
    def endpoint(self) -> ASGIApp:
        """The application for callbacks, which makes spans if there are traces."""
        spans = self.tracing.spans
        if spans is None:
            return self.callbacks
        return spans.around(self.callbacks, str(self.settings.path))

    def measure(self) -> None:
        """Update the gauges."""
        self.metrics.requests_in_flight = self.callbacks.in_flight
        self.metrics.log_lines_lost = self.log.lost
        for name, numbers in self.metrics.targets.items():
            numbers.recovery = self.recoveries.progress(name)
            numbers.recovering = int(numbers.recovery is not None)
        if self.archive is not None:
            self.metrics.archive_lines_lost = self.archive.lost
            self.metrics.archive_error = self.archive.why
            self.metrics.archive_failed_at = self.archive.failed_at

    def take(self, config: Config) -> list[str]:
        """Use this configuration for all requests that begin from now on; return its warnings."""
        metrics = self.metrics
        _count(metrics, config.table)
        unmatched = metrics.last_unmatched
        if unmatched and (config.unmatched == "accept" or config.table.match(unmatched).routes):
            metrics.route_found()
        self.sender.adopt(config.table.targets.values())
        self.callbacks.config = config
        self.callbacks.access = _access(self.settings, config)
        return self.warnings(config)

    def warnings(self, config: Config) -> list[str]:
        """The warnings about this configuration, and about the settings of this process."""
        settings = self.settings
        warnings = [str(problem) for problem in config.warnings]
        if _access(settings, config).is_open and not is_loopback(settings.host):
            warnings.append(_EXPOSED)
        if self.tracing.problem:
            warnings.append(self.tracing.problem)
        store = settings.store
        if isinstance(store, Path) and is_exposed(store):
            warnings.append(f"everybody on this machine can read the store: chmod 600 {store}")
        archive = archive_folder(settings.archive, settings.store)
        if archive and may(archive, os.F_OK) and not archive.is_dir():
            warnings.append(f"the archive {archive} can't be used: it is a file")
        elif archive and not may(there(archive), os.W_OK | os.X_OK):
            warnings.append(f"the archive {archive} can't be written: {closed(archive)}")
        elif settings.archive == AUTO and isinstance(settings.store, Database):
            warnings.append(NO_ARCHIVE)
        return warnings


def _archive(settings: Settings, log: Log) -> Archive | None:
    folder = archive_folder(settings.archive, settings.store)
    if folder is None:
        return None

    def warn(count: int, why: str) -> None:
        log.warning("archive_lost", count=count, why=why, archive=str(folder))

    segments = SegmentStore(folder, settings.archive_max_bytes, settings.archive_keep)
    return Archive(segments, warn, bodies=settings.archive_bodies)


def _engine(settings: Settings) -> Engine:
    if settings.engine == "native":
        return NativePool
    # Importing it takes a tenth of a second.
    from router.transport.httpx_engine import HttpxPool

    return HttpxPool


def _access(settings: Settings, config: Config) -> Access:
    ebaas, trusted = config.ebaas, Networks(settings.trusted_proxies or ())
    allowed = Networks(ebaas.allow_from) if ebaas.allow_from else None
    return Access(Tokens(ebaas.token, ebaas.token_header), allowed, trusted)


def _count(metrics: Metrics, table: RouteTable) -> None:
    """Make the metrics of the targets in the table."""
    metrics.adopt(table.targets)
    for name, target in table.targets.items():
        metrics.of(name).about = {"owner": target.owner, "role": table.role_of(name)}


class App(Starlette):
    """The router as any ASGI server serves it."""

    def __init__(
        self,
        settings: Settings,
        config: Config,
        log: Log,
        *,
        watched: tuple[Source, Look] | None = None,
        middleware: Sequence[Middleware] = (),
        tracing: Tracing = NO_TRACES,
    ) -> None:
        """With `watched`, the source of `config` and the look that read it, it reloads.

        Raises StartFailed for a schema that cannot be used.
        """
        parts = self.parts = RouterParts(settings, config, log, watched, tracing)
        parts.metrics.readings += [parts.measure, parts.sender.measure, parts.reload.measure]
        self.metrics, self.reload, self.insight = parts.metrics, parts.reload, parts.insight
        self.identity, self.warnings = parts.identity, parts.warnings
        self._life = _Life(parts)
        super().__init__(
            routes=routes(settings.path.reveal(), parts.endpoint, parts.probes),
            middleware=middleware,
            exception_handlers=Refusals(parts.observer).handlers,
            lifespan=lambda _: self.lifespan(),
        )
        self.router.redirect_slashes = False

    @classmethod
    def loaded(cls, settings: Settings, log: Log, middleware: Sequence[Middleware] = ()) -> App:
        """A router with the current routes.yaml, which it watches. Raises RouterError."""
        file = last_good_file(settings)
        kept = LastGood(file, settings.config) if file else None
        source = Source(settings.config, os.environ, settings.secrets_dir, kept)
        look, config, refused = source.start()
        watched, tracing = (source, look), tracing_by(os.environ)
        app = cls(settings, config, log, watched=watched, middleware=middleware, tracing=tracing)
        app.reload.config_state.refused = refused
        return app

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's stack, with a shortcut for callbacks inside of all middleware."""
        if not self.user_middleware:
            return self._straight(super().build_middleware_stack())
        self.user_middleware.append(Middleware(self._straight))
        return super().build_middleware_stack()

    @property
    def entry(self) -> ASGIApp:
        """The application for our own server: without middleware, the shortcut comes first."""
        return self if self.user_middleware else self._straight(self)

    def _straight(self, app: ASGIApp) -> Straight:
        return Straight(app, self.parts.settings.path.reveal(), self.parts.endpoint)

    def lifespan(self) -> AbstractAsyncContextManager[None]:
        """Open the store and everything that works beside requests, and close it at the end.

        Raises StartFailed."""
        return self._life.lived()

    def drain(self) -> None:
        """Report not ready and stop the queue; requests are still handled."""
        self._life.drain()

    async def hurry(self) -> None:
        """Abort the attempts in flight, so that every request is decided, recorded and answered."""
        await self.parts.sender.close()


class _Life:
    """Everything that works beside requests, from the start to the stop."""

    def __init__(self, parts: RouterParts) -> None:
        self._parts = parts
        self._stopping = asyncio.Event()
        self._store: Store | None = None
        self._memory: Memory | None = None
        #: Tasks that use the store until it is closed.
        self._beside: list[asyncio.Task[None]] = []
        #: Why the last attempt to open the store failed.
        self._awaited = ""

    def drain(self) -> None:
        if self._parts.probes.ready:
            self._parts.log.info("stopping")
        self._parts.probes.ready = False
        self._stopping.set()

    @asynccontextmanager
    async def lived(self) -> AsyncIterator[None]:
        """Run everything, and close it even if something fails. Without its database the router
        starts, and opens the store once it can be reached."""
        parts = self._parts
        async with AsyncExitStack() as closing:  # closes in reverse order
            if (spans := parts.tracing.spans) is not None:
                closing.push_async_callback(asyncio.to_thread, spans.close, SPANS_TIME)
            if parts.archive is not None:
                parts.archive.start()
                closing.push_async_callback(asyncio.to_thread, parts.archive.close, ARCHIVE_TIME)
            closing.push_async_callback(self._leave)
            tried = asyncio.Event()
            working = asyncio.create_task(self._work(tried))
            working.add_done_callback(lambda _: tried.set())
            closing.push_async_callback(lambda: working)
            closing.push_async_callback(parts.sender.close)
            parts.watchdog.start()
            closing.callback(parts.watchdog.stop)
            closing.callback(self.drain)
            await tried.wait()
            if working.done():
                working.result()
            # Not before the store is ours: it writes the texts in force beside it.
            closing.callback(self._go_on(parts.reload.run).cancel)
            yield

    async def _work(self, tried: asyncio.Event) -> None:
        """Open the store, report ready, and run the queue until the stop. Sets `tried` once the
        store is open or cannot be reached. Raises StartFailed."""
        parts, settings = self._parts, self._parts.settings
        away = partial(self._away, tried)
        limits = StoreLimits(settings.store_max_bytes)
        opening = partial(open_store, settings.store, limits, parts.identity.door)
        store = await opened(opening, away, self._store_lasts, self._stopping)
        if store is None:
            return
        self._store = store
        if self._awaited:
            parts.log.info("store_opened", store=str(settings.store))
        queue = self._join(store)
        if store.remembers:
            await parts.sender.read_pauses(store)  # before the first event
            self._beside.append(self._go_on(partial(parts.sender.follow_pauses, store)))
        parts.probes.opening = False
        parts.probes.ready = not self._stopping.is_set()
        if store.nodes is not None:
            presence = Heartbeat(store.nodes, parts.insight.node, parts.metrics)
            self._beside.append(self._go_on(presence.run))
        tried.set()
        await queue.run(self._stopping)

    def _join(self, store: Store) -> Queue:
        """Make the parts that need the store."""
        parts = self._parts
        if isinstance(store, SqliteStore):
            store.watch_commits(parts.metrics.store_commit.observe)
        memory = self._memory = Memory(store)
        parts.callbacks.forwarder = Forwarder(parts.sender, memory, store.now)
        return Queue(
            store,
            memory,
            parts.sender,
            parts.in_force,
            parts.observer,
            parts.notifications,
            Random(),
            recoveries=parts.recoveries,
        )

    def _go_on(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(lasting(work, self._parts.log))

    def _store_lasts(self, seconds: float) -> None:
        store = str(self._parts.settings.store)
        self._parts.log.info("store_opening", store=store, seconds=round(seconds))

    def _away(self, tried: asyncio.Event, error: RouterError) -> None:
        """Log that the store cannot be reached, once for each reason."""
        why = str(error)
        if why != self._awaited:
            fields = {"store": str(self._parts.settings.store), "error": why}
            if isinstance(error, StoreFailed) and error.detail:
                fields["detail"] = error.detail
            self._parts.log.warning("store_awaited", **fields)
        self._awaited = why
        word = why if isinstance(error, StoreFailed) else "refused"
        self._parts.metrics.store_failed(word)
        tried.set()

    async def _leave(self) -> None:
        try:
            if self._memory is not None:
                # Only this process knows which recorded acknowledgements were revoked.
                with suppress(StoreFailed):
                    await self._memory.write_pending(PENDING_TIMEOUT)
        finally:
            for task in self._beside:
                task.cancel()
            if self._beside:
                await asyncio.wait(self._beside)
            if self._store is not None:
                await self._store.close()
