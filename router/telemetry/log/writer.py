"""Bytes to a file descriptor, without ever waiting for it: one thread writes what others put."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections.abc import Callable, Iterator
from queue import Empty, SimpleQueue
from typing import Final

#: How much may wait to be written, in bytes.
BOUND: Final = 4 * 1024 * 1024

#: Seconds that lines are gathered after some were written, so that many go in one system call.
GATHER: Final = 0.02

#: Seconds between two looks at whether there is something else to say, where no line comes.
TICK_EVERY: Final = 1.0

#: How many bytes go in one system call. To a regular file they stay together anyhow; a pipe keeps
#: together only PIPE_BUF of them, where other processes write into it as well.
_FILE_BATCH, _BATCH = 64 * 1024, select.PIPE_BUF


class LogWriter:
    """One descriptor, which it owns. It may be used by several threads, and after a fork.

    Lines that the descriptor can't take, or that have to wait beyond BOUND, are lost and counted.
    A line of up to PIPE_BUF bytes (4,096) is never mixed with what other processes write to the
    same pipe. A longer one is whole by itself, but where the pipe is full others may come between
    its parts.
    """

    def __init__(self, fd: int, tick: Callable[[], None]) -> None:
        """`tick` is called by the thread that writes, after lines and each TICK_EVERY at least."""
        self._fd = fd
        self._tick = tick
        self._batch = _FILE_BATCH if stat.S_ISREG(os.fstat(fd).st_mode) else _BATCH
        self.is_closed = False
        self.reset()

    def reset(self) -> None:
        """Begin anew in a forked process: what waited is its parent's to write."""
        #: Lines that were not written.
        self.lost = 0
        #: Whether the last write went wrong.
        self.is_failing = False
        # Re-entrant, both: what the garbage collector runs may log, in the midst of anything.
        self._lock = threading.RLock()
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        #: Bytes that have been put and not yet written.
        self._waiting = 0
        self._writing: threading.Thread | None = None
        self._hurry = threading.Event()
        #: Whether what was written last is the beginning of a line.
        self._torn = False

    def put(self, line: bytes) -> None:
        """Have `line`, which has its end, written soon. Returns at once."""
        with self._lock:
            if self.is_closed or self._waiting + len(line) > BOUND:
                self.lost += 1
                return
            self._waiting += len(line)
            if self._writing is None:
                self._start()
        self._lines.put(line)

    def _start(self) -> None:
        self._writing = threading.Thread(target=self._run, name="log", daemon=True)
        try:
            self._writing.start()
        except RuntimeError:  # no more threads are allowed: the next line tries again
            self._writing = None

    def close(self, timeout: float) -> None:
        """Take no more lines, and wait until all are written, `timeout` seconds at most."""
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
        if self._writing is None:
            os.close(self._fd)
            return
        self._hurry.set()
        self._lines.put(b"")
        self._writing.join(timeout)

    def _run(self) -> None:
        while True:
            lines = self._gathered()
            for batch in self._batches(lines):
                self._write(batch)
            if self.is_closed and self._lines.empty():
                os.close(self._fd)
                return
            self._tick()
            if lines:
                self._hurry.wait(GATHER)

    def _gathered(self) -> list[bytes]:
        """All that waits, or what comes within TICK_EVERY."""
        try:
            first = self._lines.get(timeout=TICK_EVERY)
        except Empty:
            return []
        # Nobody else takes any.
        return [first, *(self._lines.get() for _ in range(self._lines.qsize()))]

    def _batches(self, lines: list[bytes]) -> Iterator[bytes]:
        """Whole lines, together as many bytes as go in one system call."""
        batch: list[bytes] = []
        size = 0
        for line in lines:
            if batch and size + len(line) > self._batch:
                yield b"".join(batch)
                batch, size = [], 0
            batch.append(line)
            size += len(line)
        if size:
            yield b"".join(batch)

    def _write(self, batch: bytes) -> None:
        rest = b"\n" + batch if self._torn else batch
        try:
            while rest:
                rest = rest[self._write_some(rest) :]
            self.is_failing = False
        except OSError:  # nobody reads any more, the disk is full
            self.is_failing = True
        with self._lock:
            self._waiting -= len(batch)
            self.lost += min(rest.count(b"\n"), batch.count(b"\n"))

    def _write_some(self, data: bytes) -> int:
        """Write what goes, waiting as long as nothing does; how much went."""
        while True:
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:  # somebody made it non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(TICK_EVERY * 1000)
            else:
                self._torn = data[written - 1 : written] != b"\n"
                return written
