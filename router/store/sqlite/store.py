"""The store: the loop's thread reads, another thread writes; waiting writes share one fsync."""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from router.model.event import OutboundEvent
from router.net.loops import TICK
from router.store.protocol import (
    CLOSE_TIMEOUT,
    NO_DOOR,
    DeliveryRow,
    Door,
    Due,
    Early,
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
    result_of,
)
from router.store.sqlite import statements
from router.store.sqlite.file import (
    Owner,
    connect,
    needs_reopening,
    open_file,
    open_in_thread,
    open_reader,
    translated,
)
from router.store.sqlite.statements import Statements

#: Bytes of the disk that are left free: on a full disk, not even deleting works.
DISK_RESERVE: Final = 16 * 1024 * 1024

#: The most writes that share a commit.
_GROUP = 256

#: The most writes that wait. A further one fails at once: a stuck disk must not fill memory.
_MAX_WAITING = 4096

#: Pages that a commit which deletes returns to the file system: 2 MB.
_GIVEN_BACK = 512

T = TypeVar("T")


class SqliteStore:
    """A store in a SQLite file, which this process owns: see `Owner`.

    It reads on the loop's thread, where a point look-up takes microseconds and never waits for a
    writer, and writes in another thread. Only a disk that hangs in a read blocks the loop. Memory
    knows which bodies have no event in the file.
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
        # The folder that a relative path refers to may be deleted.
        self._path = path = path.absolute()
        #: The identity of the file: another may get its name.
        self._file = path.stat()
        self._owner = owner
        self._known = owner.known
        self._limits = limits
        #: Opened at the start: later, a full disk or a lock could prevent that.
        self._reader: sqlite3.Connection | None = reader
        self._writer = CommitWriter(path, limits, reserve)
        self.now = now
        #: Events whose writes have missed their deadlines. They may still commit, without credit.
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
        """Raises StartFailed, with one line, for a file that cannot be used, or that another
        process owns. `door` tells other processes how to reach this one."""
        owner, reader = await open_in_thread(partial(open_file, path, door))
        return cls(path, owner, reader, limits, reserve, now)

    def watch_commits(self, committed: Callable[[float], None]) -> None:
        """Call `committed` after each commit, in the writer's thread, with its duration."""
        self._writer.committed = committed

    async def find(self, digest: bytes, timeout: float) -> tuple[Kept, ...]:
        if digest not in self._known:
            return ()
        events = self._read(partial(statements.find, digest=digest))
        return tuple([event.without_late_credit(self._late) for event in events])

    async def queue(self, timeout: float) -> Mapping[str, float]:
        return self._read(statements.queue)

    async def pauses(self, timeout: float) -> tuple[Pause, ...]:
        return self._read(statements.pauses)

    async def notice(self, name: str, timeout: float) -> Notice | None:
        return self._read(partial(statements.notice, name=name))

    async def usage(self, timeout: float) -> Usage:
        usage = self._read(partial(statements.usage, limits=self._limits))
        self._check_file()
        self._writer.full = usage.full
        return usage

    async def add(
        self, record: Record, letter: OutboundEvent, rows: Sequence[DeliveryRow], timeout: float
    ) -> None:
        job = Job(lambda sql: sql.add(record, letter, rows), timeout, grows=True)
        job.ended = partial(self._forget_unmade, letter.digest)
        self._writer.submit(job)
        # Before another look-up can see the event: it reads on this thread.
        self._known.add(letter.digest)
        try:
            await result_of(job.done, timeout)
        finally:
            if job.done.cancelled():
                self._revoke_late(record.event_id, job)

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        job: Job[list[bytes]] = Job(lambda sql: sql.prune(now, limit), timeout, frees=True)
        job.ended = self._forget_pruned
        self._writer.submit(job)
        digests = await result_of(job.done, timeout)
        return len(digests)

    def _forget_unmade(self, digest: bytes, addition: Job[int]) -> None:
        if addition.error is not None and not addition.may_be_made:
            self._known.remove(digest)

    def _forget_pruned(self, job: Job[list[bytes]]) -> None:
        if job.error is None:
            for digest in job.result or ():
                self._known.remove(digest)

    async def settle(self, settlement: Settlement, timeout: float) -> bool:
        return await self._write(lambda sql: sql.settle(settlement), timeout)

    async def supersede(
        self,
        event_ids: Collection[str],
        reached: Collection[str],
        now: float,
        timeout: float,
        *,
        by: str = "",
    ) -> None:
        await self._write(lambda sql: sql.supersede(event_ids, reached, now, by), timeout)

    async def acknowledge(self, event_id: str, target: str, now: float, timeout: float) -> bool:
        return await self._write(lambda sql: sql.acknowledge(event_id, target, now), timeout)

    async def missed(
        self, event_id: str, target: str, tried: Tried, ends_by: float, timeout: float
    ) -> None:
        await self._write(lambda sql: sql.missed(event_id, target, tried, ends_by), timeout)

    async def revoke_all_credit(self, timeout: float) -> None:
        await self._write(lambda sql: sql.revoke_all_credit(), timeout)

    async def lease(
        self,
        target: str,
        now: float,
        until: float,
        limit: int,
        timeout: float,
        early: Early | None = None,
    ) -> tuple[Due, ...]:
        return await self._write(lambda sql: sql.lease(target, now, until, limit, early), timeout)

    async def finish(self, due: Due, row: DeliveryRow, now: float, timeout: float) -> bool:
        return await self._write(lambda sql: sql.finish(due, row, now), timeout)

    async def end(self, now: float, limit: int, timeout: float) -> tuple[Ended, ...]:
        return await self._write(lambda sql: sql.end(now, limit), timeout)

    async def notify(
        self, name: str, notice: Notice, before: Notice | None, timeout: float
    ) -> bool:
        return await self._write(lambda sql: sql.notify(name, notice, before), timeout)

    async def close(self) -> None:
        is_done = await self._writer.close(CLOSE_TIMEOUT)
        self._close_reader()
        if is_done:
            self._owner.release()

    def _check_file(self) -> None:
        """Raises StoreFailed if the file or its lock was deleted or replaced: this process can
        still use the file, but the next start may not find it, and others may."""
        with suppress(OSError):
            if os.path.samestat(self._path.stat(), self._file) and self._owner.is_sole():
                return
        raise StoreFailed("gone")

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Read, on a new connection if the last one has failed."""
        try:
            if self._reader is None:
                if self._writer.is_closed:
                    raise StoreFailed("closed")
                self._reader = open_reader(self._path)
            return work(self._reader)
        except sqlite3.Error as error:
            if needs_reopening(error):
                with suppress(sqlite3.Error):
                    self._close_reader()
            raise translated(error) from None

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.close()

    async def _write(self, work: Callable[[Statements], T], timeout: float) -> T:
        """Work in the writer's thread."""
        job = Job(work, timeout)
        self._writer.submit(job)
        return await result_of(job.done, timeout)

    def _revoke_late(self, event_id: str, addition: Job[int]) -> None:
        """Revoke the credit of an event that may be added too late, in the commit of its addition
        or the one after it. Until then, `find` leaves its credit out."""
        self._late.add(event_id)
        revoking = Job(lambda sql: sql.revoke_credit(event_id), inf)
        revoking.done.add_done_callback(partial(self._revoked, event_id, addition))
        with suppress(StoreFailed):
            self._writer.submit(revoking)

    def _revoked(self, event_id: str, addition: Job[int], done: asyncio.Future[None]) -> None:
        if done.exception() is None or addition.error is not None:  # or it was not made
            self._late.discard(event_id)


