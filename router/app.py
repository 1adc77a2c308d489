"""The only place that joins the parts of a router, and starts and stops them."""

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

from router.archive.refused import REFUSED_BOUND, refused_line
from router.archive.segments import LEAST_REFUSED, REFUSED, REFUSED_SHARE, SegmentStore
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
from router.model.errors import RouterError, may, there, why_closed
from router.model.secret import is_exposed
from router.net.access import Access, Tokens
from router.net.egress import is_loopback
from router.ops.hour import History
from router.ops.insight import Heartbeat, Identity, Insight
from router.ops.lookback import forget_matched
from router.routing.table import RouteTable
from router.store.opening import kind_of, open_store, opened
from router.store.protocol import StoreFailed, StoreLimits
from router.store.sqlite.store import SqliteStore
from router.store.url import Database
from router.telemetry.lag import Watchdog, lasting
from router.telemetry.log import Log
from router.telemetry.metrics import Metrics
from router.telemetry.tracing import NO_TRACES, Tracing, tracing_by
from router.transport.engine import Engine
from router.transport.native import NativePool
from router.web.callbacks import Callbacks, Probes, Straight, refusals, routes

#: One target may hold this part of all requests in flight: one in so many.
SHARE = 2

#: The longest waits of a stop, in seconds: for the store to take what it could not take before, for
#: the archive's last lines, and for a collector to receive the last spans.
PENDING_TIMEOUT, ARCHIVE_TIME, SPANS_TIME = 1.0, 2.0, 1.0

#: The warning that there is no archive beside a PostgreSQL store.
NO_ARCHIVE = (
    "the archive is off, as by default with PostgreSQL: trace shows nothing of events that were "
    "acknowledged, and only the failed attempts of others; --archive FOLDER turns it on"
)

_EXPOSED = "anybody who reaches this port may send events: see ebaas.token and ebaas.allow_from"


