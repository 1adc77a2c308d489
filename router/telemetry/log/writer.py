"""Threads that write lines, sums of repeated lines, and the tap for live streams."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import IO, Any, Final, Generic, TypeVar

from router.model.event import FIELDS
from router.telemetry.log.lines import Fields, Level, Lines, RawLine

#: Bytes of the log that may wait to be written, and seconds for which lines are gathered.
BOUND: Final = 4 * 1024 * 1024
GATHER: Final = 0.02

T = TypeVar("T")

#: Seconds between two ticks if no line comes; and the size of a batch, in bytes.
TICK_EVERY: Final = 1.0
_BATCH: Final = 64 * 1024


class BatchWriter(Generic[T]):
    """Writes items in batches, in a thread of its own. Thread-safe."""

    def __init__(
        self,
        name: str,
        write: Callable[[list[T]], None],
        tick: Callable[[], None],
        end: Callable[[], None],
        *,
        bound: int,
        gather: float,
    ) -> None:
        """The thread calls `write` with a batch, `tick` between batches and at least every
        TICK_EVERY, and `end` once. Beyond `bound` bytes, items are refused. After a write, items
        are gathered for `gather` seconds unless they are many: waking the thread for each is dear.
        """
        self._name, self._bound, self._gather = name, bound, gather
        self._write, self._tick, self._end = write, tick, end
        #: The number of items that found no room, or came too late.
        self.refused = 0
        # Re-entrant, because a finalizer may log at any point.
        self._lock = threading.RLock()
        self._items: SimpleQueue[tuple[T | None, int]] = SimpleQueue()
        #: Bytes put and not yet written.
        self._waiting = 0
        self._writing: threading.Thread | None = None
        self._hurry = threading.Event()
        self._is_closed = False

    def put(self, item: T, size: int) -> bool:
        """Queue an item of so many bytes, or return False. Returns at once."""
        with self._lock:
            if self._is_closed or self._waiting + size > self._bound:
                self.refused += 1
                return False
            self._waiting += size
            self._items.put((item, size))
            if self._writing is None:
                self.start()
            if self._waiting > self._bound // 4:
                self._hurry.set()
        return True

    def start(self) -> None:
        """Start the thread before the first item."""
        self._writing = threading.Thread(target=self._run, name=self._name, daemon=True)
        try:
            self._writing.start()
        except RuntimeError:  # no more threads are allowed; the next item tries again
            self._writing = None

    def close(self, timeout: float) -> None:
        """Refuse further items, and wait up to `timeout` seconds until the rest is written."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
            self._items.put((None, 0))
            self._hurry.set()
        if self._writing is not None:
            self._writing.join(timeout)
        elif not was_closed:
            self._end()

    def _run(self) -> None:
        while not (self._is_closed and self._items.empty()):
            self._tick()
            batch, size = self._next_batch()
            if not batch:
                continue
            self._write(batch)
            with self._lock:
                self._waiting -= size
            if self._items.empty() and not self._is_closed:
                self._hurry.wait(self._gather)
                self._hurry.clear()
        self._end()

    def _next_batch(self) -> tuple[list[T], int]:
        """Return what waits, up to a batch, or the first item that comes within TICK_EVERY."""
        batch: list[T] = []
        total = 0
        with suppress(Empty):
            while total < _BATCH:
                item, size = self._items.get(not batch, TICK_EVERY)
                if item is None:
                    break
                batch.append(item)
                total += size
        return batch, total