class Job(Generic[T]):
    """A write."""

    def __init__(
        self,
        work: Callable[[Statements], T],
        timeout: float,
        *,
        grows: bool = False,
        frees: bool = False,
    ) -> None:
        self.work = work
        #: It deletes, so there may be pages to return.
        self.frees = frees
        #: It needs room, so it may not use the reserve.
        self.grows = grows
        #: On time.monotonic. A write that has not begun by then is dropped. A timer may fire a
        #: moment early: do not begin a write whose caller may have given up.
        self.deadline = time.monotonic() + timeout - TICK
        self.done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        #: Both are None until it ends.
        self.result: T | None = None
        self.error: Exception | None = None
        #: Its commit had begun before the error: the file may have it, or get it yet.
        self.may_be_made = False
        #: Called on the loop once it has ended, even if its caller has left.
        self.ended: Callable[[Job[T]], None] = lambda job: None


class CommitWriter:
    """The thread that writes: it opens, uses and closes its own connection."""

    def __init__(self, path: Path, limits: StoreLimits, reserve: int) -> None:
        self._path = path
        self._limits = limits
        #: Bytes of the disk that growing writes leave free.
        self._reserve = reserve
        self._jobs: queue.SimpleQueue[Job[Any] | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection: sqlite3.Connection | None = None
        self.is_closed = False
        self._runner = threading.Thread(target=self._run, name="store", daemon=True)
        self._runner.start()
        #: The targets without room for attempts, `""` for the whole store.
        self.full: frozenset[str] = frozenset()
        #: Called in this thread after each commit, with its duration in seconds.
        self.committed: Callable[[float], None] = lambda seconds: None

    def submit(self, job: Job[Any]) -> None:
        """Raises StoreFailed if too many writes are waiting, or the store is closed."""
        if self.is_closed:
            raise StoreFailed("closed")
        if self._jobs.qsize() >= _MAX_WAITING:
            raise StoreFailed("slow")
        self._jobs.put(job)

    async def close(self, timeout: float) -> bool:
        """Finish the waiting writes. Return False if the thread hangs, which is then abandoned."""
        self.is_closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._runner.join, timeout)
        return not self._runner.is_alive()

    def _run(self) -> None:
        open_ = True
        while open_:
            jobs, open_ = self._next()
            self._commit(_in_time(jobs))
            # The loop may be closed: the process is ending.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(_deliver, jobs)
        if self._connection is not None:
            self._connection.close()

    def _next(self) -> tuple[list[Job[Any]], bool]:
        """Return the next group of writes, and False with the last one."""
        jobs: list[Job[Any]] = []
        waiting = self._jobs.get()
        while waiting is not None:
            jobs.append(waiting)
            if len(jobs) == _GROUP or self._jobs.empty():
                return jobs, True
            waiting = self._jobs.get()
        return jobs, False

    def _commit(self, jobs: list[Job[Any]]) -> None:
        """Commit all of the group or nothing. Each job gets its result, or the error of all."""
        if not jobs:
            return
        is_committing = False
        try:
            connection = self._connection = self._connection or connect(self._path)
            connection.execute("BEGIN IMMEDIATE")
            # Waiting for the lock may have taken longer than some of them have.
            jobs = _in_time(jobs)
            room = self._has_room(jobs)
            full = self.full if room else frozenset({""})
            rows = Statements(connection, self._limits, full)
            for job in jobs:
                _perform(job, rows, room)
            began = time.monotonic()
            is_committing = True
            connection.execute("COMMIT")
            self.committed(time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - the thread must live, and callers get the error
            self._recover(error)
            for job in jobs:
                # One that was refused has written nothing.
                job.may_be_made = is_committing and job.error is None
                job.error = translated(error)
        else:
            if any(job.frees for job in jobs):
                _give_back(connection)

    def _has_room(self, jobs: list[Job[Any]]) -> bool:
        """Raises OSError if it is unknown and a job depends on it."""
        try:
            return shutil.disk_usage(self._path.parent).free >= self._reserve
        except OSError:
            if any(job.grows for job in jobs):
                raise
            return False

    def _recover(self, error: Exception) -> None:
        connection = self._connection
        if connection is None:
            return
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if needs_reopening(error):
            self._connection = None
            with suppress(sqlite3.Error):
                connection.close()


def _in_time(jobs: list[Job[Any]]) -> list[Job[Any]]:
    """Return the jobs that have time left; the others fail."""
    now = time.monotonic()
    for job in jobs:
        if job.deadline < now:
            job.error = StoreFailed("slow")
    return [job for job in jobs if job.error is None]


def _give_back(connection: sqlite3.Connection) -> None:
    """Return free pages to the file system; if that fails, the next commit tries again."""
    with suppress(sqlite3.Error):
        if connection.execute("PRAGMA freelist_count").fetchone()[0] == 0:
            return
        # As a script, since one step of the statement returns a single page.
        connection.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK})")
        # The file shrinks when the log is written into it.
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _perform(job: Job[Any], rows: Statements, room: bool) -> None:
    """A job that is refused has written nothing, so the others of its group go on."""
    if job.grows and not room:
        job.error = StoreFull()
        return
    try:
        job.result = job.work(rows)
    except StoreFull as error:
        job.error = error


def _deliver(jobs: list[Job[Any]]) -> None:
    """Give the results to the callers, on the loop."""
    for job in jobs:
        job.ended(job)
        if job.done.done():
            continue
        if job.error is not None:
            job.done.set_exception(job.error)
        else:
            job.done.set_result(job.result)
