"""Opening the store that the settings name, however long that takes; and the store for `none`."""

from __future__ import annotations

import asyncio
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Awaitable, Callable, Coroutine
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from router.model.errors import RouterError, StartFailed
from router.store.admin import Admin
from router.store.protocol import NO_DOOR, Door, Nodes, Store, StoreFailed, StoreLimits, Usage
from router.store.url import Database


def _returns(value: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Return a method that returns a value for any arguments."""

    async def method(*_: Any, **__: Any) -> Any:
        return value

    return method


class NoStore:
    """Remembers nothing, and refuses an event that would have to be durable."""

    remembers = False
    nodes: Nodes | None = None

    def now(self) -> float:
        return time.time()

    async def add(self, *_: Any, **__: Any) -> None:
        raise StoreFailed("none")

    find = lease = end = pauses = _returns(())
    settle = acknowledge = finish = _returns(False)
    supersede = missed = revoke_all_credit = notice = close = _returns(None)
    queue = _returns({})
    prune = _returns(0)
    notify = _returns(True)
    usage = _returns(Usage(0, 0, {}, 0.0))


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
    store: Path | Database | None, limits: StoreLimits, door: Door = NO_DOOR
) -> Store:
    """Open the router's store. `door` is for other processes that want the same file. Raises
    StartFailed, and StoreFailed if the database is unreachable."""
    if store is None:
        return NoStore()
    if isinstance(store, Database):
        # Only a router with PostgreSQL waits for the import of psycopg; likewise below.
        from router.store.postgres.store import PostgresStore

        return await PostgresStore.open(store, limits)
    from router.store.sqlite.store import SqliteStore

    return await SqliteStore.open(store, limits, door=door)


async def look_into(
    store: Path | Database, limits: StoreLimits, *, read_only: bool = False
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
    try:
        for number, wait in enumerate(chain((0.0,), WAITS, repeat(WAITS[-1]))):
            await asyncio.wait({stop}, timeout=wait)
            if stop.done():
                break
            opening, began = asyncio.ensure_future(open_()), time.monotonic()
            while not stop.done() and not opening.done():
                done, _ = await asyncio.wait(
                    (opening, stop), timeout=report_every, return_when=FIRST_COMPLETED
                )
                if not done:
                    lasts(time.monotonic() - began)
            if not opening.done():
                opening.cancel()
                break
            try:
                return opening.result()
            except (StoreFailed, StartFailed) as error:
                if number == 0 and isinstance(error, StartFailed):
                    raise
                away(error)
    finally:
        stop.cancel()
    return None
