"""The writer of the archive: lines of handled events, written after the reply by a thread."""

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

#: Bytes that may wait to be written: the memory that a hanging disk costs.
ARCHIVE_BOUND: Final = 32 * 1024 * 1024

#: The approximate size of a line without its event's body, in bytes, to compute the bound.
_LINE: Final = 1536

#: The longest line without its event's body, in bytes. It may be longer than a line of the log,
#: because no collector reads it.
_MAX_LINE: Final = 1024 * 1024

#: Seconds for which lines are gathered, unless they are many. A kill -9 loses only these, as long
#: as the disk keeps up. Waking the thread costs some 200 µs each time.
ARCHIVE_GATHER: Final = 0.1

#: Bytes rendered at a time, which takes some tenths of a millisecond.
_BATCH: Final = 128 * 1024

#: Seconds between two calls of `SegmentStore.tidy`, and between two reports of lost lines.
TIDY, REPORT = 60.0, 10.0

#: The word for each error of a disk; `io` for any other.
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
    """A line to be rendered, because the log's line is not JSON or was cut."""

    at: float
    level: Level
    happening: str
    #: Not changed after this point.
    fields: Fields


class Archive:
    """Takes lines from the event loop's thread, and writes them in a thread of its own."""

    def __init__(
        self,
        segments: SegmentStore,
        note: Callable[[int, str], None],
        *,
        bodies: bool = True,
        gather: float = ARCHIVE_GATHER,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`note` is called by the writing thread with the number of lost lines and the reason."""
        self._segments = segments
        self._note = note
        self._bodies = bodies
        self._gather = gather
        self._clock = clock
        self._lines = Lines("json", max_line=_MAX_LINE, max_text=_MAX_LINE)
        #: Lines and bodies. If there is a line its fields are not kept: holding that much memory
        #: would cost the loop 10 µs for each event.
        self._waiting: deque[tuple[bytes | Unmade, bytes]] = deque()
        # Each number is written by one thread only, so it needs no lock.
        self._put = self._refused = 0
        self._taken = self._unwritten = 0
        self._reported = 0
        #: Reason and Unix time of the last loss; `""` if no line was lost.
        self.why, self.failed_at = "", 0.0
        self._reported_at = 0.0
        self._came = Flag()
        #: Whether `_came` is set; asking the flag itself takes longer.
        self._is_called = False
        #: Set to stop gathering.
        self._hurry = Flag()
        self._is_closed = False
        self._writing = Thread(target=self._run, name="archive", daemon=True)

    def start(self) -> None:
        """Start writing, including the lines put before."""
        self._writing.start()

    @property
    def lost(self) -> int:
        """The number of lines not written, or gone with the open segment."""
        return self._refused + self._unwritten + self._segments.lost

    def put(
        self,
        level: Level,
        happening: str,
        fields: Fields,
        line: bytes | None = None,
        body: bytes = b"",
    ) -> None:
        """Queue a line and its event's body. Returns at once."""
        kept = body if self._bodies else b""
        size = _LINE + len(kept)
        waiting = self._put - self._taken + size
        if waiting > ARCHIVE_BOUND or self._is_closed:
            self._refused += 1
            self.why, self.failed_at = "slow", self._clock()
            return
        self._put += size
        self._waiting.append((line or Unmade(self._clock(), level, happening, fields), kept))
        if not self._is_called:
            self._is_called = True
            self._came.set()
        if waiting > ARCHIVE_BOUND // 4:
            self._hurry.set()

    def close(self, timeout: float) -> None:
        """Refuse further lines, and wait up to `timeout` seconds until the rest is written."""
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
                self._is_called = False  # lines put from here on set the flag again
                self._write(len(self._waiting))
            if time.monotonic() - tidied >= TIDY:
                tidied = time.monotonic()
                self._tidy()
            self._report_losses()
        self._segments.close()

    def _write(self, count: int) -> None:
        """Write the first `count` waiting lines."""
        while count:
            count -= self._write_batch(count)

    def _write_batch(self, count: int) -> int:
        """Write up to `count` lines, all of the batch or none, and return their number."""
        batch: list[bytes] = []
        taken = size = 0
        while len(batch) < count and size < _BATCH:
            line, body = self._waiting.popleft()
            text = line if isinstance(line, bytes) else self._lines.line(*line)
            if body:
                text = with_payload(text, body)
            batch.append(text)
            size += len(text)
            taken += _LINE + len(body)
        if not self._succeeds(lambda: self._segments.append(batch)):
            self._unwritten += len(batch)
        self._taken += taken
        return len(batch)

    def _tidy(self) -> None:
        self._succeeds(self._segments.tidy)

    def _succeeds(self, work: Callable[[], None]) -> bool:
        """Do something with the files, and note the reason of a failure or of a loss."""
        gone, is_done = self._segments.lost, True
        try:
            work()
        except OSError as error:
            self.why, self.failed_at = _WORDS.get(error.errno or 0, "io"), self._clock()
            is_done = False
        if self._segments.lost > gone:
            self.why, self.failed_at = "gone", self._clock()
        return is_done

    def _report_losses(self) -> None:
        lost, now = self.lost, time.monotonic()
        if lost > self._reported and (now - self._reported_at >= REPORT or self._is_closed):
            count, self._reported, self._reported_at = lost - self._reported, lost, now
            self._note(count, self.why)
