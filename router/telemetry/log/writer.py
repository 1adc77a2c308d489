"""The writer thread of the log, sums of repeated lines, and taps for live streams."""

from __future__ import annotations

import os
import select
import stat
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from router.model.event import FIELDS
from router.telemetry.log.lines import Fields, Level, Lines, with_payload

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
    """One descriptor, which it owns. It may be used by several threads.

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


#: The happenings that are summed up, and the fields that make two lines of one kind. All else is
#: written line by line: what becomes of an event, above all.
SUMMED: Final[dict[str, tuple[str, ...]]] = {
    "refused": ("code", "why"),
    "hung_up": (),
    "unmatched": ("code", *FIELDS),
    "lost": ("target", "owner"),
    "breaker": ("target", "owner", "state"),
    "failing": ("target", "owner", "reason"),
    "recovered": ("target", "owner"),
    "store": ("error",),
    "store_back": (),
    "fault": ("at",),
    "loop_lag": (),
    "library": ("library", "message", "at"),
}

#: How long lines are counted before their sum is written, in seconds.
WINDOW: Final = 60.0

#: How many lines of one kind a window has before they are counted.
FIRST: Final = 5

#: How many kinds of one happening a window tells apart; what comes beyond is one kind more.
KINDS: Final = 50

#: The longest text that tells two kinds apart, in characters.
_MAX_KEY: Final = 256


@dataclass(slots=True)
class Sum:
    """The lines of one kind in one window. Not frozen: it grows."""

    level: Level
    happening: str
    #: What the lines have in common.
    fields: dict[str, Any]
    #: How many may still be written as they are.
    left: int
    count: int = 0
    #: When the first and the last of the counted lines came; Unix time, in seconds.
    first: float = 0.0
    last: float = 0.0


class Sums:
    """What one window has of each kind. It may be used by several threads, and within itself."""

    def __init__(self) -> None:
        # Re-entrant: what the garbage collector runs may log, in the midst of anything.
        self._lock = threading.RLock()
        self._sums: dict[tuple[str, ...], Sum] = {}
        self._kinds: Counter[str] = Counter()
        #: The window that has begun, if any; Unix time, in seconds.
        self._start = self._end = 0.0

    def take(self, now: float, level: Level, happening: str, fields: Fields) -> bool:
        """Whether the line is counted, and so not to be written."""
        names = SUMMED.get(happening)
        if names is None:
            return False
        with self._lock:
            if not self._sums:
                self._start, self._end = now, now + WINDOW
            each = self._sum(level, happening, {n: fields[n] for n in names if n in fields})
            if each.left > 0:
                each.left -= 1
                return False
            each.first = each.first or now
            each.last = now
            each.count += 1
            return True

    def _sum(self, level: Level, happening: str, common: dict[str, Any]) -> Sum:
        key = (happening, *(str(value)[:_MAX_KEY] for value in common.values()))
        found = self._sums.get(key)
        if found is None and self._kinds[happening] >= KINDS:
            key, common = (happening, "", "others"), {"others": True}
            found = self._sums.get(key)
        if found is None:
            self._kinds[happening] += 1
            common = {n: v[:_MAX_KEY] if isinstance(v, str) else v for n, v in common.items()}
            left = 0 if "others" in common else FIRST
            found = self._sums[key] = Sum(level, happening, common, left)
        return found

    def is_due(self, now: float) -> bool:
        """Whether a window is over: also when the clock was set back."""
        return self._end > 0 and not self._start <= now < self._end

    def end(self) -> Iterator[Sum]:
        """End the window: what it has counted, each kind once."""
        with self._lock:
            sums = self._sums.values()
            self._sums, self._kinds = {}, Counter()
            self._start = self._end = 0.0
        return (each for each in sums if each.count > 0)


#: How many lines wait to be taken; the older ones are dropped.
TAP_LINES = 64

#: The most bytes of bodies that wait with them. A body that finds no room is left out of its line.
TAP_BODIES = 1024 * 1024


class _Line(NamedTuple):
    at: float
    level: Level
    happening: str
    #: Not changed any more.
    fields: Fields
    body: bytes


class Tap:
    """Copies of the log's lines, for streams that are open."""

    def __init__(self) -> None:
        self._bodies = False
        self._waiting: deque[_Line] = deque()
        self._size = self._dropped = 0
        self._lines = Lines("json")

    def put(self, at: float, level: Level, happening: str, fields: Fields, body: bytes) -> None:
        """Keep a line until it is taken; it is rendered only then."""
        kept = body if self._bodies and self._size + len(body) <= TAP_BODIES else b""
        self._size += len(kept)
        self._waiting.append(_Line(at, level, happening, fields, kept))
        if len(self._waiting) > TAP_LINES:
            self._size -= len(self._waiting.popleft().body)
            self._dropped += 1

    def take(self, *, bodies: bool) -> tuple[list[bytes], int]:
        """Return the lines that wait, as JSON, and how many more were dropped. `bodies`: lines put
        from now on keep the bodies of their events."""
        self._bodies = bodies
        waiting, self._waiting = self._waiting, deque()
        dropped, self._dropped, self._size = self._dropped, 0, 0
        return [self._rendered(each) for each in waiting], dropped

    def _rendered(self, each: _Line) -> bytes:
        line = self._lines.line(each.at, each.level, each.happening, each.fields)
        return with_payload(line, each.body) if each.body else line
