"""What people ask of a SQLite store's file, on a connection of its own beside the router's."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from router.store.ops import START, Action, Count, Dossier, Entry, Resend, Resent, Selection
from router.store.pauses import Pause
from router.store.promises import StoreLimits
from router.store.sqlite import listing, reading
from router.store.sqlite.acting import act, end_pause, put_pause, resend
from router.store.sqlite.file import open_existing, translated

T = TypeVar("T")


class SqliteOps:
    """Works in threads, one call after another; a cancelled call is interrupted."""

    def __init__(
        self, connection: sqlite3.Connection, limits: StoreLimits, now: Callable[[], float]
    ) -> None:
        self._connection = connection
        self._limits = limits
        self._lock = threading.Lock()
        self.now = now

    @classmethod
    async def open(
        cls, path: Path, limits: StoreLimits, now: Callable[[], float] = time.time
    ) -> SqliteOps:
        """Raises StartFailed, with one line, for a file that can't be used. Makes none."""
        return cls(await asyncio.to_thread(open_existing, path), limits, now)

    async def counts(self, selection: Selection) -> tuple[Count, ...]:
        return await self._call(partial(listing.counts, selection=selection))

    async def pages(
        self, selection: Selection, size: int, after: tuple[int, str] = START
    ) -> AsyncIterator[tuple[Entry, ...]]:
        while page := await self._call(
            partial(listing.page, selection=selection, after=after, size=size)
        ):
            yield page
            after = (page[-1].seq, page[-1].row.target)

    async def dossier(self, event_id: str) -> Dossier | None:
        return await self._call(partial(listing.dossier, event_id=event_id))

    async def act(self, action: Action, entries: Sequence[Entry]) -> int:
        now = self.now()
        return await self._call(
            lambda connection: act(connection, self._limits, action, entries, now)
        )

    async def resend(self, action: Action, target: str, events: Sequence[Resend]) -> Resent:
        now = self.now()
        return await self._call(
            lambda connection: resend(connection, self._limits, action, target, events, now)
        )

    async def actions(self, limit: int) -> tuple[Action, ...]:
        return await self._call(partial(listing.actions, limit=limit))

    async def nodes(self) -> None:
        """It is one machine's."""

    async def pauses(self) -> tuple[Pause, ...]:
        return await self._call(reading.pauses)

    async def put_pause(self, pause: Pause) -> None:
        await self._call(partial(put_pause, pause=pause))

    async def end_pause(self, target: str, who: str) -> Pause | None:
        return await self._call(partial(end_pause, target=target, who=who, now=self.now()))

    async def close(self) -> None:
        with self._lock:
            self._connection.close()

    async def _call(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return await asyncio.to_thread(self._locked, work)
        except asyncio.CancelledError:
            self._connection.interrupt()
            raise

    def _locked(self, work: Callable[[sqlite3.Connection], T]) -> T:
        with self._lock:
            try:
                return work(self._connection)
            except sqlite3.Error as error:
                raise translated(error) from None
