"""The store: the loop's thread looks up, one thread writes; waiting writes share an fsync."""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

from router.model.event import OutboundEvent
from router.net.loops import TICK
from router.store.protocol import (
    CLOSE_TIMEOUT,
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
    StoreFailed,
    StoreFull,
    StoreLimits,
    Tried,
    Usage,
)
from router.store.sqlite import rows as reading
from router.store.sqlite.file import (
    Owner,
    connect,
    needs_reopening,
    open_file,
    open_in_thread,
    open_reader,
    translated,
)
from router.store.sqlite.rows import Rows

#: Bytes of the disk that are left free for deleting: on a full disk not even that works.
DISK_RESERVE: Final = 16 * 1024 * 1024

#: How long the store tries to take the credit from a write that came too late, in seconds.
_SPEND_TIMEOUT: Final = 60.0

#: The most writes that share a commit.
_GROUP = 256

#: The most writes that wait; one more fails at once, so that a stuck disk does not fill memory.
_MAX_WAITING = 4096

#: Pages that are given back to the file system after a commit that deletes: 2 MB.
_GIVEN_BACK = 512

Work = Callable[[Rows], Any]

T = TypeVar("T")


class SqliteStore:
    """Reads on the loop's thread, where a point look-up takes microseconds and never waits for a
    writer; writes in a thread of its own. A disk that hangs in a read is what blocks the loop.

    The process owns the file, so it knows in memory which bodies have no event in it.
    """

    remembers = True
    nodes: Nodes | None = None

    def __init__(
        self,
        path: Path,
        owner: Owner,
        reader: sqlite3.Connection,
        limits: StoreLimits,
        reserve: int,
        now: Callable[[], float],
    ) -> None:
        # The folder that a relative one counts from may go.
        self._path = path = path.absolute()
        #: Which file it is, whatever has that name later.
        self._file = path.stat()
        self._owner = owner
        self._known = owner.known
        self._limits = limits
        #: Opened at the start: later a full disk or a lock could keep it from that.
        self._reader: sqlite3.Connection | None = reader
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
        door: Door = NO_DOOR,
    ) -> SqliteStore:
        """Raises StartFailed, with one line, for a file that can't be used, or that another
        process has open. `door` is what other processes are told: where to ask this one."""
        owner, reader = await open_in_thread(partial(open_file, path, door))
        return cls(path, owner, reader, limits, reserve, now)

    def watch_commits(self, committed: Callable[[float], None]) -> None:
        """Have that called after each commit, in the writer's thread, with the seconds it took."""
        self._writer.committed = committed

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        if digest not in self._known:
            return ()
        found = self._read(partial(reading.find, digest=digest))
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
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        job = self._job(lambda all_rows: all_rows.add(record, letter, rows), timeout, grows=True)
        job.ended = partial(self._added, record.event_id, letter.digest)
        # Before the write can be seen.
        self._known.add(letter.digest)
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
        job.ended = self._pruned
        return len(await self._done(job, timeout))

    async def close(self) -> None:
        is_done = await self._writer.close(CLOSE_TIMEOUT)
        self._close_reader()
        if is_done:
            self._owner.release()

    def _check_file(self) -> None:
        """Raises StoreFailed where the file has gone from its place: what is written into it still
        works, and ends with this process."""
        with suppress(OSError):
            if os.path.samestat(self._path.stat(), self._file) and self._owner.is_sole():
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
        return reader

    def _failed(self, error: sqlite3.Error) -> StoreFailed:
        """What a read has failed by. Where it says so, the next one opens the file anew."""
        if needs_reopening(error):
            with suppress(sqlite3.Error):
                self._close_reader()
        return translated(error)

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

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
        # A timer may ring a moment early: no write is begun whose caller may have given up.
        return Job(work, time.monotonic() + timeout - TICK, grows=grows, frees=frees)

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

    def _added(self, event_id: str, digest: bytes, job: Job, *, late: bool) -> None:
        if isinstance(job.error, StoreFull):
            self._known.remove(digest)
        if not late:
            return
        if job.error is not None:
            self._late.discard(event_id)
            return
        # It has missed its deadline: take its credit, and only then show it as it is.
        spending = self._job(lambda rows: rows.spend(event_id), _SPEND_TIMEOUT)
        spending.done.add_done_callback(partial(self._spent, event_id))
        with suppress(StoreFailed):
            self._writer.submit(spending)

    def _pruned(self, job: Job, *, late: bool) -> None:
        for digest in job.result or ():
            self._known.remove(digest)

    def _spent(self, event_id: str, done: asyncio.Future[None]) -> None:
        if done.exception() is None:
            self._late.discard(event_id)


def _nothing(job: Job, *, late: bool) -> None:
    """Nothing has to be done at the job's end."""


