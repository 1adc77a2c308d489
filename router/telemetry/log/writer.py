"""The log's writer thread, sums of repeated lines, and the tap for live streams."""

from __future__ import annotations

import os
import select
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, NamedTuple

from router.model.event import FIELDS
from router.telemetry.log.lines import Fields, Level, Lines, with_payload

#: Bytes that may wait to be written.
BOUND: Final = 4 * 1024 * 1024

#: Seconds that lines are gathered after a write, so that many go in one system call.
GATHER: Final = 0.02

#: Seconds between two ticks if no line comes.
TICK_EVERY: Final = 1.0

#: Bytes written in one system call.
BATCH: Final = 64 * 1024


class LogWriter:
    """Writes lines to a descriptor, which it owns. Thread-safe.

    Lines that the descriptor does not take, or that would have to wait beyond BOUND, are lost and
    counted.
    """

    def __init__(self, fd: int, tick: Callable[[], None]) -> None:
        """`tick` is called by the writing thread after each write, at least every TICK_EVERY."""
        self._fd = fd
        self._tick = tick
        self.is_closed = False
        #: The number of lines not written.
        self.lost = 0
        #: Whether the last write failed.
        self.is_failing = False
        # Both are re-entrant, because a finalizer may log at any point.
        self._lock = threading.RLock()
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        #: Bytes put and not yet written.
        self._waiting = 0
        self._writing: threading.Thread | None = None
        self._hurry = threading.Event()
        #: Whether the last write ended within a line.
        self._torn = False

    def put(self, line: bytes) -> None:
        """Queue a line, which includes its end. Returns at once."""
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
        except RuntimeError:  # no more threads are allowed; the next line tries again
            self._writing = None

    def close(self, timeout: float) -> None:
        """Refuse further lines, and wait up to `timeout` seconds until the rest is written."""
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
        """Return the waiting lines, or the first one that comes within TICK_EVERY."""
        try:
            first = self._lines.get(timeout=TICK_EVERY)
        except Empty:
            return []
        # No other thread takes lines.
        return [first, *(self._lines.get() for _ in range(self._lines.qsize()))]

    def _batches(self, lines: list[bytes]) -> Iterator[bytes]:
        """Join whole lines, up to the size of one system call."""
        batch: list[bytes] = []
        size = 0
        for line in lines:
            if batch and size + len(line) > BATCH:
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
        except OSError:  # for example, the reader has gone or the disk is full
            self.is_failing = True
        with self._lock:
            self._waiting -= len(batch)
            self.lost += min(rest.count(b"\n"), batch.count(b"\n"))

    def _write_some(self, data: bytes) -> int:
        """Write as much as possible, at least one byte, and return the number of bytes."""
        while True:
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:  # another process has made it non-blocking
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(TICK_EVERY * 1000)
            else:
                self._torn = data[written - 1 : written] != b"\n"
                return written


#: The happenings that are summed up, and the fields in which lines of one kind agree. All others,
#: above all those about an event, are written line by line.
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

#: Seconds for which lines are counted before their sum is written.
WINDOW: Final = 60.0

#: The number of lines of one kind that are written in each window.
FIRST: Final = 5

#: The number of kinds of one happening in a window; further ones are counted together.
KINDS: Final = 50

#: Characters of a text that distinguish kinds.
_MAX_KEY: Final = 256


@dataclass(slots=True)
class Sum:
    """The lines of one kind in one window."""

    level: Level
    happening: str
    #: The fields in which the lines agree.
    fields: dict[str, Any]
    #: How many lines may still be written one by one.
    left: int
    count: int = 0
    #: Unix time of the first and the last counted line.
    first: float = 0.0
    last: float = 0.0


class Sums:
    """The sums of one window, by kind. Thread-safe."""

    def __init__(self) -> None:
        # Re-entrant, because a finalizer may log at any point.
        self._lock = threading.RLock()
        self._sums: dict[tuple[str, ...], Sum] = {}
        self._kinds: Counter[str] = Counter()
        #: Unix time of the current window; 0 if there is none.
        self._start = self._end = 0.0

    def take(self, now: float, level: Level, happening: str, fields: Fields) -> bool:
        """Count a line, if it is not to be written; return whether it was counted."""
        names = SUMMED.get(happening)
        if names is None:
            return False
        with self._lock:
            if not self._sums:
                self._start, self._end = now, now + WINDOW
            kind = self._sum(level, happening, {n: fields[n] for n in names if n in fields})
            if kind.left > 0:
                kind.left -= 1
                return False
            kind.first = kind.first or now
            kind.last = now
            kind.count += 1
            return True

    def _sum(self, level: Level, happening: str, common: dict[str, Any]) -> Sum:
        key = (happening, *(str(value)[:_MAX_KEY] for value in common.values()))
        if key not in self._sums and self._kinds[happening] >= KINDS:
            key, common = (happening, "", "others"), {"others": True}
        if key not in self._sums:
            self._kinds[happening] += 1
            common = {n: v[:_MAX_KEY] if isinstance(v, str) else v for n, v in common.items()}
            left = 0 if "others" in common else FIRST
            self._sums[key] = Sum(level, happening, common, left)
        return self._sums[key]

    def is_due(self, now: float) -> bool:
        """Return whether a window is over, which it also is if the clock was set back."""
        return self._end > 0 and not self._start <= now < self._end

    def end(self) -> Iterator[Sum]:
        """End the window and return its sums."""
        with self._lock:
            sums = self._sums.values()
            self._sums, self._kinds = {}, Counter()
            self._start = self._end = 0.0
        return (kind for kind in sums if kind.count > 0)


#: The number of lines that wait in a tap; older ones are dropped.
TAP_LINES = 64

#: Bytes of bodies that wait with them. A body beyond it is left out of its line.
TAP_BODIES = 1024 * 1024


class _Line(NamedTuple):
    at: float
    level: Level
    happening: str
    #: Not changed after this point.
    fields: Fields
    body: bytes


class Tap:
    """Copies of the log's lines for open streams."""

    def __init__(self) -> None:
        #: Whether lines that are put keep the bodies of their events.
        self.bodies = False
        self._waiting: deque[_Line] = deque()
        self._size = self._dropped = 0
        self._lines = Lines("json")

    def put(self, at: float, level: Level, happening: str, fields: Fields, body: bytes) -> None:
        """Keep a line until it is taken. It is rendered only then."""
        kept = body if self.bodies and self._size + len(body) <= TAP_BODIES else b""
        self._size += len(kept)
        self._waiting.append(_Line(at, level, happening, fields, kept))
        if len(self._waiting) > TAP_LINES:
            self._size -= len(self._waiting.popleft().body)
            self._dropped += 1

    def take(self, *, bodies: bool) -> tuple[list[bytes], int]:
        """Return the waiting lines as JSON, and the number of dropped ones. `bodies` says whether
        lines put from now on keep the bodies of their events."""
        self.bodies = bodies
        waiting, self._waiting = self._waiting, deque()
        dropped, self._dropped, self._size = self._dropped, 0, 0
        return [self._rendered(line) for line in waiting], dropped

    def _rendered(self, line: _Line) -> bytes:
        text = self._lines.line(line.at, line.level, line.happening, line.fields)
        return with_payload(text, line.body) if line.body else text
