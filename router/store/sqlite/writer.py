"""The one thread that writes: what waits at the same time shares a transaction, and so an fsync."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from router.store.promises import StoreFailed, StoreFull, StoreLimits
from router.store.sqlite.file import connect, needs_reopening, translated
from router.store.sqlite.rows import Rows

#: The most writes that share a commit.
_GROUP = 256

#: The most writes that wait; one more fails at once, so that a stuck disk does not fill memory.
_MAX_WAITING = 4096

#: Pages that are given back to the file system after a commit that deletes: 2 MB.
_GIVEN_BACK = 512

Work = Callable[[Rows], Any]


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
        #: What is done at its end where its caller was already told that it failed; told
        #: whether it has committed after all.
        self.afterwards: Callable[[bool], object] = lambda committed: None
        self.result: Any = None
        self.error: Exception | None = None

    def deliver(self) -> None:
        """On the loop: tell the caller, who may be gone."""
        if self.done.done():
            self.afterwards(self.error is None)
        elif self.error is not None:
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
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()
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

    async def close(self, timeout: float) -> None:
        """Take no more, and finish what is waiting, for so long; a thread that hangs is left
        behind."""
        self.is_closed = True
        self._jobs.put(None)
        await asyncio.to_thread(self._thread.join, timeout)

    def _run(self) -> None:
        open_ = True
        while open_:
            jobs, open_ = self._next()
            for job in self._overdue(jobs):
                job.error = StoreFailed("slow")
            self._commit([job for job in jobs if job.error is None])
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

    def _overdue(self, jobs: list[Job]) -> list[Job]:
        now = time.monotonic()
        return [job for job in jobs if job.deadline < now]

    def _commit(self, jobs: list[Job]) -> None:
        """All of the group or nothing: each job gets its result, or the error of all."""
        if not jobs:
            return
        try:
            connection = self._connection = self._connection or connect(self._path)
            connection.execute("BEGIN IMMEDIATE")
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
