"""SQLite in one file: nothing to install, durable to the last commit, several processes at most."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from router.model.event import Letter
from router.store.attempts import Tried
from router.store.nodes import Nodes
from router.store.pauses import Pause
from router.store.promises import (
    CLOSE_TIMEOUT,
    DeliveryRow,
    Due,
    Ended,
    Kept,
    Notice,
    Record,
    Settlement,
    StoreFailed,
    StoreLimits,
    Usage,
)
from router.store.sqlite import reading
from router.store.sqlite.file import needs_reopening, open_reader, prepare, translated
from router.store.sqlite.rows import Rows
from router.store.sqlite.writer import CommitWriter, Job

#: Bytes of the disk that are left free for deleting: on a full disk not even that works.
DISK_RESERVE: Final = 16 * 1024 * 1024

#: How long the store tries to take the credit from a write that came too late, in seconds.
_SPEND_TIMEOUT: Final = 60.0

T = TypeVar("T")


class SqliteStore:
    """Reads on the loop's thread, where a point look-up takes microseconds and never waits for a
    writer; writes in a thread of its own. A disk that hangs in a read is what blocks the loop."""

    remembers = True
    nodes: Nodes | None = None

    def __init__(
        self,
        path: Path,
        reader: sqlite3.Connection,
        limits: StoreLimits,
        reserve: int,
        now: Callable[[], float],
    ) -> None:
        # The folder that a relative one counts from may go.
        self._path = path = path.absolute()
        #: Which file it is, whatever has that name later.
        self._file = path.stat()
        self._limits = limits
        #: Opened at the start: later a full disk or a lock could keep it from that.
        self._reader: sqlite3.Connection | None = reader
        #: Its one cursor for look-ups: to make one takes half as long as to look.
        self._looking: sqlite3.Cursor = reader.cursor()
        self._writer = CommitWriter(path, limits, reserve)
        self.now = now
        #: Events whose writes have missed their deadlines: they may commit yet, and grant nothing.
        self._late: set[str] = set()

    @classmethod
    async def open(
        cls,
        path: Path,
        limits: StoreLimits,
        reserve: int = DISK_RESERVE,
        now: Callable[[], float] = time.time,
    ) -> SqliteStore:
        """Raises StartFailed, with one line, for a file that can't be used."""
        reader = await asyncio.to_thread(prepare, path)
        return cls(path, reader, limits, reserve, now)

    def watch_commits(self, committed: Callable[[float], None]) -> None:
        """Have that called after each commit, in the writer's thread, with the seconds it took."""
        self._writer.committed = committed

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        try:
            if self._reader is None:
                self._reopen()
            found = reading.find(self._looking, digest)
        except sqlite3.Error as error:
            raise self._failed(error) from None
        except BaseException:
            self._renew_cursor()
            raise
        if found and self._late:
            return tuple([each.without_credit_of(self._late) for each in found])
        return found

    async def queue(self, timeout: float) -> Mapping[str, float]:
        return self._read(reading.queue)

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        return self._read(reading.pauses)

    async def notice(self, name: str, timeout: float) -> Notice | None:
        return self._read(partial(reading.notice, name=name))

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        return await self._write(lambda rows: rows.notify(name, notice, before), timeout)

    async def usage(self, timeout: float) -> Usage:
        self._check_file()
        usage = self._read(partial(reading.usage, limits=self._limits))
        self._writer.full = usage.full
        return usage

    async def add(
        self, record: Record, letter: Letter, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        job = self._job(lambda all_rows: all_rows.add(record, letter, rows), timeout, grows=True)
        job.afterwards = partial(self._came_late, record.event_id)
        try:
            await self._done(job, timeout)
        finally:
            if job.done.cancelled():
                self._late.add(record.event_id)

    async def settle(self, settlement: Settlement, timeout: float) -> bool:
        return await self._write(lambda rows: rows.settle(settlement), timeout)

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        by: str = "",
    ) -> None:
        await self._write(lambda rows: rows.supersede(event_ids, reached, now, by), timeout)

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        return await self._write(lambda rows: rows.acknowledge(event_id, target, now), timeout)

    async def missed(self, event_id: str, target: str, tried: Tried, timeout: float) -> None:
        await self._write(lambda rows: rows.missed(event_id, target, tried), timeout)

    async def spend_all(self, timeout: float) -> None:
        await self._write(lambda rows: rows.spend_all(), timeout)

    async def take(
        self, target: str, now: float, until: float, limit: int, timeout: float
    ) -> tuple[Due, ...]:
        return await self._write(lambda rows: rows.take(target, now, until, limit), timeout)

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        return await self._write(lambda rows: rows.finish(due, row, now), timeout)

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        return await self._write(lambda rows: rows.end(now, limit), timeout)

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        job = self._job(lambda rows: rows.prune(now, limit), timeout, frees=True)
        return await self._done(job, timeout)

    async def close(self) -> None:
        await self._writer.close(CLOSE_TIMEOUT)
        self._close_reader()

    def _check_file(self) -> None:
        """Raises StoreFailed where the file has gone from its place: what is written into it still
        works, and ends with this process."""
        with suppress(OSError):
            if os.path.samestat(self._path.stat(), self._file):
                return
        raise StoreFailed("gone")

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return work(self._reader or self._reopen())
        except sqlite3.Error as error:
            raise self._failed(error) from None

    def _reopen(self) -> sqlite3.Connection:
        if self._writer.is_closed:
            raise StoreFailed("closed")
        reader = self._reader = open_reader(self._path)
        self._looking = reader.cursor()
        return reader

    def _failed(self, error: sqlite3.Error) -> StoreFailed:
        """What a read has failed by. Where it says so, the next one opens the file anew."""
        if needs_reopening(error):
            with suppress(sqlite3.Error):
                self._close_reader()
        else:
            self._renew_cursor()
        return translated(error)

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            self._looking.close()
            reader.close()

    def _renew_cursor(self) -> None:
        """A statement that has not come to its end would keep its read transaction, and the log
        from being cut."""
        with suppress(sqlite3.Error):
            self._looking.close()
            if self._reader is not None:
                self._looking = self._reader.cursor()

    async def _write(self, work: Callable[[Rows], T], timeout: float) -> T:
        result: T = await self._done(self._job(work, timeout), timeout)
        return result

    def _job(
        self,
        work: Callable[[Rows], object],
        timeout: float,
        *,
        grows: bool = False,
        frees: bool = False,
    ) -> Job:
        return Job(work, time.monotonic() + timeout, grows=grows, frees=frees)

    async def _done(self, job: Job, timeout: float) -> T:
        self._writer.submit(job)
        try:
            async with asyncio.timeout(timeout):
                result: T = await job.done
                return result
        except TimeoutError:
            # The time may be over in the very turn of the loop in which it was done.
            if not job.done.cancelled():
                made: T = job.done.result()
                return made
            raise StoreFailed("slow") from None

    def _came_late(self, event_id: str, committed: bool) -> None:
        """A write that has missed its deadline: take its credit, and only then show it as it is."""
        if not committed:
            self._late.discard(event_id)
            return
        job = self._job(lambda rows: rows.spend(event_id), _SPEND_TIMEOUT)
        job.done.add_done_callback(partial(self._spent, event_id))
        with suppress(StoreFailed):
            self._writer.submit(job)

    def _spent(self, event_id: str, done: asyncio.Future[None]) -> None:
        if done.exception() is None:
            self._late.discard(event_id)
