"""The archive on the disk: segments appended to, finished, and deleted oldest first."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

from router.archive.reading import span
from router.archive.segments import Segment, every_file, finished_name, found, open_name
from router.archive.zstd import compress

#: The size of a segment that is full, in bytes, and the least that it is made smaller to.
FULL, LEAST_BYTES = 16 * 1024 * 1024, 64 * 1024

#: After how many seconds a file that was to become a segment is taken for a dead process's.
_ABANDONED = 3600.0


class Shelf:
    """One process's part in a folder that several may share. Every method may raise OSError; none
    leaves a line that is cut where it could be helped."""

    def __init__(
        self,
        folder: Path,
        max_bytes: int,
        keep: float,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`max_bytes` and `keep`, in seconds, bound what all processes together leave."""
        self._folder = folder
        self._now = now
        self._keep = keep
        self._full = max(LEAST_BYTES, min(FULL, max_bytes // 4))
        #: What finished ones may take up: the others' growth is theirs.
        self._room = max_bytes - self._full
        #: The segment that is written to; -1 where there is none.
        self._fd = -1
        self._segment: Segment
        self._size = 0
        self._last = 0.0

    def append(self, lines: bytes) -> None:
        """Write whole lines, all or none of them."""
        now = self._now()
        first, last = span(lines) or (now, now)
        if self._fd >= 0 and first < self._segment.first:
            with suppress(OSError):  # the clock has jumped back: no line is older than its segment
                self.turn()
        if self._fd < 0:
            self._begin(first)
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._fd, self._size)
            raise
        self._size += len(lines)
        self._last = max(self._last, last)
        if self._size >= self._full:
            with suppress(OSError):  # the lines are there; `tidy` tries it again, and says why
                self.turn()

    def tidy(self) -> None:
        """Finish what is over, and delete what is too much or too old."""
        if self._fd >= 0 and self._now() // 3600 != self._segment.first // 3600:
            self.turn()
        failed: list[OSError] = []
        for segment in every_file(self._folder):
            if segment.last is None and (self._fd < 0 or segment.token != self._segment.token):
                try:
                    self._finish_abandoned(segment)
                except OSError as error:  # one that can't be read keeps no other from its end
                    failed.append(error)
        self._delete()
        if failed:
            raise failed[0]

    def turn(self) -> None:
        """Finish the segment in hand. Where that can't be done it stays as it is, and readable."""
        if self._fd < 0:
            return
        try:
            self._finish(self._segment, self._last)
        finally:
            self.close()
        self._delete()

    def close(self) -> None:
        """Let go of the segment in hand; the next process to come finishes it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _begin(self, first: float) -> None:
        # Not its parent: a folder that is away, a disk unmounted say, is not made in its place.
        self._folder.mkdir(mode=0o700, exist_ok=True)
        token = token_hex(4)
        path = self._folder / open_name(first, token)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            if os.fstat(fd).st_nlink == 0:
                raise FileNotFoundError(path)  # taken for an abandoned one before it had its lock
        except OSError:
            os.close(fd)
            raise
        self._fd, self._size, self._last = fd, 0, first
        self._segment = Segment(path, token, first, None)

    def _finish_abandoned(self, segment: Segment) -> None:
        """Finish a segment whose process is gone."""
        with suppress(FileNotFoundError):
            fd = os.open(segment.path, os.O_RDONLY)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._finish(segment)
            except BlockingIOError:
                pass  # it lives
            finally:
                os.close(fd)

    def _finish(self, segment: Segment, last: float | None = None) -> None:
        """Compress it under its new name; only then is the old one deleted. Without `last` its
        lines say from when to when it reaches."""
        path, first = segment.path, segment.first
        is_done = any(self._folder.glob(f"*-{segment.token}.jsonl.zst"))
        if not is_done and path.stat().st_size:
            if last is None:
                first, last = span(path.read_bytes()) or (first, max(first, path.stat().st_mtime))
            name = self._folder / finished_name(first, last, segment.token)
            part = name.with_suffix(".part")
            try:
                fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
                with os.fdopen(fd, "wb") as file, path.open("rb") as text:
                    compress(text, file)
                part.rename(name)
            except OSError:
                part.unlink(missing_ok=True)
                raise
        path.unlink(missing_ok=True)

    def _delete(self) -> None:
        """The oldest first, until what is left has room; and all that is too old."""
        now, used = self._now(), 0
        for segment in found(self._folder):
            if segment.last is None:
                continue
            with suppress(FileNotFoundError):
                used += segment.path.stat().st_size
                if used > self._room or now - segment.last > self._keep:
                    segment.path.unlink()
        for part in self._folder.glob("*.part"):
            with suppress(FileNotFoundError):
                if now - part.stat().st_mtime > _ABANDONED:
                    part.unlink()
