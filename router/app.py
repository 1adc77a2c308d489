"""The only place that joins the parts: into a Starlette application, the callback port's. It makes
them; the lifespan opens and closes them."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp

from router.archive.segments import Shelf
from router.archive.writer import Archive
from router.config.loading import Config, Look, Source
from router.config.reload import Reload, Standing
from router.config.settings import AUTO, Settings, archive_folder
from router.contract.intake import Intake
from router.delivery.forwarder import Forwarder
from router.delivery.happenings import Happenings, OwnEvents
from router.delivery.memory import Memory
from router.delivery.observer import Observer
from router.delivery.pausing import Pausing
from router.delivery.queue import Queue
from router.delivery.rules import InForce
from router.delivery.target.sender import Sender
from router.delivery.traced import TracedSender
from router.model.errors import ConfigInvalid, RouterError, closed, may, there
from router.model.secret import is_exposed
from router.net.access import Access, Tokens
from router.net.egress import Networks, is_loopback
from router.ops.heartbeat import Heartbeat, Identity, described
from router.ops.insight import Insight
from router.ops.report import Report, report_of
from router.routing.table import RouteTable
from router.store.nodes import Node
from router.store.opening import kind_of, open_store, opened
from router.store.promises import Store, StoreFailed, StoreLimits
from router.store.sqlite import SqliteStore
from router.store.url import Database
from router.telemetry.lag import Watchdog, lasting
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.telemetry.tracing import NO_TRACES, Tracing, tracing_by
from router.transport.engine import Engine
from router.transport.native import NativePool
from router.web.callbacks import Callbacks, Probes, Refusals, Straight, routes

#: The part of all requests in flight that one target may hold.
SHARE = 2

#: How long a stop may take to spend what is owed no more, in seconds.
SPEND_TIMEOUT = 1.0

#: What is said of a store beside which there is no folder for an archive.
NO_ARCHIVE = (
    "the archive is off, as by default with PostgreSQL: trace shows nothing of events that were "
    "acknowledged, and only the failed attempts of others; --archive FOLDER turns it on"
)

#: How long a stop waits for the archive's last lines, in seconds.
ARCHIVE_TIME = 2.0

#: And for a collector to take the last spans.
SPANS_TIME = 1.0

_EXPOSED = "anybody who reaches this port may send events: see ebaas.token and ebaas.allow_from"


class App(Starlette):
    """The router's parts, joined: what any ASGI server serves."""

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
        """`watched` is where `config` came from and the look it was read at: then it reloads.

        Raises StartFailed for a schema that can't be used.
        """
        self._settings = settings
        self.metrics = Metrics()
        self._count(config.table)
        self.metrics.requests_limit = settings.max_requests
        self._log = log
        self._archive = self._archive_of(settings)
        self._own_events = OwnEvents(self._in_force, self.metrics, log)
        happenings = Happenings(self._own_events.tell)
        self._tracing = tracing
        self._observer = Observer(
            log,
            self.metrics,
            happenings,
            self._archive,
            traced=tracing.spans is not None,
        )
        self._watchdog = Watchdog(self.metrics, log)
        self._stopping = asyncio.Event()
        self._store: Store | None = None
        self._memory: Memory | None = None
        #: What this process says of itself to those that share the store.
        self.identity = Identity()
        #: What goes on beside requests and the queue, until the store is closed.
        self._beside: list[asyncio.Task[None]] = []
        #: Why the store could not be opened when it was last tried.
        self._awaited = ""
        share = max(1, settings.max_requests // SHARE)
        self._sender = Sender(
            config.table.targets.values(), _engine(settings), share, self.metrics, self._observer
        )
        self._probes = Probes()
        intake = Intake.of(settings.schema)
        self._callbacks = Callbacks(
            config,
            self._access(config),
            intake,
            self._observer,
            max_body=settings.max_body,
            max_requests=settings.max_requests,
        )
        #: What callbacks are handed to, and what their attempts are made by.
        self._endpoint: ASGIApp = self._callbacks
        self._sends: Sender | TracedSender = self._sender
        if tracing.spans is not None:
            self._endpoint = tracing.spans.around(self._callbacks, str(settings.path))
            self._sends = TracedSender(self._sender, tracing.spans)
        now = time.time()
        self.reload = Reload(
            watched,
            Standing(config, since=now, tried=now),
            self._take,
            self._sender.sweep,
            log,
            self.metrics,
        )
        #: What the ops port reads of this process.
        self.insight = Insight(
            self.report,
            self._describe,
            self.reload.standing,
            intake,
            self._watchdog.minutes,
            log,
        )
        self.reload.on_reload = lambda of: happenings.reloaded(of.hash, of.changes, of.problems)
        self.metrics.readings += [self._measure, self._sender.measure, self.reload.measure]
        super().__init__(
            routes=routes(settings.path.reveal(), self._endpoint, self._probes),
            middleware=middleware,
            exception_handlers=Refusals(self._observer).handlers,
            lifespan=lambda _: self.lifespan(),
        )
        self.router.redirect_slashes = False

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette's, with a way of their own for callbacks, inside of all middleware."""
        if not self.user_middleware:
            return self._straight(super().build_middleware_stack())
        self.user_middleware.append(Middleware(self._straight))
        return super().build_middleware_stack()

    @property
    def entry(self) -> ASGIApp:
        """What a server of our own calls: callbacks take that way before Starlette's first step,
        where there is no middleware."""
        return self if self.user_middleware else self._straight(self)

    def _straight(self, app: ASGIApp) -> Straight:
        return Straight(app, self._settings.path.reveal(), self._endpoint)

    @classmethod
    def loaded(cls, settings: Settings, log: Log, middleware: Sequence[Middleware] = ()) -> App:
        """By routes.yaml as it is now, which it then watches. Raises RouterError."""
        source = Source(settings.config, os.environ, settings.secrets_dir)
        look = source.look()
        if look.problems:
            raise ConfigInvalid(look.problems)
        config, tracing = source.load(look.files), tracing_by(os.environ)
        watched = (source, look)
        return cls(settings, config, log, watched=watched, middleware=middleware, tracing=tracing)

    def report(self) -> Report:
        """What the ops port reports of this process."""
        ready, lag = self._probes.ready, self._watchdog.worst
        store = kind_of(self._settings.store)
        return report_of(self.metrics, self.reload.standing, ready=ready, store=store, lag=lag)

    def warnings(self, config: Config) -> list[str]:
        """What is dubious about this configuration in this process's place."""
        warnings = [str(problem) for problem in config.warnings]
        if self._access(config).is_open and not is_loopback(self._settings.host):
            warnings.append(_EXPOSED)
        if self._tracing.problem:
            warnings.append(self._tracing.problem)
        kept = {
            "the store": self._settings.store,
            "its password": self._settings.store_password_file,
        }
        for what, path in kept.items():
            if isinstance(path, Path) and is_exposed(path):
                warnings.append(f"everybody on this machine can read {what}: chmod 600 {path}")
        archive = archive_folder(self._settings.archive, self._settings.store)
        if archive and may(archive, os.F_OK) and not archive.is_dir():
            warnings.append(f"the archive {archive} can't be used: it is a file")
        elif archive and not may(there(archive), os.W_OK | os.X_OK):
            warnings.append(f"the archive {archive} can't be written: {closed(archive)}")
        elif self._settings.archive == AUTO and isinstance(self._settings.store, Database):
            warnings.append(NO_ARCHIVE)
        return warnings

    def _access(self, config: Config) -> Access:
        ebaas, trusted = config.ebaas, Networks(self._settings.trusted_proxies or ())
        allowed = Networks(ebaas.allow_from) if ebaas.allow_from else None
        return Access(Tokens(ebaas.token, ebaas.token_header), allowed, trusted)

    def _archive_of(self, settings: Settings) -> Archive | None:
        folder = archive_folder(settings.archive, settings.store)
        if folder is None:
            return None
        shelf = Shelf(folder, settings.archive_max_bytes, settings.archive_keep)
        return Archive(shelf, self._unarchived, bodies=settings.archive_bodies)

    def _unarchived(self, count: int, why: str) -> None:
        folder = archive_folder(self._settings.archive, self._settings.store)
        self._log.warning("archive_lost", count=count, why=why, archive=str(folder))

    def _describe(self) -> Node:
        ready, lag = self._probes.ready, self._watchdog.worst
        self._measure()
        return described(self.identity, self.metrics, self.reload.standing, ready=ready, lag=lag)

    def _measure(self) -> None:
        self.metrics.requests_in_flight = self._callbacks.in_flight
        self.metrics.log_lines_lost = self._log.lost
        if self._archive is not None:
            self.metrics.archive_lines_lost = self._archive.lost
            self.metrics.archive_error = self._archive.why
            self.metrics.archive_failed_at = self._archive.failed_at

    def _count(self, table: RouteTable) -> None:
        """Count for these targets, and say what they are."""
        self.metrics.adopt(table.targets)
        for name, target in table.targets.items():
            about = {"owner": target.owner, "role": table.role_of(name)}
            self.metrics.of(name).about = about

    def _take(self, config: Config) -> list[str]:
        """Swap the configuration, between two requests. One that has begun keeps its own. Returns
        what is dubious about it."""
        self._count(config.table)
        unmatched = self.metrics.last_unmatched
        if unmatched and (config.unmatched == "accept" or config.table.match(unmatched).routes):
            self.metrics.route_found()
        self._sender.adopt(config.table.targets.values())
        self._callbacks.config = config
        self._callbacks.access = self._access(config)
        return self.warnings(config)

    def drain(self) -> None:
        """Be ready no more, and take up no more of the queue; requests are still handled."""
        if self._probes.ready:
            self._log.info("stopping")
        self._probes.ready = False
        self._stopping.set()

    async def hurry(self) -> None:
        """End the attempts in flight: every request is then decided, recorded and told."""
        await self._sender.close()

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Opens the store and all that works beside requests, and closes it, whatever fails. A
        database that is away is opened once it can be reached. Raises StartFailed."""
        async with AsyncExitStack() as closing:  # the last is closed first
            if (spans := self._tracing.spans) is not None:
                closing.push_async_callback(asyncio.to_thread, spans.close, SPANS_TIME)
            if self._archive is not None:
                self._archive.start()
                closing.push_async_callback(asyncio.to_thread, self._archive.close, ARCHIVE_TIME)
            closing.push_async_callback(self._leave)
            tried = asyncio.Event()
            working = asyncio.create_task(self._work(tried))
            working.add_done_callback(lambda _: tried.set())
            closing.push_async_callback(lambda: working)
            closing.push_async_callback(self._sender.close)
            self._watchdog.start()
            closing.callback(self._watchdog.stop)
            closing.callback(self._go_on(self.reload.run).cancel)
            closing.callback(self.drain)
            await tried.wait()
            if working.done():
                working.result()
            yield

    async def _work(self, tried: asyncio.Event) -> None:
        """Open the store; from then until the stop be ready, and at the queue. `tried` is set once
        it is open or known to be away. Raises StartFailed."""
        away = partial(self._away, tried)
        settings = self._settings
        limits = StoreLimits(settings.store_max_bytes, settings.store_max_rows)
        password, connections = settings.store_password_file, settings.store_connections
        opening = partial(open_store, settings.store, limits, password, connections)
        store = await opened(opening, away, self._store_lasts, self._stopping)
        if store is None:
            return
        self._store = store
        if self._awaited:
            self._log.info("store_opened", store=str(self._settings.store))
        queue = self._join(store)
        if store.remembers:
            pausing = Pausing(store, self._sender.hold, self._observer)
            await pausing.look()  # before the first event
            self._beside.append(self._go_on(pausing.run))
        self._probes.opening = False
        self._probes.ready = not self._stopping.is_set()
        if store.nodes is not None:
            presence = Heartbeat(store.nodes, self._describe, self.metrics)
            self._beside.append(self._go_on(presence.run))
        tried.set()
        await queue.run(self._stopping)

    def _go_on(self, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        return asyncio.create_task(lasting(work, self._log))

    def _store_lasts(self, seconds: float) -> None:
        self._log.info("store_opening", store=str(self._settings.store), seconds=round(seconds))

    def _away(self, tried: asyncio.Event, error: RouterError) -> None:
        """One line for as long as it is for the same reason."""
        why = str(error)
        if why != self._awaited:
            told = {"store": str(self._settings.store), "error": why}
            if isinstance(error, StoreFailed) and error.detail:
                told["detail"] = error.detail
            self._log.warning("store_awaited", **told)
        self._awaited = why
        self.metrics.store_failed(why if isinstance(error, StoreFailed) else "refused")
        tried.set()

    async def _leave(self) -> None:
        try:
            if self._memory is not None:
                # Nobody else knows that what was recorded before a `000` may be owed no more.
                with suppress(StoreFailed):
                    await self._memory.make_good(SPEND_TIMEOUT)
        finally:
            for task in self._beside:
                task.cancel()
            if self._beside:
                await asyncio.wait(self._beside)
            if self._store is not None:
                await self._store.close()

    def _join(self, store: Store) -> Queue:
        """Everything that needs the store."""
        if isinstance(store, SqliteStore):
            store.watch_commits(self.metrics.store_commit.observe)
        memory = self._memory = Memory(store)
        self._callbacks.forwarder = Forwarder(self._sends, memory, store.now)
        own = self._own_events
        return Queue(store, memory, self._sends, self._in_force, self._observer, own, Random())

    def _in_force(self) -> InForce:
        config = self._callbacks.config
        return InForce(config.table, config.terms)


def _engine(settings: Settings) -> Engine:
    if settings.engine == "native":
        return NativePool
    # It takes a tenth of a second to import, which only those who chose it wait for.
    from router.transport.httpx_engine import HttpxPool

    return HttpxPool