class Job:
    """One write on its way through the thread."""

    def __init__(self, work: Work, deadline: float, *, grows: bool, frees: bool) -> None:
        self.work = work
        #: It deletes, so that there may be pages to give back.
        self.frees = frees
        #: It needs room, so that it must leave the reserve alone.
        self.grows = grows
        #: On time.monotonic; a write that has not begun by then is dropped.
        self.deadline = deadline
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        #: Called on the loop at its end. `late`: the caller was already told that it failed.
        self.ended: Callable[..., None] = _nothing
        self.result: Any = None
        self.error: Exception | None = None

    def deliver(self) -> None:
        """On the loop: tell the caller, who may be gone."""
        self.ended(self, late=self.done.done())
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class CommitWriter:
    """Owns the connection that writes; it is opened, used and closed in its own thread."""

    def __init__(self, path: Path, limits: StoreLimits, reserve: int) -> None:
        self._path = path
        self._limits = limits
        #: Bytes of the disk that growing writes leave free, so that deleting still works.
        self._reserve = reserve
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection: sqlite3.Connection | None = None
        self.is_closed = False
        self._runner = threading.Thread(target=self._run, name="store", daemon=True)
        self._runner.start()
        #: What is out of room for attempts: targets, and `""` for the store as a whole.
        self.full: frozenset[str] = frozenset()
        #: Called in this thread after each commit, with the seconds it took.
        self.committed: Callable[[float], None] = lambda seconds: None

    def submit(self, job: Job) -> None:
        """Raises StoreFailed where too many are waiting already, or it is closed."""
        if self.is_closed:
            raise StoreFailed("closed")
        if self._jobs.qsize() >= _MAX_WAITING:
            raise StoreFailed("slow")
        self._jobs.put(job)

    async def close(self, timeout: float) -> bool:
        """Take no more, and finish what is waiting, for so long; False if the thread hangs, which
        is left behind."""
        self.is_closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._runner.join, timeout)
        return not self._runner.is_alive()

    def _run(self) -> None:
        open_ = True
        while open_:
            jobs, open_ = self._next()
            self._commit(_in_time(jobs))
            # The loop is closed where the process is just ending.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_deliver, jobs)
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> tuple[list[Job], bool]:
        """The next group; False with the last one."""
        jobs: list[Job] = []
        waiting = self._jobs.get()
        while waiting is not None:
            jobs.append(waiting)
            if len(jobs) == _GROUP or self._jobs.empty():
                return jobs, True
            waiting = self._jobs.get()
        return jobs, False

    def _commit(self, jobs: list[Job]) -> None:
        """All of the group or nothing: each job gets its result, or the error of all."""
        if not jobs:
            return
        try:
            connection = self._connection = self._connection or connect(self._path)
            connection.execute("BEGIN IMMEDIATE")
            # The lock may have taken longer than some of them had.
            jobs = _in_time(jobs)
            room = self._has_room(jobs)
            full = self.full if room else frozenset({""})
            rows = Rows(connection, self._limits, full)
            for job in jobs:
                _perform(job, rows, room)
            began = time.monotonic()
            connection.execute("COMMIT")
            self.committed(time.monotonic() - began)
        except sqlite3.Error as error:
            self._recover(error)
            for job in jobs:
                job.error = translated(error)
        except OSError:  # the file's folder is not there, or does not answer
            self._recover(None)
            for job in jobs:
                job.error = StoreFailed("unreachable")
        except Exception as error:  # noqa: BLE001 - the thread must live, and the callers must know
            self._recover(None)
            for job in jobs:
                job.error = error
        else:
            if any(job.frees for job in jobs):
                _give_back(connection)

    def _has_room(self, jobs: list[Job]) -> bool:
        """Raises OSError where a job has to know."""
        try:
            return shutil.disk_usage(self._path.parent).free >= self._reserve
        except OSError:
            if any(job.grows for job in jobs):
                raise
            return False

    def _recover(self, error: sqlite3.Error | None) -> None:
        connection = self._connection
        if connection is None:
            return
        with contextlib.suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if error is None or needs_reopening(error):
            self._connection = None
            with contextlib.suppress(sqlite3.Error):
                connection.close()


def _in_time(jobs: list[Job]) -> list[Job]:
    """The jobs that have time left; the others fail, and are not done."""
    now = time.monotonic()
    for job in jobs:
        if job.deadline < now:
            job.error = StoreFailed("slow")
    return [job for job in jobs if job.error is None]


def _give_back(connection: sqlite3.Connection) -> None:
    """Free pages go back to the file system; if not now, then later."""
    with contextlib.suppress(sqlite3.Error):
        if connection.execute("PRAGMA freelist_count").fetchone()[0] == 0:
            return
        # As a script, since a single step of the statement gives back one page alone.
        connection.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK})")
        # The file is cut back when the log is written into it.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _perform(job: Job, rows: Rows, room: bool) -> None:
    """A refusal concerns its own job alone: it has written nothing."""
    if job.grows and not room:
        job.error = StoreFull()
        return
    try:
        job.result = job.work(rows)
    except StoreFull as error:
        job.error = error


def _deliver(jobs: list[Job]) -> None:
    for job in jobs:
        job.deliver()
