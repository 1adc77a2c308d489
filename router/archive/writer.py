"""The writer of the archive: lines of handled events, written after the reply by a thread."""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable
from typing import Final

from router.archive.segments import SegmentStore
from router.telemetry.log.lines import Fields, Level, Lines, RawLine
from router.telemetry.log.writer import BatchWriter

#: Bytes that may wait to be written: the memory that a hanging disk costs.
ARCHIVE_BOUND: Final = 32 * 1024 * 1024

#: The approximate size of a line without its event's body, in bytes, to compute the bound.
_LINE: Final = 1536

#: The longest line without its event's body, in bytes. It may be longer than a line of the log,
#: because no collector reads it.
MAX_ARCHIVE_LINE: Final = 1024 * 1024

#: Seconds for which lines are gathered. A kill -9 loses only these, as long as the disk keeps up.
ARCHIVE_GATHER: Final = 0.1

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


class Archive:
    """Takes lines from the event loop's thread, and writes them in a thread of its own."""

    def __init__(
        self,
        segments: SegmentStore,
        note: Callable[[int, str], None],
        *,
        bodies: bool = True,
        gather: float = ARCHIVE_GATHER,
        bound: int = ARCHIVE_BOUND,
        render: Callable[[bytes | RawLine, bytes], bytes] | None = None,
    ) -> None:
        """`note` is called by the writing thread with the number of lost lines and the reason, and
        `render`, if not the usual one, with each line and its event's body."""
        self._segments = segments
        self._note = note
        self._bodies = bodies
        lines = Lines("json", limits=(MAX_ARCHIVE_LINE, MAX_ARCHIVE_LINE))
        self._render = render or lines.with_body
        # If there is a line its fields are not kept: holding that much memory would cost the loop
        # 10 µs for each event.
        self._writer: BatchWriter[tuple[bytes | RawLine, bytes]] = BatchWriter(
            "archive", self._write, self._tick, self._end, bound=bound, gather=gather
        )
        self._unwritten = self._reported = 0
        #: Reason and Unix time of the last loss; `""` if no line was lost.
        self.why, self.failed_at = "", 0.0
        #: By the monotonic clock.
        self._tidied = self._reported_at = -math.inf

    def start(self) -> None:
        """Start writing, and tidy the folder."""
        self._writer.start()

    @property
    def lost(self) -> int:
        """The number of lines not written, or gone with the open segment."""
        return self._writer.refused + self._unwritten + self._segments.lost

    def put(
        self,
        level: Level,
        happening: str,
        fields: Fields,
        line: bytes | None = None,
        body: bytes = b"",
    ) -> None:
        """Queue a line and its event's body. It is rendered later if the log's line is not JSON or
        was cut. Returns at once."""
        kept = body if self._bodies else b""
        raw = line or RawLine(time.time(), level, happening, fields)
        if not self._writer.put((raw, kept), _LINE + len(kept)):
            self._failed("slow")

    def close(self, timeout: float) -> None:
        """Refuse further lines, and wait up to `timeout` seconds until the rest is written."""
        self._writer.close(timeout)

    def _write(self, lines: list[tuple[bytes | RawLine, bytes]]) -> None:
        batch: list[bytes] = []
        size = 0
        for line in lines:
            text = self._render(*line)
            # A small archive has no room for a segment that is much larger than usual.
            if batch and size + len(text) > self._segments.full:
                self._append(batch)
                batch, size = [], 0
            batch.append(text)
            size += len(text)
        self._append(batch)

    def _append(self, batch: list[bytes]) -> None:
        if not self._succeeds(lambda: self._segments.append(batch)):
            self._unwritten += len(batch)

    def _tick(self) -> None:
        now = time.monotonic()
        if now - self._tidied >= TIDY:
            self._tidied = now
            self._succeeds(self._segments.tidy)
        if now - self._reported_at >= REPORT:
            self._report_losses()

    def _end(self) -> None:
        self._report_losses()
        self._segments.close()

    def _succeeds(self, work: Callable[[], None]) -> bool:
        """Do something with the files, and note the reason of a failure or of a loss."""
        gone, is_done = self._segments.lost, True
        try:
            work()
        except OSError as error:
            self._failed(_WORDS.get(error.errno or 0, "io"))
            is_done = False
        if self._segments.lost > gone:
            self._failed("gone")
        return is_done

    def _failed(self, why: str) -> None:
        self.why, self.failed_at = why, time.time()

    def _report_losses(self) -> None:
        if count := self.lost - self._reported:
            self._reported += count
            self._reported_at = time.monotonic()
            self._note(count, self.why)