class App(Starlette):
    """The router as any ASGI server serves it. Each of its parts is made of those above it."""

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
        self.settings, self.log, self.tracing = settings, log, tracing
        self.config_state = ConfigState(config, since=time.time(), tried_at=time.time())
        #: This process as other nodes on the same store see it.
        self.identity = Identity()
        self.probes = Probes()
        self.recoveries = Recoveries()
        metrics = self.metrics = Metrics(requests_limit=settings.max_requests)
        _count_targets(metrics, config.table)
        self.archive, self.refused = _archives(settings, log)
        self.notifications = Notifications(self.in_force, metrics, log)
        spans = tracing.spans
        observer = self.observer = Observer(
            log,
            metrics,
            self.notifications,
            self.archive,
            self.refused,
            traced=spans is not None,
        )
        targets, share = config.table.targets.values(), max(1, settings.max_requests // SHARE)
        self.sender = Sender(targets, _engine(settings), share, metrics, observer, spans)
        intake = Intake.of(settings.schema)
        access = _access(settings, config)
        self.callbacks = Callbacks(config, access, intake, observer, settings.max_requests)
        self.reload = Reload(
            watched,
            self.config_state,
            self.adopt,
            self.sender.sweep,
            log,
            metrics,
            on_reload=lambda of: self.notifications.reloaded(
                of.hash, of.changes, of.problems, of.owner
            ),
        )
        metrics.readings += [self._measure, self.sender.measure, self.reload.measure]
        self.history = History(metrics, time.time())
        self.watchdog = Watchdog(metrics, log)
        self.insight = Insight(
            self.identity,
            metrics,
            self.config_state,
            intake,
            self.history,
            observer.observations,
            self.recoveries,
            log,
            store=kind_of(settings.store),
            health=lambda: (self.probes.ready, self.watchdog.worst),
        )
        self._stopping = asyncio.Event()
        #: Why the last attempt to open the store failed.
        self._awaited = ""
        path = settings.path.reveal()
        endpoint: ASGIApp = self.callbacks
        if spans is not None:
            endpoint = spans.around(endpoint, str(settings.path))
        super().__init__(
            routes=routes(path, endpoint, self.probes),
            middleware=middleware,
            exception_handlers=refusals(observer),
            lifespan=lambda _: self.lifespan(),
        )
        self.router.redirect_slashes = False
        #: The application for our own server.
        self.entry: ASGIApp = self if middleware else Straight(self, path, endpoint)

    @classmethod
    def loaded(cls, settings: Settings, log: Log, middleware: Sequence[Middleware] = ()) -> App:
        """Return a router with the current routes.yaml, which it watches. Raises RouterError."""
        file = last_good_file(settings)
        kept = LastGood(file, settings.config) if file else None
        source = Source(settings.config, os.environ, settings.secrets_dir, kept)
        look, config, refused = source.start()
        watched, tracing = (source, look), tracing_by(os.environ)
        app = cls(settings, config, log, watched=watched, middleware=middleware, tracing=tracing)
        app.config_state.refused = refused
        if kept:
            app.config_state.reloads.extend(kept.reloads())
        return app

    def in_force(self) -> InForce:
        config = self.callbacks.config
        return InForce(config.table, config.terms)

    def adopt(self, config: Config) -> list[str]:
        """Use this configuration for all requests that begin from now on; return its warnings."""
        table = config.table
        _count_targets(self.metrics, table)
        forget_matched(self.metrics, config)
        self.sender.adopt(table.targets.values())
        self.callbacks.config = config
        self.callbacks.access = _access(self.settings, config)
        return self.warnings(config)

    def warnings(self, config: Config) -> list[str]:
        """Return the warnings about this configuration, and about the settings of this process."""
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
            warnings.append(f"the archive {archive} can't be written: {why_closed(archive)}")
        elif settings.archive == AUTO and isinstance(settings.store, Database):
            warnings.append(NO_ARCHIVE)
        return warnings

    def _measure(self) -> None:
        """Update the gauges."""
        metrics = self.metrics
        metrics.requests_in_flight = self.callbacks.in_flight
        metrics.log_lines_lost = self.log.lost
        for name, numbers in metrics.targets.items():
            numbers.recovery = self.recoveries.progress(name)
            numbers.recovering = int(numbers.recovery is not None)
        if self.archive is not None and self.refused is not None:
            metrics.archive_lines_lost = self.archive.lost + self.refused.lost
            last = max(self.archive, self.refused, key=lambda archive: archive.failed_at)
            metrics.archive_error, metrics.archive_failed_at = last.why, last.failed_at

    # From the start to the stop.

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Open the store and start what works beside requests, and close it at the end, even if
        something fails. Without its database the router starts, and opens the store once it can be
        reached. Raises StartFailed.

        The order of the stop, after the last reply: reloads; attempts in flight, which are aborted;
        the queue; the heartbeat and the pauses; what the store still lacks; the store; the
        archives; the traces.
        """
        async with AsyncExitStack() as closing:  # closes in reverse order
            if (spans := self.tracing.spans) is not None:
                closing.push_async_callback(asyncio.to_thread, spans.close, SPANS_TIME)
            for archive in filter(None, (self.archive, self.refused)):
                archive.start()
                closing.push_async_callback(asyncio.to_thread, archive.close, ARCHIVE_TIME)
            storing = await closing.enter_async_context(AsyncExitStack())
            first_try_done = asyncio.Event()
            working = asyncio.create_task(self._work(first_try_done, storing))
            working.add_done_callback(lambda _: first_try_done.set())
            closing.push_async_callback(lambda: working)
            closing.push_async_callback(self.sender.close)
            self.watchdog.start()
            closing.callback(self.watchdog.stop)
            closing.callback(self.drain)
            await first_try_done.wait()
            if working.done():
                working.result()
            # Not before the store is ours: it writes the texts in force beside it.
            self._go_on(self.reload.run, closing)
            self._go_on(self.history.run, closing)
            yield

    def drain(self) -> None:
        """Report not ready and stop the queue; requests are still handled."""
        if self.probes.ready:
            self.log.info("stopping")
        self.probes.ready = False
        self._stopping.set()

    async def _work(self, first_try_done: asyncio.Event, storing: AsyncExitStack) -> None:
        """Open the store, report ready, and run the queue until the stop.

        Sets `first_try_done` once the store is open or cannot be reached. The store is closed with
        `storing`, because attempts that are aborted after the queue has stopped are still recorded.
        Raises StartFailed.
        """
        settings, metrics = self.settings, self.metrics
        limits = StoreLimits(settings.store_max_bytes)
        opening = partial(open_store, settings.store, limits, self.identity.door)
        away = partial(self._away, first_try_done)
        store = await opened(opening, away, self._store_lasts, self._stopping)
        if store is None:
            return
        storing.push_async_callback(store.close)
        if self._awaited:
            self.log.info("store_opened", store=str(settings.store))
        if isinstance(store, SqliteStore):
            store.watch_commits(metrics.store_commit.observe)
        memory = Memory(store)
        storing.push_async_callback(_write_pending, memory)
        self.callbacks.forwarder = Forwarder(self.sender, memory)
        queue = Queue(
            store,
            memory,
            self.sender,
            self.in_force,
            self.observer,
            self.notifications,
            Random(),
            recoveries=self.recoveries,
        )
        if store.remembers:
            await self.sender.read_pauses(store)  # before the first event
            self._go_on(partial(self.sender.follow_pauses, store), storing)
        self.probes.opening = False
        self.probes.ready = not self._stopping.is_set()
        if store.nodes is not None:
            self._go_on(Heartbeat(store.nodes, self.insight.node, metrics).run, storing)
        first_try_done.set()
        await queue.run(self._stopping)

    def _go_on(self, work: Callable[[], Awaitable[None]], until: AsyncExitStack) -> None:
        """Do the work again after each of its faults, until that is closed."""
        until.push_async_callback(_ended, asyncio.create_task(lasting(work, self.log)))

    def _store_lasts(self, seconds: float) -> None:
        store = str(self.settings.store)
        self.log.info("store_opening", store=store, seconds=round(seconds))

    def _away(self, first_try_done: asyncio.Event, error: RouterError) -> None:
        """Log that the store cannot be reached, once for each reason."""
        why, failed = str(error), isinstance(error, StoreFailed)
        if why != self._awaited:
            fields = {"store": str(self.settings.store), "error": why}
            if isinstance(error, StoreFailed) and error.detail:
                fields["detail"] = error.detail
            self.log.warning("store_awaited", **fields)
        self._awaited = why
        self.metrics.store_failed(why if failed else "refused")
        first_try_done.set()


def _archives(settings: Settings, log: Log) -> tuple[Archive | None, Archive | None]:
    """Return the archive of events and that of refused callbacks, which has a thread, a queue and a
    limit of its own: no flood of garbage costs a line of an event."""
    archive = archive_folder(settings.archive, settings.store)
    if archive is None:
        return None, None

    def warn(folder: Path, count: int, why: str) -> None:
        log.warning("archive_lost", count=count, why=why, archive=str(folder))

    size, keep, bodies = settings.archive_max_bytes, settings.archive_keep, settings.archive_bodies
    part = max(LEAST_REFUSED, size // REFUSED_SHARE)
    events, refused = (
        SegmentStore(archive, size - part, keep),
        SegmentStore(archive, part, keep, part=REFUSED),
    )
    return (
        Archive(events, partial(warn, archive), bodies=bodies),
        Archive(
            refused,
            partial(warn, archive / REFUSED),
            bound=REFUSED_BOUND,
            render=partial(refused_line, bodies=bodies),
        ),
    )


def _engine(settings: Settings) -> Engine:
    if settings.engine == "native":
        return NativePool
    # Importing it takes a tenth of a second.
    from router.transport.httpx_engine import HttpxPool

    return HttpxPool


def _access(settings: Settings, config: Config) -> Access:
    ebaas, trusted = config.ebaas, settings.trusted_proxies or ()
    return Access(Tokens(ebaas.token, ebaas.token_header), ebaas.allow_from, trusted)


def _count_targets(metrics: Metrics, table: RouteTable) -> None:
    """Make the metrics of the targets in the table."""
    metrics.adopt(table.targets)
    for name, target in table.targets.items():
        metrics.of(name).about = {"owner": target.owner, "role": table.role_of(name)}


async def _write_pending(memory: Memory) -> None:
    # Only this process knows which recorded acknowledgements were revoked.
    with suppress(StoreFailed):
        await memory.write_pending(PENDING_TIMEOUT)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
