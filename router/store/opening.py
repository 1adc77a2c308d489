"""Opening the store that the settings name, however long that takes; and the store for `none`."""

from __future__ import annotations

import asyncio
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from itertools import chain, repeat
from pathlib import Path

from router.model.errors import RouterError, StartFailed
from router.model.event import OutboundEvent
from router.store.admin import Admin
from router.store.protocol import (
    NO_DOOR,
    DeliveryRow,
    Door,
    Due,
    Ended,
    Kept,
    Nodes,
    Notice,
    Pause,
    Record,
    Settlement,
    Store,
    StoreFailed,
    StoreLimits,
    Tried,
    Usage,
)
from router.store.url import Database


class NoStore:
    """Remembers nothing, and refuses what would have to be durable."""

    remembers = False
    nodes: Nodes | None = None

    def now(self) -> float:
        return time.time()

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        return ()

    async def add(
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        raise StoreFailed("none")

    async def settle(self, settlement: Settlement, timeout: float) -> bool:
        return False

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        by: str = "",
    ) -> None:
        pass

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        return False

    async def missed(self, event_id: str, target: str, tried: Tried, timeout: float) -> None:
        pass

    async def revoke_all_credit(self, timeout: float) -> None:
        pass

    async def queue(self, timeout: float) -> Mapping[str, float]:
        return {}

    async def take(
        self, target: str, now: float, until: float, limit: int, timeout: float
    ) -> tuple[Due, ...]:
        return ()

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        return False

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        return ()

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        return 0

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        return ()

    async def notice(self, name: str, timeout: float) -> Notice | None:
        return None

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        return True

    async def usage(self, timeout: float) -> Usage:
        return Usage(0, 0, {}, 0.0)

    async def close(self) -> None:
        pass


#: Seconds between two attempts; the last one repeats.
WAITS = (0.5, 1.0, 2.0, 5.0)

#: An attempt that lasts is reported every so many seconds.
REPORT_EVERY = 2.0


def kind_of(store: Path | Database | None) -> tuple[str, str]:
    """Return the kind of the store, and its file or URL as it was given."""
    match store:
        case None:
            return "none", ""
        case Database():
            return "postgresql", str(store)
        case _:
            return "sqlite", str(store)


async def open_store(
    store: Path | Database | None,
    limits: StoreLimits,
    door: Door = NO_DOOR,
) -> Store:
    """Open the router's store. `door` is for other processes that want the same file. Raises
    StartFailed, and StoreFailed if the database is unreachable."""
    match store:
        case None:
            return NoStore()
        case Database() as database:
            # Only a router with PostgreSQL waits for the import of psycopg; likewise below.
            from router.store.postgres.store import PostgresStore

            return await PostgresStore.open(database, limits)
        case path:
            from router.store.sqlite.store import SqliteStore

            return await SqliteStore.open(path, limits, door=door)


async def look_into(
    store: Path | Database,
    limits: StoreLimits,
    *,
    read_only: bool = False,
) -> Admin:
    """Open a store for people's work. Makes no file and no table. Raises StartFailed, also for a
    file that another process owns, unless it is `read_only`."""
    if isinstance(store, Database):
        from router.store.postgres.admin import PostgresAdmin

        return await PostgresAdmin.open(store, limits)
    from router.store.sqlite.admin import SqliteAdmin

    return await SqliteAdmin.open(store, limits, read_only=read_only)


async def opened(
    open_: Callable[[], Awaitable[Store]],
    away: Callable[[RouterError], None],
    lasts: Callable[[float], None],
    stopping: asyncio.Event,
    report_every: float = REPORT_EVERY,
) -> Store | None:
    """Wait for the store; return None if the stop comes first.

    `away` gets the error of each attempt, `lasts` the seconds that an attempt has lasted, for
    instance while it upgrades a large file. Raises StartFailed only from the first attempt: later,
    while a password is changed for instance, a restart would not help more than waiting.
    """
    stop = asyncio.create_task(stopping.wait())
    waits = chain((0.0,), WAITS, repeat(WAITS[-1]))
    try:
        for number, wait in enumerate(waits):
            await asyncio.wait({stop}, timeout=wait)
            if stop.done():
                break
            try:
                return await _before(stop, open_(), lasts, report_every)
            except StoreFailed as error:
                away(error)
            except StartFailed as error:
                if number == 0:
                    raise
                away(error)
    finally:
        stop.cancel()
    return None


async def _before(
    stop: asyncio.Task[bool],
    opening: Awaitable[Store],
    lasts: Callable[[float], None],
    report_every: float,
) -> Store | None:
    """Return the opened store, None if the stop comes first."""
    task, began = asyncio.ensure_future(opening), time.monotonic()
    ends = {task, stop}
    while not (await asyncio.wait(ends, timeout=report_every, return_when=FIRST_COMPLETED))[0]:
        lasts(time.monotonic() - began)
    if task.done():
        return task.result()
    task.cancel()
    return None
