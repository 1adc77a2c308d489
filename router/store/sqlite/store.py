"""The store: the loop's thread reads, another thread writes; waiting writes share one fsync."""

from __future__ import annotations

import asyncio
import os
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Final, TypeVar

from router.model.event import OutboundEvent
from router.net.loops import TICK
from router.store.protocol import (
    CLOSE_TIMEOUT,
    NO_DOOR,
    DeliveryRow,
    Door,
    Kept,
    Nodes,
    Notice,
    Pause,
    Record,
    StoreFailed,
    StoreFull,
    StoreLimits,
    Usage,
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


def _write(statement: Callable[..., T]) -> Callable[..., Coroutine[Any, Any, T]]:
    """Return the method of the store that carries out a statement in the writer's thread. It takes
    the statement's values, and the timeout as its last positional one."""

    async def write(store: SqliteStore, *values: Any, **named: Any) -> T:
        *given, timeout = values
        job = Job(lambda sql: statement(sql, *given, **named), timeout)
        return await store._done(job, timeout)

    return write


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
        # Before another look-up can see the event.
        self._known.add(letter.digest)
        try:
            await self._done(job, timeout)
        except StoreFull:
            self._known.remove(letter.digest)
            raise
        finally:
            if job.done.cancelled():
                self._revoke_late(record.event_id, job)

    async def prune(self, now: float, limit: int, timeout: float) -> int:
        job = Job(lambda sql: sql.prune(now, limit), timeout, frees=True)
        job.made = self._pruned
        return len(await self._done(job, timeout))

    def _pruned(self, digests: list[bytes]) -> None:
        for digest in digests:
            self._known.remove(digest)

    settle = _write(Statements.settle)
    supersede = _write(Statements.supersede)
    acknowledge = _write(Statements.acknowledge)
    missed = _write(Statements.missed)
    revoke_all_credit = _write(Statements.revoke_all_credit)
    take = _write(Statements.take)
    take_waiting = _write(Statements.take_waiting)
    finish = _write(Statements.finish)
    end = _write(Statements.end)
    notify = _write(Statements.notify)

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

    async def _done(self, job: Job, timeout: float) -> T:
        self._writer.submit(job)
        try:
            async with asyncio.timeout(timeout):
                result: T = await job.done
                return result
        except TimeoutError:
            # The timeout may fire in the very turn of the loop in which the write was done.
            if not job.done.cancelled():
                late: T = job.done.result()
                return late
            raise StoreFailed("slow") from None

    def _revoke_late(self, event_id: str, addition: Job) -> None:
        """Revoke the credit of an event that may be added too late, in the commit of its addition
        or the one after it. Until then, `find` leaves its credit out."""
        self._late.add(event_id)
        revoking = Job(lambda sql: sql.revoke_credit(event_id), inf)
        revoking.done.add_done_callback(partial(self._revoked, event_id, addition))
        with suppress(StoreFailed):
            self._writer.submit(revoking)

    def _revoked(self, event_id: str, addition: Job, done: asyncio.Future[None]) -> None:
        if done.exception() is None or addition.error is not None:  # or it was not made
            self._late.discard(event_id)


class Job:
    """A write."""

    def __init__(
        self,
        work: Callable[[Statements], Any],
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
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.result: Any = None
        self.error: Exception | None = None
        #: Called on the loop with the result once it is committed, even if its caller has left.
        self.made: Callable[[Any], None] = lambda result: None


class CommitWriter:
    """The thread that writes: it opens, uses and closes its own connection."""

    def __init__(self, path: Path, limits: StoreLimits, reserve: int) -> None:
        self._path = path
        self._limits = limits
        #: Bytes of the disk that growing writes leave free.
        self._reserve = reserve
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._loop = asyncio.get_running_loop()
        self._connection: sqlite3.Connection | None = None
        self.is_closed = False
        self._runner = threading.Thread(target=self._run, name="store", daemon=True)
        self._runner.start()
        #: The targets without room for attempts, `""` for the whole store.
        self.full: frozenset[str] = frozenset()
        #: Called in this thread after each commit, with its duration in seconds.
        self.committed: Callable[[float], None] = lambda seconds: None

    def submit(self, job: Job) -> None:
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

    def _next(self) -> tuple[list[Job], bool]:
        """Return the next group of writes, and False with the last one."""
        jobs: list[Job] = []
        waiting = self._jobs.get()
        while waiting is not None:
            jobs.append(waiting)
            if len(jobs) == _GROUP or self._jobs.empty():
                return jobs, True
            waiting = self._jobs.get()
        return jobs, False

    def _commit(self, jobs: list[Job]) -> None:
        """Commit all of the group or nothing. Each job gets its result, or the error of all."""
        if not jobs:
            return
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
            connection.execute("COMMIT")
            self.committed(time.monotonic() - began)
        except Exception as error:  # noqa: BLE001 - the thread must live, and callers get the error
            self._recover(error)
            for job in jobs:
                job.error = translated(error)
        else:
            if any(job.frees for job in jobs):
                _give_back(connection)

    def _has_room(self, jobs: list[Job]) -> bool:
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


def _in_time(jobs: list[Job]) -> list[Job]:
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


def _perform(job: Job, rows: Statements, room: bool) -> None:
    """A job that is refused has written nothing, so the others of its group go on."""
    if job.grows and not room:
        job.error = StoreFull()
        return
    try:
        job.result = job.work(rows)
    except StoreFull as error:
        job.error = error


def _deliver(jobs: list[Job]) -> None:
    """Give the results to the callers, on the loop."""
    for job in jobs:
        if job.error is None:
            job.made(job.result)
        if job.done.done():
            continue
        if job.error is not None:
            job.done.set_exception(job.error)
        else:
            job.done.set_result(job.result)