class LogWriter:
    """Writes lines to a stream's descriptor. Thread-safe.

    Lines that the descriptor does not take, or that would have to wait too long, are lost and
    counted. A stream without one, for example in memory, is written to at once.
    """

    def __init__(self, stream: IO[str] | None, encoding: str, tick: Callable[[], None]) -> None:
        """`tick` is called by the writing thread, at least every TICK_EVERY."""
        self._stream = stream
        self._encoding = encoding
        #: A copy that nobody else can close and replace by another file; -1 for none.
        self._fd = -1
        with suppress(AttributeError, OSError, ValueError):
            self._fd = os.dup(stream.fileno() if stream else -1)
        self._lines: BatchWriter[bytes] = BatchWriter(
            "log", self._write, tick, lambda: os.close(self._fd), bound=BOUND, gather=GATHER
        )
        self._unwritten = 0
        #: Whether the last write failed, and whether it ended within a line.
        self.is_failing = False
        self._torn = False

    @property
    def lost(self) -> int:
        """The number of lines not written."""
        return self._lines.refused + self._unwritten

    def put(self, line: bytes) -> None:
        """Write a line, which includes its end. Returns at once."""
        if self._fd >= 0:
            self._lines.put(line, len(line))
            return
        try:
            if self._stream is None:
                raise OSError
            self._stream.write(line.decode(self._encoding))
            self._stream.flush()
        except (OSError, ValueError):
            self._unwritten += 1

    def close(self, timeout: float) -> None:
        """Refuse further lines, and wait up to `timeout` seconds until the rest is written."""
        if self._fd >= 0:
            self._lines.close(timeout)

    def _write(self, lines: list[bytes]) -> None:
        rest = b"".join([b"\n", *lines] if self._torn else lines)
        self.is_failing = False
        while rest and not self.is_failing:
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:  # another process has made it non-blocking
                time.sleep(GATHER)
            except OSError:  # for example, the reader has gone or the disk is full
                self.is_failing = True
            else:
                self._torn = rest[written - 1 : written] != b"\n"
                rest = rest[written:]
        self._unwritten += min(rest.count(b"\n"), len(lines))


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

#: The length of a window, in seconds. Its sums are written when it is over.
WINDOW: Final = 60.0

#: In each window: the lines of one kind that are written, and the kinds of one happening. Further
#: kinds are counted together.
FIRST: Final = 5
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
    #: Below zero: this many lines are still written one by one.
    count: int
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
        self._window = 0

    def take(self, now: float, level: Level, happening: str, fields: Fields) -> bool:
        """Count a line, if it is not to be written; return whether it was counted."""
        if happening not in SUMMED:
            return False
        common = {name: fields[name] for name in SUMMED[happening] if name in fields}
        with self._lock:
            if not self._sums:
                self._window = int(now // WINDOW)
            kind = self._sum(level, happening, common)
            kind.count += 1
            if kind.count > 0:
                kind.first, kind.last = kind.first or now, now
            return kind.count > 0

    def _sum(self, level: Level, happening: str, common: dict[str, Any]) -> Sum:
        key, count = (happening, *(str(value)[:_MAX_KEY] for value in common.values())), -FIRST
        if key not in self._sums and self._kinds[happening] >= KINDS:
            key, common, count = (happening, "", "others"), {"others": True}, 0
        if key not in self._sums:
            self._kinds[happening] += 1
            common = {n: v[:_MAX_KEY] if isinstance(v, str) else v for n, v in common.items()}
            self._sums[key] = Sum(level, happening, common, count)
        return self._sums[key]

    def is_due(self, now: float) -> bool:
        """Return whether the window is over, which it also is if the clock was set back."""
        return bool(self._sums) and int(now // WINDOW) != self._window

    def end(self) -> list[Sum]:
        """End the window and return its sums."""
        with self._lock:
            sums, self._sums, self._kinds = self._sums, {}, Counter()
        return [kind for kind in sums.values() if kind.count > 0]


#: The number of lines that wait in a tap; older ones are dropped. And the bytes of bodies that wait
#: with them; a body beyond it is left out of its line.
TAP_LINES, TAP_BODIES = 64, 1024 * 1024


class Tap:
    """Copies of the log's lines for open streams."""

    def __init__(self) -> None:
        #: Whether lines that are put keep the bodies of their events.
        self.bodies = False
        #: Lines with the bodies of their events.
        self._waiting: deque[tuple[RawLine, bytes]] = deque()
        self._size = self._dropped = 0

    def put(self, line: RawLine, body: bytes) -> None:
        """Keep a line until it is taken. It is rendered only then."""
        kept = body if self.bodies and self._size + len(body) <= TAP_BODIES else b""
        self._size += len(kept)
        self._waiting.append((line, kept))
        if len(self._waiting) > TAP_LINES:
            self._size -= len(self._waiting.popleft()[1])
            self._dropped += 1

    def take(self, *, bodies: bool) -> tuple[list[bytes], int]:
        """Return the waiting lines as JSON, and the number of dropped ones. `bodies` says whether
        lines put from now on keep the bodies of their events."""
        waiting, dropped, lines = self._waiting, self._dropped, Lines("json")
        self.bodies, self._waiting = bodies, deque()
        self._size = self._dropped = 0
        return [lines.with_body(*line) for line in waiting], dropped
