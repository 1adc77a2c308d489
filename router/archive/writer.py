"""What was handled, one line each, written after the reply: nobody ever waits for it."""

from __future__ import annotations

import errno
import time
from collections import deque
from collections.abc import Callable
from threading import Event as Flag
from threading import Thread
from typing import Final, NamedTuple

from router.archive.segments import SegmentStore
from router.telemetry.log.lines import Fields, Level, Lines, with_payload

#: How much may wait to be written, in bytes: a disk that hangs costs no more memory than that.
ARCHIVE_BOUND: Final = 32 * 1024 * 1024

#: What a line takes besides its event's body, about; for the bound.
_LINE: Final = 1536

#: The longest line besides its event's body, in bytes: no collector is to take it, and what is cut
#: here nobody finds again.
_MAX_LINE: Final = 1024 * 1024

#: Seconds that lines are gathered, unless they are many. What a kill -9 loses is no more than
#: these, as long as the disk keeps up. Each time the thread wakes costs some 200 µs by itself.
ARCHIVE_GATHER: Final = 0.1

#: How many bytes are made ready at a time: some tenths of a millisecond.
_BATCH: Final = 128 * 1024

#: Seconds between two looks at what is over, or too old; and between two words about a loss.
TIDY, TELL = 60.0, 10.0

#: The word for what a disk refuses; any other is `io`.
_WORDS: Final = {
    errno.ENOSPC: "disk_full",
    errno.EDQUOT: "disk_full",
    errno.EROFS: "read_only",
    errno.EACCES: "refused",
    errno.EPERM: "refused",
    errno.EFBIG: "too_large",
    errno.ENOENT: "gone",
    errno.ESTALE: "gone",
}


class Unmade(NamedTuple):
    """What a line is to be made of, where the log has made none of JSON, or has cut it."""

    at: float
    level: Level
    happening: str
    #: Not changed any more.
    fields: Fields


class Archive:
    """Takes lines from one thread, the loop's; a thread of its own writes them."""

    def __init__(
        self,
        shelf: SegmentStore,
        tell: Callable[[int, str], None],
        *,
        bodies: bool = True,
        gather: float = ARCHIVE_GATHER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`tell` is called by the thread that writes: so many lines were lost, and why."""
        self._shelf = shelf
        self._tell = tell
        self._bodies = bodies
        self._gather = gather
        self._clock = clock
        self._lines = Lines("json", max_line=_MAX_LINE, max_text=_MAX_LINE)
        #: Lines and bodies. No fields where there is a line: so much memory at a time, all of it
        #: touched once, would cost the loop 10 µs for each event.
        self._waiting: deque[tuple[bytes | Unmade, bytes]] = deque()
        # Each of these is counted by one thread alone, and so needs no lock.
        self._put = self._refused = 0
        self._taken = self._unwritten = 0
        self._told = 0
        #: Why lines were lost last, `""` where none was; and when, by Unix time.
        self.why, self.failed_at = "", 0.0
        self._told_at = 0.0
        self._came = Flag()
        #: Whether `_came` is set, which takes longer to ask.
        self._is_called = False
        #: Nothing more is gathered.
        self._hurry = Flag()
        self._is_closed = False
        self._writing = Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Begin to write; what was put before waits for it."""
        self._writing.start()

    @property
    def lost(self) -> int:
        """Lines that were not written, or are gone with the segment that was written to."""
        return self._refused + self._unwritten + self._shelf.lost

    def put(
        self,
        level: Level,
        happening: str,
        fields: Fields,
        line: bytes | None = None,
        body: bytes = b"",
    ) -> None:
        """Have a line written, and the body with it. Returns at once."""
        kept = body if self._bodies else b""
        size = _LINE + len(kept)
        waiting = self._put - self._taken + size
        if waiting > ARCHIVE_BOUND or self._is_closed:
            self._refused += 1
            self.why, self.failed_at = "slow", self._clock()
            return
        self._put += size
        told = line or Unmade(self._clock(), level, happening, fields)
        self._waiting.append((told, kept))
        if not self._is_called:
            self._is_called = True
            self._came.set()
        if waiting > ARCHIVE_BOUND // 4:
            self._hurry.set()

    def close(self, timeout: float) -> None:
        """Take no more, and wait until all is written, `timeout` seconds at most."""
        self._is_closed = True
        self._hurry.set()
        self._came.set()
        if self._writing.is_alive():
            self._writing.join(timeout)

    def _run(self) -> None:
        self._tidy()
        tidied = time.monotonic()
        while not (self._is_closed and not self._waiting):
            if self._came.wait(TIDY):
                self._hurry.wait(self._gather)
                self._came.clear()
                self._hurry.clear()
                self._is_called = False  # what comes from here on calls again
                self._write(len(self._waiting))
            if time.monotonic() - tidied >= TIDY:
                tidied = time.monotonic()
                self._tidy()
            self._tell_of_losses()
        self._shelf.close()

    def _write(self, count: int) -> None:
        """Write so many of the lines that wait."""
        while count:
            count -= self._write_batch(count)

    def _write_batch(self, count: int) -> int:
        """A batch of so many lines at most: all of it, or nothing. How many they were."""
        batch: list[bytes] = []
        taken = size = 0
        while len(batch) < count and size < _BATCH:
            told, body = self._waiting.popleft()
            line = told if isinstance(told, bytes) else self._lines.line(*told)
            if body:
                line = with_payload(line, body)
            batch.append(line)
            size += len(line)
            taken += _LINE + len(body)
        gone = self._shelf.lost
        try:
            self._shelf.append(batch)
        except OSError as error:
            self._unwritten += len(batch)
            self._failed(error)
        self._check_gone(gone)
        self._taken += taken
        return len(batch)

    def _tidy(self) -> None:
        gone = self._shelf.lost
        try:
            self._shelf.tidy()
        except OSError as error:
            self._failed(error)
        self._check_gone(gone)

    def _check_gone(self, before: int) -> None:
        if self._shelf.lost > before:
            self.why, self.failed_at = "gone", self._clock()

    def _failed(self, error: OSError) -> None:
        self.why, self.failed_at = _WORDS.get(error.errno or 0, "io"), self._clock()

    def _tell_of_losses(self) -> None:
        lost, now = self.lost, time.monotonic()
        if lost > self._told and (now - self._told_at >= TELL or self._is_closed):
            count, self._told, self._told_at = lost - self._told, lost, now
            self._tell(count, self.why)
